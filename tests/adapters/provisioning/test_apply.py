"""From a plan to events that arrive: stacks and buckets of a real emulator, in two regions."""

import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from crrmon.adapters.provisioning.clients import Clients
from crrmon.adapters.provisioning.notifications import AwsNotificationStore
from crrmon.adapters.provisioning.stacks import AwsStacks
from crrmon.domain import routes
from crrmon.domain.deployment.discovery import BucketFound, Discovery
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import Plan
from crrmon.domain.deployment.sources import Source, Wish
from crrmon.ports.notification_store import BucketAddress
from crrmon.ports.stacks import Address, StackEvent
from crrmon.services.deployment.applier import Applier, Report, State
from crrmon.services.deployment.notification_writer import NotificationWriter
from crrmon.services.deployment.planner import Planner, Request
from fakes.whole_ministack import OURS, REGION, WholeMiniStack

pytestmark = pytest.mark.server

HERE = Place(account=OURS, region=REGION)
THERE = Place(account=OURS, region="us-east-1")
_numbers = itertools.count(1)


class Deploying:
    """Plans and applies one deployment, as a command would.

    Args:
        cloud: the emulator.
        clients: make the calls.
    """

    def __init__(self, cloud: WholeMiniStack, clients: Clients) -> None:
        self._cloud = cloud
        self.deployment = Deployment(name=f"d{next(_numbers)}", monitor=HERE)
        self._stacks = AwsStacks(clients, template_bucket=lambda _account, _region: None)
        self._store = AwsNotificationStore(clients)
        self._buckets: dict[str, Place] = {}
        self.events: list[tuple[Place, StackEvent]] = []
        self.planner = Planner(
            self._stacks,
            deployment=self.deployment,
            accounts={OURS: ""},
            change_set_names=lambda: f"change-{next(_numbers)}",
        )

    @property
    def names(self) -> Any:
        return self.deployment.names

    def bucket(self, place: Place) -> str:
        """Make a bucket that replicates."""
        name = f"{self.deployment.name}-bucket-{next(_numbers)}"
        where = {"LocationConstraint": place.region} if place.region != "us-east-1" else None
        s3 = self._cloud.client("s3", region=place.region)
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        self._buckets[name] = place
        return name

    async def plan(self, source: Source | None = None) -> Plan:
        """Make a plan for all buckets, as they are now."""
        found = [
            BucketFound(
                name=name,
                place=place,
                rules=_RULES,
                notifications=await self._store.read(self._address(name)),
            )
            for name, place in self._buckets.items()
        ]
        return await self.planner.plan(
            Discovery(buckets=tuple(found)), Request(wish=Wish(source=source))
        )

    async def apply(self, plan: Plan) -> Report:
        """Carry a plan out."""
        return await self.applier().apply(plan)

    def applier(self) -> Applier:
        """Make an applier."""
        return Applier(
            self._stacks,
            NotificationWriter(self._store, self.names.notification_id),
            stack_address=lambda one: Address("", one.standing.place.region, one.standing.name),
            bucket_address=lambda one: self._address(one.bucket),
            tokens=lambda: f"token-{next(_numbers)}",
            tell=lambda place, event: self.events.append((place, event)),
            poll_seconds=0.02,
        )

    def _address(self, name: str) -> BucketAddress:
        place = self._buckets[name]
        return BucketAddress(account="", number=OURS, region=place.region, name=name)

    def arrived(self, place: Place, bucket: str, key: str) -> bool:
        """Write an object; return whether its event comes to the queue of its region."""
        self._cloud.client("s3", region=place.region).put_object(Bucket=bucket, Key=key, Body=b"")
        sqs = self._cloud.client("sqs", region=place.region)
        url = sqs.get_queue_url(QueueName=self.names.queue)["QueueUrl"]
        while got := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5
        ).get("Messages"):
            if any(key in one["Body"] for one in got):
                return True
        return False


_RULES = routes.parse(
    {
        "Role": "arn:aws:iam::111111111111:role/replication",
        "Rules": [
            {
                "ID": "all",
                "Status": "Enabled",
                "Prefix": "",
                "Destination": {"Bucket": "arn:aws:s3:::copies"},
            }
        ],
    },
    fetched_at=0.0,
).rules


@pytest.fixture
def deploying(cloud: WholeMiniStack, clients: Clients) -> Deploying:
    return Deploying(cloud, clients)


