"""`crrmon deploy discover`: the search, and what it found, printed."""

import asyncio
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from crrmon import logs, provisioning
from crrmon.adapters.sdk_settings import SdkSettingsError
from crrmon.cli.deploy.search_progress import SearchProgress
from crrmon.cli.escaping import on_one_line
from crrmon.cli.output import EXIT_INTERRUPTED, misuse, print_json, refuse
from crrmon.cli.settings import settings_or_exit
from crrmon.domain.deployment.discovery import BucketFound, Destination, Discovery
from crrmon.domain.deployment.notifications import Entry, Kind
from crrmon.domain.objects import UNKNOWN_DESTINATION

_WHOLE = 240
"""Characters that a line may have where no terminal breaks it."""

_NAMED = 5
"""How many of many are named where they share a reason."""

_OWN = "the account of the credentials at hand"


def discover(config: Path | None, output: str, *, exclude_regions: Collection[str]) -> None:
    """Search, and say what was found."""
    settings = settings_or_exit(config, queues=False)
    try:
        provisioning.check_sdk()
    except SdkSettingsError as error:
        misuse(str(error))
    # What the SDK would log is in the results.
    logs.configure(
        level="error", format=settings.log.format, keys=settings.log.keys, stream=sys.stderr
    )
    screen = SearchProgress(Console(stderr=True))
    try:
        with screen.live():
            discovery = asyncio.run(
                provisioning.discover(settings, told=screen.show, exclude_regions=exclude_regions)
            )
    except KeyboardInterrupt:
        refuse("interrupted; nothing was changed", EXIT_INTERRUPTED)
    if output == "json":
        print_json(_plain(discovery))
    else:
        _print(discovery)
    if not discovery.complete:
        raise typer.Exit(1)


# ---- for people ----


def _print(discovery: Discovery) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WHOLE)
    replicating = discovery.replicating()
    if replicating:
        console.print(_table(replicating))
    console.print(_sum(discovery), markup=False, highlight=False, soft_wrap=True)
    for line in _remarks(discovery):
        console.print(on_one_line(line), soft_wrap=True)


