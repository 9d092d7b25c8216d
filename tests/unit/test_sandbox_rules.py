"""Rules that somebody switches off while applications go on writing."""

from itertools import islice

from crrmon.domain.events.facts import Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.plan import Chances, plan
from crrmon.sandbox.rules import MISCHIEF, Rules
from crrmon.sandbox.truth import NOT_COVERED, Truth, Written
from crrmon.sandbox.world import WORLD

OFF = {Route("src-a", "dst-a"), Route("src-a", "dst-c"), Route("src-b", "dst-b")}


def switched_off() -> Rules:
    """Return rules of which some are off."""
    rules = Rules(WORLD)
    rules.switch_off(MISCHIEF)
    return rules


def test_t1_only_what_was_switched_off_leads_nowhere() -> None:
    """One rule by its id, and all of a bucket; other buckets go on as before."""
    before, after = Rules(WORLD), switched_off()

    assert before.leads() == dict.fromkeys(WORLD.routes, True)
    assert {route for route, leads in after.leads().items() if not leads} == OFF
    assert before.destinations("src-a", "key") == ("dst-a", "dst-c")
    assert after.destinations("src-a", "key") == after.destinations("src-b", "data/key") == ()
    assert after.destinations("src-c", "key") == ("src-d",)
    assert [one for one in ("src-a", "src-b", "src-c", "src-d") if after.touched(one)] == [
        "src-a",
        "src-b",
    ]


def test_t1_nothing_planned_replicates_by_a_rule_that_is_off() -> None:
    """There the plan ends with the write, without what daemons cannot be certain of; elsewhere it stays as it is."""
    writes = list(islice(plan(WORLD, Chances(), seed=3), 400))
    rules = switched_off()

    assert [Rules(WORLD).left_of(one) for one in writes] == writes
    for one in writes:
        left = rules.left_of(one)
        if one.bucket in ("src-a", "src-b"):
            assert (left.passages, left.deletion, left.marking) == ((), None, None)
            assert (left.key, left.size, left.copy_of) == (one.key, one.size, one.copy_of)
        else:
            assert left == one


def test_t1_what_no_rule_takes_any_more_is_missing_at_the_end_of_its_route_for_ever() -> None:
    """It is not covered, nobody waits for it, and no moment after its write is complete on that route."""
    truth = Truth()
    written = Written(
        version=ObjectVersion("src-b", "data/key", "v1"),
        region="us-east-1",
        written_at=100.0,
        size=1,
        operation=Operation.PUT,
        lost=("dst-b",),
    )
    truth.wrote(written)

    route = Route("src-b", "dst-b")
    assert truth.status(written.version) == NOT_COVERED
    assert truth.account().not_covered == {"src-b": 1}
    assert truth.account().pending == {}
    assert truth.oldest_missing(route) == (100.0, written.version)
    assert truth.oldest_pending(route) is None
