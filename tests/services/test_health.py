"""Dependencies that go and come back, loops that stall: what is logged, who waits, and what is told over HTTP."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from crrmon.domain import catalogue
from crrmon.services.lifecycle.health import (
    FAILING_SECONDS,
    PROBE_CAP_SECONDS,
    PROBE_FIRST_SECONDS,
    REMINDER_SECONDS,
    Dependency,
    HealthBoard,
)
from fakes.clock import EPOCH, LoopClock
from fakes.meters import FakeMeters


def _ignored() -> None:
    """Stand for whoever is told that waiting goes on."""


HOUR = 3600.0


def make(*, tolerated: int = 0) -> Dependency:
    """Make a dependency that is well."""
    return Dependency("ledger", clock=LoopClock(), tolerated=tolerated)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as collected:
        yield collected


async def test_an_outage_is_logged_when_it_begins_once_a_minute_and_when_it_is_over(
    logs: list[Any],
) -> None:
    """However often it fails, an hour's outage is about sixty lines, each with the reason, and one when it is back."""
    dependency = make()
    for _ in range(int(HOUR)):
        dependency.failed("nobody there")
        await asyncio.sleep(1)
    dependency.succeeded()
    dependency.succeeded()

    away = [one for one in logs if one["event"] == "dependency_unavailable"]
    back = [one for one in logs if one["event"] == "dependency_recovered"]
    assert len(logs) == len(away) + len(back)
    assert len(away) == HOUR / REMINDER_SECONDS
    assert [one["unavailable_seconds"] for one in away[:3]] == [
        0,
        REMINDER_SECONDS,
        2 * REMINDER_SECONDS,
    ]
    assert {(one["dependency"], one["reason"]) for one in away} == {("ledger", "nobody there")}
    assert [(one["dependency"], one["unavailable_seconds"]) for one in back] == [("ledger", HOUR)]


async def test_a_new_outage_is_logged_at_once(logs: list[Any]) -> None:
    """The once-a-minute rule is for one outage; the next one is told of when it begins."""
    dependency = make()
    for _ in range(3):
        dependency.failed("nobody there")
        await asyncio.sleep(1)
        dependency.succeeded()

    assert [one["event"] for one in logs] == ["dependency_unavailable", "dependency_recovered"] * 3


async def test_what_never_failed_says_nothing(logs: list[Any]) -> None:
    """Success is no news."""
    dependency = make()
    dependency.succeeded()

    assert logs == []
    assert not dependency.away
    assert dependency.describe() == "ok"


async def test_a_few_failures_in_a_row_are_tolerated(logs: list[Any]) -> None:
    """Only more than the tolerated number without a success between counts as away."""
    dependency = make(tolerated=3)
    for _ in range(10):
        for _ in range(3):
            dependency.failed("hiccup")
        dependency.succeeded()
    assert not dependency.away
    assert logs == []

    for _ in range(4):
        dependency.failed("gone")
    assert dependency.away


async def test_what_can_only_be_read_is_not_back(logs: list[Any]) -> None:
    """A full disk: reads succeed between failing writes; it stays away, without a flood, until writes succeed, too."""
    dependency = make()
    for _ in range(300):
        dependency.failed("disk full", "settle")
        dependency.succeeded("due")
        await asyncio.sleep(1)
        assert dependency.away
    dependency.succeeded("settle")

    assert not dependency.away
    assert [one["event"] for one in logs] == ["dependency_unavailable"] * 5 + [
        "dependency_recovered"
    ]


async def test_what_nobody_tries_any_more_does_not_keep_it_away() -> None:
    """Whoever failed may be gone; after a while the success of others is enough."""
    dependency = make()
    dependency.failed("gone", "settle")
    dependency.succeeded("due")
    assert dependency.away
    await asyncio.sleep(FAILING_SECONDS)
    dependency.succeeded("due")
    assert not dependency.away


async def test_it_says_for_how_long_and_why() -> None:
    """The words for /readyz name the reason last seen, and when it began."""
    dependency = make()
    dependency.failed("first")
    await asyncio.sleep(100)
    dependency.failed("second")

    assert dependency.describe() == "unavailable for 100 s: second"


