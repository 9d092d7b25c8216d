"""What MinIO tells of how replication went: of every try, of deletions as of objects, and at the source only."""

import asyncio
import datetime as dt
import json
from pathlib import Path

import pytest

from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from fakes.clock import LoopClock
from fakes.meters import FakeMeters
from fakes.minio import Minio, Reply, Site, account, probing
from fakes.minio_watched import told, watched
from fakes.rig import Rig

HOUR = 3600.0
A, B = "a-one", "b-one"
HEADS = Path(__file__).parents[1] / "data" / "minio" / "heads_while_destination_down.json"

FORMS = pytest.mark.parametrize("old_form", [False, True], ids=["own-arn", "role"])
ORDERS = pytest.mark.parametrize("gathered", [0.0, 4.0], ids=["in-order", "reversed"])


def pair(world: Minio, *, old_form: bool = False) -> tuple[Site, Site]:
    """Found two sites with a bucket each, and a rule from the first to the second."""
    here, there = world.site(), world.site()
    here.make(A)
    there.make(B)
    here.replicate(A, there, B, old_form=old_form)
    return here, there


def heads(site: Site) -> int:
    """Tell how many looks a site had."""
    return sum(method == "HEAD" for method, _, _ in site.asked)


def sent(site: Site, name: str) -> int:
    """Tell how many events of a kind a site sent."""
    return sum(json.loads(one)["EventName"].endswith(name) for one in site.events)


async def whole_backlog(rig: Rig) -> int:
    """Tell how many objects are pending or failed."""
    slots = await rig.ledger.backlog()
    return sum(one.pending_objects + one.failed_objects for one in slots)


@FORMS
async def test_m3_what_fails_is_looked_at_as_seldom_as_if_nobody_told_of_every_try(
    world: Minio, *, old_form: bool
) -> None:
    """
    M3: 20 broken objects, a try with every HEAD and a notice of every try, for an hour: two HEADs each and 20 failures.

    Back in order, each is repaired when its store says so; what fails then is new.
    """
    here, there = pair(world, old_form=old_form)
    there.takes = False
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        for number in range(20):
            here.put(A, f"broken/{number}")
        await asyncio.sleep(60)
        first = heads(here)
        assert first <= 20 * 3
        await asyncio.sleep(HOUR - 60)

        assert heads(here) <= first + 20 * 2, (
            "one an hour and object, by the schedule of open failures"
        )
        assert sent(here, "FailedReplication") >= heads(here), "else the case is none"
        assert told(rig, catalogue.FAILURE_REASONS, A, "unknown") == {"none": 20}
        assert told(rig, catalogue.REPLICATIONS, A, B) == {"failed": 20}
        there.takes = True
        here.scan()
        looked = heads(here)
        await rig.until(lambda: rig.meters.count(catalogue.RECOVERED, A, B) == 20, within=5)
        assert heads(here) == looked
        there.takes = False
        here.put(A, "again")
        await asyncio.sleep(60)

        assert told(rig, catalogue.REPLICATIONS, A, B) == {"failed": 21, "completed": 20}
        assert told(rig, catalogue.FAILURE_REASONS, A, "unknown") == {"none": 21}
        assert await whole_backlog(rig) == 1


@ORDERS
@FORMS
async def test_m4_an_arrival_is_counted_by_its_stores_word_alone(
    world: Minio, *, old_form: bool, gathered: float
) -> None:
    """M4: exact, without any look, of empty objects too, once however often it is told and in whatever order."""
    here, there = pair(world, old_form=old_form)
    accounts = [account(here, "a-*"), account(there, "b-*")]
    async with watched(world, accounts, reversed_within=gathered) as rig:
        await asyncio.sleep(1.5)
        for number in range(10):
            here.put(A, f"k/{number}", b"" if number % 2 else b"0123456789")
        await asyncio.sleep(10)
        for body in list(here.events):
            rig.inbox.send(body)
        await asyncio.sleep(120)

        assert told(rig, catalogue.REPLICATIONS, A, B) == {"completed": 10}
        assert rig.meters.count(catalogue.LATENCY_EXACT, A, B) == 10
        assert rig.meters.count(catalogue.REPLICATED_BYTES, A, B) == 50
        assert await whole_backlog(rig) == 0
        assert heads(here) <= 10, "none but those that are looked at early, to learn"
    took = rig.meters.observed[catalogue.LATENCY.name, A, B]
    assert max(value for value, _ in took) < 2.0


