import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from crrmon.adapters import aws as aws_module
from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.s3 import S3Probe
from crrmon.domain.objects import LARGEST_BYTES, ObjectVersion, provisional
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.records import Destination
from crrmon.domain.routes import parse
from crrmon.ports.probe import UnreadableConfigurationError
from fakes.aws_stub import Answer, AwsStub, Hang, Raw, Reset, head, s3_error
from fakes.clock import EPOCH, LoopClock
from fakes.meters import FakeMeters
from fakes.patience import HANGS_SECONDS

pytestmark = pytest.mark.usefixtures("both_clients")

REGION = "eu-west-1"
VERSION = ObjectVersion("src", "2026/11/a b+c%.parquet", "Zx81")
MODIFIED_AT = 1_794_997_230.0
"""What `fakes.aws_stub.head` says."""


def reach(aws: AwsSession, *accounts: KnownAccount) -> Accounts:
    """Reach buckets with the daemon's own credentials, or as the accounts say."""
    return Accounts(aws, accounts, clock=LoopClock(), meters=FakeMeters())


@pytest.fixture
async def probe(stub: AwsStub) -> AsyncIterator[S3Probe]:
    """Make a probe that looks at the stub."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        yield S3Probe(reach(aws), clock=LoopClock())


def methods(stub: AwsStub) -> list[str]:
    """Return how the stub was asked, in turn."""
    return [asked.method for asked in stub.asked]


async def look(probe: S3Probe, version: ObjectVersion = VERSION) -> Observation:
    """Look in the region that the tests are at home in."""
    return await probe.look(version, region=REGION, owner=None)


# ---- a HEAD that is answered ----


@pytest.mark.parametrize(
    ("status", "sight"),
    [
        ("PENDING", Sight.PENDING),
        ("COMPLETED", Sight.COMPLETED),
        ("FAILED", Sight.FAILED),
        ("REPLICA", Sight.REPLICA),
    ],
)
async def test_statuses(stub: AwsStub, probe: S3Probe, status: str, sight: Sight) -> None:
    """Every status of the API has its own sight; version, size and times come along."""
    stub.answer(head("Zx81", status, Content_Length="1234"))

    seen = await look(probe)

    assert seen.looked_at >= EPOCH
    assert seen == Observation(
        sight=sight,
        looked_at=seen.looked_at,
        version_id="Zx81",
        size=1234,
        last_modified_at=MODIFIED_AT,
        etag="d41d8cd98f00b204e9800998ecf8427e",
    )


async def test_d11_complete_is_completed(stub: AwsStub, probe: S3Probe) -> None:
    """D11: COMPLETE, the other spelling in the API's model, means COMPLETED."""
    stub.answer(head("Zx81", "COMPLETE"))

    assert (await look(probe)).sight is Sight.COMPLETED


@pytest.mark.parametrize(
    ("status", "sight"),
    [
        ("Completed", Sight.COMPLETED),
        ("complete", Sight.COMPLETED),
        ("Pending", Sight.PENDING),
        ("failed", Sight.FAILED),
        ("replica", Sight.REPLICA),
        ("", Sight.NO_STATUS),
    ],
)
async def test_statuses_of_other_stores(
    stub: AwsStub, probe: S3Probe, status: str, sight: Sight
) -> None:
    """A status is understood in whatever case a store writes it; an empty one is none."""
    stub.answer(head("Zx81", status))

    assert (await look(probe)).sight is sight


@pytest.mark.parametrize(
    ("headers", "storage_class", "encryption"),
    [
        ({}, "", ""),
        ({"x_amz_storage_class": "STANDARD"}, "", ""),
        (
            {"x_amz_storage_class": "DEEP_ARCHIVE", "x_amz_server_side_encryption": "aws:kms"},
            "DEEP_ARCHIVE",
            "aws:kms",
        ),
    ],
)
async def test_storage_class_and_encryption(
    stub: AwsStub, probe: S3Probe, headers: dict[str, str], storage_class: str, encryption: str
) -> None:
    """What a HEAD tells of storage class and encryption comes along, in S3's words."""
    stub.answer(head("Zx81", **headers))

    seen = await look(probe)

    assert (seen.storage_class, seen.encryption) == (storage_class, encryption)


