"""Every setting, with its default and why.

They come from one YAML file, overridden by the environment: `CRRMON_SECTION__KEY`, lists and maps as JSON.
An unknown key is an error, never ignored: a misspelt setting that is silently off is worse than no start.
"""

import difflib
import itertools
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import override

from crrmon.domain.authorization import TOKEN
from crrmon.domain.bucket_patterns import overlap
from crrmon.domain.choice import Choice, pattern
from crrmon.domain.objects import BUCKET_NAME, SITE
from crrmon.domain.queue_address import FIFO, is_of_aws, queue_address, queue_name
from crrmon.domain.redaction import HIDDEN, harmless, shown, without_userinfo

PREFIX = "CRRMON_"
_NESTING = "__"
_DAY_SECONDS = 86_400.0

_SHORTEST_HORIZON_SECONDS = 3600.0
"""CloudTrail's events come up to a quarter of an hour after S3's own of the same object, and more in bad times."""


class ConfigurationError(Exception):
    """
    The settings cannot be used; the text says which, what is wrong and what is allowed, a line for each.
    """


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")  # noqa: TRY004 - pydantic's protocol
    return value


_NUMBER = BeforeValidator(_no_switch)

BucketName = Annotated[str, Field(pattern=f"^{BUCKET_NAME}$")]


