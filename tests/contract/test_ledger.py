"""What every ledger does: each sentence of the port, on each backend."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import permutations
from pathlib import Path

import pytest
from msgspec.structs import replace

from crrmon.domain.backlog import BACKLOG_SLOT_SECONDS, BacklogSlot
from crrmon.domain.events.facts import Channel, Threshold
from crrmon.domain.lessons import KEPT_SECONDS, Learned, Lesson
from crrmon.domain.noting import Noted
from crrmon.domain.objects import LARGEST_BYTES, MarkId, Route, Scope, shard_of
from crrmon.domain.outcomes import Delta, EarlyFact, Fate, Mark, Settlement, Tally, fold
from crrmon.domain.policy import Policy
from crrmon.domain.record_changes import with_failure
from crrmon.domain.records import Destination, Failure, Record, State
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, Ledger, Member
from fakes.ledger_backends import BACKENDS, RETENTION, SHARDS, Backend, each
from fakes.ledger_use import completed, holding, pending
from fakes.ledger_values import (
    NOW,
    arrived,
    deleted,
    deletion_done,
    done,
    episode,
    everywhere,
    failed,
    gave_up,
    record,
    replica,
    restarted,
    threshold,
    version,
    whole,
)

ALL = range(SHARDS)
DURABLE = each(name for name, backend in BACKENDS.items() if backend.durable)
DAY = 86_400.0
LATE = NOW + RETENTION + 2 * DAY
"""When nothing that was kept by now need be kept any more, however coarsely a backend counts."""

ODD_KEYS = [
    "a\nb\r\x00\x1b[31m",
    "\N{PILE OF POO}/ü/%2F+",
    "\ud800 half a character",
    "/" * 1024,
    "",
]


@pytest.fixture(params=each())
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Each backend in turn."""
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def ledger(backend: Backend) -> AsyncIterator[Ledger]:
    """A new ledger."""
    ledger = await backend.open()
    yield ledger
    await ledger.close()


async def stored(ledger: Ledger, one: Record) -> Record | None:
    """Find a record as the ledger has it now."""
    trail = await ledger.find(one.version.key, one.version.version_id)
    return next((found for found in trail.records.values() if found.version == one.version), None)


async def parked(ledger: Ledger, *records: Record) -> list[Record]:
    """Park records and return them as they were stored."""
    assert set(await ledger.park(records)) == {Parked.PARKED}
    found = [await stored(ledger, one) for one in records]
    return [one for one in found if one is not None]


async def totals(ledger: Ledger) -> dict[Route, Tally]:
    """Add up what waits to be reported."""
    return fold(list(await ledger.deltas()))


async def backlog(ledger: Ledger) -> dict[tuple[str, float], tuple[int, int, int, int]]:
    """Tell the backlog by destination and slot."""
    return {
        (one.route.destination, one.written_from): (
            one.pending_objects,
            one.pending_bytes,
            one.failed_objects,
            one.failed_bytes,
        )
        for one in sorted(await ledger.backlog(), key=lambda one: (one.route, one.written_from))
    }


def window(starts_at: float, *parts: bytes, deltas: Sequence[str] = ()) -> FrozenWindow:
    """Make a window."""
    return FrozenWindow(starts_at=starts_at, parts=parts, deltas=tuple(deltas))


# ---- seen ----


async def test_seen_tells_marks_halves_and_nothing_in_the_order_asked(ledger: Ledger) -> None:
    """One answer for each id, in the order asked, also when one is asked twice."""
    counted, early, unknown = record("counted"), record("early"), record("unknown")
    await ledger.settle("b1", [done(counted)], now=NOW)
    await ledger.note([replica("early", at=NOW - 1)], now=NOW)

    ids = [one.replica_mark("dst") for one in (early, counted, unknown, counted)]
    early, mark, nothing, again = await ledger.seen(ids)

    assert early == EarlyFact(replicated_at=NOW - 1, size=100)
    assert isinstance(mark, Mark)
    assert nothing is None
    assert again == mark


async def test_seen_sets_scopes_episodes_and_buckets_of_a_version_apart(ledger: Ledger) -> None:
    """A mark is found under its own id only, not under others of the same version."""
    one = record("k")
    await ledger.settle("b1", [done(one, arrived(one), episode(one, 1))], now=NOW)

    v = one.version
    found = await ledger.seen(
        [
            one.replica_mark("dst"),
            one.replica_mark("other"),
            MarkId(Scope.SOURCE, v.bucket, v.key, v.version_id),
            MarkId(Scope.EPISODE, v.bucket, v.key, v.version_id, 1),
            MarkId(Scope.EPISODE, v.bucket, v.key, v.version_id, 2),
            MarkId(Scope.REPLICA, "dst", v.key, "v2"),
        ]
    )

    assert [one is not None for one in found] == [True, False, False, True, False, False]


async def test_a_mark_is_the_short_history_of_what_it_counted(ledger: Ledger) -> None:
    """It tells fate, route, times, both bounds of the latency, size, looks and the batch."""
    one = record("k")
    await ledger.settle("b1", [done(one)], now=NOW)

    (mark,) = await ledger.seen([one.replica_mark("dst")])

    assert mark == Mark(
        fate=Fate.COMPLETED,
        route=Route("src", "dst"),
        written_at=NOW - 5,
        found_at=NOW,
        batch="b1",
        size=100,
        lower=2.0,
        upper=4.0,
        looks=1,
    )


async def test_a_mark_takes_the_place_of_a_half(ledger: Ledger) -> None:
    """Once an arrival is counted, its early fact is told no more."""
    one = record("k")
    await ledger.note([replica("k", at=NOW - 1)], now=NOW - DAY)
    await ledger.settle("b1", [done(one)], now=NOW)

    (found,) = await ledger.seen([one.replica_mark("dst")])
    trail = await ledger.find("k", "v1")

    assert isinstance(found, Mark)
    assert trail.early_facts == {}


# ---- park ----


async def test_a_parked_record_is_stored_whole_with_revision_1(ledger: Ledger) -> None:
    """Every field comes back as it was given, but for the revision."""
    one = Record(
        version=version("k"),
        region="eu-west-1",
        written_at=NOW - 5.25,
        next_look_at=NOW + 7.5,
        owner="123456789012",
        size=0,
        destinations=(Destination("dst", "rule", certain=False, replicated_at=NOW - 2),),
        episode=2,
        looks=3,
        troubles=4,
        refusals=5,
        pending_seen_at=NOW - 1,
        failed_before=True,
        counts=False,
    )

    assert await ledger.park([one]) == [Parked.PARKED]

    assert await stored(ledger, one) == replace(one, rev=1)


async def test_what_is_parked_already_stays_as_it_is(ledger: Ledger) -> None:
    """Invariant 2: the event of a parked version, delivered again, changes nothing."""
    (one,) = await parked(ledger, record("k", size=100))
    await ledger.reschedule([replace(one, looks=1)])

    assert await ledger.park([record("k", size=7)]) == [Parked.PARKED]

    assert await stored(ledger, one) == replace(one, looks=1, rev=2)


@pytest.mark.parametrize("together", [True, False])
async def test_a_better_channel_tells_time_and_size_anew(
    ledger: Ledger, *, together: bool
) -> None:
    """D17: one write, told by CloudTrail and by S3 itself: one record, the backlog in the slot of the better time."""
    vague = record("k", written_at=119.0, size=7)
    better = record("k", written_at=120.5, size=100, channel=Channel.NOTIFICATION)
    worse = record("k", written_at=10.0, size=1, channel=Channel.NOTICE)
    told = [vague, better, worse, vague, better]

    if together:
        assert await ledger.park(told) == [Parked.PARKED] * 5
    else:
        for one in told:
            assert await ledger.park([one]) == [Parked.PARKED]

    assert await stored(ledger, vague) == replace(better, rev=2)
    assert await backlog(ledger) == {("dst", 120.0): (1, 100, 0, 0)}


async def test_what_a_look_showed_is_better_than_any_size_of_an_event(ledger: Ledger) -> None:
    """S3's answer stands, whoever tells of the write later."""
    (one,) = await parked(ledger, record("k", written_at=119.0))
    await ledger.reschedule([replace(one, looks=1, size=5)])

    await ledger.park([record("k", written_at=120.5, size=7, channel=Channel.NOTIFICATION)])

    assert await backlog(ledger) == {("dst", 120.0): (1, 5, 0, 0)}


async def test_what_nobody_knew_is_taken_from_a_later_event(ledger: Ledger) -> None:
    """Size, owner and destinations; and the arrivals of replicas that nobody waited for until then."""
    (one,) = await parked(ledger, record("k", to=(), size=None))
    await ledger.note([replica("k", at=NOW - 1)], now=NOW)

    later = record("k", to=("dst", "two"), owner="123456789012")
    assert await ledger.park([later]) == [Parked.PARKED]

    destinations = (Destination("dst", replicated_at=NOW - 1), Destination("two"))
    expected = replace(later, destinations=destinations, rev=2)
    assert await stored(ledger, one) == expected
    assert [route for route, _ in await backlog(ledger)] == ["dst", "two"]


async def test_a_failure_that_is_parked_joins_the_record_and_brings_its_look_forward(
    ledger: Ledger,
) -> None:
    """Whoever parks what a notice told may find that the write's own event was faster."""
    (one,) = await parked(ledger, record("k", to=("dst", "two"), next_look_at=NOW + 60))
    told = Failure(noticed_at=NOW - 1, reason="DstPutObjNotPermitted")
    notice = replace(
        record("k", next_look_at=NOW, written_at=NOW - 9, channel=Channel.NOTICE),
        destinations=(Destination("dst", failure=told),),
    )

    assert await ledger.park([notice]) == [Parked.PARKED]

    destinations = (Destination("dst", failure=told), Destination("two"))
    joined = replace(one, destinations=destinations, next_look_at=NOW, rev=2)
    assert await stored(ledger, one) == joined
    assert await ledger.due(ALL, now=NOW, limit=9) == [joined]


async def test_a_version_twice_in_a_batch_is_parked_once_and_the_first_stands(
    ledger: Ledger,
) -> None:
    """Both are told as parked, and the backlog knows one."""
    results = await ledger.park([record("k", size=1), record("k", size=2)])

    found = await stored(ledger, record("k"))
    assert results == [Parked.PARKED, Parked.PARKED]
    assert found is not None
    assert (found.size, found.rev) == (1, 1)
    assert list((await backlog(ledger)).values()) == [(1, 1, 0, 0)]


async def test_a_record_whose_destinations_are_all_counted_is_not_parked(ledger: Ledger) -> None:
    """Invariant 2: an event that comes again after everything was counted leaves nothing behind."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, arrived(one), arrived(one, "two"))], now=NOW)

    assert await ledger.park([one]) == [Parked.SETTLED]

    assert await stored(ledger, one) is None
    assert await ledger.backlog() == []


async def test_a_record_whose_version_was_counted_as_a_whole_is_not_parked(
    ledger: Ledger,
) -> None:
    """A mark of scope SOURCE settles the version wherever it should have gone, and where nobody knows that."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, whole(one))], now=NOW)

    results = await ledger.park([one, record("k", to=())])

    assert results == [Parked.SETTLED, Parked.SETTLED]
    assert await stored(ledger, one) is None


async def test_a_record_of_a_closed_version_is_not_parked(ledger: Ledger) -> None:
    """Although a destination of it has no mark, which only a tag filter might select."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, arrived(one), whole(one, Fate.CLOSED))], now=NOW)

    assert await ledger.park([one]) == [Parked.SETTLED]
    assert await stored(ledger, one) is None


async def test_what_closed_a_version_is_kept_and_counts_nothing(ledger: Ledger) -> None:
    """Also of a version that is too old to be counted: that is told of its destinations."""
    one = record("k", to=("dst", "two"))
    closed = replace(whole(one, Fate.CLOSED), size=7, repaired=True, counts=False)
    await ledger.settle("b1", [done(one, arrived(one), closed)], now=NOW)

    (kept,) = [
        mark for slot, mark in (await ledger.find("k", "v1")).marks.items() if slot == "s:src"
    ]
    assert (kept.fate, kept.route) == (Fate.CLOSED, Route("src", ""))
    assert (kept.written_at, kept.size, kept.repaired) == (one.written_at, 7, True)
    assert not kept.counts
    assert (await totals(ledger))[Route("src", "dst")].completed == 1
    assert (await totals(ledger)).get(Route("src", ""), Tally()) == Tally()


async def test_a_source_mark_is_of_its_own_bucket_only(ledger: Ledger) -> None:
    """The same key and version id in another source bucket is another version."""
    one, other = record("k", bucket="src"), record("k", bucket="src2")
    await ledger.settle("b1", [done(one, whole(one))], now=NOW)

    assert await ledger.park([other]) == [Parked.PARKED]


async def test_a_record_with_one_destination_left_is_parked_whole(ledger: Ledger) -> None:
    """D15: several destinations are counted apart; what was counted of one does not settle the other."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, arrived(one))], now=NOW)

    assert await ledger.park([one]) == [Parked.PARKED]

    assert await stored(ledger, one) == replace(one, rev=1)


async def test_a_record_without_destinations_is_parked_whatever_arrived(ledger: Ledger) -> None:
    """While no configuration could be read, nothing can be known to be all there."""
    one = record("k", to=())
    await ledger.settle("b1", [done(one, arrived(one))], now=NOW)

    assert await ledger.park([one]) == [Parked.PARKED]


async def test_a_failure_episode_does_not_settle_a_version(ledger: Ledger) -> None:
    """A version that failed can be parked: a repair may come."""
    one = record("k")
    await ledger.settle("b1", [done(one, episode(one))], now=NOW)

    assert await ledger.park([one]) == [Parked.PARKED]


async def test_parking_joins_halves_that_came_before(ledger: Ledger) -> None:
    """D16: the replica's event first, the source's after it: the arrival is known, at the right destination."""
    one = record("k", to=("dst", "two"))
    await ledger.note([replica("k", at=NOW - 1)], now=NOW)

    await ledger.park([one])

    found = await stored(ledger, one)
    assert found is not None
    assert found.destinations == (Destination("dst", replicated_at=NOW - 1), Destination("two"))
    assert found.rev == 1


async def test_results_of_a_mixed_batch_come_in_its_order(ledger: Ledger) -> None:
    """Each record has its own result."""
    settled, there = record("settled"), record("there")
    await ledger.settle("b1", [done(settled)], now=NOW)
    await ledger.park([there])

    results = await ledger.park([record("new"), settled, there])

    assert results == [Parked.PARKED, Parked.SETTLED, Parked.PARKED]


async def test_one_key_and_version_in_two_source_buckets_are_two_records(ledger: Ledger) -> None:
    """They share a trail and nothing else."""
    one, other = await parked(ledger, record("k", bucket="src"), record("k", bucket="src2"))

    await ledger.settle("b1", [Settlement(version=one.version, outcomes=())], now=NOW)

    assert (await ledger.find("k", "v1")).records == {other.version.bucket: other}


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_kept_like_any_other_and_harm_nobody(ledger: Ledger, key: str) -> None:
    """Whatever a string can hold comes back as it was, and does not fail the rest of its batch."""
    odd = replace(record("x"), version=version(key))

    await ledger.park([record("before"), odd, record("after")])
    await ledger.note([replica(key, at=NOW - 1)], now=NOW)
    due = await ledger.due(ALL, now=NOW, limit=10)
    found = await stored(ledger, odd)

    assert {one.version.key for one in due} == {"before", key, "after"}
    assert found is not None
    assert found.destinations[0].replicated_at == NOW - 1
    assert await ledger.settle("b1", [done(odd)], now=NOW) == [[Settled.COUNTED]]
    assert await ledger.park([odd]) == [Parked.SETTLED]


# ---- due ----


async def test_due_tells_the_longest_due_first_over_all_shards(ledger: Ledger) -> None:
    """In order of the next look, whatever shard they lie in; not what is due later."""
    records = [record(f"k{number}", next_look_at=NOW - number) for number in range(-5, 20)]
    await ledger.park(records)

    due = await ledger.due(ALL, now=NOW, limit=100)

    assert [one.next_look_at for one in due] == [NOW - number for number in range(19, -1, -1)]
    assert len({shard_of(one.version.trail_id, SHARDS) for one in due}) == SHARDS


