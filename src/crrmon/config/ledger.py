"""Where pending objects are remembered."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from crrmon.config.addresses import redis_url
from crrmon.config.section import DAY_SECONDS, NUMBER, Region, Section, held, in_quotes


class RedisSettings(Section):
    """Server of the redis ledger: Redis 6.2 or later, or Valkey."""

    url: Annotated[str, AfterValidator(redis_url)] = "redis://127.0.0.1:6379/0"
    """redis://HOST:PORT/DATABASE, or rediss:// for TLS. No password here; with a user name: redis://NAME@HOST:PORT."""
    password: Annotated[SecretStr, BeforeValidator(in_quotes)] | None = None
    """Password; prefer the environment (CRRMON_LEDGER__REDIS__PASSWORD) or a file."""
    password_file: Path | None = None
    """File that holds the password, such as a mounted secret; read again for every new connection."""
    ca_file: Path | None = None
    """Certificates to trust with rediss://. Default: those of the system."""
    cluster: bool = False
    """Whether the server is a Redis Cluster; `url` may then name any of its nodes."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] = "crrmon"
    """Prefix of every key; choose a different one for each monitor that shares the server."""

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
                "ca_file is set, but url does not use TLS: start url with rediss://, or remove ca_file",
            ),
            (
                not self.cluster or not int(parts.path.strip("/") or 0),
                (
                    "url names a database, but cluster is true, and a cluster only has database 0: remove the "
                    "number at the end of url"
                ),
            ),
        )
        return held(self, rules)


def _no_tag_of_aws(name: str) -> str:
    if name.lower().startswith("aws:"):
        raise ValueError("AWS reserves tags that begin with aws: for itself: choose another name")
    return name


# Of what a tag may hold, AWS counts letters of all scripts.
Tag = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_no_tag_of_aws)]


TagValue = Annotated[str, Field(max_length=256)]


class DynamoDBSettings(Section):
    """Table of the dynamodb ledger; `crrmon ledger create` creates it."""

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = "crrmon"
    """Name of the table; each monitor needs its own."""
    region: Region | None = None
    """Region of the table. Default: `aws.region`."""
    tags: Annotated[dict[Tag, TagValue], Field(max_length=50)] = {}  # noqa: RUF012 - pydantic copies it
    """Tags that `crrmon ledger create` puts on the table."""


class LedgerSettings(Section):
    """Where pending objects are remembered. docs/operations.md says which kind to choose."""

    kind: Literal["sqlite", "redis", "dynamodb", "memory"] = "sqlite"
    """sqlite: a file on a local volume, for one replica. redis, dynamodb: for several. memory: forgets everything when
    the daemon stops; for trying out.
    """
    path: Path = Path("crrmon.db")
    """File of the sqlite ledger; not on a network filesystem."""
    redis: RedisSettings = RedisSettings()
    dynamodb: DynamoDBSettings = DynamoDBSettings()
    shards: Annotated[int, Field(ge=1, le=4096), NUMBER] = 64
    """Number of parts of the ledger, and so the maximum number of replicas that share the work; fixed at its creation."""
    dedup_retention_days: Annotated[float, Field(gt=0, le=30), NUMBER] = 4.0
    """
    How long crrmon remembers that an object was counted. An event that arrives later is followed, but not counted as new.
    Set it no shorter than the retention of the queue, and of its dead-letter queue if that is redriven.
    """

    @property
    def dedup_retention_seconds(self) -> float:
        """`dedup_retention_days` in seconds."""
        return self.dedup_retention_days * DAY_SECONDS
