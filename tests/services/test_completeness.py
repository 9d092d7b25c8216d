"""Up to when a route is complete: never beyond what was let go, what nobody follows, or what nobody can know."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from crrmon.config import Filter
from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Sight
from crrmon.domain.route_state import KEPT
from crrmon.services.tracking import route_release
from fakes import events
from fakes.events import written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import DAY, Rig
from fakes.s3 import FakeS3, Fate
from fakes.sink import FakeSink

ROUTE = ("src", "dst")
HOUR = 3600.0


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def complete(rig: Rig, *route: str) -> float | None:
    """Read up to when a route is complete; None while that is not shown."""
    return rig.meters.gauge(catalogue.COMPLETE_UP_TO, *(route or ROUTE))


async def complete_at_first(rig: Rig) -> None:
    """Have one object arrive, so that there is a moment up to which all is complete."""
    rig.put("before")
    await rig.until(lambda: complete(rig) is not None)


def without_rule(rig: Rig, key: str, bucket: str = "src") -> ObjectVersion:
    """Write an object that no rule selects: it shows no status."""
    return rig.put(key, then=Sight.NO_STATUS, bucket=bucket)


def names(lines: list[dict[str, Any]], *events: str) -> list[str]:
    """Return the events of these names, as they were logged."""
    return [line["event"] for line in lines if line["event"] in events]


# ---- rules that go ----


async def test_t1_a_route_without_a_rule_is_not_complete_up_to_any_moment(
    logged: list[dict[str, Any]],
) -> None:
    """
    The rule of one bucket is disabled, the configuration of another deleted, and writes go on.

    Never does either route claim to hold what was written since; both are told of as a metric, in the log and in
    CloudWatch.
    """
    rig = Rig(buckets=("src", "other"))
    rig.s3.rule("src", "dst")
    rig.s3.rule("other", "far")
    async with rig.running():
        for number in range(10):
            rig.put(f"before{number}")
            rig.put(f"before{number}", bucket="other")
            await asyncio.sleep(30)
        assert complete(rig) is not None
        assert complete(rig, "other", "far") is not None
        assert rig.meters.gauge(catalogue.ROUTE_CONFIGURED, *ROUTE) == 1

        went_at = rig.clock.now()
        rig.s3.configurations["src"]["Rules"][0]["Status"] = "Disabled"  # type: ignore[index]
        rig.s3.configurations["other"] = None
        for number in range(93):
            without_rule(rig, f"after{number}")
            without_rule(rig, f"after{number}", bucket="other")
            for route in (ROUTE, ("other", "far")):
                assert (complete(rig, *route) or 0.0) <= went_at + 1
            await asyncio.sleep(6)
        assert complete(rig) is None
        assert complete(rig, "other", "far") is None
        assert rig.meters.gauge(catalogue.ROUTE_CONFIGURED, *ROUTE) == 0
        assert rig.meters.gauge(catalogue.ROUTE_CONFIGURED, "other", "far") == 0
        await asyncio.sleep(120)

    assert rig.sink.total("NotCoveredObjects", "src") == 93
    assert rig.sink.total("NotCoveredObjects", "other") == 93
    assert (
        names(logged, "route_removed", "route_restored", "route_changed") == ["route_removed"] * 2
    )


async def test_t1_a_rule_that_comes_back_does_not_hide_what_was_written_without_it(
    rig: Rig, logged: list[dict[str, Any]]
) -> None:
    """The route is held back by the first of those objects until they have arrived, one and all."""
    async with rig.running():
        await complete_at_first(rig)
        configuration = rig.s3.configurations["src"]
        rig.s3.configurations["src"] = None
        await rig.until(lambda: complete(rig) is None)
        first_at = rig.clock.now()
        missing = [without_rule(rig, f"missing{number}") for number in range(3)]
        await asyncio.sleep(600)
        rig.s3.configurations["src"] = configuration
        await rig.until(lambda: complete(rig) is not None)
        rig.put("after")
        await asyncio.sleep(1200)
        assert complete(rig) == int(first_at)
        assert rig.meters.gauge(catalogue.COMPLETE_BLOCKED, *ROUTE) == int(first_at)
        assert rig.meters.gauge(catalogue.SETTLED_UP_TO, *ROUTE) >= rig.clock.now() - 150  # type: ignore[operator]

        for one in missing:
            rig.inbox.send(
                events.native_created(
                    one.key, at=rig.clock.now(), bucket="dst", version="v1", replica=True
                )
            )
        await rig.until(lambda: (complete(rig) or 0.0) > first_at, within=300)
        assert rig.meters.gauge(catalogue.COMPLETE_BLOCKED, *ROUTE) is None

    assert names(logged, "route_removed", "route_restored") == ["route_removed", "route_restored"]


async def test_t1_a_gap_that_nobody_saw_shows_in_the_objects_of_it(rig: Rig) -> None:
    """The rule was off for a moment between two readings: what was written then shows no status, and is missing."""
    async with rig.running():
        await complete_at_first(rig)
        at = rig.clock.now()
        without_rule(rig, "missing")
        await asyncio.sleep(900)
        assert complete(rig) == int(at)


async def test_t1_what_no_rule_ever_selected_holds_nothing_back() -> None:
    """Keys outside of the rules' prefixes, or from before the rule was made, are not of the route."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/before")
        without_rule(rig, "out/a")
        await rig.until(lambda: complete(rig) is not None)
        without_rule(rig, "new/a")
        await asyncio.sleep(1)
        rig.s3.add_rule("src", "dst", prefix="new/")
        await asyncio.sleep(1200)
        assert complete(rig) >= rig.clock.now() - 150  # type: ignore[operator]
        assert rig.meters.gauge(catalogue.COMPLETE_BLOCKED, *ROUTE) is None


