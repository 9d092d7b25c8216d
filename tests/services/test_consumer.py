"""From a message to a durable fact and its acknowledgement."""

import asyncio

import msgspec
import pytest
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Fact
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.services.intake.visibility import VISIBILITY_SECONDS
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.tracker import FirstLook
from fakes.events import notification, replica_cloudtrail, written
from fakes.rig import DAY, Rig
from fakes.s3 import Fate


def outcomes(rig: Rig, status: str = "completed", destination: str = "dst") -> float:
    """Tell how many outcomes of a kind were counted."""
    return rig.meters.count(catalogue.REPLICATIONS, "src", destination, status)


async def test_an_object_that_is_done_costs_one_look_and_is_acknowledged(rig: Rig) -> None:
    """Completed at its first look: counted, no record, one HEAD, message deleted."""
    async with rig.running():
        rig.put("a", takes=0)
        await rig.settled()

    assert outcomes(rig) == 1
    assert len(rig.s3.looks) == 1
    assert await rig.backlog() == 0


async def test_d10_what_is_pending_is_parked_and_looked_at_again(rig: Rig) -> None:
    """D10: PENDING at the first look is durable in the ledger, the message is deleted, and the poller finishes it."""
    async with rig.running():
        rig.put("a", takes=200)
        await rig.settled()
        assert await rig.backlog() == 1
        assert outcomes(rig) == 0

        await rig.until(lambda: outcomes(rig) == 1)
        assert await rig.backlog() == 0
        assert rig.meters.observed["crrmon_poll_lag_seconds",]


async def test_d5_d42_duplicates_count_once_and_cost_one_look_when_they_come_together(
    rig: Rig,
) -> None:
    """Invariant 2, D5: five deliveries of one event are one object; all are acknowledged."""
    async with rig.running():
        rig.put("a", takes=0, copies=5)
        await rig.settled()
        rig.inbox.send(written("a", at=rig.clock.now()))
        await rig.settled()

    assert outcomes(rig) == 1
    assert len(rig.s3.looks) == 1
    assert rig.meters.count(catalogue.DUPLICATES, "src") == 5


async def test_invariant_1_nothing_is_acknowledged_before_it_is_durable(rig: Rig) -> None:
    """Invariant 1: while the ledger is away messages stay in the queue, kept hidden; none is deleted."""
    async with rig.running():
        await asyncio.sleep(1)
        rig.put("a", takes=0)
        rig.ledger.away = True
        await asyncio.sleep(1200)
        assert rig.inbox.waiting == 1
        assert rig.inbox.acknowledged == []
        assert rig.inbox.most_receives == 1

        rig.ledger.away = False
        await rig.settled()
        await rig.until(lambda: outcomes(rig) == 1)


async def test_d42_invariant_10_a_poison_message_harms_only_itself(rig: Rig) -> None:
    """Invariant 10, D42: one malformed body among good ones: they are counted and deleted, it goes to the DLQ."""
    async with rig.running():
        rig.put("a")
        poison = rig.inbox.send('{"detail-type": 7, "source": [')
        rig.put("b")
        await rig.until(lambda: rig.inbox.waiting == 1)
        assert outcomes(rig) == 2

        await rig.until(lambda: rig.inbox.dead == [poison])
    assert rig.meters.count(catalogue.MESSAGES, "queue", "malformed") == 3
    assert poison not in rig.inbox.acknowledged


async def test_d2_failed_calls_are_acknowledged_and_not_looked_at() -> None:
    """D2: a call that S3 refused wrote nothing."""
    rig = Rig()
    async with rig.running():
        rig.inbox.send(written("a", at=rig.clock.now(), errorCode="AccessDenied"))
        await rig.settled()

    assert rig.s3.looks == []
    assert rig.meters.count(catalogue.EVENTS, "failed_call") == 1


async def test_d1_copies_and_multipart_uploads_are_followed(rig: Rig) -> None:
    """D1: every way to write an object counts."""
    async with rig.running():
        rig.put("a", name="CopyObject")
        rig.put("b", name="CompleteMultipartUpload")
        rig.put("c", name="PutObject")
        await rig.settled()

    assert outcomes(rig) == 3