async def test_d12_d22_no_status_is_told(stub: AwsStub, probe: S3Probe) -> None:
    """D12, D22: an answer without the replication header is an observation, neither success nor a crash."""
    stub.answer(head("Zx81"))

    assert (await look(probe)).sight is Sight.NO_STATUS


async def test_unknown_status(stub: AwsStub, probe: S3Probe) -> None:
    """Invariant 3: a status that nobody told us of is called unknown, and named."""
    stub.answer(head("Zx81", "PROCESSING"))

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (Sight.UNKNOWN, "PROCESSING")


@pytest.mark.parametrize(
    ("status", "sight"),
    [
        (400, Sight.REFUSED),
        (403, Sight.DENIED),
        (404, Sight.GONE),
        (405, Sight.DELETE_MARKER),
        (429, Sight.THROTTLED),
        (503, Sight.THROTTLED),
        (301, Sight.UNREACHABLE),
        (409, Sight.UNREACHABLE),
        (412, Sight.UNREACHABLE),
        (500, Sight.UNREACHABLE),
        (502, Sight.UNREACHABLE),
        (504, Sight.UNREACHABLE),
    ],
)
async def test_refusals(stub: AwsStub, probe: S3Probe, status: int, sight: Sight) -> None:
    """Invariant 3: every other answer is told by what it means, after one HEAD; S3 is asked once what 400 and 403 mean."""
    stub.answer(Answer(status))

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (sight, f"HTTP {status}")
    assert methods(stub) == (["HEAD", "GET"] if status in (400, 403) else ["HEAD"])


# ---- whose answer it is ----


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_t5_an_answer_without_s3s_request_id_is_nobodys(
    stub: AwsStub, probe: S3Probe, status: int
) -> None:
    """A proxy's or a mesh's 404 proves nothing: as good as no answer, and the log says what is missing."""
    stub.answer(Answer(status, signed=False))

    seen = await look(probe)

    assert seen.sight is Sight.UNREACHABLE
    assert f"HTTP {status}" in seen.detail
    assert "x-amz-request-id" in seen.detail


@pytest.mark.parametrize("status", ["COMPLETED", "REPLICA", None])
async def test_t5_a_200_without_s3s_request_id_ends_nothing(
    stub: AwsStub, probe: S3Probe, status: str | None
) -> None:
    """Nor does a 200: without a status, it would end as not covered."""
    answer = head("Zx81", status)
    del answer.headers["x-amz-request-id"]
    stub.answer(answer)

    seen = await look(probe)

    assert seen.sight is Sight.UNREACHABLE
    assert "x-amz-request-id" in seen.detail


async def test_t5_a_configuration_without_s3s_request_id_is_unreadable(
    stub: AwsStub, probe: S3Probe
) -> None:
    """That a bucket has no rules, or these, is believed of S3 alone."""
    for answer in (
        s3_error(404, "ReplicationConfigurationNotFoundError"),
        Answer(200, {"Content-Type": "application/xml"}, CONFIGURATION),
    ):
        del answer.headers["x-amz-request-id"]
        stub.answer(answer)
        with pytest.raises(UnreadableConfigurationError, match="x-amz-request-id"):
            await probe.configuration("src", region=REGION, owner=None)


