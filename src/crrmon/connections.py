"""What the settings name outside, made into what reaches it: AWS, accounts, queues, webhooks, CloudWatch, ledger."""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.cloudwatch import CloudWatchSink
from crrmon.adapters.fast.client_choice import ClientChoice
from crrmon.adapters.remedies import SET_REGION
from crrmon.adapters.sdk_settings import SdkSettingsError, faults, forget_blanks
from crrmon.adapters.sqs import SqsInbox
from crrmon.adapters.webhook import WebhookInbox, WebhookPort
from crrmon.config import LedgerSettings, Queue, Settings, Webhook
from crrmon.domain.queue_address import queue_name, region_of
from crrmon.ledger.stored_ledger import StoredLedger
from crrmon.ports.clock import Clock, Dates
from crrmon.ports.ledger import Ledger
from crrmon.ports.meters import Meters
from crrmon.ports.store import Store

SPARE_CONNECTIONS = 24
"""For deletes and extensions, beside the long polls."""


def accounts_of(settings: Settings) -> list[KnownAccount]:
    """Hand the settings of accounts over to what uses them."""
    return [KnownAccount(**account.model_dump()) for account in settings.accounts]


def queues_of(settings: Settings, aws: AwsSession) -> list[SqsInbox]:
    """Return the queues that the settings name."""
    return [
        SqsInbox(aws, queue.url, region=queue.region, name=name)
        for queue, name in zip(settings.queues, queue_names(settings.queues), strict=True)
    ]


def sink_of(settings: Settings, aws: AwsSession) -> CloudWatchSink | None:
    """Return what windows are sent to; None where nothing is."""
    report = settings.report
    if not report.cloudwatch:
        return None
    return CloudWatchSink(aws, namespace=report.namespace, region=report.region)


def webhooks_of(
    settings: Settings, *, meters: Meters, oddity: Callable[[str, str], None]
) -> list[WebhookInbox]:
    """Return the ports that the settings open for stores.

    Args:
        settings: all of them.
        meters: count the requests.
        oddity: told the reason and the address of what strangers do there.
    """
    return [
        WebhookInbox(_port_of(webhook, f"inboxes[{place}]"), meters=meters, oddity=oddity)
        for place, webhook in enumerate(settings.inboxes)
    ]


def _port_of(webhook: Webhook, setting: str) -> WebhookPort:
    return WebhookPort(
        name=webhook.name,
        setting=setting,
        host=webhook.host,
        port=webhook.port,
        token=webhook.token.get_secret_value() if webhook.token else None,
        token_file=webhook.token_file,
        certificate_file=webhook.certificate_file,
        key_file=webhook.key_file,
    )


def _connections(settings: Settings) -> int:
    """Return how many connections one client may need: long polls must not take the place of what is urgent."""
    polls = settings.intake.receivers * len(settings.queues)
    return max(settings.polling.concurrency, polls + SPARE_CONNECTIONS)


def queue_names(queues: Sequence[Queue]) -> list[str]:
    """Name each queue for logs, labels and loops: by its own name, with the region where several share it.

    One name in all regions is usual. No two may come out the same: they would take each other's place.
    """
    short = [queue_name(queue.url) for queue in queues]
    regional = [
        f"{name}@{one.region or region_of(one.url) or ''}"
        for name, one in zip(short, queues, strict=True)
    ]
    candidates = zip(short, regional, (one.url for one in queues), strict=True)
    return [
        name if short.count(name) == 1 else place if regional.count(place) == 1 else url
        for name, place, url in candidates
    ]


def aws_of(
    settings: Settings, *, dates: Dates | None = None, choice: ClientChoice | None = None
) -> AwsSession:
    """Open the way to AWS; an asynchronous context.

    Args:
        settings: of the daemon.
        dates: told what AWS's answers say about the time.
        choice: which client to use instead of what the settings say; the SDK's says nothing of itself in a log.
    """
    return AwsSession(
        endpoint_url=settings.aws.endpoint_url,
        default_region=settings.aws.region,
        max_connections=_connections(settings),
        dates=dates,
        # Without a queue, nothing of AWS is asked before an event comes; and what stores write, they date.
        stores_tell_time=not settings.queues,
        choice=choice or settings.aws.client,
    )