async def test_d7_an_overwrite_loses_neither_version(rig: Rig) -> None:
    """Invariant 4, D7: two versions of one key are two objects, whatever order they are looked at in."""
    async with rig.running():
        rig.put("a", version="v1", takes=300, size=10)
        rig.put("a", version="v2", takes=0, size=5)
        await rig.until(lambda: outcomes(rig) == 2)

    assert rig.meters.count(catalogue.REPLICATED_BYTES, "src", "dst") == 15


async def test_a_key_outside_every_rule_ends_without_a_look() -> None:
    """D12: not covered by a configuration read after the write: counted as such, no HEAD."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("out/a")
        await rig.settled()

    assert rig.s3.looks == []
    assert rig.meters.count(catalogue.NOT_COVERED, "src", "no_rule") == 1


async def test_invariant_3_an_older_configuration_proves_nothing_uncovered() -> None:
    """Invariant 3: a rule added after the configuration was read covers what is written next; one read a minute."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/a")
        await rig.settled()
        rig.s3.rule("src", "dst", prefix="")
        rig.put("out/b")
        await rig.settled()
        assert outcomes(rig) == 2

        rig.s3.rule("src", "dst", prefix="in/")
        for number in range(50):
            rig.put(f"out/{number}", version=f"w{number}")
        await rig.settled()

    assert outcomes(rig) + rig.meters.count(catalogue.NOT_COVERED, "src", "no_rule") == 52
    assert len(rig.s3.reads) <= 3


async def test_an_unreadable_configuration_parks_the_object(rig: Rig) -> None:
    """Invariant 3: while nobody can tell where a key should go it is kept, and counted once somebody can."""
    rig.s3.unreadable = True
    async with rig.running():
        rig.put("a")
        await rig.settled()
        assert await rig.backlog() == 1
        await asyncio.sleep(7200)
        assert rig.s3.looks == []

        rig.s3.unreadable = False
        await rig.until(lambda: outcomes(rig) == 1)
    assert await rig.backlog() == 0
    assert len(rig.s3.reads) <= 130


async def test_a_first_look_beyond_the_hold_parks_at_once() -> None:
    """What need not be looked at soon is not held: it goes to the ledger without a look."""
    rig = Rig(hold_seconds=5.0)
    rig.s3.rule("src", "dst")
    rig.expect(290.0, 310.0)
    async with rig.running():
        for number in range(20):
            rig.put(f"a{number}", takes=300, version=f"v{number}")
        await rig.settled(within=20)
        assert len(rig.s3.looks) <= 4, "all but the early share wait in the ledger"
        assert await rig.backlog() == 20
        await rig.until(lambda: outcomes(rig) == 20)


async def test_memory_is_bounded_by_what_is_held() -> None:
    """Invariant 7: intake stops receiving before more is held than allowed."""
    rig = Rig(max_in_flight=30)
    rig.s3.rule("src", "dst")
    most = 0
    async with rig.running():
        rig.ledger.away = True
        for number in range(200):
            rig.put(f"a{number}", version=f"v{number}")
        for _ in range(100):
            most = max(most, len(rig.intake._held))
            await asyncio.sleep(1)
        rig.ledger.away = False
        await rig.until(lambda: outcomes(rig) == 200)
    assert most <= 40


def deletions(rig: Rig, many: int, *, bucket: str = "src") -> str:
    """Make one message that tells of so many deletions."""
    at = rig.clock.now()
    records = [
        msgspec.json.decode(
            notification(
                f"k{number}", at=at, bucket=bucket, size=None, event="ObjectRemoved:Delete"
            )
        )["Records"][0]
        for number in range(many)
    ]
    return msgspec.json.encode({"Records": records}).decode()


def facts_held(rig: Rig) -> int:
    """Count the facts that were read out of messages and are not dealt with."""
    return sum(held.weight for held in rig.intake._held.values())


