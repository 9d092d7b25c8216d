"""A clock that is wrong, and credentials that end before their time: what both clients make of S3's and SQS's word."""

import asyncio
import email.utils
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from crrmon.adapters.accounts import Accounts
from crrmon.adapters.answers import read_date
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.fast import credentials
from crrmon.adapters.fast.addresses import Address, origin_of
from crrmon.adapters.fast.endpoint import HEARD_SECONDS, SKEW_SECONDS, ServiceEndpoint
from crrmon.adapters.fast.json_calls import JsonCalls
from crrmon.adapters.fast.pool import ConnectionPool, Limits
from crrmon.adapters.fast.s3 import FastHeads
from crrmon.adapters.fast.signing import Request
from crrmon.adapters.s3 import WHY_SECONDS, S3Probe
from crrmon.adapters.sqs import SqsInbox
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.ports.clock import SystemClock
from crrmon.ports.inbox import InboxError
from fakes.aws_stub import JSON, Answer, Asked, AwsStub, head, json_answer, json_error, s3_error
from fakes.meters import FakeMeters
from fakes.patience import HANGS_SECONDS

REGION = "eu-west-1"
VERSION = ObjectVersion("src", "k", "Zx81")
URL = "https://sqs.eu-west-1.amazonaws.com/111122223333/ingest"


class SetClock:
    """A clock that is set."""

    sure = True

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> SetClock:
    """Make the clock by which buckets are asked why."""
    return SetClock()


@pytest.fixture
async def aws(stub: AwsStub) -> AsyncIterator[AwsSession]:
    """Open a session with the stub, by the client that the test is for."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as made:
        yield made


def probe_of(aws: AwsSession, clock: SetClock) -> S3Probe:
    """Make what looks."""
    return S3Probe(Accounts(aws, (), clock=clock, meters=FakeMeters()), clock=clock)


async def look(probe: S3Probe, bucket: str = "src") -> Observation:
    """Look at a version."""
    version = ObjectVersion(bucket, VERSION.key, VERSION.version_id)
    return await probe.look(version, region=REGION, owner=None)


# ---- a clock that is wrong ----


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the fast client ask."""
    monkeypatch.setitem(AwsSession.__init__.__kwdefaults__ or {}, "choice", "fast")


def signed_at(asked: Asked) -> float:
    """Return by what time a request was signed."""
    return datetime.fromisoformat(asked.headers["x-amz-date"]).timestamp()


def service(ahead: float, *, good: Answer, bad: Answer) -> Callable[[Asked], Answer]:
    """Answer as a service does whose clock is ahead, which takes an error of 5 minutes."""

    def answer(asked: Asked) -> Answer:
        now = SystemClock.now() + ahead
        told = good if abs(signed_at(asked) - now) < 300 else bad
        date = {"Date": email.utils.formatdate(now, usegmt=True)}
        return Answer(told.status, told.headers | date, told.body)

    return answer


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("ahead", [600.0, -600.0, 80_000.0, -80_000.0])
async def test_s3_is_asked_again_by_its_own_time(
    stub: AwsStub, aws: AwsSession, clock: SetClock, ahead: float
) -> None:
    """Once, when it refuses; all later requests are signed by it at once, until the clocks agree."""
    probe = probe_of(aws, clock)
    good, bad = head("Zx81", "COMPLETED"), Answer(403)
    stub.answer_by(service(ahead, good=good, bad=bad))
    assert (await look(probe)).sight is Sight.COMPLETED
    assert len(stub.asked) == 2
    assert abs(signed_at(stub.asked[1]) - SystemClock.now() - ahead) < 60
    assert (await look(probe)).sight is Sight.COMPLETED
    assert len(stub.asked) == 3

    stub.answer_by(service(0.0, good=good, bad=bad))
    assert (await look(probe)).sight is Sight.COMPLETED
    assert (await look(probe)).sight is Sight.COMPLETED
    assert len(stub.asked) == 3


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("ahead", [90_000.0, -90_000.0, 3e7, -3e8])
async def test_a_clock_that_is_off_by_more_than_a_day(
    stub: AwsStub, aws: AwsSession, clock: SetClock, ahead: float
) -> None:
    """Is not corrected: a signature for another day is nobody's to ask for. S3 refuses, and the clock is what to mend."""
    probe = probe_of(aws, clock)
    stub.answer_by(service(ahead, good=head("Zx81", "COMPLETED"), bad=Answer(403)))
    assert (await look(probe)).sight is Sight.DENIED
    assert [asked.method for asked in stub.asked] == ["HEAD", "GET"]
    assert all(abs(signed_at(asked) - SystemClock.now()) < 60 for asked in stub.asked)


