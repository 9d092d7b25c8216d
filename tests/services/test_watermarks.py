"""What was left in a queue holds back what is said to be complete, however much it is."""

from crrmon.services.intake.watermarks import REMEMBERED_MESSAGES, QueueWatermarks

NOW = 1_800_000_000.0


def test_r10_what_was_too_much_to_remember_still_holds_back() -> None:
    """R10: the floor of a message that is let go stands until its time is over, also when those after it come again."""
    watermarks = QueueWatermarks()
    watermarks.left("old", NOW - 5000, until=NOW + 1800)
    for number in range(REMEMBERED_MESSAGES + 50):
        watermarks.left(f"m{number}", NOW - 10, until=NOW + 1800)
    for number in range(REMEMBERED_MESSAGES + 50):
        watermarks.came(f"m{number}")
    assert watermarks.lowest(now=NOW) == NOW - 5000
    assert watermarks.lowest(now=NOW + 1799) == NOW - 5000
    assert watermarks.lowest(now=NOW + 1800) is None
