"""A machine whose clock is wrong, and a daemon on it that goes by AWS's."""

import asyncio

import pytest
from structlog.testing import capture_logs

from crrmon.domain import catalogue
from crrmon.domain.decisions import Settle, Wait
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Cause, Fate
from crrmon.domain.reckoning import LONE_SECONDS
from crrmon.domain.records import Destination, Record
from crrmon.services.lifecycle.timekeeper import ANSWER_SECONDS, UNSURE_SECONDS, Timekeeper
from fakes.clock import LoopClock
from fakes.events import replica_cloudtrail, written
from fakes.rig import DAY, WINDOW, Rig

ROUTE = ("src", "dst")
DONE = Fate.COMPLETED.value


def rig_on(local: LoopClock, **more: object) -> Rig:
    """Make a daemon on a machine whose clock may be wrong, and a bucket that replicates."""
    rig = Rig(local=local, **more)  # type: ignore[arg-type]
    rig.s3.rule("src", "dst")
    return rig


def completed(rig: Rig) -> float:
    return rig.meters.count(catalogue.REPLICATIONS, *ROUTE, DONE)


def delays_seen(rig: Rig, channel: str) -> list[tuple[float, float]]:
    """Tell all that entered the histogram of how late events of a channel come."""
    return list(rig.meters.observed.get((catalogue.EVENT_DELAY.name, channel), []))


def gives_up(rig: Rig) -> None:
    """Cut a daemon off from everything that could tell it the time."""
    rig.inbox.away, rig.s3.away, rig.s3.unreadable = True, Sight.UNREACHABLE, True


def comes_back(rig: Rig) -> None:
    rig.inbox.away, rig.s3.away, rig.s3.unreadable = False, None, False


async def test_t7_a_day_ahead_for_two_minutes_loses_nothing_to_cloudwatch() -> None:
    """Every object of that time is in a window of its true time, and no window is missing, then or after."""
    local = LoopClock()
    async with rig_on(local).running() as rig:
        await asyncio.sleep(2 * WINDOW)
        local.leap(DAY)
        for number in range(60):
            rig.put(f"k{number}", takes=1)
            await asyncio.sleep(2)
        local.leap(-DAY)
        await asyncio.sleep(4 * WINDOW)

        assert rig.sink.total("ReplicationObjects", *ROUTE) == 60
        told = [at for at, _ in rig.sink.values("Heartbeat", "test")]
        assert told == [told[0] + WINDOW * place for place in range(len(told))]
        assert told[-1] >= rig.truth.now() - 2 * WINDOW - 5
        assert all(
            at <= rig.truth.now() for at, _ in rig.sink.values("ReplicationObjects", *ROUTE)
        )


async def test_t7_a_latency_is_measured_by_awss_clock() -> None:
    """A machine an hour ahead sees no object later than it was."""
    async with rig_on(LoopClock(ahead=3600)).running() as rig:
        for number in range(20):
            rig.put(f"k{number}", takes=5)
        await rig.until(lambda: completed(rig) == 20)
        waits = rig.meters.observed[catalogue.LATENCY.name, *ROUTE]

    assert max(seconds for seconds, _ in waits) < 120
    assert rig.meters.count(catalogue.LATE, *ROUTE) == 0


@pytest.mark.own_rounds
@pytest.mark.parametrize("ahead", [DAY, -DAY, 6.0 * DAY])
async def test_t7_a_daemon_that_starts_with_a_wrong_clock_has_the_time_at_once(
    ahead: float,
) -> None:
    """What it counts and when it looks again are of the true time; it says how far its machine is off."""
    async with rig_on(LoopClock(ahead=ahead)).running() as rig:
        rig.put("a", takes=200)
        await asyncio.sleep(30)
        assert rig.clock.sure
        assert rig.clock.now() == pytest.approx(rig.truth.now(), abs=1.1)
        assert rig.meters.gauge(catalogue.CLOCK_OFFSET) == pytest.approx(ahead, abs=1.1)
        where = "ahead of" if ahead > 0 else "behind"
        assert f"{abs(ahead):.0f} s {where} AWS's" in rig.board.ready().details["clock"]
        assert not rig.board.ready().ok
        await asyncio.sleep(300 + 3 * WINDOW)
        assert rig.sink.total("ReplicationObjects", *ROUTE) == 1