@pytest.mark.usefixtures("fast")
async def test_the_time_of_aws_over_plain_http(
    stub: AwsStub, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not believed: anybody on the way could have said so. A stand-in's is, as there is nobody else to ask."""
    port = urlsplit(stub.url).port

    async def told(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", told)
    stub.answer_by(service(600.0, good=head("Zx81", "COMPLETED"), bad=Answer(403)))
    for host, seen in (
        ("s3.eu-west-1.amazonaws.com", Sight.DENIED),
        ("store.example", Sight.COMPLETED),
    ):
        async with AwsSession(
            endpoint_url=f"http://{host}:{port}", default_region=REGION, max_connections=8
        ) as aws:
            assert (await look(probe_of(aws, clock))).sight is seen


@pytest.mark.usefixtures("fast")
async def test_sqs_is_asked_again_by_its_own_time(stub: AwsStub, aws: AwsSession) -> None:
    """As S3 is."""
    good = json_answer({"Successful": [{"Id": "0"}], "Failed": []})
    bad = json_error(403, "InvalidSignatureException")
    ided = {"x-amzn-RequestId": "r"}
    stub.answer_by(
        service(
            600.0,
            good=Answer(200, JSON | ided, good.body),
            bad=Answer(403, JSON | ided, bad.body),
        )
    )
    assert await SqsInbox(aws, URL).acknowledge(["a"]) == []
    assert len(stub.asked) == 2


@pytest.mark.usefixtures("fast")
async def test_a_refusal_that_is_none_of_the_clocks(
    stub: AwsStub, aws: AwsSession, clock: SetClock
) -> None:
    """Is repeated once where the clock was found to be wrong just now, and else not at all."""
    for ahead, times in ((0.0, 1), (600.0, 2), (600.0, 1), (0.0, 2), (50.0, 1)):
        stub.answer_by(service(ahead, good=Answer(403), bad=Answer(403)))
        assert (await look(probe_of(aws, clock))).sight is Sight.DENIED
        assert [asked.method for asked in stub.asked] == [*times * ["HEAD"], "GET"]


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Wed, 01 Jan 1800 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 99 Dec 2026 23:59:59 GMT",
        "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        "soon",
    ],
)
@pytest.mark.usefixtures("fast")
async def test_a_date_that_no_clock_has(
    stub: AwsStub, aws: AwsSession, clock: SetClock, date: str
) -> None:
    """Is not signed by: some of them nobody could even write into a signature."""
    assert read_date(date) is None
    good = head("Zx81", "PENDING")
    stub.answer(Answer(200, good.headers | {"Date": date}))
    probe = probe_of(aws, clock)
    for _ in range(2):
        assert (await look(probe)).sight is Sight.PENDING
    assert abs(signed_at(stub.asked[-1]) - SystemClock.now()) < 60


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("of", ["somebody on the way", "a cache"])
async def test_the_time_of_others(
    stub: AwsStub, aws: AwsSession, clock: SetClock, of: str
) -> None:
    """Is not believed: without the service's id of the request, or out of a cache."""
    date = email.utils.formatdate(SystemClock.now() + 600, usegmt=True)
    more = {"Age": "600"} if of == "a cache" else {}
    stub.answer(Answer(403, {"Date": date} | more, signed=of == "a cache"))
    probe = probe_of(aws, clock)
    await look(probe)
    assert abs(signed_at(stub.asked[-1]) - SystemClock.now()) < 60


# ---- at an endpoint itself, by clocks that are set ----


