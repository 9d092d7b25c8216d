"""The same books kept by three: what truly happened, what CloudWatch was told, what the ledger holds."""

import msgspec

from crrmon.domain.objects import Route


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """
    Sums of a run; what is not there is zero.
    """

    replicated: dict[Route, int] = {}
    bytes: dict[Route, int] = {}
    """Of the objects replicated."""
    pending: dict[Route, int] = {}
    failed: dict[str, int] = {}
    """By source bucket."""
    not_covered: dict[str, int] | None = None
    """By source bucket; None where nobody tells."""
