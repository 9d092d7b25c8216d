"""Names of buckets."""


def long_names(count: int, prefix: str = "acme") -> frozenset[str]:
    """Return names that are as long as names of buckets can be."""
    return frozenset(f"{prefix}-{number:04}-".ljust(63, "x") for number in range(count))
