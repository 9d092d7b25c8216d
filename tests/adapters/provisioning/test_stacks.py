"""CloudFormation by its adapter: what would change, what happens meanwhile, and every way in which it refuses."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from crrmon.adapters.provisioning.clients import Clients
from crrmon.adapters.provisioning.stacks import AwsStacks
from crrmon.domain.deployment.changes import Action
from crrmon.ports.stacks import Address, BusyStackError, ChangeSet, StackEvent, StacksError, Wanted
from fakes.whole_ministack import REGION, WholeMiniStack

pytestmark = pytest.mark.server

TEMPLATES = "templates-of-ours"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(cloud: WholeMiniStack) -> WholeMiniStack:
    """Make the bucket for templates that are too large to be sent."""
    cloud.client("s3").create_bucket(
        Bucket=TEMPLATES, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return cloud


@pytest.fixture
def stacks(clients: Clients) -> AwsStacks:
    return AwsStacks(clients, template_bucket=lambda _account, _region: TEMPLATES)


@pytest.fixture
def address() -> Address:
    """Name a stack that no other test has."""
    return Address("", REGION, f"stack-{next(_numbers)}")


def queue(address: Address, name: str = "events", **properties: object) -> dict[str, Any]:
    """Describe a queue."""
    return {
        "Type": "AWS::SQS::Queue",
        "Properties": {"QueueName": f"{address.name}-{name}", **properties},
    }


def wanted(
    resources: Mapping[str, Any], *, tags: Mapping[str, str] | None = None, padding: int = 0
) -> Wanted:
    """Describe a stack."""
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "x" * padding,
        "Resources": resources,
        "Outputs": {"QueueArn": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}}},
    }
    body = msgspec.json.encode(template).decode()
    return Wanted(body=body, parameters={}, tags=tags or {"managed-by": "crrmon"})


async def made(
    stacks: AwsStacks, address: Address, what: Wanted, *, new: bool
) -> list[StackEvent]:
    """Carry a change out; return what happened."""
    change = await stacks.preview(address, what, new=new, name=f"c{next(_numbers)}")
    assert change is not None
    return await carried_out(stacks, address, change)


async def carried_out(stacks: AwsStacks, address: Address, change: ChangeSet) -> list[StackEvent]:
    token = f"t{next(_numbers)}"
    found = await stacks.find(address)
    assert found is not None
    await stacks.execute(address, change, token=token)
    return await followed(stacks, address, found.id, token)


async def followed(
    stacks: AwsStacks, address: Address, stack_id: str, token: str
) -> list[StackEvent]:
    """Wait until a change is over."""
    async with asyncio.timeout(20):
        while True:
            events = list(await stacks.events(stack_id, address, token=token))
            ends = [one for one in events if one.type == "AWS::CloudFormation::Stack"]
            if ends and not ends[-1].status.endswith("_IN_PROGRESS"):
                return events
            await asyncio.sleep(0.02)  # another process has to get there


async def test_a_stack_that_is_not_there(stacks: AwsStacks, address: Address) -> None:
    """None is found, and nothing is told of it."""
    assert await stacks.find(address) is None


async def test_making_a_stack(stacks: AwsStacks, address: Address) -> None:
    """The preview tells each resource, events tell how it goes, and then it stands with its outputs and tags."""
    what = wanted({"Queue": queue(address)})

    change = await stacks.preview(address, what, new=True, name="first")

    assert change is not None
    assert [(one.logical, one.action) for one in change.changes] == [("Queue", Action.CREATE)]
    events = await carried_out(stacks, address, change)
    told = [(one.logical, one.status) for one in events]
    assert ("Queue", "CREATE_COMPLETE") in told
    assert told[-1] == (address.name, "CREATE_COMPLETE")
    assert not any(one.failed for one in events)
    found = await stacks.find(address)
    assert found is not None
    assert found.status == "CREATE_COMPLETE"
    assert found.outputs["QueueArn"].endswith(f":{address.name}-events")
    assert found.tags["managed-by"] == "crrmon"
    assert not found.protected
    template = await stacks.template(address)
    assert template["Resources"]["Queue"]["Type"] == "AWS::SQS::Queue"


async def test_nothing_to_change(
    stacks: AwsStacks, address: Address, cloud: WholeMiniStack
) -> None:
    """The same again is no change, and leaves no change set behind."""
    what = wanted({"Queue": queue(address)})
    await made(stacks, address, what, new=True)

    assert await stacks.preview(address, what, new=False, name="again") is None
    left = cloud.client("cloudformation").list_change_sets(StackName=address.name)["Summaries"]
    assert "again" not in [one["ChangeSetName"] for one in left]


async def test_a_change_and_a_replacement(stacks: AwsStacks, address: Address) -> None:
    """A property that can be changed in place is a change; another name is another queue."""
    await made(stacks, address, wanted({"Queue": queue(address)}), new=True)

    slower = wanted({"Queue": queue(address, VisibilityTimeout=90)})
    change = await stacks.preview(address, slower, new=False, name="slower")

    assert change is not None
    (one,) = change.changes
    assert (one.action, one.because, one.dangerous) == (
        Action.CHANGE,
        ("VisibilityTimeout",),
        False,
    )
    await stacks.drop(address, change, new=False)

    renamed = wanted({"Queue": queue(address, "others")})
    change = await stacks.preview(address, renamed, new=False, name="renamed")

    assert change is not None
    (one,) = change.changes
    assert (one.action, one.dangerous) == (Action.REPLACE, True)


async def test_a_preview_that_is_dropped_leaves_nothing(
    stacks: AwsStacks, address: Address
) -> None:
    """Also the stack that was only begun for it is gone."""
    change = await stacks.preview(
        address, wanted({"Queue": queue(address)}), new=True, name="looked"
    )
    assert change is not None
    begun = await stacks.find(address)
    assert begun is not None
    assert begun.status == "REVIEW_IN_PROGRESS"

    await stacks.drop(address, change, new=True)

    assert await stacks.find(address) is None


async def test_a_preview_that_is_dropped_harms_no_stack_that_was_made_meanwhile(
    stacks: AwsStacks, address: Address
) -> None:
    """Somebody else looked at the same plan, and carried it out."""
    what = wanted({"Queue": queue(address)})
    mine = await stacks.preview(address, what, new=True, name="mine")
    theirs = await stacks.preview(address, what, new=True, name="theirs")
    assert mine is not None
    assert theirs is not None

    await stacks.drop(address, mine, new=True)
    begun = await stacks.find(address)
    assert begun is not None
    await carried_out(stacks, address, theirs)
    await stacks.drop(address, mine, new=True)

    found = await stacks.find(address)
    assert found is not None
    assert found.status == "CREATE_COMPLETE"


async def test_a_template_that_is_too_large_to_be_sent(
    stacks: AwsStacks, address: Address, cloud: WholeMiniStack
) -> None:
    """It goes through a bucket."""
    many = {f"Queue{n}": queue(address, f"q{n}", Tags=tags(30)) for n in range(40)}
    what = wanted({"Queue": queue(address), **many})
    assert len(what.body) > 51_200

    await made(stacks, address, what, new=True)

    keys = cloud.client("s3").list_objects_v2(Bucket=TEMPLATES)["Contents"]
    assert any(one["Key"].startswith("crrmon/") for one in keys)


def tags(number: int) -> list[dict[str, str]]:
    return [{"Key": f"tag-number-{n}", "Value": "a value of some length"} for n in range(number)]


async def test_a_large_template_without_a_bucket(
    stacks: AwsStacks, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anybody is asked, with the option that names one."""
    monkeypatch.setattr(stacks, "_template_bucket", lambda _account, _region: None)
    many = {f"Queue{n}": queue(address, f"q{n}", Tags=tags(30)) for n in range(40)}

    with pytest.raises(StacksError, match="--template-bucket"):
        await stacks.preview(address, wanted(many), new=True, name="large")


