"""What is parked is looked at when it is due."""

import asyncio

import pytest
import structlog

from crrmon.domain import catalogue
from crrmon.domain.observations import Sight
from fakes.events import written
from fakes.ledger_values import record as parked
from fakes.rig import DAY, Rig

HOUR = 3600.0


async def test_d20_a_failure_counts_once_and_its_repair_once(rig: Rig) -> None:
    """D20: an open failure is looked at hourly without being counted again; repaired, it counts as replicated."""
    async with rig.running():
        name = rig.put("a", then=Sight.FAILED)
        await rig.settled()
        await asyncio.sleep(6 * 3600)
        failures, _ = await rig.ledger.failures()
        assert [one.version for one in failures] == [name]
        assert 5 <= len(rig.s3.looks) <= 10
        assert rig.sink.total("FailedReplications", "src") == 1

        rig.s3.fates[name].then = Sight.COMPLETED
        await asyncio.sleep(2 * 3600)
        assert (await rig.ledger.failures()) == ([], None)

    assert rig.meters.count(catalogue.RECOVERED, "src", "dst") == 1
    assert rig.sink.total("ReplicationObjects", "src", "dst") == 1
    assert rig.sink.total("FailedReplications", "src") == 1
    assert rig.meters.observed.get(("crrmon_replication_latency_seconds", "src", "dst")) is None


async def test_d22_one_odd_answer_does_not_stop_the_others(rig: Rig) -> None:
    """D22: an object without status among parked ones ends as not covered; the others go on."""
    async with rig.running():
        odd = rig.put("odd", version="v0", takes=100, then=Sight.NO_STATUS)
        for number in range(5):
            rig.put(f"a{number}", version=f"v{number}", takes=100)
        await rig.settled()
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 5
        )
        await rig.until(lambda: rig.meters.count(catalogue.NOT_COVERED, "src", "no_status") == 1)

    assert odd in rig.s3.looks


async def test_a_parked_version_that_is_deleted_is_gone(rig: Rig) -> None:
    """404 for a parked version is an outcome of its own, not a failure and not a success."""
    async with rig.running():
        name = rig.put("a", takes=10_000)
        await rig.settled()
        del rig.s3.fates[name]
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "gone") == 1
        )
    assert await rig.backlog() == 0


async def test_never_final_is_given_up_in_the_end(rig: Rig) -> None:
    """After 14 days of PENDING the object is given up, visibly."""
    async with rig.running():
        rig.put("a", takes=100 * DAY)
        await rig.settled()
        rig.clock.ahead += 14 * DAY
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "given_up") == 1
        )
    assert await rig.backlog() == 0


async def test_invariant_6_work_does_not_grow_with_what_is_pending(rig: Rig) -> None:
    """Invariant 6: polling asks only for what is due; no call of the loops lists what is pending."""
    async with rig.running():
        for number in range(150):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        await asyncio.sleep(7200)
        looks_before, calls_before = len(rig.s3.looks), len(rig.ledger.calls)
        await asyncio.sleep(600)

    assert "find" not in rig.ledger.calls
    assert "failures" not in rig.ledger.calls
    # 150 objects two hours old, looked at every 11 to 15 minutes, minus what an outage holds back.
    assert len(rig.s3.looks) - looks_before <= 150
    assert len(rig.ledger.calls) - calls_before <= 600 * (2 + 4) + 2 * 150


async def test_how_far_the_poller_is_behind_is_shown(rig: Rig) -> None:
    """The age of the most overdue look is there to scale on, and 0 once nothing waits any more."""
    async with rig.running():
        for number in range(5):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        await rig.until(lambda: rig.meters.gauge(catalogue.POLL_OVERDUE) == 0)
        rig.clock.ahead += 7200
        await rig.until(lambda: (rig.meters.gauge(catalogue.POLL_OVERDUE) or 0) > 6000)
        await rig.until(lambda: rig.meters.gauge(catalogue.POLL_OVERDUE) == 0)


