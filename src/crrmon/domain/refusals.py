"""A part that the sink refuses, or a sink that refuses everything?

A refused part would be refused for ever, and keeping it would hold up all others: it is to be let go. But a sink that
refuses whatever it is sent (a namespace that it does not take, a bug of its own) would make us let go of everything.
What tells them apart is others: a part is refused for what it is when it is refused again after others were accepted.
"""

from collections.abc import Hashable

REFUSALS = 3
"""So many refused with none accepted between: it is the sink."""


class Refusals:
    """Tells what a refusal means, from those before it."""

    def __init__(self) -> None:
        self._doubted: set[Hashable] = set()
        """Refused since any was accepted."""
        self._suspects: set[Hashable] = set()
        """Refused before others were accepted."""
        self._in_a_row = 0
        self._ever_accepted = False
        self.total = False
        """Whether the sink refuses everything, as far as is known.

        Of one that accepted before, that is believed of several parts, and not of one that is tried several times.
        """

    @property
    def hopeful(self) -> bool:
        """Whether others to tell by are to be expected: it accepted before, and refused few."""
        return self._ever_accepted and not self.total

    @property
    def doubted(self) -> int:
        """How many parts were refused since any was accepted."""
        return len(self._doubted)

    def pointless(self, part: Hashable) -> bool:
        """Return whether sending a part would tell nothing new: it was refused, and none was accepted since."""
        return part in self._doubted

    def accepted(self) -> None:
        """Take in that a part was accepted."""
        self._suspects |= self._doubted
        self._doubted.clear()
        self._in_a_row = 0
        self._ever_accepted, self.total = True, False

    def refused(self, part: Hashable) -> bool:
        """Take in that a part was refused; tell whether that is for what it is."""
        if part in self._suspects:
            self._suspects.discard(part)
            return True
        self._doubted.add(part)
        self._in_a_row += 1
        refused = len(self._doubted) if self._ever_accepted else self._in_a_row
        self.total = self.total or refused >= REFUSALS
        return False

    def again(self) -> None:
        """Make all be tried again: they are all refused, and the sink may be a different one by now."""
        self._doubted.clear()
