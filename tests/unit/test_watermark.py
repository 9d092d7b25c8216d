"""Up to when all is known: never past what waits in a queue, is held by a daemon or stands in the backlog."""

from collections.abc import Mapping, Sequence

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crrmon.domain.objects import Route
from crrmon.domain.watermark import (
    GAP_SECONDS,
    KEPT,
    MARGIN_SECONDS,
    SILENT_SECONDS,
    QueueSeen,
    QueueWatch,
    Standpoint,
    Watermark,
    watermarks,
)
from crrmon.domain.windows import Standing

NOTHING = QueueSeen(waiting=0, dead=0)
SOME = QueueSeen(waiting=1, dead=0)
START = 10_000.0
VISIBILITY = 120
"""As in `services.intake.consumer`."""
LATE = 60
"""Seconds by which SQS's counts may be late."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon announced."""

    owner: str = "me"
    announced_at: float
    held_since: float | None = None
    delay: float | None = 0.0


def rounds(
    count: int,
    *,
    watch: QueueWatch | None = None,
    since: float = START,
    queue: QueueSeen | None = NOTHING,
    others: Sequence[Said] = (),
    **fields: float | None,
) -> QueueWatch:
    """Go through some rounds, 10 s apart; in each, this very daemon announces itself just before it asks the queue."""
    watch = watch or QueueWatch()
    for number in range(count):
        at = since + 10 * number
        me = Said(announced_at=at + 1, **fields)  # type: ignore[arg-type]
        watch = watch.after(at, {"queue": queue}, [me, *others])
    return watch


# ---- the bound ----


def test_the_bound_is_the_last_empty_round_less_margin_and_delay() -> None:
    """A round counts once all have announced themselves after it: not the last, but the one before."""
    watch = rounds(5, delay=7.0)
    assert watch.emptied_at == START + 30
    assert watch.bound("me") == START + 30 - MARGIN_SECONDS - 7.0


def test_nothing_is_known_before_the_first_round_counts() -> None:
    """One round alone proves nothing, nor do any without a word of this very daemon."""
    assert QueueWatch().bound("me") is None
    assert rounds(1).bound("me") is None
    assert rounds(2).bound("me") is not None
    assert rounds(5).bound("somebody") is None


def test_unknown_rather_than_a_guess() -> None:
    """A queue that was never empty or cannot be read, a dead-letter queue that holds something or cannot be told."""
    assert rounds(5, queue=SOME).bound("me") is None
    known = rounds(5)
    for queue in (None, QueueSeen(waiting=0, dead=1), QueueSeen(waiting=0, dead=None)):
        now = rounds(1, watch=known, since=START + 50, queue=queue)
        assert now.bound("me") is None
        assert rounds(3, watch=now, since=START + 60).bound("me") is not None


def test_a_queue_that_is_not_empty_holds_the_bound() -> None:
    """While something waits, the last empty round stands; one queue of two is enough."""
    watch = rounds(5)
    later = rounds(30, watch=watch, since=START + 50, queue=SOME)
    assert later.emptied_at == START + 40

    watch = QueueWatch()
    for number in range(10):
        at = START + 10 * number
        queues = {"quiet": NOTHING, "busy": SOME if number > 2 else NOTHING}
        watch = watch.after(at, queues, [Said(announced_at=at + 1)])
    assert watch.emptied_at == START + 20


def test_what_is_held_bounds_until_the_queues_were_empty_after_it() -> None:
    """What was told once may have been left to the queue again: it stands until that was found empty later."""
    watch = rounds(5)
    watch = rounds(1, watch=watch, since=START + 50, held_since=START - 500)
    assert watch.bound("me") == START - 500
    waiting = rounds(30, watch=watch, since=START + 60, queue=SOME)
    assert waiting.bound("me") == START - 500
    empty = rounds(3, watch=watch, since=START + 60)
    assert empty.bound("me") == START + 70 - MARGIN_SECONDS


