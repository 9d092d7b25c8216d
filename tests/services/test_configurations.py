"""Replication configurations as they are remembered: how much of them, how fast, and how often trouble is told."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Channel, ObjectWritten, Operation
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.outcomes import Cause
from crrmon.domain.routes import Configuration, NotCovered
from crrmon.ports.probe import UnusableAccountError
from crrmon.services.tracking import configurations as routebook_module
from crrmon.services.tracking import pages
from crrmon.services.tracking.configurations import Later
from fakes.rig import DAY, Rig

EARLIER = 10.0


def write(rig: Rig, bucket: str, *, key: str = "a", ago: float = EARLIER) -> ObjectWritten:
    """Tell of a write; a negative age lies in the future."""
    return ObjectWritten(
        version=ObjectVersion(bucket, key, "v1"),
        region="eu-west-1",
        written_at=rig.clock.now() - ago,
        operation=Operation.PUT,
        size=1,
        owner="210987654321",
        channel=Channel.NOTIFICATION,
    )


def told(logs: Sequence[Any], event: str) -> list[Any]:
    """Pick the lines of one event."""
    return [one for one in logs if one["event"] == event]


async def test_sources_follow_every_change() -> None:
    """A destination's sources are those whose rules name it now: added, moved and taken away by later reads."""
    rig = Rig()
    rig.s3.rule("one", "dst")
    rig.s3.rule("two", "dst", "far")
    for bucket in ("one", "two", "bare"):
        await rig.configurations.destinations(write(rig, bucket))
    assert rig.configurations.sources("dst") == {"one", "two"}
    assert rig.configurations.sources("far") == {"two"}

    rig.s3.configurations["two"] = None
    rig.s3.configurations["one"] = None
    rig.s3.rule("one", "far", timed=True)
    await asyncio.sleep(301)
    for bucket in ("one", "two"):
        await rig.configurations.destinations(write(rig, bucket))

    assert rig.configurations.sources("dst") == frozenset()
    assert rig.configurations.sources("far") == {"one"}
    assert {(one.source, one.destination) for one in rig.configurations.timed()} == {
        ("one", "far")
    }


async def test_what_was_read_goes_before_what_the_ledger_remembers() -> None:
    """A route that the ledger knows leads to its destination until its source's configuration says otherwise."""
    first = Rig()
    first.s3.rule("src", "dst")
    await first.configurations.destinations(write(first, "src"))
    rig = Rig(ledger=first.ledger, buckets=())
    rig.s3.hidden = {"src"}
    survey = asyncio.create_task(rig.daemon.survey.run())
    await asyncio.sleep(1)
    assert rig.configurations.sources("dst") == {"src"}

    rig.s3.hidden = set()
    await asyncio.sleep(301)
    survey.cancel()

    assert rig.configurations.sources("dst") == frozenset()


async def test_a_read_costs_the_same_however_many_buckets_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Invariant 6: meeting one bucket more asks for the destinations of that one only."""
    asked = 0
    plain = Configuration.__dict__["all_destinations"].func

    def counted(self: Configuration) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        found: tuple[str, ...] = plain(self)
        return found

    monkeypatch.setattr(Configuration, "all_destinations", property(counted))
    rig = Rig()
    costs = []
    for number in range(300):
        rig.s3.rule(f"src-{number}", f"dst-{number}")
        before = asked
        await rig.configurations.destinations(write(rig, f"src-{number}"))
        costs.append(asked - before)

    assert set(costs) == {costs[0]}


async def test_invariant_7_buckets_that_only_messages_name_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Invariant 7: nonsense fills no memory; sources, surveyed buckets and what was asked for last are kept."""
    monkeypatch.setattr(pages, "MAX_PAGES", 50)
    rig = Rig(buckets=("surveyed",))
    rig.s3.rule("src", "dst")
    await rig.configurations.destinations(write(rig, "src"))
    await rig.configurations.destinations(write(rig, "surveyed"))
    for number in range(500):
        await rig.configurations.destinations(write(rig, f"nonsense-{number}"))
        await rig.configurations.destinations(write(rig, "busy"))
        assert len(rig.configurations._pages) <= 51

    for bucket in ("src", "surveyed", "busy"):
        await rig.configurations.destinations(write(rig, bucket))
        assert rig.s3.reads.count(bucket) == 1
    assert rig.configurations.sources("dst") == {"src"}


