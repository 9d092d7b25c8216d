"""A refused part, or a sink that refuses everything."""

from crrmon.domain.refusals import REFUSALS, Refusals


def test_r5_a_part_is_at_fault_when_it_is_refused_again_after_another_was_accepted() -> None:
    """R5: the first refusal proves nothing; one after somebody else's acceptance does."""
    refusals = Refusals()
    assert not refusals.refused("bad")
    assert refusals.pointless("bad"), "nothing is known that was not before"
    refusals.accepted()
    assert not refusals.pointless("bad")
    assert refusals.refused("bad")
    assert not refusals.total


def test_r5_whoever_never_accepted_anything_refuses_everything() -> None:
    """R5: at a sink that never accepted, a few refusals are enough, be they of one part."""
    refusals = Refusals()
    for _ in range(REFUSALS):
        assert not refusals.total
        assert not refusals.refused("only one")
        refusals.again()
    assert refusals.total
    assert not refusals.hopeful
    refusals.accepted()
    assert not refusals.total


def test_r5_of_a_sink_that_accepted_before_it_takes_several_parts() -> None:
    """R5: one bad part in a quiet hour is no outage, however often it is tried; several parts are one."""
    refusals = Refusals()
    refusals.accepted()
    for _ in range(3 * REFUSALS):
        assert not refusals.refused("bad")
        refusals.again()
    assert not refusals.total
    for number in range(REFUSALS):
        assert not refusals.refused(number)
    assert refusals.total
    refusals.again()
    assert refusals.total, "until one is accepted"


def test_r5_what_was_refused_in_an_outage_is_tried_again_after_it() -> None:
    """R5: nothing that was refused while all was refused is let go for that."""
    refusals = Refusals()
    for number in range(10):
        assert not refusals.refused(number)
    refusals.accepted()
    assert not any(refusals.pointless(number) for number in range(10))