async def test_due_is_limited_and_claims_nothing(ledger: Ledger) -> None:
    """The first few only, and again the same when asked again."""
    await ledger.park([record(f"k{number}", next_look_at=NOW - number) for number in range(20)])

    first = await ledger.due(ALL, now=NOW, limit=3)
    again = await ledger.due(ALL, now=NOW, limit=3)

    assert [one.version.key for one in first] == ["k19", "k18", "k17"]
    assert again == first


async def test_due_tells_only_of_the_shards_asked_for(ledger: Ledger) -> None:
    """Whoever leases some shards sees what is due in them, each record once."""
    await ledger.park([record(f"k{number}") for number in range(40)])

    found = {shard: await ledger.due([shard], now=NOW, limit=100) for shard in ALL}

    for shard, records in found.items():
        assert {shard_of(one.version.trail_id, SHARDS) for one in records} <= {shard}
    assert sum(len(records) for records in found.values()) == 40
    assert await ledger.due([], now=NOW, limit=100) == []
    assert len(await ledger.due([0, 0, 1], now=NOW, limit=100)) == len(found[0]) + len(found[1])


async def test_what_was_rescheduled_or_settled_is_due_no_more(ledger: Ledger) -> None:
    """Until its next look comes."""
    later, gone, kept = await parked(ledger, record("later"), record("gone"), record("kept"))

    await ledger.reschedule([replace(later, next_look_at=NOW + 60)])
    await ledger.settle("b1", [done(gone)], now=NOW)

    assert await ledger.due(ALL, now=NOW, limit=9) == [kept]
    found = await ledger.due(ALL, now=NOW + 60, limit=9)
    assert [one.version.key for one in found] == ["kept", "later"]


async def test_open_failures_are_due_like_others(ledger: Ledger) -> None:
    """Somebody may repair them."""
    (one,) = await parked(ledger, failed("k"))

    assert await ledger.due(ALL, now=NOW, limit=9) == [one]


# ---- reschedule ----


async def test_rescheduling_replaces_the_record_and_counts_its_revision(ledger: Ledger) -> None:
    """The stored one is the one given, at the next revision."""
    (one,) = await parked(ledger, record("k"))
    changed = replace(one, looks=1, next_look_at=NOW + 30, pending_seen_at=NOW)

    assert await ledger.reschedule([changed]) == [Rescheduled.RESCHEDULED]

    assert await stored(ledger, one) == replace(changed, rev=2)


async def test_a_record_changed_meanwhile_is_stale(ledger: Ledger) -> None:
    """Of two that change the same revision, the first wins; the second changes nothing."""
    (one,) = await parked(ledger, record("k"))
    first, second = replace(one, looks=1), replace(one, looks=2)

    results = await ledger.reschedule([first, second])

    assert results == [Rescheduled.RESCHEDULED, Rescheduled.STALE]
    assert await stored(ledger, one) == replace(first, rev=2)


async def test_rescheduling_never_brings_a_record_back(ledger: Ledger) -> None:
    """What was settled meanwhile, or was never there, is not made by a late reschedule."""
    (one,) = await parked(ledger, record("k"))
    await ledger.settle("b1", [done(one)], now=NOW)

    results = await ledger.reschedule([one, replace(record("never"), rev=1), record("new")])

    assert results == [Rescheduled.STALE] * 3
    assert await ledger.due(ALL, now=LATE, limit=9) == []
    assert await ledger.backlog() == []


async def test_an_arrival_noted_meanwhile_cannot_be_lost(ledger: Ledger) -> None:
    """D16: a join changes the revision, so whoever looked without knowing of it is stale."""
    (one,) = await parked(ledger, record("k"))
    await ledger.note([replica("k", at=NOW - 1)], now=NOW)

    assert await ledger.reschedule([replace(one, looks=1)]) == [Rescheduled.STALE]

    found = await stored(ledger, one)
    assert found is not None
    assert found.destinations[0].replicated_at == NOW - 1


async def test_a_record_can_fail_and_be_reopened(ledger: Ledger) -> None:
    """Its state goes to failed and back, and the lists and the backlog go with it."""
    (one,) = await parked(ledger, record("k", size=7))
    await ledger.reschedule([replace(one, state=State.FAILED, failed_at=NOW)])
    assert [entry.rev for entry in (await ledger.failures())[0]] == [2]
    assert list((await backlog(ledger)).values()) == [(0, 0, 1, 7)]

    await ledger.reschedule([replace(one, rev=2)])

    assert await ledger.failures() == ([], None)
    assert list((await backlog(ledger)).values()) == [(1, 7, 0, 0)]


# ---- settle ----


async def test_settling_counts_and_drops_the_record(ledger: Ledger) -> None:
    """Invariant 2: the outcome is counted, its mark is there, the record is gone."""
    (one,) = await parked(ledger, record("k"))

    assert await ledger.settle("b1", [done(one)], now=NOW) == [[Settled.COUNTED]]

    (mark,) = await ledger.seen([one.replica_mark("dst")])
    assert mark is not None
    assert await stored(ledger, one) is None
    assert await ledger.due(ALL, now=LATE, limit=9) == []
    assert (await totals(ledger))[Route("src", "dst")].completed == 1


async def test_settling_needs_no_parked_record(ledger: Ledger) -> None:
    """What is done at its first look is counted without ever having been parked."""
    assert await ledger.settle("b1", [done(record("k"))], now=NOW) == [[Settled.COUNTED]]


async def test_another_batch_counts_nothing_twice(ledger: Ledger) -> None:
    """Invariant 2, D20: however often the same outcome is found, it is counted once."""
    one = record("k")
    await ledger.settle("b1", [done(one)], now=NOW)

    for batch in ("b2", "b3"):
        assert await ledger.settle(batch, [done(one)], now=NOW) == [[Settled.DUPLICATE]]

    assert (await totals(ledger))[Route("src", "dst")].completed == 1


async def test_a_repeated_batch_recognises_its_own_work(ledger: Ledger) -> None:
    """Invariant 5: a batch repeated because its answer was lost reads as counted, and adds nothing."""
    one, twice, old = record("k"), record("twice"), record("old")
    await ledger.settle("b0", [done(old)], now=NOW)
    batch = [done(one), done(twice, arrived(twice), arrived(twice)), done(old)]
    first = await ledger.settle("b1", batch, now=NOW)
    counted = await totals(ledger)

    again = await ledger.settle("b1", batch, now=NOW + 60)

    assert first == [
        [Settled.COUNTED],
        [Settled.COUNTED, Settled.DUPLICATE],
        [Settled.DUPLICATE],
    ]
    assert again == first
    assert await totals(ledger) == counted


async def test_outcomes_with_the_same_mark_within_a_batch_count_once(ledger: Ledger) -> None:
    """Invariant 2: the first one counts, in one settlement or in several."""
    one = record("k", size=1)
    more = replace(arrived(one), size=2)

    results = await ledger.settle("b1", [done(one), done(one, more), done(one, more)], now=NOW)

    assert results == [[Settled.COUNTED], [Settled.DUPLICATE], [Settled.DUPLICATE]]
    tally = (await totals(ledger))[Route("src", "dst")]
    assert (tally.completed, tally.bytes) == (1, 1)


async def test_every_destination_counts_for_itself(ledger: Ledger) -> None:
    """D15: one version, two destinations, two counts; a duplicate at one does not hide the other."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, arrived(one))], now=NOW)

    results = await ledger.settle("b2", [done(one, arrived(one), arrived(one, "two"))], now=NOW)

    assert results == [[Settled.DUPLICATE, Settled.COUNTED]]
    counted = await totals(ledger)
    assert counted[Route("src", "dst")].completed == 1
    assert counted[Route("src", "two")].completed == 1


async def test_each_failure_episode_counts_once(ledger: Ledger) -> None:
    """D20: a failure looked at again and again is one failure; a second episode is a second one."""
    (one,) = await parked(ledger, record("k"))
    for number, batch in ((1, "b1"), (1, "b2"), (1, "b3"), (2, "b4"), (2, "b5")):
        await ledger.settle(batch, [done(one, episode(one, number))], now=NOW)

    assert (await totals(ledger))[Route("src", "")].failed == 2


async def test_what_is_too_old_leaves_its_mark_and_is_counted_as_too_old(ledger: Ledger) -> None:
    """Invariant 2: an outcome that does not count is remembered all the same."""
    one = record("k", counts=False)
    await ledger.settle("b1", [done(one, arrived(one, counts=False))], now=NOW)

    assert await ledger.settle("b2", [done(one)], now=NOW) == [[Settled.DUPLICATE]]
    tally = (await totals(ledger))[Route("src", "dst")]
    assert (tally.too_old, tally.completed) == (1, 0)


async def test_a_batch_adds_up_to_what_it_counted(ledger: Ledger) -> None:
    """Its delta tells all that was newly counted, of all routes, with the time of settling."""
    a, b, c = record("a", size=10), record("b", size=20), record("c", bucket="src2", size=40)

    await ledger.settle("b1", [done(a), done(b), done(c), done(a)], now=NOW)

    assert {one.settled_at for one in await ledger.deltas()} == {NOW}
    counted = await totals(ledger)
    assert counted.keys() == {Route("src", "dst"), Route("src2", "dst")}
    tally = counted[Route("src", "dst")]
    assert (tally.completed, tally.bytes, tally.timed, tally.seconds) == (2, 30, 2, 6.0)
    assert tally.latency == pytest.approx({9: 1.0, 10: 1.0})


async def test_a_batch_that_counts_nothing_contributes_nothing(ledger: Ledger) -> None:
    """Duplicates alone, or no outcomes at all, leave no delta."""
    one = record("k")
    await ledger.settle("b1", [done(one)], now=NOW)
    before = await ledger.deltas()

    await ledger.settle("b2", [done(one)], now=NOW)
    await ledger.settle("b3", [Settlement(version=one.version, outcomes=())], now=NOW)
    await ledger.settle("b4", [], now=NOW)

    assert await ledger.deltas() == before


async def test_a_record_is_dropped_whatever_its_revision(ledger: Ledger) -> None:
    """When nothing is left to follow, it does not matter who changed it meanwhile."""
    (one,) = await parked(ledger, record("k"))
    await ledger.reschedule([replace(one, looks=1)])

    await ledger.settle("b1", [done(one)], now=NOW)

    assert await stored(ledger, one) is None


async def test_a_record_is_dropped_although_its_outcome_was_a_duplicate(ledger: Ledger) -> None:
    """Somebody else counted it; it need not be followed here either."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    await ledger.settle("b1", [done(record("k", bucket="src2"), arrived(one))], now=NOW)
    assert await stored(ledger, one) == one

    await ledger.settle("b2", [done(one)], now=NOW)

    assert await stored(ledger, one) is None


async def test_a_kept_record_is_stored_at_its_revision(ledger: Ledger) -> None:
    """The open failure takes the place of the pending record, at the next revision."""
    (one,) = await parked(ledger, record("k"))
    keep = replace(one, state=State.FAILED, failed_at=NOW, episode=1, failed_before=True)
    settlement = Settlement(version=one.version, outcomes=(episode(one),), keep=keep)

    assert await ledger.settle("b1", [settlement], now=NOW) == [[Settled.COUNTED]]

    assert await stored(ledger, one) == replace(keep, rev=2)
    assert list((await backlog(ledger)).values()) == [(0, 0, 1, 100)]


async def test_a_record_to_keep_that_was_changed_meanwhile_stays_as_it_is(ledger: Ledger) -> None:
    """The outcome counts; the newer record is not overwritten."""
    (one,) = await parked(ledger, record("k"))
    await ledger.note([replica("k", at=NOW - 1)], now=NOW)
    newer = await stored(ledger, one)
    keep = replace(one, state=State.FAILED, failed_at=NOW)

    results = await ledger.settle(
        "b1", [Settlement(version=one.version, outcomes=(episode(one),), keep=keep)], now=NOW
    )

    assert results == [[Settled.COUNTED]]
    assert await stored(ledger, one) == newer


async def test_a_record_to_keep_is_not_brought_back(ledger: Ledger) -> None:
    """At a revision other than 0, only a record that is there can be kept."""
    (one,) = await parked(ledger, record("k"))
    await ledger.settle("b1", [Settlement(version=one.version, outcomes=())], now=NOW)

    keep = Settlement(version=one.version, outcomes=(episode(one),), keep=one)
    await ledger.settle("b2", [keep], now=NOW)

    assert await stored(ledger, one) is None


async def test_a_new_record_to_keep_is_parked_with_its_outcome(ledger: Ledger) -> None:
    """What fails at its first look is kept as an open failure, and knows of early facts like any parked record."""
    one = failed("k", to=("dst", "two"))
    await ledger.note([replica("k", at=NOW - 1)], now=NOW)

    settlement = Settlement(version=one.version, outcomes=(episode(one),), keep=one)
    assert await ledger.settle("b1", [settlement], now=NOW) == [[Settled.COUNTED]]

    destinations = (Destination("dst", replicated_at=NOW - 1), Destination("two"))
    assert await stored(ledger, one) == replace(one, destinations=destinations, rev=1)


async def test_a_new_record_to_keep_does_not_replace_one_that_is_there(ledger: Ledger) -> None:
    """Whoever parked it first knows more."""
    (one,) = await parked(ledger, record("k", next_look_at=NOW + 60))
    told = Failure(noticed_at=NOW)
    new = replace(
        failed("k", channel=Channel.NOTIFICATION, written_at=NOW - 4),
        destinations=(Destination("dst", failure=told, replicated_at=NOW - 1),),
    )

    await ledger.settle(
        "b1", [Settlement(version=one.version, outcomes=(episode(one),), keep=new)], now=NOW
    )

    assert await stored(ledger, one) == one


async def test_repeating_a_batch_does_not_bring_a_repaired_failure_back(ledger: Ledger) -> None:
    """Invariant 5: the batch that opened a failure, repeated after the repair was counted, keeps nothing."""
    one = failed("k")
    opening = [Settlement(version=one.version, outcomes=(episode(one),), keep=one)]
    await ledger.settle("b1", opening, now=NOW)
    await ledger.settle("b2", [done(one)], now=NOW)

    assert await ledger.settle("b1", opening, now=NOW) == [[Settled.COUNTED]]

    assert await stored(ledger, one) is None
    assert await ledger.backlog() == []


async def test_what_was_decided_without_a_record_gives_way_to_one(ledger: Ledger) -> None:
    """The record knows more: nothing is counted and nothing changed, for that settlement alone."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    late = replace(done(one, arrived(one), whole(one)), rev=0)

    results = await ledger.settle("b1", [late, replace(done(record("l")), rev=0)], now=NOW)

    assert results == [[Settled.DUPLICATE, Settled.DUPLICATE], [Settled.COUNTED]]
    assert await stored(ledger, one) == one
    assert (await ledger.find("k", "v1")).marks == {}
    assert (await totals(ledger))[Route("src", "dst")].completed == 1


async def test_what_was_decided_on_a_record_counts_whatever_it_is_now(ledger: Ledger) -> None:
    """Only "there was none" gives way."""
    (one,) = await parked(ledger, record("k"))
    await ledger.reschedule([one])

    assert await ledger.settle("b1", [replace(done(one), rev=1)], now=NOW) == [[Settled.COUNTED]]

    assert await stored(ledger, one) is None


async def test_a_batch_that_was_decided_without_records_recognises_its_own(ledger: Ledger) -> None:
    """Invariant 5: repeated, it gives way neither to the record that it kept, nor takes one away that came since."""
    failure, arrival = failed("failure"), record("arrival")
    batch = [
        Settlement(version=failure.version, outcomes=(episode(failure),), keep=failure, rev=0),
        replace(done(arrival), rev=0),
    ]
    first = await ledger.settle("b1", batch, now=NOW)
    since = record("arrival", to=("dst", "two"))
    await ledger.park([since])

    assert await ledger.settle("b1", batch, now=NOW) == first == [[Settled.COUNTED]] * 2

    assert await stored(ledger, failure) == replace(failure, rev=1)
    assert await stored(ledger, since) == replace(since, rev=1)
    assert (await totals(ledger))[Route("src", "dst")].completed == 1


async def test_many_who_settle_the_same_at_once_count_it_once(ledger: Ledger) -> None:
    """Invariant 2, D16: there is nothing between reading and writing."""
    records = [record(f"k{number}") for number in range(20)]

    results = await asyncio.gather(
        *(
            ledger.settle(f"b{number}", [done(one) for one in records], now=NOW)
            for number in range(10)
        )
    )

    for outcomes in zip(*results, strict=True):
        assert [one for (one,) in outcomes].count(Settled.COUNTED) == 1
    assert (await totals(ledger))[Route("src", "dst")].completed == 20


# ---- note: a replica's arrival ----


async def test_the_event_of_a_replica_joins_the_record_that_waits_for_it(ledger: Ledger) -> None:
    """D16: the source's event first, the replica's after it: the arrival is known, and the revision tells of it."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))

    assert await ledger.note([replica("k", at=NOW - 1)], now=NOW) == [Noted.JOINED]

    destinations = (Destination("dst", replicated_at=NOW - 1), Destination("two"))
    assert await stored(ledger, one) == replace(one, destinations=destinations, rev=2)