Region = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, values: Any) -> Any:
        """
        Leave out what is blank and need not be set: templates write it so.
        """
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if not (isinstance(value, str) and not value.strip() and cls._optional(name))
        }

    @classmethod
    def _optional(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required() and field.default is None

    @classmethod
    @override
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        # Whoever holds a file against the schema, as Helm does, must not refuse what is read here.
        for name, told in handler.resolve_ref_schema(schema).get("properties", {}).items():
            if cls._optional(name) and "anyOf" in told:
                told["anyOf"].append({"const": "", "type": "string"})
        return schema


def _apart(url: str) -> SplitResult:
    """
    Take an address apart.

    Raises:
        ValueError: it is none; unlike the library's own words, these repeat nothing of it.
    """
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("the host is none; one in brackets must be an IPv6 address") from None


def _has_port(parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port must be a number up to 65535") from None


def _address(url: str) -> str:
    """
    Refuse an address that no call could be sent to.
    """
    if (
        "@" in url
    ):  # NB: of a password with a / in it, only a part is where users and passwords belong
        raise ValueError(
            "a user or password in front of the host is of no use, for AWS calls carry a signature in the same header: "
            "leave it out; credentials come from the SDK's usual places"
        )
    _has_port(_apart(url))
    return url


def _has_scheme(url: object) -> object:
    if isinstance(url, str) and not re.match(r"https?://[^\s/?#]", url):
        raise ValueError("begin it with http:// or https://, and a host after that")
    return url


Address = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"),
    BeforeValidator(_has_scheme),
    AfterValidator(_address),
]


def _queue_url(url: str) -> str:
    _address(url)
    if queue_address(url).name.endswith(FIFO):
        raise ValueError(
            "a FIFO queue gives out nothing more of a message group while one of its messages is held, and crrmon "
            "holds them until the objects had time to arrive: most would wait for minutes. Use a standard queue; "
            "order does not matter here, and what comes twice is counted once"
        )
    return url


class Queue(_Section):
    """
    One SQS queue to read.
    """

    url: Annotated[
        str, Field(pattern=r"^https?://[^\s/?#]+/[^\s?#]+$"), AfterValidator(_queue_url)
    ]
    """URL of the queue. Each queue has one reader fleet of its own: what is not for crrmon is deleted from it."""
    region: Region | None = None
    """Region of the queue; else what the host of its URL names, as those of AWS do; else `aws.region`."""

    @model_validator(mode="after")
    def _one_region(self) -> "Queue":
        told = queue_address(self.url).region
        if self.region and told and self.region != told:
            raise ValueError(
                f"region is {self.region}, but url leads to {told}: leave region out, or correct one of them"
            )
        if not (self.region or told) and is_of_aws(self.url):
            # Signed for the default region, it would be refused for ever.
            raise ValueError(
                f"url names a host of AWS, {urlsplit(self.url).hostname}, that names no region: correct it, or set region"
            )
        return self


def _each_once(queues: tuple[Queue, ...]) -> tuple[Queue, ...]:
    known: dict[tuple[str, ...], str] = {}
    for queue in queues:
        identity = queue_address(queue.url).identity
        before = known.get(identity)
        known[identity] = queue.url
        if before is not None:
            same = "" if before == queue.url else f", also as {before}"
            raise ValueError(
                f"{queue.url} stands there more than once{same}: list each queue once; intake.receivers makes more "
                "readers of it"
            )
    return queues


_Model = TypeVar("_Model", bound=BaseModel)


def _held(section: _Model, rules: Iterable[tuple[object, str]]) -> _Model:
    """
    Return a section whose settings go together.

    Raises:
        ValueError: they do not; a line for each rule that does not hold.
    """
    if broken := [otherwise for holds, otherwise in rules if not holds]:
        raise ValueError("\n".join(broken))
    return section


def _no_brackets(host: str) -> str:
    if "[" in host:
        raise ValueError("an address to listen on has no brackets: leave them out")
    return host


def _text(value: object) -> object:
    if not isinstance(value, str | SecretStr):
        raise ValueError("must be in quotes, for YAML does not read it as text")  # noqa: TRY004 - pydantic's protocol
    return value


def _token(token: SecretStr) -> SecretStr:
    if not TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("a token has at least 16 printable characters of ASCII and no blanks")
    return token


class Webhook(_Section):
    """
    One port that S3-compatible stores post their events to. docs/stores.md leads there.
    """

    kind: Literal["webhook"]
    """What it is; webhooks are the only kind so far."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")] = "webhook"
    """Name in logs and in the label `queue` of metrics; no two share one."""
    host: Annotated[str, Field(min_length=1), AfterValidator(_no_brackets)] = "127.0.0.1"
    """Address to listen on; as with `http.host`."""
    port: Annotated[int, Field(ge=0, le=65535), _NUMBER] = 9465
    """Port to listen on, on any path; 0 takes a free one."""
    token: Annotated[SecretStr, AfterValidator(_token), BeforeValidator(_text)] | None = None
    """
    What senders must show: at least 16 characters. Better in a file, or in the environment: the whole list is
    CRRMON_INBOXES='[{"kind": "webhook", "token": "..."}]'.
    """
    token_file: Path | None = None
    """A file that holds the token, as secrets are mounted; read again for every request."""
    certificate_file: Path | None = None
    """Certificates for HTTPS, PEM; read at the start. Without, whoever listens between sender and here sees the token."""
    key_file: Path | None = None
    """The private key of `certificate_file`, PEM, without a password."""

    @model_validator(mode="after")
    def _consistent(self) -> "Webhook":
        rules = (
            (
                self.token is None or self.token_file is None,
                "token and token_file are both set: keep one of them",
            ),
            (
                self.token is not None or self.token_file is not None,
                "whoever reaches the port could make events up: set token_file, or token",
            ),
            (
                (self.certificate_file is None) == (self.key_file is None),
                "certificate_file and key_file belong together: set both, or none",
            ),
        )
        return _held(self, rules)


def _redis_url(url: str) -> str:
    parts = _apart(url)
    if parts.password is not None or parts.query or parts.fragment:
        # A password with ?, # or / in it is not even where one looks for it.
        raise ValueError(
            "only redis://NAME@HOST:PORT/DATABASE belongs into it; a password is set by ledger.redis.password_file "
            "or CRRMON_LEDGER__REDIS__PASSWORD"
        )
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("must be redis://HOST:PORT/DATABASE, or rediss:// for TLS")
    _has_port(parts)
    if parts.path not in ("", "/") and not parts.path[1:].isdecimal():
        raise ValueError("the database must be a number")
    return url


class Aws(_Section):
    """
    How AWS is reached. Credentials come from the SDK's usual places, never from here.
    """

    region: Region | None = None
    """Default region; else the SDK's own (AWS_REGION, profile)."""
    endpoint_url: Address | None = None
    """Send every AWS call here instead; for emulators. S3-compatible stores belong into `accounts`."""


def _quoted(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("must be in quotes, for YAML reads it as a number")  # noqa: TRY004 - pydantic's protocol
    return value


BucketPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,255}$")]


class Account(_Section):
    """
    One account whose buckets are not looked at with the daemon's own credentials, or one S3-compatible store.
    """

    id: Annotated[
        str,
        Field(pattern=r"^([0-9]{12}|\*|[A-Za-z][A-Za-z0-9._-]{0,63})$"),
        BeforeValidator(_quoted),
    ]
    """
    The account's twelve digits, in quotes; "*" for every account that is not named; any short name for an
    S3-compatible store.
    """
    role_arn: (
        Annotated[
            str,
            Field(
                pattern=r"^arn:aws[a-z0-9-]*:iam::([0-9]{12}|\{account\}):role/[A-Za-z0-9_+=,.@/-]+$"
            ),
        ]
        | None
    ) = None
    """
    Role to take there; {account} in it stands for the account's id. Without one, the daemon's own credentials are
    used.
    """
    external_id: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]+$", min_length=2, max_length=1224)]
        | None
    ) = None
    """External id that the role's trust policy asks for."""
    profile: Annotated[str, Field(min_length=1)] | None = None
    """
    Profile of the SDK's shared files (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE) whose credentials are used there,
    or take the role; for a store's own access key, or another partition.
    """
    endpoint_url: Address | None = None
    """Address of an S3-compatible store, for S3 requests alone."""
    path_style: bool = True
    """Whether that store has buckets in the path of its address (MinIO, Ceph); else they are host names below it."""
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")] | None = None
    """
    Region of buckets whose events name none, and whose STS is asked; with `endpoint_url` the region of all its
    buckets. Else `aws.region`.
    """
    site: Annotated[str, Field(pattern=f"^{SITE}$")] | None = None
    """
    Which site of a store this is, where several have buckets of the same names: its deployment id, as its events name it
    (x-minio-deployment-id; `mc admin info ALIAS --json` shows it).
    """
    buckets: tuple[BucketPattern, ...] = ()
    """
    Patterns (acme-*) of the buckets that belong to it, for events that name no account: S3's notifications, and all
    of an S3-compatible store.
    """
    request_payer: tuple[BucketPattern, ...] = ()
    """
    Patterns of its Requester Pays buckets that are not the daemon's own: S3 answers 403 to who does not say that it
    pays. Where an event names no account, they are patterns of its buckets as well.
    """
    reports_status: bool = True
    """
    Whether HEAD tells the replication status of sources. If not, replicas' own events show that an object arrived, and
    looks at the destination, where those are allowed.
    """

    @model_validator(mode="after")
    def _consistent(self) -> "Account":
        numbered, catch_all = self.id.isdecimal(), self.id == "*"
        placeholder = "{account}" in (self.role_arn or "")
        rules = (
            (not catch_all or placeholder, 'id "*" needs a role_arn with {account} in it'),
            (
                not catch_all or not (self.buckets or self.endpoint_url),
                'id "*" stands for many accounts: no buckets, no endpoint_url',
            ),
            (
                numbered or catch_all or self.buckets or self.request_payer,
                "an id that is not of twelve digits is in no event: set buckets",
            ),
            (
                numbered or catch_all or not placeholder,
                "{account} in role_arn needs an id of twelve digits",
            ),
            (not self.external_id or self.role_arn, "external_id needs a role_arn to take"),
            (self.path_style or self.endpoint_url, "path_style belongs to an endpoint_url"),
            (
                self.reports_status or self.endpoint_url,
                "AWS reports the status; reports_status belongs to an endpoint_url",
            ),
            (
                not (self.request_payer and self.endpoint_url) or is_of_aws(self.endpoint_url),
                "request_payer is for S3 of AWS: leave it out beside the endpoint_url of another store",
            ),
            (not self.site or self.endpoint_url, "site belongs to an endpoint_url"),
        )
        return _held(self, rules)


