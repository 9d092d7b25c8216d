"""URLs of queues, and what everything that reads them must read."""

from pathlib import Path

import msgspec

HOME_REGION = "ap-southeast-2"
"""A default region that no row names."""


class Row(msgspec.Struct, frozen=True):
    """One URL."""

    url: str
    region: str | None
    """That is read off it."""
    asked: str
    """Whom."""


ROWS: tuple[Row, ...] = msgspec.yaml.decode(
    (Path(__file__).parents[1] / "data" / "queue_hosts.yaml").read_bytes(), type=tuple[Row, ...]
)
