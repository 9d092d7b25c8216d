"""A bucket's notification configuration: ours put in and taken out, and all that is others' left as it is.

A bucket has one configuration, and S3 replaces it whole: without a version, and without a condition to write it under.
So whoever adds an entry reads all, writes all back, and reads again to see whether somebody else wrote meanwhile.
What is not ours therefore goes back as it came, fields included that nothing here knows; and whether the switch for
EventBridge is there goes back, too, since leaving it out turns it off.

S3 refuses a configuration in which two entries, whichever kind of destination they have, could both be told of one
event. Then nothing of it is stored, so that is found out here before anything is written.

NB: an SDK hands out what its model of S3 knows. What S3 has added since is lost in reading, before it comes here.
"""

import copy
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from typing_extensions import override

_METADATA = "ResponseMetadata"
"""What the SDK adds to an answer, and refuses in a request."""
_SWITCH = "EventBridgeConfiguration"
_ALL = "*"


class Kind(enum.StrEnum):
    """What an entry sends to."""

    QUEUE = "queue"
    TOPIC = "topic"
    LAMBDA = "lambda"


class _Fields(msgspec.Struct, frozen=True):
    """What S3 calls a kind of entries."""

    entries: str
    arn: str


_FIELDS = {
    Kind.QUEUE: _Fields("QueueConfigurations", "QueueArn"),
    Kind.TOPIC: _Fields("TopicConfigurations", "TopicArn"),
    Kind.LAMBDA: _Fields("LambdaFunctionConfigurations", "LambdaFunctionArn"),
}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a configuration: some events, of some keys, to one destination."""

    kind: Kind
    raw: Mapping[str, Any]
    """As S3 has it."""

    @property
    def id(self) -> str:
        """What tells it from others of the bucket; S3 makes one up where none is given."""
        return str(self.raw.get("Id", ""))

    @property
    def arn(self) -> str:
        """Of the destination."""
        return str(self.raw.get(_FIELDS[self.kind].arn, ""))

    @property
    def events(self) -> tuple[str, ...]:
        """Their types, such as `s3:ObjectCreated:*`."""
        return tuple(self.raw.get("Events", ()))

    @property
    def prefix(self) -> str:
        """What keys must begin with; empty for all."""
        return self._filter("prefix")

    @property
    def suffix(self) -> str:
        """What keys must end with; empty for all."""
        return self._filter("suffix")

    def _filter(self, wanted: str) -> str:
        return next((value for name, value in _filter_rules(self.raw) if name == wanted), "")

    @override
    def __str__(self) -> str:
        """Name it for people: destination, Id, events, keys."""
        parts = (
            f"that begin with {self.prefix!r}" if self.prefix else "",
            f"that end with {self.suffix!r}" if self.suffix else "",
        )
        keys = f" of keys {' and '.join(filter(None, parts))}" if any(parts) else " of all keys"
        return f"{self.id or 'without an Id'} ({', '.join(self.events)}{keys}, to {self.arn})"


class NotificationConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket tells of, and whom."""

    entries: tuple[Entry, ...] = ()
    switch: Mapping[str, Any] | None = None
    """What stands in the switch for EventBridge, which is nothing today; None where it is off."""
    other: Mapping[str, Any] = {}
    """Everything else that was read, by its field."""

    @property
    def eventbridge(self) -> bool:
        """Whether all events of the bucket go to the default bus of its region."""
        return self.switch is not None

    def entry(self, identity: str) -> Entry | None:
        """Return the entry with an Id, if there is one."""
        return next((entry for entry in self.entries if entry.id == identity), None)


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """Two entries that S3 does not take together."""

    ours: Entry
    theirs: Entry
    events: tuple[str, ...]
    """The types that both ask for; of `s3:ObjectCreated:*` and `s3:ObjectCreated:Put` the latter. Sorted."""
    example_key: str
    """A key, the shortest there is without prefix and suffix sharing a character, that fits both; empty for any."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How two configurations differ."""

    missing: tuple[Entry, ...] = ()
    """In the first only."""
    unexpected: tuple[Entry, ...] = ()
    """In the second only."""
    changed: tuple[tuple[Entry, Entry], ...] = ()
    """In both, under one Id, with other contents: as it is in the first, and in the second."""
    eventbridge: bool | None = None
    """What the switch is in the second, where it is another in the first; None where both have the same."""
    fields: tuple[str, ...] = ()
    """Other fields with other contents, sorted."""

    def __bool__(self) -> bool:
        """Return whether they differ at all."""
        return self != Difference()

    def sentences(self) -> tuple[str, ...]:
        """Say how the second differs, in a sentence each, for people."""
        switch = {None: (), True: ("EventBridge is on.",), False: ("EventBridge is off.",)}
        return (
            *(f"Entry {entry} is missing." for entry in self.missing),
            *(f"Entry {entry} is new." for entry in self.unexpected),
            *(f"Entry {first} is now {second}." for first, second in self.changed),
            *switch[self.eventbridge],
            *(f"{field} has other contents." for field in self.fields),
        )


