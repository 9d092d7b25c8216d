"""Stores beside AWS over HTTP: which site is asked, what it is told, and what its answers are taken for."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts, UnknownSiteError
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.s3 import S3Probe
from crrmon.domain.checks import Verdict
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.routes import parse
from crrmon.ports.probe import UnreadableConfigurationError
from crrmon.services.checkup import Checkup, Estate
from fakes.aws_stub import AwsStub, head, s3_error
from fakes.clock import EPOCH, LoopClock
from fakes.meters import FakeMeters
from fakes.minio import SOURCE_PROXY, Minio, Site, served

REGION = "us-east-1"


class NoAccess:
    """Knows no credentials."""

    async def identity(self) -> str:
        return "nobody"

    async def enter(self, account: str) -> str:
        return account


class Sites:
    """Two sites that both have the bucket `same` with a rule each way, over HTTP, and who looks at them."""

    def __init__(self, world: Minio, here: Site, there: Site, accounts: Accounts) -> None:
        self.world = world
        self.here = here
        self.there = there
        self.accounts = accounts
        self.probe = S3Probe(accounts, clock=LoopClock())

    async def look(self, version: ObjectVersion, site: Site | None) -> Sight:
        """Look at a version by the event of a site."""
        owner = None if site is None else site.deployment_id
        return (await self.probe.look(version, region="", owner=owner)).sight

    async def look_for_replica(
        self, version: ObjectVersion, site: Site | None, bucket: str = "same"
    ) -> tuple[Sight, bool, bool]:
        """Look for the replica of what was written at a site: what was seen, whether it was asked, and tells."""
        owner = None if site is None else site.deployment_id
        seen = await self.probe.look_at_replica(
            version, bucket, region="", owner=None, source_owner=owner
        )
        return seen.sight, seen.asked, seen.tells_of_arrival


@pytest.fixture
async def sites() -> AsyncIterator[Sites]:
    """Run two sites."""
    world = Minio(lambda: EPOCH)
    here, there = world.site(), world.site()
    for site in (here, there):
        site.make("same", "own")
    here.replicate("same", there, "same")
    there.replicate("same", here, "same")
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(served(site)) for site in (here, there)]
        aws = await stack.enter_async_context(
            AwsSession(endpoint_url=None, default_region=REGION, max_connections=8)
        )
        configured = [
            KnownAccount(id=name, endpoint_url=url, site=site.deployment_id, buckets=("same",))
            for name, url, site in zip(("here", "there"), urls, (here, there), strict=True)
        ]
        known = Accounts(aws, configured, clock=LoopClock(), meters=FakeMeters())
        yield Sites(world, here, there, known)


async def test_m2_a_store_answers_for_itself(sites: Sites) -> None:
    """M2: what a site does not have is gone there, whatever the other one has; each request says so, signed."""
    version = sites.here.put("same", "k")

    assert await sites.look(version, sites.here) is Sight.PENDING
    assert await sites.look(version, sites.there) is Sight.GONE
    sites.world.work()
    assert await sites.look(version, sites.here) is Sight.COMPLETED
    assert await sites.look(version, sites.there) is Sight.REPLICA
    for _, _, headers in sites.here.asked + sites.there.asked:
        assert headers[SOURCE_PROXY] == "false"
        assert SOURCE_PROXY in headers["authorization"].partition("SignedHeaders=")[2]


async def test_m2_aws_is_not_told_what_a_store_is(stub: AwsStub) -> None:
    """M2: the header is for stores alone."""
    stub.answer(head("Zx81", "COMPLETED"))
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        known = Accounts(aws, [], clock=LoopClock(), meters=FakeMeters())
        probe = S3Probe(known, clock=LoopClock())
        seen = await probe.look(ObjectVersion("src", "k", "Zx81"), region=REGION, owner=None)

    assert (seen.sight, seen.of_store, seen.tells_of_arrival) == (Sight.COMPLETED, False, True)
    assert SOURCE_PROXY not in stub.asked[0].headers


@pytest.mark.parametrize(
    ("status", "reports", "tells"),
    [
        ("REPLICA", True, True),
        ("COMPLETED", True, False),
        ("FAILED", True, False),
        ("PENDING", True, False),
        ("STRANGE", True, False),
        (None, True, False),
        # It was said of this store that it tells none: that the version is there is all there is to see.
        (None, False, True),
        ("REPLICA", False, True),
        ("COMPLETED", False, False),
    ],
)
async def test_m2_at_a_store_only_a_replica_has_arrived(
    stub: AwsStub, status: str | None, *, reports: bool, tells: bool
) -> None:
    """M2: a version in a store's destination proves its arrival by the status of a replica, and by no other."""
    stub.answer(head("Zx81", status))
    store = KnownAccount(id="s", endpoint_url=stub.url, buckets=("*",), reports_status=reports)
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        known = Accounts(aws, [store], clock=LoopClock(), meters=FakeMeters())
        seen = await S3Probe(known, clock=LoopClock()).look_at_replica(
            ObjectVersion("src", "k", "Zx81"), "dst", region="", owner=None, source_owner=None
        )

    assert seen.tells_of_arrival is tells


