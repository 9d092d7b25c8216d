"""Which destinations a key should reach, by the bucket's replication configuration.

A configuration says three things about a key: reaches this bucket, might reach it (a tag filter, which the key alone
cannot tell, or a rule that was not understood), or reaches none. Only the last one ends the tracking of an object, so
everything in doubt is read as "might": a rule is left out only when it plainly says that it is disabled.

Delete markers are the other way round: nobody can look at one, so only what is certain is told.

What a rule says about encryption is not looked at: an object that it leaves out for that shows no status at its HEAD.

Other stores write the same in other words: an ARN of their own or a bare name as the destination, and parts of a filter
that are there and hold nothing.
"""

import functools
import re
from typing import Any

import msgspec

from crrmon.domain.objects import UNKNOWN_DESTINATION, named_bucket
from crrmon.domain.outcomes import Cause
from crrmon.domain.records import Destination

WRITE_SLACK_SECONDS = 3.0
"""How much later than the write a configuration must have been fetched to prove that no rule covered it.

CloudTrail cuts the time of a write to whole seconds (1 s), and its clock and ours differ a little (2 s).
"""


_ACCOUNT = re.compile(r"[0-9]{12}")

_PARTS = ("Prefix", "Tag", "Tags", "And")
"""The parts of a filter."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One replication rule that is not disabled."""

    destination: str
    """Bucket name; `UNKNOWN_DESTINATION` where the rule's could not be understood."""
    id: str = ""
    prefix: str = ""
    """What keys must begin with; empty for all."""
    priority: int = 0
    certain: bool = True
    """False when a matching key might still not be selected: there is a tag filter, or a doubt."""
    delete_markers: bool = False
    """Whether it replicates delete markers that users lay; a rule with a tag filter never does."""
    timed: bool = False
    """Whether it has Replication Time Control: S3's promise of 15 minutes."""
    owner: str | None = None
    """Account id of the destination's owner, where the rule names it."""
    encrypted: bool = False
    """Whether it replicates objects under a KMS key, too."""
    doubt: str = ""
    """What was not understood, for people; empty when all was."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A bucket's replication configuration at one time. Without rules it covers nothing."""

    rules: tuple[Rule, ...] = ()
    fetched_at: float
    """When its reading began: what S3 answered is at least as new."""

    def destinations(self, key: str) -> tuple[Destination, ...]:
        """Return where a key should arrive, or might; sorted by bucket, each bucket once.

        Of several matching rules for one bucket, a certain one goes before an uncertain one, then the highest
        priority counts.
        """
        return self._answer(key).destinations

    def marker_destinations(self, key: str) -> tuple[Destination, ...]:
        """Return where a delete marker that a user lays over a key arrives; sorted by bucket, each bucket once.

        Only what is certain is told: nobody can look at a marker later to find out.
        """
        return self._answer(key).markers

    def _answer(self, key: str) -> "_Answer":
        table, lengths = self._table
        for length in lengths:
            if (found := table.get(key[:length])) is not None:
                return found
        return _Answer()

    @functools.cached_property
    def all_destinations(self) -> tuple[str, ...]:
        """The names of all destination buckets of these rules, sorted, without the unknown one."""
        return tuple(sorted({rule.destination for rule in self.rules} - {UNKNOWN_DESTINATION}))

    @functools.cached_property
    def timed(self) -> frozenset[str]:
        """The names of the destination buckets that S3 promises to reach in time, by any rule."""
        return frozenset(rule.destination for rule in self.rules if rule.timed) - {
            UNKNOWN_DESTINATION
        }

    @functools.cached_property
    def doubts(self) -> tuple[str, ...]:
        """What was not understood, for people."""
        return tuple(rule.doubt for rule in self.rules if rule.doubt)

    @functools.cached_property
    def _table(self) -> tuple[dict[str, "_Answer"], tuple[int, ...]]:
        """The answer for each prefix, and the prefixes' lengths, longest first.

        The longest prefix of a key decides which others the key begins with, too: so each answer is made once, and
        asking costs one look-up per distinct length, however many rules there are.
        """
        by_prefix: dict[str, list[Rule]] = {}
        for rule in self.rules:
            by_prefix.setdefault(rule.prefix, []).append(rule)
        lengths = sorted({len(prefix) for prefix in by_prefix}, reverse=True)
        table = {}
        for prefix in by_prefix:
            starts = {prefix[:length] for length in lengths}
            matching = [rule for start in starts for rule in by_prefix.get(start, ())]
            table[prefix] = _strongest(matching)
        return table, tuple(lengths)


