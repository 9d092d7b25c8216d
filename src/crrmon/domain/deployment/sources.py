"""How the events of each bucket come, and why that way.

Straight from S3 to the queue is best: at once, without charge, and with the replication notices that come no other way.
But S3 takes no entry that overlaps with one that is there. The switch for EventBridge overlaps with nothing, so that is
what is chosen then. CloudTrail is for whoever asks for it.

What comes by EventBridge, and by a trail through EventBridge, counts against the number of events that EventBridge
delivers in a second: of an account and region, not of a bucket.
"""

import enum
from collections.abc import Iterable, Mapping

import msgspec

from crrmon.domain.deployment import notifications, quotas
from crrmon.domain.deployment.discovery import BucketFound, Discovery
from crrmon.domain.deployment.notifications import Entry, Kind, Overlap
from crrmon.domain.deployment.places import Place

WRITE_EVENTS = ("s3:LifecycleExpiration:Delete", "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
"""What the daemon follows of a source bucket."""

ARRIVAL_EVENTS = ("s3:ObjectCreated:*",)
"""What tells of replicas in a destination bucket."""

NOTICE_EVENTS = ("s3:Replication:*",)
"""What S3 tells of replication itself: to queues, topics and functions only."""


class Source(enum.StrEnum):
    """By which way the events of a bucket come."""

    NOTIFICATIONS = "notifications"
    EVENTBRIDGE = "eventbridge"
    CLOUDTRAIL = "cloudtrail"


class Part(enum.StrEnum):
    """What a bucket is to replication."""

    SOURCE = "source"
    DESTINATION = "destination"
    BOTH = "both"
    """Its events as a source tell of replicas, too, whether or not those are asked for."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever deploys asked for."""

    source: Source | None = None
    """By which way all events are to come; None for the best that each bucket allows."""
    notices: bool = False
    """Whether S3's replication notices are wanted."""
    destination_events: bool = False
    """Whether destination buckets are to tell of replicas."""


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """What is ours, or is to be: an entry in each bucket's configuration, and a trail."""

    identity: str
    """The entry's Id, the same in all buckets."""
    queue_arn: str
    """Of the queue in the bucket's account and region."""
    trail_arn: str
    """Of the trail there, whether or not there is one."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of one bucket are to come."""

    bucket: str
    place: Place
    part: Part
    source: Source
    why: str
    """In a sentence, for people."""
    entry: Entry | None = None
    """Ours, as it is to stand in the bucket's notification configuration; None for none."""
    switch: bool = False
    """Whether the bucket's switch for EventBridge must be on."""
    overlaps: tuple[Overlap, ...] = ()
    """The entries of others that kept ours, or a part of it, out."""
    conflict: str = ""
    """Why S3 would refuse what was asked for, and the way out, for people; empty where it would not."""
    warnings: tuple[str, ...] = ()
    """What else people should know, in a sentence each."""

    @property
    def uses_eventbridge(self) -> bool:
        """Whether its events count as EventBridge's invocations: those that a trail records do, too."""
        return self.source is not Source.NOTIFICATIONS


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What EventBridge is to deliver to us in one region of an account, beside what it may deliver there."""

    place: Place
    rates: Mapping[str, float | None]
    """What is written and deleted a second (`BucketFound.writes_per_second`), by the names of the buckets that send
    through it; None where that is not known.
    """
    quota: float
    """How many events EventBridge delivers in a second, to all targets of the account in the region."""

    @property
    def per_second(self) -> float:
        """The sum of the rates that are known."""
        return sum(rate for rate in self.rates.values() if rate is not None)

    @property
    def notable(self) -> bool:
        """Whether it is so much that people are warned."""
        return quotas.notable(self.per_second, self.quota)

    def sentences(self) -> str:
        """Say it, for people, with what to do where it is notable."""
        unknown = sum(rate is None for rate in self.rates.values())
        known = len(self.rates) - unknown
        said = (
            f"EventBridge delivers {self.quota:,.0f} events a second in {self.place.region} of {self.place.account}, to all "
            "targets of the account."
        )
        if known:
            said += f" Up to {self.per_second:,.0f} would come from {_buckets(known)}."
        if unknown:
            said += f" The rate of {_buckets(unknown)} is not known: there are no request metrics."
        if self.notable:
            said += (
                f" What exceeds it comes late: request an increase of the quota {quotas.INVOCATIONS.code}, or let the "
                "busiest buckets send straight to the queue."
            )
        return said


def parts(discovery: Discovery, wish: Wish) -> tuple[tuple[BucketFound, Part], ...]:
    """Return all buckets that are to send events, and what they are; by account, region and name.

    Destinations that were not found themselves are not among them: see `Discovery.destinations`.
    """
    receiving = {destination.name for destination in discovery.destinations()}
    found = []
    for bucket in sorted(discovery.buckets, key=lambda bucket: (bucket.place, bucket.name)):
        receives = bucket.name in receiving
        if bucket.replicates:
            found.append((bucket, Part.BOTH if receives else Part.SOURCE))
        elif receives and wish.destination_events:
            found.append((bucket, Part.DESTINATION))
    return tuple(found)


def choose(bucket: BucketFound, part: Part, *, wish: Wish, ours: Ours) -> Choice:
    """Choose how the events of a bucket come.

    Args:
        bucket: which.
        part: what it is to replication.
        wish: what was asked for.
        ours: what is ours, or is to be.
    """
    events = ARRIVAL_EVENTS if part is Part.DESTINATION else WRITE_EVENTS
    # By the other ways no entry is needed for these, so there is nothing to overlap.
    has_entry = wish.source in (None, Source.NOTIFICATIONS)
    clashes = _overlaps(bucket, events, ours) if has_entry else ()
    full = len(_others(bucket, ours)) >= quotas.ENTRIES_PER_BUCKET
    source, why = _source(wish, clashes, full=full)
    notices = _notices(bucket, part, wish=wish, ours=ours, full=full)
    direct = events if source is Source.NOTIFICATIONS else ()
    subscribed = (*direct, *notices.events)
    return Choice(
        bucket=bucket.name,
        place=bucket.place,
        part=part,
        source=source,
        why=why,
        entry=_entry(subscribed, ours) if subscribed else None,
        switch=source is Source.EVENTBRIDGE,
        overlaps=(*clashes, *notices.overlaps),
        conflict=_conflict(bucket, clashes, full=full) if direct else "",
        warnings=(
            *notices.warnings,
            *_two_way(bucket, part, source),
            *_twice(bucket, source, ours),
        ),
    )


def loads(
    choices: Iterable[Choice],
    discovery: Discovery,
    *,
    invocations: Mapping[Place, float] | None = None,
) -> tuple[Load, ...]:
    """Add up what EventBridge is to deliver in each region of each account, in their order.

    Args:
        choices: of all buckets.
        discovery: which has their rates.
        invocations: EventBridge's quota of invocations a second where the account's own is known; elsewhere the
            default counts.
    """
    known = invocations or {}
    rates = {bucket.name: bucket.writes_per_second for bucket in discovery.buckets}
    by_place: dict[Place, dict[str, float | None]] = {}
    for choice in choices:
        if choice.uses_eventbridge:
            by_place.setdefault(choice.place, {})[choice.bucket] = rates.get(choice.bucket)
    return tuple(
        Load(
            place=place,
            rates=by_place[place],
            quota=known.get(place, quotas.invocations_per_second(place.region)),
        )
        for place in sorted(by_place)
    )


class _Notices(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of S3's replication notices."""

    events: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    warnings: tuple[str, ...] = ()


def _source(wish: Wish, clashes: tuple[Overlap, ...], *, full: bool) -> tuple[Source, str]:
    """Return the way, and why it is that."""
    if wish.source is not None:
        return wish.source, f"asked for by --source {wish.source}"
    if clashes:
        others = "; ".join(str(clash.theirs) for clash in clashes)
        why = (
            f"S3 refuses a second entry for the same events and keys, and the bucket has {others}"
        )
        return Source.EVENTBRIDGE, why
    if full:
        why = f"the bucket has {quotas.ENTRIES_PER_BUCKET} entries, and S3 takes no more"
        return Source.EVENTBRIDGE, why
    return (
        Source.NOTIFICATIONS,
        "straight from S3, within seconds and free of charge: no other entry overlaps",
    )


def _notices(bucket: BucketFound, part: Part, *, wish: Wish, ours: Ours, full: bool) -> _Notices:
    """Find out whether S3's replication notices of a bucket can come, which no other way brings."""
    if not wish.notices or part is Part.DESTINATION:
        return _Notices()
    if clashes := _overlaps(bucket, NOTICE_EVENTS, ours):
        return _Notices(
            overlaps=clashes,
            warnings=tuple(
                f"S3's replication notices do not come: entry {clash.theirs} has them. {_fan_out(clash.theirs)}"
                for clash in clashes
            ),
        )
    if full:
        text = (
            f"S3's replication notices do not come: the bucket has {quotas.ENTRIES_PER_BUCKET} entries, and S3 takes "
            "no more."
        )
        return _Notices(warnings=(text,))
    silent = bucket.rules_without_metrics
    text = (
        f"S3 sends no replication notices for rules without metrics: {', '.join(map(repr, silent))}. Turn metrics on in "
        "them."
    )
    return _Notices(events=NOTICE_EVENTS, warnings=(text,) if silent else ())


def _fan_out(theirs: Entry) -> str:
    """Say how two can be told of the same events."""
    if theirs.kind is Kind.TOPIC:
        return "Subscribe the queue to that topic."
    return "Put an SNS topic in its place, to which both subscribe."


def _conflict(bucket: BucketFound, clashes: tuple[Overlap, ...], *, full: bool) -> str:
    if clashes:
        both = "; ".join(
            f"ours {clash.ours} and {clash.theirs} share {', '.join(clash.events)}, as for "
            f"{f'the key {clash.example_key!r}' if clash.example_key else 'any key'}"
            for clash in clashes
        )
        return (
            f"S3 would refuse the entry for {bucket.name}: {both}. Choose --source eventbridge (or auto), or: "
            f"{' '.join(dict.fromkeys(_fan_out(clash.theirs) for clash in clashes))}"
        )
    if full:
        return (
            f"S3 would refuse the entry for {bucket.name}: it has {quotas.ENTRIES_PER_BUCKET}, and S3 takes no more. "
            "Choose --source eventbridge (or auto)."
        )
    return ""


def _two_way(bucket: BucketFound, part: Part, source: Source) -> tuple[str, ...]:
    if source is not Source.EVENTBRIDGE or part is not Part.BOTH:
        return ()
    text = (
        f"{bucket.name} replicates and is replicated to, and S3's events through EventBridge do not tell a replica from "
        "a write: each takes a HEAD to find out, and delete markers there are not counted."
    )
    return (text,)


def _twice(bucket: BucketFound, source: Source, ours: Ours) -> tuple[str, ...]:
    others = [trail for trail in bucket.trails if trail != ours.trail_arn]
    if source is not Source.CLOUDTRAIL or not others:
        return ()
    text = (
        f"CloudTrail charges for each trail: what is written to {bucket.name} is recorded already by "
        f"{', '.join(others)}."
    )
    return (text,)


def _buckets(number: int) -> str:
    return f"{number} bucket" if number == 1 else f"{number} buckets"


def _others(bucket: BucketFound, ours: Ours) -> list[Entry]:
    return [entry for entry in bucket.notifications.entries if entry.id != ours.identity]


def _entry(events: Iterable[str], ours: Ours) -> Entry:
    return notifications.queue_entry(ours.identity, arn=ours.queue_arn, events=events)


def _overlaps(bucket: BucketFound, events: Iterable[str], ours: Ours) -> tuple[Overlap, ...]:
    return notifications.overlaps(bucket.notifications, _entry(events, ours))
