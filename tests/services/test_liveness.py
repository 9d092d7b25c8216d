"""No outage, however long, makes the daemon look dead: a restart would not help."""

import asyncio
from collections.abc import Callable

import pytest

from crrmon.domain import catalogue
from crrmon.domain.observations import Sight
from crrmon.services.membership.sweeper import sweeper
from fakes.rig import DAY, Rig

LOOPS = {
    "intake queue",
    "visibility queue",
    "poller",
    "leases",
    "publisher",
    "fleet",
    "heartbeat",
    "orphaned",
    "sweeper",
}
MINUTES = 31


def ledger_away(rig: Rig) -> None:
    rig.ledger.away = True


def ledger_slow(rig: Rig) -> None:
    rig.ledger.delays = dict.fromkeys(("settle", "reschedule", "park", "due", "renew"), 9.0)


def s3_unreachable(rig: Rig) -> None:
    rig.s3.away = Sight.UNREACHABLE
    rig.s3.unreadable = True


def s3_throttled(rig: Rig) -> None:
    rig.s3.away = Sight.THROTTLED
    rig.s3.unreadable = True


def s3_timing_out(rig: Rig) -> None:
    rig.s3.dead = {"src"}


def queue_away(rig: Rig) -> None:
    rig.inbox.away = True


def cloudwatch_away(rig: Rig) -> None:
    rig.sink.away = True


def cloudwatch_hanging(rig: Rig) -> None:
    rig.sink.slow = DAY


def everything_away(rig: Rig) -> None:
    for begin in (ledger_away, s3_unreachable, queue_away, cloudwatch_away):
        begin(rig)


OUTAGES = [
    ledger_away,
    ledger_slow,
    s3_throttled,
    s3_timing_out,
    queue_away,
    cloudwatch_hanging,
    everything_away,
]


async def _always_live(rig: Rig, *, minutes: int) -> None:
    for _ in range(minutes * 6):
        await asyncio.sleep(10)
        verdict = rig.board.live()
        assert verdict.ok, verdict.details


@pytest.mark.parametrize("begin", OUTAGES, ids=lambda one: one.__name__)
async def test_r1_every_loop_is_alive_through_every_outage(begin: Callable[[Rig], None]) -> None:
    """R1: poller and intake full, then half an hour of an outage: /livez is 200 at every moment, of every loop."""
    rig = Rig(max_in_flight=20)
    rig.s3.rule("src", "dst")
    async with rig.running():
        upkeep = asyncio.create_task(
            sweeper(rig.ledger, rig.daemon.runtime, health=rig.board.dependency("upkeep"))
        )
        for number in range(60):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        rig.s3.slow = 5.0
        rig.clock.ahead += 7200
        await rig.until(lambda: len(rig.poller._busy) == 32)
        for number in range(40):
            rig.put(f"b{number}", version=f"w{number}", takes=DAY)
        begin(rig)
        await _always_live(rig, minutes=MINUTES)
        assert rig.board.live().details.keys() >= LOOPS, (
            "there may be more, which are alive as well"
        )
        upkeep.cancel()


async def test_r1_a_receiver_that_nobody_may_know_of_yet_is_alive() -> None:
    """R1: while the ledger is away from the start, receivers wait to be announced, and say that they do."""
    rig = Rig()
    rig.ledger.away = True
    async with rig.running():
        await _always_live(rig, minutes=35)
        assert rig.board.live().details["intake queue"] == "ok"
        assert rig.inbox.received == 0


async def test_r1_visits_that_never_end_are_a_fault_while_nothing_is_away(rig: Rig) -> None:
    """R1: a full poller in which nothing moves, though ledger and S3 answer others, is a reason for a restart."""
    async with rig.running():
        for number in range(60):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        rig.s3.slow = DAY
        rig.clock.ahead += 7200
        await rig.until(lambda: len(rig.poller._busy) == 32)
        await asyncio.sleep(200)
        assert "no progress" in rig.board.live().details["poller"]


async def test_r9_probing_is_no_success(rig: Rig) -> None:
    """R9: after minutes of nothing but 503, S3 is away; the loops that only probe it succeed no more until it is back."""
    async with rig.running():
        for number in range(60):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        rig.s3.away = Sight.THROTTLED
        rig.clock.ahead += 7200
        for number in range(22 * 6):
            rig.put(f"b{number}", version=f"w{number}", takes=0)
            await asyncio.sleep(10)
        away = rig.board.ready()
        assert not away.ok
        assert "no other answer for" in away.details["s3"]
        assert rig.meters.gauge(catalogue.DEPENDENCY_UP, "s3") == 0
        since = rig.meters.gauge(catalogue.DEPENDENCY_SINCE, "s3")
        assert since is not None
        assert 10 * 60 < rig.clock.now() - since < 22 * 60, "it took some minutes to be sure"
        for loop in ("poller", "intake queue"):
            success = rig.meters.gauge(catalogue.LOOP_SUCCESS, loop)
            assert success is not None
            assert rig.clock.now() - success > 10 * 60

        rig.s3.away = None
        await rig.until(lambda: rig.board.ready().ok, within=120)
        assert rig.meters.gauge(catalogue.DEPENDENCY_UP, "s3") == 1
        for loop in ("poller", "intake queue"):
            await rig.until(lambda loop=loop: _age(rig, loop) < 30, within=120)


def _age(rig: Rig, loop: str) -> float:
    success = rig.meters.gauge(catalogue.LOOP_SUCCESS, loop)
    assert success is not None
    return rig.clock.now() - success
