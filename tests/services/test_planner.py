"""Plans: what is made for whom, what stays as it is, and what nobody may conclude from what could not be read."""

import itertools

import pytest
from msgspec.structs import replace

from crrmon.domain import routes
from crrmon.domain.deployment.changes import Action
from crrmon.domain.deployment.discovery import (
    BucketFound,
    Discovery,
    UnreadAccount,
    UnreadBucket,
)
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import BucketAction, Plan
from crrmon.domain.deployment.sources import Source, Wish
from crrmon.ports.stacks import Address, ChangeSet
from crrmon.services.deployment.planner import Planner, Request
from fakes.stacks import FakeStacks

HERE = Place(account="111111111111", region="eu-west-1")
THERE = Place(account="222222222222", region="us-east-1")
DEPLOYMENT = Deployment(name="acme", monitor=HERE)
EVENTBRIDGE = Request(wish=Wish(source=Source.EVENTBRIDGE))
NOTIFICATIONS = Request(wish=Wish(source=Source.NOTIFICATIONS))


def bucket(name: str, place: Place = HERE, *, on: bool = False) -> BucketFound:
    """Return a bucket that replicates."""
    configuration = NotificationConfiguration(switch={} if on else None)
    return BucketFound(
        name=name, place=place, rules=(rule(f"{name}-copy"),), notifications=configuration
    )


def rule(destination: str) -> routes.Rule:
    """Return a rule for all keys."""
    configuration = {
        "Role": "arn:aws:iam::111111111111:role/replication",
        "Rules": [
            {
                "ID": "all",
                "Priority": 1,
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "DeleteMarkerReplication": {"Status": "Disabled"},
                "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
            }
        ],
    }
    (one,) = routes.parse(configuration, fetched_at=0.0).rules
    return one


@pytest.fixture
def stacks() -> FakeStacks:
    return FakeStacks()


@pytest.fixture
def planner(stacks: FakeStacks) -> Planner:
    numbers = itertools.count(1)
    return Planner(
        stacks,
        deployment=DEPLOYMENT,
        accounts={HERE.account: "", THERE.account: "partner"},
        change_set_names=lambda: f"c{next(numbers)}",
    )


def address(place: Place) -> Address:
    account = "" if place.account == HERE.account else "partner"
    return Address(account, place.region, "acme-agent")


async def applied(planner: Planner, stacks: FakeStacks, made: Plan) -> None:
    """Carry out what concerns stacks."""
    del planner
    for one in made.stacks:
        if one.change_set is not None:
            change_set = ChangeSet(id=one.change_set, changes=one.changes)
            await stacks.execute(address(one.standing.place), change_set, token="any")  # noqa: S106
        if one.removed:
            await stacks.delete(address(one.standing.place), token="any")  # noqa: S106


async def test_the_first_time(planner: Planner, stacks: FakeStacks) -> None:
    """An agent for each account and region, an entry in each bucket; and nothing is left of a plan that was only looked at."""
    found = Discovery(buckets=(bucket("a"), bucket("b", THERE)))

    made = await planner.plan(found, NOTIFICATIONS)

    assert [one.standing.place for one in made.stacks] == [HERE, THERE]
    assert {change.action for one in made.stacks for change in one.changes} == {Action.CREATE}
    assert [one.action for one in made.buckets] == [BucketAction.ADD, BucketAction.ADD]
    assert made.exit_code == 2

    await planner.forget(made)

    assert stacks.change_sets == {}
    assert stacks.statuses == {}


async def test_again(planner: Planner, stacks: FakeStacks) -> None:
    """What is there already is no change."""
    found = Discovery(buckets=(bucket("a"), bucket("b", THERE)))
    await applied(planner, stacks, await planner.plan(found, EVENTBRIDGE))
    switched = Discovery(buckets=(bucket("a", on=True), bucket("b", THERE, on=True)))

    made = await planner.plan(switched, EVENTBRIDGE)

    assert [one.changes for one in made.stacks] == [(), ()]
    assert made.exit_code == 0


async def test_d34_one_bucket_more_is_one_change(planner: Planner, stacks: FakeStacks) -> None:
    """A bucket that came later is found by the next plan, and touches one rule of its own region."""
    await applied(
        planner, stacks, await planner.plan(Discovery(buckets=(bucket("a"),)), EVENTBRIDGE)
    )
    more = Discovery(buckets=(bucket("a", on=True), bucket("b")))

    made = await planner.plan(more, EVENTBRIDGE)

    (agent,) = made.stacks
    assert [(one.logical, one.action) for one in agent.changes] == [("NativeRule1", Action.CHANGE)]
    assert [one.action for one in made.buckets] == [BucketAction.KEEP, BucketAction.ADD]


async def test_a_bucket_that_cannot_be_read_changes_nothing(
    planner: Planner, stacks: FakeStacks
) -> None:
    """Its events go on coming, and its agent stays, also where it was the only one there; but it is not "nothing to do"."""
    both = Discovery(buckets=(bucket("a"), bucket("b"), bucket("c", THERE)))
    await applied(planner, stacks, await planner.plan(both, EVENTBRIDGE))
    unread = (
        UnreadBucket(name="b", account="", reason="denied"),
        UnreadBucket(name="c", account="partner", reason="denied"),
    )
    idle = BucketFound(name="idle", place=THERE)

    made = await planner.plan(
        Discovery(buckets=(bucket("a", on=True), idle), unread=unread), EVENTBRIDGE
    )

    assert not made.changes
    assert not made.blocked
    assert made.exit_code == 1
    assert [problem.text for problem in made.problems] == ["denied", "denied"]


