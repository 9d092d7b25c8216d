"""How late events come: from a write to its message's arrival in a queue, by who tells.

"Complete up to" rests on it: a write of which nothing was heard yet may be as old as the latest event was late. So the
largest delays are remembered for the last hours *in which events came*: a quiet night says nothing of how late the
next event will be. What was never seen is not known, and None, never 0.
"""

from collections.abc import Iterable, Mapping

import msgspec

SLOT_SECONDS = 600.0
"""Delays are remembered as the largest of each slot in which any event came..."""

KEPT = 36
"""...for so many of the newest slots of each channel: six hours of events."""

STATE = "delays"
"""Name of the state that the ledger keeps."""

Slots = Mapping[int, float]
"""The largest delay in seconds of each slot, by its number since the epoch."""


class EventDelays(msgspec.Struct, frozen=True):
    """The delays of each channel."""

    channels: dict[str, dict[int, float]] = {}

    def noted(self, channel: str, seconds: float, *, now: float) -> "EventDelays":
        """Return the delays with one more event; themselves where that tells nothing new."""
        seconds = max(seconds, 0.0)
        slot, known = int(now // SLOT_SECONDS), self.channels.get(channel, {})
        if known.get(slot, -1.0) >= seconds:
            return self
        return EventDelays({**self.channels, channel: _newest({**known, slot: seconds})})

    def merged(self, other: "EventDelays") -> "EventDelays":
        """Return what both know; the delays themselves where the other knows nothing more."""
        channels = {
            channel: _newest(
                _largest(self.channels.get(channel, {}), other.channels.get(channel, {}))
            )
            for channel in sorted(self.channels.keys() | other.channels.keys())
        }
        return self if channels == self.channels else EventDelays(channels)

    def largest(self, least: Mapping[str, float]) -> float | None:
        """Return the largest delay of any channel in seconds; None when nothing is known.

        Args:
            least: delays to reckon with in any case, by channel.
        """
        seen = (most for slots in self.channels.values() for most in slots.values())
        return max((*seen, *least.values()), default=None)


def encode(delays: EventDelays) -> bytes:
    """Return how delays are written down."""
    return _ENCODER.encode(delays)


def decode(body: bytes) -> EventDelays:
    """Return the delays that were written down.

    Raises:
        msgspec.MsgspecError: they are damaged.
    """
    return _DECODER.decode(body)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(EventDelays)


def _newest(slots: Slots) -> dict[int, float]:
    return dict(sorted(slots.items())[-KEPT:])


def _largest(*told: Slots) -> dict[int, float]:
    slots: Iterable[int] = {slot for one in told for slot in one}
    return {slot: max(one.get(slot, 0.0) for one in told) for slot in slots}
