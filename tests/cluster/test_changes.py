"""What only an API server shows: what is kept, what is refused and what is taken back when a release changes."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from fakes import chart
from fakes.kubernetes import wait_for
from fakes.release import NAME, Release

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

REDIS = chart.merged(chart.LEAST, {"config": {"ledger": {"kind": "redis"}}})
SCALERS = {
    "autoscaling": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 9}},
    "keda": {"keda": {"enabled": True, "minReplicas": 2, "maxReplicas": 9}},
}
EVERYTHING: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
}
BROKEN = {"image": {"tag": "broken"}}


@contextmanager
def _counts(release: Release) -> Iterator[list[int]]:
    """Collect how many replicas the Deployment asked for at any moment."""
    path = release.api.path("apps/v1", "Deployment", release.namespace)
    seen: list[int] = []
    marked = threading.Event()

    def look() -> None:
        for event in release.api.watch(path):
            seen.append(event["object"]["spec"]["replicas"])
            if "the-end" in event["object"]["metadata"].get("annotations", {}):
                marked.set()
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    wait_for("the first look", lambda: seen)
    yield seen
    release.annotate("Deployment", {"the-end": "seen"})
    assert marked.wait(30)
    looking.join()


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_fleet_keeps_its_size_when_a_scaler_takes_over(release: Release, scaler: str) -> None:
    """Nobody else has said yet how many there should be, and Kubernetes would take one."""
    scaled = chart.merged(REDIS, SCALERS[scaler])
    release.install(chart.merged(REDIS, {"replicaCount": 6}))
    with _counts(release) as seen:
        release.upgrade(scaled)
        release.upgrade(chart.merged(scaled, {"config": {"name": "other"}}))

    assert set(seen) == {6}


def test_a_scaler_s_own_number_stands_over_upgrades_and_rollbacks(release: Release) -> None:
    """Whatever stood in the release's older revisions."""
    scaled = chart.merged(REDIS, SCALERS["autoscaling"])
    release.install(chart.merged(REDIS, {"replicaCount": 6}))
    release.upgrade(scaled)
    release.scale(8)
    release.upgrade(chart.merged(scaled, {"config": {"name": "other"}}))
    release.scale(7)
    with _counts(release) as seen:
        release.upgrade(chart.merged(scaled, {"config": {"name": "another"}}))
        release.rollback()

    assert set(seen) == {7}


def test_a_scaler_that_was_there_from_the_start_keeps_its_number(release: Release) -> None:
    """Nobody else ever set one."""
    scaled = chart.merged(REDIS, SCALERS["autoscaling"])
    release.install(scaled)
    release.scale(8)
    with _counts(release) as seen:
        release.upgrade(chart.merged(scaled, {"config": {"name": "other"}}))
        release.scale(7)
        release.rollback()

    assert set(seen) == {8, 7}


def test_a_number_of_the_values_stands_over_a_scaler_s_only_by_force(release: Release) -> None:
    """So Helm 4 says where the scaler is switched off, and the guide what to do."""
    release.install(chart.merged(REDIS, {"replicaCount": 6}))
    release.upgrade(chart.merged(REDIS, SCALERS["autoscaling"]))
    release.scale(8)
    alone = chart.merged(REDIS, {"replicaCount": 3})
    with pytest.raises(helm.HelmError, match=r"conflict.*\.spec\.replicas"):
        release.upgrade(alone)
    release.scale(3)
    release.upgrade(alone)

    release.settled(alone)


def test_a_stopped_fleet_starts_when_a_scaler_takes_over(release: Release) -> None:
    """A scaler does nothing where there are no replicas at all."""
    release.install(chart.merged(REDIS, {"replicaCount": 0}))
    release.upgrade(chart.merged(REDIS, SCALERS["autoscaling"]))

    wait_for("two replicas", lambda: len(release.pods()) == 2)


def test_a_failed_upgrade_is_taken_back_whole(release: Release) -> None:
    """Helm deletes what it made only if it is told to roll back; the old replicas go on meanwhile."""
    release.install(chart.merged(REDIS, {"replicaCount": 2}))
    before, pods = release.there(), {pod["metadata"]["name"] for pod in release.pods()}
    failing = chart.merged(chart.merged(REDIS, EVERYTHING), BROKEN)
    with pytest.raises(helm.HelmError):
        release.upgrade(failing, rollback_on_failure=True, timeout=5)

    assert release.there() == before
    assert {pod["metadata"]["name"] for pod in release.pods()} == pods


def test_a_rollback_leads_back_to_what_was(release: Release) -> None:
    """What the newer revision had beside it is gone."""
    values = chart.merged(REDIS, {"replicaCount": 2})
    release.install(values)
    release.upgrade(chart.merged(values, EVERYTHING))
    release.settled(chart.merged(values, EVERYTHING))
    release.rollback()

    release.settled(values)


