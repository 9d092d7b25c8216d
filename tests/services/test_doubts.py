"""Waves of 404: nothing is counted as gone while they are doubted, and everything is in the end, once."""

import asyncio

import structlog

from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.records import Record
from crrmon.services.tracking.doubts import Doubts
from fakes import events
from fakes.clock import LoopClock
from fakes.meters import FakeMeters
from fakes.rig import Rig
from fakes.s3 import FakeS3, Fate

HOUR = 3600.0
NEVER = 1e12


def gone(rig: Rig) -> float:
    return rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "gone")


def completed(rig: Rig) -> float:
    return rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed")


def held(rig: Rig) -> float | None:
    return rig.meters.gauge(catalogue.SETTLING_HELD, "src", "dst")


async def test_t5_a_wave_of_404_settles_nothing_and_is_over_when_answers_are_back() -> None:
    """Everything shows 404 for ten minutes: it is said once a minute; afterwards each object counts as it is."""
    rig = Rig(hold_seconds=5.0)
    rig.s3.rule("src", "dst")
    async with rig.running():
        for number in range(40):
            rig.put(f"{number}", takes=120.0)
        await asyncio.sleep(60)
        rig.s3.away = Sight.GONE
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(600)
        assert gone(rig) <= 3  # until it was clear that this is no chance
        assert held(rig) == 1
        told = [one for one in logs if one["event"] == "settling_held"]
        assert 5 <= len(told) <= 10
        assert told[-1]["bucket"] == "src"

        rig.s3.away = None
        await rig.until(lambda: completed(rig) + gone(rig) == 40)
        await asyncio.sleep(60)

    assert completed(rig) + gone(rig) == 40
    assert held(rig) == 0
    assert await rig.backlog() == 0


async def test_t5_a_mass_deletion_that_is_told_of_is_believed_at_once() -> None:
    """Each deletion has its event, and none of them counts towards a wave, parked or held as the object may be."""
    rig = Rig(hold_seconds=5.0)
    rig.s3.rule("src", "dst")
    async with rig.running():
        versions = [rig.put(f"{number}", takes=NEVER) for number in range(60)]
        await asyncio.sleep(120)
        for version in versions:
            rig.s3.fates[version] = Fate(0.0, Sight.GONE)
            rig.inbox.send(
                events.native_deleted(version.key, at=rig.clock.now(), version=version.version_id)
            )
        await rig.until(lambda: gone(rig) == 60, within=60)
        for number in range(60, 120):
            version = rig.put(f"{number}", takes=NEVER)
            rig.s3.fates[version] = Fate(0.0, Sight.GONE)
            rig.inbox.send(
                events.native_deleted(version.key, at=rig.clock.now(), version=version.version_id)
            )
        await rig.until(lambda: gone(rig) == 120, within=900)

    assert held(rig) is None


class Looks:
    """Looks at objects of one route, all of which show as gone."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.s3 = FakeS3(self.clock)
        self.s3.rule("src", "dst")
        self.doubts = Doubts(self.s3, FakeMeters())
        self.path = (Route("src", "dst"),)

    async def look(self, times: int = 1) -> list[Sight]:
        """Tell what is made of so many 404."""
        version = ObjectVersion("src", "a", "v1")
        record = Record(version=version, region="", written_at=0.0, next_look_at=0.0)
        answer = Observation(sight=Sight.GONE, looked_at=self.clock.now())
        return [(await self.doubts.weighed(record, self.path, answer)).sight for _ in range(times)]


async def test_t5_a_mass_deletion_that_nobody_told_of_is_believed_after_an_hour() -> None:
    """The bucket's configuration can be read, and another object arrived: then it is no fault of who answers."""
    looks = Looks()
    assert await looks.look(6) == [Sight.GONE] * 3 + [Sight.DOUBTED] * 3
    await asyncio.sleep(0.5 * HOUR)
    assert await looks.look(6) == [Sight.DOUBTED] * 6
    looks.doubts.arrived(ObjectVersion("src", "another", "v1"), looks.path, looked=True)
    await asyncio.sleep(0.4 * HOUR)
    assert await looks.look(6) == [Sight.DOUBTED] * 6

    await asyncio.sleep(0.1 * HOUR)
    assert await looks.look(6) == [Sight.GONE] * 6
    assert looks.s3.reads == ["src"]


async def test_t5_a_wave_is_not_believed_while_the_configuration_is_unreadable() -> None:
    """A bucket that is gone as a whole, or another's, is no proof that its objects were deleted."""
    looks = Looks()
    looks.s3.unreadable = True
    await looks.look(6)
    await asyncio.sleep(30 * HOUR)
    assert await looks.look() == [Sight.DOUBTED]

    looks.s3.unreadable = False
    assert await looks.look() == [Sight.DOUBTED]  # asked a moment ago
    await asyncio.sleep(60)
    assert await looks.look(6) == [Sight.GONE] * 6


async def test_t5_an_end_that_has_to_be_told_twice_is_asked_for_again_after_a_while() -> None:
    """A store of its own says 404 once, and the object is there a minute later: nothing is counted as gone."""
    rig = Rig(hold_seconds=5.0)
    rig.s3.rule("src", "dst")
    rig.s3.unproved = True
    async with rig.running():
        version = rig.put("a", takes=0.0)
        rig.s3.away = Sight.GONE
        await rig.until(lambda: version in rig.s3.looks)
        rig.s3.away = None
        began = rig.clock.now()
        await rig.until(lambda: completed(rig) == 1)
        assert rig.clock.now() - began >= 30

        rig.s3.fates[ObjectVersion("src", "b", "v1")] = Fate(0.0, Sight.GONE)
        rig.inbox.send(events.written("b", at=rig.clock.now()))
        await rig.until(lambda: gone(rig) == 1)
    assert rig.s3.looks.count(version) == 2
    assert rig.s3.looks.count(ObjectVersion("src", "b", "v1")) == 2
