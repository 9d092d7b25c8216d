"""What was left in a queue holds back what is said to be complete, however much it is."""

from crrmon.services.intake.watermarks import REMEMBERED_MESSAGES, Floors

NOW = 1_800_000_000.0


def test_r10_what_was_too_much_to_remember_still_holds_back() -> None:
    """R10: the floor of a message that is let go stands until its time is over, also when those after it come again."""
    floors = Floors()
    floors.left("old", NOW - 5000, until=NOW + 1800)
    for number in range(REMEMBERED_MESSAGES + 50):
        floors.left(f"m{number}", NOW - 10, until=NOW + 1800)
    for number in range(REMEMBERED_MESSAGES + 50):
        floors.came(f"m{number}")
    assert floors.lowest(now=NOW) == NOW - 5000
    assert floors.lowest(now=NOW + 1799) == NOW - 5000
    assert floors.lowest(now=NOW + 1800) is None
