"""An HTTP intake: stores that tell of their events by POST, as MinIO and Ceph do, and send again what is not accepted.

The queue is the sender's own. A request is a message, and its answer what deleting the message is elsewhere: 200 says
that all of it is in the ledger, or concerns nobody. Whatever cannot be said of in time is answered with 503, and the
sender keeps it. Senders wait for each answer before they send what comes next, so no message is held or looked at
before its answer, however soon that would be due, and what intake writes is not gathered; the poller looks. A body that
cannot be read is accepted, counted and logged: there is no dead-letter queue, and it would be all that its sender ever
sends again.

What is waited for is bounded: requests at once, bytes of each, and the time until an answer.
"""

import asyncio
import hashlib
import itertools
import ssl
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from crrmon.adapters.door import Connection, Door, Oddity, RequestLimits
from crrmon.domain import catalogue
from crrmon.domain.authorization import TOKEN, authorized
from crrmon.ports.inbox import Message
from crrmon.ports.meters import Meters

BATCH = 10
"""Most messages of one receive."""

MOST_BYTES = 262_144
"""Of one body. Events of stores have one or two thousand, and eight more where users write much metadata."""
MOST_REQUESTS = 256
"""At once, from the first byte of the body to the answer: all of them together take no more than 64 MiB."""
MOST_CONNECTIONS = 512

REQUEST_SECONDS = 10.0
"""From a connection, or a request's first byte, to its last."""
ANSWER_SECONDS = 20.0
"""From then to our answer. MinIO waits for a minute, load balancers in between mostly as long."""
READ_SECONDS = 10.0
"""How long a sender may take to read the answer."""
IDLE_SECONDS = 75.0
"""Between two requests of one connection."""
STOP_SECONDS = 0.5
"""How long, at the end, somebody who is being answered may take to read it."""

RETRY_AFTER_SECONDS = 5
"""What senders are told that read it; MinIO comes every 3 s, whatever one tells it."""

log = structlog.get_logger()


class UnusableWebhookError(Exception):
    """What a webhook needs to listen cannot be used; the text names the setting."""


class _TokenError(Exception):
    """Nobody can be let in, for the token is not known."""