async def test_t7_a_clock_that_goes_wrong_is_told_and_so_is_its_mending() -> None:
    """A line of the log when it goes and when it is back, a gauge, and the clock's word on /readyz."""
    local = LoopClock()
    async with rig_on(local).running() as rig:
        await asyncio.sleep(30)
        assert rig.meters.gauge(catalogue.CLOCK_OFFSET) == pytest.approx(0, abs=1.1)
        assert rig.board.ready().details["clock"] == "ok"
        with capture_logs() as logs:
            local.leap(-70)
            await asyncio.sleep(30)
            assert rig.meters.gauge(catalogue.CLOCK_OFFSET) == pytest.approx(-70, abs=1.1)
            assert "70 s behind AWS's" in rig.board.ready().details["clock"]
            local.leap(70)
            await asyncio.sleep(30)
        assert rig.board.ready().details["clock"] == "ok"
    events = [one["event"] for one in logs if one.get("dependency") == "clock"]
    assert events == ["dependency_unavailable", "dependency_recovered"]


async def test_t7_a_configuration_read_by_a_clock_ahead_proves_nothing() -> None:
    """Read while the machine was a day ahead, it covers; but what a rule made since selects is not called uncovered."""
    local = LoopClock(ahead=DAY)
    rig = rig_on(local)
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/a")
        await rig.until(lambda: completed(rig) == 1)
        local.leap(-DAY)
        await asyncio.sleep(5)
        rig.s3.rule("src", "dst")
        for number in range(20):
            rig.put(f"out/{number}")
        await rig.until(lambda: completed(rig) == 21)

    assert rig.meters.count(catalogue.NOT_COVERED, "src", Cause.NO_RULE.value) == 0


async def test_t7_a_sweep_of_a_clock_six_days_ahead_drops_no_mark() -> None:
    """What was counted stays known: told of again, it does not count again."""
    local = LoopClock()
    async with rig_on(local).running() as rig:
        for number in range(20):
            rig.put(f"k{number}")
        await rig.until(lambda: completed(rig) == 20 and not rig.inbox.waiting)
        at = rig.truth.now()
        local.leap(6 * DAY)
        await asyncio.sleep(10 * 60)
        local.leap(-6 * DAY)
        for number in range(20):
            rig.inbox.send(written(f"k{number}", at=at - 1))
        await asyncio.sleep(5 * WINDOW)

        assert rig.inbox.waiting == 0
        assert completed(rig) == 20
        assert rig.sink.total("ReplicationObjects", *ROUTE) == 20


async def test_t7_fifteen_days_ahead_nothing_is_given_up() -> None:
    """Objects that are pending go on being followed, and count when they arrive."""
    local = LoopClock()
    async with rig_on(local).running() as rig:
        for number in range(50):
            rig.put(f"k{number}", takes=600)
        await asyncio.sleep(200)
        local.leap(15 * DAY)
        await asyncio.sleep(300)
        local.leap(-15 * DAY)
        await rig.until(lambda: completed(rig) == 50)

    assert rig.meters.count(catalogue.REPLICATIONS, *ROUTE, Fate.GIVEN_UP.value) == 0


@pytest.mark.parametrize("dated", [True, False])
async def test_t7_seventy_seconds_behind_every_version_is_identified(*, dated: bool) -> None:
    """Events without version id lie in the future of such a clock, put right or not: they keep their own time."""
    rig = rig_on(LoopClock(ahead=-70), dated=dated)
    async with rig.running():
        for number in range(50):
            rig.put(f"k{number}", version=f"v{number}")
        rig.inbox._stored.clear()
        for number in range(50):
            rig.inbox.send(written(f"k{number}", at=rig.truth.now(), version=None))
        await rig.until(lambda: completed(rig) == 50)

    assert rig.meters.count(catalogue.UNIDENTIFIED, "src") == 0


async def test_t7_after_a_leap_that_nobody_confirms_everything_waits_and_then_goes_on() -> None:
    """Nothing is counted, given up, dropped or published; with the first answer all is, with nobody's help."""
    local = LoopClock()
    async with rig_on(local).running() as rig:
        for number in range(10):
            rig.put(f"k{number}", takes=400)
        await asyncio.sleep(301)  # the last window is frozen
        gives_up(rig)
        local.leap(15 * DAY)
        before = await rig.ledger.last_frozen()
        await asyncio.sleep(1200)
        assert not rig.clock.sure
        assert "no AWS response confirms" in rig.board.ready().details["clock"]
        assert await rig.ledger.last_frozen() == before
        assert completed(rig) == 0
        assert await rig.backlog() == 10
        comes_back(rig)
        await rig.until(lambda: completed(rig) == 10)
        await asyncio.sleep(3 * WINDOW)
        assert rig.sink.total("ReplicationObjects", *ROUTE) == 10
        assert not rig.meters.count(catalogue.REPLICATIONS, *ROUTE, Fate.GIVEN_UP.value)