async def test_a_destination_keeps_what_it_has_while_its_source_cannot_be_read(
    planner: Planner, stacks: FakeStacks
) -> None:
    """Only the rules of its source tell that it is one."""
    request = Request(wish=Wish(source=Source.NOTIFICATIONS, destination_events=True))
    copy = BucketFound(name="a-copy", place=THERE)
    first = await planner.plan(Discovery(buckets=(bucket("a"), copy)), request)
    (plan,) = [one for one in first.buckets if one.bucket == "a-copy"]
    assert plan.choice is not None
    await applied(planner, stacks, first)
    having = replace(copy, notifications=NotificationConfiguration(entries=(plan.choice.entry,)))
    unread = (UnreadBucket(name="a", account="", reason="throttled"),)

    made = await planner.plan(Discovery(buckets=(having,), unread=unread), request)

    assert not made.changes


@pytest.mark.parametrize(
    ("unread_accounts", "removed"),
    [((), [THERE]), ((UnreadAccount(account="partner", reason="no role"),), [])],
)
async def test_an_agent_with_nothing_to_watch(
    planner: Planner,
    stacks: FakeStacks,
    unread_accounts: tuple[UnreadAccount, ...],
    removed: list[Place],
) -> None:
    """It is removed, but only by whoever saw everything, and only where that is allowed: its queue goes with it."""
    both = Discovery(buckets=(bucket("a"), bucket("c", THERE)))
    await applied(planner, stacks, await planner.plan(both, NOTIFICATIONS))
    found = Discovery(
        buckets=(bucket("a"), BucketFound(name="c", place=THERE)), unread_accounts=unread_accounts
    )

    made = await planner.plan(found, NOTIFICATIONS)
    allowed = await planner.plan(found, replace(NOTIFICATIONS, allow_replacement=True))

    assert [one.standing.place for one in made.stacks if one.removed] == removed
    assert made.blocked is bool(removed)
    assert not allowed.blocked


async def test_an_agent_that_is_protected_is_not_removed(
    planner: Planner, stacks: FakeStacks
) -> None:
    """That is said before anything is done."""
    both = Discovery(buckets=(bucket("a"), bucket("c", THERE)))
    await applied(planner, stacks, await planner.plan(both, NOTIFICATIONS))
    stacks.protected.add(address(THERE))
    found = Discovery(buckets=(bucket("a"), BucketFound(name="c", place=THERE)))

    made = await planner.plan(found, replace(NOTIFICATIONS, allow_replacement=True))

    (problem,) = [one for one in made.problems if one.blocks]
    assert "termination protection" in problem.text


@pytest.mark.parametrize("tags", [{}, {"managed-by": "crrmon", "crrmon:deployment": "other"}])
async def test_a_stack_of_somebody_else(
    planner: Planner, stacks: FakeStacks, tags: dict[str, str]
) -> None:
    """Its name is no proof: it is not read, not changed, and not removed where there is nothing to watch."""
    for place in (HERE, THERE):
        stacks.statuses[address(place)] = "CREATE_COMPLETE"
        stacks.tags[address(place)] = tags
    found = Discovery(buckets=(bucket("a"), BucketFound(name="idle", place=THERE)))

    made = await planner.plan(found, NOTIFICATIONS)

    assert stacks.change_sets == {}
    assert not any(one.removed for one in made.stacks)
    (problem,) = [one for one in made.problems if one.blocks]
    assert "none of this deployment" in problem.text


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"])
async def test_a_stack_that_takes_no_change(
    planner: Planner, stacks: FakeStacks, status: str
) -> None:
    """Nothing is asked of CloudFormation that it would refuse; the way out is told, and the plan cannot be carried out."""
    await applied(
        planner, stacks, await planner.plan(Discovery(buckets=(bucket("a"),)), EVENTBRIDGE)
    )
    stacks.statuses[address(HERE)] = status

    made = await planner.plan(Discovery(buckets=(bucket("a"), bucket("b"))), EVENTBRIDGE)

    assert stacks.change_sets == {}
    assert made.exit_code == 1
    (problem,) = [one for one in made.problems if one.blocks]
    assert status in problem.text


async def test_a_stack_that_was_only_begun_is_taken_over(
    planner: Planner, stacks: FakeStacks
) -> None:
    """Somebody looked at a plan and went away."""
    stacks.statuses[address(HERE)] = "REVIEW_IN_PROGRESS"

    made = await planner.plan(Discovery(buckets=(bucket("a"),)), EVENTBRIDGE)

    (agent,) = made.stacks
    assert agent.change_set is not None
    assert replace(agent.standing, status=None) == agent.standing


async def test_every_stack_says_whose_it_is(planner: Planner, stacks: FakeStacks) -> None:
    """By its tags."""
    await planner.plan(Discovery(buckets=(bucket("a"),)), EVENTBRIDGE)

    ((_, wanted),) = stacks.change_sets.values()
    assert wanted.tags == {"managed-by": "crrmon", "crrmon:deployment": "acme"}
    assert wanted.parameters["MonitorAccountId"] == HERE.account
