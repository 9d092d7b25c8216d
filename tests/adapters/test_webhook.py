"""The port that stores post their events to, over real sockets; the test is whoever receives them."""

import asyncio
import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crrmon.adapters import webhook
from crrmon.adapters.door import PortTakenError
from crrmon.adapters.webhook import UnusableWebhookError, WebhookInbox, WebhookPort
from crrmon.domain import catalogue
from crrmon.ports.inbox import Message
from fakes.dawdler import closed, dawdle
from fakes.meters import FakeMeters
from fakes.patience import HANGS_SECONDS, until
from fakes.redis_server import certificate as tls_certificate

HOST = "127.0.0.1"
TOKEN = "s3cr3t-and-long-enough"  # noqa: S105 - of these tests
BEARER = f"Bearer {TOKEN}"


class Hook:
    """A webhook on a free port, a client for it, and what it told others."""

    def __init__(self, session: aiohttp.ClientSession, **settings: Any) -> None:
        self.meters = FakeMeters()
        self.odd: list[tuple[str, str]] = []
        self.port = 0
        self._session = session
        port = WebhookPort(
            **{"name": "hook", "setting": "inboxes[0]", "host": HOST, "port": 0, "token": TOKEN}
            | settings
        )
        self.inbox = WebhookInbox(
            port,
            meters=self.meters,
            oddity=lambda reason, whom: self.odd.append((reason, whom)),
        )

    async def post(
        self, body: bytes | str = b"{}", *, path: str = "/", authorization: str | None = BEARER
    ) -> tuple[int, str | None]:
        """Send; return the status, and when to come again."""
        headers = {} if authorization is None else {"Authorization": authorization}
        url = f"http://{HOST}:{self.port}{path}"
        async with self._session.post(url, data=body, headers=headers) as answer:
            return answer.status, answer.headers.get("Retry-After")

    async def received(self) -> Sequence[Message]:
        """Take what comes."""
        return await self.inbox.receive(wait_seconds=20, visibility_seconds=120)

    def answered(self, status: int) -> float:
        """Count the requests that got a status."""
        return self.meters.count(catalogue.WEBHOOK_REQUESTS, "hook", str(status))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Make a client."""
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def hook(session: aiohttp.ClientSession) -> AsyncIterator[Hook]:
    """Listen."""
    made = Hook(session)
    made.port = await made.inbox.start()
    yield made
    await made.inbox.close()


@contextlib.asynccontextmanager
async def serving(hook: Hook) -> AsyncIterator[list[Message]]:
    """Receive and acknowledge, whatever comes; yields what came."""
    came: list[Message] = []

    async def serve() -> None:
        while True:
            messages = await hook.received()
            came.extend(messages)
            await hook.inbox.acknowledge([one.receipt for one in messages])

    task = asyncio.create_task(serve())
    try:
        yield came
    finally:
        task.cancel()


# ---- answers ----


async def test_m8_the_answer_is_200_when_acknowledged_and_not_before(hook: Hook) -> None:
    """M8: a sender is told that its event was taken when somebody says that it is durable."""
    posting = asyncio.create_task(hook.post(b'{"Records": []}', path="/any/path?x=1"))
    (message,) = await hook.received()
    assert message.body == '{"Records": []}'
    assert message.sent_at is None, "nobody knows how long its sender kept it"
    assert not posting.done()

    assert await hook.inbox.extend([message.receipt], seconds=120) == ()
    await asyncio.sleep(0.05)
    assert not posting.done()

    assert await hook.inbox.acknowledge([message.receipt]) == ()
    assert await posting == (200, None)
    assert hook.answered(200) == 1


async def test_m8_what_is_given_back_is_sent_again(hook: Hook) -> None:
    """M8: 503 makes a sender keep what it has; sent again, it is the same message."""
    posting = asyncio.create_task(hook.post(b"one"))
    (first,) = await hook.received()
    await hook.inbox.extend([first.receipt], seconds=0)
    assert await posting == (503, "5")

    posting = asyncio.create_task(hook.post(b"one"))
    (again,) = await hook.received()
    assert again.id == first.id
    assert again.receipt != first.receipt
    await hook.inbox.acknowledge([again.receipt])
    assert (await posting)[0] == 200


async def test_m8_nobody_waits_longer_than_a_while(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M8: 503 when nobody receives, as while the ledger is away, or when what was received does not become durable."""
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.2)
    assert await hook.post() == (503, "5")

    posting = asyncio.create_task(hook.post(b"slow"))
    (message,) = await hook.received()
    assert message.body == "slow", "what was given up is not received any more"
    assert (await posting)[0] == 503
    assert await hook.inbox.acknowledge([message.receipt]) == (), "too late is no fault"
    assert hook.answered(503) == 2