async def test_usable_lets_probes_through_with_growing_spacing() -> None:
    """While it is away somebody may try after 1 s, then after twice as long each time, up to every 30 s."""
    loop = asyncio.get_running_loop()
    dependency = make()
    dependency.failed("gone")
    probed_at = [loop.time()]
    while len(probed_at) < 10:
        await dependency.usable(alive=_ignored)
        probed_at.append(loop.time())
        dependency.failed("still gone")

    spaces = [later - sooner for sooner, later in itertools.pairwise(probed_at)]
    expected = [min(PROBE_FIRST_SECONDS * 2**number, PROBE_CAP_SECONDS) for number in range(9)]
    assert spaces == pytest.approx(expected, abs=0.01)


async def test_usable_lets_one_through_at_a_time() -> None:
    """Of many who wait, one tries; the others go on waiting for the outcome."""
    dependency = make()
    dependency.failed("gone")
    passed: list[int] = []

    async def waiter(number: int) -> None:
        await dependency.usable(alive=_ignored)
        passed.append(number)

    tasks = [asyncio.create_task(waiter(number)) for number in range(20)]
    await asyncio.sleep(PROBE_FIRST_SECONDS + 0.1)
    assert len(passed) == 1
    await asyncio.sleep(PROBE_FIRST_SECONDS * 2)
    assert len(passed) == 2

    dependency.succeeded()
    await asyncio.sleep(0.1)
    assert len(passed) == 20
    await asyncio.gather(*tasks)


async def test_usable_does_not_wait_for_what_is_well() -> None:
    """Nobody waits before the first failure, or after the last."""
    dependency = make()
    began = asyncio.get_running_loop().time()
    await dependency.usable(alive=_ignored)
    dependency.failed("gone")
    dependency.succeeded()
    await dependency.usable(alive=_ignored)

    assert asyncio.get_running_loop().time() == began


async def test_after_an_outage_probes_begin_quickly_again() -> None:
    """The spacing is an outage's own."""
    loop = asyncio.get_running_loop()
    dependency = make()
    dependency.failed("gone")
    for _ in range(8):
        await dependency.usable(alive=_ignored)
    dependency.succeeded()
    dependency.failed("gone again")

    began = loop.time()
    await dependency.usable(alive=_ignored)

    assert loop.time() - began == pytest.approx(PROBE_FIRST_SECONDS, abs=0.01)


# ---- the board ----


def make_board() -> tuple[HealthBoard, FakeMeters]:
    """Make a board and the meters it writes to."""
    meters = FakeMeters()
    return HealthBoard(clock=LoopClock(), meters=meters), meters


async def test_ready_while_every_dependency_answers() -> None:
    """Ready says of each dependency how it is; one that is away is enough for no."""
    board, _ = make_board()
    ledger, queue = board.dependency("ledger"), board.dependency("queue q", tolerated=1)
    assert board.ready().ok

    queue.failed("hiccup")
    assert board.ready().ok

    ledger.failed("disk full")
    verdict = board.ready()
    assert not verdict.ok
    assert verdict.details == {"ledger": "unavailable for 0 s: disk full", "queue q": "ok"}

    ledger.succeeded()
    assert board.ready().ok


async def test_live_while_every_loop_makes_progress() -> None:
    """A loop that did not begin a round within its patience is named, with for how long."""
    board, _ = make_board()
    board.began("poller", patience=100)
    board.began("leases", patience=1000)
    await asyncio.sleep(100)
    assert board.live().ok

    await asyncio.sleep(50)
    verdict = board.live()
    assert not verdict.ok
    assert verdict.details == {"poller": "no progress for 150 s", "leases": "ok"}

    board.began("poller", patience=100)
    assert board.live().ok


async def test_an_outage_is_no_reason_to_be_restarted() -> None:
    """Liveness does not look at dependencies: a restart would not bring them back."""
    board, _ = make_board()
    board.began("poller", patience=100)
    board.dependency("ledger").failed("gone")

    assert board.live().ok


async def test_while_it_starts_it_is_alive_but_not_ready() -> None:
    """A rollout must not take it for ready while nobody knows whether its ledger can be opened."""
    board = HealthBoard(clock=LoopClock(), meters=FakeMeters())
    board.dependency("ledger")
    board.starting()
    assert board.live().ok
    assert not board.ready().ok
    assert board.ready().details["daemon"] == "starting"

    board.started()
    assert board.ready().ok


async def test_while_it_stops_it_is_alive_but_not_ready() -> None:
    """Whoever routes by readiness sees the end coming; nobody kills it for loops that have ended."""
    board, _ = make_board()
    board.began("poller", patience=10)
    board.stopping()
    await asyncio.sleep(60)

    assert board.live().ok
    assert board.ready().details["daemon"] == "stopping"
    assert not board.ready().ok


