"""What the sandbox plans to write."""

import random
from collections import Counter
from itertools import islice

import pytest

from crrmon.domain.events.facts import Operation
from crrmon.sandbox.plan import (
    HARMLESS,
    LONGEST_SECONDS,
    MALFORMED_AT,
    REASONS,
    SERVER,
    Chances,
    Planned,
    Stray,
    kills,
    plan,
)
from crrmon.sandbox.world import WORLD


def planned(count: int, *, seed: int = 1, **chances: float) -> list[Planned]:
    """Return the first planned writes."""
    return list(islice(plan(WORLD, Chances(**chances), seed=seed), count))


def test_the_same_seed_makes_the_same_plan() -> None:
    """Everything left to chance is settled by the seed, and by nothing else."""
    assert planned(200, seed=7) == planned(200, seed=7)
    assert planned(200, seed=7) != planned(200, seed=8)


def test_every_way_to_write_occurs() -> None:
    """Puts, copies, multipart uploads, overwrites, empty objects and keys that no rule covers are all there."""
    writes = planned(300)
    places = [(one.bucket, one.key) for one in writes]

    assert {one.operation for one in writes} == set(Operation)
    assert len(set(places)) < len(places)
    assert any(one.size == 0 for one in writes)
    assert {WORLD.destinations(*place) for place in places} == {
        ("dst-a", "dst-c"), ("dst-b",), ("src-c",), ("src-d",), (),
    }  # fmt: skip
    assert any(" " in key for _, key in places)
    assert any(not key.isascii() for _, key in places)
    assert not any("\n" in key for _, key in places)


def test_copies_are_of_what_was_written_before() -> None:
    """A copy names an earlier key of its bucket and has the size of its newest version."""
    newest: dict[tuple[str, str], int] = {}
    copies = 0
    for one in planned(500):
        if one.operation is Operation.COPY:
            copies += 1
            assert one.copy_of is not None
            assert one.size == newest[one.bucket, one.copy_of]
        newest[one.bucket, one.key] = one.size

    assert copies > 20


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_failing_share_is_settable(share: float) -> None:
    """About the given share of the replications fails; none for 0, all for 1."""
    replicating = [one for one in planned(2000, fail=share) if one.passages]
    failing = sum(one.fails for one in replicating) / len(replicating)

    assert failing == pytest.approx(share, abs=0.05 if 0 < share < 1 else 0)


def test_of_two_destinations_one_may_fail_or_both() -> None:
    """Both kinds occur, each failure has a reason and a notice, and what arrives has neither."""
    both = [one for one in planned(1000, fail=0.5) if len(one.passages) == 2]
    failed_at = [sum(bool(passage.reason) for passage in one.passages) for one in both]
    passages = [passage for one in both for passage in one.passages]

    assert min(failed_at.count(number) for number in (0, 1, 2)) > 20
    assert {passage.reason for passage in passages} == {"", *REASONS}
    assert all(bool(passage.reason) == bool(passage.notice) for passage in passages)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_repaired_share_is_settable(share: float) -> None:
    """About the given share of the failures is repaired; none for 0, all for 1."""
    failing = [one for one in planned(2000, fail=0.5, repair=share) if one.fails]
    repaired = sum(one.repaired for one in failing) / len(failing)

    assert repaired == pytest.approx(share, abs=0.06 if 0 < share < 1 else 0)


def test_some_versions_are_deleted_before_anything_comes_of_them() -> None:
    """They go nowhere, are never copied or overwritten later, and only those that a rule covers are chosen."""
    writes = planned(2000)
    deleted = [one for one in writes if one.deletion is not None]
    copied = {(one.bucket, one.copy_of) for one in writes}

    assert 30 < len(deleted) < 150
    for one in deleted:
        assert one.passages == ()
        assert WORLD.destinations(one.bucket, one.key)
        assert (one.bucket, one.key) not in copied


def test_some_keys_get_a_delete_marker() -> None:
    """It goes where a rule takes markers, and what lies under it is copied no more until it is written again."""
    marked: set[tuple[str, str | None]] = set()
    seen: Counter[tuple[str, ...]] = Counter()
    for one in planned(2000):
        if one.marking is not None:
            marked.add((one.bucket, one.marking.key))
            seen[one.bucket, *(passage.destination for passage in one.marking.passages)] += 1
        assert (one.bucket, one.copy_of) not in marked
        marked.discard((one.bucket, one.key))

    assert set(seen) == {("src-a", "dst-a"), ("src-b",), ("src-c",), ("src-d",)}


def test_each_channel_of_a_bucket_tells_of_each_write() -> None:
    """Where two tell, each has deliveries of its own; where replicas are not told, there are none."""
    for one in planned(200):
        assert len(one.deliveries) == len(WORLD.bucket(one.bucket).channels) > 0
        for passage in one.passages:
            channels = WORLD.bucket(passage.destination).channels
            assert len(passage.deliveries) == len(channels)


def test_replication_takes_the_settable_time_with_a_tail_to_a_minute() -> None:
    """Half of the replications take the median at most; the slowest of many take a minute, never more."""
    seconds = sorted(
        passage.seconds for one in planned(5000, median=3.0) for passage in one.passages
    )

    assert seconds[len(seconds) // 2] == pytest.approx(3.0, rel=0.1)
    assert seconds[-1] == LONGEST_SECONDS
    assert seconds[len(seconds) * 9 // 10] < 15


def test_events_come_late_twice_and_with_company_now_and_then() -> None:
    """Most events come once and within the delay; few are late, few come again, few strays come along."""
    writes = planned(2000, event_delay=2.0)
    deliveries = [times for one in writes for times in one.deliveries]
    late = [times for times in deliveries if times[0] > 2.0]
    twice = [times for times in deliveries if len(times) == 2]
    strays = [stray for one in writes for stray in one.strays]

    assert all(times[0] >= 0.2 for times in deliveries)
    assert 20 < len(late) < 200
    assert 20 < len(twice) < 200
    assert set(strays) == set(Stray)
    assert 100 < len([one for one in strays if one in HARMLESS]) < 300


def test_malformed_messages_stay_few_for_ever() -> None:
    """However long the sandbox writes, only a handful of messages takes its way to the dead-letter queue."""
    writes = planned(3000)

    assert [n for n, one in enumerate(writes) if Stray.MALFORMED in one.strays] == list(
        MALFORMED_AT
    )


def test_replicas_are_killed_in_turn_and_the_server_once_in_the_middle() -> None:
    """Each gets its turn, one after the other over the whole run; the same seed makes the same moments."""
    planned = kills(6, replicas=3, server=True, rng=random.Random(1))

    assert [one.victim for one in planned if one.victim != SERVER] == [0, 1, 2, 0, 1, 2]
    (server,) = [one.after for one in planned if one.victim == SERVER]
    assert 0.4 < server < 0.6
    moments = [one.after for one in planned]
    assert moments == sorted(moments)
    assert moments[0] > 0.0
    assert moments[-1] < 1.0
    assert planned == kills(6, replicas=3, server=True, rng=random.Random(1))


def test_without_kills_nothing_is_killed() -> None:
    """The server is killed beside the daemons, never alone."""
    assert kills(0, replicas=3, server=True, rng=random.Random(1)) == []
