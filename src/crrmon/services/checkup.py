"""Tries one call of each kind that the daemon makes, and reports what each of them proves.

Nothing is taken from a queue, no object is read, no datapoint is stored, and what is written to the ledger is removed
again. A call that cannot be tried in this way is reported as unproved, never as passed.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from crrmon.domain.checks import Check, Verdict
from crrmon.domain.objects import MarkId, ObjectVersion, Scope, provisional
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.routes import parse
from crrmon.domain.stores import StoreKind
from crrmon.ports.access import Access, AccessError, UnansweredError
from crrmon.ports.inbox import Inbox, InboxError
from crrmon.ports.ledger import (
    AbsentLedgerError,
    Ledger,
    LedgerError,
    OccupiedLedgerError,
    UnusableLedgerError,
)
from crrmon.ports.probe import Probe, UnreadableConfigurationError
from crrmon.ports.sink import RefusedPartError, Sink, SinkError
from crrmon.services.tracking.access_denials import advice

DEADLINE_SECONDS = 60.0
"""For all calls about one subject; each of them has a time of its own, too."""

NO_RECEIPT = "crrmon-check"
"""What no message was ever delivered with: SQS refuses it entry by entry, and only to whoever may make the call."""

NO_DATAPOINTS = b"[]"
"""A part without anything in it: whatever CloudWatch makes of it, nothing is stored."""

NULL_VERSION = "null"
"""The one version id that is well-formed in every bucket: S3 answers 400 to a made-up one."""

STATE = "check "
"""Starts the name of the small state that is written to the ledger and taken out again."""

Reached = Callable[[], AbstractAsyncContextManager[Ledger]]
"""Opens the ledger."""


class Estate(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings name, for these calls to be tried on."""

    own_credentials: bool
    """Whether AWS is asked for anything with the daemon's own credentials."""
    accounts: Sequence[str]
    """Ids; "*" for all others."""
    inboxes: Sequence[Inbox]
    buckets: Sequence[str]
    sink: Sink | None
    """None where nothing is sent to CloudWatch."""
    namespace: str
    ledger_kind: str


