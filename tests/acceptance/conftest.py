"""What tests of real processes share."""

from collections.abc import Iterator

import pytest

from fakes.moto_server import moto_server


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """
    Run moto in this process, so that tests can reach into it.
    """
    with moto_server() as url:
        yield url