async def test_the_event_of_a_counted_arrival_is_settled(ledger: Ledger) -> None:
    """Invariant 2: it leaves nothing behind."""
    one = record("k")
    await ledger.settle("b1", [done(one)], now=NOW)
    before = await ledger.find("k", "v1")

    assert await ledger.note([replica("k", at=NOW - 1)], now=NOW) == [Noted.SETTLED]

    assert await ledger.find("k", "v1") == before


async def test_an_arrival_that_was_not_proved_when_its_version_was_closed_is_late(
    ledger: Ledger,
) -> None:
    """Nothing is kept, whoever tells of it and how often, until somebody counts it."""
    one = record("k", to=("dst", "two"))
    await ledger.settle("b1", [done(one, arrived(one), whole(one, Fate.CLOSED))], now=NOW)
    before = await ledger.find("k", "v1")

    told = [replica("k", bucket="two", at=NOW - 1), replica("k", at=NOW - 1)] * 2
    noted = await ledger.note(told, now=NOW)
    assert noted == [Noted.LATE, Noted.SETTLED] * 2
    assert await ledger.find("k", "v1") == before

    late = Settlement(version=one.version, outcomes=(arrived(one, "two"),), rev=0)
    assert await ledger.settle("b2", [late], now=NOW) == [[Settled.COUNTED]]
    assert await ledger.note(told, now=NOW) == [Noted.SETTLED] * 4


@pytest.mark.parametrize("followed", [False, True], ids=["new", "parked"])
async def test_a_version_is_not_closed_without_an_arrival_that_was_told_meanwhile(
    ledger: Ledger, *, followed: bool
) -> None:
    """Nothing is counted; whoever decided parks what is new, and the next look knows of both arrivals."""
    one = record("k", to=("dst", "two"))
    if followed:
        (one,) = await parked(ledger, one)
    await ledger.note([replica("k", bucket="two", at=NOW - 1)], now=NOW)
    closing = done(one, arrived(one), whole(one, Fate.CLOSED))
    closing = replace(closing, rev=one.rev)

    assert await ledger.settle("b1", [closing], now=NOW) == [[Settled.DUPLICATE] * 2]
    assert await ledger.settle("b1", [closing], now=NOW) == [[Settled.DUPLICATE] * 2]
    assert not (await ledger.find("k", "v1")).marks

    assert await ledger.park([one]) == [Parked.PARKED]
    known = await stored(ledger, one)
    assert known is not None
    assert [one.replicated_at for one in known.destinations] == [None, NOW - 1]
    both = replace(done(one, arrived(one), arrived(one, "two")), rev=known.rev)
    assert await ledger.settle("b2", [both], now=NOW) == [[Settled.COUNTED] * 2]
    assert await stored(ledger, one) is None


async def test_a_closing_that_is_tried_again_is_its_own(ledger: Ledger) -> None:
    """Its first try was carried out: an arrival told since is late, and does not make the second try a duplicate."""
    one = record("k", to=("dst", "two"))
    closing = done(one, arrived(one), whole(one, Fate.CLOSED))
    closing = replace(closing, rev=0)
    assert await ledger.settle("b1", [closing], now=NOW) == [[Settled.COUNTED] * 2]

    noted = await ledger.note([replica("k", bucket="two", at=NOW - 1)], now=NOW)

    assert noted == [Noted.LATE]
    assert await ledger.settle("b1", [closing], now=NOW) == [[Settled.COUNTED] * 2]


async def test_an_arrival_that_was_counted_somewhere_is_settled(ledger: Ledger) -> None:
    """Where nobody could tell the destination, the unknown one stands for it; and nothing is kept."""
    one = record("k", to=())
    await ledger.settle(
        "b1", [done(one, arrived(one, "unknown"), whole(one, Fate.CLOSED))], now=NOW
    )
    before = await ledger.find("k", "v1")

    assert await ledger.note([replica("k", at=NOW - 1)], now=NOW) == [Noted.SETTLED]
    assert await ledger.find("k", "v1") == before


async def test_a_version_that_is_closed_in_its_own_bucket_may_be_a_replica_there(
    ledger: Ledger,
) -> None:
    """What ended on its way from a bucket says nothing of how it came there."""
    one = record("k", to=())
    await ledger.settle(
        "b1", [done(one, arrived(one, "unknown"), whole(one, Fate.CLOSED))], now=NOW
    )

    assert await ledger.note([replica("k", bucket="src", at=NOW)], now=NOW) == [Noted.EARLY]


async def test_a_replica_that_nobody_waits_for_is_kept_as_a_half(ledger: Ledger) -> None:
    """Also where a record is parked that does not name its bucket."""
    await ledger.park([record("k", to=("two",)), record("l", to=())])

    results = await ledger.note(
        [replica("k", at=NOW - 1), replica("l", at=NOW - 2), replica("m", at=NOW - 3)], now=NOW
    )

    assert results == [Noted.EARLY] * 3
    found = await ledger.seen([record(key).replica_mark("dst") for key in ("k", "l", "m")])
    assert [one.replicated_at for one in found if isinstance(one, EarlyFact)] == [
        NOW - 1,
        NOW - 2,
        NOW - 3,
    ]


@pytest.mark.parametrize("order", [(3, 1, 2), (1, 2, 3), (3, 2, 1)])
async def test_the_earliest_event_of_an_arrival_stands_as_a_half(
    ledger: Ledger, order: tuple[int, ...]
) -> None:
    """In whatever order they come, on whatever days, in one batch or in several."""
    for day, seconds in enumerate(order):
        await ledger.note([replica("k", at=NOW + seconds)], now=NOW + day * DAY)
    batch = [replica("l", at=NOW + seconds) for seconds in order]
    results = await ledger.note(batch, now=NOW)

    better = [now == min(order[: at + 1]) for at, now in enumerate(order)]
    assert results == [Noted.EARLY if one else Noted.KNOWN for one in better]

    found = await ledger.seen([record(key).replica_mark("dst") for key in ("k", "l")])

    assert [one.replicated_at for one in found if isinstance(one, EarlyFact)] == [NOW + 1, NOW + 1]


@pytest.mark.parametrize("order", [(3, 1, 2), (1, 2, 3), (3, 2, 1)])
async def test_the_earliest_event_of_an_arrival_stands_in_a_record(
    ledger: Ledger, order: tuple[int, ...]
) -> None:
    """A later event does not even change the revision."""
    (one,) = await parked(ledger, record("k"))
    results: list[Noted] = []

    for seconds in order:
        noted = await ledger.note([replica("k", at=NOW + seconds)], now=NOW)
        results += noted

    found = await stored(ledger, one)
    assert found is not None
    assert found.destinations == (Destination("dst", replicated_at=NOW + 1),)
    better = [now == min(order[: at + 1]) for at, now in enumerate(order)]
    assert results == [Noted.JOINED if one else Noted.KNOWN for one in better]
    assert found.rev == 1 + sum(better)


async def test_a_record_that_arrived_everywhere_is_due_at_once(ledger: Ledger) -> None:
    """With the last of its arrivals, not before: then no look is needed any more. Told again, it changes nothing."""
    (one,) = await parked(ledger, record("k", to=("dst", "two"), next_look_at=NOW + 60))

    await ledger.note([replica("k", at=NOW - 2)], now=NOW)
    assert await ledger.due(ALL, now=NOW, limit=9) == []
    await ledger.note([replica("k", at=NOW - 1, bucket="two")], now=NOW)
    (due,) = await ledger.due(ALL, now=NOW, limit=9)

    assert due.arrived
    assert (due.next_look_at, due.rev) == (NOW, 3)
    await ledger.reschedule([replace(due, next_look_at=NOW + 60)])
    again = [replica("k", at=NOW - 2), replica("k", at=NOW - 1, bucket="two")]
    assert await ledger.note(again, now=NOW + 1) == [Noted.KNOWN] * 2
    assert await stored(ledger, one) == replace(due, next_look_at=NOW + 60, rev=4)


async def test_an_arrival_tells_the_size_where_nobody_knew_it(ledger: Ledger) -> None:
    """A replica is as large as its source; the backlog follows."""
    await ledger.park([record("k", size=None, to=("dst", "two"), written_at=120.0)])

    await ledger.note([replica("k", at=NOW)], now=NOW)

    assert await backlog(ledger) == {
        ("dst", 120.0): (1, 100, 0, 0),
        ("two", 120.0): (1, 100, 0, 0),
    }


async def test_the_arrival_of_what_is_counted_there_while_others_are_open_is_settled(
    ledger: Ledger,
) -> None:
    """D15: the record that still waits for another destination is left alone."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    kept = await counted_at(ledger, one, "dst")

    assert await ledger.note([replica("k", at=NOW - 1)], now=NOW) == [Noted.SETTLED]
    assert await stored(ledger, one) == kept
    await swept(ledger, now=LATE)  # of its marks, not of the record
    assert await ledger.note([replica("k", at=NOW - 1)], now=LATE) == [Noted.KNOWN]
    assert await stored(ledger, one) == kept


# ---- note: that a version, or a deletion, is everywhere ----


async def test_m4_where_there_is_one_destination_it_is_the_moment_of_arrival(
    ledger: Ledger,
) -> None:
    """M4: the record is due at once, the first time, also as an open failure; nothing else is kept."""
    fresh, broken = await parked(
        ledger,
        record("fresh", next_look_at=NOW + 60, size=None),
        failed("broken", at=NOW - 9, next_look_at=NOW + 3600),
    )
    told = replace(everywhere("fresh", at=NOW - 1), size=0)
    news = [told, everywhere("broken", at=NOW - 1), everywhere("broken", at=NOW)]

    assert await ledger.note(news, now=NOW) == [Noted.JOINED, Noted.JOINED, Noted.KNOWN]

    there = (Destination("dst", replicated_at=NOW - 1),)
    arrived_at = {"destinations": there, "next_look_at": NOW}
    assert await stored(ledger, fresh) == replace(fresh, rev=2, size=0, **arrived_at)
    assert await stored(ledger, broken) == replace(broken, rev=2, **arrived_at)
    assert (await ledger.find("fresh", "v1")).early_facts == {}


@pytest.mark.parametrize("destinations", [("dst", "two"), ()])
async def test_m4_where_there_are_others_it_is_a_reason_to_look_once(
    ledger: Ledger, destinations: tuple[str, ...]
) -> None:
    """M4: it says of none of several when it arrived there; told again, it hastens nothing."""
    (one,) = await parked(ledger, record("k", to=destinations, next_look_at=NOW + 60))

    assert await ledger.note([everywhere("k", at=NOW - 1)], now=NOW) == [Noted.JOINED]

    looked = replace(one, next_look_at=NOW, rev=2)
    assert await stored(ledger, one) == looked
    await ledger.reschedule([replace(looked, next_look_at=NOW + 90)])
    again = [everywhere("k", at=NOW - 1), everywhere("k", at=NOW)]
    assert await ledger.note(again, now=NOW + 1) == [Noted.KNOWN] * 2
    assert await ledger.due(ALL, now=NOW + 1, limit=9) == []


async def test_m4_what_is_told_before_its_write_is_joined_then(ledger: Ledger) -> None:
    """M4: whichever comes first. The earliest stands, and is of its own bucket's version only."""
    first = [everywhere("k", at=NOW - 1), everywhere("k", at=NOW - 2), everywhere("k", at=NOW)]

    assert await ledger.note(first, now=NOW) == [Noted.EARLY, Noted.EARLY, Noted.KNOWN]

    (mark,) = await ledger.seen([record("k").replicated_mark])
    assert mark == EarlyFact(replicated_at=NOW - 2)
    one, other, several = await parked(
        ledger, record("k"), record("k", bucket="else"), record("k", bucket="more", to=("a", "b"))
    )
    assert [to.replicated_at for to in one.destinations] == [NOW - 2]
    assert [to.replicated_at for to in (*other.destinations, *several.destinations)] == [None] * 3


async def test_m4_what_was_counted_is_settled_whoever_says_that_it_arrived(
    ledger: Ledger,
) -> None:
    """M4, invariant 2: a look was faster, and nothing is left behind."""
    await ledger.settle(
        "b1", [done(record("k")), done(whole_one := record("w"), whole(whole_one))], now=NOW
    )
    before = await ledger.find("k", "v1")
    news = [
        everywhere("k", at=NOW),
        everywhere("w", at=NOW),
        everywhere("k", at=NOW, bucket="dst"),
    ]

    assert await ledger.note(news[:2], now=NOW) == [Noted.SETTLED] * 2
    assert await ledger.find("k", "v1") == before
    assert await ledger.note(news[2:], now=NOW) == [Noted.EARLY]


async def test_m4_an_arrival_by_either_word_is_counted_once(ledger: Ledger) -> None:
    """M4, invariant 2: whoever looked without knowing of it is stale, and the mark is the same."""
    (one,) = await parked(ledger, record("k"))
    await ledger.note([everywhere("k", at=NOW - 1)], now=NOW)
    assert await ledger.reschedule([one]) == [Rescheduled.STALE]

    by_look, by_word = done(one), done(one)

    assert await ledger.settle("b1", [by_look], now=NOW) == [[Settled.COUNTED]]
    assert await ledger.settle("b2", [by_word], now=NOW) == [[Settled.DUPLICATE]]


async def test_m4_m5_that_a_deletion_is_everywhere_is_kept_and_is_no_arrival(
    ledger: Ledger,
) -> None:
    """
    M4, M5: the first word stands. It says nothing of the object, pending or not heard of yet, whose deletion it may be.
    """
    (one,) = await parked(ledger, record("k", next_look_at=NOW + 60))
    news = [deletion_done("k", at=NOW), deletion_done("k", at=NOW + 1), deletion_done("m", at=NOW)]

    results = await ledger.note(news, now=NOW)

    assert results == [Noted.EARLY, Noted.KNOWN, Noted.EARLY]
    assert await stored(ledger, one) == one
    (later,) = await parked(ledger, record("m"))
    assert later.destinations == (Destination("dst"),)
    marker = MarkId(Scope.DELETION, "src", "m", "v1")
    assert await ledger.seen([marker]) == [EarlyFact(replicated_at=NOW)]


# ---- note: a failure ----


async def counted_at(ledger: Ledger, one: Record, *buckets: str) -> Record:
    """Count a record's arrivals in some of its destinations, and follow it on at the others."""
    keep = with_counted(one, *buckets)
    settlement = Settlement(
        version=one.version,
        outcomes=tuple(arrived(one, bucket) for bucket in buckets),
        rev=one.rev,
        keep=keep,
    )
    name = f"counted {'+'.join(buckets)}"
    assert await ledger.settle(name, [settlement], now=NOW) == [[Settled.COUNTED] * len(buckets)]
    found = await stored(ledger, one)
    assert found == replace(keep, rev=max(one.rev, 0) + 1)
    return found


