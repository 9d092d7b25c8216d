"""The same books kept by four: what truly happened, and what CloudWatch, Prometheus and the ledger were told."""

import msgspec

from crrmon.domain.objects import Route

ByRoute = dict[Route, int]
BySource = dict[str, int]
"""By source bucket."""


class SandboxAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of a run; what is not there is zero, and what is None is not told."""

    replicated: ByRoute = {}
    bytes: ByRoute = {}
    """Of the objects replicated."""
    repaired: ByRoute | None = None
    """Those of the replicated objects that had failed before."""
    gone: ByRoute | None = None
    """Deleted before they replicated."""
    pending: ByRoute = {}
    open_failures: ByRoute | None = None
    """Failed and not repaired."""
    markers_created: ByRoute | None = None
    """Delete markers that a rule replicates."""
    markers_arrived: ByRoute | None = None
    failures: ByRoute | None = None
    """Failures at this destination, repaired or not; a version that fails at two destinations is one at each."""
    configured: ByRoute | None = None
    """1 where a rule in force leads along the route, 0 where none does any more."""
    failed: BySource | None = {}
    """Episodes of failure, repaired or not: one for a version that failed at several destinations."""
    not_covered: BySource | None = None
    reasons: dict[tuple[Route, str], int] | None = None
    """Failures at one destination by the reason that S3 gives."""


BY_ROUTE = (
    "replicated",
    "bytes",
    "repaired",
    "gone",
    "pending",
    "open_failures",
    "failures",
    "markers_created",
    "markers_arrived",
    "configured",
)
"""The measures of an account that are about a route."""
BY_SOURCE = ("failed", "not_covered")
"""Those that are about a source bucket."""