async def test_r8_memory_is_bounded_by_the_facts_of_what_is_held() -> None:
    """R8: 2,000 messages of 2,600 records: one is dealt with at a time, and no more wait than one receive brings."""
    rig = Rig(max_in_flight=2000)
    over = asyncio.Event()

    async def stuck(fact: Fact, hold: Hold) -> None:
        del fact, hold
        await over.wait()

    rig.facts.take_in = stuck  # type: ignore[method-assign]
    body = deletions(rig, 2600)
    most_facts = most_messages = 0
    for _ in range(2000):
        rig.inbox.send(body)
    async with rig.running():
        for _ in range(300):
            most_facts = max(most_facts, facts_held(rig))
            most_messages = max(most_messages, len(rig.intake._held))
            await asyncio.sleep(1)
        assert rig.inbox.most_receives == 1, "what waits is kept hidden"

    assert most_facts == 2600
    assert most_messages == 10


async def test_r8_large_and_small_messages_are_all_dealt_with_in_their_order() -> None:
    """R8: what fits is dealt with together; what is larger than all room waits until it is alone, others behind it."""
    rig = Rig(max_in_flight=100)
    sizes = [1, 60, 39, 250, 1, 80, 1, 101, 30]
    entered: list[int] = []
    together = 0
    async with rig.running():
        await asyncio.sleep(1)
        take_in = rig.facts.take_in

        async def slow(fact: Fact, hold: Hold) -> FirstLook | None:
            nonlocal together
            number = int(fact.version.bucket.removeprefix("src-"))
            if number not in entered:
                entered.append(number)
            weights = [one.weight for one in rig.intake._held.values() if one.weight]
            assert sum(weights) <= 100 or len(weights) == 1
            together = max(together, len(weights))
            await asyncio.sleep(0.1)
            return await take_in(fact, hold)

        rig.facts.take_in = slow  # type: ignore[method-assign]
        for number, size in enumerate(sizes):
            rig.inbox.send(deletions(rig, size, bucket=f"src-{number}"))
        await rig.settled()

    assert entered == list(range(len(sizes)))
    assert together == 3
    assert len(rig.inbox.acknowledged) == len(sizes)
    assert rig.meters.count(catalogue.EVENTS, "version_deleted") == sum(sizes)
    assert rig.intake._admission.free == 1
    assert rig.meters.gauges[catalogue.MESSAGES_IN_FLIGHT.name, "queue"] == 0


async def test_r8_a_message_that_breaks_while_it_is_read_leaves_the_room_as_it_was() -> None:
    """R8: whatever is wrong with one message, others are received and dealt with."""
    rig = Rig(max_in_flight=100)
    rig.s3.rule("src", "dst")
    async with rig.running():
        await asyncio.sleep(1)
        for _ in range(30):
            rig.inbox.send(7)  # type: ignore[arg-type] - nothing that could be read
            rig.inbox.send("{")
        for number in range(30):
            rig.put(f"a{number}", version=f"v{number}")
        await rig.until(lambda: outcomes(rig) == 30, within=60)
        await rig.until(lambda: not rig.intake._held)

    assert rig.intake._admission.free == 1


async def test_r8_what_waits_for_room_is_given_back_when_the_daemon_stops() -> None:
    """R8: a message that was not let in yet goes back to the queue at once; one that is dealt with is finished."""
    rig = Rig(max_in_flight=100)
    async with rig.running():
        await asyncio.sleep(1)
        rig.ledger.away = True
        rig.inbox.send(deletions(rig, 90))
        rig.inbox.send(deletions(rig, 90))
        await rig.until(lambda: len(rig.intake._held) == 2)
        rig.intake.stop()
        await rig.until(lambda: rig.inbox.visible == 1, within=5)
        rig.ledger.away = False
        await rig.intake.drained()

    assert rig.inbox.waiting == 1
    assert rig.meters.count(catalogue.RETURNED_MESSAGES, "queue") == 1
    assert rig.intake._admission.free == 1


