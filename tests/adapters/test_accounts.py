"""Buckets of other accounts and other stores: whose credentials look at them, and what becomes of those that fail."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiobotocore.session import AioSession
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from structlog.testing import capture_logs

from crrmon.adapters import account_way as way_module
from crrmon.adapters import accounts as accounts_module
from crrmon.adapters import aws as aws_module
from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.fast import credentials
from crrmon.adapters.s3 import S3Probe
from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.ports.clock import Clock, SystemClock
from crrmon.ports.probe import UnreadableConfigurationError
from fakes.aws_stub import (
    Answer,
    Asked,
    AwsStub,
    Hang,
    Reset,
    head,
    role_credentials,
    s3_error,
    sts_error,
)
from fakes.clock import LoopClock, StandingClock
from fakes.meters import FakeMeters
from fakes.ministack import ministack
from fakes.patience import HANGS_SECONDS

pytestmark = pytest.mark.usefixtures("both_clients")

REGION = "eu-west-1"
OURS = "111111111111"
THEIRS = "222222222222"
BROKEN = "333333333333"
ROLE = "arn:aws:iam::{account}:role/crrmon"
ANYBODY = KnownAccount(id="*", role_arn=ROLE, external_id="let-us-in")
STORE = KnownAccount(id="minio", endpoint_url="http://127.0.0.1:1", buckets=("mini-*",))


class Cloud:
    """STS and S3 at one address. S3 lets in whoever has a key that STS gave lately, or the daemon's own."""

    def __init__(self, stub: AwsStub, clock: Clock) -> None:
        self.stub = stub
        self.clock = clock
        self.lifetime = 3600.0
        self.asked: list[dict[str, str]] = []
        """Requests to STS, and who made them."""
        self.refusals: dict[str, Answer | Hang | Reset] = {}
        """What STS says to whom asks for a role in an account."""
        self.s3: Callable[[Asked], Answer] = lambda _: head("Zx81", "COMPLETED")
        self.ends: dict[str, float] = {"testing": float("inf")}
        """When the credentials of each key end."""
        stub.answer_by(self._choose)

    def _choose(self, asked: Asked) -> Answer | Hang | Reset:
        key = access_key(asked)
        if asked.method == "POST":
            form = {name: value[0] for name, value in parse_qs(asked.body.decode()).items()}
            self.asked.append(form | {"by": key})
            account = form["RoleArn"].split(":")[4]
            if account in self.refusals:
                return self.refusals[account]
            given = f"KEY{len(self.asked)}OF{account}"
            self.ends[given] = self.clock.now() + self.lifetime
            return role_credentials(given, ends_at=self.ends[given])
        if self.ends.get(key, 0.0) <= self.clock.now():
            return s3_error(403, "InvalidAccessKeyId")
        return self.s3(asked)

    @property
    def looks(self) -> list[Asked]:
        """Give the requests to S3."""
        return [one for one in self.stub.asked if one.method != "POST"]


def access_key(asked: Asked) -> str:
    """Tell whose credentials a request was signed with."""
    return asked.headers["Authorization"].split("Credential=")[1].split("/")[0]


def signed_for(asked: Asked) -> str:
    """Tell for which region a request was signed."""
    return asked.headers["Authorization"].split("/")[2]


class Daemon:
    """What looks, with some accounts configured."""

    def __init__(self, aws: AwsSession, *accounts: KnownAccount, clock: Clock) -> None:
        self.meters = FakeMeters()
        self.accounts = Accounts(aws, accounts, clock=clock, meters=self.meters)
        self.probe = S3Probe(self.accounts, clock=clock)

    async def look(
        self, owner: str | None, bucket: str = "src", region: str = REGION
    ) -> Observation:
        """Look at a version in a bucket of an account."""
        return await self.probe.look(
            ObjectVersion(bucket, "some/secret-key", "Zx81"), region=region, owner=owner
        )

    def errors(self, account: str) -> float:
        """Tell how many attempts to get credentials were counted as failed."""
        return self.meters.count(catalogue.ACCOUNT_ERRORS, account)


@pytest.fixture(autouse=True)
def _asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the SDK asked for credentials at each look: the clock by which they end is set by hand."""
    monkeypatch.setattr(credentials, "ASKED_SECONDS", 0.0)


@pytest.fixture
async def clock() -> LoopClock:
    """Make a clock that tests can set ahead."""
    return StandingClock()


@pytest.fixture
async def cloud(stub: AwsStub, clock: LoopClock) -> Cloud:
    """Put STS and S3 at the stub's address."""
    return Cloud(stub, clock)


