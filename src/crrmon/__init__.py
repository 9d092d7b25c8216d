"""crrmon follows every object through Amazon S3 replication."""


def __getattr__(name: str) -> str:
    """Return the version when somebody asks for it: the health check does not, and runs every few seconds."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 - it takes longer than the health check

    return version("crrmon")