def test_a_round_counts_only_with_a_later_word_of_every_daemon() -> None:
    """A daemon that took something before a round and said nothing since may hold it."""
    quiet = Said(owner="other", announced_at=START + 1)
    watch = rounds(1, others=[quiet])
    watch = rounds(10, watch=watch, since=START + 10, others=[quiet])
    assert watch.emptied_at is None
    spoke = Said(owner="other", announced_at=START + 106)
    watch = rounds(1, watch=watch, since=START + 110, others=[spoke])
    assert watch.emptied_at == START + 100


def test_a_clock_that_is_ahead_proves_nothing() -> None:
    """An announcement that was there in the round itself may be older than it, whatever it says."""
    ahead = Said(owner="other", announced_at=START + 1000)
    assert rounds(10, others=[ahead]).emptied_at is None


def test_a_dead_daemon_is_dismissed_when_all_it_held_came_back() -> None:
    """Its last word stands until the queue was found empty two visibilities after, and no round longer."""
    dead = Said(owner="dead", announced_at=START - 1, held_since=START - 300)
    watch = rounds(int(SILENT_SECONDS / 10) + 1, others=[dead])
    assert watch.departed == ()
    since = START + SILENT_SECONDS + 10
    waiting = rounds(50, watch=watch, since=since, others=[dead], queue=SOME)
    assert waiting.departed == ()
    assert waiting.bound("me") is None
    watch = rounds(2, watch=watch, since=since, others=[dead])
    assert watch.departed == (dead,)
    assert watch.bound("me") == START - 300
    watch = rounds(2, watch=watch, since=since + 20)
    assert watch.bound("me") == since + 20 - MARGIN_SECONDS


def test_after_a_gap_all_begins_anew() -> None:
    """A ledger that was away for all made all daemons silent: none is dead for that."""
    other = Said(owner="other", announced_at=START + 31, held_since=START)
    watch = rounds(4, others=[other])
    assert watch.emptied_at is None
    away = START + 30 + SILENT_SECONDS + GAP_SECONDS
    watch = rounds(3, watch=watch, since=away, others=[other])
    assert watch.departed == ()
    assert watch.bound("me") is None


def test_memory_is_bounded() -> None:
    """However long a queue is busy or a daemon silent, a bounded number of rounds and lower bounds is remembered."""
    other = Said(owner="other", announced_at=0.0)
    watch = QueueWatch()
    for number in range(10 * KEPT):
        at = START + number
        told = [Said(announced_at=at + 0.5, held_since=at), other]
        watch = watch.after(at, {"queue": NOTHING if number < 200 else SOME}, told)
    assert len(watch.queues["queue"].rounds) <= KEPT
    assert len(watch.lower_bounds) <= KEPT
    assert watch.lower_bounds[0][1] == START


# ---- routes ----


def known(*routes: Route) -> dict[Route, Standpoint]:
    """Make routes whose rules were seen just now and on which nothing was let go."""
    return dict.fromkeys(routes, Standpoint(known_at=1e9))


def test_t1_a_route_is_complete_no_further_than_its_rules_were_seen() -> None:
    """What is written after the rules went arrives nowhere; a route without rules has no such moment at all."""
    lately, gone = Route("a", "x"), Route("a", "y")
    routes = {lately: Standpoint(known_at=450.5), gone: Standpoint(known_at=None)}
    assert watermarks(600.0, {}, routes=routes) == {lately: Watermark(450, 450)}


def test_t2_what_was_let_go_bounds_what_is_complete() -> None:
    """It is not pending any more, so it bounds nothing else; what is not followed is absent."""
    held, partly = Route("a", "x"), Route("a", "y")
    routes = {
        held: Standpoint(known_at=1e9, blocked_at=300.0),
        partly: Standpoint(known_at=1e9, whole=False),
    }
    assert watermarks(600.0, {}, routes=routes) == {held: Watermark(300, 600)}


def test_t3_without_any_event_nobody_knows_how_late_they_are() -> None:
    """No delay is not the delay 0: there is no bound until one was seen, or is remembered."""
    watch = rounds(5, delay=None)
    assert watch.bound("me") is None
    assert watch.bound("me", delay=20.0) == START + 30 - MARGIN_SECONDS - 20.0
    assert rounds(5, delay=7.0).bound("me", delay=20.0) == START + 30 - MARGIN_SECONDS - 20.0
    assert rounds(5, delay=7.0).bound("me", delay=2.0) == START + 30 - MARGIN_SECONDS - 7.0


