"""What is remembered of a route: whether rules lead there, and what was let go on the way without having arrived.

"Complete up to" says that all of a route that was written before a moment has arrived. What nobody follows any more
must not read as what has arrived, so everything that is *let go* holds that moment back: an object that was given up,
one that cannot be read, and one that no rule replicated although rules had selected its key until then. It does so
until it arrives after all, or until a person releases the route.

While no enabled rule leads there, the route has no such moment at all.

A mark proves that something was counted; whether it ever arrived is another question, and outlives the dedup retention. So this
state is written *before* what it is about is settled or acknowledged, and read *after* the backlog: whatever happens in
between, an object that has not arrived is in one of the two. Nothing is known of a gap between two readings of a
configuration except by its objects, which show no status although a rule selects them; that is why those hold their
route back.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from crrmon.domain.objects import Route
from crrmon.domain.routes import Configuration

KEPT = 50
"""Most objects that are remembered one by one; of all others together only the oldest time is."""

SELECTIONS_KEPT = 64
"""Most selections of a route that are remembered; a route of more is shown as configured, and never as complete."""

DATED_SECONDS = 3600.0
"""How old `RouteState.read_at` may be, at most, while rules are read that are nothing new."""

_PREFIX = "route/"


class Selected(msgspec.Struct, frozen=True, array_like=True):
    """Keys that a rule selects, or selected."""

    prefix: str
    """What they begin with; empty for all."""
    since: float
    """
    The first reading that showed it, or the release of the route: what was written before may be older than the rule,
    or was released.
    """
    certain: bool = True
    """False where a key with the prefix might still not be selected: there is a tag filter, or a doubt."""
    encrypted: bool = False
    """Whether objects under a KMS key are selected, too."""


class Abandoned(msgspec.Struct, frozen=True, array_like=True):
    """One object that nobody follows any more and that has not arrived, as far as is known."""

    key: str
    version_id: str
    written_at: float
    why: str
    """Its fate, or why no rule covered it."""


class RouteState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of one route."""

    read_at: float
    """When the configuration was read that this goes by."""
    changed_at: float
    """When the rules that lead here were last found changed."""
    selects: tuple[Selected, ...] = ()
    """What the enabled rules that lead here select. None: no rule leads here."""
    lost: tuple[Selected, ...] = ()
    """What rules selected before and no longer do."""
    abandoned: tuple[Abandoned, ...] = ()
    """The oldest `KEPT` objects that were let go."""
    others_from: float | None = None
    """When the oldest was written of those beyond these, or from when on it is in doubt what arrived; only a person can
    release that.
    """
    heard: bool = False
    """Whether an event of a write was ever seen on it: else nobody knows whether its source tells of any."""
    partial: bool = False
    """Whether rules select more than is remembered."""
    retired: bool = False
    """Whether a person said that the route is gone for good."""

    @property
    def configured(self) -> bool:
        """Whether an enabled rule leads here."""
        return bool(self.selects)

    @property
    def blocked_at(self) -> float | None:
        """When the oldest object was written that was let go and has not arrived; None where there is none."""
        times = [one.written_at for one in self.abandoned]
        if self.others_from is not None:
            times.append(self.others_from)
        return min(times, default=None)

    def selecting(self, key: str, *, written_at: float, encrypted: bool = False) -> bool:
        """Return whether a rule that leads here certainly selected a key that was written then.

        Args:
            key: the object key.
            written_at: when it was written.
            encrypted: whether the object is under a KMS key, which a rule must opt into.
        """
        return any(
            select.certain
            and key.startswith(select.prefix)
            and written_at >= select.since
            and (select.encrypted or not encrypted)
            for select in self.selects
        )

    def missing(self, key: str, *, written_at: float, encrypted: bool = False) -> bool:
        """Return whether a rule that led here certainly selected a key, and none does any more; as `selecting`."""
        before = replace(self, selects=self.lost)
        return before.selecting(key, written_at=written_at, encrypted=encrypted) and not (
            self.selecting(key, written_at=math.inf, encrypted=encrypted)
        )


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RouteState)


def name_of(route: Route) -> str:
    """Return the name under which the state of a route is kept."""
    return f"{_PREFIX}{route.source}/{route.destination}"


def route_of(name: str) -> Route:
    """Return the route whose state is kept under a name; undoes `name_of`."""
    source, _, destination = name.removeprefix(_PREFIX).partition("/")
    return Route(source, destination)


def prefix_of(source: str = "") -> str:
    """Return what the names of the states of all routes begin with, or of those from one source bucket."""
    return f"{_PREFIX}{source}/" if source else _PREFIX


def encode(state: RouteState) -> bytes:
    """Return how a state is written down."""
    return _ENCODER.encode(state)


def decode(body: bytes) -> RouteState:
    """Return the state that was written down.

    Raises:
        msgspec.MsgspecError: it is damaged.
    """
    return _DECODER.decode(body)


def selected(configuration: Configuration, destination: str) -> tuple[Selected, ...]:
    """Return what a configuration's rules select for a destination bucket."""
    found = {
        Selected(rule.prefix, configuration.fetched_at, rule.certain, rule.encrypted)
        for rule in configuration.rules
        if rule.destination == destination
    }
    return _distinct(found)