async def test_m6_the_site_that_an_event_names_is_asked(sites: Sites) -> None:
    """M6: both for objects and for rules; by the name alone nobody is asked."""
    mine, other = sites.here.put("same", "mine"), sites.there.put("same", "other")

    assert await sites.look(mine, sites.here) is Sight.PENDING
    assert await sites.look(other, sites.there) is Sight.PENDING
    seen = await sites.probe.look(mine, region="", owner=None)
    assert (seen.sight, seen.asked) == (Sight.DENIED, False)
    for site in (sites.here, sites.there):
        raw = await sites.probe.configuration("same", region="", owner=site.deployment_id)
        assert parse(raw, fetched_at=EPOCH).all_destinations == ("same",)
    with pytest.raises(UnreadableConfigurationError, match="nothing says which is meant"):
        await sites.probe.configuration("same", region="", owner=None)
    assert sites.probe.sites("same") == (sites.here.deployment_id, sites.there.deployment_id)
    assert sites.probe.sites("else") == (None,)
    assert len(sites.here.asked) == len(sites.there.asked) == 2


async def test_m6_an_event_of_a_third_site_asks_nobody(sites: Sites) -> None:
    """M6: its bucket is none of those that are known, and it is said what to set."""
    third = Minio(lambda: EPOCH, seed=7).site()

    seen = await sites.probe.look(
        ObjectVersion("same", "k", "v"), region="", owner=third.deployment_id
    )

    assert (seen.sight, seen.asked) == (Sight.DENIED, False)
    assert f"site {third.deployment_id}, which no account has as accounts[].site" in seen.detail
    assert sites.here.asked == sites.there.asked == []


async def test_m6_a_destination_of_the_same_name_is_at_the_other_site(sites: Sites) -> None:
    """M6: it is looked for there; where nobody can tell which one that is, nobody is asked."""
    version = sites.here.put("same", "k")

    assert await sites.look_for_replica(version, sites.here) == (Sight.GONE, True, True)
    sites.world.work()
    assert await sites.look_for_replica(version, sites.here) == (Sight.REPLICA, True, True)
    assert sites.here.asked == []
    assert await sites.look_for_replica(version, None) == (Sight.DENIED, False, False)
    # Under another name it might be at either site, the source's own included.
    other = ObjectVersion("elsewhere", "k", "v")
    assert await sites.look_for_replica(other, sites.here) == (Sight.DENIED, False, False)


def test_m6_how_accounts_are_chosen() -> None:
    """M6: by site where one is told and known; else by name, if that tells; the order of the file decides in AWS."""
    aws = AwsSession(endpoint_url=None, default_region=REGION, max_connections=1)
    one, two, third = ("0" * 12 + name for name in "abc")
    ours = KnownAccount(
        id="210987654321", role_arn="arn:aws:iam::210987654321:role/r", buckets=("x*",)
    )
    here = KnownAccount(id="here", endpoint_url="http://h", site=one, buckets=("w", "x1"))
    there = KnownAccount(id="there", endpoint_url="http://t", site=two, buckets=("w",))
    plain = KnownAccount(id="plain", endpoint_url="http://p", buckets=("p",))
    known = Accounts(aws, [ours, here, there, plain], clock=LoopClock(), meters=FakeMeters())

    assert [known.elsewhere(bucket) for bucket in ("w", "x9", "none")] == [True, False, False]
    assert known.way("w", one).name == "here"
    assert known.way("w", two).name == "there"
    assert known.way("any", two).name == "there"
    assert known.way("x1", None).name == "210987654321"
    assert known.way("x1", one).name == "here"
    assert known.way("p", third).name == "plain"
    assert known.way("none", third).name == ""
    assert known.way_from("w", one, "w", None).name == "there"
    assert known.way_from("w", one, "p", None).name == "plain"
    assert known.way_from("w", one, "x9", "210987654321").name == "210987654321"
    for bucket, owner in (("w", None), ("w", third)):
        with pytest.raises(UnknownSiteError):
            known.way(bucket, owner)
    with pytest.raises(UnknownSiteError, match="0 other accounts have one"):
        known.way_from("p", third, "p", None)


async def test_m7_what_a_store_refuses_is_told_in_its_own_terms(stub: AwsStub) -> None:
    """M7: nobody is told of the daemon's role, or of the address of AWS, for what a store says."""
    store = KnownAccount(id="s", endpoint_url=stub.url, buckets=("src",))
    away = KnownAccount(id="a", endpoint_url="http://127.0.0.1:1", buckets=("away",))
    told = []
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        known = Accounts(aws, [store, away], clock=LoopClock(), meters=FakeMeters())
        probe = S3Probe(known, clock=LoopClock())
        stub.answer(s3_error(403, "AccessDenied"), s3_error(404, "NoSuchBucket"))
        for bucket in ("src", "src", "away"):
            with pytest.raises(UnreadableConfigurationError) as refused:
                await probe.configuration(bucket, region="", owner=None)
            told.append(str(refused.value))

    assert "the daemon's access key" in told[0]
    assert "accounts[].endpoint_url is right" in told[1]
    assert "check the network, the region and accounts[].endpoint_url" in told[2]
    assert not any("role" in one or "aws.endpoint_url" in one for one in told)


async def test_m6_a_check_looks_at_every_site(sites: Sites) -> None:
    """M6: a bucket of one name at several sites is several buckets to check."""
    estate = Estate(
        own_credentials=False,
        accounts=(),
        inboxes=(),
        buckets=("same",),
        sink=None,
        namespace="n",
        ledger_kind="memory",
    )
    checkup = Checkup(
        estate,
        access=NoAccess(),
        probe=sites.probe,
        ledger=None,
        rng=random.Random(1),
    )

    found = [one for one in await checkup.run() if one.subject.startswith("bucket")]

    assert {one.subject for one in found} == {
        f"bucket same at {site.deployment_id}" for site in (sites.here, sites.there)
    }
    assert {one.verdict for one in found} == {Verdict.PASSED}