def test_each_route_is_bound_by_what_is_open_on_it() -> None:
    """What is pending bounds both, what failed bounds only the complete one; the rest is the common bound."""
    slow, broken, fine = Route("a", "x"), Route("a", "y"), Route("a", "z")
    standings = {
        slow: Standing(pending_objects=1, oldest_written_at=60.0),
        broken: Standing(failed_objects=1, oldest_failed_at=120.0),
    }
    assert watermarks(600.9, standings, routes=known(slow, broken, fine)) == {
        slow: Watermark(60, 60),
        broken: Watermark(120, 600),
        fine: Watermark(600, 600),
    }


def test_what_goes_to_nobody_knows_where_bounds_all_routes_of_its_source() -> None:
    """A version whose rules could not be read may take any way; the unknown one is no route of its own."""
    one, two, other = Route("a", "x"), Route("a", "y"), Route("b", "x")
    unknown = Route("a", "unknown")
    standings = {
        unknown: Standing(
            pending_objects=1, oldest_written_at=120.0, failed_objects=1, oldest_failed_at=60.0
        )
    }
    assert watermarks(600.0, standings, routes=known(one, two, other)) == {
        one: Watermark(60, 120),
        two: Watermark(60, 120),
        other: Watermark(600, 600),
    }


# ---- the whole of it ----


class Stop(msgspec.Struct, frozen=True):
    """One stay of a message with a daemon."""

    waits: int
    """Seconds that it is visible before somebody takes it."""
    daemon: int
    holds: int
    done: bool
    """Whether it is durable then, or left to the queue undeleted."""


class Sent(msgspec.Struct, frozen=True):
    """A message's life: when it was written and sent, and its stays; it is durable after the last one at the latest."""

    written: int
    delay: int
    stops: tuple[Stop, ...]


class Model:
    """
    A queue, daemons that take messages from it, hold, leave and finish them or die, and one that reports.

    A daemon tells the oldest of what it holds or left within two visibilities. The queue's count is that of some
    moment at most `LATE` seconds ago.
    """

    def __init__(
        self, sent: Sequence[Sent], deaths: Mapping[int, int], late: int, phases: Sequence[int]
    ) -> None:
        self.sent = sent
        self.deaths = deaths
        self.late = late
        self.phases = phases
        self.delay = max(one.delay for one in sent)
        self.stop = [0] * len(sent)
        self.visible_at = [one.written + one.delay for one in sent]
        self.holder: list[int | None] = [None] * len(sent)
        self.taken_at = [0] * len(sent)
        self.durable = [False] * len(sent)
        self.left: list[tuple[int, int, int]] = []
        self.said: dict[int, Said] = {}
        self.counts: list[int] = []

    def alive(self, daemon: int, now: int) -> bool:
        return now < self.deaths.get(daemon, 10**9)

    def move(self, now: int) -> None:
        """Let a second pass for every message."""
        for number, one in enumerate(self.sent):
            if self.durable[number] or now < one.written + one.delay:
                continue
            stop = one.stops[min(self.stop[number], len(one.stops) - 1)]
            last = self.stop[number] >= len(one.stops) - 1
            holder = self.holder[number]
            if holder is None:
                daemon = stop.daemon if self.alive(stop.daemon, now) else 0
                if now >= self.visible_at[number] + stop.waits:
                    self.holder[number], self.taken_at[number] = daemon, now
            elif not self.alive(holder, now):
                # It was kept hidden to the last moment.
                self._back(number, self.deaths[holder] + VISIBILITY)
            elif now >= self.taken_at[number] + stop.holds:
                if stop.done or last:
                    self.durable[number] = True
                else:
                    self._back(number, now + VISIBILITY)
                    self.left.append((now, holder, one.written))

    def _back(self, number: int, visible_at: int) -> None:
        self.holder[number] = None
        self.visible_at[number] = visible_at
        self.stop[number] += 1

    def count(self, now: int) -> int:
        self.counts.append(
            sum(
                not self.durable[number]
                and self.holder[number] is None
                and now >= self.visible_at[number]
                for number in range(len(self.sent))
            )
        )
        return self.counts[max(len(self.counts) - 1 - self.late, 0)]

    def announce(self, now: int) -> None:
        for daemon, phase in enumerate(self.phases):
            if not self.alive(daemon, now) or (now + phase) % 10:
                continue
            held = [
                one.written
                for number, one in enumerate(self.sent)
                if self.holder[number] == daemon and not self.durable[number]
            ]
            held += [
                written
                for at, by, written in self.left
                if by == daemon and now < at + 2 * VISIBILITY
            ]
            self.said[daemon] = Said(
                owner=str(daemon),
                announced_at=now,
                held_since=min(held, default=None),
                delay=self.delay,
            )

    def run(self) -> None:
        """Report every 10 s until all is durable, and prove each bound right; afterwards it must get on."""
        watch = QueueWatch()
        now = over = 0
        while not over or now < over + AFTERWARDS:
            now += 1
            self.move(now)
            self.announce(now)
            waiting = self.count(now)
            quiet = all(self.durable) and now >= max(self.deaths.values(), default=0)
            over = over or (now if quiet else 0)
            if now % 10:
                continue
            queues = {"queue": QueueSeen(waiting=waiting, dead=0)}
            watch = watch.after(now, queues, self.said.values())
            for gone in watch.departed:
                self.said.pop(int(gone.owner))
            bound = watch.bound("0")
            if bound is None:
                continue
            open_ones = [
                one.written
                for number, one in enumerate(self.sent)
                if one.written <= now and not self.durable[number]
            ]
            assert bound <= min(open_ones, default=now), f"at {now}"
        assert bound is not None
        assert bound >= now - MARGIN_SECONDS - self.delay - 30