async def test_a_template_that_is_refused(stacks: AwsStacks, address: Address) -> None:
    """In CloudFormation's words, with the stack's name and region."""
    wrong = wanted({"Queue": {"Type": "AWS::SQS::Nonsense"}})

    with pytest.raises(
        StacksError, match=rf"stack {address.name} in {REGION}.*AWS::SQS::Nonsense"
    ):
        await stacks.preview(address, wrong, new=True, name="wrong")


async def test_a_resource_that_cannot_be_made(
    stacks: AwsStacks, address: Address, cloud: WholeMiniStack
) -> None:
    """Events tell which and why; the stack tells that all was undone."""
    reason = "User: deployer is not authorized to perform: sqs:CreateQueue"
    with cloud.failing("create AWS::SQS::Queue", reason):
        events = await made(stacks, address, wanted({"Queue": queue(address)}), new=True)

    failed = [one for one in events if one.failed]
    assert [(one.logical, one.reason) for one in failed if one.logical == "Queue"]
    assert any(reason in one.reason for one in failed)
    found = await stacks.find(address)
    assert found is not None
    assert found.status == "ROLLBACK_COMPLETE"


async def test_a_stack_that_is_being_changed(
    stacks: AwsStacks, address: Address, cloud: WholeMiniStack
) -> None:
    """Nothing else is begun meanwhile, and it is said that it is busy."""
    await made(stacks, address, wanted({"Queue": queue(address)}), new=True)
    slower = wanted({"Queue": queue(address, VisibilityTimeout=90)})
    first = await stacks.preview(address, slower, new=False, name="first-change")
    second = await stacks.preview(address, slower, new=False, name="second-change")
    assert first is not None
    assert second is not None

    with cloud.held():
        await stacks.execute(address, first, token=f"t{next(_numbers)}")
        with pytest.raises(BusyStackError, match=r"was changed since .* plan again"):
            await stacks.execute(address, second, token=f"t{next(_numbers)}")
        with pytest.raises(BusyStackError, match=r"takes no change now.*UPDATE_IN_PROGRESS"):
            await stacks.preview(address, slower, new=False, name="third-change")
    assert cloud.settled(address.name) == "UPDATE_COMPLETE"