def _no_repetition(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands there more than once")
    return names


def _no_contradiction(accounts: tuple[Account, ...]) -> tuple[Account, ...]:
    ids = [account.id for account in accounts]
    sites = [account.site for account in accounts if account.site]
    paid = [pattern for account in accounts for pattern in account.request_payer]
    for names in (ids, sites, paid, *(account.buckets for account in accounts)):
        _no_repetition(tuple(names))
    for account, other in itertools.combinations(accounts, 2):
        _no_shared_bucket(account, other)
    return accounts


def _no_shared_bucket(one: Account, two: Account) -> None:
    """
    Refuse two accounts that have buckets of one name, unless events tell which is meant. Where one of them is AWS, names
    are told apart by the order in the file, as long as they are not the same.
    """
    if one.site and two.site:
        return
    stores = one.endpoint_url and two.endpoint_url
    for here, there in itertools.product(one.buckets, two.buckets):
        if here == there or (stores and overlap(here, there)):
            raise ValueError(
                f"a bucket that {here} of {one.id} and {there} of {two.id} both fit would be looked for at {one.id}"
                " alone; give both an accounts[].site, the deployment id that their events name, or patterns that differ"
            )


_Seconds = Annotated[float, Field(ge=0, le=1_209_600), _NUMBER]


class Intake(_Section):
    """
    How messages are taken in.
    """

    receivers: Annotated[int, Field(ge=1, le=64), _NUMBER] = 4
    """Concurrent receivers of each queue; each takes up to ten messages at a time."""
    max_in_flight: Annotated[int, Field(ge=10, le=100_000), _NUMBER] = 2000
    """
    Most facts of one queue held at once; about 5 KiB of memory each. A message counts as many as it tells, mostly one;
    one that tells more than that is held alone. SQS itself allows 120,000 messages.
    """
    hold_seconds: Annotated[float, Field(ge=0, le=600), _NUMBER] = 60.0
    """
    Longest time to hold a message until the first look at its object is due. Most objects replicate in this time
    and then cost one HEAD and no pending record; what takes longer goes to the ledger at once.
    """
    least_event_delay_seconds: dict[
        Literal["cloudtrail", "eventbridge", "notification"], _Seconds
    ] = {}
    """
    How late events are to be reckoned with at least, by who tells: {cloudtrail: 900}. "Complete up to" keeps that
    distance from now, and the larger one that was seen; without any of both it is not shown.
    """


def _a_pattern(text: str) -> str:
    pattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_a_pattern)]


class Watch(_Section):
    """
    Which objects are followed: patterns BUCKET or BUCKET/PREFIX of the source, where * and ? in the bucket's name
    stand for other characters. What is left out is counted in crrmon_events_total as excluded.
    """

    include: tuple[Pattern, ...] = ()
    """What to follow; everything, if nothing stands here."""
    exclude: tuple[Pattern, ...] = ()
    """What not to follow, even if it is included."""