async def test_t7_what_was_received_on_an_unsure_clock_is_held_and_given_back() -> None:
    """A message waits for the time undecided; a daemon that stops before gives it back, and loses nothing."""
    local = LoopClock(sure=False)
    rig = rig_on(local, dated=False)
    rig.start(without=["receiver"])
    receiver = asyncio.create_task(rig.intake.receiver())
    rig.put("a")
    await asyncio.sleep(2)
    assert rig.s3.looks == []
    rig.intake.stop()
    await rig.intake.drained()
    await receiver
    assert rig.inbox.visible == 1
    await rig.kill()


async def test_t7_a_daemon_that_does_not_know_the_time_receives_and_decides_nothing() -> None:
    """It tells others that it is there, and nothing of the fleet; when it is sure it goes on with what it holds."""
    local = LoopClock(sure=False)
    async with rig_on(local, dated=False).running() as rig:
        rig.put("a")
        await asyncio.sleep(200)
        assert [one.owner for one in await rig.ledger.members()] == ["one"]
        assert (rig.inbox.received, rig.inbox.visible, rig.s3.looks) == (1, 0, [])
        assert rig.meters.gauge(catalogue.PENDING_OBJECTS, *ROUTE) is None
        local.sure = True
        await rig.until(lambda: completed(rig) == 1)


async def test_t7_where_no_server_tells_a_date_the_machines_clock_counts_after_a_while() -> None:
    """It must have kept step with the monotonic one; a leap starts that anew, and moves nothing before it is over."""
    local = LoopClock()
    rig = rig_on(local)
    rig.inbox.dates = rig.s3.dates = None
    async with rig.running():
        await asyncio.sleep(UNSURE_SECONDS + ANSWER_SECONDS)
        assert not rig.clock.sure
        await asyncio.sleep(LONE_SECONDS)
        assert rig.clock.sure
        local.leap(DAY)
        assert not rig.clock.sure
        await asyncio.sleep(120)
        local.leap(-DAY)
        await asyncio.sleep(LONE_SECONDS + 5)
        assert rig.clock.sure
        assert rig.clock.now() == pytest.approx(rig.truth.now())
        assert rig.meters.gauge(catalogue.CLOCK_OFFSET) is None


async def test_t7_a_leap_is_noticed_before_the_next_round_of_anything() -> None:
    """The clock judges itself whenever it is asked."""
    local = LoopClock()
    keeper = Timekeeper(local)
    keeper.heard(float(int(local.now())), asked_at=keeper.asked())
    assert keeper.sure
    before = keeper.now()
    local.leap(DAY)
    assert not keeper.sure
    assert keeper.now() == before


async def test_t8_a_sample_of_1970_makes_nothing_look_old(rig: Rig) -> None:
    """Never looked at with success, it holds back no more than from when it was heard of, and enters no sum."""
    async with rig.running():
        rig.put("new")
        await asyncio.sleep(300)
        assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, *ROUTE) is not None
        heard_at = rig.clock.now()
        rig.s3.denied.add("src")
        rig.inbox.send(SAMPLE_OF_1970)
        await asyncio.sleep(300)
        (slot,) = await rig.ledger.backlog()
        assert heard_at - 60 <= slot.written_from <= heard_at
        oldest = rig.meters.gauge(catalogue.OLDEST_PENDING, *ROUTE)
        assert oldest is not None
        assert oldest >= heard_at - 60
        complete = rig.meters.gauge(catalogue.COMPLETE_UP_TO, *ROUTE)
        assert complete is not None
        assert heard_at - 60 <= complete <= heard_at
        assert delays_seen(rig, "notification") == []
        assert rig.meters.count(catalogue.IMPLAUSIBLE_TIMES, "notification") == 1
        await rig.settled()