@pytest.mark.parametrize("source", [Source.NOTIFICATIONS, Source.EVENTBRIDGE])
async def test_events_of_every_region_arrive(deploying: Deploying, source: Source) -> None:
    """And then there is nothing left to do."""
    first, second = deploying.bucket(HERE), deploying.bucket(THERE)

    report = await deploying.apply(await deploying.plan(source))

    assert report.done, report
    assert {step.subject for step in report.steps} == {
        f"stack {deploying.names.agent_stack} in {REGION} of account {OURS}",
        f"stack {deploying.names.agent_stack} in us-east-1 of account {OURS}",
        f"bucket {first}",
        f"bucket {second}",
    }
    assert deploying.arrived(HERE, first, "written-here")
    assert deploying.arrived(THERE, second, "written-there")
    assert (await deploying.plan(source)).exit_code == 0


async def test_events_of_stacks_are_told_as_they_come(deploying: Deploying) -> None:
    """Each once, with where it was."""
    deploying.bucket(HERE)
    await deploying.apply(await deploying.plan())

    told = [(place, event.logical, event.status) for place, event in deploying.events]
    assert (HERE, "Queue", "CREATE_COMPLETE") in told
    assert told[-1] == (HERE, deploying.names.agent_stack, "CREATE_COMPLETE")
    ids = [event.id for _, event in deploying.events]
    assert len(ids) == len(set(ids))


async def test_a_stack_that_fails(deploying: Deploying, cloud: WholeMiniStack) -> None:
    """The other one is finished, its bucket written; that of the failed one is not; and the next time goes on from there."""
    first, second = deploying.bucket(HERE), deploying.bucket(THERE)
    denied = "User: deployer is not authorized to perform: sqs:CreateQueue on acme-events"
    with cloud.failing("create AWS::SQS::Queue", denied, region=REGION):
        report = await deploying.apply(await deploying.plan())

    states = {step.subject: step for step in report.steps}
    failed = states[f"stack {deploying.names.agent_stack} in {REGION} of account {OURS}"]
    assert failed.state is State.FAILED
    assert any(denied in sentence for sentence in failed.sentences)
    assert states[f"bucket {first}"].state is State.NOT_BEGUN
    assert states[f"bucket {second}"].state is State.DONE
    assert not report.done

    again = await deploying.plan()
    assert again.exit_code == 1
    (problem,) = [one for one in again.problems if one.blocks]
    assert "ROLLBACK_COMPLETE" in problem.text
    assert "delete-stack" in problem.text

    cloud.client("cloudformation").delete_stack(StackName=deploying.names.agent_stack)
    report = await deploying.apply(await deploying.plan())
    assert report.done, report
    assert deploying.arrived(HERE, first, "at-last")


async def test_one_bucket_more_is_one_change(deploying: Deploying) -> None:
    """One rule of one region, and the bucket's own switch."""
    deploying.bucket(HERE)
    deploying.bucket(THERE)
    await deploying.apply(await deploying.plan(Source.EVENTBRIDGE))
    deploying.bucket(HERE)

    made = await deploying.plan(Source.EVENTBRIDGE)

    changes = [change.logical for one in made.stacks for change in one.changes]
    assert changes == ["NativeRule1"]
    assert (await deploying.apply(made)).done


async def test_nothing_begins_after_it_is_stopped(deploying: Deploying) -> None:
    """What was not begun is told, and the next time does it."""
    deploying.bucket(HERE)
    applier = deploying.applier()
    applier.stop()

    report = await applier.apply(await deploying.plan())

    assert report.interrupted
    assert {step.state for step in report.steps} == {State.NOT_BEGUN}
    assert (await deploying.apply(await deploying.plan())).done


async def test_a_bucket_that_is_deleted_between_plan_and_apply(
    deploying: Deploying, cloud: WholeMiniStack
) -> None:
    """Its line says that it is gone; all others are done."""
    gone, other = deploying.bucket(HERE), deploying.bucket(HERE)
    made = await deploying.plan()
    cloud.client("s3").delete_bucket(Bucket=gone)

    report = await deploying.apply(made)

    states = {step.subject: step for step in report.steps}
    assert states[f"bucket {gone}"].state is State.FAILED
    assert states[f"bucket {gone}"].sentences == (f"bucket {gone} is gone",)
    assert states[f"bucket {other}"].state is State.DONE


def test_a_report_is_done_only_when_all_of_it_is() -> None:
    """Nothing left over, nothing that goes on."""
    report = Report(steps=())
    assert report.done
    assert not replace(report, interrupted=True).done
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
