"""Host and port as URLs have them."""

import pytest

from crrmon.domain.authority import authority


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "127.0.0.1:9464"),
        ("localhost", "localhost:9464"),
        ("::", "[::]:9464"),
        ("fd00::1", "[fd00::1]:9464"),
    ],
)
def test_e1_an_address_of_version_6_has_brackets(host: str, told: str) -> None:
    """Else nobody could tell where it ends and the port begins."""
    assert authority(host, 9464) == told
