import itertools
from collections.abc import Iterator

import pytest

from fakes.kubernetes import Kubernetes
from fakes.release import Release

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """Run Kubernetes."""
    with Kubernetes(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


@pytest.fixture
def release(kubernetes: Kubernetes) -> Iterator[Release]:
    """Have a namespace to install into."""
    with Release(kubernetes, kubernetes.namespace(f"watch-{next(_NUMBERS)}")) as made:
        yield made
