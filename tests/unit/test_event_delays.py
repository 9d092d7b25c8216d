"""How late events come: the largest of the last hours in which any came, and None for what was never seen."""

from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.event_delays import KEPT, SLOT_SECONDS, EventDelays, decode, encode

NOTED = st.lists(
    st.tuples(
        st.sampled_from(["cloudtrail", "notification"]),
        st.floats(-5, 1e6),
        st.floats(0, 1e5),
    ),
    max_size=20,
)


def delays(*noted: tuple[str, float, float]) -> EventDelays:
    """Note channels, delays and times."""
    known = EventDelays()
    for channel, seconds, now in noted:
        known = known.noted(channel, seconds, now=now)
    return known


def test_t3_nothing_known_is_none() -> None:
    """No delay is not the delay 0."""
    assert EventDelays().largest({}) is None
    assert EventDelays().largest({"cloudtrail": 900.0}) == 900.0
    assert delays(("cloudtrail", 0.0, 0.0)).largest({}) == 0.0


def test_t3_the_largest_of_all_channels_counts() -> None:
    """A route may be told of by any of them."""
    known = delays(("cloudtrail", 300.0, 0.0), ("notification", 1.0, 5.0))
    assert known.largest({}) == 300.0
    assert known.largest({"notification": 400.0}) == 400.0
    assert known.largest({"notification": 200.0}) == 300.0


def test_t3_quiet_hours_say_nothing_and_busy_ones_forget() -> None:
    """A delay is forgotten after so many slots with events, however long there were none."""
    known = delays(("cloudtrail", 300.0, 0.0))
    late = 100 * KEPT * SLOT_SECONDS
    for number in range(KEPT - 1):
        known = known.noted("cloudtrail", 1.0, now=late + number * SLOT_SECONDS)
        assert known.largest({}) == 300.0
    known = known.noted("cloudtrail", 1.0, now=late + KEPT * SLOT_SECONDS)
    assert known.largest({}) == 1.0


def test_a_delay_below_zero_is_none_at_all() -> None:
    """A clock that is ahead makes events seem to come before they happened."""
    assert delays(("cloudtrail", -30.0, 0.0)).largest({}) == 0.0


def test_what_tells_nothing_new_changes_nothing() -> None:
    """So that it need not be written again."""
    known = delays(("cloudtrail", 300.0, 0.0))
    assert known.noted("cloudtrail", 200.0, now=1.0) is known
    assert known.merged(delays(("cloudtrail", 100.0, 2.0))) is known
    assert known.merged(EventDelays()) is known


@given(one=NOTED, two=NOTED)
def test_two_daemons_know_together_what_each_knows(
    one: list[tuple[str, float, float]], two: list[tuple[str, float, float]]
) -> None:
    """In either order, and as it comes back from the ledger."""
    mine, theirs = delays(*one), delays(*two)
    both = mine.merged(theirs)
    assert both.channels == theirs.merged(mine).channels
    assert both.largest({}) == max(
        (known for known in (mine.largest({}), theirs.largest({})) if known is not None),
        default=None,
    )
    assert decode(encode(both)) == both