DAEMONS = 3
AFTERWARDS = 600
KEPT_BACK, DONE = False, True

stops = st.builds(
    Stop,
    st.sampled_from([0, 1, 5, 30, 200]),
    st.integers(0, DAEMONS - 1),
    st.sampled_from([0, 1, 7, 12, 60, 150]),
    st.booleans(),
)
messages = st.builds(
    Sent,
    st.integers(0, 200),
    st.integers(0, 90),
    st.lists(stops, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=60)
@given(
    st.lists(messages, min_size=1, max_size=4),
    st.dictionaries(st.integers(1, DAEMONS - 1), st.integers(1, 500), max_size=2),
    st.integers(0, LATE),
    st.lists(st.integers(0, 9), min_size=DAEMONS, max_size=DAEMONS),
)
@example([Sent(0, 0, (Stop(5, 1, 250, KEPT_BACK), Stop(200, 2, 60, DONE)))], {1: 20}, 0, [0, 3, 6])
@example([Sent(0, 90, (Stop(0, 1, 0, KEPT_BACK), Stop(200, 1, 0, DONE)))], {}, 60, [0, 0, 0])
@example(
    [Sent(0, 0, (Stop(149, 1, 60, DONE),)), Sent(0, 0, (Stop(0, 0, 0, DONE),))], {}, 0, [1, 9, 9]
)
def test_the_bound_never_passes_what_is_not_durable(
    sent: list[Sent], deaths: dict[int, int], late: int, phases: list[int]
) -> None:
    """
    Invariant: nothing written before the bound waits in a queue or is held, whoever takes, leaves, drops it or dies.

    Delays are at most the largest that the daemons saw: no more is promised. And in the end the bound gets on.
    """
    Model(sent, deaths, late, phases).run()


def test_what_comes_back_from_the_dead_letter_queue_is_not_passed() -> None:
    """Rounds in which the queue was empty while messages lay dead tell nothing once those are moved back."""
    before = rounds(7, queue=QueueSeen(waiting=0, dead=5))
    after = rounds(1, watch=before, since=START + 70, queue=QueueSeen(waiting=5, dead=0))

    assert after.clear
    assert after.bound("me") is None
