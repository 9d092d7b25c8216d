"""What was found at AWS: which buckets replicate whereto, what tells of them today, and what could not be read.

All rules of a bucket count, in any order and of both versions, and all their destinations; only a rule that says that
it is disabled does not. What cannot be read of one bucket, or of one account, is listed with its reason, and keeps
nothing else from being found.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from crrmon.domain import routes
from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.domain.deployment.places import Place
from crrmon.domain.objects import UNKNOWN_DESTINATION

_ELSEWHERE = "no account that was searched has it: add its account to those to search"


class BucketFound(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that could be read."""

    name: str
    place: Place
    rules: tuple[routes.Rule, ...] = ()
    """All of its replication rules that are not disabled, in the order of the configuration."""
    disabled_rules: int = 0
    """How many there are besides."""
    rules_without_metrics: tuple[str, ...] = ()
    """The Ids of rules for which S3 sends no replication notices, since they have no metrics; sorted."""
    notifications: NotificationConfiguration = NotificationConfiguration()
    trails: tuple[str, ...] = ()
    """The ARNs of trails that record its writes today, ours included; sorted."""
    writes_per_second: float | None = None
    """How many objects are written and deleted in its busiest minute, by its request metrics; None where it has none.

    A request that deletes many objects counts once, so it may be more.
    """
    gaps: tuple[str, ...] = ()
    """What could not be read of it and need not be, with the reason: its trails, its rate."""

    @property
    def replicates(self) -> bool:
        """Whether any rule might replicate its objects."""
        return bool(self.rules)

    @property
    def destinations(self) -> tuple[str, ...]:
        """The names of all buckets that its rules replicate to, sorted, each once, as far as they are understood."""
        return tuple(sorted({rule.destination for rule in self.rules} - {UNKNOWN_DESTINATION}))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What was not understood in its rules, for people."""
        return tuple(rule.doubt for rule in self.rules if rule.doubt)


class UnreadBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket about which too little could be read to do anything for it."""

    name: str
    account: str
    reason: str
    """What AWS said, and what to do about it."""


class UnreadAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account, or one region of it, in which nothing could be read."""

    account: str
    """Twelve digits, or as the configuration has it; empty for that of the credentials at hand, if it is not known."""
    region: str = ""
    """Empty where it is all of them."""
    reason: str
    """What AWS said, and what to do about it."""


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that others replicate to."""

    name: str
    sources: tuple[str, ...]
    """The names of those that do, sorted."""
    owner: str | None
    """The account that owns it: where it was found, or what the rules say; None where neither tells."""
    found: BucketFound | None
    """The bucket itself; None where it was not read."""
    reason: str = ""
    """Why it was not read; empty where it was."""


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in all accounts."""

    buckets: tuple[BucketFound, ...] = ()
    unread: tuple[UnreadBucket, ...] = ()
    unread_accounts: tuple[UnreadAccount, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not (self.unread or self.unread_accounts)

    def replicating(self) -> tuple[BucketFound, ...]:
        """Return the buckets that replicate, by account, region and name."""
        return _in_order(bucket for bucket in self.buckets if bucket.replicates)

    def destinations(self) -> tuple[Destination, ...]:
        """Return all buckets that are replicated to, by name, whether or not they were found themselves."""
        sources: dict[str, set[str]] = {}
        owners: dict[str, str] = {}
        for bucket in self.buckets:
            for rule in bucket.rules:
                if rule.destination == UNKNOWN_DESTINATION:
                    continue
                sources.setdefault(rule.destination, set()).add(bucket.name)
                if rule.owner:
                    owners[rule.destination] = rule.owner
        found = {bucket.name: bucket for bucket in self.buckets}
        reasons = {bucket.name: bucket.reason for bucket in self.unread}
        return tuple(
            Destination(
                name=name,
                sources=tuple(sorted(sources[name])),
                owner=found[name].place.account if name in found else owners.get(name),
                found=found.get(name),
                reason="" if name in found else reasons.get(name, _ELSEWHERE),
            )
            for name in sorted(sources)
        )


def bucket_found(
    name: str,
    *,
    place: Place,
    replication: Mapping[str, Any] | None,
    notifications: NotificationConfiguration,
    trails: Iterable[str] = (),
    writes_per_second: float | None = None,
    gaps: Sequence[str] = (),
) -> BucketFound:
    """Put together what was read of a bucket.

    Args:
        name: the bucket's.
        place: where it is.
        replication: GetBucketReplication's ReplicationConfiguration; None for a bucket that has none.
        notifications: what it tells of today.
        trails: the ARNs of trails that record its writes.
        writes_per_second: see `BucketFound`.
        gaps: see `BucketFound`.
    """
    raw = dict(replication) if replication is not None else None
    listed = (raw or {}).get("Rules")
    rules = [rule for rule in listed if isinstance(rule, dict)] if isinstance(listed, list) else []
    disabled = [rule for rule in rules if rule.get("Status") == "Disabled"]
    silent = (rule for rule in rules if rule not in disabled and not _has_metrics(rule))
    return BucketFound(
        name=name,
        place=place,
        # When it was fetched matters to the daemon alone.
        rules=routes.parse(raw, fetched_at=0.0).rules,
        disabled_rules=len(disabled),
        rules_without_metrics=tuple(sorted(str(rule.get("ID", "")) for rule in silent)),
        notifications=notifications,
        trails=tuple(sorted(trails)),
        writes_per_second=writes_per_second,
        gaps=tuple(gaps),
    )


def _has_metrics(rule: Mapping[str, Any]) -> bool:
    destination = rule.get("Destination")
    metrics = destination.get("Metrics") if isinstance(destination, dict) else None
    return isinstance(metrics, dict) and metrics.get("Status") == "Enabled"


def _in_order(buckets: Iterable[BucketFound]) -> tuple[BucketFound, ...]:
    return tuple(sorted(buckets, key=lambda bucket: (bucket.place, bucket.name)))