@pytest.mark.parametrize("given", [f"Basic {'Y3JybW9uOnMzY3IzdC1hbmQtbG9uZy1lbm91Z2g='}", TOKEN])
async def test_m8_other_ways_to_show_the_token(hook: Hook, given: str) -> None:
    """M8: what becomes of http://crrmon:TOKEN@host, which is Ceph's way, and the bare token."""
    async with serving(hook):
        assert (await hook.post(authorization=given))[0] == 200


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", "\x80"])
async def test_m8_whoever_has_no_token_is_not_heard(hook: Hook, given: str | None) -> None:
    """M8: 401, nothing is received of it, and the log can tell who it was; never what was shown."""
    assert (await hook.post(b"forged", authorization=given))[0] == 401
    assert hook.answered(401) == 1
    assert hook.odd == [("a webhook's sender without the token", HOST)]

    posting = asyncio.create_task(hook.post(b"real"))
    (message,) = await hook.received()
    assert message.body == "real"
    await hook.inbox.acknowledge([message.receipt])
    await posting


async def test_m8_only_posts(hook: Hook, session: aiohttp.ClientSession) -> None:
    """M8: there is nothing to be read here, and nothing else to be done."""
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        async with session.request(method, f"http://{HOST}:{hook.port}/") as answer:
            assert answer.status == 405


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", gzip.compress(b"x" * 100, mtime=0)])
async def test_m8_any_bytes_are_a_message(hook: Hook, body: bytes) -> None:
    """M8: what they are worth is for whoever receives them to say: all of it is passed on."""
    async with serving(hook) as came:
        assert (await hook.post(body))[0] == 200
    (message,) = came
    assert message.body.encode(errors="surrogateescape") == body


async def test_m8_what_is_compressed_is_not_accepted(
    hook: Hook, session: aiohttp.ClientSession
) -> None:
    """M8: it would be read as nothing; refused, the sender keeps it."""
    headers = {"Authorization": BEARER, "Content-Encoding": "gzip"}
    url = f"http://{HOST}:{hook.port}/"
    async with session.post(url, data=gzip.compress(b"{}"), headers=headers) as answer:
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")


async def test_m8_nobody_can_count_what_senders_keep(hook: Hook) -> None:
    """M8: neither depth nor dead letters are known, and none are made up."""
    assert hook.inbox.pushed
    assert await hook.inbox.depth() is None  # type: ignore[func-returns-value] - that is the point


# ---- the token's file ----