@pytest.mark.parametrize(
    ("answer", "sight", "unproved"),
    [
        (Answer(404, signed=False), Sight.GONE, True),
        (Answer(405, signed=False), Sight.DELETE_MARKER, True),
        (head("Zx81"), Sight.NO_STATUS, True),
        (head("Zx81", "COMPLETED"), Sight.COMPLETED, False),
        (head("Zx81", "PENDING"), Sight.PENDING, False),
    ],
)
async def test_t5_other_stores_need_no_request_id_and_are_asked_twice(
    stub: AwsStub, answer: Answer, sight: Sight, *, unproved: bool
) -> None:
    """A store of its own endpoint may sign nothing; what any server could say has to be said again."""
    stub.answer(answer)
    store = KnownAccount(id="222222222222", endpoint_url=stub.url, buckets=("src",))
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        seen = await look(S3Probe(reach(aws, store), clock=LoopClock()))

    assert (seen.sight, seen.unproved) == (sight, unproved)


# ---- answers as they can be ----

SIGNED = b"HTTP/1.1 200 OK\r\nx-amz-request-id: TX0123456789ABCD\r\nx-amz-version-id: Zx81\r\n"
PENDING = SIGNED + b"x-amz-replication-status: PENDING\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"".join(b"x-amz-meta-%d: v\r\n" % one for one in range(129)), id="129"),
        pytest.param(b"".join(b"x-amz-meta-%d: \r\n" % one for one in range(700)), id="700"),
        pytest.param(b"x-amz-meta-a: caf\xe9\r\n", id="latin-1"),
        pytest.param("x-amz-meta-a: \u4e2d\u6587\r\n".encode("gbk"), id="gbk"),
        pytest.param(b"x-amz-meta-a: " + 9000 * b"a" + b"\r\n", id="long"),
        pytest.param(b"Content-Type: \xe9/\xff; charset=none\r\n", id="content-type"),
        pytest.param(b"x-amz-meta-a: a\x01\x7fb\r\n", id="control"),
    ],
)
async def test_t6_what_users_give_an_object_does_not_keep_it_from_being_read(
    stub: AwsStub, probe: S3Probe, headers: bytes
) -> None:
    """Hundreds of headers, bytes of any encoding, long values: the status is read, and the size."""
    stub.answer(Raw(PENDING + headers + b"\r\n"))

    seen = await look(probe)

    assert (seen.sight, seen.version_id, seen.size) == (Sight.PENDING, "Zx81", 5)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"x-amz-meta-a: a\0b\r\n", id="nul"),
        pytest.param(b"Content-Length: 6\r\n", id="two-lengths"),
        pytest.param(b"x-amz-meta-\xe9: a\r\n", id="name"),
        pytest.param(b"Last-Modified: yesterday\r\n", id="no-time"),
        pytest.param(b"x-amz-meta-a: " + 70_000 * b"a" + b"\r\n", id="far-too-long"),
    ],
)
async def test_t6_what_cannot_be_read_is_not_called_unreachable(
    stub: AwsStub, probe: S3Probe, headers: bytes
) -> None:
    """S3 did answer: that is a matter of this object, and the next one is read."""
    stub.answer(Raw(PENDING + headers + b"\r\n"))
    assert (await look(probe)).sight is Sight.UNREADABLE

    stub.answer(Raw(PENDING + b"\r\n"))
    assert (await look(probe)).sight is Sight.PENDING


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed"),
        pytest.param(b"\x15\x03\x01\x02\x02\x16\r\n\r\n", id="not-http"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another-protocol"),
    ],
)
async def test_t6_what_is_no_http_is_unreachable(
    stub: AwsStub, probe: S3Probe, answer: bytes
) -> None:
    """A port at which something else listens, or nobody answers, is an S3 that cannot be reached."""
    stub.answer(Raw(answer))

    assert (await look(probe)).sight is Sight.UNREACHABLE


@pytest.mark.parametrize("body", [b"", b"<ReplicationConfiguration/>", b"\xff<html>"])
async def test_t6_a_configuration_that_cannot_be_read_is_said_to_be_so(
    stub: AwsStub, probe: S3Probe, body: bytes
) -> None:
    """A 200 without any rules is no configuration: it proves no object uncovered."""
    stub.answer(Answer(200, {"Content-Type": "application/xml"}, body))

    with pytest.raises(UnreadableConfigurationError, match="src"):
        await probe.configuration("src", region=REGION, owner=None)