class Looks(_Section):
    """
    How replication status is looked at.
    """

    freshness: Annotated[float, Field(ge=0, le=1), _NUMBER] = 0.5
    """
    The one trade-off: 0 asks S3 as seldom as possible, 1 knows as soon as possible. docs/performance.md has the curve.
    """
    concurrency: Annotated[int, Field(ge=1, le=1000), _NUMBER] = 64
    """Most HEAD requests under way at once."""
    per_bucket_per_second: Annotated[float, Field(gt=0, le=5500), _NUMBER] = 500.0
    """Most HEAD requests a second and bucket. S3 allows 5,500 a prefix, which your applications and replication share."""
    stuck_after_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER] = 900.0
    """Age at which a pending object counts as stuck: S3's own promise is 15 minutes."""
    give_up_after_days: Annotated[float, Field(gt=0, le=365), _NUMBER] = 14.0
    """Age at which an object that is never final is given up, and a failure nobody repairs is closed."""


class RedisSettings(_Section):
    """
    The server of the redis ledger: Redis from 6.2 on, or Valkey.
    """

    url: Annotated[str, AfterValidator(_redis_url)] = "redis://127.0.0.1:6379/0"
    """
    redis://HOST:PORT/DATABASE, or rediss:// for TLS. No password here; a user name is redis://NAME@HOST:PORT.
    """
    password: Annotated[SecretStr, BeforeValidator(_text)] | None = None
    """The password; better in the environment (CRRMON_LEDGER__REDIS__PASSWORD) or in a file."""
    password_file: Path | None = None
    """A file that holds the password, as secrets are mounted; read again for every new connection."""
    ca_file: Path | None = None
    """Certificates to trust with rediss://; else those of the system."""
    cluster: bool = False
    """Whether the server is a Redis Cluster; then any of its nodes will do for `url`."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "crrmon"
    """Starts the name of every key: another one for each monitor that shares the server."""

    @model_validator(mode="after")
    def _consistent(self) -> "RedisSettings":
        parts = urlsplit(self.url)
        rules = (
            (
                self.password is None or self.password_file is None,
                "password and password_file are both set: keep one of them",
            ),
            (
                self.ca_file is None or parts.scheme == "rediss",
                "ca_file is set, but url does not ask for TLS: begin url with rediss://, or leave ca_file out",
            ),
            (
                not self.cluster or not int(parts.path.strip("/") or 0),
                (
                    "url names a database, but cluster is true, and a cluster has none but 0: take the number from "
                    "the end of url"
                ),
            ),
        )
        return _held(self, rules)


def _no_tag_of_aws(name: str) -> str:
    if name.lower().startswith("aws:"):
        raise ValueError("AWS keeps tags that begin with aws: for itself: take another name")
    return name


# Of what a tag may hold, AWS counts letters of all scripts.
Tag = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_no_tag_of_aws)]
TagValue = Annotated[str, Field(max_length=256)]


class DynamoDBSettings(_Section):
    """
    The table of the dynamodb ledger; `crrmon ledger create` makes it.
    """

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = "crrmon"
    """Name of the table: one for each monitor."""
    region: Region | None = None
    """Region of the table; else `aws.region`."""
    tags: Annotated[dict[Tag, TagValue], Field(max_length=50)] = {}
    """Tags that `crrmon ledger create` gives the table."""


class LedgerSettings(_Section):
    """
    Where what is pending is remembered. docs/operations.md says which kind to choose.
    """

    kind: Literal["sqlite", "redis", "dynamodb", "memory"] = "sqlite"
    """
    sqlite: a file on a local volume, for one replica. redis, dynamodb: for several. memory: forgets everything when
    the daemon ends; for trying out.
    """
    path: Path = Path("crrmon.db")
    """The file of the sqlite ledger; not on a network filesystem."""
    redis: RedisSettings = RedisSettings()
    dynamodb: DynamoDBSettings = DynamoDBSettings()
    shards: Annotated[int, Field(ge=1, le=4096), _NUMBER] = 64
    """Into how many parts the ledger is divided, and at most how many replicas share the work; fixed when it is made."""
    horizon_days: Annotated[float, Field(gt=0, le=30), _NUMBER] = 4.0
    """
    How long it is remembered that an object was counted. An event that comes later than this is followed, but not
    counted as new. No shorter than the retention of the queue and its dead-letter queue, if those are redriven.
    """


def _no_namespace_of_aws(namespace: str) -> str:
    if namespace.startswith("AWS/"):
        raise ValueError(
            "names that begin with AWS/ are for AWS's own metrics, and CloudWatch would refuse all of these: take "
            "another one, such as CRRMonitor"
        )
    return namespace


class Report(_Section):
    """
    What is reported to CloudWatch.
    """

    cloudwatch: bool = True
    """Whether to send metrics to CloudWatch."""
    namespace: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._/#-][A-Za-z0-9._/#:-]{0,254}$"),
        AfterValidator(_no_namespace_of_aws),
    ] = "CRRMonitor"
    """Namespace of the metrics; the original's by default, so that its alarms live on."""
    region: Region | None = None
    """Region that gets the metrics; else `aws.region`."""
    window_seconds: Annotated[int, Field(ge=1, le=3600), _NUMBER] = 300
    """Length of a window: every metric gets one datapoint for each."""


class Http(_Section):
    """
    Where /metrics, /livez and /readyz are served.
    """

    host: Annotated[str, Field(min_length=1), AfterValidator(_no_brackets)] = "127.0.0.1"
    """
    Address to listen on. Loopback by default; "::" in a container whose network is its own: all addresses, of IPv6 and
    of IPv4, or of the one that the machine has.
    """
    port: Annotated[int, Field(ge=0, le=65535), _NUMBER] = 9464
    """Port to listen on; 0 takes a free one."""


