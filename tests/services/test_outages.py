"""An hour without the ledger, S3, the queue or CloudWatch: nothing is lost, nothing ends in the dead-letter queue."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from crrmon.domain import catalogue
from crrmon.domain.observations import Sight
from crrmon.ports.ledger import UnusableLedgerError
from fakes.rig import WINDOW, Rig

HOUR = 3600.0


def completed(rig: Rig) -> float:
    """Tell how many objects were counted as replicated."""
    return rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed")


async def write(rig: Rig, numbers: Iterator[int], *, seconds: float, every: float = 5.0) -> int:
    """Write an object every few seconds; they take up to 50 s to replicate. Return how many."""
    count = round(seconds / every)
    for number in itertools.islice(numbers, count):
        rig.put(f"a{number}", version=f"v{number}", takes=number * 7 % 50, size=10)
        await asyncio.sleep(every)
    return count


async def _through(rig: Rig, *, begin: object, end: object) -> int:
    """Write before, in and after an hour's outage; return how many were written."""
    rig.s3.rule("src", "dst")
    numbers = itertools.count()
    async with rig.running():
        count = await write(rig, numbers, seconds=300)
        begin()
        count += await write(rig, numbers, seconds=HOUR)
        end()
        count += await write(rig, numbers, seconds=300)
        await rig.until(lambda: completed(rig) == count)
        await rig.settled()
        await asyncio.sleep(3 * WINDOW)
    return count


def _told(rig: Rig, count: int) -> None:
    """Check that CloudWatch was told of every object once, one datapoint a window."""
    assert rig.inbox.dead == []
    assert rig.sink.total("ReplicationObjects", "src", "dst") == count
    assert rig.sink.total("ReplicatedBytes", "src", "dst") == 10 * count
    stamps = [at for at, _ in rig.sink.values("ReplicationObjects", "src", "dst")]
    assert len(stamps) == len(set(stamps)), "one datapoint per window"


@pytest.mark.parametrize("seed", range(4))
async def test_it_goes_on_as_soon_as_the_ledger_is_back(seed: int) -> None:
    """What is tried ever more rarely does not hold everybody up once others are answered."""
    rig = Rig(seed=seed)
    rig.s3.rule("src", "dst")
    async with rig.running():
        await write(rig, itertools.count(), seconds=60)
        rig.ledger.away = True
        await write(rig, itertools.count(100), seconds=300)
        assert not rig.board.ready().ok
        rig.ledger.away = False
        await rig.until(lambda: rig.board.ready().ok, within=4)


async def test_invariant_5_an_hour_without_the_ledger() -> None:
    """Invariant 5: nothing is received or lost while the ledger is away; the dead-letter queue stays empty."""
    rig = Rig()

    def begin() -> None:
        rig.ledger.away = True

    def end() -> None:
        assert not rig.board.ready().ok
        assert "ledger" in rig.board.ready().details
        assert rig.inbox.most_receives <= 1
        assert rig.board.live().ok, "an outage is no reason to be restarted"
        rig.ledger.away = False

    count = await _through(rig, begin=begin, end=end)

    _told(rig, count)
    assert rig.board.ready().ok


@pytest.mark.parametrize(
    "sight", [Sight.UNREACHABLE, Sight.THROTTLED, Sight.DENIED, Sight.REFUSED]
)
async def test_invariant_5_an_hour_without_s3(sight: Sight) -> None:
    """Invariant 5: an hour of 503, 403, time-outs or expired credentials loses nothing; it is counted afterwards."""
    rig = Rig()

    def begin() -> None:
        rig.s3.away = sight
        rig.s3.unreadable = True

    def end() -> None:
        assert rig.board.live().ok, "an outage is no reason to be restarted"
        rig.s3.away = None
        rig.s3.unreadable = False

    count = await _through(rig, begin=begin, end=end)

    _told(rig, count)
    assert rig.board.ready().ok


async def test_receiving_stops_while_s3_is_away(rig: Rig) -> None:
    """While S3 cannot be reached the queue keeps the messages; only now and then a few are taken to see."""
    numbers = itertools.count()
    async with rig.running():
        rig.s3.away = Sight.UNREACHABLE
        count = await write(rig, numbers, seconds=600, every=1.0)
        assert not rig.board.ready().ok
        assert rig.inbox.waiting > 0.5 * count
        rig.s3.away = None
        await rig.until(lambda: completed(rig) == count)
        await asyncio.sleep(2 * WINDOW)

    _told(rig, count)