@pytest.mark.parametrize(
    "names", [{"nameOverride": "other"}, {"fullnameOverride": "other"}], ids=lambda names: next(iter(names))
)  # fmt: skip
def test_another_name_on_the_sqlite_ledger_is_refused(
    release: Release, names: dict[str, str]
) -> None:
    """The volume has the workload's name, so an empty one would take its place; the message says how to keep it."""
    release.install(chart.LEAST)
    before = release.there()
    with pytest.raises(helm.HelmError, match="leave nameOverride and fullnameOverride unchanged"):
        release.upgrade(chart.merged(chart.LEAST, names))

    assert release.there() == before
    release.upgrade(chart.LEAST)


def test_another_namespace_for_the_sqlite_ledger_is_refused(release: Release) -> None:
    """A volume does not go along; a ledger that is shared is the same from wherever it is asked."""
    elsewhere = {"namespaceOverride": release.neighbour()}
    release.install(chart.LEAST)
    before = release.there()
    with pytest.raises(helm.HelmError, match="leave namespaceOverride unchanged"):
        release.upgrade(chart.merged(chart.LEAST, elsewhere))

    assert release.there() == before


def test_another_namespace_for_a_shared_ledger_is_not(release: Release) -> None:
    """Helm makes the new replicas and deletes the old ones."""
    elsewhere = {"namespaceOverride": release.neighbour()}
    release.install(REDIS)
    release.upgrade(chart.merged(REDIS, elsewhere))

    wait_for("the old ones to go", lambda: not release.pods())


def test_another_name_takes_the_sqlite_ledger_along_in_a_claim_that_is_named(
    release: Release,
) -> None:
    """The same file is the same ledger, whatever the workload is called."""
    claim = {"persistence": {"existingClaim": f"ledger-{NAME}-crrmon-0"}}
    release.install(chart.LEAST)
    moved = chart.merged(chart.LEAST, claim | {"fullnameOverride": "other"})
    release.upgrade(moved)

    release.settled(moved)
    assert [one["metadata"]["name"] for one in release.all("PersistentVolumeClaim")] == [
        f"ledger-{NAME}-crrmon-0"
    ]


ELSEWHERE = {
    "another kind": {"kind": "dynamodb"},
    "another server": {"kind": "redis", "redis": {"url": "redis://elsewhere:6379/0"}},
    "another database": {"kind": "redis", "redis": {"url": "redis://127.0.0.1:6379/1"}},
    "another prefix": {"kind": "redis", "redis": {"prefix": "other"}},
}


def test_another_ledger_is_refused_while_a_replica_runs(release: Release) -> None:
    """For two on one queue count what they are handed, each by itself; the way is said, and works."""
    release.install(REDIS)
    before = release.there()
    for ledger in ELSEWHERE.values():
        values = chart.merged(REDIS, {"config": {"ledger": ledger}})
        with pytest.raises(
            helm.HelmError, match="upgrade with the previous values and replicaCount 0"
        ):
            release.upgrade(values)
    assert release.there() == before
    same = {"kind": "redis", "redis": {"url": "rediss://crrmon@127.0.0.1"}}
    release.upgrade(chart.merged(REDIS, {"config": {"ledger": same}}))
    release.upgrade(chart.merged(REDIS, {"replicaCount": 0}))
    for ledger in ELSEWHERE.values():
        release.upgrade(chart.merged(REDIS, {"replicaCount": 0, "config": {"ledger": ledger}}))


def test_two_installations_in_one_release_mind_their_own_ledgers(
    release: Release, tmp_path: Path
) -> None:
    """A chart above may have this one in it twice, under two names."""
    shutil.copytree(chart.PATH, tmp_path / "charts" / "crrmon")
    version = chart.chart().metadata["version"]
    twice = [{"name": "crrmon", "version": version, "alias": alias} for alias in ("one", "two")]
    about = {"apiVersion": "v2", "name": "above", "version": "1.0.0", "dependencies": twice}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(about))
    both = {"one": chart.LEAST, "two": REDIS}
    with release.beside("pair", helm.Chart.load(tmp_path)) as pair:
        pair.install(both)
        pair.upgrade(chart.merged(both, {"two": {"config": {"name": "other"}}}))


def test_a_release_of_another_name_minds_its_own_ledger(release: Release) -> None:
    """Several installations may share a namespace."""
    release.install(chart.LEAST)
    other = release.beside("neighbour")
    other.install(chart.merged(REDIS, {"fullnameOverride": "neighbour"}))
    other.uninstall()