def parse(answer: Mapping[str, Any]) -> NotificationConfiguration:
    """Read GetBucketNotificationConfiguration's answer, as boto3 gives it. It is copied, and not changed."""
    fields = copy.deepcopy(dict(answer))
    fields.pop(_METADATA, None)
    entries = tuple(
        Entry(kind=kind, raw=raw)
        for kind, names in _FIELDS.items()
        for raw in fields.pop(names.entries, None) or ()
    )
    switch = fields.pop(_SWITCH, None)
    return NotificationConfiguration(entries=entries, switch=switch, other=fields)


def serialize(configuration: NotificationConfiguration) -> dict[str, Any]:
    """Write what PutBucketNotificationConfiguration takes as its NotificationConfiguration. It is a copy."""
    fields = dict(configuration.other)
    for kind, names in _FIELDS.items():
        raw = [dict(entry.raw) for entry in configuration.entries if entry.kind is kind]
        if raw:
            fields[names.entries] = raw
    if configuration.switch is not None:
        fields[_SWITCH] = configuration.switch
    return copy.deepcopy(fields)


def queue_entry(identity: str, *, arn: str, events: Iterable[str]) -> Entry:
    """Create an entry that sends to a queue.

    Args:
        identity: its Id.
        arn: of the queue.
        events: types of events, such as `s3:ObjectCreated:*`; of all keys.
    """
    raw = {"Id": identity, _FIELDS[Kind.QUEUE].arn: arn, "Events": sorted(set(events))}
    return Entry(kind=Kind.QUEUE, raw=raw)


def merge(
    configuration: NotificationConfiguration,
    identity: str,
    *,
    entry: Entry | None,
    switch: bool,
    switch_off: bool = False,
) -> NotificationConfiguration:
    """Put our entry in, in place of an earlier one of ours, and leave all else as it is.

    Args:
        configuration: as the bucket has it.
        identity: the Id of our entry.
        entry: with this Id; None for none, which takes an earlier one out.
        switch: whether EventBridge must be on. Where it need not be, somebody else may need it, and it stays as it is.
        switch_off: turn EventBridge off: whoever says so knows that it was us who turned it on.

    Raises:
        ValueError: the entry has another Id; merging again would then not find it.
    """
    if entry is not None and entry.id != identity:
        raise ValueError(f"the Id of our entry is {entry.id!r}, and not {identity!r}")
    now = configuration.entry(identity)
    # What S3 wrote differently and means the same stays: then merging again changes nothing.
    ours = now if now and entry and _meaning(now) == _meaning(entry) else entry
    entries: list[Entry] = []
    for present in configuration.entries:
        if present.id != identity:
            entries.append(present)
        elif ours is not None and ours not in entries:
            entries.append(ours)
    if ours is not None and now is None:
        entries.append(ours)
    on = {} if switch and configuration.switch is None else configuration.switch
    if switch_off:
        on = None
    return msgspec.structs.replace(configuration, entries=tuple(entries), switch=on)


def remove(
    configuration: NotificationConfiguration, identity: str, *, switch_off: bool = False
) -> NotificationConfiguration:
    """Take our entry out, and leave all else as it is; as `merge`."""
    return merge(configuration, identity, entry=None, switch=False, switch_off=switch_off)