def with_counted(one: Record, *buckets: str) -> Record:
    """Return a record whose arrivals in some of its destinations are counted."""
    return replace(
        one,
        destinations=tuple(
            replace(to, counted=True) if to.bucket in buckets else to for to in one.destinations
        ),
    )


async def failure_at(ledger: Ledger, key: str, destination: str) -> Failure | None:
    """Tell what is known of a failure of a record at a destination."""
    found = await stored(ledger, record(key))
    assert found is not None
    (told,) = (one.failure for one in found.destinations if one.bucket == destination)
    return told


async def test_a_failure_joins_the_record_which_is_due_at_once(ledger: Ledger) -> None:
    """D12: S3's reason is kept with the destination that it is about."""
    (one,) = await parked(ledger, record("k", to=("dst", "two"), next_look_at=NOW + 60))

    assert await ledger.note([gave_up("k", at=NOW - 1)], now=NOW) == [Noted.JOINED]

    told = Failure(noticed_at=NOW - 1, reason="DstPutObjNotPermitted")
    destinations = (Destination("dst", failure=told), Destination("two"))
    joined = replace(one, destinations=destinations, next_look_at=NOW, rev=2)
    assert await stored(ledger, one) == joined
    assert await ledger.due(ALL, now=NOW, limit=9) == [joined]


async def test_a_failure_told_again_or_late_changes_nothing(ledger: Ledger) -> None:
    """The newest one stands, in whatever order they come; a later one joins."""
    (one,) = await parked(ledger, record("k", next_look_at=NOW + 60))
    news = [
        gave_up("k", at=NOW - 2, reason="second"),
        gave_up("k", at=NOW - 2, reason="second"),
        gave_up("k", at=NOW - 3, reason="first"),
        gave_up("k", at=NOW - 1, reason="third"),
    ]

    results = await ledger.note(news, now=NOW)

    assert results == [Noted.JOINED, Noted.KNOWN, Noted.KNOWN, Noted.JOINED]
    assert await failure_at(ledger, "k", "dst") == Failure(noticed_at=NOW - 1, reason="third")
    found = await stored(ledger, one)
    assert found is not None
    assert found.rev == 3


@pytest.mark.parametrize("destinations", [("dst",), ()])
async def test_m3_a_failure_that_is_told_with_every_try_changes_nothing(
    ledger: Ledger, destinations: tuple[str, ...]
) -> None:
    """M3: later tries that fail likewise, or say less, tell nothing new of an open failure: it is due when it was."""
    to = {"to": destinations}
    (one,) = await parked(ledger, record("k", next_look_at=NOW + 60, **to))
    assert await ledger.note([gave_up("k", at=NOW)], now=NOW) == [Noted.JOINED]
    found = await stored(ledger, one)
    assert found is not None
    (looked,) = [replace(found, state=State.FAILED, failed_at=NOW, next_look_at=NOW + 3600)]
    assert await ledger.reschedule([looked]) == [Rescheduled.RESCHEDULED]
    looked = replace(looked, rev=looked.rev + 1)

    again = [gave_up("k", at=NOW + 1), gave_up("k", at=NOW + 2, reason="")]

    assert await ledger.note(again, now=NOW + 2) == [Noted.KNOWN] * 2
    assert await stored(ledger, one) == looked


async def test_m3_a_reason_that_is_told_after_the_failure_is_learned(ledger: Ledger) -> None:
    """M3: the same failure, so it is due when it was; another reason after that is another failure."""
    (one,) = await parked(ledger, record("k"))
    await ledger.note([gave_up("k", at=NOW, reason="")], now=NOW)
    found = await stored(ledger, one)
    assert found is not None
    await ledger.reschedule([replace(found, next_look_at=NOW + 60)])
    news = [gave_up("k", at=NOW - 1), gave_up("k", at=NOW - 1), gave_up("k", at=NOW + 1)]

    assert await ledger.note(news, now=NOW + 1) == [Noted.EXPLAINED, Noted.KNOWN, Noted.KNOWN]

    told = Failure(noticed_at=NOW, reason="DstPutObjNotPermitted")
    assert await failure_at(ledger, "k", "dst") == told
    assert await ledger.due(ALL, now=NOW + 1, limit=9) == []
    other = gave_up("k", at=NOW + 2, reason="other")
    assert await ledger.note([other], now=NOW + 2) == [Noted.JOINED]


async def test_m3_a_failure_after_a_repair_was_under_way_is_another_one(ledger: Ledger) -> None:
    """M3: seen pending in between, it failed anew, for whatever reason."""
    (one,) = await parked(ledger, record("k"))
    await ledger.note([gave_up("k", at=NOW)], now=NOW)
    found = await stored(ledger, one)
    assert found is not None
    await ledger.reschedule([replace(found, pending_seen_at=NOW + 5, next_look_at=NOW + 60)])
    news = [gave_up("k", at=NOW), gave_up("k", at=NOW + 4), gave_up("k", at=NOW + 6)]

    results = await ledger.note(news, now=NOW + 9)

    assert results == [Noted.KNOWN, Noted.KNOWN, Noted.JOINED]
    assert len(await ledger.due(ALL, now=NOW + 9, limit=9)) == 1


async def test_m3_a_deletion_that_is_told_again_hastens_nothing(ledger: Ledger) -> None:
    """M3: what is known of it made the record due once."""
    (one,) = await parked(ledger, record("k", next_look_at=NOW + 60))
    assert await ledger.note([deleted("k")], now=NOW) == [Noted.JOINED]
    found = await stored(ledger, one)
    assert found is not None
    await ledger.reschedule([replace(found, next_look_at=NOW + 90)])

    assert await ledger.note([deleted("k")], now=NOW + 1) == [Noted.KNOWN]

    assert await ledger.due(ALL, now=NOW + 1, limit=9) == []


async def test_a_failure_at_a_destination_that_nobody_knew_of_adds_it(ledger: Ledger) -> None:
    """
    S3 knows its rules better than anybody; the backlog counts the new way, too, and an early arrival there is known.
    """
    await ledger.park([record("k", written_at=120.0)])
    await ledger.note([replica("k", at=NOW - 5, bucket="two")], now=NOW)

    noted = await ledger.note([gave_up("k", at=NOW - 1, destination="two")], now=NOW)

    assert noted == [Noted.JOINED]
    found = await stored(ledger, record("k"))
    assert found is not None
    assert [one.bucket for one in found.destinations] == ["dst", "two"]
    assert [one.replicated_at for one in found.destinations] == [None, NOW - 5]
    assert await backlog(ledger) == {
        ("dst", 120.0): (1, 100, 0, 0),
        ("two", 120.0): (1, 100, 0, 0),
    }


async def test_a_failure_that_names_no_destination_is_about_the_only_open_one(
    ledger: Ledger,
) -> None:
    """Of several open ones it could be any: nothing is guessed."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    nowhere = gave_up("k", at=NOW - 1, destination="unknown")

    assert await ledger.note([nowhere], now=NOW) == [Noted.KNOWN]
    await counted_at(ledger, one, "dst")
    assert await ledger.note([nowhere], now=NOW) == [Noted.JOINED]

    assert await failure_at(ledger, "k", "two") is not None
    assert await failure_at(ledger, "k", "dst") is None


async def test_a_failure_where_an_arrival_is_counted_is_none(ledger: Ledger) -> None:
    """What was replicated there failed in nothing that is counted."""
    (one,) = await parked(ledger, record("k", to=("dst", "two"), next_look_at=NOW + 60))
    kept = await counted_at(ledger, one, "dst")

    assert await ledger.note([gave_up("k", at=NOW)], now=NOW) == [Noted.KNOWN]

    assert await stored(ledger, one) == kept


async def test_a_failure_of_which_no_record_is_there_is_settled_or_unknown(ledger: Ledger) -> None:
    """Settled, where its destination or its version was counted; else whoever asks has to find out where it belongs."""
    there, as_whole = record("there"), record("whole")
    await ledger.settle(
        "b1", [done(there), done(as_whole, whole(as_whole, Fate.IS_REPLICA))], now=NOW
    )
    await ledger.note([replica("half", at=NOW)], now=NOW)
    news = [
        gave_up("there", at=NOW),
        gave_up("there", at=NOW, destination="two"),
        gave_up("whole", at=NOW),
        gave_up("half", at=NOW),
        gave_up("nothing", at=NOW),
    ]

    results = await ledger.note(news, now=NOW)

    assert results == [
        Noted.SETTLED,
        Noted.UNKNOWN,
        Noted.SETTLED,
        Noted.UNKNOWN,
        Noted.UNKNOWN,
    ]
    assert await ledger.backlog() == []
    assert (await ledger.find("nothing", "v1")).early_facts == {}


async def test_a_failure_of_what_goes_nobody_knows_where_is_kept(ledger: Ledger) -> None:
    """A record without destinations remembers what was said, once, and joins it when somebody knows them."""
    await parked(ledger, record("k", to=(), next_look_at=NOW + 60))

    noted = await ledger.note([gave_up("k", at=NOW), threshold("k")], now=NOW)

    assert noted == [Noted.JOINED, Noted.EARLY]
    assert await ledger.note([gave_up("k", at=NOW)], now=NOW) == [Noted.KNOWN]
    assert len(await ledger.due(ALL, now=NOW, limit=9)) == 1
    await ledger.park([record("k")])
    told = Failure(noticed_at=NOW, reason="DstPutObjNotPermitted")
    assert await failure_at(ledger, "k", "dst") == told


# ---- note: thresholds, restarts, deletions ----


async def test_a_missed_threshold_is_kept_in_the_record(ledger: Ledger) -> None:
    """
    At its destination; it is no reason to look sooner. Whatever is told of thresholds is known when it is told again.
    """
    (one,) = await parked(ledger, record("k", to=("dst", "two"), next_look_at=NOW + 60))
    await ledger.settle("b1", [done(record("settled"))], now=NOW)
    news = [
        threshold("k", what=Threshold.NOT_TRACKED),
        threshold("k"),
        threshold("k"),
        threshold("k", destination="elsewhere"),
        threshold("settled"),
        threshold("nothing"),
    ]

    results = await ledger.note(news, now=NOW)

    assert results == [
        Noted.EARLY,
        Noted.JOINED,
        Noted.KNOWN,
        Noted.EARLY,
        Noted.EARLY,
        Noted.EARLY,
    ]
    assert await ledger.note(news, now=NOW + 60) == [Noted.KNOWN] * 6
    destinations = (Destination("dst", missed=True), Destination("two"))
    assert await stored(ledger, one) == replace(one, destinations=destinations, rev=2)


async def test_a_restart_reopens_a_failure_which_is_due_at_once(ledger: Ledger) -> None:
    """D12: it is pending again, listed as a failure no more, and what was said about it is over."""
    told = Failure(noticed_at=NOW - 10, reason="DstPutObjNotPermitted")
    failure = failed("k", at=NOW - 9, next_look_at=NOW + 60, written_at=120.0)
    (one,) = await parked(
        ledger, replace(failure, destinations=(Destination("dst", failure=told),))
    )
    assert await backlog(ledger) == {("dst", 120.0): (0, 0, 1, 100)}

    assert await ledger.note([restarted("k", at=NOW - 5)], now=NOW) == [Noted.JOINED]

    found = await stored(ledger, one)
    assert found is not None
    assert (found.state, found.failed_at, found.reopened_at) == (State.PENDING, None, NOW - 5)
    assert found.destinations == (Destination("dst"),)
    assert await ledger.due(ALL, now=NOW, limit=9) == [found]
    assert await ledger.failures() == ([], None)
    assert await ledger.failures(bucket="src") == ([], None)
    assert await backlog(ledger) == {("dst", 120.0): (1, 100, 0, 0)}


async def test_a_failure_found_since_the_restart_stands(ledger: Ledger) -> None:
    """Events come late: the retry may have failed as well by then."""
    (one,) = await parked(ledger, failed("k", at=NOW - 5, next_look_at=NOW + 60))

    assert await ledger.note([restarted("k", at=NOW - 5)], now=NOW) == [Noted.KNOWN]

    assert await stored(ledger, one) == one


async def test_a_failure_from_before_the_restart_tells_nothing(ledger: Ledger) -> None:
    """The notice came later than the event of the restart; one of the retry itself joins."""
    await ledger.park([failed("k", at=NOW - 9, next_look_at=NOW + 60)])
    await ledger.note([restarted("k", at=NOW - 5)], now=NOW - 4)
    before = await stored(ledger, record("k"))

    assert await ledger.note([gave_up("k", at=NOW - 5)], now=NOW) == [Noted.KNOWN]
    assert await stored(ledger, record("k")) == before
    assert await ledger.note([gave_up("k", at=NOW - 4)], now=NOW) == [Noted.JOINED]


async def test_what_failed_again_after_a_restart_is_listed_where_it_belongs_then(
    ledger: Ledger,
) -> None:
    """Once, by the time of its last failure, also where that is not the newest."""
    (one, *_) = await parked(ledger, failed("k", at=NOW), failed("l", at=NOW + 5))
    await ledger.note([restarted("k", at=NOW + 1)], now=NOW + 1)
    found = await stored(ledger, one)
    assert found is not None
    again = replace(found, state=State.FAILED, failed_at=NOW + 9, episode=2)
    settlement = Settlement(version=one.version, outcomes=(episode(one, 2),), rev=2, keep=again)

    await ledger.settle("b1", [settlement], now=NOW + 9)

    assert [one.version.key for one in await listed(ledger, limit=1)] == ["k", "l"]


async def test_a_deletion_makes_the_record_due_at_once(ledger: Ledger) -> None:
    """Whether it had replicated before, the look tells; the record only knows that somebody told of a deletion."""
    later, now = await parked(
        ledger, record("later", next_look_at=NOW + 60), failed("now", next_look_at=NOW)
    )

    results = await ledger.note([deleted("later"), deleted("now"), deleted("later")], now=NOW)

    assert results == [Noted.JOINED, Noted.JOINED, Noted.KNOWN]
    assert await stored(ledger, later) == replace(later, next_look_at=NOW, deleted=True, rev=2)
    assert await stored(ledger, now) == replace(now, deleted=True, rev=now.rev + 1)


async def test_restarts_and_deletions_of_what_is_counted_are_settled(ledger: Ledger) -> None:
    """Wherever it was counted. Of a bucket where nothing was written, or a version unheard of, nothing is known."""
    there, as_whole = record("there"), record("whole")
    await ledger.settle("b1", [done(there), done(as_whole, whole(as_whole))], now=NOW)
    await ledger.note([replica("half", at=NOW)], now=NOW)
    news = [
        deleted("there"),
        restarted("there", at=NOW),
        deleted("whole"),
        deleted("there", bucket="dst"),
        deleted("half"),
        restarted("nothing", at=NOW),
    ]

    results = await ledger.note(news, now=NOW)

    assert results == [Noted.SETTLED] * 3 + [Noted.UNKNOWN] * 2 + [Noted.EARLY]
    assert (await ledger.find("nothing", "v1")).records == {}


async def test_t11_sums_of_the_largest_objects_are_exact(ledger: Ledger) -> None:
    """
    T11: sizes at and beyond S3's own limit add up to what no float holds exactly, and come down to nothing, in any order.
    """
    chance = random.Random(11)
    sizes = [chance.choice([LARGEST_BYTES, 2**53]) - chance.randrange(3) for _ in range(12)]
    records = [replace(record(f"k{number}"), size=size) for number, size in enumerate(sizes)]
    await ledger.park(records)
    assert sum(sizes) > 2**53
    assert list((await backlog(ledger)).values()) == [(12, sum(sizes), 0, 0)]

    chance.shuffle(records)
    for start in range(0, 12, 4):
        some = [done(one, whole(one)) for one in records[start : start + 4]]
        await ledger.settle(f"b{start}", some, now=NOW)
        left = records[start + 4 :]
        amounts = (len(left), sum(one.size or 0 for one in left), 0, 0)
        assert list((await backlog(ledger)).values()) == ([amounts] if left else [])


async def test_t10_a_restart_of_an_unknown_version_is_kept(ledger: Ledger) -> None:
    """
    T10: the earliest one, beside its replica's early fact in either order, and for as long; a record that comes ignores it.
    """
    slots = {"b:src": NOW - 9, "r:dst": NOW - 5}
    told = [restarted("first", at=NOW - 9), replica("first", at=NOW - 5)]
    told += [replica("last", at=NOW - 5), restarted("last", at=NOW - 9)]

    assert await ledger.note(told, now=NOW) == [Noted.EARLY] * 4
    again = [restarted("first", at=NOW - 9), restarted("first", at=NOW), replica("last", at=NOW)]
    assert await ledger.note(again, now=NOW) == [Noted.KNOWN] * 3

    for key in ("first", "last"):
        trail = await ledger.find(key, "v1")
        assert {slot: early.replicated_at for slot, early in trail.early_facts.items()} == slots
        assert (trail.records, trail.marks) == ({}, {})
    new = record("first")
    assert await ledger.park([new]) == [Parked.PARKED]
    assert [one.replicated_at for one in (await stored(ledger, new)).destinations] == [NOW - 5]


async def test_t10_a_restart_of_what_was_counted_elsewhere_is_kept_too(ledger: Ledger) -> None:
    """T10: a version that was counted at one destination may be on its way to another one now."""
    await ledger.settle("b1", [done(record("k"))], now=NOW)

    assert await ledger.note([restarted("k", at=NOW)], now=NOW) == [Noted.SETTLED]
    assert list((await ledger.find("k", "v1")).early_facts) == ["b:src"]


async def test_news_of_one_version_take_effect_in_the_order_told(ledger: Ledger) -> None:
    """Whatever kinds they are, in one batch: each finds what the one before it left."""
    await ledger.park([failed("k", at=NOW - 20, to=("dst", "two"), next_look_at=NOW + 60)])
    news = [
        restarted("k", at=NOW - 9),
        gave_up("k", at=NOW - 10),
        gave_up("k", at=NOW - 8),
        replica("k", at=NOW - 7),
        threshold("k", destination="two"),
        replica("k", at=NOW - 6, bucket="two"),
        deleted("k"),
        restarted("k", at=NOW - 9),
    ]

    results = await ledger.note(news, now=NOW)

    assert results == [
        Noted.JOINED,
        Noted.KNOWN,
        *[Noted.JOINED] * 5,
        Noted.KNOWN,
    ]
    found = await stored(ledger, record("k"))
    assert found is not None
    assert found.arrived
    assert (found.state, found.rev, found.next_look_at) == (State.PENDING, 7, NOW)


# ---- several destinations, counted one by one ----


async def test_the_backlog_of_a_counted_route_falls_and_the_others_stay(ledger: Ledger) -> None:
    """D15: each destination by itself, until none is left."""
    (one,) = await parked(ledger, record("k", to=("dst", "three", "two"), written_at=120.0))

    kept = await counted_at(ledger, one, "dst")
    assert sorted(await backlog(ledger)) == [("three", 120.0), ("two", 120.0)]
    kept = await counted_at(ledger, kept, "three")
    assert await backlog(ledger) == {("two", 120.0): (1, 100, 0, 0)}
    last = replace(done(kept, arrived(kept, "two")), rev=kept.rev)
    assert await ledger.settle("b3", [last], now=NOW) == [[Settled.COUNTED]]

    assert await ledger.backlog() == []
    assert await stored(ledger, one) is None
    assert await ledger.park([one]) == [Parked.SETTLED]
    assert {route.destination: one.completed for route, one in (await totals(ledger)).items()} == {
        "dst": 1,
        "three": 1,
        "two": 1,
    }


async def test_a_partial_settlement_without_a_record_is_kept_and_found_again(
    ledger: Ledger,
) -> None:
    """Invariant 5: repeated, it recognises its own, whatever has become of the record since."""
    one = record("k", to=("dst", "two"))
    settlement = Settlement(
        version=one.version, outcomes=(arrived(one),), rev=0, keep=with_counted(one, "dst")
    )
    first = await ledger.settle("b1", [settlement], now=NOW)
    better = record("k", to=("dst", "two"), written_at=NOW - 4, channel=Channel.NOTIFICATION)
    await ledger.park([better])
    since = await stored(ledger, one)

    assert await ledger.settle("b1", [settlement], now=NOW) == first == [[Settled.COUNTED]]
    assert await stored(ledger, one) == since
    await ledger.settle("b2", [done(one, arrived(one, "two"))], now=NOW)
    assert await ledger.settle("b1", [settlement], now=NOW) == first

    assert await stored(ledger, one) is None
    assert await ledger.backlog() == []
    assert (await totals(ledger))[Route("src", "dst")].completed == 1


async def test_a_repeated_batch_has_nothing_to_tell_the_record_that_it_kept(
    ledger: Ledger,
) -> None:
    """
    Invariant 5: what it kept was retried since; its old failure does not come back, nor the old time of the next look.
    """
    told = Failure(noticed_at=NOW - 1, reason="DstPutObjNotPermitted")
    one = replace(failed("k", at=NOW), destinations=(Destination("dst", failure=told),))
    opening = [Settlement(version=one.version, outcomes=(episode(one),), rev=0, keep=one)]
    await ledger.settle("b1", opening, now=NOW)
    (found,) = await ledger.due(ALL, now=NOW, limit=9)
    await ledger.reschedule([replace(found, next_look_at=NOW + 900)])
    before = await stored(ledger, one)

    assert await ledger.settle("b1", opening, now=NOW) == [[Settled.COUNTED]]

    assert await stored(ledger, one) == before


async def test_two_who_count_other_destinations_of_one_record_count_each_once(
    ledger: Ledger,
) -> None:
    """
    Invariant 2: the second one's record is not stored, and its outcome counts; another look finds that nothing is left.
    """
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    kept = await counted_at(ledger, one, "dst")
    other = Settlement(
        version=one.version,
        outcomes=(arrived(one, "two"),),
        rev=1,
        keep=with_counted(one, "two"),
    )

    assert await ledger.settle("b2", [other], now=NOW) == [[Settled.COUNTED]]
    assert await stored(ledger, one) == kept
    last = replace(done(kept, arrived(kept, "two")), rev=kept.rev)
    assert await ledger.settle("b3", [last], now=NOW) == [[Settled.DUPLICATE]]

    assert await ledger.backlog() == []
    assert (await totals(ledger))[Route("src", "two")].completed == 1


# ---- routes, deltas, windows ----


async def test_routes_are_remembered_once_and_told_sorted(ledger: Ledger) -> None:
    """However often they are remembered."""
    await ledger.remember_routes([Route("b", "x"), Route("a", "y")])
    await ledger.remember_routes([Route("a", "x"), Route("b", "x")])
    await ledger.remember_routes([])

    assert await ledger.known_routes() == [Route("a", "x"), Route("a", "y"), Route("b", "x")]


async def test_contributions_are_told_oldest_first(ledger: Ledger) -> None:
    """In the order in which they were settled."""
    for number in range(12):
        await ledger.settle(f"b{number}", [done(record(f"k{number}"))], now=NOW + number)

    told = await ledger.deltas()

    assert [one.settled_at for one in told] == [NOW + number for number in range(12)]
    assert len({one.id for one in told}) == 12


async def test_a_frozen_window_takes_its_contributions_along(ledger: Ledger) -> None:
    """Once frozen they are told no more; the window is."""
    lease = await holding(ledger)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]

    await ledger.freeze(window(NOW, b"one", b"two", deltas=taken), lease=lease)

    assert await ledger.deltas() == []
    (frozen,) = await ledger.frozen()
    assert (frozen.starts_at, frozen.parts) == (NOW, (b"one", b"two"))


async def test_what_is_settled_while_a_window_is_made_waits_for_the_next(ledger: Ledger) -> None:
    """D31: only what the window holds is dropped; what came in between is still there."""
    lease = await holding(ledger)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]
    await ledger.settle("b2", [done(record("l"))], now=NOW)

    await ledger.freeze(window(NOW, b"one", deltas=taken), lease=lease)

    assert (await totals(ledger))[Route("src", "dst")].completed == 1
    assert not {one.id for one in await ledger.deltas()} & set(taken)


async def test_a_batch_repeated_after_its_window_was_frozen_counts_nothing(ledger: Ledger) -> None:
    """Invariant 5: the batch's delta does not come back."""
    lease = await holding(ledger)
    batch = [done(record("k"))]
    await ledger.settle("b1", batch, now=NOW)
    taken = [one.id for one in await ledger.deltas()]
    await ledger.freeze(window(NOW, b"one", deltas=taken), lease=lease)

    assert await ledger.settle("b1", batch, now=NOW) == [[Settled.COUNTED]]

    assert await ledger.deltas() == []


