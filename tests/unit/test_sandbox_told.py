"""How the sandbox reads what a daemon left in its ledger."""

import msgspec
import pytest

from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Fate, Mark, Outcome, Settlement
from crrmon.domain.records import Destination, Record, State
from crrmon.domain.trails import Trail
from crrmon.ports.ledger import FrozenWindow
from crrmon.sandbox.told import read_ledger, status_of
from crrmon.sandbox.truth import NOT_COVERED
from crrmon.sandbox.verdict import NOTHING
from fakes.ledger_dynamodb import SetClock
from fakes.ledgers import MemoryLedger

ROUTE = Route("src-a", "dst-a")
AT = 1_790_000_000.0


def record(version_id: str, *, state: State = State.PENDING) -> Record:
    """Make a record of a version on the route."""
    return Record(
        version=ObjectVersion("src-a", "key", version_id),
        region="eu-west-1",
        written_at=AT,
        next_look_at=AT + 5,
        size=100,
        destinations=(Destination("dst-a"),),
        state=state,
        failed_at=AT + 5 if state is State.FAILED else None,
    )


def outcome(of: Record, fate: Fate, *, repaired: bool = False) -> Outcome:
    """Make an outcome of a record, marked as the daemon would."""
    version = of.version
    mark = of.replica_mark("dst-a")
    if fate is Fate.FAILED:
        mark = MarkId(Scope.EPISODE, version.bucket, version.key, version.version_id, 1)
    return Outcome(
        mark=mark,
        fate=fate,
        route=Route("src-a", "") if fate is Fate.FAILED else ROUTE,
        written_at=AT,
        found_at=AT + 9,
        size=100,
        repaired=repaired,
    )


def mark(fate: Fate) -> tuple[str, Mark]:
    """Make a mark under some slot."""
    return (
        f"slot of {fate.value}",
        Mark(fate=fate, route=ROUTE, written_at=AT, found_at=AT + 9, batch="b"),
    )


async def test_a_ledger_is_summed_up_from_its_trails() -> None:
    """Completed, failed, pending and untraced versions are told apart, and so is what was never reported."""
    ledger = MemoryLedger(shards=4, retention_seconds=86_400, clock=SetClock(AT))
    names = ("done", "repaired", "failed", "waiting", "gone")
    done, repaired, failed, waiting, gone = (record(one) for one in names)
    kept = msgspec.structs.replace(failed, state=State.FAILED, failed_at=AT + 9, episode=1)
    await ledger.park([done, repaired, failed, waiting, gone])
    marker = MarkId(Scope.MARKER, "dst-a", "key", "marker")
    laid = msgspec.structs.replace(outcome(done, Fate.MARKER_CREATED), mark=marker)
    await ledger.settle(
        "batch",
        [
            Settlement(version=done.version, outcomes=(outcome(done, Fate.COMPLETED),)),
            Settlement(
                version=repaired.version,
                outcomes=(
                    outcome(repaired, Fate.FAILED),
                    outcome(repaired, Fate.COMPLETED, repaired=True),
                ),
            ),
            Settlement(version=gone.version, outcomes=(outcome(gone, Fate.GONE),)),
            Settlement(version=ObjectVersion("src-a", "key", "marker"), outcomes=(laid,)),
            Settlement(
                version=failed.version,
                outcomes=(outcome(failed, Fate.FAILED),),
                keep=msgspec.structs.replace(kept, rev=1),
            ),
        ],
        now=AT + 10,
    )
    untraced = ObjectVersion("src-a", "key", "untraced")

    report = await read_ledger(
        ledger,
        [one.version for one in (done, repaired, failed, waiting, gone)] + [untraced],
        markers=[ObjectVersion("src-a", "key", "marker")],
        sent_before=AT,
    )

    assert report.account.replicated == {ROUTE: 2}
    assert report.account.bytes == {ROUTE: 200}
    assert {k: v for k, v in report.account.pending.items() if v} == {ROUTE: 1}
    assert report.account.repaired == {ROUTE: 1}
    assert report.account.gone == {ROUTE: 1}
    assert report.account.markers_created == {ROUTE: 1}
    assert report.account.open_failures == {ROUTE: 1}
    assert {k: v for k, v in report.account.failed.items() if v} == {"src-a": 2}
    assert report.account.not_covered == {"src-a": 1}
    assert report.open_failures == {"src-a": 1}
    assert report.statuses == {
        done.version: "dst-a COMPLETED",
        repaired.version: "dst-a REPAIRED, failed 1 times",
        failed.version: "dst-a FAILED, failed 1 times",
        waiting.version: "dst-a PENDING",
        gone.version: "dst-a GONE",
        untraced: NOTHING,
    }
    assert (report.unreported, report.unsent) == (1, 0)