async def test_m4_what_a_look_saw_first_is_counted_once(world: Minio) -> None:
    """M4: the notice comes after the look; nothing is left of it."""
    here, there = pair(world)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        late: list[str] = []
        here.hear = lambda body: (late if "Replication:" in body else now).append(body)
        now: list[str] = []
        here.put(A, "k")
        await asyncio.sleep(2)
        rig.inbox.send(now.pop())
        await rig.until(lambda: rig.meters.count(catalogue.REPLICATIONS, A, B, "completed") == 1)
        assert heads(here) >= 1
        rig.inbox.send(late.pop())
        await rig.settled()
        await asyncio.sleep(60)

    assert told(rig, catalogue.REPLICATIONS, A, B) == {"completed": 1}
    assert await whole_backlog(rig) == 0


async def test_m4_an_arrival_before_the_write_took_no_time(world: Minio) -> None:
    """M4: the clocks of a store's servers may differ: no latency is below zero."""
    here, there = pair(world)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        heard = here.hear
        here.hear = lambda body: heard(_earlier(body) if "OperationCompleted" in body else body)
        here.put(A, "k")
        await rig.until(lambda: rig.meters.count(catalogue.LATENCY_EXACT, A, B) == 1)

    assert told(rig, catalogue.REPLICATIONS, A, B) == {"completed": 1}
    (took,) = rig.meters.observed[catalogue.LATENCY.name, A, B]
    assert 0 <= took[0] < 1.0


def _earlier(body: str) -> str:
    """Date an event an hour back."""
    message = json.loads(body)
    (record,) = message["Records"]
    at = dt.datetime.fromisoformat(record["eventTime"]) - dt.timedelta(hours=1)
    record["eventTime"] = at.isoformat().replace("+00:00", "Z")
    return json.dumps(message)


async def test_m4_of_several_destinations_it_is_a_reason_to_look(world: Minio) -> None:
    """M4: it names none of them. That all have it is seen at once, and when each had it is bounded by looks."""
    here, there, far = world.site(), world.site(), world.site()
    here.make(A)
    there.make(B)
    far.make("c-one")
    here.replicate(A, there, B)
    here.replicate(A, far, "c-one")
    there.takes = far.takes = False
    accounts = [account(here, "a-*"), account(there, "b-*"), account(far, "c-*")]
    async with watched(world, accounts) as rig:
        here.put(A, "k")
        await asyncio.sleep(700)
        there.takes = far.takes = True
        here.scan()

        def arrived() -> bool:
            return all(rig.meters.count(catalogue.RECOVERED, A, to) for to in (B, "c-one"))

        await rig.until(arrived, within=10)
    for to in (B, "c-one"):
        assert told(rig, catalogue.REPLICATIONS, A, to)["completed"] == 1


