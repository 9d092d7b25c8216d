"""Replication between sites of MinIO, followed as users run it: what is counted is what was the case."""

import asyncio
from typing import Any

import pytest
import structlog

from crrmon.adapters.account_way import KnownAccount
from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from fakes import events
from fakes.minio import SOURCE_PROXY, Minio, Site, account
from fakes.minio_watched import watched
from fakes.rig import WINDOW, Rig
from fakes.s3 import Fate

A_WHILE = 20 * WINDOW


def pair(world: Minio, source: str, destination: str, **rule: Any) -> tuple[Site, Site]:
    """Found two sites with a bucket each, and a rule from the first to the second."""
    here, there = world.site(), world.site()
    here.make(source)
    there.make(destination)
    here.replicate(source, there, destination, **rule)
    return here, there


def counted(rig: Rig, *route: str) -> dict[str, float]:
    """Tell what was counted on a route, by status."""
    name, told = catalogue.REPLICATIONS.name, rig.meters.counters
    return {key[-1]: told[key] for key in told if key[:-1] == (name, *route)}


@pytest.mark.parametrize("old_form", [False, True], ids=["own-arn", "role"])
async def test_m1_a_rule_of_minio_has_its_waterline_its_markers_its_zeros_and_its_prefix(
    world: Minio, *, old_form: bool
) -> None:
    """M1: a rule that MinIO's own tools write is followed like any other."""
    here, there = pair(world, "a-one", "b-one", prefix="logs/", old_form=old_form)
    accounts = [account(here, "a-*"), account(there, "b-*")]
    async with watched(world, accounts, buckets=["a-one"]) as rig:
        await asyncio.sleep(WINDOW)
        for number in range(10):
            here.put("a-one", f"logs/{number}")
        here.put("a-one", "other")
        here.mark("a-one", "logs/0")
        await asyncio.sleep(A_WHILE)

        assert counted(rig, "a-one", "b-one") == {"completed": 10}
        assert counted(rig, "a-one", "unknown") == {}
        laid = rig.meters.count(catalogue.DELETE_MARKERS, "a-one", "b-one", "created")
        assert laid == 1
        assert rig.meters.count(catalogue.NOT_COVERED, "a-one", "no_rule") == 1
        complete = rig.meters.gauge(catalogue.COMPLETE_UP_TO, "a-one", "b-one")
        assert complete is not None
        assert rig.clock.now() - complete < 2 * WINDOW
    zeros = rig.sink.values("ReplicationObjects", "a-one", "b-one")
    assert rig.sink.total("ReplicationObjects", "a-one", "b-one") == 10
    assert len(zeros) >= A_WHILE / WINDOW


@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "never-sent"])
async def test_m2_objects_that_live_for_a_moment_do_not_vanish(
    world: Minio, *, arrives: bool
) -> None:
    """M2: 20 of 20 objects that were purged before the first look are counted, though MinIO would ask the other side."""
    here, there = pair(world, "a-two", "b-two", purges=False, old_form=True)
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]) as rig:
        for number in range(20):
            version = here.put("a-two", f"short/{number}")
            if arrives:
                world.work()
            here.purge(version)
        await asyncio.sleep(A_WHILE)

        assert counted(rig, "a-two", "b-two") == {"completed" if arrives else "gone": 20}
        assert await rig.backlog() == 0


async def test_m2_a_destination_that_refuses_is_not_taken_for_one_that_has_it(
    world: Minio,
) -> None:
    """M2: with rules back, MinIO would tell the source's status for what a destination does not have: 20 of 20 failed."""
    here, there, far = world.site(), world.site(), world.site()
    here.make("multi-a")
    there.make("multi-b")
    far.make("multi-c")
    for site, bucket in ((there, "multi-b"), (far, "multi-c")):
        here.replicate("multi-a", site, bucket)
        site.replicate(bucket, here, "multi-a")
    far.takes = False
    accounts = [account(here, "multi-a"), account(there, "multi-b"), account(far, "multi-c")]
    async with watched(world, accounts) as rig:
        # Whoever sends no notices of failures has looks alone.
        here.hear = lambda body: rig.inbox.send(body) if "ObjectCreated" in body else None
        for number in range(20):
            here.put("multi-a", f"refused/{number}")
        await asyncio.sleep(3 * WINDOW)

        assert counted(rig, "multi-a", "multi-b") == {"completed": 20}
        assert counted(rig, "multi-a", "multi-c") == {"failed": 20}