# ---- one request, for that version ----


async def test_d7_asks_for_the_version(stub: AwsStub, probe: S3Probe) -> None:
    """Invariant 4, D7: the HEAD names the version, and the bucket's owner; the key is sent as it is."""
    stub.answer(head("Zx81", "PENDING"))

    await probe.look(VERSION, region=REGION, owner="210987654321")

    (asked,) = stub.asked
    assert asked.method == "HEAD"
    assert asked.target == "/src/2026/11/a%20b%2Bc%25.parquet?versionId=Zx81"
    assert asked.headers["x-amz-expected-bucket-owner"] == "210987654321"


@pytest.mark.parametrize("owner", ["", "anonymous", "s3.amazonaws.com", "21098765432"])
async def test_only_accounts_are_sent_as_owners(stub: AwsStub, probe: S3Probe, owner: str) -> None:
    """What is not twelve digits is no owner that S3 would understand."""
    stub.answer(head("Zx81", "PENDING"))

    assert (await probe.look(VERSION, region=REGION, owner=owner)).sight is Sight.PENDING

    assert "x-amz-expected-bucket-owner" not in stub.asked[0].headers


@pytest.mark.parametrize("key", ["a/../b", "a//b", "./a", "/a", "ä/€", "a?b#c", "a\nb"])
async def test_odd_keys(stub: AwsStub, probe: S3Probe, key: str) -> None:
    """Keys that look like paths are not tidied up on the way: they name other objects."""
    stub.answer(head("Zx81", "PENDING"))

    await look(probe, ObjectVersion("src", key, "Zx81"))

    escaped = {"ä/€": "%C3%A4/%E2%82%AC", "a?b#c": "a%3Fb%23c", "a\nb": "a%0Ab"}
    assert stub.asked[0].target == f"/src/{escaped.get(key, key)}?versionId=Zx81"


@pytest.mark.parametrize("answer", [head("Other", "COMPLETED"), head(None, "COMPLETED")])
async def test_d7_another_version_is_never_used(
    stub: AwsStub, probe: S3Probe, answer: Answer
) -> None:
    """Invariant 4, D7: an answer about another version says nothing about the one asked for."""
    stub.answer(answer)

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "answer about another version")
    assert seen.version_id is None


async def test_a_refusal_about_another_version_is_never_used(
    stub: AwsStub, probe: S3Probe
) -> None:
    """Invariant 4: that another version is a delete marker says nothing about the one asked for."""
    stub.answer(Answer(405, {"x-amz-version-id": "Other", "x-amz-delete-marker": "true"}))

    assert (await look(probe)).sight is Sight.UNREACHABLE


async def test_the_null_version(stub: AwsStub, probe: S3Probe) -> None:
    """The version of a bucket that never was versioned is called null, and its answer does not say so."""
    stub.answer(head(None, "COMPLETED"))

    seen = await look(probe, ObjectVersion("src", "key", "null"))

    assert (seen.sight, seen.version_id) == (Sight.COMPLETED, "null")


async def test_without_a_version_id(stub: AwsStub, probe: S3Probe) -> None:
    """Invariant 4: a stand-in is not sent; the answer tells which version it is about."""
    stub.answer(head("Newest", "PENDING"))

    seen = await look(probe, provisional("src", "key", 1_794_997_229.0))

    assert stub.asked[0].target == "/src/key"
    assert (seen.sight, seen.version_id) == (Sight.PENDING, "Newest")
    assert seen.last_modified_at == MODIFIED_AT


# ---- no answer ----


async def test_d9_broken_connection(stub: AwsStub, probe: S3Probe) -> None:
    """D9: a connection that breaks is an observation, and its text tells no key."""
    stub.answer(Reset())

    seen = await look(probe)

    assert seen.sight is Sight.UNREACHABLE
    assert seen.detail in ("ConnectionClosedError", "EndpointConnectionError")


