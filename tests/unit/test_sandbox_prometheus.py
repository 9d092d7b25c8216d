"""What the sandbox reads from a daemon's page of metrics."""

from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.objects import Route
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.prometheus import account

A, C = Route("src-a", "dst-a"), Route("src-a", "dst-c")


def test_a_page_is_summed_up_by_route_and_reason() -> None:
    """Each number is taken from the metric that the catalogue names for it, and words of status are told apart."""
    meters = PrometheusMeters()
    a, c = ("src-a", "dst-a"), ("src-a", "dst-c")
    for labels, times in (((*a, "completed"), 5), ((*c, "completed"), 4), ((*a, "gone"), 2)):
        meters.add(catalogue.REPLICATIONS, *labels, amount=times)
    meters.add(catalogue.REPLICATIONS, *a, "failed")
    meters.add(catalogue.REPLICATED_BYTES, *a, amount=500)
    meters.add(catalogue.RECOVERED, *c)
    meters.add(catalogue.DELETE_MARKERS, *a, "created", amount=3)
    meters.add(catalogue.DELETE_MARKERS, *a, "arrived", amount=2)
    meters.add(catalogue.NOT_COVERED, "src-b", "no_rule", amount=2)
    meters.add(catalogue.NOT_COVERED, "src-b", "no_status")
    meters.add(catalogue.FAILURE_REASONS, *a, "DstKmsKeyNotFound")
    meters.set(catalogue.PENDING_OBJECTS, *c, value=7)
    meters.set(catalogue.FAILED_OBJECTS, *a, value=1)

    routes = "".join(
        f'crrmon_route_configured{{source_bucket="src-a",destination_bucket="{bucket}"}} {value}\n'
        for bucket, value in (("dst-a", 1.0), ("dst-c", 0.0))
    )

    assert account(meters.page("")[0].decode()).configured is None
    assert account(meters.page("")[0].decode() + routes) == SandboxAccount(
        replicated={A: 5, C: 4},
        bytes={A: 500},
        repaired={C: 1},
        gone={A: 2},
        pending={C: 7},
        open_failures={A: 1},
        failures={A: 1},
        markers_created={A: 3},
        markers_arrived={A: 2},
        configured={A: 1, C: 0},
        failed=None,
        not_covered={"src-b": 3},
        reasons={(A, "DstKmsKeyNotFound"): 1},
    )
