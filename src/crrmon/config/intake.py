"""Where events come from, and which objects are followed."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from crrmon.config.addresses import no_brackets, queue_url
from crrmon.config.section import NUMBER, Region, Section, held, in_quotes
from crrmon.domain.authorization import TOKEN
from crrmon.domain.choice import Choice, pattern
from crrmon.domain.queue_address import is_of_aws, queue_address


class Queue(Section):
    """One SQS queue to read."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#]+/[^\s?#]+$"), AfterValidator(queue_url)]
    """URL of the queue. crrmon must be its only reader: it also deletes messages that are not for crrmon."""
    region: Region | None = None
    """Region of the queue. Default: the region in the host name of its URL, if any, else `aws.region`."""

    @model_validator(mode="after")
    def _one_region(self) -> "Queue":
        told = queue_address(self.url).region
        if self.region and told and self.region != told:
            raise ValueError(
                f"region is {self.region}, but url names {told}: remove region, or correct one of them"
            )
        if not (self.region or told) and is_of_aws(self.url):
            # Signed for the default region, it would be refused for ever.
            raise ValueError(
                f"url has an AWS host, {urlsplit(self.url).hostname}, that names no region: correct it, or set region"
            )
        return self


def each_once(queues: tuple[Queue, ...]) -> tuple[Queue, ...]:
    """Refuse a queue that is listed twice, however its URL is spelt."""
    known: dict[tuple[str, ...], str] = {}
    for queue in queues:
        identity = queue_address(queue.url).identity
        before = known.get(identity)
        known[identity] = queue.url
        if before is not None:
            same = "" if before == queue.url else f", also as {before}"
            raise ValueError(
                f"{queue.url} is listed more than once{same}: list each queue once; for more readers, raise "
                "intake.receivers"
            )
    return queues


def _token(token: SecretStr) -> SecretStr:
    if not TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("a token has at least 16 printable ASCII characters and no blanks")
    return token


class Webhook(Section):
    """One port that S3-compatible stores post their events to. See docs/stores.md for the setup."""

    kind: Literal["webhook"]
    """Kind of inbox; webhooks are the only kind so far."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")] = "webhook"
    """Name in logs and in the metric label `queue`; must be unique."""
    host: Annotated[str, Field(min_length=1), AfterValidator(no_brackets)] = "127.0.0.1"
    """Address to listen on, as with `http.host`."""
    port: Annotated[int, Field(ge=0, le=65535), NUMBER] = 9465
    """Port to listen on; any path is accepted. 0 takes a free port."""
    token: Annotated[SecretStr, AfterValidator(_token), BeforeValidator(in_quotes)] | None = None
    """
    Token that senders must present: at least 16 characters. Prefer a file, or the environment, which sets the whole list:
    CRRMON_INBOXES='[{"kind": "webhook", "token": "..."}]'.
    """
    token_file: Path | None = None
    """File that holds the token, such as a mounted secret; read again for every request."""
    certificate_file: Path | None = None
    """Certificates for HTTPS, PEM; read at startup. Without HTTPS, anyone on the network path can see the token."""
    key_file: Path | None = None
    """Private key of `certificate_file`, PEM, without a password."""

    @model_validator(mode="after")
    def _consistent(self) -> "Webhook":
        rules = (
            (
                self.token is None or self.token_file is None,
                "token and token_file are both set: keep one of them",
            ),
            (
                self.token is not None or self.token_file is not None,
                "anyone who reaches the port could forge events: set token_file or token",
            ),
            (
                (self.certificate_file is None) == (self.key_file is None),
                "certificate_file and key_file belong together: set both or neither",
            ),
        )
        return held(self, rules)


_Seconds = Annotated[float, Field(ge=0, le=1_209_600), NUMBER]


class Intake(Section):
    """How messages are received."""

    receivers: Annotated[int, Field(ge=1, le=64), NUMBER] = 4
    """Concurrent receivers per queue; each receives up to ten messages at a time."""
    max_in_flight: Annotated[int, Field(ge=10, le=100_000), NUMBER] = 10_000
    """
    Maximum number of facts held at once per queue; each takes about 2 KiB of memory. A message counts as the number of
    facts in it, usually one; a message with more facts than this is held alone. SQS itself allows 120,000 messages.
    """
    hold_seconds: Annotated[float, Field(ge=0, le=600), NUMBER] = 60.0
    """Maximum time to hold a message until the first look at its object is due. Most objects replicate within this time
    and then cost one HEAD and no pending record; objects whose first look is due later go to the ledger at once.
    """
    min_event_delay_seconds: dict[
        Literal["cloudtrail", "eventbridge", "notification"], _Seconds
    ] = {}  # noqa: RUF012 - pydantic copies it
    """
    Minimum delay of events to assume, by channel: {cloudtrail: 900}. "Complete up to" stays behind now by this delay or
    the longest observed one, whichever is larger; with neither it is not shown.
    """


def _a_pattern(text: str) -> str:
    pattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_a_pattern)]


class Filter(Section):
    """Which objects are followed: source patterns BUCKET or BUCKET/PREFIX, where * and ? in the bucket's name are
    wildcards. Everything else is counted in crrmon_events_total as excluded.
    """

    include: tuple[Pattern, ...] = ()
    """What to follow; everything if empty."""
    exclude: tuple[Pattern, ...] = ()
    """What not to follow, even if included."""

    @property
    def choice(self) -> Choice:
        """The choice that both lists make."""
        return Choice(
            [pattern(one) for one in self.include], [pattern(one) for one in self.exclude]
        )