async def test_a_change_set_on_a_stack_that_was_undone(
    stacks: AwsStacks, address: Address, cloud: WholeMiniStack
) -> None:
    """CloudFormation takes none, and the adapter says that it is about the stack's state."""
    with cloud.failing("create AWS::SQS::Queue", "no"):
        await made(stacks, address, wanted({"Queue": queue(address)}), new=True)

    with pytest.raises(BusyStackError, match="ROLLBACK_COMPLETE"):
        await stacks.preview(address, wanted({"Queue": queue(address)}), new=False, name="more")


async def test_deleting(stacks: AwsStacks, address: Address) -> None:
    """Its events can be read to the end although it is gone by then."""
    await made(stacks, address, wanted({"Queue": queue(address)}), new=True)
    found = await stacks.find(address)
    assert found is not None

    token = f"t{next(_numbers)}"
    await stacks.delete(address, token=token)
    events = await followed(stacks, address, found.id, token)

    assert ("Queue", "DELETE_COMPLETE") in [(one.logical, one.status) for one in events]
    assert await stacks.find(address) is None


async def test_drift(stacks: AwsStacks, address: Address, cloud: WholeMiniStack) -> None:
    """What somebody changed by hand is named, with the properties."""
    await made(stacks, address, wanted({"Queue": queue(address, VisibilityTimeout=90)}), new=True)
    assert await stacks.drift(address) == []
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{address.name}-events")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "33"})

    (one,) = await stacks.drift(address)

    assert (one.logical, one.status, one.properties) == (
        "Queue",
        "MODIFIED",
        ("/VisibilityTimeout",),
    )