class _Answer(msgspec.Struct, frozen=True):
    """What the rules say about all keys with one prefix, and none that is longer."""

    destinations: tuple[Destination, ...] = ()
    markers: tuple[Destination, ...] = ()


class Covered(msgspec.Struct, frozen=True):
    """The key should arrive here; at least it might."""

    destinations: tuple[Destination, ...]


class NotCovered(msgspec.Struct, frozen=True):
    """No rule selects the key, by a configuration that is newer than the write."""

    cause: Cause


class Unsure(msgspec.Struct, frozen=True):
    """No rule selects the key, but the configuration may be older than the write: read it again."""


Coverage = Covered | NotCovered | Unsure


def coverage(configuration: Configuration, key: str, *, written_at: float) -> Coverage:
    """Return whether a key is replicated.

    Args:
        configuration: of the key's bucket.
        key: the object key, decoded.
        written_at: when the write ended, by AWS's clock, perhaps cut to whole seconds.
    """
    if destinations := configuration.destinations(key):
        return Covered(destinations)
    if configuration.fetched_at >= written_at + WRITE_SLACK_SECONDS:
        return NotCovered(Cause.NO_RULE if configuration.rules else Cause.NO_CONFIGURATION)
    return Unsure()


def parse(raw: dict[str, Any] | None, *, fetched_at: float) -> Configuration:
    """Read a configuration; what is not understood becomes a doubt, never an error.

    Args:
        raw: GetBucketReplication's ReplicationConfiguration; None for a bucket that has none.
        fetched_at: when its reading began.
    """
    if raw is None:
        return Configuration(fetched_at=fetched_at)
    rules = raw.get("Rules")
    if not isinstance(rules, list):
        doubt = "the configuration has no list of rules: any object might be replicated"
        return Configuration(rules=(_unknown(doubt),), fetched_at=fetched_at)
    parsed = (_rule(rule, number) for number, rule in enumerate(rules))
    return Configuration(rules=tuple(rule for rule in parsed if rule), fetched_at=fetched_at)


def _strongest(rules: list[Rule]) -> _Answer:
    """Pick the rule that counts for each destination bucket."""
    ranked = sorted(rules, key=lambda rule: (rule.certain, rule.priority, rule.id))
    chosen = {rule.destination: rule for rule in ranked}
    counting = [
        (Destination(bucket, rule=rule.id, certain=rule.certain, owner=rule.owner), rule)
        for bucket, rule in sorted(chosen.items())
    ]
    return _Answer(
        destinations=tuple(destination for destination, _ in counting),
        markers=tuple(destination for destination, rule in counting if rule.delete_markers),
    )


def _unknown(doubt: str) -> Rule:
    return Rule(destination=UNKNOWN_DESTINATION, certain=False, doubt=doubt)