async def test_t8_a_week_old_object_that_is_pending_holds_back_what_is_complete(rig: Rig) -> None:
    """Its event alone is not believed; S3's own word at the first look is, and it is followed but never counted."""
    async with rig.running():
        rig.put("new")
        await asyncio.sleep(300)
        assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, *ROUTE) is not None
        delay = rig.delays.largest
        before = delays_seen(rig, "cloudtrail")
        at = rig.clock.now() - 8 * DAY
        name = rig.put("old", takes=300)
        rig.s3.fates[name].written_at = at
        rig.inbox._stored.clear()
        rig.inbox.send(written("old", at=at))
        await asyncio.sleep(200)
        (slot,) = await rig.ledger.backlog()
        assert slot.written_from == at // 60 * 60
        complete = rig.meters.gauge(catalogue.COMPLETE_UP_TO, *ROUTE)
        assert complete == at // 60 * 60
        assert delays_seen(rig, "cloudtrail") == before
        assert rig.meters.count(catalogue.IMPLAUSIBLE_TIMES, "cloudtrail") == 1
        assert rig.delays.largest == delay
        await rig.until(lambda: rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 1)
        assert await rig.backlog() == 0
        assert completed(rig) == 1


async def test_t8_an_event_of_tomorrow_is_dated_by_s3(rig: Rig) -> None:
    """Its object counts, with the latency that S3's own time of the write gives."""
    async with rig.running():
        rig.put("a")
        rig.inbox._stored.clear()
        rig.inbox.send(written("a", at=rig.clock.now() + DAY))
        await rig.until(lambda: completed(rig) == 1)

    waits = rig.meters.observed[catalogue.LATENCY.name, *ROUTE]
    assert max(seconds for seconds, _ in waits) < 60
    assert rig.meters.count(catalogue.IMPLAUSIBLE_TIMES, "cloudtrail") == 1


SAMPLE_OF_1970 = (
    '{"Records": [{"eventVersion": "2.0", "eventSource": "aws:s3", "awsRegion": "eu-west-1",'
    ' "eventTime": "1970-01-01T00:00:00.000Z", "eventName": "ObjectCreated:Put",'
    ' "userIdentity": {"principalId": "EXAMPLE"}, "s3": {"bucket": {"name": "src"},'
    ' "object": {"key": "test%2Fkey", "size": 1024, "versionId": "exampleVersion"}}}]}'
)
"""As consoles and tutorials have it, with somebody's bucket filled in."""


async def test_t7_nothing_is_swept_on_an_unsure_clock() -> None:
    """Marks stay, whatever time it seems to be, until it is sure."""
    local = LoopClock()
    rig = rig_on(local, dated=False)
    async with rig.running():
        rig.put("a")
        await rig.until(lambda: completed(rig) == 1 and not rig.inbox.waiting)
        local.sure = False
        local.leap(20 * DAY)
        await asyncio.sleep(600)
        trail = await rig.ledger.find("a", "v1")
        assert len(trail.marks) == 1
        local.sure = True
        await asyncio.sleep(600)
        trail = await rig.ledger.find("a", "v1")
        assert trail.marks == {}


async def test_t7_nothing_is_given_up_on_an_unsure_clock() -> None:
    """A look that was under way when the clock leapt ends nothing by an age that nobody knows."""
    rig = Rig()
    name = rig.put("a", takes=3600)
    record = Record(
        version=name,
        region="eu-west-1",
        written_at=rig.clock.now(),
        next_look_at=rig.clock.now(),
        destinations=(Destination("dst"),),
    )
    rig.clock.leap(15 * DAY)
    rig.s3.fates[name].done_at += 15 * DAY
    rig.clock.sure = False
    assert isinstance(await rig.looker.consider(record), Wait)
    rig.clock.sure = True
    assert isinstance(await rig.looker.consider(record), Settle)


async def test_t7_no_replica_is_called_unmatched_on_an_unsure_clock(rig: Rig) -> None:
    """Its source's event has its hour, by a time that is sure."""
    async with rig.running():
        rig.inbox.send(replica_cloudtrail("a", at=rig.clock.now()))
        await rig.settled()
        rig.clock.sure = False
        rig.clock.leap(DAY)
        await asyncio.sleep(60)
        assert rig.meters.count(catalogue.REPLICAS_ORPHANED, "dst") == 0
        rig.clock.sure = True
        await asyncio.sleep(60)
        assert rig.meters.count(catalogue.REPLICAS_ORPHANED, "dst") == 1
