"""What is remembered of a route: rules that come and go, and what was let go on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.choice import Choice, Pattern
from crrmon.domain.objects import Route
from crrmon.domain.route_state import (
    DATED_SECONDS,
    KEPT,
    SELECTIONS_KEPT,
    Abandoned,
    RouteState,
    Selected,
    name_of,
    observed,
    prefix_of,
    released,
    route_of,
    selected,
    with_abandoned,
    with_arrival,
)
from crrmon.domain.routes import parse

ALL = Selected("", 100.0)


def rule(prefix: str = "", *, status: str = "Enabled", **more: Any) -> dict[str, Any]:
    """Make a rule to the bucket dst."""
    return {
        "Status": status,
        "Filter": {"Prefix": prefix},
        "Destination": {"Bucket": "arn:aws:s3:::dst"},
    } | more


def read(state: RouteState | None, at: float, *rules: dict[str, Any]) -> RouteState | None:
    """Read a configuration at a time."""
    configuration = parse({"Rules": list(rules)}, fetched_at=at)
    return observed(state, selected(configuration, "dst"), read_at=at)


def known(at: float = 100.0, *rules: dict[str, Any]) -> RouteState:
    """Make the state of a route that was read once."""
    state = read(None, at, *(rules or (rule(),)))
    assert state is not None
    return state


def lost(key: str, at: float = 100.0, why: str = "given_up") -> Abandoned:
    """Make an object that was let go."""
    return Abandoned(key, "v", at, why)


def test_a_route_that_nobody_knew_is_remembered_once_a_rule_leads_there() -> None:
    """A bucket without rules makes no route; a disabled rule is none."""
    assert read(None, 1.0) is None
    assert read(None, 1.0, rule(status="Disabled")) is None
    assert known(1.0) == RouteState(read_at=1.0, changed_at=1.0, selects=(Selected("", 1.0),))


def test_the_same_rules_read_again_are_nothing_new() -> None:
    """The state is not written again for each reading."""
    state = known()
    assert read(state, 200.0, rule()) is state
    assert read(state, 200.0, rule("a/")) is not state


def test_an_older_reading_tells_nothing() -> None:
    """Another daemon may have read a newer one."""
    state = known(100.0)
    assert read(state, 99.0) is state


def test_t1_a_route_whose_rules_go_remembers_what_they_selected() -> None:
    """What is written from then on under the same keys is missing there; other keys never were selected."""
    gone = read(known(100.0, rule("a/")), 200.0)

    assert gone is not None
    assert not gone.configured
    assert gone.changed_at == 200.0
    assert gone.missing("a/x", written_at=150.0)
    assert not gone.missing("b/x", written_at=150.0)
    assert not gone.missing("a/x", written_at=99.0)  # from before the rule was known


def test_t1_a_rule_that_is_narrowed_or_one_of_several_that_goes_is_missed_for_its_keys() -> None:
    """A route need not go as a whole to lose objects."""
    state = known(100.0, rule("a/"), rule("b/"))
    less = read(state, 200.0, rule("a/"), rule("b/b/"))

    assert less is not None
    assert less.configured
    assert less.missing("b/x", written_at=150.0)
    assert not less.missing("b/b/x", written_at=150.0)
    assert not less.missing("a/x", written_at=150.0)
    assert less.selecting("b/b/x", written_at=150.0)


def test_rules_that_are_put_together_lose_nothing() -> None:
    """One rule with a shorter prefix may take the place of several."""
    state = read(known(100.0, rule("a/"), rule("b/")), 200.0, rule())

    assert state is not None
    assert state.lost == ()
    assert not state.missing("a/x", written_at=150.0)
    assert state.selecting("a/x", written_at=150.0)
    assert not state.selecting("c/x", written_at=150.0)
    assert state.selecting("c/x", written_at=200.0)


def test_t1_a_rule_that_goes_beside_others_leaves_a_doubt() -> None:
    """S3 shows one status for all destinations: what was written since the last reading may have been miscounted."""
    state = known(100.0)
    gone = observed(state, (), read_at=200.0, seen_at=140.0, alone=False)
    assert gone is not None
    assert gone.blocked_at == 140.0
    unread = observed(state, (), read_at=200.0, alone=False)
    assert unread is not None
    assert unread.blocked_at == 100.0
    alone = observed(state, (), read_at=200.0, seen_at=140.0)
    assert alone is not None
    assert alone.blocked_at is None
    assert observed(state, state.selects, read_at=200.0, seen_at=140.0, alone=False) is state
    back = observed(gone, (Selected("", 300.0),), read_at=300.0, seen_at=200.0, alone=False)
    assert back is not None
    assert (back.configured, back.blocked_at) == (True, 140.0)
    assert released(back, now=400.0).blocked_at is None


def test_t1_a_rule_that_was_narrowed_before_still_leaves_a_doubt() -> None:
    """What is lost is remembered once, but every loss is a doubt of its own."""
    state = known(100.0, rule())
    less = observed(state, (Selected("a/", 200.0),), read_at=200.0, seen_at=150.0, alone=False)
    assert less is not None
    free = released(less, now=210.0)
    none = observed(free, (), read_at=300.0, seen_at=250.0, alone=False)
    assert none is not None
    assert none.blocked_at == 250.0


def test_t1_a_rule_with_a_tag_filter_that_goes_leaves_a_doubt() -> None:
    """Nobody can tell by the key what it would have selected."""
    tagged = rule(Filter={"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}})
    gone = read(known(100.0, tagged), 200.0)
    assert gone is not None
    assert gone.blocked_at == 100.0


def test_the_last_reading_is_dated_anew_once_in_a_while() -> None:
    """A doubt then begins no longer ago than that, whoever reads that the rules are gone."""
    state = known(100.0)
    later = read(state, 100.0 + DATED_SECONDS, rule())
    assert later is not None
    assert (later.read_at, later.changed_at) == (100.0 + DATED_SECONDS, 100.0)


def test_states_stay_small_whatever_is_done_to_the_rules() -> None:
    """A ledger takes 100 KB: what does not fit is a doubt, and a route that is known in part is never complete."""
    state: RouteState | None = None
    for number in range(3 * SELECTIONS_KEPT):
        state = read(state, 10.0 * (number + 1), rule(f"{number:03}/"))
    assert state is not None
    assert len(state.lost) == SELECTIONS_KEPT
    assert state.blocked_at is not None

    many = known(100.0, *(rule(f"{number:03}/") for number in range(2 * SELECTIONS_KEPT)))
    assert (len(many.selects), many.partial) == (SELECTIONS_KEPT, True)


def test_t1_rules_that_come_back_select_since_they_were_first_known() -> None:
    """What was written between, whenever it is found without a status, is missing there as well."""
    gone = read(known(100.0, rule("a/")), 200.0)
    back = read(gone, 300.0, rule("a/"))

    assert back is not None
    assert back.configured
    assert back.lost == ()
    assert back.selecting("a/x", written_at=150.0)
    assert not back.selecting("a/x", written_at=99.0)


def test_keys_that_are_in_doubt_are_never_missed() -> None:
    """Whether a tag filter selected an object cannot be told by its key."""
    tagged = rule(Filter={"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}})
    state = known(100.0, tagged)
    assert state.configured
    assert not state.selecting("a/x", written_at=150.0)

    gone = read(state, 200.0)
    assert gone is not None
    assert not gone.configured
    assert not gone.missing("a/x", written_at=150.0)


def test_objects_under_a_kms_key_are_selected_by_rules_that_opt_in() -> None:
    """Without that, S3 leaves them out, and nothing is missing."""
    opted = {"SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}}}
    assert not known().selecting("x", written_at=100.0, encrypted=True)
    state = known(100.0, rule(**opted))
    assert state.selecting("x", written_at=100.0, encrypted=True)

    less = read(state, 200.0, rule())
    assert less is not None
    assert less.missing("x", written_at=150.0, encrypted=True)
    assert not less.missing("x", written_at=150.0)


def test_t2_what_was_let_go_holds_back_until_it_arrives() -> None:
    """The oldest counts; a second word about the same object changes nothing."""
    state = known()
    assert state.blocked_at is None
    for one in (lost("b", 300.0), lost("a", 200.0), lost("c", 400.0)):
        state = with_abandoned(state, one)
    assert state.blocked_at == 200.0
    assert with_abandoned(state, lost("a", 100.0)) is state

    state = with_arrival(state, "a", "v")
    assert state.blocked_at == 300.0
    assert with_arrival(state, "a", "v") is state
    assert with_arrival(state, "b", "another") is state


def test_t2_beyond_what_is_kept_one_by_one_the_oldest_time_is_kept() -> None:
    """Memory is bounded, and nothing older than what is forgotten is ever passed over."""
    state = known()
    for number in range(KEPT + 10):
        state = with_abandoned(state, lost(f"k{number}", 1000.0 - number))

    assert len(state.abandoned) == KEPT
    assert {one.written_at for one in state.abandoned} == {
        1000.0 - n for n in range(10, KEPT + 10)
    }
    assert state.others_from == 991.0
    assert with_abandoned(state, lost("late", 995.0)) is state
    for one in state.abandoned:
        state = with_arrival(state, one.key, one.version_id)
    assert state.blocked_at == 991.0


def test_t2_a_person_releases_a_route() -> None:
    """Nothing holds it back any more, nor what is found later to have been without a rule before."""
    gone = read(known(100.0, rule("a/"), rule("b/")), 200.0, rule("a/"))
    assert gone is not None
    state = released(with_abandoned(gone, lost("b/x", 250.0)), now=500.0)

    assert state.configured
    assert state.blocked_at is None
    assert not state.missing("b/y", written_at=600.0)
    assert not state.selecting("a/x", written_at=400.0)
    assert state.selecting("a/x", written_at=500.0)


def test_t1_a_route_that_a_person_gave_up_is_retired_until_a_rule_leads_there_again() -> None:
    """Whoever takes a route down on purpose is not told of it for ever."""
    gone = read(known(), 200.0)
    assert gone is not None
    retired = released(gone, now=300.0)
    assert retired.retired
    assert read(retired, 400.0) is retired

    again = read(retired, 500.0, rule())
    assert again == RouteState(read_at=500.0, changed_at=500.0, selects=(Selected("", 500.0),))


@pytest.mark.parametrize("route", [Route("a", "b"), Route("a.b-c", "unknown")])
def test_names_lead_back_to_routes(route: Route) -> None:
    """The ledger keeps states by name."""
    assert route_of(name_of(route)) == route
    assert name_of(route).startswith(prefix_of())
    assert name_of(route).startswith(prefix_of(route.source))


LETTERS = st.text("ab/", max_size=3)


@given(
    history=st.lists(st.lists(LETTERS, max_size=3), min_size=1, max_size=6),
    key=LETTERS,
    written=st.integers(0, 70),
)
def test_t1_a_key_that_was_selected_is_selected_or_missing(
    history: list[list[str]], key: str, written: int
) -> None:
    """Whatever is done to the rules: what they selected when it was written is never simply forgotten."""
    state: RouteState | None = None
    selected_at = None
    for number, prefixes in enumerate(history):
        at = 10.0 * (number + 1)
        state = read(state, at, *map(rule, prefixes))
        if selected_at is None and any(key.startswith(one) for one in prefixes):
            selected_at = at
    if state is None:
        return
    now = any(key.startswith(one) for one in history[-1])
    assert not (state.missing(key, written_at=written) and now)
    if selected_at is not None and not now and written >= 10 * len(history):
        assert state.missing(key, written_at=written)
    if now and written >= 10 * len(history):
        assert state.selecting(key, written_at=written)


def test_t2_what_is_followed_as_a_whole() -> None:
    """A prefix is followed as a whole where it is included and nothing of it is excluded."""
    everything = Choice()
    assert everything.whole("src", "")
    without = Choice(exclude=[Pattern("src", "tmp/"), Pattern("old-*")])
    assert not without.whole("src", "")
    assert not without.whole("src", "tmp/x/")
    assert not without.whole("src", "t")
    assert without.whole("src", "data/")
    assert not without.whole("old-1", "data/")
    only = Choice(include=[Pattern("src", "data/")])
    assert only.whole("src", "data/a")
    assert only.whole("src", "data/")
    assert not only.whole("src", "")
    assert not only.whole("other", "")


def test_state_defaults_hold_nothing_back() -> None:
    """A route that is new is held back by nothing."""
    state = RouteState(read_at=1.0, changed_at=1.0, selects=(ALL,))
    assert (state.blocked_at, state.configured, state.retired) == (None, True, False)