@pytest.fixture
async def aws(stub: AwsStub) -> AsyncIterator[AwsSession]:
    """Make the way to the stub."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as made:
        yield made


# ---- which account ----


@pytest.mark.parametrize(
    ("owner", "bucket", "name", "whom"),
    [
        pytest.param(THEIRS, "src", THEIRS, "arn:aws:iam::222222222222:role/own", id="named"),
        pytest.param(BROKEN, "src", BROKEN, "arn:aws:iam::333333333333:role/crrmon", id="any"),
        pytest.param(OURS, "src", OURS, "the daemon's role", id="without-a-role"),
        pytest.param(None, "theirs-a", THEIRS, "arn:aws:iam::222222222222:role/own", id="pattern"),
        pytest.param("", "theirs-a", THEIRS, "arn:aws:iam::222222222222:role/own", id="no-owner"),
        pytest.param(BROKEN, "theirs-a", BROKEN, "arn:aws:iam::333333333333:role/crrmon", id="owner-first"),
        pytest.param(None, "src", "", "the daemon's role", id="nobody-knows"),
        pytest.param("anonymous", "src", "", "the daemon's role", id="no-account"),
        pytest.param(None, "mini-a", "minio", "the daemon's access key", id="store"),
    ],
)  # fmt: skip
async def test_which_account(
    aws: AwsSession, clock: LoopClock, owner: str | None, bucket: str, name: str, whom: str
) -> None:
    """The owner decides where an event names it, else the bucket's name; else it is the daemon's own account."""
    theirs = KnownAccount(
        id=THEIRS, role_arn="arn:aws:iam::{account}:role/own", buckets=("theirs-*", "x")
    )
    daemon = Daemon(aws, ANYBODY, theirs, KnownAccount(id=OURS), STORE, clock=clock)

    way = daemon.accounts.way(bucket, owner)

    assert (way.name, way.whom) == (name, whom)
    assert daemon.accounts.way(bucket, owner) is way


async def test_looks_and_readings_choose_the_same(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """An object and its bucket's configuration are asked for with the same credentials, got once."""
    cloud.s3 = lambda asked: (
        s3_error(404, "ReplicationConfigurationNotFoundError")
        if "replication" in asked.query
        else head("Zx81", "PENDING")
    )
    theirs = KnownAccount(id=THEIRS, role_arn=ROLE, buckets=("src",))
    daemon = Daemon(aws, theirs, clock=clock)

    for owner in (None, THEIRS):
        assert (await daemon.look(owner)).sight is Sight.PENDING
        assert await daemon.probe.configuration("src", region=REGION, owner=owner) is None

    assert [access_key(one) for one in cloud.looks] == [f"KEY1OF{THEIRS}"] * 4


