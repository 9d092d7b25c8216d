"""How the daemon is, for whoever asks over HTTP."""

from typing import Protocol

import msgspec


class HealthVerdict(msgspec.Struct, frozen=True):
    """Yes or no, and what it was judged by."""

    ok: bool
    details: dict[str, str]
    """One line for each loop or dependency, in words."""


class Health(Protocol):
    """Judges the daemon."""

    def live(self) -> HealthVerdict:
        """Return whether every loop made progress lately; if not, a restart may help."""

    def ready(self) -> HealthVerdict:
        """Return whether queues, S3, ledger and sink answer; if not, a restart will not help."""