async def test_one_dead_bucket_does_not_stop_the_others(rig: Rig) -> None:
    """A bucket that never answers costs its own objects' looks only: S3 is not away, others are found in time."""
    rig.s3.rule("dead", "dst")
    rig.s3.dead = {"dead"}
    async with rig.running():
        for number in range(100):
            rig.put(f"d{number}", bucket="dead", version=f"d{number}", takes=0)
        for number in range(60):
            rig.put(f"a{number}", version=f"v{number}", takes=20)
            await asyncio.sleep(1)
        await rig.until(lambda: completed(rig) == 60, within=600)
        assert rig.board.ready().ok
        rig.s3.dead = set()
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "dead", "dst", "completed") == 100
        )


async def test_an_unusable_ledger_ends_the_daemon_instead_of_the_queue(rig: Rig) -> None:
    """A ledger that is broken for good ends the daemon; nothing is acknowledged or driven into the dead-letter queue."""
    async with rig.running():
        rig.put("before", version="v0")
        await rig.settled()
        rig.ledger.broken = True
        rig.put("a")
        with pytest.raises(UnusableLedgerError):
            await rig.recorder.intact()
        await asyncio.sleep(HOUR)
        assert rig.inbox.most_receives == 1
    assert rig.inbox.dead == []
    assert len(rig.inbox.acknowledged) == 1


async def test_d46_queue_age_grows_while_nothing_is_received() -> None:
    """D46: what lies in the queue while intake is full and waits for the ledger does not look current."""
    rig = Rig(max_in_flight=10)
    rig.s3.rule("src", "dst")
    async with rig.running():
        rig.put("a")
        await rig.until(lambda: completed(rig) == 1)
        rig.ledger.away = True
        for number in range(20):
            rig.put(f"b{number}", version=f"w{number}")
        await asyncio.sleep(HOUR)
        age = rig.intake.queue_age

    assert age is not None
    assert age > 0.9 * HOUR


async def test_an_hour_without_the_queue() -> None:
    """Receiving goes on by itself when the queue is back; meanwhile the daemon says that it is not ready."""
    rig = Rig()

    def begin() -> None:
        rig.inbox.away = True

    def end() -> None:
        assert "unavailable" in rig.board.ready().details["queue queue"]
        rig.inbox.away = False

    count = await _through(rig, begin=begin, end=end)

    _told(rig, count)


async def test_an_hour_without_cloudwatch() -> None:
    """Windows wait in the ledger and are sent in order, each with its own time, when CloudWatch is back."""
    rig = Rig()

    def begin() -> None:
        rig.sink.away = True

    def end() -> None:
        assert rig.meters.gauge(catalogue.UNSENT_WINDOWS) >= HOUR / WINDOW - 2
        assert "unavailable" in rig.board.ready().details["cloudwatch"]
        rig.sink.away = False

    count = await _through(rig, begin=begin, end=end)

    _told(rig, count)
    stamps = [at for at, _ in rig.sink.values("FailedReplications", "src")]
    assert stamps == sorted(stamps)
    gaps = {later - sooner for sooner, later in itertools.pairwise(stamps)}
    assert gaps == {WINDOW}, "a zero for every window, idle or not"


async def test_an_answer_that_got_lost_changes_nothing(rig: Rig) -> None:
    """Invariant 2: a settle, park or reschedule that was carried out and reported as failed is not done twice."""
    numbers = itertools.count()
    async with rig.running():
        count = 0
        for _ in range(20):
            rig.ledger.deaf = 2
            count += await write(rig, numbers, seconds=30)
        await rig.until(lambda: completed(rig) == count)
        await asyncio.sleep(2 * WINDOW)

    _told(rig, count)


async def test_a_sink_that_does_not_answer_gets_the_same_bytes_again(rig: Rig) -> None:
    """Invariant 5: what may be repeated is one call with identical bytes, so that it can be told apart."""
    async with rig.running():
        rig.put("a")
        await rig.until(lambda: completed(rig) == 1)
        rig.sink.deaf = True
        await rig.until(lambda: len(rig.sink.calls) >= 3)
        rig.sink.deaf = False
        await asyncio.sleep(3 * WINDOW)

    repeated = [one for one in rig.sink.calls if rig.sink.calls.count(one) > 1]
    assert len(set(repeated)) == 1
    once = FakeOnce(rig)
    assert once.total("ReplicationObjects", "src", "dst") == 1


class FakeOnce:
    """What a sink was told, identical calls taken once."""

    def __init__(self, rig: Rig) -> None:
        self._sink = type(rig.sink)()
        self._sink.calls = list(dict.fromkeys(rig.sink.calls))

    def total(self, metric: str, *dimensions: str) -> float:
        return self._sink.total(metric, *dimensions)