async def test_freezing_a_start_again_changes_nothing(ledger: Ledger) -> None:
    """Invariant 5: whether its answer was lost or another one was made of it, the first window stands."""
    lease = await holding(ledger)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]
    await ledger.freeze(window(NOW, b"one"), lease=lease)

    await ledger.freeze(window(NOW, b"two", deltas=taken), lease=lease)
    await ledger.forget(NOW, 0, lease=lease)
    await ledger.freeze(window(NOW, b"three", deltas=taken), lease=lease)

    assert await ledger.frozen() == []
    assert [one.id for one in await ledger.deltas()] == taken


async def test_nobody_freezes_or_forgets_without_the_lease_of_shard_0(ledger: Ledger) -> None:
    """A publisher that was replaced changes nothing, and learns of it."""
    old = await holding(ledger)
    await ledger.freeze(window(NOW, b"one"), lease=old)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]
    other = await holding(ledger, shard=1)
    released = await ledger.claim(old, owner="you")
    assert released is not None
    await ledger.release([released])

    for lease in (old, other, released):
        with pytest.raises(LeaseLostError):
            await ledger.freeze(window(NOW + 300, b"x", deltas=taken), lease=lease)
        with pytest.raises(LeaseLostError):
            await ledger.forget(NOW, 0, lease=lease)

    assert [one.starts_at for one in await ledger.frozen()] == [NOW]
    assert await ledger.last_frozen() == NOW
    assert [one.id for one in await ledger.deltas()] == taken


async def test_a_renewed_lease_still_freezes(ledger: Ledger) -> None:
    """The epoch counts, not the beat."""
    lease = await holding(ledger)
    await ledger.renew([lease])

    await ledger.freeze(window(NOW, b"one"), lease=lease)

    assert len(await ledger.frozen()) == 1


async def test_frozen_windows_are_told_oldest_first_and_no_more_than_asked(ledger: Ledger) -> None:
    """Whatever the order in which they were frozen."""
    lease = await holding(ledger)
    for starts_at in (300.0, 100.0, 200.0):
        await ledger.freeze(window(starts_at, b"x", b"y"), lease=lease)

    assert [one.starts_at for one in await ledger.frozen()] == [100.0, 200.0, 300.0]
    first = await ledger.frozen(limit=2)
    assert [(one.starts_at, one.parts) for one in first] == [
        (100.0, (b"x", b"y")),
        (200.0, (b"x", b"y")),
    ]


async def test_the_newest_start_is_remembered_for_ever(ledger: Ledger) -> None:
    """Also when everything was sent, and when an older window is frozen later."""
    assert await ledger.last_frozen() is None
    lease = await holding(ledger)
    await ledger.freeze(window(300.0, b"x"), lease=lease)
    await ledger.freeze(window(100.0, b"x"), lease=lease)
    await ledger.forget(300.0, 0, lease=lease)
    await ledger.forget(100.0, 0, lease=lease)

    assert await ledger.frozen() == []
    assert await ledger.last_frozen() == 300.0


async def test_parts_are_forgotten_one_by_one_and_the_window_with_the_last(ledger: Ledger) -> None:
    """A forgotten part stays as nothing, so that the others keep their numbers."""
    lease = await holding(ledger)
    await ledger.freeze(window(NOW, b"one", b"two", b"three"), lease=lease)

    await ledger.forget(NOW, 1, lease=lease)
    await ledger.forget(NOW, 1, lease=lease)
    (frozen,) = await ledger.frozen()
    assert frozen.parts == (b"one", b"", b"three")

    await ledger.forget(NOW, 0, lease=lease)
    await ledger.forget(NOW, 2, lease=lease)
    await ledger.forget(NOW, 2, lease=lease)
    await ledger.forget(NOW + 1, 0, lease=lease)
    assert await ledger.frozen() == []


async def test_a_window_with_nothing_to_send_is_sent_at_once(ledger: Ledger) -> None:
    """Its deltas are taken and its start is remembered."""
    lease = await holding(ledger)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]

    await ledger.freeze(window(NOW, deltas=taken), lease=lease)

    assert await ledger.frozen() == []
    assert await ledger.deltas() == []
    assert await ledger.last_frozen() == NOW


# ---- backlog ----


async def test_backlog_tells_objects_and_bytes_by_route_and_slot(ledger: Ledger) -> None:
    """Each record counts once for each of its destinations, in the slot in which it was written."""
    slot = NOW // BACKLOG_SLOT_SECONDS * BACKLOG_SLOT_SECONDS
    await ledger.park(
        [
            record("a", written_at=slot, size=1),
            record("b", written_at=slot + 59.9, size=10, to=("dst", "two")),
            record("c", written_at=slot - 0.1, size=None),
            failed("d", written_at=slot, size=1000),
        ]
    )

    assert await backlog(ledger) == {
        ("dst", slot): (2, 11, 1, 1000),
        ("two", slot): (1, 10, 0, 0),
        ("dst", slot - BACKLOG_SLOT_SECONDS): (1, 0, 0, 0),
    }


async def test_backlog_of_unknown_destinations_stands_under_the_unknown_route(
    ledger: Ledger,
) -> None:
    """Invariant 3: what is parked because nothing could be read is still pending somewhere."""
    await ledger.park([record("k", to=(), written_at=120.0)])

    route = Route("src", "unknown")
    assert await ledger.backlog() == [
        BacklogSlot(route=route, written_from=120.0, pending_objects=1, pending_bytes=100)
    ]


async def test_backlog_follows_sizes_and_destinations_that_are_learned_later(
    ledger: Ledger,
) -> None:
    """A size where there was none, destinations where nothing could be read."""
    (one,) = await parked(ledger, record("k", to=(), size=None, written_at=120.0))
    assert await backlog(ledger) == {("unknown", 120.0): (1, 0, 0, 0)}

    changed = replace(one, size=5, destinations=(Destination("dst"), Destination("two")))
    await ledger.reschedule([changed])

    assert await backlog(ledger) == {
        ("dst", 120.0): (1, 5, 0, 0),
        ("two", 120.0): (1, 5, 0, 0),
    }


async def test_backlog_leaves_out_slots_that_became_empty(ledger: Ledger) -> None:
    """Also when the objects in them were of no size."""
    one, empty = await parked(ledger, record("k"), record("empty", size=0, written_at=120.0))
    assert len(await ledger.backlog()) == 2

    await ledger.settle("b1", [done(one), done(empty)], now=NOW)

    assert await ledger.backlog() == []


async def test_backlog_counts_two_rules_for_one_bucket_once(ledger: Ledger) -> None:
    """A route is a pair of buckets, whatever rules make it."""
    destinations = (Destination("dst", "rule1"), Destination("dst", "rule2"))
    (one,) = await parked(ledger, replace(record("k"), destinations=destinations))
    assert list((await backlog(ledger)).values()) == [(1, 100, 0, 0)]

    await ledger.settle("b1", [done(one)], now=NOW)

    assert await ledger.backlog() == []


async def test_an_open_failure_stands_where_it_is_proved_and_waits_elsewhere(
    ledger: Ledger,
) -> None:
    """Nowhere, as long as nobody told where it failed: then it stands on the way to the unknown destination."""
    (one,) = await parked(ledger, failed("k", to=("dst", "two"), written_at=120.0))
    waiting, failing = (1, 100, 0, 0), (0, 0, 1, 100)
    assert await backlog(ledger) == {
        ("unknown", 120.0): failing,
        ("dst", 120.0): waiting,
        ("two", 120.0): waiting,
    }

    await ledger.note([gave_up("k", at=NOW, destination="two")], now=NOW)
    assert await backlog(ledger) == {("two", 120.0): failing, ("dst", 120.0): waiting}

    await ledger.settle("b1", [done(one, arrived(one), arrived(one, "two"))], now=NOW)
    assert await ledger.backlog() == []


