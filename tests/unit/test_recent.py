"""What is remembered by names that strangers choose is bounded."""

from crrmon.domain.recent import Recent


def test_r10_the_longest_unused_is_forgotten() -> None:
    """R10: beyond the limit whatever was asked for least lately goes; asking is using."""
    recent: Recent[str, int] = Recent(most=3)
    for number, name in enumerate("abc"):
        recent.put(name, number)
    assert recent.get("a") == 0
    recent.put("d", 3)
    assert recent.get("b") is None
    assert [key for key, _ in recent.items()] == ["c", "a", "d"]
    assert recent.oldest() == ("c", 2)
    assert recent.pop("c") == 2
    assert recent.pop("c") is None
    assert len(recent) == 2


def test_r10_what_is_in_use_is_spared() -> None:
    """R10: a value in use is not forgotten; the next one is, and where all are in use there are more for a while."""
    recent: Recent[str, list[int]] = Recent(most=2, spared=bool)
    recent.put("busy", [1])
    recent.put("idle", [])
    recent.put("new", [1])
    assert "idle" not in recent
    recent.put("newer", [1])
    assert len(recent) == 3
