"""Decisions of a pacer that knows nothing yet, for tests of what is decided."""

from typing import Any

from crrmon.domain.decide import decide
from crrmon.domain.decisions import Decision
from crrmon.domain.observations import Observation
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy
from crrmon.domain.records import Record
from crrmon.domain.schedule import Schedule

_PACER = Pacer(Policy())


def schedule(now: float, *, draw: float = 0.5) -> Schedule:
    """Schedule without any knowledge."""
    return Schedule(pacer=_PACER, now=now, draw=draw)


def decided(record: Record, seen: Observation, **more: Any) -> Decision:
    """Decide at the moment of a look."""
    return decide(record, seen, schedule(seen.looked_at), **more)
