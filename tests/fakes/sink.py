"""A CloudWatch that remembers what it was told."""

import asyncio
from typing import Any

import msgspec

from crrmon.ports.sink import RefusedPartError, SinkError


class FakeSink:
    def __init__(self) -> None:
        self.away = False
        self.refuses = False
        self.deaf = False
        """Takes a part, but says that it did not."""
        self.slow = 0.0
        """How long each call takes; what is cut off before may have arrived."""
        self.calls: list[bytes] = []

    async def send(self, part: bytes) -> None:
        if self.slow:
            if not (self.refuses or self.away):
                self.calls.append(part)
            await asyncio.sleep(self.slow)
            if not (self.refuses or self.away):
                return
        if self.refuses:
            raise RefusedPartError("never")
        if self.away:
            raise SinkError("nobody there")
        self.calls.append(part)
        if self.deaf:
            raise SinkError("no answer")

    @property
    def datums(self) -> list[dict[str, Any]]:
        return [one for call in self.calls for one in msgspec.json.decode(call)]

    def values(self, metric: str, *dimensions: str) -> list[tuple[float, float]]:
        """Return (timestamp, value) of every datapoint of a metric, in the order they came."""
        return [
            (datum["Timestamp"], datum["Value"])
            for datum in self.datums
            if datum["MetricName"] == metric
            and tuple(two["Value"] for two in datum["Dimensions"]) == dimensions
        ]

    def total(self, metric: str, *dimensions: str) -> float:
        return sum(value for _, value in self.values(metric, *dimensions))