def _rule(raw: object, number: int) -> Rule | None:
    """Read one rule; None when it is disabled."""
    if not isinstance(raw, dict):
        return _unknown(f"rule {number} is not an object: any object might be replicated")
    status, name, priority = raw.get("Status"), raw.get("ID"), raw.get("Priority")
    if status == "Disabled":
        return None
    selection = _selection(raw)
    destination = _bucket(raw.get("Destination"))
    doubts = (
        "" if status == "Enabled" else "its status is neither Enabled nor Disabled",
        selection.doubt,
        "" if destination else "its destination is neither the ARN of a bucket nor its name",
    )
    doubt = ", ".join(filter(None, doubts))
    label = repr(name) if isinstance(name, str) else f"number {number}"
    certain = not doubt and not selection.tagged
    return Rule(
        destination=destination or UNKNOWN_DESTINATION,
        id=name if isinstance(name, str) else "",
        prefix=selection.prefix,
        priority=priority if isinstance(priority, int) else 0,
        certain=certain,
        delete_markers=certain and _takes_markers(raw),
        timed=_enabled(_part(raw.get("Destination"), "ReplicationTime")),
        owner=_owner(raw.get("Destination")),
        encrypted=_enabled(_part(raw.get("SourceSelectionCriteria"), "SseKmsEncryptedObjects")),
        doubt=f"rule {label} counts as one that might apply: {doubt}" if doubt else "",
    )


def _takes_markers(rule: dict[str, Any]) -> bool:
    """
    Return whether a rule without tags replicates delete markers: as it says, and one of the first version by default.
    """
    said = rule.get("DeleteMarkerReplication")
    return rule.get("Filter") is None if _hollow(said) else _enabled(said)


def _part(structure: object, name: str) -> object:
    return structure.get(name) if isinstance(structure, dict) else None


def _enabled(structure: object) -> bool:
    return _part(structure, "Status") == "Enabled"


def _owner(destination: object) -> str | None:
    """Take the account of the bucket's owner out of a rule's destination, if it names one."""
    account = _part(destination, "Account")
    return account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else None


class _Selection(msgspec.Struct, frozen=True):
    """Which keys a rule selects: nothing else than those with the prefix, perhaps fewer."""

    prefix: str = ""
    tagged: bool = False
    doubt: str = ""


def _selection(rule: dict[str, Any]) -> _Selection:
    """Read the filter of a rule, or the bare prefix of a rule of the first version."""
    chosen, prefix = rule.get("Filter"), rule.get("Prefix")
    if chosen is None:
        return _filter(_given({"Prefix": prefix}))
    if prefix:
        return _Selection(doubt="it has both a filter and a prefix")
    if not isinstance(chosen, dict):
        return _Selection(doubt="its filter is not an object")
    return _filter(_given(chosen))


def _filter(parts: dict[str, Any]) -> _Selection:
    """Read a filter, which has one part at the most."""
    match list(parts.items()):
        case []:
            return _Selection()
        case [("Prefix", str(prefix))]:
            return _Selection(prefix)
        case [("Tag", _)]:
            return _Selection(tagged=True)
        case [("And", dict(all_of))]:
            return _conjunction(_given(all_of))
        case _:
            return _Selection(doubt=f"its filter is not understood ({_names(parts)})")


def _conjunction(parts: dict[str, Any]) -> _Selection:
    """Read a filter whose parts must all fit; one that is not understood can only select fewer keys."""
    prefix = parts.pop("Prefix", "")
    tagged = bool(parts.pop("Tags", ()))
    if not isinstance(prefix, str):
        return _Selection(doubt="the prefix in its filter is not text")
    doubt = f"its filter has unknown parts ({_names(parts)})" if parts else ""
    return _Selection(prefix, tagged, doubt)


def _names(parts: dict[str, Any]) -> str:
    return ", ".join(sorted(map(str, parts)))


def _given(parts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is there in name only. Of parts that are not known, who knows what it means that they are empty?"""
    return {name: value for name, value in parts.items() if not _absent(name, value)}


def _absent(name: str, value: object) -> bool:
    if name == "And" and isinstance(value, dict):
        return not _given(value)
    return value is None or (name in _PARTS and _hollow(value))


def _hollow(value: object) -> bool:
    """Return whether nothing stands in a part, nor in any part of it."""
    match value:
        case dict():
            return all(map(_hollow, value.values()))
        case list():
            return all(map(_hollow, value))
        case _:
            return value in (None, "")


def _bucket(destination: object) -> str | None:
    """Take the bucket's name out of a rule's destination; None when it is not understood."""
    told = _part(destination, "Bucket")
    return named_bucket(told) if isinstance(told, str) else None