def observed(
    state: RouteState | None,
    selects: Sequence[Selected],
    *,
    read_at: float,
    seen_at: float | None = None,
    alone: bool = True,
) -> RouteState | None:
    """Return what is to be remembered after a configuration was read; the state itself where that is nothing new.

    What rules selected that go now may have been miscounted since they were last seen: beside other destinations, S3's
    one status may have been believed of this one as well; and of a rule with a tag filter, nobody can tell by the key
    what it would have selected. So all that was written since then is in doubt.

    Args:
        state: what was remembered; None for a route that is new.
        selects: what the configuration's rules select for the route's destination.
        read_at: when it was read. One that is older than what is remembered tells nothing.
        seen_at: when the rules were last seen before, if that is known better than by the state.
        alone: whether the source leads nowhere else.

    Returns:
        None for a route that nobody knew and to which no rule leads.
    """
    if state is None:
        if not selects:
            return None
        return _bounded(
            RouteState(read_at=read_at, changed_at=read_at, selects=_distinct(selects))
        )
    if read_at <= state.read_at:
        return state
    if state.retired:
        return observed(None, selects, read_at=read_at) or state
    return _reread(state, selects, read_at=read_at, seen_at=seen_at, alone=alone)


def _reread(
    state: RouteState,
    selects: Sequence[Selected],
    *,
    read_at: float,
    seen_at: float | None,
    alone: bool,
) -> RouteState:
    """Do as `observed` does for a route that is known, by a configuration that is newer."""
    before = (*state.selects, *state.lost)
    # What a wider rule selects by now was selected before all the same, and since then.
    still = [one for one in before if any(_includes(two, one) for two in selects)]
    now = _distinct((*(_dated(one, before) for one in selects), *still))
    if now == state.selects:
        # Dated again once in a while: that is from when on a doubt may begin.
        return (
            state if read_at - state.read_at < DATED_SECONDS else replace(state, read_at=read_at)
        )
    gone = [select for select in state.selects if not any(_includes(two, select) for two in now)]
    others_from = state.others_from
    if gone and not (alone and all(one.certain for one in gone)):
        others_from = _earliest(others_from, state.read_at if seen_at is None else seen_at)
    lost = _distinct(one for one in before if not any(_includes(two, one) for two in now))
    return _bounded(
        replace(
            state,
            read_at=read_at,
            changed_at=read_at,
            selects=now,
            lost=lost,
            others_from=others_from,
        )
    )


def with_abandoned(state: RouteState, one: Abandoned) -> RouteState:
    """Return what is to be remembered after an object was let go; the state itself where that is nothing new."""
    if any((one.key, one.version_id) == (two.key, two.version_id) for two in state.abandoned):
        return state
    if state.others_from is not None and one.written_at >= state.others_from:
        return state
    kept = sorted((*state.abandoned, one), key=lambda each: each.written_at)
    kept, rest = kept[:KEPT], kept[KEPT:]
    if not rest:
        return replace(state, abandoned=tuple(kept))
    others_from = _earliest(state.others_from, rest[0].written_at)
    return replace(state, abandoned=tuple(kept), others_from=others_from)


def with_arrival(state: RouteState, key: str, version_id: str) -> RouteState:
    """Return what is to be remembered after a version arrived; the state itself where it was not let go."""
    left = tuple(one for one in state.abandoned if (one.key, one.version_id) != (key, version_id))
    return state if len(left) == len(state.abandoned) else replace(state, abandoned=left)


def with_event(state: RouteState) -> RouteState:
    """Return what is to be remembered after an event of a write was seen; the state itself where that is nothing new."""
    return state if state.heard else replace(state, heard=True)


def released(state: RouteState, *, now: float) -> RouteState:
    """Return what is to be remembered after a person has released a route.

    Nothing that was let go holds it back any more, nor does what was written before and is let go later for having had
    no rule. A route without rules is gone for good: nobody need be told of it any more, until a rule leads there again.
    """
    if not state.configured:
        return RouteState(read_at=state.read_at, changed_at=now, retired=True)
    return replace(
        state,
        selects=tuple(
            Selected(select.prefix, now, select.certain, select.encrypted)
            for select in state.selects
        ),
        lost=(),
        abandoned=(),
        others_from=None,
    )


def damaged() -> RouteState:
    """Return what stands for a state that cannot be read any more: nobody knows what it held back, and since when."""
    return RouteState(read_at=0.0, changed_at=0.0, others_from=0.0)


def _bounded(state: RouteState) -> RouteState:
    """Keep a state small enough for every ledger, whatever is done to the rules; what does not fit is a doubt."""
    if len(state.lost) > SELECTIONS_KEPT:
        lost = tuple(sorted(state.lost, key=lambda one: one.since)[-SELECTIONS_KEPT:])
        others_from = _earliest(state.others_from, state.read_at)
        state = replace(state, lost=_distinct(lost), others_from=others_from)
    if len(state.selects) > SELECTIONS_KEPT:
        state = replace(state, selects=state.selects[:SELECTIONS_KEPT], partial=True)
    return state


def _earliest(known: float | None, at: float) -> float:
    return at if known is None else min(known, at)


def _dated(one: Selected, before: Iterable[Selected]) -> Selected:
    """Date a rule's selection by when its keys were first seen selected, be it by another rule."""
    since = min((two.since for two in before if _includes(two, one)), default=one.since)
    return Selected(one.prefix, min(since, one.since), one.certain, one.encrypted)


def _includes(wide: Selected, narrow: Selected) -> bool:
    """Return whether all that one certainly selects is also selected by another."""
    if not narrow.prefix.startswith(wide.prefix):
        return False
    return not narrow.certain or (wide.certain and (wide.encrypted or not narrow.encrypted))


def _distinct(selections: Iterable[Selected]) -> tuple[Selected, ...]:
    """Leave out what another one includes and was seen no later."""
    kept: list[Selected] = []
    for selection in sorted(selections, key=_order):
        if not any(two.since <= selection.since and _includes(two, selection) for two in kept):
            kept.append(selection)
    return tuple(kept)


def _order(one: Selected) -> tuple[int, bool, bool, float, str]:
    """Put first what may include others."""
    return len(one.prefix), not one.certain, not one.encrypted, one.since, one.prefix