class Checkup:
    """Tries the calls.

    Args:
        estate: what they are tried on.
        access: tells whose credentials are used.
        probe: looks at buckets.
        ledger: opens the ledger; None where there is nothing to open.
        rng: names what must not exist.
    """

    def __init__(
        self,
        estate: Estate,
        *,
        access: Access,
        probe: Probe,
        ledger: Reached | None,
        rng: random.Random,
    ) -> None:
        self._estate = estate
        self._access = access
        self._probe = probe
        self._ledger = ledger
        self._rng = rng

    async def run(self) -> Sequence[Check]:
        """Try all of them, side by side; the results come in the order in which they are best fixed."""
        estate = self._estate
        tries = [
            *([("credentials", self._identity())] if estate.own_credentials else []),
            *((f"account {account}", self._account(account)) for account in estate.accounts),
            *((f"queue {inbox.name}", self._queue(inbox)) for inbox in estate.inboxes),
            *(
                (_subject(bucket, site), self._bucket(bucket, site))
                for bucket in estate.buckets
                for site in self._probe.sites(bucket)
            ),
            ("cloudwatch", self._cloudwatch()),
            ("ledger", self._kept()),
        ]
        found = await asyncio.gather(*(_in_time(subject, work) for subject, work in tries))
        named = [check for checks in found for check in checks]
        return named if estate.buckets else [*named, _NO_BUCKET]

    async def _identity(self) -> Sequence[Check]:
        def told(verdict: Verdict, found: str) -> Sequence[Check]:
            return [_check("credentials", "GetCallerIdentity", "", verdict, found)]

        try:
            return told(Verdict.PASSED, await self._access.identity())
        except UnansweredError as error:
            # The daemon itself never asks this.
            return told(Verdict.UNPROVED, str(error))
        except AccessError as error:
            return told(Verdict.FAILED, str(error))

    async def _account(self, account: str) -> Sequence[Check]:
        def told(verdict: Verdict, found: str) -> Sequence[Check]:
            return [_check(f"account {account}", "credentials", "sts:AssumeRole", verdict, found)]

        if account == "*":
            return told(Verdict.UNPROVED, "not tried: it stands for the accounts named in events")
        try:
            return told(Verdict.PASSED, await self._access.enter(account))
        except AccessError as error:
            return told(Verdict.FAILED, str(error))

    async def _queue(self, inbox: Inbox) -> Sequence[Check]:
        subject = f"queue {inbox.name}"
        checks = [
            *await self._depth(subject, inbox),
            await _attempted(
                subject,
                "DeleteMessageBatch",
                "sqs:DeleteMessage",
                inbox.acknowledge([NO_RECEIPT]),
            ),
            await _attempted(
                subject,
                "ChangeMessageVisibilityBatch",
                "sqs:ChangeMessageVisibility",
                inbox.extend([NO_RECEIPT], seconds=0),
            ),
        ]
        not_tried = "not tried, because it would take messages from the daemon; a queue with a KMS key also needs kms:Decrypt"
        return [
            *checks,
            _check(subject, "ReceiveMessage", "sqs:ReceiveMessage", Verdict.UNPROVED, not_tried),
        ]

    async def _depth(self, subject: str, inbox: Inbox) -> Sequence[Check]:
        call, needs = "GetQueueAttributes", "sqs:GetQueueAttributes"
        try:
            depth = await inbox.depth()
        except InboxError as error:
            return [_check(subject, call, needs, Verdict.FAILED, str(error))]
        if depth is None:  # not a queue that can be asked
            return []
        counts = f"{depth.visible:,} visible, {depth.in_flight:,} in flight"
        own = _check(subject, call, needs, Verdict.PASSED, counts)
        if depth.dead is not None:
            return [own]
        beside = "sqs:GetQueueUrl, sqs:GetQueueAttributes on the dead-letter queue"
        return [
            own,
            _check(subject, "dead-letter queue", beside, Verdict.FAILED, depth.trouble),
        ]

    async def _bucket(self, bucket: str, site: str | None) -> Sequence[Check]:
        subject = _subject(bucket, site)
        call, needs = "GetBucketReplication", "s3:GetReplicationConfiguration"
        prefix = ""
        try:
            raw = await self._probe.configuration(bucket, region="", owner=site)
        except UnreadableConfigurationError as error:
            read = _check(subject, call, needs, Verdict.FAILED, str(error))
        else:
            rules = parse(raw, fetched_at=0.0).rules
            # A policy may grant a prefix alone: what is looked at begins as a rule has it.
            prefix = rules[0].prefix if rules else ""
            found = (
                f"enabled rules: {len(rules)}" if rules else "no enabled rule: nothing replicates"
            )
            read = _check(subject, call, needs, Verdict.PASSED, found)
        key = f"{prefix}crrmon-check-{self._rng.getrandbits(64):016x}"
        return [read, *await self._looks(subject, bucket, site, key)]

    async def _looks(
        self, subject: str, bucket: str, site: str | None, key: str
    ) -> Sequence[Check]:
        looks = [
            (
                _check(subject, "HeadObject of a version", "s3:GetObjectVersion", Verdict.PASSED),
                await self._seen(ObjectVersion(bucket, key, NULL_VERSION), site),
            ),
            (
                _check(subject, "HeadObject of a key", "s3:GetObject", Verdict.PASSED),
                await self._seen(provisional(bucket, key, 0.0), site),
            ),
        ]
        if not any(_forbidden(seen) for _, seen in looks):
            return [_looked(check, seen, None) for check, seen in looks]
        listed = await self._listed(subject, bucket, site)
        return [listed, *(_looked(check, seen, listed) for check, seen in looks)]

    async def _seen(self, version: ObjectVersion, site: str | None) -> Observation:
        return await self._probe.look(version, region="", owner=site)

    async def _listed(self, subject: str, bucket: str, site: str | None) -> Check:
        """Find out what a 403 is about."""
        call, needs = "HeadBucket", "s3:ListBucket"
        try:
            lists = await self._probe.lists(bucket, region="", owner=site)
        except UnreadableConfigurationError as error:
            return _check(subject, call, needs, Verdict.UNPROVED, str(error))
        if lists:
            return _check(subject, call, needs, Verdict.PASSED)
        denied = f"grant s3:ListBucket on bucket {bucket}: without it S3 answers 403 for objects that are gone"
        return _check(subject, call, needs, Verdict.FAILED, f"HTTP 403; {denied}")

    async def _cloudwatch(self) -> Sequence[Check]:
        def told(verdict: Verdict, found: str) -> Sequence[Check]:
            needs = "cloudwatch:PutMetricData"
            return [_check("cloudwatch", "PutMetricData", needs, verdict, found)]

        if self._estate.sink is None:
            return []
        try:
            await self._estate.sink.send(NO_DATAPOINTS)
        except RefusedPartError:
            return told(
                Verdict.UNPROVED,
                "reached, and the call without datapoints was refused for having none, not for lack of a permission;"
                f" only a real call proves that {self._estate.namespace} may be written",
            )
        except SinkError as error:
            return told(Verdict.FAILED, str(error))
        return told(Verdict.PASSED, "a call without datapoints was accepted")

    async def _kept(self) -> Sequence[Check]:
        def told(call: str, verdict: Verdict, found: str = "") -> Check:
            return _check("ledger", call, "", verdict, found)

        if self._ledger is None:
            return [
                told("open", Verdict.PASSED, "the ledger ends with the daemon: nothing to open")
            ]
        done: list[Check] = []
        call = "open"
        try:
            async with self._ledger() as ledger:
                shown = f"{self._estate.ledger_kind}, {ledger.shards} shards"
                done.append(told(call, Verdict.PASSED, shown))
                call = "read"
                await self._read(ledger)
                done.append(told(call, Verdict.PASSED))
                call = "write"
                await self._write(ledger)
                done.append(told(call, Verdict.PASSED))
        except OccupiedLedgerError as error:
            done.append(
                told(
                    call,
                    Verdict.UNPROVED,
                    f"held by another process; if that is the daemon, this is as it should be: {error}",
                )
            )
        except AbsentLedgerError as error:
            done.append(
                told(
                    call,
                    Verdict.UNPROVED,
                    f"reached; the daemon creates the ledger at its first start: {error}",
                )
            )
        except (LedgerError, UnusableLedgerError) as error:
            done.append(told(call, Verdict.FAILED, str(error)))
        return done

    async def _read(self, ledger: Ledger) -> None:
        await ledger.seen([MarkId(key="", version_id=self._name(), bucket="", scope=Scope.SOURCE)])
        await ledger.due([0], now=0.0, limit=1)
        await ledger.backlog()

    async def _write(self, ledger: Ledger) -> None:
        name = self._name()
        await ledger.swap(name, None, b"0")
        await ledger.swap(name, b"0", None)

    def _name(self) -> str:
        return f"{STATE}{self._rng.getrandbits(64):016x}"