class Machine:
    """A machine's clocks, which are set and stand still; implements the ports' `Local` and `Dates`."""

    def __init__(self) -> None:
        self.at = SECOND
        self.on = 0.0
        self.heard_of: list[float] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.on

    def asked(self) -> float:
        return self.on

    def heard(self, date: float, *, asked_at: float) -> None:
        assert asked_at <= self.on
        self.heard_of.append(date)

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds
        self.on += seconds


SECOND = 1_800_000_000.0
"""The service's time, as its Date has it."""

ROLE_SECONDS = 3600.0
"""How long credentials are good."""


class Giver:
    """Gives credentials that can be told apart, in the SDK's form, by a machine's clock."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.given = 0
        self.away = False
        self.held = AioRefreshableCredentials(
            "a",
            "b",
            "0",
            expiry_time=self._time(ROLE_SECONDS),
            refresh_using=self._refresh,
            method="test",
            time_fetcher=lambda: self._time(0.0),
        )

    def _time(self, later: float) -> datetime:
        return datetime.fromtimestamp(self._machine.at + later, UTC)

    async def _refresh(self) -> dict[str, str]:
        if self.away:
            raise CredentialRetrievalError(provider="test", error_msg="away")
        self.given += 1
        ends = self._time(ROLE_SECONDS).isoformat()
        keys = {"access_key": "a", "secret_key": "b", "token": f"{self.given}"}
        return {**keys, "expiry_time": ends}


@pytest.fixture
def machine() -> Machine:
    """Make the machine's clocks."""
    return Machine()


@pytest.fixture
def giver(machine: Machine) -> Giver:
    """Make what gives credentials."""
    return Giver(machine)


@pytest.fixture
async def endpoint(
    stub: AwsStub, machine: Machine, giver: Giver
) -> AsyncIterator[ServiceEndpoint]:
    """Make the endpoint of the stub."""

    async def nobody() -> ssl.SSLContext:
        raise AssertionError("TLS")

    limits = Limits(
        connect_seconds=HANGS_SECONDS,
        silent_seconds=HANGS_SECONDS,
        whole_seconds=HANGS_SECONDS,
        most_bytes=1000,
        most_connections=8,
    )
    pool = ConnectionPool(limits, tls=nobody, rng=random.Random(1))
    yield ServiceEndpoint(
        Address(service="s3", region=REGION, origin=origin_of(stub.url)),
        pool=pool,
        credentials=credentials.CredentialsProvider(giver.held, monotonic=machine.monotonic),
        now=machine.now,
        dates=machine,
    )
    await pool.close()


async def ask(endpoint: ServiceEndpoint) -> int:
    """Ask for an object; return the status."""
    request = Request(method="HEAD", host=endpoint.address.host, path="/src/k")
    return (await endpoint.ask(request)).status


def at_second(asked: Asked) -> Answer:
    """Answer as a service does whose Date stays the same, which takes an error of 5 minutes."""
    date = {"Date": email.utils.formatdate(SECOND, usegmt=True)}
    return Answer(200 if abs(signed_at(asked) - SECOND) < 300 else 403, date)


@pytest.mark.parametrize("step", [600.0, -600.0])
async def test_a_clock_that_steps_within_a_second_and_back(
    stub: AwsStub, endpoint: ServiceEndpoint, machine: Machine, step: float
) -> None:
    """Costs those that are under way one more request each time: a refusal is news, though its date is not."""
    stub.answer_by(at_second)
    assert await ask(endpoint) == 200
    for stepped in (step, -step):
        machine.at += stepped
        stub.asked.clear()
        assert await asyncio.gather(*(ask(endpoint) for _ in range(3))) == [200, 200, 200]
        assert len(stub.asked) == 6
        for _ in range(5):
            assert await ask(endpoint) == 200
            machine.passes(0.05)
        assert len(stub.asked) == 11
        assert sum(abs(signed_at(asked) - SECOND) > 1 for asked in stub.asked) == 3
    assert set(machine.heard_of) == {SECOND}


async def test_a_clock_that_steps_by_less_than_the_service_minds(
    stub: AwsStub, endpoint: ServiceEndpoint, machine: Machine
) -> None:
    """Is corrected within the same second, too, by the first answer that is not just after the one before."""
    stub.answer_by(at_second)
    assert await ask(endpoint) == 200
    machine.at += 200.0
    assert await ask(endpoint) == 200
    assert machine.heard_of == [SECOND]
    machine.passes(2 * HEARD_SECONDS)
    for _ in range(3):
        assert await ask(endpoint) == 200
    assert [round(signed_at(asked) - SECOND) for asked in stub.asked] == [0, 200, 200, 0, 0]