class Log(_Section):
    """
    What is logged, to standard output.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug names every object."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for eyes on a terminal, else JSON lines."""
    keys: Literal["full", "hashed", "none"] = "full"
    """
    How keys of objects are logged. hashed: as the beginning of their SHA-256, the same in all lines, which hides them
    from whoever cannot guess them. none: not at all. Both leave out texts of libraries and exceptions, too.
    """


class Settings(BaseSettings):
    """
    All settings.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=_NESTING,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    monitor: Annotated[str, Field(pattern=r"^[!-9;-~][ -~]{0,254}$")] = "crrmon"
    """Name of this monitor (all replicas together): the dimension of Heartbeat and QueueAge."""
    queues: Annotated[tuple[Queue, ...], AfterValidator(_each_once)] = ()
    """The SQS queues to read, in any regions."""
    inboxes: tuple[Webhook, ...] = ()
    """Where events come in otherwise, beside the queues or in their place: MinIO's and Ceph's, over HTTP."""
    buckets: Annotated[tuple[BucketName, ...], AfterValidator(_no_repetition)] = ()
    """
    Source buckets whose zeros are reported from the start. Others are met through their events and remembered.
    """
    aws: Aws = Aws()
    accounts: Annotated[tuple[Account, ...], AfterValidator(_no_contradiction)] = ()
    """
    Accounts and S3-compatible stores whose buckets are reached in a way of their own. docs/operations.md has examples.
    """
    watch: Watch = Watch()
    intake: Intake = Intake()
    looks: Looks = Looks()
    ledger: LedgerSettings = LedgerSettings()
    report: Report = Report()
    http: Http = Http()
    log: Log = Log()
    shutdown_seconds: Annotated[float, Field(gt=0, le=3600), _NUMBER] = 25.0
    """
    Longest time from SIGTERM to the end. Below the grace of whoever stops the daemon (Kubernetes and ECS: 30 s).
    """

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        return _held(self, [*_sources(self), *_times(self), *_choice(self)])

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """
        Let the environment win over the file (which comes in as initial values).
        """
        return env_settings, init_settings


def _sources(settings: Settings) -> Iterator[tuple[bool, str]]:
    """
    Tell whether each of those that events come from has a name and a port of its own.
    """
    names = [queue_name(one.url) for one in settings.queues]
    ports = [settings.http.port]
    for place, one in enumerate(settings.inboxes):
        yield (
            one.name not in names,
            f"inboxes[{place}].name is {one.name}, as another inbox or a queue is called: give it one of its own",
        )
        yield (
            one.port not in ports or not one.port,
            f"inboxes[{place}].port is {one.port}, as another inbox or http has it: give it one of its own",
        )
        names.append(one.name)
        ports.append(one.port)


def _times(settings: Settings) -> Iterator[tuple[bool, str]]:
    """
    Tell which times go together, and what to do where they do not.
    """
    hold, stuck = settings.intake.hold_seconds, settings.looks.stuck_after_seconds
    give_up = settings.looks.give_up_after_days * _DAY_SECONDS
    horizon = settings.ledger.horizon_days * _DAY_SECONDS
    window = settings.report.window_seconds
    for channel, delay in settings.intake.least_event_delay_seconds.items():
        yield (
            delay < horizon,
            (
                f"intake.least_event_delay_seconds of {channel} is {delay:g} and not shorter than ledger.horizon_days, "
                f"{settings.ledger.horizon_days:g} ({horizon:g} s): events that late are not counted; lower the one or "
                "raise the other"
            ),
        )
    yield (
        stuck < give_up,
        (
            f"looks.give_up_after_days is {settings.looks.give_up_after_days:g} ({give_up:g} s) and not longer than "
            f"looks.stuck_after_seconds, {stuck:g}: objects would be given up before they count as stuck; raise the one "
            "or lower the other"
        ),
    )
    yield (
        hold < stuck,
        (
            f"intake.hold_seconds is {hold:g} and not shorter than looks.stuck_after_seconds, {stuck:g}: what is held "
            "was not looked at, and cannot count as stuck; lower the one or raise the other"
        ),
    )
    least = _SHORTEST_HORIZON_SECONDS + hold + window
    yield (
        horizon >= least,
        (
            f"ledger.horizon_days is {settings.ledger.horizon_days:g} ({horizon:g} s): with intake.hold_seconds of "
            f"{hold:g} and report.window_seconds of {window} it must be at least {least / _DAY_SECONDS:.3g}, for events "
            "come late and come twice, and one that comes after the horizon is not counted; no shorter than the retention "
            "of the queue is right"
        ),
    )


def _choice(settings: Settings) -> Iterator[tuple[bool, str]]:
    """
    Tell whether something is followed of all that is named, and what to do where nothing is.
    """
    watch = settings.watch
    choice = Choice(
        [pattern(one) for one in watch.include], [pattern(one) for one in watch.exclude]
    )
    for bucket in choice.void():
        named = f"watch.include names {bucket}" if watch.include else "watch.include names nothing"
        yield (False, f"{named}, and watch.exclude leaves all of it out: correct one of them")
    for bucket in settings.buckets:
        reason = "watch.exclude leaves all of it out"
        if watch.include and not any(pattern(one).fits(bucket) for one in watch.include):
            reason = "watch.include does not name it"
        yield (
            choice.touches(bucket),
            (
                f"buckets names {bucket}, but {reason}: its zeros would be reported though nothing of it is followed; "
                "take it out of buckets, or follow it"
            ),
        )


def load(path: Path | None, *, queues: bool = True) -> Settings:
    """
    Read the settings: the file, and the environment over it.

    Args:
        path: the YAML file; None reads the environment only.
        queues: whether at least one, or an inbox, must be set; who does not read any need not ask for one.

    Raises:
        ConfigurationError: with a line for everything that is wrong.
    """
    raw = {} if path is None else _read(path)
    problems = [*_unknown_keys(raw), *_unknown_variables(os.environ)]
    if problems:
        raise ConfigurationError("\n".join(problems))
    try:
        settings = Settings(**raw)
    # NB: "from None", for what these errors quote may hold a password, and tracebacks show causes.
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explanations(error))) from None
    except SettingsError as error:
        raise ConfigurationError("\n".join(_not_json(os.environ)) or str(error)) from None
    except RecursionError as error:
        raise ConfigurationError("the environment is nested too deeply to be settings") from error
    if queues and not (settings.queues or settings.inboxes):
        raise ConfigurationError(_NO_QUEUE)
    return settings


def public(settings: Settings) -> dict[str, Any]:
    """
    Return all settings as plain values that everybody may see: secrets and users in addresses masked.
    """
    values: dict[str, Any] = _masked(settings.model_dump(mode="json"))
    return values


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _masked(one) for key, one in value.items()}
        case list():
            return [_masked(one) for one in value]
        case str():
            return without_userinfo(value)
        case _:
            return value


def schema() -> dict[str, Any]:
    """
    Return the JSON schema of the configuration file.
    """
    return Settings.model_json_schema()


def example() -> str:
    """
    Return a configuration file that shows every setting with its meaning and its default.
    """
    head = """\