async def test_t1_a_route_whose_rules_cannot_be_read_stays_where_they_were_last_seen(
    rig: Rig,
) -> None:
    """Nobody can tell whether anything still arrives."""
    async with rig.running():
        await complete_at_first(rig)
        rig.s3.unreadable = True
        at = rig.clock.now()
        await asyncio.sleep(HOUR)
        assert at - 150 <= complete(rig) <= at  # type: ignore[operator]
        assert rig.meters.gauge(catalogue.ROUTE_CONFIGURED, *ROUTE) == 1
        rig.s3.unreadable = False
        await rig.until(lambda: (complete(rig) or 0.0) > at, within=300)


async def test_t1_a_person_releases_a_route_or_gives_it_up(rig: Rig) -> None:
    """Released, it goes on; one without rules is not told of any more."""
    async with rig.running():
        await complete_at_first(rig)
        without_rule(rig, "missing")
        await asyncio.sleep(600)
        held_at = complete(rig)
        route = Route(*ROUTE)
        await route_release.release(rig.ledger, route, now=rig.clock.now())  # type: ignore[arg-type]
        await asyncio.sleep(30)
        assert complete(rig) > held_at  # type: ignore[operator]

        rig.s3.configurations["src"] = None
        await rig.until(lambda: rig.meters.gauge(catalogue.ROUTE_CONFIGURED, *ROUTE) == 0)
        await route_release.release(rig.ledger, route, now=rig.clock.now())  # type: ignore[arg-type]
        await asyncio.sleep(30)
        assert rig.meters.gauge(catalogue.ROUTE_CONFIGURED, *ROUTE) is None
        with pytest.raises(route_release.UnknownRouteError, match="src to dst"):
            await route_release.release(rig.ledger, Route("src", "dts"), now=0.0)  # type: ignore[arg-type]


# ---- what is let go ----