def check_sdk(settings: Settings, *, daemon: bool = True) -> None:
    """Make sure that AWS's SDK can be used as it is set up, as far as that can be known without asking anybody.

    Its variables without a value are taken out of the environment: they count as not set.

    Args:
        settings: say what the SDK is needed for.
        daemon: whether for all of it; else for the table of the ledger alone.

    Raises:
        SdkSettingsError: it cannot.
    """
    forget_blanks(os.environ)
    found = faults(os.environ)
    needing = ", ".join(_without_region(settings, daemon=daemon))
    if not found and needing and aws_of(settings).default_region() is None:
        found = [f"no region is known for {needing}: {SET_REGION}"]
    if found:
        raise SdkSettingsError("\n".join(found))


def _without_region(settings: Settings, *, daemon: bool) -> Iterator[str]:
    """List what is reached in the default region."""
    for number, queue in enumerate(settings.queues if daemon else ()):
        if not (queue.region or region_of(queue.url)):
            yield f"queues[{number}]"
    if daemon and settings.report.cloudwatch and not settings.report.region:
        yield "report"
    if settings.ledger.kind == "dynamodb" and not settings.ledger.dynamodb.region:
        yield "ledger.dynamodb"


async def open_ledger(
    settings: LedgerSettings, aws: AwsSession, *, clock: Clock, create: bool = True
) -> Ledger:
    """Open the ledger that the settings name.

    Args:
        settings: of the ledger.
        aws: the way to a table.
        clock: tells what is past the dedup retention.
        create: whether a new one may be created where a server has none of this name; if not, nothing is written.

    Raises:
        UnusableLedgerError: somebody must act; the text says how.
        LedgerError: trying again may help.
    """
    return await StoredLedger.open(
        await open_store(settings, aws, clock=clock, rehearse=create),
        shards=settings.shards,
        retention_seconds=settings.dedup_retention_seconds,
        clock=clock,
        # Whoever only reads looks for the file first: of these, opening makes what is not there.
        create=create or settings.kind in ("memory", "sqlite"),
    )


async def open_store(
    settings: LedgerSettings, aws: AwsSession, *, clock: Clock, rehearse: bool = True
) -> Store:
    """Open what the ledger lies in; no other kind of store is imported.

    Args:
        settings: of the ledger.
        aws: the way to a table.
        clock: tells what has expired.
        rehearse: whether a Redis server is asked for all that the user needs, which writes.

    Raises:
        UnusableLedgerError: somebody must act; the text says how.
        LedgerError: trying again may help.
    """
    match settings.kind:
        case "memory":
            from crrmon.adapters.stores.memory import MemoryStore

            return MemoryStore()
        case "sqlite":
            from crrmon.adapters.stores.sqlite.store import SqliteStore

            return await SqliteStore.open(settings.path)
        case "redis":
            from crrmon.adapters.stores.redis.server import RedisServer
            from crrmon.adapters.stores.redis.store import RedisStore

            redis = settings.redis
            server = RedisServer(
                url=redis.url,
                password=redis.password.get_secret_value() if redis.password else None,
                password_file=redis.password_file,
                ca_file=redis.ca_file,
                cluster=redis.cluster,
                prefix=redis.prefix,
            )
            return await RedisStore.open(server, rehearse=rehearse)
        case "dynamodb":
            from crrmon.adapters.stores.dynamodb.store import DynamoDBStore

            return await DynamoDBStore.open(
                aws,
                table=settings.dynamodb.table,
                region=settings.dynamodb.region,
                clock=clock,
            )


@contextlib.asynccontextmanager
async def opened_ledger(
    settings: LedgerSettings, aws: AwsSession, *, clock: Clock, create: bool = False
) -> AsyncIterator[Ledger]:
    """Open a ledger, as `open_ledger` does, and close it at the end."""
    ledger = await open_ledger(settings, aws, clock=clock, create=create)
    try:
        yield ledger
    finally:
        await ledger.close()


@contextlib.asynccontextmanager
async def tried_ledger(
    settings: LedgerSettings, aws: AwsSession, clock: Clock
) -> AsyncIterator[Ledger]:
    """
    Open the ledger to try it: one of its kind beside it stands for a file that is not there yet, and on Redis none is made.
    """
    path, new = settings.path, settings.kind == "sqlite" and not settings.path.exists()
    if new:
        beside = path.with_name(f".{path.name}.check-{uuid.uuid4().hex[:12]}")
        settings = settings.model_copy(update={"path": beside})
    try:
        # In a table that was made for it, a ledger is started as the daemon would: only that shows that it may write.
        create = settings.kind == "dynamodb"
        async with opened_ledger(settings, aws, clock=clock, create=create) as ledger:
            yield ledger
    finally:
        if new:
            for left in settings.path.parent.glob(f"{settings.path.name}*"):
                left.unlink(missing_ok=True)