async def test_without_accounts_nobody_asks_sts(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """Who configures no account looks everywhere with the daemon's own credentials."""
    daemon = Daemon(aws, clock=clock)

    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED

    assert [access_key(one) for one in cloud.looks] == ["testing"]
    assert cloud.asked == []


async def test_too_many_accounts(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 7: nonsense for owners fills no memory, and takes no clients where no role can be taken."""
    monkeypatch.setattr(accounts_module, "MAX_ACCOUNTS", 3)
    monkeypatch.setattr(aws_module, "MAX_S3_CLIENTS", 1)
    nonsense = [f"{number:012}" for number in range(900, 905)]
    cloud.refusals = dict.fromkeys(nonsense, sts_error(403, "AccessDenied"))
    daemon = Daemon(aws, ANYBODY, clock=clock)
    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED

    for owner in nonsense:
        assert (await daemon.look(owner)).sight is Sight.DENIED

    assert len(cloud.asked) == 3
    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED


# ---- who pays ----


@pytest.mark.parametrize("owner", [THEIRS, None])
async def test_e4_a_look_at_a_requester_pays_bucket_says_that_the_daemon_pays(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, owner: str | None
) -> None:
    """
    S3 answers 403 to anybody else who does not say so: where a pattern names the bucket, whether an event named the
    account or not, and nowhere else. An id and the patterns are enough; its credentials stay the daemon's own.
    """
    cloud.s3 = lambda asked: (
        s3_error(404, "ReplicationConfigurationNotFoundError")
        if "replication" in asked.query
        else head("Zx81", "PENDING")
        if asked.headers.get("x-amz-request-payer") == "requester"
        else Answer(403)
    )
    daemon = Daemon(aws, KnownAccount(id=THEIRS, request_payer=("paid-*",)), clock=clock)

    assert (await daemon.look(owner, "paid-a")).sight is Sight.PENDING
    assert (await daemon.look(owner, "free")).sight is Sight.DENIED
    assert await daemon.probe.configuration("paid-a", region=REGION, owner=owner) is None

    assert {access_key(one) for one in cloud.looks} == {"testing"}
    payers = [
        one.headers.get("x-amz-request-payer") for one in cloud.looks if "Range" not in one.headers
    ]
    assert payers == ["requester", None, None]


async def test_e4_a_role_pays_as_well_and_buckets_decide_first(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """Without an owner, the account whose buckets name it has it, however another one's payments are named."""
    theirs = KnownAccount(id=THEIRS, role_arn=ROLE, request_payer=("paid-*",))
    ours = KnownAccount(id=OURS, buckets=("paid-by-us",))
    daemon = Daemon(aws, theirs, ours, clock=clock)

    for bucket in ("paid-a", "paid-by-us"):
        await daemon.look(None, bucket)

    assert [(access_key(one), one.headers.get("x-amz-request-payer")) for one in cloud.looks] == [
        (f"KEY1OF{THEIRS}", "requester"),
        ("testing", None),
    ]


# ---- a role ----


async def test_d47_the_role_is_taken(cloud: Cloud, aws: AwsSession, clock: LoopClock) -> None:
    """D47: another account's bucket is looked at with its role, taken under the daemon's name and the external id."""
    daemon = Daemon(aws, ANYBODY, clock=clock)

    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED

    (asked,) = cloud.asked
    assert asked["Action"] == "AssumeRole"
    assert asked["RoleArn"] == "arn:aws:iam::222222222222:role/crrmon"
    assert asked["RoleSessionName"] == "crrmon"
    assert asked["ExternalId"] == "let-us-in"
    assert asked["by"] == "testing"
    (looked,) = cloud.looks
    assert looked.headers["x-amz-security-token"] == f"token-KEY1OF{THEIRS}"
    assert looked.headers["x-amz-expected-bucket-owner"] == THEIRS


async def test_d47_moto_cross_account(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D47: against an emulator that keeps accounts apart, the role sees what the daemon's own credentials do not."""
    monkeypatch.setenv("MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS", "false")
    clock = SystemClock()
    async with AwsSession(endpoint_url=moto_url, default_region=REGION, max_connections=8) as aws:
        daemon = Daemon(aws, ANYBODY, clock=clock)
        versions = {}
        try:
            for owner in (DEFAULT_ACCOUNT_ID, THEIRS):
                way = daemon.accounts.way("src", None if owner == DEFAULT_ACCOUNT_ID else owner)
                versions[owner] = await write((await way.s3_in(REGION)).sdk, owner)
            for owner, account in ((None, DEFAULT_ACCOUNT_ID), (THEIRS, THEIRS)):
                seen = await daemon.probe.look(versions[account], region=REGION, owner=owner)
                assert seen.sight is Sight.COMPLETED
            as_ourselves = Daemon(aws, clock=clock)
            seen = await as_ourselves.probe.look(versions[THEIRS], region=REGION, owner=THEIRS)
            assert seen.sight is Sight.DENIED
        finally:
            for owner in (DEFAULT_ACCOUNT_ID, THEIRS):
                s3_backends[owner]["aws"].reset()


async def write(s3: Any, owner: str) -> ObjectVersion:
    """Make a bucket in moto, and a replicated object in it."""
    bucket = f"src-{owner}"
    await s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put = await s3.put_object(Bucket=bucket, Key="key", Body=b"12345")
    stored = s3_backends[owner]["aws"].get_object(bucket, "key", version_id=put["VersionId"])
    stored.metadata["x-amz-replication-status"] = "COMPLETED"
    return ObjectVersion(bucket, "key", put["VersionId"])


async def test_simultaneous_first_looks_ask_once(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """However many looks wait for an account's first credentials, they are asked for once."""
    daemon = Daemon(aws, ANYBODY, clock=clock)

    seen = await asyncio.gather(*(daemon.look(THEIRS) for _ in range(20)))

    assert {one.sight for one in seen} == {Sight.COMPLETED}
    assert len(cloud.asked) == 1


async def test_credentials_are_renewed_before_they_end(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """Through ten hours of credentials that last one, no look fails, and each lot is used for most of its time."""
    daemon = Daemon(aws, ANYBODY, clock=clock)

    for _ in range(10 * 60):
        assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED
        clock.leap(60)

    assert 10 <= len(cloud.asked) <= 15
    assert daemon.errors("*") == 0


async def test_credentials_that_hardly_last(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """Credentials of a few seconds are renewed for every look, and no look fails."""
    cloud.lifetime = 5.0
    daemon = Daemon(aws, ANYBODY, clock=clock)

    for _ in range(5):
        assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED
        clock.leap(6)

    assert len(cloud.asked) >= 5


async def test_sts_away_while_credentials_last(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An STS that is away harms nobody as long as the credentials last, and is not asked by every look."""
    daemon = Daemon(aws, ANYBODY, clock=clock)
    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED
    cloud.refusals[THEIRS] = Reset()

    clock.leap(3600 - 600)
    for _ in range(50):
        assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED
    assert daemon.errors("*") == 1
    clock.leap(595)
    assert (await daemon.look(THEIRS)).sight is Sight.DENIED
    assert caplog.records == []

    cloud.refusals.clear()
    clock.leap(31)
    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED


# ---- a broken account ----

TROUBLES = {
    "denied": sts_error(403, "AccessDenied", "User: arn:x is not authorized to perform: sts:AssumeRole"),
    "malformed": sts_error(400, "ValidationError", "is invalid"),
    "no-sts": sts_error(403, "RegionDisabledException", "STS is not activated"),
    "throttled": sts_error(400, "Throttling", "Rate exceeded"),
    "own": sts_error(403, "ExpiredToken", "The security token is expired"),
    "broken": Reset(),
    "not-sts": Answer(200, body=b"<html>hello"),
    "empty": Answer(200, {"Content-Type": "text/xml"}, b"<AssumeRoleResponse/>"),
    "old": role_credentials("KEYOLD", ends_at=1.0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("denied", ["grant sts:AssumeRole on arn:aws:iam::333333333333:role/crrmon", "trust policy", "external id let-us-in", "sts:AssumeRole"]),
        ("malformed", ["accounts[].role_arn"]),
        ("no-sts", ["activate STS", "accounts[].region"]),
        ("throttled", ["fewer calls"]),
        ("own", ["daemon's credentials", "clock"]),
        ("broken", ["network"]),
        ("not-sts", ["network"]),
        ("empty", ["AssumeRole", "network"]),
        ("old", ["clock"]),
    ],
)  # fmt: skip
async def test_d18_an_account_without_credentials_is_denied(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, trouble: str, told: list[str]
) -> None:
    """D18: whatever STS says, the look is an observation that keeps the evidence, and says what to do, where."""
    cloud.refusals[BROKEN] = TROUBLES[trouble]
    daemon = Daemon(aws, ANYBODY, clock=clock)

    seen = await daemon.look(BROKEN)
    with pytest.raises(UnreadableConfigurationError) as caught:
        await daemon.probe.configuration("src", region=REGION, owner=BROKEN)

    assert seen.sight is Sight.DENIED
    assert not seen.sight.answered
    for text in (seen.detail, str(caught.value)):
        for part in (f"account {BROKEN}", *told):
            assert part in text
        assert "secret" not in text
    assert daemon.errors("*") == 1


async def test_a_broken_account_stays_alone(
    cloud: Cloud, aws: AwsSession, clock: LoopClock
) -> None:
    """The others' looks go on while one account's role cannot be taken, which is tried every 30 s and told every 60."""
    cloud.refusals[BROKEN] = TROUBLES["denied"]
    daemon = Daemon(aws, ANYBODY, clock=clock)

    with capture_logs() as logs:
        for _ in range(180):
            owners = (None, THEIRS, BROKEN)
            seen = await asyncio.gather(*(daemon.look(owner) for owner in owners))
            sights = [one.sight for one in seen]
            assert sights == [Sight.COMPLETED, Sight.COMPLETED, Sight.DENIED]
            clock.leap(1)

    tried = [one for one in cloud.asked if BROKEN in one["RoleArn"]]
    assert 5 <= len(tried) <= 6
    assert daemon.errors("*") == len(tried)
    told = [one for one in logs if one["event"] == "account_unusable"]
    assert 2 <= len(told) <= 3
    assert {one["account"] for one in told} == {BROKEN}
    assert "grant sts:AssumeRole" in told[0]["reason"]

    cloud.refusals.clear()
    clock.leap(31)
    with capture_logs() as logs:
        assert (await daemon.look(BROKEN)).sight is Sight.COMPLETED
    assert [one["event"] for one in logs] == ["account_usable"]


async def test_a_hanging_sts_holds_up_one_look_at_a_time(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at an account whose STS hung before is told at once, while one tries again; others never wait."""
    cloud.refusals[BROKEN] = Hang()
    daemon = Daemon(aws, ANYBODY, clock=clock)
    monkeypatch.setattr(way_module, "DEADLINE_SECONDS", HANGS_SECONDS)
    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED
    monkeypatch.setattr(way_module, "DEADLINE_SECONDS", 0.2)
    assert (await daemon.look(BROKEN)).sight is Sight.DENIED
    clock.leap(31)
    monkeypatch.setattr(way_module, "DEADLINE_SECONDS", HANGS_SECONDS)

    trying = asyncio.create_task(daemon.look(BROKEN))
    while len(cloud.asked) < 3:
        await asyncio.sleep(0)
    seen = await asyncio.gather(*(daemon.look(BROKEN) for _ in range(50)), daemon.look(THEIRS))

    assert not trying.done()
    assert [one.sight for one in seen] == [*[Sight.DENIED] * 50, Sight.COMPLETED]
    assert len(cloud.asked) == 3
    trying.cancel()


async def test_no_credentials_are_told(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither keys, secrets nor tokens get into logs, and the SDK's own tracebacks do not flood them."""
    cloud.refusals[BROKEN] = TROUBLES["denied"]
    daemon = Daemon(aws, ANYBODY, clock=clock)

    with caplog.at_level(logging.WARNING), capture_logs() as logs:
        await asyncio.gather(*(daemon.look(owner) for owner in (THEIRS, BROKEN) for _ in range(9)))

    assert caplog.records == []
    assert [one["event"] for one in logs] == ["account_unusable"]
    assert daemon.errors("*") == 1
    assert not re.search("secret|token-|KEY1", str(logs))


async def test_a_403_of_s3_itself(cloud: Cloud, aws: AwsSession, clock: LoopClock) -> None:
    """D18: a role that may not look is told by the bucket's answer; the text for people names the role."""
    cloud.s3 = lambda asked: s3_error(403, "AccessDenied", "no") if asked.query else Answer(403)
    daemon = Daemon(aws, ANYBODY, clock=clock)

    seen = await daemon.look(THEIRS)
    with pytest.raises(UnreadableConfigurationError, match=f"to arn:aws:iam::{THEIRS}:role/crrm"):
        await daemon.probe.configuration("src", region=REGION, owner=THEIRS)

    assert (seen.sight, seen.detail) == (Sight.DENIED, "HTTP 403 (AccessDenied)")
    assert daemon.errors("*") == 0


# ---- regions, partitions, endpoints ----


async def test_d19_a_role_in_every_region(cloud: Cloud, aws: AwsSession, clock: LoopClock) -> None:
    """D19: an account's buckets are asked for in their own regions, found there when the event is wrong."""
    there = Answer(301, {"x-amz-bucket-region": "me-central-1"})
    cloud.s3 = lambda asked: (
        there
        if "moved" in asked.target and signed_for(asked) != "me-central-1"
        else head("Zx81", "COMPLETED")
    )
    daemon = Daemon(aws, ANYBODY, clock=clock)

    for bucket, region in (("src", "us-east-2"), ("moved", "eu-west-1"), ("moved", "eu-west-1")):
        assert (await daemon.look(THEIRS, bucket, region)).sight is Sight.COMPLETED

    assert [signed_for(one) for one in cloud.looks] == [
        *("us-east-2", "eu-west-1", "me-central-1", "me-central-1")
    ]
    assert len({access_key(one) for one in cloud.looks}) == 1
    assert (await daemon.look(None, "moved", "eu-west-1")).sight is Sight.COMPLETED
    assert access_key(cloud.looks[-1]) == "testing"


@pytest.mark.parametrize("region", ["", "xx-nowhere-1", "not a region"])
async def test_a_role_without_a_region(
    cloud: Cloud, aws: AwsSession, clock: LoopClock, region: str
) -> None:
    """An event that names no region, or nonsense, leads to the account's region, else to the default one."""
    south = KnownAccount(id=BROKEN, role_arn=ROLE, region="sa-east-1")
    daemon = Daemon(aws, ANYBODY, south, clock=clock)

    for owner in (THEIRS, BROKEN):
        assert (await daemon.look(owner, region=region)).sight is Sight.COMPLETED

    assert [signed_for(one) for one in cloud.looks] == [REGION, "sa-east-1"]


@pytest.mark.parametrize(
    ("role_arn", "region", "asked_in"),
    [
        pytest.param(ROLE, None, "eu-west-1", id="default"),
        pytest.param(ROLE, "af-south-1", "af-south-1", id="opt-in"),
        pytest.param("arn:aws-cn:iam::222222222222:role/r", None, "cn-north-1", id="china"),
        pytest.param("arn:aws-cn:iam::222222222222:role/r", "cn-northwest-1", "cn-northwest-1", id="china-region"),
        pytest.param("arn:aws-us-gov:iam::222222222222:role/r", None, "us-gov-west-1", id="govcloud"),
        pytest.param("arn:aws-eusc:iam::222222222222:role/r", None, "eusc-de-east-1", id="sovereign"),
    ],
)  # fmt: skip
async def test_the_sts_of_the_partition(
    cloud: Cloud,
    stub: AwsStub,
    aws: AwsSession,
    clock: LoopClock,
    role_arn: str,
    region: str | None,
    asked_in: str,
) -> None:
    """A role is taken at a regional STS of its own partition."""
    daemon = Daemon(aws, KnownAccount(id=THEIRS, role_arn=role_arn, region=region), clock=clock)

    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED

    assert signed_for(stub.asked[0]) == asked_in


ENDPOINTS = [
    ("s3", "eu-west-1", {}, "https://s3.eu-west-1.amazonaws.com"),
    ("s3", "me-central-1", {}, "https://s3.me-central-1.amazonaws.com"),
    ("s3", "cn-north-1", {}, "https://s3.cn-north-1.amazonaws.com.cn"),
    ("s3", "us-gov-west-1", {}, "https://s3.us-gov-west-1.amazonaws.com"),
    ("s3", "eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://s3.dualstack.eu-west-1.amazonaws.com"),
    ("s3", "us-east-2", {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://s3-fips.us-east-2.amazonaws.com"),
    ("sqs", "us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://sqs-fips.us-east-1.amazonaws.com"),
    ("sts", "eu-west-1", {}, "https://sts.eu-west-1.amazonaws.com"),
    ("sts", "cn-north-1", {}, "https://sts.cn-north-1.amazonaws.com.cn"),
    ("sts", "us-gov-west-1", {}, "https://sts.us-gov-west-1.amazonaws.com"),
    ("sts", "eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://sts.eu-west-1.api.aws"),
    ("sts", "us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "https://sts-fips.us-east-1.amazonaws.com"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "region", "environment", "address"), ENDPOINTS)
async def test_endpoints(
    monkeypatch: pytest.MonkeyPatch,
    service: str,
    region: str,
    environment: dict[str, str],
    address: str,
) -> None:
    """Partitions, dual-stack and FIPS are the SDK's own settings, and every client follows them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        if service == "sts":
            async with aws.sts(None, region) as sts:
                assert sts.meta.endpoint_url == address
        else:
            client = await aws.client(service, region)  # type: ignore[call-overload]
            assert client.meta.endpoint_url == address


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write the SDK's shared files, with profiles of their own keys."""
    path = tmp_path / "config"
    path.write_text(
        "[default]\nuse_fips_endpoint = true\n"
        "[profile minio]\naws_access_key_id = MINIOKEY\naws_secret_access_key = geheim\n"
        "[profile china]\naws_access_key_id = CHINAKEY\naws_secret_access_key = geheim\n"
        "region = cn-northwest-1\nuse_dualstack_endpoint = true\n"
        "[profile half]\naws_access_key_id = K\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


@pytest.mark.usefixtures("profiles")
async def test_endpoints_by_the_shared_files(clock: LoopClock) -> None:
    """The shared config file decides as well, each profile for itself; a store's own address wins for S3 alone."""
    china = KnownAccount(id="china", profile="china", buckets=("china",))
    store = KnownAccount(
        id="minio", profile="minio", endpoint_url="http://127.0.0.1:1", buckets=("m",)
    )
    async with AwsSession(endpoint_url=None, default_region="us-east-1", max_connections=8) as aws:
        daemon = Daemon(aws, china, store, clock=clock)
        own = await daemon.accounts.way("src", None).s3("us-east-2")
        there = await daemon.accounts.way("china", None).s3("cn-northwest-1")
        kept = await daemon.accounts.way("m", None).s3("us-east-1")
        sqs = await aws.client("sqs", "us-east-1")

    assert own.sdk.meta.endpoint_url == "https://s3-fips.us-east-2.amazonaws.com"
    assert there.sdk.meta.endpoint_url == "https://s3.dualstack.cn-northwest-1.amazonaws.com.cn"
    assert kept.sdk.meta.endpoint_url == "http://127.0.0.1:1"
    assert sqs.meta.endpoint_url == "https://sqs-fips.us-east-1.amazonaws.com"


@pytest.mark.usefixtures("profiles")
async def test_a_profile_takes_the_role(
    cloud: Cloud, stub: AwsStub, aws: AwsSession, clock: LoopClock
) -> None:
    """Where a profile is named beside a role, its credentials ask for it, in its region."""
    role_arn = "arn:aws-cn:iam::{account}:role/crrmon"
    daemon = Daemon(aws, KnownAccount(id=THEIRS, role_arn=role_arn, profile="china"), clock=clock)

    assert (await daemon.look(THEIRS)).sight is Sight.COMPLETED

    assert cloud.asked[0]["by"] == "CHINAKEY"
    assert signed_for(stub.asked[0]) == "cn-northwest-1"


# ---- S3-compatible stores ----


@pytest.fixture
async def store() -> AsyncIterator[AwsStub]:
    """Run a store beside AWS."""
    async with AwsStub() as server:
        yield server


def kept_in(store: AwsStub, **more: Any) -> KnownAccount:
    """Describe the store as an account."""
    return KnownAccount(
        id="minio", endpoint_url=store.url, profile="minio", buckets=("mini-*",), **more
    )


@pytest.mark.usefixtures("profiles")
async def test_a_store_beside_aws(
    cloud: Cloud, store: AwsStub, aws: AwsSession, clock: LoopClock
) -> None:
    """A store gets its own key, bucket in the path, and no owner; AWS's buckets go where they always did."""
    store.answer(head("Zx81", "COMPLETE"))
    daemon = Daemon(aws, kept_in(store, region="home-1"), clock=clock)

    for region in ("", "us-east-1", "xx-nowhere-1"):
        assert (await daemon.look(None, "mini-a", region)).sight is Sight.COMPLETED
    assert (await daemon.look(None)).sight is Sight.COMPLETED

    for asked in store.asked:
        assert asked.target == "/mini-a/some/secret-key?versionId=Zx81"
        assert (access_key(asked), signed_for(asked)) == ("MINIOKEY", "home-1")
        assert "x-amz-expected-bucket-owner" not in asked.headers
    assert [access_key(one) for one in cloud.looks] == ["testing"]


@pytest.mark.usefixtures("profiles")
async def test_a_store_is_never_told_an_owner(
    store: AwsStub, aws: AwsSession, clock: LoopClock
) -> None:
    """A store knows nothing of AWS's accounts, even where an event names one."""
    store.answer(head("Zx81", "PENDING"))
    named = KnownAccount(id=THEIRS, endpoint_url=store.url, profile="minio")
    daemon = Daemon(aws, named, clock=clock)

    assert (await daemon.look(THEIRS)).sight is Sight.PENDING

    assert "x-amz-expected-bucket-owner" not in store.asked[0].headers


@pytest.mark.usefixtures("profiles")
async def test_virtual_hosts(aws: AwsSession, clock: LoopClock) -> None:
    """A store whose buckets are host names below its address is asked that way."""
    account = KnownAccount(
        id="s", endpoint_url="http://s3.example.com", path_style=False, profile="minio", buckets=("b",)
    )  # fmt: skip
    way = Daemon(aws, account, clock=clock).accounts.way("b", None)
    s3 = (await way.s3("")).sdk

    url = await s3.generate_presigned_url("head_object", Params={"Bucket": "bucket", "Key": "k"})

    assert url.startswith("http://bucket.s3.example.com/k?")


@pytest.mark.parametrize(
    ("status", "told", "silent"),
    [
        (None, Sight.NO_STATUS, Sight.SILENT),
        ("REPLICA", Sight.REPLICA, Sight.SILENT),
        ("PENDING", Sight.PENDING, Sight.PENDING),
        ("COMPLETED", Sight.COMPLETED, Sight.COMPLETED),
        ("FAILED", Sight.FAILED, Sight.FAILED),
    ],
)
@pytest.mark.usefixtures("profiles")
async def test_a_store_that_reports_no_status(
    store: AwsStub,
    aws: AwsSession,
    clock: LoopClock,
    status: str | None,
    told: Sight,
    silent: Sight,
) -> None:
    """From a store that tells no status, neither its absence nor REPLICA says that an object is no source."""
    store.answer(head("Zx81", status))
    reporting = Daemon(aws, kept_in(store), clock=clock)
    mute = Daemon(aws, kept_in(store, reports_status=False), clock=clock)

    assert (await reporting.look(None, "mini-a")).sight is told
    assert (await mute.look(None, "mini-a")).sight is silent


@pytest.mark.usefixtures("profiles")
async def test_an_answer_without_a_version_id(
    store: AwsStub, aws: AwsSession, clock: LoopClock
) -> None:
    """A store may leave out which version its answer is about; one that names another is not believed."""
    daemon = Daemon(aws, kept_in(store), clock=clock)

    store.answer(head(None, "COMPLETED"))
    seen = await daemon.look(None, "mini-a")
    assert (seen.sight, seen.version_id) == (Sight.COMPLETED, "Zx81")
    store.answer(head("Other", "COMPLETED"))
    assert (await daemon.look(None, "mini-a")).sight is Sight.UNREACHABLE


@pytest.mark.parametrize(
    ("profile", "mended"),
    [
        ("missing", "[profile missing]\naws_access_key_id = K\naws_secret_access_key = s\n"),
        ("half", "aws_secret_access_key = s\n"),
    ],
)
async def test_a_profile_without_credentials(
    store: AwsStub, aws: AwsSession, clock: LoopClock, profiles: Path, profile: str, mended: str
) -> None:
    """A profile that is not there, or has half a key, is told by name; once it is mended, all is well."""
    store.answer(head("Zx81", "PENDING"))
    account = KnownAccount(id="m", endpoint_url=store.url, profile=profile, buckets=("*",))
    daemon = Daemon(aws, account, clock=clock)

    seen = await asyncio.gather(*(daemon.look(None) for _ in range(9)))

    assert {one.sight for one in seen} == {Sight.DENIED}
    assert f"profile {profile}" in seen[0].detail
    assert "account m" in seen[0].detail
    assert daemon.errors("m") == 1
    assert store.asked == []
    with profiles.open("a") as file:
        file.write(mended)
    clock.leap(31)
    assert (await daemon.look(None)).sight is Sight.PENDING


async def test_a_profile_that_takes_its_time(
    store: AwsStub, aws: AwsSession, clock: LoopClock, profiles: Path
) -> None:
    """A program that should give credentials, and does not, is run once for all looks that wait."""
    with profiles.open("a") as file:
        file.write("[profile program]\ncredential_process = false\n")
    account = KnownAccount(id="m", endpoint_url=store.url, profile="program", buckets=("*",))
    daemon = Daemon(aws, account, clock=clock)

    seen = await asyncio.gather(*(daemon.look(None) for _ in range(9)))

    assert {one.sight for one in seen} == {Sight.DENIED}
    assert "profile program" in seen[0].detail
    assert daemon.errors("m") == 1


# ---- an emulator that checks who may take which role ----


@pytest.fixture(scope="module")
def strict_url() -> Iterator[str]:
    """Run MiniStack so that it checks credentials and policies."""
    with ministack(AUTH="true") as url:
        yield url


async def settle_in(url: str, account: str, *, trusts: str, external_id: str) -> str:
    """
    Make a bucket with an object in an account of MiniStack, and a role that may look at it.

    Returns:
        The object's version id.
    """
    session = AioSession()
    session.set_credentials(account, "test")  # MiniStack's way to name the root of an account
    where: Any = {"region_name": REGION, "endpoint_url": url}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{trusts}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    looks = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    async with session.create_client("iam", **where) as iam:
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            await iam.create_role(
                RoleName="crrmon",
                AssumeRolePolicyDocument=json.dumps(
                    {"Version": "2012-10-17", "Statement": [trust]}
                ),
            )
        await iam.put_role_policy(
            RoleName="crrmon",
            PolicyName="looks",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [looks]}),
        )
    bucket = f"src-{account}"
    async with session.create_client("s3", **where) as s3:
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            await s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        await s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        version_id: str = (await s3.put_object(Bucket=bucket, Key="key", Body=b"1"))["VersionId"]
        return version_id


async def test_d47_trust_is_checked(strict_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D47: with the external id that a role's trust policy asks for its buckets are seen; without it, only those are not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OURS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    versions = {
        account: await settle_in(strict_url, account, trusts=OURS, external_id=external_id)
        for account, external_id in ((OURS, "none"), (THEIRS, "let-us-in"), (BROKEN, "other"))
    }
    async with AwsSession(
        endpoint_url=strict_url, default_region=REGION, max_connections=8
    ) as aws:
        daemon = Daemon(aws, ANYBODY, KnownAccount(id=OURS), clock=SystemClock())

        async def look(account: str) -> Observation:
            version = ObjectVersion(f"src-{account}", "key", versions[account])
            return await daemon.probe.look(version, region=REGION, owner=account)

        ours, theirs, broken = await asyncio.gather(*(look(one) for one in versions))

        # Nobody else may look there: it is the role that does.
        stranger = Daemon(aws, clock=SystemClock())
        version = ObjectVersion(f"src-{THEIRS}", "key", versions[THEIRS])
        unseen = await stranger.probe.look(version, region=REGION, owner=THEIRS)

    assert (ours.sight, theirs.sight) == (Sight.NO_STATUS, Sight.NO_STATUS)
    assert (broken.sight, unseen.sight) == (Sight.DENIED, Sight.DENIED)
    assert "not authorized to perform: sts:AssumeRole" in broken.detail
    assert "external id let-us-in is sent" in broken.detail
    assert unseen.detail == "HTTP 403 (AccessDenied)"