async def test_m2_no_store_is_asked_for_what_another_site_has(world: Minio) -> None:
    """M2: every look and every reading at a store says that the site itself is meant, and that is signed."""
    here, there = pair(world, "a-one", "b-one")
    async with watched(world, [account(here, "a-*"), account(there, "b-*")]):
        here.purge(here.put("a-one", "k"))
        await asyncio.sleep(A_WHILE)

    assert {method for method, _, _ in here.asked + there.asked} == {"GET", "HEAD"}
    for _, target, headers in here.asked + there.asked:
        assert headers[SOURCE_PROXY] == "false", target
        assert SOURCE_PROXY in headers["authorization"].partition("SignedHeaders=")[2]


def named_alike(world: Minio) -> tuple[Site, Site]:
    """Found two sites with a bucket of the same name each, and a rule each way."""
    here, there = world.site(), world.site()
    for site in (here, there):
        site.make("same")
    here.replicate("same", there, "same", purges=False)
    there.replicate("same", here, "same", purges=False)
    return here, there


def at_home(*sites: Site) -> list[KnownAccount]:
    """Describe sites that have buckets of the same names."""
    return [account(site, "sam*", named=True) for site in sites]


async def test_m6_both_ways_between_buckets_of_one_name(world: Minio) -> None:
    """M6: 40 of 40 objects that were written at either site are counted, and a restart forgets no site."""
    here, there = named_alike(world)
    accounts = at_home(here, there)
    world.paused = True
    async with watched(world, accounts, buckets=["same"]) as rig:
        await asyncio.sleep(WINDOW)
        for number in range(10):
            here.put("same", f"from here/{number}")
            there.put("same", f"from there/{number}")
        await asyncio.sleep(3 * WINDOW)
        ledger = rig.ledger
        assert await rig.backlog() == 20
    world.paused = False
    async with watched(world, accounts, buckets=["same"], ledger=ledger) as rig:
        await asyncio.sleep(A_WHILE)
        first = counted(rig, "same", "same")
        for number in range(10):
            here.put("same", f"later from here/{number}")
            there.put("same", f"later from there/{number}")
        await asyncio.sleep(A_WHILE)

        assert first == {"completed": 20}
        assert counted(rig, "same", "same") == {"completed": 40}
        assert await rig.backlog() == 0
        complete = rig.meters.gauge(catalogue.COMPLETE_UP_TO, "same", "same")
        assert complete is not None
        assert rig.clock.now() - complete < 2 * WINDOW
    asked = {version for _, version, _ in here.asked}
    assert not any("from%20there" in one for one in asked)


async def test_m6_rules_at_one_of_the_sites_make_a_route(world: Minio) -> None:
    """M6: that the other site has none takes nothing away; while its rules cannot be read, nobody knows how far it is."""
    here, there = world.site(), world.site()
    for site in (here, there):
        site.make("same")
    here.replicate("same", there, "same")
    there.broken = True
    async with watched(world, at_home(here, there), buckets=["same"]) as rig:
        here.put("same", "k")
        await asyncio.sleep(6 * WINDOW)
        assert counted(rig, "same", "same") == {"completed": 1}
        assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, "same", "same") is None
        there.broken = False
        await asyncio.sleep(3 * WINDOW)
        here.put("same", "k")
        await asyncio.sleep(9 * WINDOW)
        assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, "same", "same") is not None
        here.stop_replicating("same")
        await asyncio.sleep(3 * WINDOW)
        assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, "same", "same") is None