@ORDERS
@FORMS
async def test_m4_m5_markers_are_counted_as_laid_failed_and_arrived(
    world: Minio, *, old_form: bool, gathered: float
) -> None:
    """M4, M5: each once, whatever is told first; a failed one is no object, and is not looked at again and again."""
    here, there = pair(world, old_form=old_form)
    accounts = [account(here, "a-*"), account(there, "b-*")]
    async with watched(world, accounts, reversed_within=gathered) as rig:
        await asyncio.sleep(10)
        for number in range(5):
            here.mark(A, f"quick/{number}")
        await asyncio.sleep(10)
        assert told(rig, catalogue.DELETE_MARKERS, A, B) == {"created": 5, "arrived": 5}
        assert heads(here) == 0
        there.up = False
        for number in range(5):
            here.mark(A, f"slow/{number}")
        for _ in range(10):
            await asyncio.sleep(60)
            here.scan()
        down = {"created": 10, "arrived": 5, "failed": 5}
        assert told(rig, catalogue.DELETE_MARKERS, A, B) == down
        assert heads(here) <= 5
        there.up = True
        here.scan()
        await asyncio.sleep(10)

        assert told(rig, catalogue.DELETE_MARKERS, A, B) == {
            "created": 10,
            "arrived": 10,
            "failed": 5,
        }
        assert told(rig, catalogue.DELETE_MARKERS, A, "unknown") == {}
        assert told(rig, catalogue.REPLICATIONS, A, B) == {}
        assert rig.meters.count(catalogue.PURGES_FAILED, A, B) == 0
        assert await whole_backlog(rig) == 0


async def test_m5_a_purge_of_a_marker_that_fails_is_no_failure_of_the_marker(
    world: Minio,
) -> None:
    """M5: the marker failed and arrived; what fails after that is its own deletion, and a late notice is neither."""
    here, there = pair(world)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        there.up = False
        marker = here.mark(A, "m")
        await asyncio.sleep(30)
        late = next(one for one in here.events if "OperationFailed" in one)
        there.up = True
        here.scan()
        await asyncio.sleep(30)
        counted = {"created": 1, "failed": 1, "arrived": 1}
        assert told(rig, catalogue.DELETE_MARKERS, A, B) == counted
        rig.inbox.send(late)
        await asyncio.sleep(30)
        assert rig.meters.count(catalogue.PURGES_FAILED, A, B) == 0
        there.up = False
        here.purge(marker)
        for _ in range(3):
            await asyncio.sleep(30)
            here.scan()

    assert told(rig, catalogue.DELETE_MARKERS, A, B) == counted
    assert rig.meters.count(catalogue.PURGES_FAILED, A, B) == 1
    assert heads(here) == 0


@pytest.mark.parametrize("known", [True, False], ids=["known", "of-long-ago"])
@FORMS
async def test_m5_a_purge_that_fails_is_one_and_no_object(
    world: Minio, *, old_form: bool, known: bool
) -> None:
    """M5: counted once, however often it is tried; the object's own arrival stays what it was."""
    here, there = pair(world, old_form=old_form)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        told_of, here.hear = here.hear, here.hear if known else (lambda _: None)
        version = here.put(A, "k")
        await asyncio.sleep(30)
        here.hear = told_of
        there.up = False
        here.purge(version)
        for _ in range(10):
            await asyncio.sleep(60)
            here.scan()

        place = B if known else "unknown"
        assert rig.meters.count(catalogue.PURGES_FAILED, A, place) == 1
        assert told(rig, catalogue.REPLICATIONS, A, B) == ({"completed": 1} if known else {})
        assert told(rig, catalogue.DELETE_MARKERS, A, B) == {}
        assert heads(here) <= 2
        assert await whole_backlog(rig) == 0
        there.up = True
        here.scan()
        await asyncio.sleep(30)

        assert told(rig, catalogue.DELETE_MARKERS, A, B) == {}
        assert not there.holds(version, B)


async def test_m5_what_is_purged_before_it_replicated_is_gone(world: Minio) -> None:
    """M5: 405 with the purge's own status is no delete marker, so the object is gone and not one that cannot be read."""
    here, there = pair(world)
    there.up = False
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        version = here.put(A, "k")
        await asyncio.sleep(30)
        here.purge(version)
        await asyncio.sleep(1.2 * HOUR)

        assert told(rig, catalogue.REPLICATIONS, A, B) == {"failed": 1, "gone": 1}
        assert (
            rig.meters.count(catalogue.PURGES_FAILED, A, B)
            + rig.meters.count(catalogue.PURGES_FAILED, A, "unknown")
            == 1
        )
        assert await whole_backlog(rig) == 0


