"""Whether "complete up to" is ahead of the truth is seen on every sample."""

import pytest
from msgspec.structs import replace

from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.events.facts import Operation
from crrmon.domain.metric import Metric
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.truth import Truth, Written
from crrmon.sandbox.watermarks import COMPLETE, SETTLED, Lookout
from crrmon.sandbox.world import WORLD

TO_A, TO_C = Route("src-a", "dst-a"), Route("src-a", "dst-c")
NOW = 1_900_000_200.0
WRITTEN_AT = 1_900_000_100.5


@pytest.fixture
def truth() -> Truth:
    """Have one version on its way to two destinations."""
    made = Truth()
    made.wrote(WRITTEN)
    return made


WRITTEN = Written(
    version=ObjectVersion("src-a", "key", "v1"),
    region="eu-west-1",
    written_at=WRITTEN_AT,
    size=1,
    operation=Operation.PUT,
    destinations=WORLD.destinations("src-a", "key"),
)


def page(*shown: tuple[Metric, Route, float]) -> str:
    """Make the page of a daemon that shows these."""
    meters = PrometheusMeters()
    meters.set(catalogue.PENDING_OBJECTS, TO_A.source, TO_A.destination, value=1)
    for metric, route, value in shown:
        meters.set(metric, route.source, route.destination, value=value)
    return meters.page("")[0].decode()


def ahead(lookout: Lookout) -> dict[tuple[str, str], int]:
    """Tell where in how many samples it was ahead."""
    return {(one.measure, one.destination): one.ahead for one in lookout.lines()}


def test_a_waterline_may_reach_what_is_missing_but_not_pass_it(truth: Truth) -> None:
    """It says that nothing written before it is missing: at that write's own moment it is still right."""
    lookout = Lookout(truth)
    for value in (WRITTEN_AT - 50, WRITTEN_AT):
        lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, value)), at=NOW)
    assert ahead(lookout) == {(COMPLETE, "dst-a"): 0}

    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, WRITTEN_AT + 3.5)), at=NOW)
    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, WRITTEN_AT + 0.5)), at=NOW + 1)
    (line,) = lookout.lines()
    assert (line.shown, line.ahead, line.last, line.agrees) == (4, 2, WRITTEN_AT + 0.5, False)
    assert line.worst is not None
    assert (line.worst.seconds, line.worst.truth, line.worst.seen_at) == (3.5, WRITTEN_AT, NOW)
    assert (line.worst.missing, line.worst.replica) == (WRITTEN.version, "one")


def test_each_destination_has_a_truth_of_its_own(truth: Truth) -> None:
    """What arrived at one of two destinations is passed there and nowhere else."""
    truth.arrived(WRITTEN.version, "dst-c", at=WRITTEN_AT + 2)
    lookout = Lookout(truth)
    both = page(*((catalogue.COMPLETE_UP_TO, one, NOW - 60) for one in (TO_A, TO_C)))
    lookout.take("one", both, at=NOW)

    assert ahead(lookout) == {(COMPLETE, "dst-a"): 1, (COMPLETE, "dst-c"): 0}


def test_a_failure_holds_completeness_and_not_settling(truth: Truth) -> None:
    """Nobody waits for what failed, but it is missing."""
    truth.failed(WRITTEN.version, "dst-a", reason="DstKmsKeyNotFound")
    lookout = Lookout(truth)
    shown = page(
        (catalogue.COMPLETE_UP_TO, TO_A, NOW - 60), (catalogue.SETTLED_UP_TO, TO_A, NOW - 60)
    )
    lookout.take("one", shown, at=NOW)

    assert ahead(lookout) == {(COMPLETE, "dst-a"): 1, (SETTLED, "dst-a"): 0}


def test_while_it_is_pending_it_holds_both(truth: Truth) -> None:
    """Settled up to is checked as well."""
    lookout = Lookout(truth)
    lookout.take("one", page((catalogue.SETTLED_UP_TO, TO_A, NOW - 60)), at=NOW)

    assert ahead(lookout) == {(SETTLED, "dst-a"): 1}


def test_what_has_not_come_yet_cannot_be_complete(truth: Truth) -> None:
    """With nothing missing, the present is the limit."""
    truth.deleted(WRITTEN.version)
    lookout = Lookout(truth)
    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, NOW)), at=NOW)
    assert ahead(lookout) == {(COMPLETE, "dst-a"): 0}

    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, NOW + 90)), at=NOW)
    (line,) = lookout.lines()
    assert line.worst is not None
    assert (line.worst.seconds, line.worst.missing) == (90.0, None)


def test_a_sample_is_held_against_the_truth_of_its_own_moment(truth: Truth) -> None:
    """What became true later excuses nothing, and what was true before is not held against it."""
    lookout = Lookout(truth)
    shown = page((catalogue.COMPLETE_UP_TO, TO_A, NOW - 60))
    lookout.take("one", shown, at=NOW)
    truth.arrived(WRITTEN.version, "dst-a", at=NOW + 1)
    lookout.take("one", shown, at=NOW + 2)
    (line,) = lookout.lines()

    assert (line.shown, line.ahead) == (2, 1)


def test_the_newest_word_is_that_of_whoever_shows_it_now(truth: Truth) -> None:
    """A replica that shows it no more, or that does not answer, says nothing; another may."""
    lookout = Lookout(truth)
    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, 50.0)), at=NOW)
    lookout.take("two", page((catalogue.COMPLETE_UP_TO, TO_A, 40.0)), at=NOW)
    assert lookout.last(COMPLETE, TO_A) == 50.0
    lookout.take("one", "", at=NOW)
    assert lookout.last(COMPLETE, TO_A) == 40.0
    lookout.take("two", page(), at=NOW)

    assert lookout.last(COMPLETE, TO_A) is None
    assert lookout.last(SETTLED, TO_C) is None
    assert lookout.samples == 3
    assert [(one.shown, one.last) for one in lookout.lines()] == [(2, None)]


def test_two_missing_versions_count_as_the_older_one(truth: Truth) -> None:
    """The order of writing decides, not that of being told."""
    truth.wrote(
        replace(WRITTEN, version=replace(WRITTEN.version, key="old"), written_at=WRITTEN_AT - 30)
    )
    lookout = Lookout(truth)
    lookout.take("one", page((catalogue.COMPLETE_UP_TO, TO_A, WRITTEN_AT)), at=NOW)
    (line,) = lookout.lines()

    assert line.worst is not None
    assert line.worst.seconds == 30.0