async def test_a_clock_that_is_off_by_about_as_much_as_is_corrected(
    stub: AwsStub, endpoint: ServiceEndpoint, machine: Machine
) -> None:
    """Is not corrected back and forth: by dates of whole seconds, it is off by now more, now less than that."""
    ahead = SKEW_SECONDS + 0.3
    machine.at -= ahead
    offsets = []
    for _ in range(20):
        true = machine.at + ahead
        stub.answer(Answer(200, {"Date": email.utils.formatdate(int(true + 1e-6), usegmt=True)}))
        assert await ask(endpoint) == 200
        offsets.append(signed_at(stub.asked[-1]) - machine.at)
        machine.passes(0.2)
    assert offsets[0] <= 0
    assert min(offsets[1:]) > SKEW_SECONDS - 1
    assert len(machine.heard_of) == 20


def token(asked: Asked) -> str:
    """Return which credentials a request was signed with."""
    return asked.headers["x-amz-security-token"]


async def test_how_often_the_sdk_is_asked_for_credentials(
    stub: AwsStub, endpoint: ServiceEndpoint, machine: Machine
) -> None:
    """Every half a second: what it gave is used for so long, though it would always give newer ones."""
    for on in (0.0, 0.25, 0.49, 0.5, 0.75, 0.99, 1.0):
        machine.on = on
        assert await ask(endpoint) == 200
        machine.at += ROLE_SECONDS
    assert [token(asked) for asked in stub.asked] == ["0", "0", "0", "1", "1", "1", "2"]


async def test_credentials_that_the_sdk_does_not_give_any_more(
    stub: AwsStub, endpoint: ServiceEndpoint, machine: Machine, giver: Giver
) -> None:
    """Are not used beyond that half a second, and new ones as soon as it gives them."""
    assert await ask(endpoint) == 200
    machine.at += ROLE_SECONDS
    giver.away = True
    for on in (0.5, 0.6, 3.0):
        machine.on = on
        with pytest.raises(CredentialRetrievalError):
            await ask(endpoint)
    giver.away = False
    assert await ask(endpoint) == 200
    assert [token(asked) for asked in stub.asked] == ["0", "1"]


# ---- credentials that end before their time ----