# Settings of crrmon, each with its default. Only `queues` must be set, or `inboxes`.
# The environment overrides this file: CRRMON_LOOKS__FRESHNESS=0.8, CRRMON_QUEUES='[{"url": "..."}]'.
"""
    return head + "".join(_lines(Settings, ""))


_EXAMPLE_VALUES = {
    "url": "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon",
    "id": '"109876543210"',
    "kind": "webhook",
}


def _lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section, mark = _section(field.annotation)
        if not indent:
            yield "\n"
        text = field.description or (section.__doc__ if section else "") or ""
        for line in textwrap.wrap(
            " ".join(text.split()), 96 - len(indent), break_on_hyphens=False
        ):
            yield f"{indent}# {line}\n"
        if section is None:
            value = _EXAMPLE_VALUES[name] if field.is_required() else _plain(field.get_default())
            yield f"{indent}{name}: {value}\n"
            continue
        if mark and name != "queues":
            yield f"{indent}{name}: []\n"
            yield f"{indent}#   -\n"
            for line in _lines(section, "     "):
                yield f"{indent}#{line}"
            continue
        yield f"{indent}{name}:\n"
        if mark:
            yield f"{indent}  -\n"
            yield from _lines(section, indent + "    ")
        else:
            yield from _lines(section, indent + "  ")


def _plain(value: Any) -> str:
    """
    Write a default as YAML has it on one line.
    """
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """
    List all keys, sections included, in dotted form; list items as `queues[].url`.
    """
    for name, field in model.model_fields.items():
        yield prefix + name
        section, mark = _section(field.annotation)
        if section is not None:
            yield from keys(section, f"{prefix}{name}{mark}.")


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, "[]"
    return None, ""


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe one
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: byte {error.start} is not UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: is not YAML: {_fault(error)}") from None
    except (ValueError, LookupError, AttributeError, TypeError):
        raise ConfigurationError(f"{path}: is not YAML: {_NOT_AS_IT_LOOKS}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is not YAML: it is nested too deeply") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise ConfigurationError(f"{path}: must be a mapping of settings; see config.example.yaml")
    return raw


_NOT_AS_IT_LOOKS = "a value is not what it looks like"


def _fault(error: yaml.YAMLError) -> str:
    """
    Say what is wrong with YAML and where, without a word of what stands there: it may be a password.
    """
    mark = getattr(error, "problem_mark", None)
    problem = (
        getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    )
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if r"'\t'" in problem:
        return f"a tab where YAML wants blanks{where}"
    # What a parser expected and found are kinds of tokens, and nothing of what they say.
    of_kinds = isinstance(error, yaml.parser.ParserError) and problem.startswith("expected ")
    return (problem if of_kinds else _unquoted(problem)) + where


def _unquoted(text: str) -> str:
    """
    Return what a library says without what it quotes.
    """
    return re.sub(r"['\"].*['\"]", "...", text, flags=re.DOTALL)


class _Loader(yaml.SafeLoader):
    """
    Reads YAML; a key that stands there twice is an error instead of the last one winning.
    """

    @override
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError):
            # NB: not all that YAML's parser finds wrong is one of its own errors: a 31st of February is not.
            raise yaml.constructor.ConstructorError(
                None, None, _NOT_AS_IT_LOOKS, node.start_mark
            ) from None

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for name, _ in node.value:
            if names.count(name.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{_known_name(name.value)} stands there more than once",
                    name.start_mark,
                )
        return super().construct_mapping(node, deep=deep)


def _unknown_keys(
    raw: Mapping[str, Any], model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[str]:
    for name, value in raw.items():
        if name not in model.model_fields:
            around = [f"{prefix}{one}" for one in model.model_fields]
            yield _unknown(f"{prefix}{_name(name, value, model)}", around)
            continue
        section, mark = _section(model.model_fields[name].annotation)
        if section is None:
            continue
        inner = value if isinstance(value, list) else [value]
        for one in inner:
            if isinstance(one, dict):
                yield from _unknown_keys(one, section, f"{prefix}{name}{mark}.")


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = [*_variables(), PREFIX + "CONFIG"]
    for name, value in environment.items():
        unknown = name.upper().startswith(PREFIX) and name.upper() not in known
        if unknown and not _is_service_link(name, value):
            yield _unknown(_variable(name.upper()), known, what="environment variable")


def _variables() -> dict[str, str]:
    """
    Return the environment variables that set something, with the keys that they set.
    """
    return {PREFIX + key.upper().replace(".", _NESTING): key for key in keys() if "[" not in key}


def _is_service_link(name: str, value: str) -> bool:
    """
    Tell whether Kubernetes set a variable, which it does for every service; ours may well be called crrmon.
    """
    return bool(_SERVICE_LINK.fullmatch(name)) or (
        name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    )


_SERVICE_LINK = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


def _unknown(name: str, known: list[str], *, what: str = "setting") -> str:
    own = [one for one in keys() if "[" not in one] if what == "setting" else known
    elsewhere = [one for one in own if one.rpartition(".")[2] == name]
    near = (
        elsewhere
        or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        or difflib.get_close_matches(name, own, n=1, cutoff=0.6)
    )
    hint = f"; did you mean {near[0]}?" if near else "; config.example.yaml shows every one"
    return f"{name}: unknown {what}{hint}"


def _not_json(environment: Mapping[str, str]) -> Iterator[str]:
    """
    Tell of the variables that should hold a list or a map and do not.
    """
    composed = set(_composed(Settings, ""))
    variables = _variables()
    for name, value in environment.items():
        if (key := variables.get(name.upper())) in composed:
            try:
                json.loads(value)
            except ValueError:
                # What cannot be read may hold a password wherever it likes.
                told = _UNSEEN if _hides(key) or "@" in value or "://" in value else shown(value)
                yield f"{name}: {told} is not allowed: lists and maps in the environment are JSON"


def _composed(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """
    List the keys whose values are lists or maps, sections included.
    """
    for name, field in model.model_fields.items():
        section, mark = _section(field.annotation)
        if section is not None or get_origin(field.annotation) in (tuple, dict):
            yield prefix + name
        if section is not None and not mark:
            yield from _composed(section, f"{prefix}{name}.")


def _explanations(error: ValidationError) -> Iterator[str]:
    """
    Say what is wrong with each setting, what it was, and what is allowed.
    """
    for one in error.errors():
        yield _explain(_dotted(one["loc"]), one)


def _dotted(location: tuple[int | str, ...]) -> str:
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def _explain(name: str, error: Any) -> str:
    value, kind = error["input"], error["type"]
    if name == "queues" and not value:
        return _NO_QUEUE
    if kind == "missing":
        return f"{name}: is missing"
    if kind == "extra_forbidden":  # in a variable's JSON; in the file it was found before
        *around, last = error["loc"]
        section = _model_at(_dotted(tuple(around)))
        prefix = f"{_dotted(tuple(around))}." if around else ""
        return _unknown(prefix + _name(last, value, section), list(_siblings(name)))
    said = harmless(error["msg"].removeprefix("Value error, "))
    if kind == "value_error" and (not name or _sections(value)):
        # A contradiction between settings, which it names; the value would be all of them.
        return "\n".join(f"{name}: {line}" if name else line for line in said.splitlines())
    if kind == "model_type":
        inner = (key.rpartition(".")[2] for key in _siblings(f"{name}."))
        said = f"must be a mapping with {', '.join(inner)}"
    elif kind == "tuple_type":
        said = "must be a list"
    elif kind == "string_pattern_mismatch":
        said = _FORMS[re.sub(r"\[\d+\]", "[]", name)]
    elif kind != "literal_error" and _hides(name):  # that lists what is allowed, and nothing else
        said = _unquoted(said)
    told = _UNSEEN if _hides(name) else shown(value)
    return f"{name}: {told} is not allowed: {said[:1].lower()}{said[1:]}"


_UNSEEN = "what it is set to"

_REGION_FORM = "write it as AWS does, such as eu-west-1"
_ADDRESS_FORM = (
    "begin it with http:// or https:// and a host, and leave out what comes after a ? or a #"
)
_PATTERN_FORM = "write the name of a bucket, in which * stands for any characters and ? for one"
_FORMS = {
    "monitor": "at most 255 printable characters of ASCII, the first of them no blank and no colon",
    "queues[].url": "give the URL of the queue, such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    "queues[].region": _REGION_FORM,
    "inboxes[].name": "at most 80 letters, digits and . _ -",
    "buckets[]": "the name of a bucket has 3 to 255 letters, digits and . _ -",
    "aws.region": _REGION_FORM,
    "aws.endpoint_url": _ADDRESS_FORM,
    "accounts[].id": 'give twelve digits, "*", or for a store a short name that begins with a letter',
    "accounts[].role_arn": "give the ARN of a role, such as arn:aws:iam::{account}:role/NAME",
    "accounts[].external_id": "letters, digits and _ + = , . @ : / - are all that AWS takes",
    "accounts[].endpoint_url": _ADDRESS_FORM,
    "accounts[].region": _REGION_FORM,
    "accounts[].site": "give the deployment id, 13 to 128 letters, digits and . _ -",
    "accounts[].buckets[]": _PATTERN_FORM,
    "accounts[].request_payer[]": _PATTERN_FORM,
    "ledger.redis.prefix": "at most 64 letters, digits and . _ : -",
    "ledger.dynamodb.table": "the name of a table has 3 to 255 letters, digits and _ . -",
    "ledger.dynamodb.region": _REGION_FORM,
    "report.namespace": "at most 255 letters, digits and . _ / # : -, the first of them no colon",
    "report.region": _REGION_FORM,
}
"""What a text has to look like, by the name of its setting."""


def _sections(value: object) -> bool:
    """
    Tell whether a value is a section of settings, or several.
    """
    return isinstance(value, Mapping) or (
        isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value)
    )


def _hides(name: str) -> bool:
    """
    Tell whether what a setting is set to is never shown: a secret, what is above or below one, and what is beside it.

    A password in the wrong line is still a password.
    """
    plain = re.sub(r"\[\d+\]", "[]", name)
    return any(
        f"{plain}.".startswith(f"{section}.") or f"{section}.".startswith(f"{plain}.")
        for section in _SECRETIVE
    )


def _secretive(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """
    List the sections that have a secret among their settings.
    """
    for name, field in model.model_fields.items():
        section, mark = _section(field.annotation)
        if section is not None:
            yield from _secretive(section, f"{prefix}{name}{mark}.")
        elif SecretStr in (field.annotation, *_parts(field.annotation)):
            yield prefix.removesuffix(".")


def _parts(annotation: Any) -> Iterator[Any]:
    for inner in get_args(annotation):
        yield inner
        yield from _parts(inner)


def _model_at(name: str) -> type[BaseModel] | None:
    """
    Return the section of that name; None where there is none.
    """
    model: type[BaseModel] | None = Settings
    for part in filter(None, re.sub(r"\[\d+\]", "", name).split(".")):
        field = model.model_fields.get(part) if model else None
        model = _section(field.annotation)[0] if field else None
    return model


def _name(name: object, value: object, model: type[BaseModel] | None) -> str:
    """
    Return what may be shown of an unknown name: in a file that went wrong, a name may have been a value.

    Args:
        name: that is unknown.
        value: that it is given.
        model: the section that it stands in.
    """
    text = str(name)
    if model is None:
        return HIDDEN
    if not list(_secretive(model)):
        return harmless(text)
    near = difflib.get_close_matches(text, model.model_fields, n=1, cutoff=0.8)
    return text if (near or value is not None) and _LIKE_A_NAME.fullmatch(text) else HIDDEN


_LIKE_A_NAME = re.compile(r"[A-Za-z_]{1,32}[0-9]?")


def _known_name(name: str) -> str:
    """
    Return a name that is one of a setting; else what stands for others.
    """
    return name if any(name == key.rpartition(".")[2] for key in keys()) else "a name"


def _variable(name: str) -> str:
    """
    Return what may be shown of the name of an unknown variable: nothing below a secret.
    """
    for variable, key in _variables().items():
        if name.startswith(variable + _NESTING) and _section_of(key) is None:
            return f"{variable}{_NESTING}{HIDDEN}" if _hides(key) else name
    return name


def _section_of(key: str) -> type[BaseModel] | None:
    around, _, last = key.rpartition(".")
    model = _model_at(around)
    return _section(model.model_fields[last].annotation)[0] if model else None


def _siblings(name: str) -> Iterator[str]:
    """
    List the keys that are known where this one stands.
    """
    around, dot, _ = re.sub(r"\[\d+\]", "[]", name).rpartition(".")
    within = around + dot
    return (key for key in keys() if key.startswith(within) and "." not in key[len(within) :])


_NO_QUEUE = (
    "queues: no queue is configured; set queues: [{url: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME}] "
    'in the file, or CRRMON_QUEUES=\'[{"url": "..."}]\'; or, for events that stores post, '
    "inboxes: [{kind: webhook, token_file: PATH}]"
)
_SECRETIVE = tuple(_secretive(Settings))