async def test_a_forgotten_window_is_told_from_one_that_came_too_late() -> None:
    """What was frozen as the daemons were asked to end waits for the next one; what lay there before is a fault."""
    ledger = MemoryLedger(shards=4, retention_seconds=86_400, clock=SetClock(AT))
    (seen, *_) = await ledger.leases()
    lease = await ledger.claim(seen, owner="daemon")
    assert lease is not None
    for starts_at in (AT, AT + 5, AT + 10):
        window = FrozenWindow(starts_at=starts_at, parts=(b"[]",), deltas=())
        await ledger.freeze(window, lease=lease)

    assert (await read_ledger(ledger, [], sent_before=AT)).unsent == 0
    assert (await read_ledger(ledger, [], sent_before=AT + 10)).unsent == 2


@pytest.mark.parametrize(
    ("fates", "states", "status"),
    [
        ([], [], NOTHING),
        ([], [State.PENDING], "dst-a PENDING"),
        ([Fate.COMPLETED], [], "dst-a COMPLETED"),
        ([Fate.GONE], [], "dst-a GONE"),
        ([Fate.NOT_COVERED], [], NOT_COVERED),
        ([Fate.FAILED], [State.FAILED], "dst-a FAILED, failed 1 times"),
        ([Fate.FAILED], [State.PENDING], "dst-a PENDING, failed 1 times"),
        ([Fate.COMPLETED, Fate.FAILED], [], "dst-a COMPLETED, failed 1 times"),
    ],
)
def test_sound_trails_have_words(fates: list[Fate], states: list[State], status: str) -> None:
    """Each way a version may rightly stand in a ledger is said in the words of the truth."""
    assert status_of(trail(fates, states), "src-a") == status


@pytest.mark.parametrize(
    ("fates", "states"),
    [
        ([], [State.FAILED]),
        ([Fate.FAILED], []),
        ([Fate.COMPLETED], [State.PENDING]),
        ([Fate.COMPLETED, Fate.FAILED], [State.FAILED]),
        ([Fate.IS_REPLICA], []),
        ([Fate.COMPLETED, Fate.NOT_COVERED], []),
        ([Fate.COMPLETED, Fate.UNREADABLE], []),
    ],
)
def test_unsound_trails_are_described(fates: list[Fate], states: list[State]) -> None:
    """What a ledger should not hold of a version is told as it is, and equals no status."""
    assert "record" in status_of(trail(fates, states), "src-a")


def test_each_destination_is_told_by_itself() -> None:
    """An arrival counted at one, an open failure at the other: both are said, in the order of their names."""
    waiting = msgspec.structs.replace(
        record("v", state=State.FAILED),
        destinations=(Destination("dst-a", counted=True), Destination("dst-c")),
    )
    marks = (mark(Fate.COMPLETED), mark(Fate.FAILED))

    told = status_of(Trail(records={"src-a": waiting}, marks=dict(marks)), "src-a")

    assert told == "dst-a COMPLETED, dst-c FAILED, failed 1 times"


def test_a_replica_in_a_bucket_that_is_a_source_too_is_not_the_version() -> None:
    """In a two-way pair both leave marks in one trail."""
    replica = Mark(
        fate=Fate.IS_REPLICA, route=Route("dst-a", ""), written_at=AT, found_at=AT, batch="b"
    )
    both = Trail(marks=dict([mark(Fate.COMPLETED), ("s:dst-a", replica)]))

    assert status_of(both, "src-a") == "dst-a COMPLETED"


def trail(fates: list[Fate], states: list[State]) -> Trail:
    """Make a trail of marks and records."""
    records = [record("v", state=state) for state in states]
    return Trail(
        records={one.version.bucket: one for one in records},
        marks=dict(mark(fate) for fate in fates),
    )