async def test_m8_the_token_of_a_file_may_change(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """M8: another token in the file is the one that counts from then on; none that can be read lets nobody in."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    hook = Hook(session, token=None, token_file=path)
    hook.port = await hook.inbox.start()
    async with serving(hook):
        assert (await hook.post())[0] == 200
        path.write_text("another-s3cr3t-token")
        assert (await hook.post())[0] == 401
        assert (await hook.post(authorization="Bearer another-s3cr3t-token"))[0] == 200
        for nothing in ("", "short", None):
            if nothing is None:
                path.unlink()
            else:
                path.write_text(nothing)
            assert await hook.post(authorization="Bearer ") == (503, "5")
    await hook.inbox.close()
    assert "inboxes[0].token_file" in hook.odd[-1][0]
    assert "No such file" in hook.odd[-1][0]


@pytest.mark.parametrize("content", [None, b"", b"short", b"\xff" * 20, b"two words of a token"])
async def test_m8_a_file_without_a_token_is_told_at_the_start(
    session: aiohttp.ClientSession, tmp_path: Path, content: bytes | None
) -> None:
    """M8: the error names setting and file, and repeats nothing of what is in it."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    hook = Hook(session, token=None, token_file=path)

    with pytest.raises(UnusableWebhookError, match=r"inboxes\[0\]\.token_file") as caught:
        await hook.inbox.start()
    assert str(path) in str(caught.value)
    assert "short" not in str(caught.value)


async def test_m8_a_taken_port_is_named_with_the_settings(hook: Hook) -> None:
    """M8: whoever cannot listen learns which settings to change."""
    other = Hook(hook._session, port=hook.port)

    with pytest.raises(PortTakenError, match=r"inboxes\[0\]\.port"):
        await other.inbox.start()


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key; beside them locked.key, the same key with a password."""
    made, key = tls_certificate(tmp_path_factory.mktemp("tls"))
    locked = key.with_name("locked.key")
    command = ["openssl", "rsa", "-in", key, "-aes128", "-passout", "pass:geheim", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
    return made, key


async def test_m8_https(session: aiohttp.ClientSession, certificate: tuple[Path, Path]) -> None:
    """M8: with a certificate and its key the port speaks TLS, and nothing else."""
    hook = Hook(session, certificate_file=certificate[0], key_file=certificate[1])
    hook.port = await hook.inbox.start()
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with serving(hook):
        async with session.post(
            f"https://{HOST}:{hook.port}/", headers={"Authorization": BEARER}, ssl=trusting
        ) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await hook.post()
    await hook.inbox.close()


async def test_m8_a_key_with_a_password_is_refused_without_asking_for_it(
    session: aiohttp.ClientSession, certificate: tuple[Path, Path]
) -> None:
    """M8: nobody sits at the terminal of a daemon."""
    locked = certificate[1].with_name("locked.key")
    hook = Hook(session, certificate_file=certificate[0], key_file=locked)

    with pytest.raises(UnusableWebhookError, match="without a password"):
        await hook.inbox.start()


@pytest.mark.parametrize("swapped", [True, False])
async def test_m8_a_certificate_that_is_none(
    session: aiohttp.ClientSession,
    certificate: tuple[Path, Path],
    swapped: bool,  # noqa: FBT001
) -> None:
    """M8: files that are missing or are not what they should be are named, with what they should be."""
    crt, key = certificate
    files = (key, crt) if swapped else (crt, crt.with_name("absent"))
    hook = Hook(session, certificate_file=files[0], key_file=files[1])

    with pytest.raises(UnusableWebhookError, match=r"inboxes\[0\]\.certificate_file.*PEM"):
        await hook.inbox.start()


# ---- limits ----


async def test_m8_a_body_beyond_the_limit(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """M8: 413, however its length is told; the largest that is allowed is taken."""
    async with serving(hook) as came:
        assert (await hook.post(b"x" * webhook.MOST_BYTES))[0] == 200

        async def drops() -> AsyncIterator[bytes]:
            for _ in range(webhook.MOST_BYTES // 65_536 + 1):
                yield b"x" * 65_536

        for body in (b"x" * (webhook.MOST_BYTES + 1), drops()):
            assert (await hook.post(body))[0] == 413  # type: ignore[arg-type] - a stream as well
    assert len(came) == 1
    assert hook.answered(413) == 2
    assert {whom for _, whom in hook.odd} == {HOST}


async def test_m8_so_many_at_once(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """M8: beyond the limit senders are sent away at once, and are let in again when others left."""
    monkeypatch.setattr(webhook, "MOST_REQUESTS", 3)
    waiting = [asyncio.create_task(hook.post(f"{number}")) for number in range(3)]
    await until(lambda: len(hook.inbox._waiting) == 3)
    assert await hook.post(b"one too many") == (503, "5")

    async with serving(hook) as came:
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}
        assert (await hook.post(b"now"))[0] == 200
    assert sorted(one.body for one in came) == ["0", "1", "2", "now"]


async def test_m8_many_senders(session: aiohttp.ClientSession) -> None:
    """M8: all of many at once are answered, each for what it sent."""
    hook = Hook(session)
    hook.port = await hook.inbox.start()
    async with serving(hook) as came:
        answers = await asyncio.gather(*(hook.post(f"{number}") for number in range(200)))
    await hook.inbox.close()
    assert {status for status, _ in answers} == {200}
    assert sorted(int(one.body) for one in came) == list(range(200))
    assert len({one.receipt for one in came}) == 200


HEAD = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER}\r\nContent-Length: 100\r\n\r\n".encode()


@pytest.mark.parametrize("said", [b"", b"POST / HTTP/1.1\r\nHos", HEAD])
async def test_m8_who_dawdles_is_shown_out(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """M8: a head or a body that trickles in has a deadline, after which neither place nor memory is taken."""
    monkeypatch.setattr(webhook, "REQUEST_SECONDS", 1.0)
    hook = Hook(session)
    hook.port = await hook.inbox.start()
    await dawdle(hook.port, said)
    await until(lambda: not hook.inbox._under_way)
    assert hook.odd == [("no request in time, or its response was not read in time", HOST)]
    async with serving(hook) as came:
        assert (await hook.post(b"well"))[0] == 200
    assert [one.body for one in came] == ["well"]
    await hook.inbox.close()


async def test_m8_whoever_waits_for_an_answer_is_not_idle(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M8: strangers that take all connections drive each other out, and nobody who has sent an event."""
    monkeypatch.setattr(webhook, "MOST_CONNECTIONS", 5)
    hook = Hook(session)
    hook.port = await hook.inbox.start()
    posting = asyncio.create_task(hook.post(b"waits"))
    (message,) = await hook.received()
    strangers = [await asyncio.open_connection(HOST, hook.port) for _ in range(20)]
    await asyncio.gather(*(closed(reader) for reader, _ in strangers[:15]))

    await hook.inbox.acknowledge([message.receipt])
    assert (await posting)[0] == 200
    for _, writer in strangers:
        writer.close()
    await hook.inbox.close()


async def test_m8_who_leaves_in_the_middle_leaves_nothing(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    """M8: a sender that is gone before its body was whole, or before its answer, is no error and takes no place."""
    caplog.set_level(logging.WARNING)
    for said in (HEAD + b"half", HEAD + b"x" * 100):
        _, writer = await asyncio.open_connection(HOST, hook.port)
        writer.write(said)
        await writer.drain()
        await until(lambda: hook.inbox._under_way)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.abort()
        if said.endswith(b"xx"):
            (message,) = await hook.received()
            await hook.inbox.acknowledge([message.receipt])
        await until(lambda: not hook.inbox._under_way)
    assert not hook.inbox._waiting
    assert not hook.inbox._taken
    assert caplog.records == []


async def test_m8_a_body_that_is_garbled_on_the_way(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    """M8: chunks that are none get 400, nothing of them is received, and nothing is logged for a stranger's sake."""
    reader, writer = await asyncio.open_connection(HOST, hook.port)
    chunked = HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked")
    writer.write(chunked + b"3\r\nabc\r\nzzz\r\n")
    await closed(reader)
    writer.close()
    assert not hook.inbox._waiting
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


# ---- the end ----


async def test_m8_at_the_end_what_is_taken_is_answered_and_the_rest_sent_back(hook: Hook) -> None:
    """M8: nobody is let in any more, what nobody received is kept by its sender, and what was becomes durable or not."""
    taken = asyncio.create_task(hook.post(b"taken"))
    (message,) = await hook.received()
    left = asyncio.create_task(hook.post(b"left"))
    await until(lambda: hook.inbox._waiting)

    hook.inbox.refuse()
    assert await left == (503, "5")
    with (
        pytest.raises(ConnectionError),
        socket.create_connection((HOST, hook.port), timeout=HANGS_SECONDS),
    ):
        pass
    assert not taken.done()
    await hook.inbox.acknowledge([message.receipt])
    assert (await taken)[0] == 200


async def test_m8_it_closes_although_some_still_wait(hook: Hook) -> None:
    """M8: whoever is not answered by the end of the grace is told to come again."""
    posting = asyncio.create_task(hook.post(b"one"))
    await hook.received()
    async with asyncio.timeout(HANGS_SECONDS):
        await hook.inbox.close()
    assert await posting == (503, "5")


async def test_m8_a_receiver_that_is_cancelled_takes_nothing_with_it(hook: Hook) -> None:
    """M8: what comes for a receiver that is told to stop just then is there for the next one."""
    receiving = asyncio.create_task(hook.received())
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    async with serving(hook) as came:
        assert (await hook.post(b"one"))[0] == 200
    assert len(came) == 1