async def test_the_last_open_destination_of_a_failure_is_where_it_failed(ledger: Ledger) -> None:
    """No notice is needed to know that."""
    (one,) = await parked(ledger, failed("k", to=("dst", "two"), written_at=120.0))

    await counted_at(ledger, one, "dst")

    assert await backlog(ledger) == {("two", 120.0): (0, 0, 1, 100)}
    assert [found.version for found in await listed(ledger, limit=9, destination="two")] == [
        one.version
    ]


# ---- failures and find ----


async def test_failures_are_listed_newest_first_a_page_at_a_time(ledger: Ledger) -> None:
    """All of them, each once, until there is no next page; none that is only pending."""
    await ledger.park(
        [
            *(
                failed(f"k{number}", at=NOW + number % 4, bucket=f"s{number % 3}")
                for number in range(17)
            ),
            record("pending"),
        ]
    )

    pages: list[Sequence[Record]] = []
    after: str | None = None
    while not pages or after is not None:
        page, after = await ledger.failures(after=after, limit=5)
        pages.append(page)

    assert [len(page) for page in pages] == [5, 5, 5, 2]
    listed = [one for page in pages for one in page]
    assert len({one.version for one in listed}) == 17
    times = [one.failed_at for one in listed]
    assert times == sorted(times, key=lambda at: -(at or 0))


async def test_failures_of_one_bucket_are_paged_alike(ledger: Ledger) -> None:
    """A full last page is known to be the last."""
    for number in range(8):
        await ledger.park([failed(f"k{number}", at=NOW + number, bucket=f"s{number % 2}")])

    first, after = await ledger.failures(bucket="s1", limit=2)
    second, end = await ledger.failures(bucket="s1", after=after, limit=2)

    assert [one.version.key for one in (*first, *second)] == ["k7", "k5", "k3", "k1"]
    assert end is None
    assert await ledger.failures(bucket="nobody") == ([], None)


async def test_paging_is_not_confused_by_what_comes_and_goes(ledger: Ledger) -> None:
    """What was repaired or failed since the last page moves nobody else to another one."""
    records = await parked(ledger, *(failed(f"k{at}", at=NOW + at) for at in range(6)))
    _, after = await ledger.failures(limit=3)

    await ledger.settle("b1", [done(records[3])], now=NOW)
    await ledger.park([failed("new", at=NOW + 99)])
    page, _ = await ledger.failures(after=after, limit=9)

    assert [one.version.key for one in page] == ["k2", "k1", "k0"]


async def test_a_failure_without_a_time_is_listed_by_when_it_was_written(ledger: Ledger) -> None:
    """Such a record is listed like the others."""
    odd = replace(failed("odd", written_at=NOW + 5), failed_at=None)
    await ledger.park([failed("before", at=NOW), odd, failed("after", at=NOW + 9)])

    page, _ = await ledger.failures()

    assert [one.version.key for one in page] == ["after", "odd", "before"]


@pytest.mark.parametrize("after", ["", "x", "ä", "AAAA", "kw", "gaNhYmM" * 50, "wQ"])
async def test_a_page_that_was_never_told_is_refused(ledger: Ledger, after: str) -> None:
    """People can type anything into an address bar."""
    with pytest.raises(ValueError, match="page of failures"):
        await ledger.failures(after=after)


async def test_a_closed_failure_is_listed_no_more(ledger: Ledger) -> None:
    """Settled, it is gone from all lists."""
    (one,) = await parked(ledger, failed("k"))
    await ledger.settle("b1", [done(one)], now=NOW)

    assert await ledger.failures() == ([], None)
    assert await ledger.failures(bucket="src") == ([], None)


async def test_find_tells_everything_of_a_key_and_version(ledger: Ledger) -> None:
    """Records, marks and early facts in whatever bucket, and nothing of other versions."""
    one, other = await parked(
        ledger, record("k", to=("dst", "two")), record("k", bucket="src2", to=("two",))
    )
    await ledger.park([replace(record("k"), version=version("k", version_id="v2"))])
    keep = Settlement(version=one.version, outcomes=(arrived(one),), keep=one)
    await ledger.settle("b1", [keep], now=NOW)
    await ledger.note([replica("k", at=NOW, bucket="three")], now=NOW)

    trail = await ledger.find("k", "v1")

    assert trail.records == {"src": replace(one, rev=2), "src2": other}
    assert [(slot, mark.fate) for slot, mark in trail.marks.items()] == [("r:dst", Fate.COMPLETED)]
    assert [(slot, early.replicated_at) for slot, early in trail.early_facts.items()] == [
        ("r:three", NOW)
    ]


async def test_find_knows_nothing_of_what_was_never_heard_of(ledger: Ledger) -> None:
    """An empty trail is an answer."""
    trail = await ledger.find("nobody", "v1")

    assert trail.empty


# ---- leases ----


async def test_every_shard_has_a_lease_that_nobody_holds_at_first(ledger: Ledger) -> None:
    """By shard, as many as it was made with."""
    assert ledger.shards == SHARDS
    assert await ledger.leases() == [
        Lease(shard=shard, owner="", epoch=0, beat=0) for shard in range(SHARDS)
    ]


async def test_a_claim_makes_the_next_epoch(ledger: Ledger) -> None:
    """Of that shard alone."""
    free = await ledger.leases()

    mine = await ledger.claim(free[2], owner="me")

    assert mine is not None
    assert (mine.shard, mine.owner, mine.epoch) == (2, "me", 1)
    assert await ledger.leases() == [free[0], free[1], mine, free[3]]


async def test_only_one_of_two_claims_succeeds(ledger: Ledger) -> None:
    """The other one learns that the lease changed."""
    free = (await ledger.leases())[0]
    await ledger.claim(free, owner="me")

    assert await ledger.claim(free, owner="you") is None
    assert (await ledger.leases())[0].owner == "me"


async def test_a_claim_that_is_repeated_finds_itself(ledger: Ledger) -> None:
    """Invariant 5: whoever lost the answer gets it again, and not another epoch."""
    free = (await ledger.leases())[0]
    mine = await ledger.claim(free, owner="me")

    assert await ledger.claim(free, owner="me") == mine


async def test_a_lease_renewed_since_it_was_seen_is_not_taken_over(ledger: Ledger) -> None:
    """Its holder is alive: the beat changed."""
    mine = await holding(ledger)
    (renewed,) = await ledger.renew([mine])

    assert renewed.beat != mine.beat
    assert await ledger.claim(mine, owner="you") is None
    taken = await ledger.claim(renewed, owner="you")
    assert taken is not None
    assert (taken.owner, taken.epoch) == ("you", mine.epoch + 1)


async def test_renewing_tells_what_is_still_held(ledger: Ledger) -> None:
    """As it is now, with another beat; what somebody else took or nobody holds is left out."""
    kept, lost, released = [await holding(ledger, shard) for shard in (0, 1, 2)]
    await ledger.claim(lost, owner="you")
    await ledger.release([released])
    before = await ledger.leases()

    renewed = await ledger.renew([kept, lost, released, before[3]])

    (still,) = renewed
    assert still.beat != kept.beat
    assert replace(still, beat=kept.beat) == kept
    assert await ledger.leases() == [still, *before[1:]]
    assert await ledger.renew(renewed) != renewed


async def test_releasing_keeps_the_epoch_and_leaves_no_owner(ledger: Ledger) -> None:
    """The next holder gets a new epoch all the same."""
    mine = await holding(ledger)
    await ledger.release([mine])

    (lease, *_) = await ledger.leases()
    assert (lease.owner, lease.epoch) == ("", mine.epoch)
    taken = await ledger.claim(lease, owner="me")
    assert taken is not None
    assert taken.epoch == mine.epoch + 1


async def test_releasing_what_somebody_else_holds_changes_nothing(ledger: Ledger) -> None:
    """Only the holder's epoch can let go."""
    mine = await holding(ledger)
    await ledger.claim(mine, owner="you")
    before = await ledger.leases()

    await ledger.release([mine])

    assert await ledger.leases() == before


# ---- upkeep ----


async def swept(ledger: Ledger, *, now: float) -> int:
    """Let time pass, and sweep until nothing is left to drop."""
    ledger._trails._clock.time = now  # type: ignore[attr-defined]
    total = 0
    while dropped := await ledger.sweep(now=now):
        total += dropped
    return total


async def test_marks_and_halves_are_kept_for_the_retention(ledger: Ledger) -> None:
    """D25: nothing is dropped a moment too early, at whatever time of the day it was written."""
    for hour in range(0, 48, 5):
        at = NOW + hour * 3600
        one, other = record(f"k{hour}"), record(f"l{hour}")
        await ledger.settle(f"b{hour}", [done(one)], now=at)
        await ledger.note([replica(f"l{hour}", at=NOW)], now=at)

        assert None not in await ledger.seen([x.replica_mark("dst") for x in (one, other)])

    for hour in range(0, 48, 5):
        await swept(ledger, now=NOW + hour * 3600 + RETENTION - 1)
        ids = [record(f"{name}{hour}").replica_mark("dst") for name in "kl"]
        assert None not in await ledger.seen(ids)
        assert await ledger.settle("again", [done(record(f"k{hour}"))], now=NOW) == [
            [Settled.DUPLICATE]
        ]


async def test_what_expires_between_being_found_due_and_decided_on_is_forgotten(
    ledger: Ledger,
) -> None:
    """D26: a mark beside a record proves nothing any more, whenever the record was read."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    counted = Settlement(version=one.version, outcomes=(arrived(one, "dst"),), rev=1, keep=one)
    assert await ledger.settle("b1", [counted], now=NOW) == [[Settled.COUNTED]]
    assert len(await ledger.due(ALL, now=LATE, limit=9)) == 1

    await swept(ledger, now=LATE)

    assert await ledger.settle("b2", [done(one)], now=LATE) == [[Settled.COUNTED]]


async def test_marks_and_halves_past_the_retention_are_dropped(ledger: Ledger) -> None:
    """D26: what expires does go, and the ledger does not grow without end."""
    ids = []
    for day in range(3):
        records = [record(f"k{day}.{number}") for number in range(50)]
        ids += [one.replica_mark("dst") for one in records]
        await ledger.settle(f"b{day}", [done(one) for one in records], now=NOW - day * DAY)
        await ledger.note([replica(f"l{day}", at=NOW)], now=NOW - day * DAY)
        ids.append(record(f"l{day}").replica_mark("dst"))

    assert await swept(ledger, now=LATE) == len(ids)

    assert set(await ledger.seen(ids)) == {None}
    assert await ledger.sweep(now=LATE) == 0


async def test_records_are_never_swept_and_leave_nothing_for_ever(ledger: Ledger) -> None:
    """
    D27: pending and failed ones stay until their fate is settled, however long; then their marks go like all others.
    """
    pending, failure = await parked(ledger, record("pending"), failed("failure"))
    contributed = await totals(ledger)

    await swept(ledger, now=LATE)
    due = await ledger.due(ALL, now=LATE, limit=9)
    assert sorted(due, key=lambda one: one.version, reverse=True) == [pending, failure]
    assert await totals(ledger) == contributed

    await ledger.settle("b1", [done(pending), done(failure)], now=LATE)
    assert await swept(ledger, now=LATE + RETENTION + 2 * DAY) == 2
    assert (await ledger.find("pending", "v1")).marks == {}
    assert (await ledger.find("failure", "v1")).marks == {}


async def test_a_half_that_became_a_mark_is_kept_as_long_as_the_mark(ledger: Ledger) -> None:
    """The older entry's end does not take the newer one along."""
    one = record("k")
    await ledger.note([replica("k", at=NOW)], now=NOW)
    later = NOW + RETENTION / 2
    await ledger.settle("b1", [done(one)], now=later)

    await swept(ledger, now=later + RETENTION - 1)

    (mark,) = await ledger.seen([one.replica_mark("dst")])
    assert isinstance(mark, Mark)


async def test_sweeping_leaves_contributions_and_windows_alone(ledger: Ledger) -> None:
    """What is not reported yet waits, however long."""
    lease = await holding(ledger)
    await ledger.freeze(window(NOW, b"x"), lease=lease)
    await ledger.settle("b1", [done(record("k"))], now=NOW)

    await swept(ledger, now=LATE)

    assert (await totals(ledger))[Route("src", "dst")].completed == 1
    assert len(await ledger.frozen()) == 1


# ---- restarts ----


async def everything(ledger: Ledger) -> list[object]:
    """Tell all that a ledger can tell, but for leases."""
    trails = [await ledger.find(key, "v1") for key in ("parked", "settled", "half", "failed")]
    return [
        *trails,
        await ledger.due(ALL, now=LATE, limit=99),
        await ledger.failures(),
        await backlog(ledger),
        await ledger.deltas(),
        await ledger.frozen(),
        await ledger.last_frozen(),
        await ledger.known_routes(),
        await ledger.members(),
    ]


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_all_of_it_is_there_after_a_restart(backend: Backend) -> None:
    """Invariants 1 and 5: nothing that was told as done depends on the process."""
    ledger = await backend.open()
    lease = await holding(ledger)
    await ledger.park([record("parked"), failed("failed")])
    await ledger.settle("b1", [done(record("settled"))], now=NOW)
    await ledger.note([replica("half", at=NOW)], now=NOW)
    await ledger.remember_routes([Route("src", "dst")])
    await ledger.announce(member("me"))
    await ledger.freeze(window(NOW, b"one", b"two"), lease=lease)
    before = await everything(ledger)
    await ledger.close()

    ledger = await backend.open()
    try:
        assert await everything(ledger) == before
        assert ledger.shards == SHARDS
    finally:
        await ledger.close()


@pytest.mark.parametrize("backend", DURABLE, indirect=True)
async def test_leases_found_at_opening_have_lapsed_where_only_one_can_open(
    backend: Backend,
) -> None:
    """Whoever held them is gone; the next holder's epoch tells them apart."""
    ledger = await backend.open()
    mine = await holding(ledger)
    lapses = ledger.exclusive
    await ledger.close()

    ledger = await backend.open()
    try:
        (found, *_) = await ledger.leases()
        assert (found.owner, found.epoch) == ("" if lapses else "me", mine.epoch)
    finally:
        await ledger.close()


# ---- the daemons among themselves ----


def member(owner: str, *, at: float = NOW, held_since: float | None = None) -> Member:
    """Make what a daemon says about itself."""
    return Member(owner=owner, announced_at=at, held_since=held_since, delay=2.5)


async def test_every_daemon_has_one_presence_told_by_owner(ledger: Ledger) -> None:
    """The newest instead of the last one."""
    assert list(await ledger.members()) == []
    await ledger.announce(member("you"))
    await ledger.announce(member("me", held_since=NOW - 60))
    await ledger.announce(member("you", at=NOW + 10, held_since=NOW - 1.25))

    assert list(await ledger.members()) == [
        member("me", held_since=NOW - 60),
        member("you", at=NOW + 10, held_since=NOW - 1.25),
    ]


async def test_a_presence_is_dismissed_if_it_still_is_this_one(ledger: Ledger) -> None:
    """Whoever takes a daemon for dead, and errs, takes away nothing."""
    mine, yours = member("me"), member("you")
    await ledger.announce(mine)
    await ledger.announce(yours)
    newer = member("you", at=NOW + 10)
    await ledger.announce(newer)

    for one in (mine, mine, yours, member("nobody")):
        await ledger.dismiss(one)

    assert list(await ledger.members()) == [newer]


async def test_daemons_that_announce_themselves_side_by_side_do_not_harm_each_other(
    ledger: Ledger,
) -> None:
    """Also while somebody dismisses one of them."""
    many = [member(f"daemon {number:02}") for number in range(20)]
    await ledger.announce(many[0])

    await asyncio.gather(
        *(ledger.announce(one) for one in many[1:]), ledger.dismiss(many[0]), ledger.members()
    )

    assert list(await ledger.members()) == many[1:]