def _table(buckets: Iterable[BucketFound]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("account", "region", "bucket", "replicates to", "told by"):
        table.add_column(heading, no_wrap=heading in ("account", "region"), overflow="fold")
    for bucket in buckets:
        table.add_row(
            bucket.place.account,
            bucket.place.region,
            on_one_line(bucket.name),
            on_one_line(_whereto(bucket)),
            on_one_line("; ".join(_told_by(bucket)) or "nothing"),
        )
    return table


def _whereto(bucket: BucketFound) -> str:
    unknown = any(rule.destination == UNKNOWN_DESTINATION for rule in bucket.rules)
    return ", ".join((*bucket.destinations, *(["?"] if unknown else [])))


def _told_by(bucket: BucketFound) -> list[str]:
    """Say who learns of an object of a bucket today."""
    return [
        *map(_subscriber, bucket.notifications.entries),
        *(["EventBridge"] if bucket.notifications.eventbridge else []),
        *(f"trail {trail.rpartition('/')[2]}" for trail in bucket.trails),
    ]


def _subscriber(entry: Entry) -> str:
    kind = {Kind.QUEUE: "queue", Kind.TOPIC: "topic", Kind.LAMBDA: "function"}[entry.kind]
    name = entry.arn.rpartition(":")[2]
    events = ", ".join(event.removeprefix("s3:") for event in entry.events)
    keys = f" of {entry.prefix}*{entry.suffix}" if entry.prefix or entry.suffix else ""
    return f"{kind} {name} ({events}{keys})"


def _sum(discovery: Discovery) -> str:
    if not discovery.buckets:
        return "There are no buckets." if discovery.complete else "Nothing could be read:"
    places = {bucket.place for bucket in discovery.buckets}
    regions = _count(len({place.region for place in places}), "region")
    accounts = _count(len({place.account for place in places}), "account")
    said = f"{_count(len(discovery.buckets), 'bucket')} in {regions} of {accounts}: {_replicating(discovery)}."
    return said if discovery.complete else f"{said} Not everything could be read:"


def _replicating(discovery: Discovery) -> str:
    replicating = len(discovery.replicating())
    if not replicating:
        return "none replicates"
    destinations = _count(len(discovery.destinations()), "bucket")
    return (
        f"{replicating:,} {'replicates' if replicating == 1 else 'replicate'}, to {destinations}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _remarks(discovery: Discovery) -> list[str]:
    """List what could not be read, then what was not understood or is not known; what many share is said once."""
    unread = [
        *(
            (f"account {account.account}" if account.account else _OWN, account.reason)
            for account in discovery.unread_accounts
            if not account.region
        ),
        *(
            (f"region {account.region} of account {account.account}", account.reason)
            for account in discovery.unread_accounts
            if account.region
        ),
        *((f"bucket {bucket.name}", bucket.reason) for bucket in discovery.unread),
    ]
    known = [
        (f"bucket {bucket.name}", said)
        for bucket in discovery.replicating()
        for said in (*bucket.doubts, *bucket.gaps)
    ]
    elsewhere = [
        (f"destination {destination.name}", destination.reason)
        for destination in discovery.destinations()
        if destination.found is None
    ]
    return [*_grouped(unread), *_grouped(known), *_grouped(elsewhere)]


def _grouped(said: Iterable[tuple[str, str]]) -> list[str]:
    """Say once what is said of many, even where each time the name of the one that it is said of stands in it."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for subject, reason in said:
        what, _, name = subject.rpartition(" ")
        groups.setdefault((what, _without(name, reason)), []).append((name, reason))
    lines = []
    for (what, shared), found in groups.items():
        names = ", ".join(name for name, _ in found[:_NAMED])
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        alone = len(found) == 1
        lines.append(
            f"{what}{'' if alone else 's'} {names}{more}: {found[0][1] if alone else shared}"
        )
    return lines


def _without(name: str, reason: str) -> str:
    """Put a word in the place of a name."""
    return re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", "NAME", reason)


# ---- for machines ----


def _plain(discovery: Discovery) -> dict[str, Any]:
    return {
        "complete": discovery.complete,
        "buckets": [_plain_bucket(bucket) for bucket in discovery.buckets],
        "destinations": [_plain_destination(one) for one in discovery.destinations()],
        "unread_accounts": [
            {
                "account": account.account or None,
                "region": account.region or None,
                "reason": account.reason,
            }
            for account in discovery.unread_accounts
        ],
        "unread_buckets": [
            {"account": bucket.account, "bucket": bucket.name, "reason": bucket.reason}
            for bucket in discovery.unread
        ],
    }


def _plain_bucket(bucket: BucketFound) -> dict[str, Any]:
    return {
        "account": bucket.place.account,
        "region": bucket.place.region,
        "bucket": bucket.name,
        "replicates": bucket.replicates,
        "rules": [
            {
                "id": rule.id,
                "prefix": rule.prefix,
                "destination": None
                if rule.destination == UNKNOWN_DESTINATION
                else rule.destination,
                "destination_account": rule.owner,
                "doubt": rule.doubt or None,
            }
            for rule in bucket.rules
        ],
        "disabled_rules": bucket.disabled_rules,
        "rules_without_metrics": bucket.rules_without_metrics,
        "notifications": [
            {
                "id": entry.id,
                "to": entry.kind,
                "arn": entry.arn,
                "events": entry.events,
                "prefix": entry.prefix,
                "suffix": entry.suffix,
            }
            for entry in bucket.notifications.entries
        ],
        "eventbridge": bucket.notifications.eventbridge,
        "trails": bucket.trails,
        "gaps": bucket.gaps,
    }


def _plain_destination(destination: Destination) -> dict[str, Any]:
    return {
        "bucket": destination.name,
        "account": destination.owner,
        "sources": destination.sources,
        "found": destination.found is not None,
        "reason": destination.reason or None,
    }
