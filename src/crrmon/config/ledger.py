"""Where what is pending is remembered."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from crrmon.config.addresses import redis_url
from crrmon.config.section import DAY_SECONDS, NUMBER, Region, Section, held, in_quotes


class RedisSettings(Section):
    """The server of the redis ledger: Redis from 6.2 on, or Valkey."""

    url: Annotated[str, AfterValidator(redis_url)] = "redis://127.0.0.1:6379/0"
    """
    redis://HOST:PORT/DATABASE, or rediss:// for TLS. No password here; a user name is redis://NAME@HOST:PORT.
    """
    password: Annotated[SecretStr, BeforeValidator(in_quotes)] | None = None
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
        return held(self, rules)


def _no_tag_of_aws(name: str) -> str:
    if name.lower().startswith("aws:"):
        raise ValueError("AWS keeps tags that begin with aws: for itself: take another name")
    return name


# Of what a tag may hold, AWS counts letters of all scripts.
Tag = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_no_tag_of_aws)]


TagValue = Annotated[str, Field(max_length=256)]


class DynamoDBSettings(Section):
    """The table of the dynamodb ledger; `crrmon ledger create` makes it."""

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = "crrmon"
    """Name of the table: one for each monitor."""
    region: Region | None = None
    """Region of the table; else `aws.region`."""
    tags: Annotated[dict[Tag, TagValue], Field(max_length=50)] = {}  # noqa: RUF012 - pydantic copies it
    """Tags that `crrmon ledger create` gives the table."""


class LedgerSettings(Section):
    """Where what is pending is remembered. docs/operations.md says which kind to choose."""

    kind: Literal["sqlite", "redis", "dynamodb", "memory"] = "sqlite"
    """
    sqlite: a file on a local volume, for one replica. redis, dynamodb: for several. memory: forgets everything when
    the daemon ends; for trying out.
    """
    path: Path = Path("crrmon.db")
    """The file of the sqlite ledger; not on a network filesystem."""
    redis: RedisSettings = RedisSettings()
    dynamodb: DynamoDBSettings = DynamoDBSettings()
    shards: Annotated[int, Field(ge=1, le=4096), NUMBER] = 64
    """Into how many parts the ledger is divided, and at most how many replicas share the work; fixed when it is made."""
    dedup_retention_days: Annotated[float, Field(gt=0, le=30), NUMBER] = 4.0
    """
    How long it is remembered that an object was counted. An event that comes later than this is followed, but not
    counted as new. No shorter than the retention of the queue and its dead-letter queue, if those are redriven.
    """

    @property
    def dedup_retention_seconds(self) -> float:
        """`dedup_retention_days` in seconds."""
        return self.dedup_retention_days * DAY_SECONDS