# ---- how to ask ----


async def test_a_ledger_does_as_much_at_once_as_its_pace_says(ledger: Ledger) -> None:
    """Full calls, as many side by side as there are lanes: each item gets its answer."""
    pace = ledger.pace
    assert pace.size >= 1
    assert pace.lanes >= 1
    assert pace.linger >= 0
    calls = [[record(f"k{lane}.{at}") for at in range(pace.size)] for lane in range(pace.lanes)]

    parked_all = await asyncio.gather(*(ledger.park(call) for call in calls))
    settled_all = await asyncio.gather(
        *(
            ledger.settle(f"b{lane}", [done(one) for one in call], now=NOW)
            for lane, call in enumerate(calls)
        )
    )

    assert parked_all == [[Parked.PARKED] * pace.size] * pace.lanes
    assert settled_all == [[[Settled.COUNTED]] * pace.size] * pace.lanes
    assert (await totals(ledger))[Route("src", "dst")].completed == pace.size * pace.lanes
    assert await ledger.backlog() == []


# ---- failures by route ----


async def listed(ledger: Ledger, *, limit: int, **wanted: str) -> list[Record]:
    """Walk through all pages of failures."""
    found: list[Record] = []
    after: str | None = None
    while True:
        page, after = await ledger.failures(after=after, limit=limit, **wanted)
        assert len(page) <= limit
        found += page
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_failures_of_a_route_are_listed_each_once_over_all_pages(
    ledger: Ledger, limit: int
) -> None:
    """By destination, by source, by both: newest first, whatever lies between them and however small the pages are."""
    ways = [("dst",), ("two",), ("dst", "two"), ("three",)]
    told = Failure(noticed_at=NOW)
    records = [
        replace(
            failed(f"k{at}", at=NOW + at, bucket=f"s{at % 2}"),
            destinations=tuple(Destination(to, failure=told) for to in ways[at % 4]),
        )
        for at in range(16)
    ]
    await ledger.park([*records, record("pending", to=("two",))])

    def expected(destination: str, source: str | None = None) -> list[str]:
        return [
            one.version.key
            for one in reversed(records)
            if destination in [to.bucket for to in one.destinations]
            and source in (None, one.version.bucket)
        ]

    for destination in ("dst", "two", "three", "nobody"):
        found = await listed(ledger, limit=limit, destination=destination)
        assert [one.version.key for one in found] == expected(destination)
        of_one = await listed(ledger, limit=limit, destination=destination, bucket="s1")
        assert [one.version.key for one in of_one] == expected(destination, "s1")


async def test_a_page_of_a_route_may_be_empty_and_not_be_the_last(ledger: Ledger) -> None:
    """Whoever walks the pages goes on until there is no next one, and misses nobody."""
    newer = [failed(f"n{at}", at=NOW + 100 + at, to=("other",)) for at in range(20)]
    await ledger.park([*newer, failed("rare", at=NOW, to=("dst",))])

    found = await listed(ledger, limit=2, destination="dst")

    assert [one.version.key for one in found] == ["rare"]


async def test_failures_whose_destinations_are_unknown_are_listed_under_the_unknown_one(
    ledger: Ledger,
) -> None:
    """
    As in the backlog, that is where those stand of which nobody knows where they failed; elsewhere they only wait.
    """
    told = Failure(noticed_at=NOW)
    proved = replace(
        failed("proved"), destinations=(Destination("dst", failure=told), Destination("two"))
    )
    nowhere = failed("nowhere", at=NOW + 1, to=("dst", "two"))
    await ledger.park([failed("k", at=NOW + 2, to=()), failed("l", at=NOW - 1), proved, nowhere])

    async def keys(destination: str) -> list[str]:
        found = await listed(ledger, limit=1, destination=destination)
        return [one.version.key for one in found]

    assert await keys("unknown") == ["k", "nowhere"]
    assert await keys("dst") == ["proved", "l"]
    assert await keys("two") == []
    await ledger.note([gave_up("nowhere", at=NOW, destination="two")], now=NOW)
    assert await keys("unknown") == ["k"]
    assert await keys("two") == ["nowhere"]


# ---- moving to another ledger ----


async def exported(ledger: Ledger, *, limit: int) -> list[Trail]:
    """Walk through all pages of an export."""
    found: list[Trail] = []
    after: str | None = None
    while True:
        page, after = await ledger.export(after=after, limit=limit)
        found += page
        if after is None:
            return found


async def fill(ledger: Ledger) -> None:
    """Put in some of everything that moves, and things that do not."""
    two, changed = await parked(
        ledger, record("two", to=("dst", "two")), record("changed", size=None)
    )
    await ledger.park(
        [
            failed("failure", at=NOW + 1),
            failed("older", at=NOW - 1, bucket="src2"),
            record("two", bucket="src2"),
            record("unknown", to=()),
            record("waits", next_look_at=NOW + 50),
        ]
    )
    await ledger.reschedule([replace(changed, looks=3, next_look_at=NOW - 60)])
    await ledger.settle(
        "b1",
        [
            Settlement(version=two.version, outcomes=(arrived(two),), keep=two),
            done(record("settled")),
        ],
        now=NOW,
    )
    await ledger.settle("b2", [done(record("settled too"))], now=NOW + 1)
    await ledger.note(
        [
            replica("two", at=NOW - 2, bucket="elsewhere"),
            replica("waits", at=NOW - 3),
            replica("only an early fact", at=NOW - 4),
        ],
        now=NOW,
    )


MOVED = ("two", "changed", "failure", "older", "unknown", "waits")


async def pending_of(ledger: Ledger) -> list[object]:
    """Tell all that moves, as the ledger tells it."""
    due = await ledger.due(ALL, now=LATE, limit=99)
    return [
        [await ledger.find(key, "v1") for key in MOVED],
        [one.next_look_at for one in due],
        sorted(due, key=lambda one: one.version),
        [await listed(ledger, limit=2), await listed(ledger, limit=2, bucket="src2")],
        await backlog(ledger),
        await ledger.deltas(),
    ]


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_an_export_tells_each_trail_with_a_record_once(ledger: Ledger, limit: int) -> None:
    """As `find` tells it, with its marks and early facts; not those that hold no record."""
    await fill(ledger)

    trails = await exported(ledger, limit=limit)

    by_key = {next(iter(trail.records.values())).version.key: trail for trail in trails}
    assert len(trails) == len(by_key) == len(MOVED)
    assert by_key == {key: await ledger.find(key, "v1") for key in MOVED}
    assert list(by_key["two"].marks) == ["r:dst"]
    assert list(by_key["two"].early_facts) == ["r:elsewhere"]
    assert len(by_key["two"].records) == 2


async def test_an_export_comes_a_page_at_a_time(ledger: Ledger) -> None:
    """However much there is, no page holds much more than was asked for, and none is told twice."""
    keys = {f"k{at}" for at in range(60)}
    await ledger.park([record(key) for key in sorted(keys)])

    sizes, found, after = [], [], None
    while True:
        page, after = await ledger.export(after=after, limit=5)
        sizes.append(len(page))
        found += [next(iter(trail.records.values())).version.key for trail in page]
        if after is None:
            break

    assert max(sizes) < 30
    assert len(found) == 60
    assert set(found) == keys


async def test_an_export_of_nothing_is_one_empty_page(ledger: Ledger) -> None:
    """Also when there are marks, which have nothing to be finished."""
    assert await exported(ledger, limit=5) == []
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    assert await exported(ledger, limit=5) == []


@pytest.mark.parametrize("after", ["x", "ä", "not a page"])
async def test_a_page_of_an_export_that_was_never_told_is_refused(
    ledger: Ledger, after: str
) -> None:
    """Nothing is left out because somebody mixed up pages."""
    with pytest.raises(ValueError, match="page"):
        await ledger.export(after=after)


async def test_an_export_changes_nothing(ledger: Ledger) -> None:
    """The ledger that is left stays whole: it can be gone back to."""
    await fill(ledger)
    before = await pending_of(ledger)

    await exported(ledger, limit=2)

    assert await pending_of(ledger) == before


@pytest.mark.parametrize("way", ["out", "in"])
async def test_what_is_exported_and_restored_is_all_there(
    backend: Backend, ledger: Ledger, tmp_path: Path, way: str
) -> None:
    """
    Invariant 5: between any two kinds of ledger; records keep their revisions, marks and early facts their places.
    """
    other = BACKENDS["memory"](tmp_path / "other")
    reference = await other.open()
    source, target = (ledger, reference) if way == "out" else (reference, ledger)
    await fill(source)

    for trail in await exported(source, limit=2):
        await target.restore([trail], now=NOW)
    await target.append(await source.deltas())

    assert await pending_of(target) == await pending_of(source)
    assert await target.known_routes() == []
    assert await target.last_frozen() is None


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_moved_like_any_other(ledger: Ledger, tmp_path: Path, key: str) -> None:
    """Whatever a string can hold comes out and goes in as it was."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    await reference.park([record(key)])

    await ledger.restore(await exported(reference, limit=5), now=NOW)

    assert await exported(ledger, limit=5) == await exported(reference, limit=5)
    assert await ledger.due(ALL, now=NOW, limit=9) == [replace(record(key), rev=1)]


async def test_restoring_again_changes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """Invariant 5: whoever lost the answer may repeat it, also after the daemon went on from there."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    await fill(reference)
    trails, deltas = await exported(reference, limit=99), await reference.deltas()
    await ledger.restore(trails, now=NOW)
    await ledger.append(deltas)
    (changed,) = (await ledger.find("changed", "v1")).records.values()
    await ledger.reschedule([replace(changed, looks=4)])
    before = await pending_of(ledger)

    await ledger.restore(trails, now=NOW + 60)
    await ledger.append(deltas)

    assert await pending_of(ledger) == before


