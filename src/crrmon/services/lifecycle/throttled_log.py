"""One line for what may happen a thousand times a second, because strangers or outages make it happen.

The first of a kind is logged at once; those of the minute after are counted, and logged together when it is over.
"""

import asyncio
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger

MINUTE_SECONDS = 60.0
EXAMPLES = 3
"""How many of those that were counted a line names."""
KINDS = 20
"""Kinds that have lines of their own; further ones share one, for even kinds may be made up by strangers."""

OTHERS = "others"


class _Kind:
    """What of one kind waits for its line."""

    __slots__ = ("count", "examples", "fields")

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []
        self.fields: dict[str, Any] = {}


class ThrottledLog:
    """Logs one event, at most once a minute and kind.

    Args:
        log: where to.
        event: its name.
        level: of its lines.
        kinds: how many kinds have lines of their own.
        examples: the field that names some; its name tells whether these are keys of objects.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        event: str,
        *,
        level: Literal["warning", "error"] = "warning",
        kinds: int = KINDS,
        examples: str = "examples",
    ) -> None:
        self._log = log
        self._event = event
        self._level: Literal["warning", "error"] = level
        self._most = kinds
        self._examples = examples
        self._kinds: dict[str, _Kind] = {}
        """Those of which a line was written within the last minute."""

    def met(self, kind: str, example: str = "", **fields: Any) -> None:
        """Take one in.

        Args:
            kind: what it has in common with others; those of one kind share a line.
            example: names this one.
            fields: of the line; those of the first one stand for all.
        """
        if kind not in self._kinds and len(self._kinds) >= self._most:
            kind = OTHERS
        waiting = self._kinds.get(kind)
        if waiting is None:
            self._kinds[kind] = _Kind()
            self._tell(1, [example] if example else [], fields)
            asyncio.get_running_loop().call_later(MINUTE_SECONDS, self._minute_over, kind)
            return
        waiting.fields = waiting.fields or fields
        waiting.count += 1
        if example and len(waiting.examples) < EXAMPLES:
            waiting.examples.append(example)

    def tell(self) -> None:
        """Log what still waits for its line."""
        for kind in list(self._kinds):
            self._told(kind)

    def _minute_over(self, kind: str) -> None:
        if self._told(kind):
            asyncio.get_running_loop().call_later(MINUTE_SECONDS, self._minute_over, kind)
        else:
            del self._kinds[kind]

    def _told(self, kind: str) -> bool:
        """Log what waits of a kind; tell whether there was any."""
        waiting = self._kinds[kind]
        if not waiting.count:
            return False
        self._kinds[kind] = _Kind()
        self._tell(waiting.count, waiting.examples, waiting.fields)
        return True

    def _tell(self, times: int, examples: list[str], fields: dict[str, Any]) -> None:
        named = {self._examples: examples} if examples else {}
        write = self._log.error if self._level == "error" else self._log.warning
        write(self._event, **fields, times=times, **named)