class _Delivery:
    """One request that waits for its answer."""

    __slots__ = ("durable", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def answer(self, *, durable: bool) -> None:
        """Answer the request."""
        if not self.durable.done():
            self.durable.set_result(durable)


class WebhookPort(msgspec.Struct, frozen=True, kw_only=True):
    """Where senders post to, and what they must show."""

    name: str
    """For logs and labels."""
    setting: str
    """Section of the settings that it is made of, for errors."""
    host: str
    """Address to listen on."""
    port: int
    """0 takes a free one."""
    token: str | None = None
    token_file: Path | None = None
    """Holds the token instead; read again for every request, so that it may change."""
    certificate_file: Path | None = None
    """Certificates for TLS, in PEM; None for none."""
    key_file: Path | None = None
    """The private key of the first of them."""


class WebhookInbox:
    """One port that events are posted to, on any path.

    Args:
        port: where.
        meters: told how requests were answered.
        oddity: told who was not let in, and why.
    """

    pushed = True

    def __init__(self, port: WebhookPort, *, meters: Meters, oddity: Oddity) -> None:
        self.name = port.name
        self._port = port
        self._meters = meters
        self._oddity = oddity
        self._waiting: deque[_Delivery] = deque()
        """Not received yet, the oldest first."""
        self._taken: dict[str, _Delivery] = {}
        """Received, by receipt."""
        self._came = asyncio.Event()
        self._numbers = itertools.count(1)
        self._under_way = 0
        self._stopping = False
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        limits = RequestLimits(
            request_seconds=REQUEST_SECONDS,
            answer_seconds=READ_SECONDS,
            idle_seconds=IDLE_SECONDS,
            connections=MOST_CONNECTIONS,
        )
        self._door = Door(limits, oddity)
        self._listening: asyncio.Server | None = None

    # ---- the port that messages come by ----

    async def start(self) -> int:
        """Listen.

        Returns:
            The port.

        Raises:
            UnusableWebhookError: its token or its certificate cannot be used.
            PortTakenError: the address is in use or not ours.
        """
        try:
            self._expected()
        except _TokenError as error:
            raise UnusableWebhookError(str(error)) from None
        tls, at = self._tls(), self._port
        self._listening = await self._door.listen(
            self._runner, host=at.host, port=at.port, setting=at.setting, tls=tls
        )
        port = int(self._listening.sockets[0].getsockname()[1])
        log.info(
            "webhook_listening", queue=self.name, host=self._port.host, port=port, tls=bool(tls)
        )
        return port

    def refuse(self) -> None:
        """Accept no more requests, and refuse those not yet received: those received are still answered."""
        self._stopping = True
        if self._listening is not None:
            self._listening.close()
        while self._waiting:
            self._waiting.popleft().answer(durable=False)

    async def close(self) -> None:
        """Send back whoever still waits, and close all connections."""
        self.refuse()
        for delivery in self._taken.values():
            delivery.answer(durable=False)
        await self._runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        if self._port.certificate_file is None or self._port.key_file is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # An empty password: for a key that has one, OpenSSL would ask on the terminal.
            context.load_cert_chain(self._port.certificate_file, self._port.key_file, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
            raise UnusableWebhookError(
                f"{self._port.setting}.certificate_file and key_file: {self._port.certificate_file} and {self._port.key_file} cannot "
                f"be used for TLS: {reason}; both must be PEM, the key without a password"
            ) from None
        return context

    # ---- the inbox ----

    async def receive(self, *, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        """
        Wait for requests and take up to ten. However long they may be hidden, they wait no longer than a sender does.
        """
        del visibility_seconds
        try:
            async with asyncio.timeout(wait_seconds):
                while not self._waiting:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return ()
        taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._taken.update((one.message.receipt, one) for one in taken)
        return [one.message for one in taken]

    async def depth(self) -> None:
        """Return nothing: what senders still hold cannot be counted here."""

    async def acknowledge(self, receipts: Sequence[str]) -> Sequence[str]:
        """
        Answer requests with 200. Those that were answered before in vain come again, and are found in the ledger then.
        """
        return self._answer(receipts, durable=True)

    async def extend(self, receipts: Sequence[str], *, seconds: int) -> Sequence[str]:
        """Leave requests as they are, or send them back for 0: their senders keep and repeat them."""
        return () if seconds else self._answer(receipts, durable=False)

    def _answer(self, receipts: Sequence[str], *, durable: bool) -> Sequence[str]:
        for receipt in receipts:
            if (delivery := self._taken.get(receipt)) is not None:
                delivery.answer(durable=durable)
        return ()

    # ---- one request ----

    async def _serve(self, request: web.Request) -> web.Response:
        answer = await self._answered(request)
        self._meters.add(catalogue.WEBHOOK_REQUESTS, self.name, str(answer.status))
        if self._stopping:
            answer.force_close()
        return answer

    async def _answered(self, request: web.Request) -> web.Response:
        if self._stopping:
            return _later("stopping")
        try:
            known = authorized(request.headers.get("Authorization", ""), self._expected())
        except _TokenError as error:
            self._oddity(str(error), "")
            return _later("the token cannot be read")
        if not known:
            self._oddity("a webhook's sender without the token", _connection(request).whom())
            return _refused(401, "present the token", {"WWW-Authenticate": "Bearer"})
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # Nothing is decompressed that strangers send, and read as it is it would be malformed, and lost.
            self._oddity("a webhook's compressed body", _connection(request).whom())
            return _refused(415, "do not compress the body", {"Accept-Encoding": "identity"})
        if self._under_way >= MOST_REQUESTS:
            return _later("too many requests at once")
        self._under_way += 1
        try:
            return await self._taken_in(request)
        finally:
            self._under_way -= 1

    async def _taken_in(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._oddity(
                f"a webhook's body of more than {MOST_BYTES} bytes", _connection(request).whom()
            )
            return _refused(413, f"more than {MOST_BYTES} bytes")
        except (ConnectionError, web.RequestPayloadError):
            return _refused(
                400, "the body arrived incomplete"
            )  # most often nobody is there to read it
        if self._stopping:
            return _later("stopping")
        _connection(request).attend(ANSWER_SECONDS + READ_SECONDS)
        delivery = _Delivery(self._message(body))
        self._waiting.append(delivery)
        self._came.set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                durable = await delivery.durable
        except TimeoutError:
            return _later("not in the ledger yet")
        finally:
            self._forget(delivery)
        return web.Response() if durable else _later("not now")

    def _message(self, body: bytes) -> Message:
        return Message(
            # The same for each time that it is sent.
            id=hashlib.blake2b(body, digest_size=16).hexdigest(),
            receipt=str(next(self._numbers)),
            # What is not UTF-8 stays so: it is malformed, which is for others to say.
            body=body.decode(errors="surrogateescape"),
            sent_at=None,
        )

    def _forget(self, delivery: _Delivery) -> None:
        if self._taken.pop(delivery.message.receipt, None) is None and delivery in self._waiting:
            self._waiting.remove(delivery)

    def _expected(self) -> str:
        """Return the token that senders must show.

        Raises:
            _TokenError: its file cannot be read, or holds none.
        """
        if self._port.token_file is None:
            assert self._port.token is not None  # noqa: S101 - one of the two is set
            return self._port.token
        where = f"{self._port.setting}.token_file: {self._port.token_file}"
        try:
            token = self._port.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise _TokenError(f"{where} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _TokenError(f"{where} cannot be read: it is not UTF-8") from None
        if not TOKEN.fullmatch(token):
            raise _TokenError(
                f"{where} does not contain a token: at least 16 printable ASCII characters, no blanks"
            )
        return token


def _connection(request: web.Request) -> Connection:
    assert isinstance(request.protocol, Connection)  # noqa: S101 - for the type checker
    return request.protocol


def _later(why: str) -> web.Response:
    return _refused(503, why, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _refused(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers=headers)