async def test_answers_that_are_not_s3s(stub: AwsStub, probe: S3Probe) -> None:
    """A 200 whose headers make no sense is an observation about this object."""
    stub.answer(Answer(200, {"x-amz-version-id": "Zx81", "Last-Modified": "yesterday"}))

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (Sight.UNREADABLE, "ValueError")


async def test_answers_with_nonsense_that_nobody_needs(
    stub: AwsStub, probe: S3Probe, both_clients: str
) -> None:
    """The SDK reads every header that S3 may send, and fails over one; the fast client reads what is used."""
    stub.answer(head("Zx81", "PENDING", x_amz_missing_meta="some"))

    seen = await look(probe)

    assert seen.sight is {"sdk": Sight.UNREADABLE, "fast": Sight.PENDING}[both_clients]


@pytest.mark.parametrize(
    ("length", "size"), [(LARGEST_BYTES, LARGEST_BYTES), (LARGEST_BYTES + 1, None), (2**60, None)]
)
async def test_t11_a_length_that_no_object_has_is_unknown(
    stub: AwsStub, probe: S3Probe, length: int, size: int | None
) -> None:
    """T11: what S3 could not have stored is not added to what is pending."""
    stub.answer(head("Zx81", "PENDING", Content_Length=str(length)))

    seen = await look(probe)

    assert (seen.sight, seen.size) == (Sight.PENDING, size)


async def test_no_server() -> None:
    """An address where nobody listens is an observation."""
    url = "http://127.0.0.1:1"
    async with AwsSession(endpoint_url=url, default_region=REGION, max_connections=8) as aws:
        seen = await look(S3Probe(reach(aws), clock=LoopClock()))

    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "EndpointConnectionError")


async def test_hanging_server(stub: AwsStub) -> None:
    """A server that never answers holds a look no longer than the deadline."""
    stub.answer(Hang())
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        async with asyncio.timeout(HANGS_SECONDS):
            seen = await look(S3Probe(reach(aws), clock=LoopClock(), deadline_seconds=0.2))

    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "TimeoutError")


async def test_no_credentials(
    stub: AwsStub, probe: S3Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials nothing is asked and nothing crashes; once there are some, all is well."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    stub.answer(head("Zx81", "PENDING"))

    seen = await look(probe)
    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "NoCredentialsError")
    assert stub.asked == []

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    assert (await look(probe)).sight is Sight.PENDING


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(ObjectVersion("src", "", "Zx81"), id="empty-key"),
        pytest.param(ObjectVersion("not a bucket!", "key", "Zx81"), id="bucket"),
        pytest.param(ObjectVersion("src", "half a \ud83d pair", "Zx81"), id="surrogate"),
    ],
)
async def test_names_that_s3_cannot_have(
    stub: AwsStub, probe: S3Probe, version: ObjectVersion
) -> None:
    """Invariant 10: a name that no object can have is refused without a request, and harms nobody."""
    seen = await look(probe, version)

    assert seen.sight is Sight.REFUSED
    assert stub.asked == []


@pytest.mark.parametrize("region", ["not a region", "eu_west_1", "http://x/", "", "xx-new-9"])
async def test_regions_that_are_none(stub: AwsStub, probe: S3Probe, region: str) -> None:
    """Invariant 10: with nonsense or nothing for a region, the default one is asked, and knows better."""
    stub.answer(Answer(301, {"x-amz-bucket-region": "ap-south-2"}), head("Zx81", "COMPLETED"))

    assert (await probe.look(VERSION, region=region, owner=None)).sight is Sight.COMPLETED

    assert signed_for(stub) == [REGION, "ap-south-2"]


async def test_a_region_that_s3_cannot_mean(stub: AwsStub, probe: S3Probe) -> None:
    """Invariant 10: nonsense in S3's own redirect is an observation."""
    stub.answer(Answer(301, {"x-amz-bucket-region": "not a region"}))

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "InvalidRegionError")


