"""Whether more objects of a route show as gone than can be true.

One 404 ends the following of an object, so whoever answers 404 to everything ends all of it: a store that was put in
another's place or lost its index, a role that sees another bucket of the same name. Objects also do vanish, and on some
routes most of them do before they replicate. So what is compared is a route's share of answers that said "gone" lately
with what it was before. Where it is far above, these answers are doubted, not believed: a *wave*. It ends when the
share falls, or is believed when it lasted and the bucket proved to be the right one.

Deletions that somebody told of are no part of this, see `looker`. Nothing here knows the time: `now` is any clock that
never goes back.
"""

import math

import msgspec

LATELY_SECONDS = 300.0
"""What counts as lately: answers fade by 1/e in this time, and are the past from then on."""

PAST_SECONDS = 86_400.0
"""The past fades by 1/e in this time."""

FADING_SECONDS = 1.0
"""What fades does so in steps of this: thousands of answers may come in one of them."""

EVIDENCE = 14.0
"""It is no chance when that much is against it: minus the logarithm of the probability. 14 is one in a million, or four
objects in a row on a route about which nothing is known.
"""

BELIEVED_AFTER_SECONDS = 3600.0
"""A wave that lasted so long may be believed, if other objects of its bucket were there meanwhile..."""

BELIEVED_ALONE_AFTER_SECONDS = 86_400.0
"""...and so long, if nobody asked for any other."""

_NEGLIGIBLE = 0.5


class Answers(msgspec.Struct, frozen=True):
    """How many answers said that an object is gone, and that it is there."""

    gone: float = 0.0
    there: float = 0.0

    @property
    def share(self) -> float:
        """The share of those that said gone."""
        total = self.gone + self.there
        return self.gone / total if total else 0.0


PRIOR = Answers(gone=1.0, there=49.0)
"""What is believed of a route of which nothing is known."""


def far_above(lately: Answers, past: Answers) -> bool:
    """Return whether answers say gone far more often than before, and not by chance.

    Args:
        lately: what was answered lately.
        past: what was answered before.
    """
    if not lately.gone:
        return False
    share, usual = lately.share, past.share
    if share < usual + (1 - usual) / 2:
        return False
    against = _weighed(lately.gone, share, usual) + _weighed(lately.there, 1 - share, 1 - usual)
    return against >= EVIDENCE


def back_again(lately: Answers, past: Answers) -> bool:
    """Return whether the share of answers that said gone has come down again, at least most of the way."""
    usual = past.share
    return lately.share < usual + (1 - usual) / 4


def _weighed(count: float, share: float, usual: float) -> float:
    return count * math.log(share / usual) if count and usual else 0.0


class Wave:
    """What one route's looks told lately, and whether that is believed."""

    def __init__(self) -> None:
        self._past = PRIOR
        self.lately = Answers()
        """What was answered lately."""
        self._told_at: float | None = None
        self._started_at: float | None = None
        self._believed = False
        self._others = False

    @property
    def usual_share(self) -> float:
        """The share of answers that said gone before."""
        return self._past.share

    @property
    def doubted(self) -> bool:
        """Whether it is not believed now that objects are gone."""
        return self._started_at is not None and not self._believed

    def lasted(self, now: float) -> float:
        """Return the seconds since the wave began; 0 while there is none."""
        return 0.0 if self._started_at is None else now - self._started_at

    def told(self, *, gone: bool, now: float) -> None:
        """Take in an answer about an object whose deletion nobody told of."""
        self._fade(now)
        lately = self.lately
        self.lately = Answers(lately.gone + gone, lately.there + (not gone))
        if self._started_at is None:
            if far_above(self.lately, self._past):
                self._started_at, self._others = now, False
            return
        self._others |= not gone
        if back_again(self.lately, self._past):
            self._started_at, self._believed = None, False

    def may_be_believed(self, now: float) -> bool:
        """Return whether the wave lasted so long that it is to be believed, if its bucket's configuration can be read."""
        least = BELIEVED_AFTER_SECONDS if self._others else BELIEVED_ALONE_AFTER_SECONDS
        return self.doubted and self.lasted(now) >= least

    def believe(self) -> None:
        """Believe the wave until it is over."""
        self._believed = True

    def refuted(self) -> None:
        """End the wave, as everything that was doubted turned out to be there: those answers told nothing."""
        self._started_at, self._believed = None, False
        self.lately = Answers()

    def _fade(self, now: float) -> None:
        since = 0.0 if self._told_at is None else max(now - self._told_at, 0.0)
        if 0 < since < FADING_SECONDS:
            return  # it is made up for by a later one
        self._told_at = now
        if since > 0:
            left = math.exp(-since / LATELY_SECONDS)
            kept = math.exp(-since / PAST_SECONDS)
            past, lately = self._past, self.lately
            gone = kept * past.gone + (1 - kept) * PRIOR.gone
            there = kept * past.there + (1 - kept) * PRIOR.there
            if not self.doubted:  # what is doubted is no part of what is usual
                gone += (1 - left) * lately.gone
                there += (1 - left) * lately.there
            self._past = Answers(gone, there)
            self.lately = Answers(left * lately.gone, left * lately.there)
        if self._believed and self.lately.gone + self.lately.there < _NEGLIGIBLE:
            self._started_at, self._believed = None, False