async def test_m6_patterns_that_fit_more_than_a_site_has(world: Minio) -> None:
    """M6: a site without a bucket of that name has no rules for it, and holds nothing back."""
    here, there = pair(world, "a-one", "b-one")
    accounts = [account(site, "*", named=True) for site in (here, there)]
    with structlog.testing.capture_logs() as logs:
        async with watched(world, accounts, buckets=["a-one"]) as rig:
            await asyncio.sleep(2 * WINDOW)
            here.put("a-one", "k")
            await asyncio.sleep(9 * WINDOW)

            assert counted(rig, "a-one", "b-one") == {"completed": 1}
            assert rig.meters.gauge(catalogue.COMPLETE_UP_TO, "a-one", "b-one") is not None
    assert [one for one in logs if one["event"] == "survey_incomplete"] == []


@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "never-sent"])
async def test_m6_a_destination_of_the_same_name_is_looked_at_where_it_is(
    world: Minio, *, arrives: bool
) -> None:
    """M6: what is gone at its source is looked for at the other site, and never at its own."""
    here, there = named_alike(world)
    async with watched(world, at_home(here, there)) as rig:
        for number in range(10):
            version = here.put("same", f"short/{number}")
            if arrives:
                world.work()
            here.purge(version)
        await asyncio.sleep(A_WHILE)

        assert counted(rig, "same", "same") == {"completed" if arrives else "gone": 10}


async def test_m6_a_replica_that_is_told_first_does_not_hide_what_was_written() -> None:
    """M6: where the destination has its source's name, word of the replica is none that replication wrote the source."""
    rig = Rig(buckets=["same"])
    rig.s3.rule("same", "same")
    version = ObjectVersion("same", "k", "v1")
    async with rig.running():
        now = rig.clock.now()
        rig.s3.fates[version] = Fate(now, Sight.COMPLETED, written_at=now)
        rig.inbox.send(events.replica_notification("k", at=now + 1, bucket="same"))
        await asyncio.sleep(5)
        rig.inbox.send(events.notification("k", at=now, bucket="same", eventSource="minio:s3"))
        await asyncio.sleep(5 * WINDOW)

        assert counted(rig, "same", "same") == {"completed": 1}


async def test_m6_of_three_sites_nobody_knows_which_is_the_destination(world: Minio) -> None:
    """M6: where two other sites have the bucket, none is looked at for the replica: not the wrong one."""
    here, there = named_alike(world)
    far = world.site()
    far.make("same")
    async with watched(world, at_home(here, there, far)) as rig:
        heard = here.hear
        here.hear = lambda body: "OperationCompleted" in body or heard(body)  # that would tell
        version = here.put("same", "short")
        world.work()
        here.purge(version)
        await asyncio.sleep(A_WHILE)

        assert counted(rig, "same", "same") == {"gone": 1}
    assert [one for site in (there, far) for one in site.asked if one[0] == "HEAD"] == []


async def test_m6_the_event_of_a_site_that_no_account_names_is_looked_up_nowhere(
    world: Minio,
) -> None:
    """M6: the bucket of that name at another site is another bucket; what was written waits until somebody says more."""
    here, there = named_alike(world)
    async with watched(world, at_home(here)) as rig:
        there.put("same", "k")
        await asyncio.sleep(A_WHILE)

        assert await rig.backlog() == 1
    assert [one for one in here.asked if one[0] == "HEAD"] == []
    assert there.asked == []


async def test_m7_minios_users_are_not_sent_to_aws(world: Minio) -> None:
    """M7: what is logged of a failure and of a rule that went is true of MinIO, and nothing of it is of S3 alone."""
    here, there = pair(world, "a-one", "b-one")
    there.takes = False
    accounts = [account(here, "a-*"), account(there, "b-*")]
    with structlog.testing.capture_logs() as logs:
        async with watched(world, accounts, buckets=["a-one"]) as rig:
            here.put("a-one", "k")
            await asyncio.sleep(2 * WINDOW)
            here.stop_replicating("a-one")
            await asyncio.sleep(6 * WINDOW)
            assert counted(rig, "a-one", "b-one") == {"failed": 1}

    advice = {one["event"]: one["advice"] for one in logs if "advice" in one}
    assert advice.keys() == {"replication_failed", "route_removed"}
    for said in advice.values():
        assert "mc replicate resync start" in said
        assert "Batch Replication" not in said
        assert "S3 " not in said