async def test_nonsense_for_regions_takes_no_clients(
    stub: AwsStub, probe: S3Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 7: regions that nobody knows share the default one's client, however many there are."""
    monkeypatch.setattr(aws_module, "MAX_S3_CLIENTS", 1)
    stub.answer(head("Zx81", "PENDING"))

    for number in range(20):
        seen = await probe.look(VERSION, region=f"eu-nowhere-{number}", owner=None)
        assert seen.sight is Sight.PENDING


# ---- buckets elsewhere ----


def signed_for(stub: AwsStub) -> list[str]:
    """Tell for which regions the requests were signed."""
    return [one.headers["Authorization"].split("/")[2] for one in stub.asked]


@pytest.mark.parametrize("status", [301, 307, 400])
async def test_bucket_elsewhere(stub: AwsStub, probe: S3Probe, status: int) -> None:
    """A bucket in another region is asked for once more, there; next time at once."""
    stub.answer(Answer(status, {"x-amz-bucket-region": "ap-south-2"}), head("Zx81", "COMPLETED"))

    assert (await look(probe)).sight is Sight.COMPLETED
    assert (await look(probe)).sight is Sight.COMPLETED

    assert signed_for(stub) == ["eu-west-1", "ap-south-2", "ap-south-2"]


async def test_redirects_in_a_circle(stub: AwsStub, probe: S3Probe) -> None:
    """Two regions that each name the other cost two requests, not more."""
    stub.answer(
        Answer(301, {"x-amz-bucket-region": "ap-south-2"}),
        Answer(301, {"x-amz-bucket-region": "eu-west-1"}),
    )

    seen = await look(probe)

    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "HTTP 301")
    assert len(stub.asked) == 2


async def test_400_in_the_right_region(stub: AwsStub, probe: S3Probe) -> None:
    """A 400 from the bucket's own region (SSE-C) costs one HEAD: no redirect, no HEAD of the bucket."""
    stub.answer(Answer(400, {"x-amz-bucket-region": REGION}))

    assert (await look(probe)).sight is Sight.REFUSED
    assert methods(stub) == ["HEAD", "GET"]


async def test_403_is_no_redirect(stub: AwsStub, probe: S3Probe) -> None:
    """A 403 is an answer about permissions, whatever region it names."""
    stub.answer(Answer(403, {"x-amz-bucket-region": "ap-south-2"}))

    assert (await look(probe)).sight is Sight.DENIED
    assert methods(stub) == ["HEAD", "GET"]


async def test_regions_have_their_own_clients(stub: AwsStub, probe: S3Probe) -> None:
    """Looks at buckets of several regions are signed for theirs, also at the same time."""
    stub.answer(head("Zx81", "PENDING"))

    regions = ["eu-west-1", "us-east-2", "eu-west-1", "us-east-2"]
    await asyncio.gather(*(probe.look(VERSION, region=region, owner=None) for region in regions))

    assert sorted(signed_for(stub)) == sorted(regions)


