"""What ledgers wrote down, read by another version of the daemon than that which wrote it."""

import msgspec
import pytest

from crrmon.adapters.ledgers import compact
from crrmon.adapters.ledgers.stored import MARK
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Fate, Mark

KNOWN = Mark(
    fate=Fate.MARKER_FAILED,
    route=Route("src", "dst"),
    written_at=1_000_000_000.0,
    found_at=1_000_000_005.0,
    batch="b1",
)


@pytest.mark.parametrize("key", ["plain", "\ud800"], ids=["msgpack", "json"])
def test_a_fate_that_only_a_later_version_knows_proves_the_counting(key: str) -> None:
    """Whatever it is: nobody counts the version again, and one mark harms nothing else of its trail."""
    mark = msgspec.structs.replace(KNOWN, batch=key)
    body = MARK.encode(mark).replace(b"marker_failed", b"marker_doomed")

    assert MARK.decode(body) == msgspec.structs.replace(mark, fate=Fate.GIVEN_UP)


def test_a_fate_without_a_name_here_is_the_same_to_ledgers_that_write_numbers() -> None:
    """Both forms make the same of it."""
    body = compact.encode({"x:dst": KNOWN}, {})
    fields = msgspec.msgpack.decode(body)
    fields[0][0][1] = 99

    marks, halves = compact.decode(msgspec.msgpack.encode(fields))

    assert marks == {"x:dst": msgspec.structs.replace(KNOWN, fate=Fate.GIVEN_UP)}
    assert halves == {}