async def test_parked_records_of_shards_that_others_hold_are_left_alone(rig: Rig) -> None:
    """A poller works only on the shards that its daemon holds."""
    for lease in await rig.ledger.leases():
        await rig.ledger.claim(lease, owner="somebody else")
    async with rig.running():
        rig.put("a", takes=15)
        await asyncio.sleep(18)
        looks = len(rig.s3.looks)
        await asyncio.sleep(5)
        assert len(rig.s3.looks) == looks
        await rig.until(  # the other one never renews, so its leases lapse
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 1,
            within=120,
        )


async def test_a_duplicate_does_not_override_what_the_record_knows(rig: Rig) -> None:
    """An event that comes again after a failure was repaired leaves the counting to the record: it was a repair."""
    async with rig.running():
        name = rig.put("a", then=Sight.FAILED)
        await rig.settled()
        rig.s3.fates[name].then = Sight.COMPLETED
        rig.inbox.send(written("a", at=rig.s3.fates[name].written_at))
        await rig.settled()
        assert rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 0
        await asyncio.sleep(2 * 3600)

    assert rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 1
    assert rig.meters.count(catalogue.RECOVERED, "src", "dst") == 1


async def test_an_object_parked_beyond_the_retention_still_counts_when_its_event_is_redriven(
    rig: Rig,
) -> None:
    """Invariant 2: what was parked in time is new when it completes, even if its event comes again too late."""
    async with rig.running():
        name = rig.put("a", takes=5 * DAY)
        await rig.settled()
        rig.clock.ahead += 5 * DAY
        rig.inbox.send(written("a", at=rig.s3.fates[name].written_at))
        await rig.settled()
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 1
        )
    assert rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 0


async def test_an_unreadable_configuration_is_asked_ever_more_rarely(rig: Rig) -> None:
    """Records that nobody can route do not keep the poller busy, and are given up by age like others."""
    rig.s3.unreadable = True
    async with rig.running():
        for number in range(20):
            rig.put(f"a{number}", version=f"v{number}")
        await rig.settled()
        await asyncio.sleep(3600)
        before = rig.ledger.calls.count("reschedule")
        await asyncio.sleep(1800)
        assert rig.ledger.calls.count("reschedule") - before <= 20 * 1800 / 150
        rig.clock.ahead += 14 * DAY
        unknown = ("src", "unknown", "given_up")
        await rig.until(lambda: rig.meters.count(catalogue.REPLICATIONS, *unknown) == 20)


# ---- visits that fail ----


async def test_r4_records_whose_visits_fail_keep_no_places(rig: Rig) -> None:
    """R4: as many poison records as there are places: they are put off ever longer, and all others are polled in time."""
    async with rig.running():
        poison = [f"poison{number}" for number in range(40)]
        for key in poison:
            rig.put(key, takes=HOUR)
        await rig.settled()
        rig.s3.poison.update(poison)
        with structlog.testing.capture_logs() as logs:
            rig.clock.ahead += 2 * HOUR
            await rig.until(lambda: rig.meters.gauge(catalogue.POLLS_DEFERRED) == 40, within=30)
            rig.put("well", takes=100)
            await rig.until(lambda: _completed(rig) == 1, within=300)
            await asyncio.sleep(1800)

        tries = rig.meters.count(catalogue.POLLS_FAILED)
        # At once, and then after 1, 2, 4, 8 and 16 minutes.
        assert 40 * 5 <= tries <= 40 * 7
        assert rig.meters.gauge(catalogue.POLLS_DEFERRED) == 40
        told = [one for one in logs if one["event"] == "poll_failed"]
        assert told[0]["example_keys"][0].startswith("poison")
        assert isinstance(told[0]["exc_info"], RuntimeError)
        assert sum(one["times"] for one in told) <= tries
        assert len(told) < 40

        rig.s3.poison.clear()
        await rig.until(lambda: _completed(rig) == 41, within=2 * HOUR)
        await rig.until(lambda: rig.meters.gauge(catalogue.POLLS_DEFERRED) == 0, within=5)


