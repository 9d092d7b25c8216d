"""What a daemon tells Prometheus, read from its page of metrics."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from crrmon.domain import catalogue
from crrmon.domain.metric import Metric
from crrmon.domain.objects import Route
from crrmon.sandbox.accounts import SandboxAccount


def account(page: str) -> SandboxAccount:
    """Sum up a page of metrics.

    Args:
        page: of a daemon that was never restarted, and has no other beside it.

    Returns:
        All but the episodes of failure by source: what fails at two destinations is counted at each.
    """
    samples = _samples(page)

    def by_route(metric: Metric, status: str | None = None) -> dict[Route, int]:
        sums: Counter[Route] = Counter()
        for labels, value in samples[metric.name]:
            if status in (None, labels.get("status")):
                sums[_route(labels)] += value
        return dict(sums)

    not_covered: Counter[str] = Counter()
    for labels, value in samples[catalogue.NOT_COVERED.name]:
        not_covered[labels["source_bucket"]] += value
    reasons: Counter[tuple[Route, str]] = Counter()
    for labels, value in samples[catalogue.FAILURE_REASONS.name]:
        reasons[_route(labels), labels["reason"]] += value
    return SandboxAccount(
        replicated=by_route(catalogue.REPLICATIONS, "completed"),
        bytes=by_route(catalogue.REPLICATED_BYTES),
        repaired=by_route(catalogue.RECOVERED),
        gone=by_route(catalogue.REPLICATIONS, "gone"),
        pending=by_route(catalogue.PENDING_OBJECTS),
        open_failures=by_route(catalogue.FAILED_OBJECTS),
        failures=by_route(catalogue.REPLICATIONS, "failed"),
        markers_created=by_route(catalogue.DELETE_MARKERS, "created"),
        markers_arrived=by_route(catalogue.DELETE_MARKERS, "arrived"),
        # A daemon that shows no route at all tells nothing of any.
        configured={
            _route(labels): value for labels, value in samples[catalogue.ROUTE_CONFIGURED.name]
        }
        or None,
        failed=None,
        not_covered=dict(not_covered),
        reasons=dict(reasons),
    )


def _samples(page: str) -> Mapping[str, list[tuple[Mapping[str, str], int]]]:
    """Return labels and values by name."""
    samples: defaultdict[str, list[tuple[Mapping[str, str], int]]] = defaultdict(list)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            samples[sample.name].append((sample.labels, round(sample.value)))
    return samples


def _route(labels: Mapping[str, str]) -> Route:
    return Route(labels["source_bucket"], labels["destination_bucket"])
