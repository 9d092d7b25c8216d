"""Plans: what becomes of each bucket, what blocks, and how that is told by the exit code."""

import pytest

from crrmon.domain.deployment.changes import Action, ResourceChange
from crrmon.domain.deployment.discovery import (
    BucketFound,
    Discovery,
    UnreadAccount,
    UnreadBucket,
)
from crrmon.domain.deployment.notifications import (
    Entry,
    NotificationConfiguration,
    merge,
    queue_entry,
)
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import (
    BucketAction,
    BucketPlan,
    Plan,
    Problem,
    StackPlan,
    bucket_plans,
    problems,
)
from crrmon.domain.deployment.sources import Choice, Part, Source
from crrmon.domain.deployment.stack_state import standing

PLACE = Place(account="111111111111", region="eu-west-1")
IDENTITY = "crrmon-acme"
EMPTY = NotificationConfiguration()
QUEUE = ResourceChange(
    logical="Queue",
    type="AWS::SQS::Queue",
    physical="acme-events",
    action=Action.REPLACE,
    because=("QueueName",),
)


def entry(events: tuple[str, ...] = ("s3:ObjectCreated:*",)) -> Entry:
    return queue_entry(
        IDENTITY, arn="arn:aws:sqs:eu-west-1:111111111111:acme-events", events=events
    )


def choice(*, entry: Entry | None = None, switch: bool = False, **more: object) -> Choice:
    """Choose a way for a bucket."""
    told = {"bucket": "a", "place": PLACE, "part": Part.SOURCE, "why": "so"}
    source = Source.EVENTBRIDGE if switch else Source.NOTIFICATIONS
    return Choice(**(told | {"entry": entry, "switch": switch, "source": source} | more))  # type: ignore[arg-type]


def having(configuration: NotificationConfiguration) -> Discovery:
    """Return one bucket that has a configuration."""
    return Discovery(buckets=(BucketFound(name="a", place=PLACE, notifications=configuration),))


def planned(configuration: NotificationConfiguration, chosen: Choice | None) -> BucketPlan:
    """Plan for one bucket."""
    choices = [] if chosen is None else [chosen]
    (one,) = bucket_plans(choices, having(configuration), identity=IDENTITY)
    return one


def ours(*, switch: bool = False) -> NotificationConfiguration:
    """Return a configuration with nothing but ours."""
    return merge(EMPTY, IDENTITY, entry=entry(), switch=switch)


@pytest.mark.parametrize(
    ("configuration", "chosen", "action"),
    [
        (EMPTY, choice(entry=entry()), BucketAction.ADD),
        (EMPTY, choice(switch=True), BucketAction.ADD),
        (ours(), choice(entry=entry()), BucketAction.KEEP),
        (ours(switch=True), choice(switch=True, entry=entry()), BucketAction.KEEP),
        (ours(), choice(entry=entry(("s3:ObjectRemoved:*",))), BucketAction.CHANGE),
        (ours(), choice(switch=True), BucketAction.CHANGE),
        (ours(switch=True), choice(switch=True), BucketAction.REMOVE),
        (ours(), None, BucketAction.REMOVE),
        (EMPTY, choice(entry=entry(), conflict="no"), BucketAction.CONFLICT),
    ],
)
def test_what_becomes_of_a_bucket(
    configuration: NotificationConfiguration, chosen: Choice | None, action: BucketAction
) -> None:
    """What is there already is kept; another way takes our entry out; one that is not watched any more loses it."""
    assert planned(configuration, chosen).action is action


@pytest.mark.parametrize(
    ("chosen", "action"),
    [(None, BucketAction.REMOVE), (choice(entry=entry()), BucketAction.CHANGE)],
)
def test_a_switch_that_we_turned_on_goes_off_with_its_use(
    chosen: Choice | None, action: BucketAction
) -> None:
    """One of somebody else's stays on."""
    on = NotificationConfiguration(switch={})
    choices = [] if chosen is None else [chosen]

    (ours,) = bucket_plans(choices, having(on), identity=IDENTITY, switched={"a"})
    theirs = bucket_plans(choices, having(on), identity=IDENTITY)

    assert (ours.action, ours.switch_off, ours.difference.eventbridge) == (action, True, False)
    assert not any(one.switch_off for one in theirs)


def test_a_bucket_that_is_nothing_to_us_is_not_in_a_plan() -> None:
    """It neither replicates nor has an entry of ours."""
    assert bucket_plans([], having(EMPTY), identity=IDENTITY) == ()


def stack(*changes: ResourceChange, status: str | None = "CREATE_COMPLETE") -> StackPlan:
    change_set = "arn:of:a:change:set" if changes else None
    return StackPlan(
        standing=standing("acme-agent", PLACE, status), changes=changes, change_set=change_set
    )


def plan(
    *, stacks: tuple[StackPlan, ...] = (), buckets: tuple[BucketPlan, ...] = (), **more: bool
) -> Plan:
    """Put a plan together, with its problems."""
    allowed = {"allow_replacement": False} | more
    found = problems(stacks, buckets, Discovery(), **allowed)
    return Plan(stacks=stacks, buckets=buckets, problems=found)


@pytest.mark.parametrize(
    ("made", "exit_code"),
    [
        (plan(), 0),
        (plan(stacks=(stack(),), buckets=(planned(ours(), choice(entry=entry())),)), 0),
        (plan(buckets=(planned(EMPTY, choice(entry=entry())),)), 2),
        (plan(stacks=(stack(QUEUE),)), 1),
        (plan(stacks=(stack(QUEUE),), allow_replacement=True), 2),
        (plan(stacks=(stack(status="UPDATE_IN_PROGRESS"),)), 1),
        (plan(stacks=(stack(status="ROLLBACK_COMPLETE"),)), 1),
        (plan(buckets=(planned(EMPTY, choice(entry=entry(), conflict="no")),)), 1),
        (plan(buckets=(planned(ours(), choice(entry=entry(), warnings=("hm",))),)), 0),
    ],
)
def test_the_exit_code_tells_what_a_plan_comes_to(made: Plan, exit_code: int) -> None:
    """0 nothing to do, 2 changes, 1 not as it is; what people should merely know does not count."""
    assert made.exit_code == exit_code


def test_where_not_all_could_be_read_it_is_not_nothing_to_do() -> None:
    """Nor does it keep the rest from being carried out."""
    made = Plan(stacks=(), buckets=(), problems=(), complete=False)

    assert made.exit_code == 1
    assert not made.blocked


def test_a_replacement_is_told_with_what_would_be_lost() -> None:
    """And with the option that allows it."""
    (problem,) = plan(stacks=(stack(QUEUE),)).problems

    assert problem.subject == "stack acme-agent in eu-west-1"
    for told in ("replace Queue", "acme-events", "QueueName", "--allow-replacement"):
        assert told in problem.text


def test_what_could_not_be_read_is_told_and_blocks_nothing() -> None:
    """The other buckets and accounts go on."""
    unread = Discovery(
        unread=(UnreadBucket(name="b", account="111111111111", reason="denied"),),
        unread_accounts=(UnreadAccount(account="222222222222", reason="no role"),),
    )

    assert problems((), (), unread, allow_replacement=False) == (
        Problem(subject="bucket b", text="denied", blocks=False),
        Problem(subject="account 222222222222", text="no role", blocks=False),
    )