async def test_too_many_regions(
    stub: AwsStub, probe: S3Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 10: one region too many is an observation, and says what to do where a configuration is read."""
    monkeypatch.setattr(aws_module, "MAX_S3_CLIENTS", 1)
    stub.answer(head("Zx81", "PENDING"))
    await look(probe)

    seen = await probe.look(VERSION, region="us-east-2", owner=None)
    assert (seen.sight, seen.detail) == (Sight.UNREACHABLE, "TooManyClientsError")
    with pytest.raises(UnreadableConfigurationError, match="pairs of account and region"):
        await probe.configuration("src", region="us-east-2", owner=None)


# ---- replication configurations ----


async def test_a_bucket_that_is_gone(stub: AwsStub, probe: S3Probe) -> None:
    """Where no region is known none is named, and what to do with a bucket that was deleted is said."""
    stub.answer(s3_error(404, "NoSuchBucket"))

    with pytest.raises(
        UnreadableConfigurationError, match=r"is there and that .* remove it from buckets"
    ):
        await probe.configuration("src", region="", owner=None)


async def test_configuration_unreadable(stub: AwsStub, probe: S3Probe) -> None:
    """A denied configuration is unreadable, not absent; the text names bucket, code and permission."""
    stub.answer(s3_error(403, "AccessDenied", "User: arn:aws:sts::1:x is not authorized"))

    with pytest.raises(UnreadableConfigurationError) as caught:
        await probe.configuration("src", region=REGION, owner="210987654321")

    text = str(caught.value)
    for part in ("src", "AccessDenied", "not authorized", "s3:GetReplicationConfiguration"):
        assert part in text
    assert stub.asked[0].headers["x-amz-expected-bucket-owner"] == "210987654321"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(s3_error(404, "NoSuchBucket"), "region eu-west-1", id="no-bucket"),
        pytest.param(s3_error(503, "SlowDown"), "SlowDown", id="throttled"),
        pytest.param(Answer(500), "500", id="no-body"),
        pytest.param(Answer(200, body=b"<html>hello"), "500", id="not-s3"),
        pytest.param(Reset(), "network", id="broken"),
    ],
)
async def test_configuration_not_told(
    stub: AwsStub, probe: S3Probe, answer: Answer | Reset, told: str
) -> None:
    """Invariant 3: whatever S3 does not tell is unreadable; only its own word for none means none."""
    stub.answer(answer)

    with pytest.raises(UnreadableConfigurationError, match=told):
        await probe.configuration("src", region=REGION, owner=None)


async def test_configuration_elsewhere(stub: AwsStub, probe: S3Probe) -> None:
    """A configuration is read in the region that S3 names, and looks go there afterwards."""
    none = s3_error(404, "ReplicationConfigurationNotFoundError")
    stub.answer(
        s3_error(301, "PermanentRedirect", region="ap-south-2"), none, head("Zx81", "PENDING")
    )

    assert await probe.configuration("src", region=REGION, owner=None) is None
    assert (await look(probe)).sight is Sight.PENDING

    assert signed_for(stub) == ["eu-west-1", "ap-south-2", "ap-south-2"]


CONFIGURATION = b"""<?xml version="1.0" encoding="UTF-8"?>
<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Role>arn:aws:iam::210987654321:role/crr</Role>
  <Rule>
    <ID>first</ID><Prefix>old/</Prefix><Status>Enabled</Status>
    <Destination><Bucket>arn:aws:s3:::dst-one</Bucket></Destination>
  </Rule>
  <Rule>
    <ID>all</ID><Priority>1</Priority><Status>Enabled</Status><Filter/>
    <DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>
    <Destination><Bucket>arn:aws:s3:::dst-two</Bucket></Destination>
  </Rule>
  <Rule>
    <ID>gold</ID><Priority>2</Priority><Status>Enabled</Status>
    <Filter><And>
      <Prefix>new/</Prefix><Tag><Key>tier</Key><Value>gold</Value></Tag>
    </And></Filter>
    <DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>
    <Destination><Bucket>arn:aws:s3:::dst-three</Bucket></Destination>
  </Rule>
</ReplicationConfiguration>"""


async def test_configuration_as_s3_writes_it(stub: AwsStub, probe: S3Probe) -> None:
    """The XML of both versions of rules, read by the SDK, is what the domain expects."""
    stub.answer(Answer(200, {"Content-Type": "application/xml"}, CONFIGURATION))

    raw = await probe.configuration("src", region=REGION, owner=None)

    known = parse(raw, fetched_at=0)
    everywhere = Destination("dst-two", rule="all")
    assert known.destinations("x") == (everywhere,)
    assert known.destinations("old/x") == (Destination("dst-one", rule="first"), everywhere)
    gold = Destination("dst-three", rule="gold", certain=False)
    assert known.destinations("new/x") == (gold, everywhere)
    assert known.doubts == ()


# ---- the same against an emulator ----


class Source:
    """A versioned bucket in moto."""

    def __init__(self, s3: Any, probe: S3Probe) -> None:
        self.s3 = s3
        self.probe = probe

    async def write(self, key: str, status: str | None) -> ObjectVersion:
        """Write an object and plant its replication status."""
        put = await self.s3.put_object(Bucket="src", Key=key, Body=b"12345")
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        stored = backend.get_object("src", key, version_id=put["VersionId"])
        if status is not None:
            stored.metadata["x-amz-replication-status"] = status
        return ObjectVersion("src", key, put["VersionId"])


@pytest.fixture
def empty_moto(moto_url: str) -> Iterator[str]:
    """Give moto's address, and forget its buckets at the end."""
    yield moto_url
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()


@pytest.fixture
async def source(empty_moto: str) -> AsyncIterator[Source]:
    """Make a versioned bucket, and a probe that looks at it."""
    async with AwsSession(
        endpoint_url=empty_moto, default_region=REGION, max_connections=8
    ) as aws:
        s3 = await aws.client("s3")
        for bucket in ("src", "dst-one"):
            await s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
            await s3.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            )
        yield Source(s3, S3Probe(reach(aws), clock=LoopClock()))