@pytest.mark.parametrize("ends", ["given_up", "unreadable", "closed"])
async def test_t2_what_is_let_go_without_having_arrived_holds_its_route_back(ends: str) -> None:
    """Given up after its time, unreadable for its customer's key, a failure that nobody repaired: all the same."""
    rig = Rig(give_up_after=2 * HOUR)
    rig.s3.rule("src", "dst")
    sight = {"given_up": Sight.PENDING, "unreadable": Sight.REFUSED, "closed": Sight.FAILED}[ends]
    async with rig.running():
        await complete_at_first(rig)
        at = rig.clock.now()
        version = rig.put("lost", then=sight)
        for _ in range(60):
            rig.put(f"other{rig.clock.now()}")
            await asyncio.sleep(120)
            assert complete(rig) <= at  # type: ignore[operator]
        await rig.until(lambda: rig.meters.gauge(catalogue.COMPLETE_BLOCKED, *ROUTE) is not None)
        trail = await rig.ledger.find(version.key, version.version_id)
        assert trail.records == {}
        await asyncio.sleep(HOUR)
        assert complete(rig) == int(at)


async def test_t2_an_arrival_after_all_or_a_deletion_releases() -> None:
    """Its replica's event tells of the arrival; what is gone at the source can be missing nowhere."""
    rig = Rig(give_up_after=HOUR)
    rig.s3.rule("src", "dst")
    async with rig.running():
        await complete_at_first(rig)
        one, two = (rig.put(key, then=Sight.PENDING) for key in ("one", "two"))
        at = rig.clock.now()
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, *ROUTE, "given_up") == 2,
            within=6 * HOUR,
        )
        await asyncio.sleep(60)
        assert complete(rig) <= at  # type: ignore[operator]
        rig.inbox.send(
            events.native_created(
                one.key, at=rig.clock.now(), bucket="dst", version="v1", replica=True
            )
        )
        await asyncio.sleep(60)
        assert complete(rig) <= at  # type: ignore[operator]
        rig.inbox.send(events.native_deleted(two.key, at=rig.clock.now(), version="v1"))
        await rig.until(lambda: (complete(rig) or 0.0) > at, within=300)
        assert rig.meters.count(catalogue.REPLICATIONS, *ROUTE, "given_up") == 2


async def test_t2_what_was_replicated_later_is_found_without_any_event(rig: Rig) -> None:
    """Batch Replication brings over what was written without a rule, and no event of the destination tells of it."""
    async with rig.running():
        await complete_at_first(rig)
        at = rig.clock.now()
        version = without_rule(rig, "missing")
        await asyncio.sleep(1)
        deleted = without_rule(rig, "deleted")
        await asyncio.sleep(300)
        assert complete(rig) == int(at)
        rig.s3.fates[version] = Fate(0.0, Sight.COMPLETED, 100, written_at=int(at))
        await rig.until(lambda: complete(rig) == int(at) + 1, within=1.1 * HOUR)
        del rig.s3.fates[deleted]
        # What shows as gone is believed when it does so again.
        await rig.until(lambda: (complete(rig) or 0.0) > at + HOUR, within=2.2 * HOUR)
        assert rig.meters.count(catalogue.REPLICATIONS, *ROUTE, "completed") == 1


async def test_t2_many_that_are_let_go_cost_the_ledger_little(rig: Rig) -> None:
    """A bucket full of unreadable objects is held back by the oldest, and the ledger is not written to for each."""
    async with rig.running():
        await complete_at_first(rig)
        at = rig.clock.now()
        for number in range(5 * KEPT):
            rig.put(f"lost{number}", then=Sight.REFUSED)
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, *ROUTE, "unreadable") == 5 * KEPT,
            within=DAY,
        )
        assert rig.ledger.calls.count("swap") < 2 * KEPT
        await asyncio.sleep(300)
        assert complete(rig) == int(at)


async def test_t2_what_is_left_out_has_no_moment() -> None:
    """Excluded sources and prefixes are not followed: whether anything of them arrived is not known."""
    rig = Rig(selection=Filter(exclude=("src/tmp/", "old")), buckets=("src", "old", "new"))
    for bucket in ("src", "old", "new"):
        rig.s3.rule(bucket, "dst")
    async with rig.running():
        rig.put("a", bucket="new")
        await rig.until(lambda: complete(rig, "new", "dst") is not None)
        await asyncio.sleep(60)
        assert complete(rig) is None
        assert complete(rig, "old", "dst") is None


