"""The ledgers that are named on the command line of a copy."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from crrmon.cli.output import misuse, refuse
from crrmon.cli.settings import settings_or_exit
from crrmon.config import PREFIX, Settings

_KINDS = ("sqlite", "redis", "dynamodb")


class NamedLedger(msgspec.Struct, frozen=True):
    """One ledger that is named on the command line."""

    settings: Settings
    """With `ledger.kind` as it was named."""
    identity: tuple[str, ...]
    """What distinguishes this ledger from others, as far as settings can."""
    name: str
    """What to call it."""
    emptying: str
    """How to make it empty."""


def _named(settings: Settings) -> NamedLedger:
    ledger, aws = settings.ledger, settings.aws
    match ledger.kind:
        case "redis":
            url, prefix = urlsplit(ledger.redis.url), ledger.redis.prefix
            server = f"{url.hostname}:{url.port or 6379}/{url.path.strip('/') or '0'}"
            identity: tuple[str, ...] = ("redis", server, prefix)
            name = f"redis {url.netloc.rpartition('@')[2]} (prefix {prefix})"
            emptying = f"set a ledger.redis.prefix other than {prefix}, or delete the keys that start with it"
        case "dynamodb":
            table = ledger.dynamodb.table
            region = ledger.dynamodb.region or aws.region or os.environ.get("AWS_REGION", "")
            identity = ("dynamodb", aws.endpoint_url or "", region, table)
            name = f"dynamodb table {table}"
            emptying = f"delete the table {table} and recreate it with crrmon ledger create"
        case _:
            identity = ("sqlite", str(ledger.path.resolve()))
            name = f"sqlite {ledger.path}"
            emptying = f"delete {ledger.path} and, if it exists, {ledger.path}-wal"
    return NamedLedger(settings, identity, name, emptying)


def named_ledger(where: str, config: Path | None, option: str) -> NamedLedger:
    """Return the ledger that an option names, or say what is wrong with that and exit with 2."""
    if where in _KINDS:
        settings = settings_or_exit(config, queues=False)
        ledger = settings.ledger.model_copy(update={"kind": where})
        return _named(settings.model_copy(update={"ledger": ledger}))
    if where == "memory":
        misuse(f"{option} memory: a ledger in memory ends with its daemon")
    if "://" in where:
        # Not repeated here: there may be a password in it.
        misuse(f"{option}: a URL belongs in the configuration; name a kind or a file")
    path = Path(where)
    if not path.is_file():
        misuse(f"{option} {where}: is neither {', '.join(_KINDS)} nor a configuration file")
    settings = settings_or_exit(path, queues=False)
    if settings.ledger.kind == "memory":
        misuse(f"{option} {where}: its ledger.kind is memory, which ends with its daemon")
    return _named(settings)


def check_apart(source: NamedLedger, target: NamedLedger) -> None:
    """Make sure that two ledgers are not the same, and that there is one to copy from."""
    if source.identity == target.identity:
        forced = [name for name in os.environ if name.upper().startswith(f"{PREFIX}LEDGER")]
        hint = f"; {', '.join(sorted(forced))} override what any file says" if forced else ""
        misuse(f"--from and --to are the same: {source.name}{hint}")
    ledger = source.settings.ledger
    if ledger.kind == "sqlite" and not ledger.path.is_file():
        # Opening it would create it.
        refuse(f"ledger.path {ledger.path}: there is no such file to copy from")