def overlap(ours: Entry, theirs: Entry) -> Overlap | None:
    """Find out whether S3 would refuse two entries in one configuration; None where it takes both.

    It refuses those that share a type of events, and of whose prefixes one begins with the other, and of whose
    suffixes one ends with the other: which is when there is a key that fits both.
    """
    events = _shared(ours.events, theirs.events)
    prefixes = sorted((ours.prefix, theirs.prefix), key=len)
    suffixes = sorted((ours.suffix, theirs.suffix), key=len)
    if not (events and prefixes[1].startswith(prefixes[0]) and suffixes[1].endswith(suffixes[0])):
        return None
    example = prefixes[1] + suffixes[1]
    return Overlap(ours=ours, theirs=theirs, events=events, example_key=example)


def overlaps(configuration: NotificationConfiguration, entry: Entry) -> tuple[Overlap, ...]:
    """Return with which entries of others one of ours overlaps; an earlier one of ours is no other."""
    others = (present for present in configuration.entries if present.id != entry.id)
    return tuple(found for other in others if (found := overlap(entry, other)))


def difference(first: NotificationConfiguration, second: NotificationConfiguration) -> Difference:
    """Compare what was read with what was written, or with what was read before.

    Nothing counts that S3 does not keep: the order of entries, of types of events, of filter rules; how `prefix` and
    `suffix` are capitalised; filters that filter nothing. An entry written without an Id comes back with any.
    """
    missing, unexpected = list(first.entries), list(second.entries)
    _pair_off(missing, unexpected, lambda one, two: _meaning(one) == _meaning(two))
    _pair_off(
        missing,
        unexpected,
        lambda one, two: (
            not one.id and _meaning(one, with_id=False) == _meaning(two, with_id=False)
        ),
    )
    changed = _pair_off(missing, unexpected, lambda one, two: one.id == two.id)
    same_switch = first.eventbridge == second.eventbridge
    known, found_now = dict(first.other), dict(second.other)
    if same_switch:
        known[_SWITCH], found_now[_SWITCH] = first.switch, second.switch
    fields = sorted(known.keys() | found_now.keys())
    differing = (field for field in fields if known.get(field) != found_now.get(field))
    return Difference(
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        changed=changed,
        eventbridge=None if same_switch else second.eventbridge,
        fields=tuple(differing),
    )


def _pair_off(
    first: list[Entry], second: list[Entry], alike: Callable[[Entry, Entry], bool]
) -> tuple[tuple[Entry, Entry], ...]:
    """Take out of both lists what is alike in them, and return it in pairs; each entry is in one pair at the most."""
    pairs = []
    left = []
    for entry in first:
        at = next((at for at, other in enumerate(second) if alike(entry, other)), None)
        if at is None:
            left.append(entry)
        else:
            pairs.append((entry, second.pop(at)))
    first[:] = left
    return tuple(pairs)


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    """Return the types of events in both, sorted; of two where one includes the other, the narrower."""
    both = set()
    for one in ours:
        for two in theirs:
            if _includes(one, two):
                both.add(two)
            elif _includes(two, one):
                both.add(one)
    return tuple(sorted(both))


def _includes(wide: str, narrow: str) -> bool:
    return narrow == wide or (wide.endswith(_ALL) and narrow.startswith(wide.removesuffix(_ALL)))


def _filter_rules(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rules about keys, name and value, in order; S3 writes the names as `Prefix` and `Suffix`, too."""
    key = (raw.get("Filter") or {}).get("Key") or {}
    return [
        (str(rule.get("Name", "")).lower(), str(rule.get("Value", "")))
        for rule in key.get("FilterRules") or ()
    ]


def _meaning(entry: Entry, *, with_id: bool = True) -> dict[str, Any]:
    """Return what an entry says, in one form for all ways to write it; the name of the ARN's field says the kind."""
    raw = dict(entry.raw)
    known = raw.pop("Filter", None) or {}
    key = known.get("Key") or {}
    meaning = {
        "events": sorted(set(raw.pop("Events", ()))),
        "rules": sorted((name, value) for name, value in _filter_rules(entry.raw) if value),
        "filter": {name: value for name, value in known.items() if name != "Key"},
        "key": {name: value for name, value in key.items() if name != "FilterRules"},
        "raw": raw,
    }
    if not with_id:
        raw.pop("Id", None)
    return meaning