async def test_m5_users_markers_in_two_way_buckets_are_no_riddle(world: Minio) -> None:
    """M5: MinIO tells of no marker that replication laid, so each is counted where a user laid it, and arrives once."""
    here, there = pair(world)
    there.replicate(B, here, A)
    async with watched(
        world, [account(here, "a-*"), account(there, "b-*")], buckets=(A, B)
    ) as rig:
        await asyncio.sleep(10)
        here.mark(A, "one")
        there.mark(B, "two")
        await asyncio.sleep(30)

    assert rig.meters.count(catalogue.EVENTS, "delete_marker_ambiguous") == 0
    for source, destination in ((A, B), (B, A)):
        counted = told(rig, catalogue.DELETE_MARKERS, source, destination)
        assert counted == {"created": 1, "arrived": 1}


@ORDERS
async def test_m5_a_target_that_is_offline_is_why_and_not_s3s_tracking(
    world: Minio, *, gathered: float
) -> None:
    """M5: the reason of the failure that MinIO tells of beside; the object is followed until it arrives."""
    here, there = pair(world)
    there.up = False
    accounts = [account(here, "a-*"), account(there, "b-*")]
    async with watched(world, accounts, reversed_within=gathered) as rig:
        await asyncio.sleep(5)
        version = here.put(A, "k")
        here.mark(A, "m")
        await asyncio.sleep(120)
        assert told(rig, catalogue.THRESHOLD_NOTICES, A, "unknown") == {}
        reasons = told(rig, catalogue.FAILURE_REASONS, A, "unknown")
        assert reasons == ({"none": 1} if gathered else {"TargetOffline": 1})
        assert rig.meters.count(catalogue.EVENTS, "target_offline") >= 2
        (record,) = (await rig.ledger.find("k", version.version_id)).records.values()
        (failure,) = [one.failure for one in record.destinations]
        assert failure is not None
        assert failure.reason == "TargetOffline"
        there.up = True
        here.scan()
        await rig.until(lambda: rig.meters.count(catalogue.RECOVERED, A, B) == 1, within=10)

    assert await whole_backlog(rig) == 0


@pytest.mark.parametrize(
    ("bucket", "what", "sight"),
    [
        ("a-one", "purged_new", Sight.GONE),
        ("a-one", "purged_old", Sight.GONE),
        ("a-one", "marker", Sight.DELETE_MARKER),
        ("a-two", "purged_new", Sight.GONE),
        ("a-two", "purged_old", Sight.GONE),
        ("a-two", "marker", Sight.DELETE_MARKER),
    ],
)
async def test_m5_what_was_purged_is_gone_and_no_marker(
    world: Minio, bucket: str, what: str, sight: Sight
) -> None:
    """M5: real answers while the target was away: 405 of a version that waits for its purge says so by another header."""
    status, headers = json.loads(HEADS.read_text())[bucket][what]
    site = world.site()
    reply = Reply(status, headers)
    site.answer = lambda *_: reply  # type: ignore[method-assign]
    version = ObjectVersion(bucket, "k", headers.get("x-amz-version-id", "v1"))
    async with probing(
        world, [account(site, bucket)], clock=LoopClock(), meters=FakeMeters()
    ) as probe:
        seen = await probe.look(version, region="", owner=None)

    assert seen.sight is sight


async def test_m5_a_deletion_that_nobody_can_identify_is_told_of(world: Minio) -> None:
    """M5: neither the ledger nor a look knows what it was: it counts as neither, and its store tells again."""
    here, there = pair(world)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        there.up = False
        marker = here.mark(A, "m")
        now = json.loads(here.events[-1])["Records"][0]
        now["eventName"] = "s3:Replication:OperationFailedReplication"
        now["s3"]["object"] |= {"versionId": here.put(A, "object").version_id, "key": "object"}
        rig.inbox.send(json.dumps({"Records": [now]}))
        await asyncio.sleep(0.4)

    assert isinstance(marker, ObjectVersion)
    assert rig.meters.count(catalogue.EVENTS, "deletion_unidentified") == 1