async def test_stopping_gives_back_what_waits_and_finishes_what_is_looked_at() -> None:
    """On SIGTERM nothing is lost: what waits for its first look is visible again at once."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/a", version="v1")
        await rig.settled()
        rig.put("out/b", version="v2")  # not covered by what was read: waits for the next reading
        await rig.until(lambda: len(rig.intake._held) == 1)
        assert rig.inbox.visible == 0
        rig.intake.stop()
        await rig.intake.drained()

    assert rig.inbox.visible == 1
    assert rig.meters.count(catalogue.RETURNED_MESSAGES, "queue") == 1


async def rig_with_first_looks_to_wait_for() -> tuple[Rig, list[ObjectVersion]]:
    """Begin a daemon that holds two messages without a task: of one write, and of that one and another."""
    rig = Rig()
    rig.s3.rule("src", "dst")
    rig.expect(30.0, 31.0)
    rig.start()
    await asyncio.sleep(1)
    at = rig.clock.now()
    bodies = [notification(f"a{number}", at=at, version=f"v{number}") for number in range(2)]
    names = [ObjectVersion("src", f"a{number}", f"v{number}") for number in range(2)]
    for name in names:
        rig.s3.fates[name] = Fate(at + 29.0, Sight.COMPLETED, written_at=int(at))
    records = [msgspec.json.decode(body)["Records"][0] for body in bodies]
    rig.inbox.send(bodies[0])
    rig.inbox.send(msgspec.json.encode({"Records": records[::-1]}).decode())
    await rig.until(lambda: len(rig.intake._held) == 2)
    await asyncio.sleep(1)
    assert not rig.intake._attending
    return rig, names


async def alone(rig: Rig, names: list[ObjectVersion]) -> None:
    """Find that nobody deals with some versions any more."""
    for name in names:
        async with asyncio.timeout(1), rig.daemon.tracker.alone(name):
            pass


async def test_what_waits_without_a_task_is_given_back_when_the_daemon_stops() -> None:
    """At once and unseen: neither a first look that was waited for nor what else its message tells is gone on with."""
    rig, names = await rig_with_first_looks_to_wait_for()
    rig.intake.stop()
    async with asyncio.timeout(1):
        await rig.intake.drained()
    assert rig.inbox.visible == 2
    assert rig.meters.count(catalogue.RETURNED_MESSAGES, "queue") == 2
    assert rig.meters.gauge(catalogue.MESSAGES_IN_FLIGHT, "queue") == 0

    await asyncio.sleep(60)
    assert rig.s3.looks == []
    assert rig.inbox.waiting == 2
    await alone(rig, names)
    await rig.kill()


async def test_what_waits_without_a_task_is_let_go_when_the_daemon_is_abandoned() -> None:
    """Nobody looks when its time comes: it stays in the queue, hidden for a while, for whoever receives it next."""
    rig, names = await rig_with_first_looks_to_wait_for()
    await rig.kill()
    assert rig.inbox.visible == 0

    await asyncio.sleep(60)
    assert rig.s3.looks == []
    await alone(rig, names)
    await asyncio.sleep(VISIBILITY_SECONDS)
    assert rig.inbox.visible == rig.inbox.waiting == 2

    other = Rig(ledger=rig.ledger, inbox=rig.inbox, s3=rig.s3, owner="two", clock=rig.truth)
    async with other.running():
        await other.until(lambda: outcomes(other) == 2)
        await other.settled()


async def test_d6_an_event_older_than_the_retention_is_not_newly_counted(rig: Rig) -> None:
    """Invariant 2, D6: a replayed old event is followed, but adds only to what is too old."""
    async with rig.running():
        name = rig.put("a", version="v1")
        await rig.settled()
        rig.clock.ahead += 6 * DAY
        await rig.ledger.sweep(now=rig.clock.now())
        rig.inbox.send(written("a", at=rig.s3.fates[name].written_at))
        await rig.settled()

    assert outcomes(rig) == 1
    assert rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 1


async def test_an_event_without_version_id_is_counted_under_the_version_found(rig: Rig) -> None:
    """Invariant 4: adopted, counted once, also when the same version is told with its id later."""
    async with rig.running():
        rig.put("a", takes=100)
        await rig.settled()
        rig.inbox.send(written("a", at=rig.clock.now() - 0.5, version=None))
        rig.put("b", version="v9", takes=0)
        rig.inbox.send(written("b", at=rig.clock.now(), version=None))
        await rig.settled()
        await rig.until(lambda: outcomes(rig) == 2)
        await asyncio.sleep(600)

    assert outcomes(rig) == 2
    assert await rig.backlog() == 0


@pytest.mark.parametrize("sight", [Sight.DENIED, Sight.UNREACHABLE, Sight.THROTTLED])
async def test_d8_d9_trouble_keeps_the_object(rig: Rig, sight: Sight) -> None:
    """D8, D9: 403, 503 and time-outs at the first look park the object; it is counted when S3 tells."""
    rig.s3.away = sight
    async with rig.running():
        rig.put("a")
        await rig.settled()
        assert await rig.backlog() == 1
        rig.s3.away = None
        await rig.until(lambda: outcomes(rig) == 1)
    assert await rig.backlog() == 0


async def test_many_uncovered_keys_are_told_by_one_reading() -> None:
    """All who wait for the next reading of a configuration get its answer; none is parked beside it."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/first", version="v0")
        await rig.settled()
        for number in range(40):
            rig.put(f"out/{number}", version=f"w{number}")
        await rig.settled(within=90)

    assert rig.meters.count(catalogue.NOT_COVERED, "src", "no_rule") == 40
    assert "park" not in rig.ledger.calls
    assert len(rig.s3.reads) == 2


