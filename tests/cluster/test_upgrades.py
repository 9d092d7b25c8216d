"""From each example to each other one on a real API server: the way there, or the refusal and then the way there."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import helm_python as helm
import msgspec
import pytest

from fakes import chart
from fakes.kubernetes import Kubernetes, wait_for
from fakes.release import Release

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

# What takes its time on purpose is seen with the examples as they are.
EXAMPLES = {
    name.removesuffix("-values.yaml"): chart.merged(values, {"minReadySeconds": 0})
    for name, values in chart.example_values().items()
}
LIKE = {"webhook": "redis"}
"""Examples whose ledger, workload and scaler are another one's: from there the ways to all others are tried already."""
STOPPED: dict[str, Any] = {
    "replicaCount": 0,
    "autoscaling": {"enabled": False},
    "keda": {"enabled": False},
}


def _round() -> Iterator[tuple[str, str]]:
    """
    Yield every ordered pair once, each beginning where the one before ended; of those that are like another one, only
    the two with that.
    """
    names = list(EXAMPLES)
    ways = {
        name: [LIKE[name]] if name in LIKE else [one for one in names if one not in LIKE]
        for name in names
    }
    for name, other in LIKE.items():
        ways[other].append(name)
    left = {name: [other for other in ways[name] if other != name] for name in names}
    stack, walk = [names[0]], list[str]()
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    yield from itertools.pairwise(reversed(walk))


class Journey(msgspec.Struct):
    """One release that goes from example to example."""

    open: Callable[[], Release]
    """Makes one in a new namespace."""
    release: Release | None = None
    at: str = "nowhere"

    def start(self, name: str) -> Release:
        """Be at an example, by a new installation if the last step did not lead there."""
        if self.at != name or self.release is None:
            self.release = self.open()
            self.release.install(EXAMPLES[name])
            self.at = name
        return self.release

    @contextlib.contextmanager
    def to(self, name: str) -> Iterator[None]:
        """Be there at the end; after a failure nobody knows where it is."""
        self.at = "on the way"
        yield
        self.at = name


@pytest.fixture(scope="module")
def journey(kubernetes: Kubernetes) -> Iterator[Journey]:
    numbers = itertools.count()
    with contextlib.ExitStack() as opened:
        yield Journey(
            lambda: opened.enter_context(
                Release(kubernetes, kubernetes.namespace(f"journey-{next(numbers)}"))
            )
        )


def _ledger(release: Release, name: str) -> tuple[str, list[Any]]:
    """Return which ledger an example has, and what of it Kubernetes cannot change."""
    workload = release.manifests(EXAMPLES[name]).workload
    claims = workload["spec"].get("volumeClaimTemplates", [])
    return workload["metadata"]["annotations"]["crrmon/ledger"], claims


@pytest.mark.parametrize(("here", "there"), list(_round()))
def test_an_upgrade_from_each_to_each(journey: Journey, here: str, there: str) -> None:
    """In one step with the same ledger; to another one only while no replica runs."""
    release, values = journey.start(here), EXAMPLES[there]
    (ledger, claims), (other, others) = _ledger(release, here), _ledger(release, there)
    with journey.to(there):
        if ledger != other:
            before = release.there()
            with pytest.raises(helm.HelmError, match="knows no pending or counted objects"):
                release.upgrade(values)
            assert release.there() == before
            if release.all("HorizontalPodAutoscaler"):
                # Helm 4 puts no number over the scaler's, and the scaler none over this one.
                release.scale(0)
            release.upgrade(chart.merged(EXAMPLES[here], STOPPED))
            wait_for("no replica", lambda: not release.pods())
        elif claims != others:
            # The guide's way for what Kubernetes cannot change of a volume.
            with pytest.raises(helm.HelmError, match="updates to statefulset spec"):
                release.upgrade(values)
            release.leave_pods("StatefulSet")
        release.upgrade(values)
        release.settled(values)
        wait_for("replicas", release.pods)