async def test_more_sources_than_pages_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is for what only messages name: what S3 itself says replicates stays."""
    monkeypatch.setattr(pages, "MAX_PAGES", 20)
    rig = Rig()
    for number in range(60):
        rig.s3.rule(f"src-{number}", "dst")
        await rig.configurations.destinations(write(rig, f"src-{number}"))

    assert len(rig.configurations.sources("dst")) == 60
    assert len(rig.configurations._pages) == 60


async def test_unreadable_configurations_are_one_line_a_minute() -> None:
    """However many buckets there are: how many, a few of them, and the reason of each."""
    rig = Rig()
    rig.s3.unreadable = True
    with capture_logs() as logs:
        for _ in range(10):
            for number in range(100):
                answer = await rig.configurations.destinations(write(rig, f"b{number}"))
                assert isinstance(answer, Later)
            await asyncio.sleep(60.5)

    lines = told(logs, "configuration_unreadable")
    assert len(lines) == 10
    assert lines[0]["reads"] == 1
    assert lines[1]["reads"] == 100
    assert len(lines[1]["reasons"]) == routebook_module.NAMED
    assert lines[1]["reasons"]["b1"] == "b1: not told"


async def test_an_account_that_cannot_be_used_is_not_told_again_for_each_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its own line says needs no other one, neither by events nor by the survey; the reads are counted."""
    rig = Rig()

    async def refuse(bucket: str, *, region: str, owner: str | None) -> None:
        raise UnusableAccountError("account 210987654321: no credentials")

    monkeypatch.setattr(rig.s3, "configuration", refuse)
    with capture_logs() as logs:
        survey = asyncio.create_task(rig.daemon.survey.run())
        await asyncio.sleep(1)
        for number in range(10):
            await rig.configurations.destinations(write(rig, f"b{number}"))
        survey.cancel()

    assert logs == []
    assert rig.meters.count(catalogue.CONFIGURATION_READS, "b3", "unreadable") == 1


async def test_doubts_are_told_when_they_change() -> None:
    """A rule of a new kind is told of once, not at every read, and a thousand of them in one line."""
    rig = Rig()
    rules = [
        {
            "ID": f"r{number}",
            "Status": "Enabled",
            "Filter": {"New": 1},
            "Destination": {"Bucket": "arn:aws:s3:::dst"},
        }
        for number in range(1000)
    ]
    rig.s3.configurations["src"] = {"Rules": rules}
    with capture_logs() as logs:
        for _ in range(5):
            await rig.configurations.destinations(write(rig, "src"))
            await asyncio.sleep(301)
        rig.s3.configurations["src"] = {"Rules": rules[:2]}
        await rig.configurations.destinations(write(rig, "src"))

    lines = told(logs, "rule_unsupported")
    assert [one["rules"] for one in lines] == [1000, 2]
    assert len(lines[0]["doubts"]) == routebook_module.NAMED


async def test_a_survey_tells_what_is_new_and_the_rest_once_an_hour() -> None:
    """Buckets that are gone for good fill no log; each is named with its own reason, and the end is told."""
    rig = Rig(buckets=("src", "gone"))
    rig.s3.hidden = {"gone"}
    with capture_logs() as logs:
        survey = asyncio.create_task(rig.daemon.survey.run())
        await asyncio.sleep(2 * 3600 + 10)
        lines = told(logs, "survey_incomplete")
        assert len(lines) == 3
        assert lines[0]["reasons"] == {"gone": "gone: not told"}
        rig.s3.hidden = {"gone", "src"}
        await asyncio.sleep(301)
        assert len(told(logs, "survey_incomplete")) == 4
        rig.s3.hidden = set()
        await asyncio.sleep(601)
        survey.cancel()

    assert len(told(logs, "survey_incomplete")) == 4
    assert len(told(logs, "survey_complete")) == 1


@pytest.mark.parametrize("ago", [-60.0, -365 * DAY])
async def test_a_write_dated_in_the_future_is_proved_uncovered_at_once(ago: float) -> None:
    """A configuration asked for after the event came is newer than the write, whatever the event says."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")

    assert await rig.configurations.destinations(write(rig, "src", ago=ago)) == NotCovered(
        Cause.NO_RULE
    )
    assert rig.s3.reads == ["src"]

    await asyncio.sleep(2)
    answer = await rig.configurations.destinations(write(rig, "src", ago=ago))
    assert isinstance(answer, Later)  # what was read 2 s ago may be older than this one
    assert rig.s3.reads == ["src"]


async def test_t7_a_clock_that_was_set_back_makes_old_readings_no_newer() -> None:
    """A configuration that was read a day from now is read again at once, and proves nothing until then."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    rig.clock.leap(DAY)
    await rig.configurations.destinations(write(rig, "src"))
    rig.clock.leap(-DAY)
    rig.s3.rule("src", "dst")
    answer = await rig.configurations.destinations(write(rig, "src", ago=0.0))
    assert [one.bucket for one in answer] == ["dst"]  # type: ignore[union-attr]

    rig.clock.leap(DAY)
    rig.s3.rule("src", "dst", prefix="in/")
    await asyncio.sleep(301)
    await rig.configurations.destinations(write(rig, "src"))
    rig.clock.leap(-DAY)
    rig.s3.unreadable = True
    assert isinstance(await rig.configurations.destinations(write(rig, "src", ago=0.0)), Later)


async def test_t7_nothing_is_read_on_an_unsure_clock(rig: Rig) -> None:
    """When it was read decides what it proves: the reading waits until that can be told."""
    rig.clock.sure = False
    asking = asyncio.create_task(rig.configurations.destinations(write(rig, "src")))
    await asyncio.sleep(60)
    assert rig.s3.reads == []
    rig.clock.sure = True
    assert [one.bucket for one in await asking] == ["dst"]  # type: ignore[union-attr]