async def test_an_arrival_known_during_the_hold_is_exact() -> None:
    """The replica's own event, come while the message is held, gives the latency to the millisecond."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    rig.expect(29.0, 31.0)
    async with rig.running():
        for number in range(20):
            rig.put(f"in/{number}", version=f"v{number}", takes=7)
        await asyncio.sleep(8)
        for number in range(20):
            replica = {"principalId": "AROAEXAMPLE:s3-replication"}
            at = rig.s3.fates[rig.s3.current["src", f"in/{number}"]].written_at + 7
            rig.inbox.send(
                written(
                    f"in/{number}", at=at, bucket="dst", version=f"v{number}", userIdentity=replica
                )
            )
        await rig.until(lambda: outcomes(rig) == 20)

    exact = rig.meters.count(catalogue.LATENCY_EXACT, "src", "dst")
    assert exact >= 15, "all but those looked at early"


async def test_a_customer_provided_key_is_unreadable_only_when_s3_takes_other_requests(
    rig: Rig,
) -> None:
    """400 ends an object only if the daemon's own requests are in order; then it does, after three answers."""
    async with rig.running():
        rig.put("a", then=Sight.REFUSED)
        await rig.until(lambda: outcomes(rig, "unreadable") == 1)
    assert len(rig.s3.looks) == 4


# ---- trouble ----


async def test_r4_a_message_whose_handling_fails_takes_nobodys_place() -> None:
    """R4, R11: such messages end in the dead-letter queue, others are dealt with meanwhile, and lines are few."""
    rig = Rig(max_in_flight=20)
    rig.s3.rule("src", "dst")
    with structlog.testing.capture_logs() as logs:
        async with rig.running():
            for number in range(100):
                rig.s3.poison.add(f"poison{number}")
                rig.put(f"poison{number}", version=f"p{number}", takes=0)
            rig.put("well", takes=0)
            await rig.until(lambda: outcomes(rig) == 1, within=120)
            await rig.until(lambda: len(rig.inbox.dead) == 100)
            assert rig.meters.gauge(catalogue.MESSAGES_IN_FLIGHT, "queue") == 0
            await asyncio.sleep(120)

    told = [one for one in logs if one["event"] == "message_failed"]
    assert sum(one["times"] for one in told) == 3 * 100
    assert len(told) < 15
    assert isinstance(told[0]["exc_info"], RuntimeError)
    assert told[0]["examples"] == [told[0]["message_id"]]


async def test_r11_malformed_messages_are_a_line_a_minute() -> None:
    """R11: fifteen hundred of them, received three times each, are all counted, and told of in a few lines."""
    rig = Rig()
    with structlog.testing.capture_logs() as logs:
        async with rig.running():
            for number in range(1500):
                rig.inbox.send(f"no JSON {number}")
            await rig.until(lambda: len(rig.inbox.dead) == 1500)
            await asyncio.sleep(120)

    assert rig.meters.count(catalogue.MESSAGES, "queue", "malformed") == 3 * 1500
    told = [one for one in logs if one["event"] == "message_malformed"]
    assert len(told) < 30
    assert told[0]["message_id"] == "m1"
    assert told[0]["times"] == 1
    assert sum(one["times"] for one in told) >= 1500