class Role:
    """Gives credentials as a container's agent does, and lets in only who has those of some number or later."""

    def __init__(self, stub: AwsStub, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{stub.url}/role")
        self.given = 0
        self.good_from = 1
        stub.answer_by(self.answer)
        self._stub = stub

    def answer(self, asked: Asked) -> Answer:
        if asked.target == "/role":
            self.given += 1
            ends = datetime.fromtimestamp(SystemClock.now() + 7200, UTC).isoformat()
            keys = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": f"{self.given}"}
            return json_answer({**keys, "Expiration": ends})
        good = int(asked.headers["x-amz-security-token"]) >= self.good_from
        if asked.method == "POST":
            done = json_answer({"Successful": [{"Id": "0"}], "Failed": []})
            return done if good else json_error(403, "ExpiredTokenException")
        if asked.method == "HEAD":
            return head("Zx81", "COMPLETED") if good else Answer(400)
        return (
            Answer(206, body=b"<Code>AccessDenied</Code>"[:1])
            if good
            else s3_error(400, "ExpiredToken")
        )

    @property
    def methods(self) -> list[str]:
        """How S3 and SQS were asked."""
        return [asked.method for asked in self._stub.asked if asked.target != "/role"]


@pytest.fixture
def role(stub: AwsStub, monkeypatch: pytest.MonkeyPatch) -> Role:
    """Have the daemon's credentials given by a role."""
    return Role(stub, monkeypatch)


@pytest.mark.usefixtures("both_clients")
async def test_expired_credentials_are_renewed(
    role: Role, aws: AwsSession, clock: SetClock
) -> None:
    """Once S3 has said so, and the look is made again: by no look does an object become a refused one."""
    probe = probe_of(aws, clock)
    assert (await look(probe)).sight is Sight.COMPLETED
    assert role.given == 1

    role.good_from = 2
    assert (await look(probe)).sight is Sight.COMPLETED
    assert role.given == 2
    assert role.methods == ["HEAD", "HEAD", "GET", "HEAD"]


@pytest.mark.usefixtures("both_clients")
async def test_credentials_that_expire_for_many_at_once_are_renewed_once(
    role: Role, aws: AwsSession, clock: SetClock
) -> None:
    """For all of them, whichever service or bucket they called: none of the looks shows a refused object."""
    probe = probe_of(aws, clock)
    assert (await look(probe)).sight is Sight.COMPLETED

    role.good_from = 2
    seen = await asyncio.gather(*(look(probe, bucket) for bucket in 3 * ("src", "src-2")))
    assert {one.sight for one in seen} == {Sight.COMPLETED}
    assert role.given == 2


async def test_credentials_that_expire_for_a_queue_are_renewed_for_all_calls(
    role: Role, stub: AwsStub
) -> None:
    """That were under way, and not by each of them."""
    async with AwsSession(
        endpoint_url=stub.url, default_region=REGION, max_connections=8, choice="fast"
    ) as aws:
        inbox = SqsInbox(aws, URL)
        role.good_from = 2
        done = await asyncio.gather(*(inbox.acknowledge(["a"]) for _ in range(5)))
        assert done == 5 * [[]]
        assert role.given == 2


@pytest.mark.usefixtures("both_clients")
async def test_credentials_are_not_renewed_all_the_time(
    role: Role, aws: AwsSession, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But once a minute, and one bucket is asked why as often; it counts as trouble, not as a refusal."""
    role.good_from = 99
    probe = probe_of(aws, clock)
    seen = [await look(probe, bucket) for bucket in ("src", "src-2", "src-3", "src-4")]
    assert role.given == 2
    assert {one.sight for one in seen} == {Sight.UNREACHABLE}
    assert all("ExpiredToken" in one.detail for one in seen)
    for _ in range(5):
        assert await look(probe) == seen[0]
    assert role.given == 2
    assert role.methods.count("GET") == 4

    clock.at += WHY_SECONDS
    monkeypatch.setattr(credentials, "RENEWAL_SECONDS", 0.0)
    role.good_from = 3
    assert (await look(probe)).sight is Sight.COMPLETED
    assert role.given == 3


async def test_expired_credentials_of_a_queue(
    role: Role, stub: AwsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are renewed by the fast client as well, once; then it is an error."""
    async with AwsSession(
        endpoint_url=stub.url, default_region=REGION, max_connections=8, choice="fast"
    ) as aws:
        inbox = SqsInbox(aws, URL)
        role.good_from = 2
        assert await inbox.acknowledge(["a"]) == []
        assert (role.given, role.methods) == (2, ["POST", "POST"])

        role.good_from = 99
        with pytest.raises(InboxError, match="credentials"):
            await inbox.acknowledge(["a"])
        assert role.given == 2
        monkeypatch.setattr(credentials, "RENEWAL_SECONDS", 0.0)
        with pytest.raises(InboxError, match="credentials"):
            await inbox.acknowledge(["a"])
        assert role.given == 3


@pytest.mark.usefixtures("both_clients")
@pytest.mark.parametrize("status", [206, 200])
async def test_a_get_that_is_answered(
    stub: AwsStub, aws: AwsSession, clock: SetClock, status: int
) -> None:
    """Gives no code, whatever the object holds and however much of it comes."""
    body = b"<Error><Code>ExpiredToken</Code></Error>"
    for content in (body, body + 200_000 * b"x"):
        stub.answer(Answer(403), Answer(status, body=content))
        seen = await look(probe_of(aws, clock))
        assert (seen.sight, seen.detail) == (Sight.DENIED, "HTTP 403")


def test_nothing_shows_secrets() -> None:
    """What has credentials shows itself by its type alone."""
    for kind in (credentials.CredentialsProvider, ServiceEndpoint, FastHeads, JsonCalls):
        assert kind.__repr__ is object.__repr__