async def test_rounds_are_stamped() -> None:
    """Last attempt and last success of every loop can be seen apart."""
    board, meters = make_board()
    board.began("poller", patience=10)
    await asyncio.sleep(5)
    board.ended("poller")
    await asyncio.sleep(5)
    board.began("poller", patience=10)

    assert meters.gauge(catalogue.LOOP_ATTEMPT, "poller") == EPOCH + 10
    assert meters.gauge(catalogue.LOOP_SUCCESS, "poller") == EPOCH + 5


async def test_whoever_waits_for_an_answer_hears_of_anybodys() -> None:
    """`answering` ends with the next success of any operation, or when its time is up."""
    loop = asyncio.get_running_loop()
    one = make()
    one.failed("gone", "settle")
    one.succeeded("due")  # was before

    began = loop.time()
    await one.answering(within=10)
    assert loop.time() - began == pytest.approx(10, abs=0.01)

    loop.call_later(2, one.succeeded, "leases")
    began = loop.time()
    await one.answering(within=10)
    assert loop.time() - began == pytest.approx(2, abs=0.01)


async def test_what_is_not_asked_for_any_more_keeps_nobody_waiting() -> None:
    """An operation that failed and is given up does not count until it would be believed again."""
    one = make()
    one.failed("gone", "publish")
    one.succeeded("due")
    assert one.away

    one.forgo("publish")
    one.succeeded("due")
    assert not one.away


# ---- what is shown, and who is not asked ----


async def test_r9_what_readyz_knows_is_a_metric() -> None:
    """R9: every dependency has a 1 or 0 from the start, and since when; both change when it does, and only then."""
    board, meters = make_board()
    queue = board.dependency("queue q", tolerated=1)
    assert meters.gauge(catalogue.DEPENDENCY_UP, "queue q") == 1
    assert meters.gauge(catalogue.DEPENDENCY_SINCE, "queue q") == EPOCH
    await asyncio.sleep(100)
    queue.failed("hiccup")
    queue.succeeded()
    assert meters.gauge(catalogue.DEPENDENCY_SINCE, "queue q") == EPOCH
    for _ in range(5):
        await asyncio.sleep(10)
        queue.failed("gone")
    assert meters.gauge(catalogue.DEPENDENCY_UP, "queue q") == 0
    assert meters.gauge(catalogue.DEPENDENCY_SINCE, "queue q") == EPOCH + 120
    await asyncio.sleep(50)
    queue.succeeded()
    assert meters.gauge(catalogue.DEPENDENCY_UP, "queue q") == 1
    assert meters.gauge(catalogue.DEPENDENCY_SINCE, "queue q") == EPOCH + 200


async def test_r2_what_nobody_asks_any_more_is_not_judged() -> None:
    """R2: retired, it is neither away nor well: no gauge, ready, nobody waits for it; asked again, it is judged again."""
    board, meters = make_board()
    sink = board.dependency("cloudwatch")
    sink.failed("gone")
    assert not board.ready().ok
    sink.retire()
    assert board.ready().ok
    assert board.ready().details == {"cloudwatch": "not asked by this replica"}
    assert meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") is None
    assert meters.gauge(catalogue.DEPENDENCY_SINCE, "cloudwatch") is None
    began = asyncio.get_running_loop().time()
    await sink.usable(alive=_ignored)
    assert asyncio.get_running_loop().time() == began

    sink.succeeded()
    assert meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") == 1
    sink.retire()
    sink.failed("gone")
    assert meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") == 0


async def test_r2_an_outage_ends_for_who_has_nothing_to_ask() -> None:
    """R2: only what is away and was not asked for so long is retired; the others go on as they are."""
    board, meters = make_board()
    one, well = board.dependency("s3"), board.dependency("deletes")
    one.failed("gone")
    await asyncio.sleep(500)
    one.failed("gone")
    await asyncio.sleep(500)
    one.retire(unasked_for=600)
    well.retire(unasked_for=600)
    assert one.away
    await asyncio.sleep(101)
    one.retire(unasked_for=600)
    assert not one.away
    assert meters.gauge(catalogue.DEPENDENCY_UP, "s3") is None
    assert meters.gauge(catalogue.DEPENDENCY_UP, "deletes") == 1