def _subject(bucket: str, site: str | None) -> str:
    return f"bucket {bucket}" if site is None else f"bucket {bucket} at {site}"


def _check(subject: str, call: str, needs: str, verdict: Verdict, found: str = "") -> Check:
    return Check(subject=subject, call=call, needs=needs, verdict=verdict, found=found)


_NO_BUCKET = _check(
    "buckets",
    "HeadObject, GetBucketReplication",
    "s3:GetObject, s3:GetObjectVersion, s3:ListBucket, s3:GetReplicationConfiguration",
    Verdict.UNPROVED,
    "not tried: no bucket is configured; set buckets",
)


async def _in_time(subject: str, work: Awaitable[Sequence[Check]]) -> Sequence[Check]:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await work
    except TimeoutError:
        return [
            _check(
                subject, "all", "", Verdict.FAILED, f"no answer within {DEADLINE_SECONDS:.0f} s"
            )
        ]


async def _attempted(subject: str, call: str, needs: str, work: Awaitable[Iterable[str]]) -> Check:
    """Make a call that refuses what it is given, entry by entry, where it may be made at all."""
    try:
        await work
    except InboxError as error:
        return _check(subject, call, needs, Verdict.FAILED, str(error))
    return _check(subject, call, needs, Verdict.PASSED)


def _looked(check: Check, seen: Observation, listed: Check | None) -> Check:
    """Return what a look at something that does not exist proves."""
    if seen.sight.answered:
        return msgspec.structs.replace(
            check, found="answered as for an object that does not exist"
        )
    if _forbidden(seen):
        return _denied(check, listed, StoreKind.OTHER if seen.of_store else StoreKind.S3)
    asked_in_vain = seen.sight in (Sight.THROTTLED, Sight.REFUSED)
    verdict = Verdict.UNPROVED if asked_in_vain else Verdict.FAILED
    return msgspec.structs.replace(check, verdict=verdict, found=seen.detail)


def _forbidden(seen: Observation) -> bool:
    return seen.sight is Sight.DENIED and seen.asked


def _denied(check: Check, listed: Check | None, store: StoreKind) -> Check:
    """Return which permission a 403 lacks: the look's own, or the one without which it hides a 404."""
    if listed is not None and listed.verdict is Verdict.PASSED:
        remedy = f"grant {check.needs} on the bucket's objects to the credentials that look at it"
        return msgspec.structs.replace(check, verdict=Verdict.FAILED, found=f"HTTP 403; {remedy}")
    if listed is not None and listed.verdict is Verdict.FAILED:
        found = "HTTP 403, which proves nothing as long as the bucket may not be listed"
        return msgspec.structs.replace(check, verdict=Verdict.UNPROVED, found=found)
    found = f"HTTP 403; {advice(store)}"
    return msgspec.structs.replace(check, verdict=Verdict.FAILED, found=found)