async def test_r10_thousands_of_held_messages_stay_hidden() -> None:
    """R10: extending them takes a second a call; none comes again before it is dealt with, and the keeper is alive."""
    rig = Rig(max_in_flight=2_500, hold_seconds=DAY)
    rig.s3.rule("src", "dst")
    rig.s3.unreadable = True
    rig.inbox.slow = 1.0
    async with rig.running():
        at = rig.clock.now()
        for number in range(2_400):
            rig.inbox.send(written(f"a{number}", at=at, version=f"v{number}"))
        await rig.until(lambda: rig.inbox.visible == 0, within=60)
        for _ in range(30):
            await asyncio.sleep(10)
            assert rig.inbox.visible == 0
            assert rig.board.live().ok
        assert rig.inbox.most_receives == 1
        assert rig.meters.gauge(catalogue.MESSAGES_IN_FLIGHT, "queue") == 2_400


async def test_r10_the_age_of_a_queue_is_absent_while_nobody_can_tell() -> None:
    """R10: before the first receive, and while the queue cannot be read, there is no age: not 0, and not an old one."""
    rig = Rig()
    rig.inbox.away = True
    async with rig.running():
        for _ in range(10):
            await asyncio.sleep(5)
            assert rig.intake.queue_age is None
            assert rig.meters.gauge(catalogue.QUEUE_AGE, "queue") is None
        rig.inbox.away = False
        await rig.until(lambda: rig.meters.gauge(catalogue.QUEUE_AGE, "queue") == 0, within=120)
        rig.inbox.away = True
        rig.inbox.send("{}")
        await asyncio.sleep(60)
        assert rig.meters.gauge(catalogue.QUEUE_AGE, "queue") is None


async def test_r2_that_deleting_failed_is_over_when_there_is_nothing_to_delete(rig: Rig) -> None:
    """R2: the messages that could not be deleted went to others: this daemon deletes nothing and is ready again."""
    async with rig.running():
        for number in range(5):
            rig.put(f"a{number}", version=f"v{number}", takes=0)
        rig.inbox.undeletable = True
        await rig.until(lambda: not rig.board.ready().ok)
        assert "unavailable" in rig.board.ready().details["deleting from queue"]
        rig.inbox._stored.clear()
        await asyncio.sleep(700)
        assert rig.board.ready().ok


async def test_when_a_buckets_last_event_came(rig: Rig) -> None:
    """Each bucket that is written to has the time at which a message about that was last received."""
    async with rig.running():
        assert rig.meters.gauge(catalogue.LAST_EVENT, "src") is None
        rig.put("a", takes=30)
        await rig.until(lambda: rig.meters.gauge(catalogue.LAST_EVENT, "src") is not None)
        first = rig.meters.gauge(catalogue.LAST_EVENT, "src")
        assert first == pytest.approx(rig.clock.now(), abs=2)
        await asyncio.sleep(500)
        rig.inbox.send(replica_cloudtrail("a", at=rig.clock.now(), bucket="dst"))
        await asyncio.sleep(10)
        assert rig.meters.gauge(catalogue.LAST_EVENT, "src") == first
        assert rig.meters.gauge(catalogue.LAST_EVENT, "dst") is None
        rig.put("b", version="w1", takes=0)
        await asyncio.sleep(10)
        assert rig.meters.gauge(catalogue.LAST_EVENT, "src") == pytest.approx(first + 510, abs=5)


async def test_t9_a_multipart_upload_without_version_id_is_found(rig: Rig) -> None:
    """S3 stamps it with the beginning of the upload, half an hour before its event: it is that object all the same."""
    async with rig.running():
        await asyncio.sleep(60)
        now = rig.clock.now()
        for key, name in (("big", "CompleteMultipartUpload"), ("plain", "PutObject")):
            found = rig.s3.current["src", key] = ObjectVersion("src", key, "v1")
            rig.s3.fates[found] = Fate(now, size=7, written_at=now - 1800)
            rig.inbox.send(written(key, at=now, version=None, name=name))
        await rig.until(lambda: rig.meters.count(catalogue.UNIDENTIFIED, "src") == 1)
        await rig.until(lambda: outcomes(rig) == 1)

    assert outcomes(rig) == 1
    assert (await rig.ledger.find("big", "v1")).marks
    assert max(one for one, _ in rig.meters.observed[catalogue.LATENCY.name, "src", "dst"]) < 60