async def test_t2_a_part_of_a_bucket_that_is_followed_as_a_whole_has_its_moment() -> None:
    """Where the rules select nothing that is left out, the route is complete as any other."""
    rig = Rig(selection=Filter(include=("src/in/",)))
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/a")
        await rig.until(lambda: complete(rig) is not None)


# ---- what is not known ----


async def test_t3_without_any_event_there_is_no_moment(rig: Rig) -> None:
    """Nobody knows how late events come, so nobody knows up to when all was heard of."""
    async with rig.running():
        await asyncio.sleep(HOUR)
        assert complete(rig) is None
        rig.put("first")
        await rig.until(lambda: complete(rig) is not None, within=120)


async def test_t3_a_delay_that_is_configured_is_reckoned_with() -> None:
    """Then there is a moment from the start, that far from now; a larger one that is seen counts."""
    rig = Rig(least_delay={"cloudtrail": 900.0})
    rig.s3.rule("src", "dst")
    async with rig.running():
        await rig.until(lambda: complete(rig) is not None, within=300)
        now = rig.clock.now()
        assert now - 900 - 150 <= complete(rig) <= now - 900  # type: ignore[operator]


async def test_t3_known_delays_survive_restarts_and_quiet_hours() -> None:
    """Events are always 300 s late: never is the moment ahead of a write that nobody can have heard of."""
    clock_of = Rig()
    shared: dict[str, Any] = {
        "ledger": FlakyLedger(MemoryLedger(shards=4)),
        "inbox": FakeInbox(clock_of.clock),
        "s3": FakeS3(clock_of.clock),
        "sink": FakeSink(),
    }
    shared["s3"].rule("src", "dst")

    async def tell(rig: Rig, key: str) -> None:
        at = rig.clock.now()
        name = ObjectVersion("src", key, "v1")
        rig.s3.fates[name] = Fate(at + 1, Sight.COMPLETED, 100, written_at=int(at))
        await asyncio.sleep(300)
        rig.inbox.send(written(key, at=at, version="v1"))

    async with Rig(**shared).running() as rig:
        await tell(rig, "first")
        await rig.until(lambda: complete(rig) is not None)
    async with Rig(**shared, owner="two").running() as rig:
        for _ in range(60):
            await asyncio.sleep(10)
            assert (complete(rig) or 0.0) <= rig.clock.now() - 300
        assert rig.clock.now() - 500 <= complete(rig) <= rig.clock.now() - 300  # type: ignore[operator]


# ---- series that end ----


async def test_t12_every_series_ends_at_zero_across_restarts() -> None:
    """
    What was pending on the way to an unknown destination is reported, and the daemon restarts: the next one sends zero.

    The same of a source that only its failures made known.
    """
    clock_of = Rig()
    shared: dict[str, Any] = {
        "ledger": FlakyLedger(MemoryLedger(shards=4)),
        "inbox": FakeInbox(clock_of.clock),
        "s3": FakeS3(clock_of.clock),
        "sink": FakeSink(),
    }
    s3: FakeS3 = shared["s3"]
    s3.unreadable = True
    async with Rig(**shared, buckets=()).running() as rig:
        version = rig.put("a", takes=600.0)
        await asyncio.sleep(300)
        pending = rig.sink.values("PendingObjects", "src", "unknown")
        assert pending[-1][1] == 1
    s3.rule("src", "dst")
    s3.unreadable = False
    async with Rig(**shared, buckets=(), owner="two").running() as rig:
        await rig.until(lambda: version in rig.s3.looks[-5:], within=HOUR)
        await asyncio.sleep(HOUR)
        assert rig.sink.values("PendingObjects", "src", "unknown")[-1][1] == 0
        assert rig.sink.values("PendingBytes", "src", "unknown")[-1][1] == 0
        assert rig.sink.values("OldestPendingAge", "src", "unknown")[-1][1] == 0
        # Once is enough: after that the series rests.
        sent = len(rig.sink.values("PendingObjects", "src", "unknown"))
        await asyncio.sleep(HOUR)
        assert len(rig.sink.values("PendingObjects", "src", "unknown")) == sent
    assert "owed_zeros" not in await rig.ledger.states("")