async def test_moto_versions(source: Source) -> None:
    """Invariant 4: of two versions of a key each shows its own status, and a stand-in the newest."""
    old = await source.write("key ä", "PENDING")
    new = await source.write("key ä", "COMPLETED")

    seen = await look(source.probe, old)
    assert (seen.sight, seen.version_id, seen.size) == (Sight.PENDING, old.version_id, 5)
    assert (await look(source.probe, new)).sight is Sight.COMPLETED
    current = await look(source.probe, provisional("src", "key ä", 0))
    assert (current.sight, current.version_id) == (Sight.COMPLETED, new.version_id)


async def test_moto_gone(source: Source) -> None:
    """A deleted version is gone, and so is one of a bucket that is not there."""
    version = await source.write("key", "PENDING")
    await source.s3.delete_object(Bucket="src", Key="key", VersionId=version.version_id)

    assert (await look(source.probe, version)).sight is Sight.GONE
    nowhere = ObjectVersion("nowhere", "key", version.version_id)
    assert (await look(source.probe, nowhere)).sight is Sight.GONE


async def test_moto_delete_marker(source: Source) -> None:
    """A delete marker hides the key, not the versions beneath it."""
    version = await source.write("key", "PENDING")
    laid = await source.s3.delete_object(Bucket="src", Key="key")
    marker = ObjectVersion("src", "key", laid["VersionId"])

    assert (await look(source.probe, marker)).sight is Sight.DELETE_MARKER
    assert (await look(source.probe, provisional("src", "key", 0))).sight is Sight.GONE
    assert (await look(source.probe, version)).sight is Sight.PENDING


async def test_moto_configuration(source: Source) -> None:
    """A bucket without a configuration has none; one with a rule has that rule."""
    assert await source.probe.configuration("src", region=REGION, owner=None) is None

    rule = {
        "ID": "all",
        "Priority": 3,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},  # moto forgets any other
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::dst-one"},
    }
    role = "arn:aws:iam::210987654321:role/crr"
    await source.s3.put_bucket_replication(
        Bucket="src", ReplicationConfiguration={"Role": role, "Rules": [rule]}
    )
    raw = await source.probe.configuration("src", region=REGION, owner=None)

    assert parse(raw, fetched_at=0).destinations("x") == (Destination("dst-one", rule="all"),)


async def test_moto_no_bucket(source: Source) -> None:
    """A bucket that is not there has an unreadable configuration: its name may be mistaken, or the region."""
    with pytest.raises(UnreadableConfigurationError, match="NoSuchBucket"):
        await source.probe.configuration("nowhere", region=REGION, owner=None)