async def test_r4_records_that_no_ledger_takes_back_are_left_out(rig: Rig) -> None:
    """R4: where even the new date cannot be written, the longest due are asked for past those that are left alone."""
    async with rig.running():
        poison = [f"poison{number}" for number in range(100)]
        for number, key in enumerate(poison):
            rig.put(key, version=f"p{number}", takes=HOUR)
        await rig.settled()
        rig.s3.poison.update(poison)
        rig.ledger.poison.update(poison)
        rig.clock.ahead += 2 * HOUR
        await rig.until(lambda: rig.meters.gauge(catalogue.POLLS_DEFERRED) == 100, within=60)
        for number in range(100):
            rig.put(f"well{number}", version=f"w{number}", takes=100)
        await rig.until(lambda: _completed(rig) == 100, within=300)
        await asyncio.sleep(1200)

    assert rig.meters.count(catalogue.POLLS_FAILED) <= 100 * 7
    assert rig.board.live().ok


@pytest.mark.own_rounds
async def test_r4_whoever_holds_no_shards_forgets_what_was_put_off(rig: Rig) -> None:
    """R4, R2: records and their troubles go over to others with the shards; so does what is overdue."""
    async with rig.running():
        rig.put("poison", takes=HOUR)
        await rig.settled()
        rig.s3.poison.add("poison")
        rig.clock.ahead += 2 * HOUR
        await rig.until(lambda: rig.meters.gauge(catalogue.POLLS_DEFERRED) == 1, within=30)
        assert rig.meters.gauge(catalogue.POLL_OVERDUE) is not None
        rig.poller._shards = tuple
        await asyncio.sleep(1)
        assert rig.meters.gauge(catalogue.POLLS_DEFERRED) == 0
        assert rig.meters.gauge(catalogue.POLL_OVERDUE) is None, "there is nothing to be late with"


async def test_r10_how_far_the_poller_is_behind_is_not_zero_while_nobody_can_tell(
    rig: Rig,
) -> None:
    """R10: while the ledger is away the gauge is absent; afterwards it shows what piled up."""
    async with rig.running():
        for number in range(100):
            rig.put(f"a{number}", version=f"v{number}", takes=DAY)
        await rig.settled()
        await rig.until(lambda: rig.meters.gauge(catalogue.POLL_OVERDUE) == 0)
        rig.ledger.away = True
        await asyncio.sleep(5)
        for _ in range(60):
            await asyncio.sleep(60)
            assert rig.meters.gauge(catalogue.POLL_OVERDUE) is None
        rig.ledger.away = False
        await rig.until(lambda: (rig.meters.gauge(catalogue.POLL_OVERDUE) or 0) > 600, within=60)


def _completed(rig: Rig) -> float:
    return rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed")


async def test_t6_objects_whose_answers_cannot_be_read_harm_nobody_else(rig: Rig) -> None:
    """Twelve of them, and nothing else to look at: S3 is not away, receiving goes on, others are counted as ever."""
    async with rig.running():
        odd = [rig.put(f"odd{number}", then=Sight.UNREADABLE) for number in range(12)]
        await rig.until(
            lambda: rig.meters.count(catalogue.HEAD_REQUESTS, "src", "source", "unreadable") >= 60
        )
        assert rig.board.ready().details["s3"] == "ok"
        assert not rig.looker.failing(parked(odd[0].key))

        for number in range(30):
            rig.put(f"{number}", takes=1.0)
        await rig.until(
            lambda: rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed") == 30,
            within=120,
        )
    assert await rig.backlog() == 12
    for version in odd:
        (record,) = (await rig.ledger.find(version.key, version.version_id)).records.values()
        assert record.troubles >= 1