async def test_a_trail_that_is_there_already_is_not_restored(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Invariant 2: whether it holds a record or only the mark of what was counted."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    await reference.park([record("there", size=1), record("counted"), record("new")])
    await ledger.park([record("there", size=2)])
    await ledger.settle("b1", [done(record("counted"))], now=NOW)

    await ledger.restore(await exported(reference, limit=99), now=NOW)

    due = {one.version.key: one.size for one in await ledger.due(ALL, now=NOW, limit=9)}
    assert due == {"there": 2, "new": 100}


async def test_what_was_counted_before_the_move_is_not_counted_after_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Invariant 2: an object that arrived at one of its two destinations counts only at the other one."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    (one,) = await parked(reference, record("k", to=("dst", "two")))
    half_done = Settlement(version=one.version, outcomes=(arrived(one),), keep=one)
    await reference.settle("b1", [half_done], now=NOW)
    await ledger.restore(await exported(reference, limit=9), now=NOW)
    await ledger.append(await reference.deltas())

    results = await ledger.settle("b2", [done(one, arrived(one), arrived(one, "two"))], now=NOW)

    assert results == [[Settled.DUPLICATE, Settled.COUNTED]]
    counted = await totals(ledger)
    assert {route: tally.completed for route, tally in counted.items()} == {
        Route("src", "dst"): 1,
        Route("src", "two"): 1,
    }
    assert await ledger.backlog() == []


async def test_restored_marks_and_halves_are_kept_for_the_retention_from_then(
    ledger: Ledger, tmp_path: Path
) -> None:
    """However old they were where they come from."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    (one,) = await parked(reference, record("k", to=("dst", "two")))
    half_done = Settlement(version=one.version, outcomes=(arrived(one),), keep=one)
    await reference.settle("b1", [half_done], now=NOW)
    await reference.note([replica("k", at=NOW, bucket="three")], now=NOW)
    moved_at = NOW + RETENTION - 1

    await ledger.restore(await exported(reference, limit=9), now=moved_at)
    await swept(ledger, now=moved_at + RETENTION - 1)

    found = await ledger.seen([one.replica_mark("dst"), one.replica_mark("three")])
    assert [type(kept) for kept in found] == [Mark, EarlyFact]


async def test_restored_contributions_are_frozen_like_any_other(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Under their old ids, in their old order, beside what is counted since; and not told again."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    for number in range(3):
        await reference.settle(f"b{number}", [done(record(f"k{number}"))], now=NOW + number)
    old = await reference.deltas()
    await ledger.append(old)
    await ledger.settle("new", [done(record("new"))], now=NOW + 9)
    assert [one.settled_at - NOW for one in await ledger.deltas()] == [0, 1, 2, 9]

    lease = await holding(ledger)
    taken = [one.id for one in old]
    await ledger.freeze(window(NOW, b"x", deltas=taken), lease=lease)

    assert [one.settled_at - NOW for one in await ledger.deltas()] == [9]


async def test_a_large_page_can_be_restored_at_once(ledger: Ledger, tmp_path: Path) -> None:
    """Whatever a backend can write at once, a page of an export is taken as it comes."""
    reference = await BACKENDS["memory"](tmp_path / "other").open()
    for at in range(130):
        (one,) = await parked(reference, record(f"k{at}", to=("dst", "two")))
        kept = Settlement(version=one.version, outcomes=(arrived(one),), keep=one)
        await reference.settle(f"b{at}", [kept], now=NOW)

    await ledger.restore(await exported(reference, limit=500), now=NOW)
    await ledger.append(await reference.deltas())

    assert len(await ledger.due(ALL, now=NOW, limit=500)) == 130
    assert await backlog(ledger) == await backlog(reference)
    assert await totals(ledger) == await totals(reference)


# ---- what the predecessor did wrong ----


async def second_handle(backend: Backend, first: Ledger) -> Ledger:
    """Open the same ledger once more; where only one can have it open, that one itself."""
    return first if first.exclusive else await backend.open()


@pytest.fixture
async def handles(backend: Backend, ledger: Ledger) -> AsyncIterator[tuple[Ledger, Ledger]]:
    """Two handles of one ledger, as two replicas of the daemon have them."""
    other = await second_handle(backend, ledger)
    yield ledger, other
    if other is not ledger:
        await other.close()


async def test_invariant_9_what_was_found_due_is_decided_as_it_is_now(
    handles: tuple[Ledger, Ledger],
) -> None:
    """What another replica did to records since they were found due is seen, also where nothing is to be written."""
    one, other = handles
    changed, settled, same = await parked(one, record("k1"), record("k2"), record("k3"))
    assert len(await one.due(ALL, now=LATE, limit=9)) == 3
    assert await other.reschedule([replace(changed, looks=1)]) == [Rescheduled.RESCHEDULED]
    assert await other.settle("b1", [done(settled)], now=NOW) == [[Settled.COUNTED]]

    results = await one.reschedule([replace(changed, rev=2, looks=2), settled, same])

    assert results == [Rescheduled.RESCHEDULED, Rescheduled.STALE, Rescheduled.RESCHEDULED]
    assert (await one.find("k1", changed.version.version_id)).records["src"].looks == 2
    assert await one.settle("b2", [done(settled)], now=NOW) == [[Settled.DUPLICATE]]


@pytest.mark.parametrize("order", [("dst", "two"), ("two", "dst")])
@pytest.mark.parametrize("known", ["by looks", "by events"])
async def test_d15_every_destination_counts_whichever_comes_first(
    ledger: Ledger, order: tuple[str, str], known: str
) -> None:
    """D15: the first arrival does not hide the second, whether looks or replicas' events tell; each counts once."""
    (one,) = await parked(ledger, record("k", to=("dst", "two")))
    for number, destination in enumerate(order):
        if known == "by events":
            noted = await ledger.note([replica("k", at=NOW, bucket=destination)], now=NOW)
            assert noted == [Noted.JOINED]
        now = await stored(ledger, one)
        assert now is not None
        keep = now if number == 0 else None
        settlement = Settlement(
            version=one.version, outcomes=(arrived(one, destination),), rev=now.rev, keep=keep
        )
        assert await ledger.settle(f"b{number}", [settlement], now=NOW) == [[Settled.COUNTED]]
        for again in ("again", "and again"):
            late = done(record("k", to=("dst", "two")), arrived(one, destination))
            results = await ledger.settle(f"{again} {number}", [replace(late, rev=0)], now=NOW)
            assert results == [[Settled.DUPLICATE]]

    counted = await totals(ledger)
    assert {route.destination: tally.completed for route, tally in counted.items()} == {
        "dst": 1,
        "two": 1,
    }
    assert await ledger.backlog() == []


@pytest.mark.parametrize("order", list(permutations(("park", "note"))))
async def test_d16_source_and_replica_at_the_same_moment_meet(
    handles: tuple[Ledger, Ledger], order: tuple[str, ...]
) -> None:
    """D16: through two handles at once, every parked record knows of the arrival."""
    one, other = handles
    keys = [f"k{at}" for at in range(40)]

    async def work(kind: str) -> None:
        for at in range(0, len(keys), 5):
            some = keys[at : at + 5]
            if kind == "park":
                await one.park([record(key) for key in some])
            else:
                await other.note([replica(key, at=NOW - 1) for key in some], now=NOW)

    await asyncio.gather(*(work(kind) for kind in order))

    due = await one.due(ALL, now=NOW, limit=99)
    assert len(due) == len(keys)
    assert {found.destinations for found in due} == {(Destination("dst", replicated_at=NOW - 1),)}


@pytest.mark.parametrize("order", list(permutations(("park", "note", "settle"))))
@pytest.mark.parametrize("aware", [None, 0])
async def test_d16_parking_noting_and_settling_at_the_same_moment_never_miss_each_other(
    handles: tuple[Ledger, Ledger], order: tuple[str, ...], aware: int | None
) -> None:
    """
    D16, invariant 2: it is counted with nothing left over, or, decided without its record, waits with its arrival known.
    """
    one, other = handles
    keys = [f"k{at}" for at in range(20)]
    batch = [replace(done(record(key)), rev=aware) for key in keys]
    work = {
        "park": lambda: one.park([record(key) for key in keys]),
        "note": lambda: other.note([replica(key, at=NOW - 1) for key in keys], now=NOW),
        "settle": lambda: other.settle("b1", batch, now=NOW),
    }

    results = await asyncio.gather(*(work[kind]() for kind in order))

    settled = results[order.index("settle")]
    for key, outcome in zip(keys, settled, strict=True):
        trail = await one.find(key, "v1")
        if outcome == [Settled.COUNTED]:
            assert (len(trail.marks), trail.early_facts, trail.records) == (1, {}, {})
        else:
            assert aware == 0
            (waiting,) = trail.records.values()
            assert waiting.destinations == (Destination("dst", replicated_at=NOW - 1),)
            assert trail.marks == {}
    counted = await completed(one)
    assert counted == list(settled).count([Settled.COUNTED])
    assert len(await one.due(ALL, now=NOW, limit=99)) == len(keys) - counted


async def test_d24_what_was_never_looked_at_is_pending_and_due(ledger: Ledger) -> None:
    """D24: being pending is not something that a first look must write down."""
    new = [record("k"), record("sizeless", size=None), record("anywhere", to=())]
    await ledger.park(new)

    due = await ledger.due(ALL, now=NOW, limit=9)

    assert {one.version.key for one in due} == {"k", "sizeless", "anywhere"}
    assert {(one.looks, one.pending_seen_at) for one in due} == {(0, None)}
    assert await pending(ledger) == 3


async def test_d27_what_is_settled_or_closed_does_not_stay_for_ever(ledger: Ledger) -> None:
    """
    D27: repaired, given up or dropped: past the dedup retention nothing of it is listed, due, pending or to be moved.
    """
    repaired, given_up, dropped = await parked(
        ledger, failed("repaired"), failed("given up"), record("dropped")
    )
    await ledger.settle(
        "b1",
        [
            done(repaired, arrived(repaired, repaired=True)),
            done(given_up, whole(given_up, Fate.GIVEN_UP)),
            Settlement(version=dropped.version, outcomes=()),
        ],
        now=NOW,
    )
    await swept(ledger, now=LATE)

    assert await ledger.backlog() == []
    assert await ledger.failures() == ([], None)
    assert await ledger.due(ALL, now=LATE, limit=9) == []
    assert await ledger.export() == ([], None)
    assert await ledger.sweep(now=LATE) == 0


@pytest.fixture
def _in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the process five and a half hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_in_kolkata")
async def test_d28_times_keep_their_fractions_wherever_the_process_runs(ledger: Ledger) -> None:
    """D28: no time is cut to seconds or read in local time, neither what is told nor what is sorted by it."""
    assert time.localtime(0).tm_hour == 5
    early = record("early", written_at=NOW - 0.123456, next_look_at=NOW + 0.25)
    late = record("late", written_at=NOW - 0.125, next_look_at=NOW + 0.251)
    failures = [failed(f"f{at}", at=NOW + at / 1000, next_look_at=LATE) for at in range(3)]
    await ledger.park([late, early, *failures])
    await ledger.note([replica("early", at=NOW + 0.015625)], now=NOW + 0.5)
    await ledger.settle(
        "b1", [done(record("k", written_at=NOW - 0.75), arrived(record("k")))], now=NOW + 0.0625
    )
    lease = await holding(ledger)
    await ledger.freeze(window(NOW + 0.5, b"x"), lease=lease)

    first = await ledger.due(ALL, now=NOW + 0.2505, limit=9)
    both = await ledger.due(ALL, now=NOW + 0.251, limit=9)
    listing = await listed(ledger, limit=1)

    assert [one.version.key for one in first] == ["early"]
    assert [one.version.key for one in both] == ["early", "late"]
    assert await ledger.due(ALL, now=NOW + 0.2499, limit=9) == []
    assert first[0].written_at == NOW - 0.123456
    assert first[0].destinations[0].replicated_at == NOW + 0.015625
    assert [one.failed_at for one in listing] == [NOW + 0.002, NOW + 0.001, NOW]
    assert [one.settled_at for one in await ledger.deltas()] == [NOW + 0.0625]
    assert await ledger.last_frozen() == NOW + 0.5
    assert {slot.written_from % 60 for slot in await ledger.backlog()} == {0.0}


async def test_d31_a_count_between_reading_and_freezing_is_told_again(ledger: Ledger) -> None:
    """D31: only what was read goes with the window; what was committed meanwhile waits for the next one."""
    lease = await holding(ledger)
    await ledger.settle("b1", [done(record("k"))], now=NOW)
    taken = [one.id for one in await ledger.deltas()]

    await ledger.settle("between", [done(record("l"))], now=NOW)
    await ledger.freeze(window(NOW, b"x", deltas=taken), lease=lease)
    await ledger.settle("after", [done(record("m"))], now=NOW + 1)

    left = await ledger.deltas()
    assert [one.settled_at for one in left] == [NOW, NOW + 1]
    assert not {one.id for one in left} & set(taken)
    assert (await totals(ledger))[Route("src", "dst")].completed == 2


async def test_d31_nothing_is_lost_or_doubled_while_somebody_else_settles(
    handles: tuple[Ledger, Ledger],
) -> None:
    """D31, invariant 5: what all windows took and what is left add up to what was counted."""
    one, other = handles
    lease = await holding(one)
    reported: list[Delta] = []

    async def settle() -> None:
        for number in range(40):
            await other.settle(f"b{number}", [done(record(f"k{number}"))], now=NOW)

    async def publish() -> None:
        for number in range(20):
            taken = await one.deltas()
            ids = [contributed.id for contributed in taken]
            await one.freeze(window(NOW + number, b"x", deltas=ids), lease=lease)
            reported.extend(taken)

    await asyncio.gather(settle(), publish())

    everything_told = fold([*reported, *await one.deltas()])
    assert everything_told[Route("src", "dst")].completed == 40


@pytest.mark.parametrize("fate", [Fate.GIVEN_UP, Fate.UNREADABLE])
async def test_s3s_word_that_it_failed_goes_before_what_was_only_not_seen(
    ledger: Ledger, fate: Fate
) -> None:
    """A version that was given up, or that nobody can look at, is followed as failed; one that arrived is not."""
    for key, ended in (("k", fate), ("arrived", Fate.COMPLETED)):
        one = record(key)
        settlement = done(one, replace(arrived(one), fate=ended))
        await ledger.settle(f"batch {key}", [settlement], now=NOW)
    news = [gave_up("k", at=NOW), gave_up("arrived", at=NOW)]

    assert await ledger.note(news, now=NOW) == [Noted.UNKNOWN, Noted.SETTLED]

    failed = with_failure(record("k"), "dst", Failure(noticed_at=NOW))
    gone = with_failure(record("arrived"), "dst", Failure(noticed_at=NOW))
    assert await ledger.park([failed, gone]) == [Parked.PARKED, Parked.SETTLED]
    assert await ledger.park([record("arrived")]) == [Parked.SETTLED]


@pytest.mark.parametrize("fate", [Fate.GIVEN_UP, Fate.UNREADABLE])
async def test_m3_a_failure_that_was_known_when_it_ended_refutes_no_end(
    ledger: Ledger, fate: Fate
) -> None:
    """M3: what it refuted was followed, and ended likewise: a store that tells of every try has it followed once."""
    one = record("k")
    ended = done(one, replace(arrived(one), fate=fate))
    await ledger.settle("first", [ended], now=NOW)
    assert await ledger.note([gave_up("k", at=NOW)], now=NOW) == [Noted.UNKNOWN]
    refuting = with_failure(one, "dst", Failure(noticed_at=NOW))
    (followed,) = await parked(ledger, refuting)
    await ledger.settle("second", [replace(ended, rev=followed.rev)], now=NOW + 1)

    assert await ledger.note([gave_up("k", at=NOW + 2)], now=NOW + 2) == [Noted.SETTLED]
    assert await ledger.park([refuting]) == [Parked.SETTLED]


# ---- small state by name ----


async def test_a_small_state_is_set_changed_and_dropped(ledger: Ledger) -> None:
    """A state is replaced by whoever saw it as it is; nobody else."""
    assert await ledger.states("") == {}
    assert await ledger.swap("route/a/b", None, b"one\x00\xff")
    assert await ledger.states("") == {"route/a/b": b"one\x00\xff"}

    assert not await ledger.swap("route/a/b", None, b"two")
    assert not await ledger.swap("route/a/b", b"two", b"three")
    assert not await ledger.swap("route/a/b", b"two", None)
    assert not await ledger.swap("route/a/c", b"two", b"three")
    assert await ledger.states("") == {"route/a/b": b"one\x00\xff"}

    assert await ledger.swap("route/a/b", b"one\x00\xff", b"")
    assert await ledger.states("") == {"route/a/b": b""}
    assert await ledger.swap("route/a/b", b"", None)
    assert await ledger.states("") == {}


async def test_a_swap_that_is_repeated_recognises_itself(ledger: Ledger) -> None:
    """A call whose answer got lost is made again, and is told that it was carried out."""
    for before, after in ((None, b"one"), (b"one", b"two"), (b"two", None), (None, None)):
        assert await ledger.swap("name", before, after)
        assert await ledger.swap("name", before, after)
    assert await ledger.states("") == {}


async def test_small_states_are_told_by_prefix(ledger: Ledger) -> None:
    """Names that begin otherwise are left out, whatever characters stand in the prefix."""
    names = ["delay", "route/a%/b", "route/a/b", "route/ab", "router"]
    for name in names:
        assert await ledger.swap(name, None, name.encode())

    assert list(await ledger.states("")) == names
    assert list(await ledger.states("route/")) == ["route/a%/b", "route/a/b", "route/ab"]
    assert list(await ledger.states("route/a%")) == ["route/a%/b"]
    assert await ledger.states("nothing") == {}


async def test_of_two_who_swap_at_once_one_wins(ledger: Ledger) -> None:
    """Whoever comes second is told so, and reads again."""
    wanted = [f"by {number}".encode() for number in range(8)]
    won = await asyncio.gather(*(ledger.swap("name", None, body) for body in wanted))

    assert won.count(True) == 1
    assert await ledger.states("name") == {"name": wanted[won.index(True)]}


@pytest.mark.parametrize("name", DURABLE)
async def test_small_states_survive(name: str, tmp_path: Path) -> None:
    """They are there when the ledger is opened again."""
    backend = BACKENDS[name](tmp_path)
    first = await backend.open()
    assert await first.swap("name", None, b"body")
    await first.close()

    again = await backend.open()
    assert await again.states("") == {"name": b"body"}
    await again.close()


# ---- what was learned ----

PATH = (Route("src", "dst"),)
LONG = tuple(Route("s" * 63, f"{at:063}") for at in range(20))
"""A path whose names are together longer than a key may be."""


def lesson(name: str, path: tuple[Route, ...] = PATH, **counts: float) -> Lesson:
    spans = {"quick": (8, 12), "slow": (30, 34)}
    return Lesson(
        id=name, path=path, counts={spans[span]: count for span, count in counts.items()}
    )


async def teach(ledger: Ledger, *lessons: Lesson, now: float = NOW) -> list[Learned]:
    return [await ledger.teach(one, now=now, policy=Policy()) for one in lessons]


async def test_lessons_of_a_path_add_up(ledger: Ledger) -> None:
    """Whoever teaches is told what all know, and so is whoever asks."""
    assert await ledger.latencies(now=NOW) == []
    _, told = await teach(ledger, lesson("1", quick=10.0), lesson("2", quick=5.0, slow=2.0))

    assert told.counts == {(8, 12): 15.0, (30, 34): 2.0}
    assert (told.path, told.as_of, told.lessons) == (PATH, NOW, ("1", "2"))
    assert await ledger.latencies(now=NOW + 60) == [told]


async def test_a_lesson_that_is_repeated_is_learned_once(ledger: Ledger) -> None:
    """A call whose answer got lost is made again, after others taught something else."""
    await teach(ledger, lesson("1", quick=10.0), lesson("2", slow=1.0))
    (told,) = await teach(ledger, lesson("1", quick=10.0), now=NOW + 30)

    assert told.counts == {(8, 12): 10.0, (30, 34): 1.0}
    assert told.as_of == NOW


async def test_lessons_that_are_taught_at_once_are_all_learned(ledger: Ledger) -> None:
    """None takes the place of another."""
    await asyncio.gather(*(teach(ledger, lesson(f"{at}", quick=1.0)) for at in range(6)))
    (told,) = await ledger.latencies(now=NOW)

    assert told.counts == {(8, 12): 6.0}
    assert sorted(told.lessons) == [f"{at}" for at in range(6)]


async def test_paths_are_learned_apart(ledger: Ledger) -> None:
    """A path of two routes is another one than each of them; names may be as long as they are."""
    two = (Route("src", "dst"), Route("src", "far"))
    odd = (Route("src", "dst#src"), Route("\ud800", "far"))
    for number, path in enumerate((PATH, two, two[1:], odd, LONG)):
        await teach(ledger, lesson("1", path, quick=1.0 + number))
    told = {one.path: one.counts[8, 12] for one in await ledger.latencies(now=NOW)}

    assert told == {PATH: 1.0, two: 2.0, two[1:]: 3.0, odd: 4.0, LONG: 5.0}


async def test_what_nobody_adds_to_is_forgotten(ledger: Ledger) -> None:
    """After a day it is neither told nor added to, and a sweep drops it, if the store does not."""
    await teach(ledger, lesson("1", quick=10.0))
    later = NOW + KEPT_SECONDS + DAY
    assert await ledger.latencies(now=later) == []
    (told,) = await teach(ledger, lesson("2", quick=1.0), now=later)

    assert told.counts == {(8, 12): 1.0}
    await swept(ledger, now=later)
    assert await ledger.latencies(now=later) == [told]
    await swept(ledger, now=later + KEPT_SECONDS + DAY)
    # As if the clock had been wrong: it is there no more, however recent it seems.
    assert await ledger.latencies(now=later) == []


@pytest.mark.parametrize("name", DURABLE)
async def test_what_was_learned_survives(name: str, tmp_path: Path) -> None:
    """It is there when the ledger is opened again."""
    backend = BACKENDS[name](tmp_path)
    first = await backend.open()
    told = await teach(first, lesson("1", quick=10.25))
    await first.close()

    again = await backend.open()
    assert await again.latencies(now=NOW) == told
    await again.close()
