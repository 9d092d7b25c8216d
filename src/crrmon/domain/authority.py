"""Host and port as they stand in a URL, which has a name of its own for the two: the authority."""


def authority(host: str, port: int) -> str:
    """Join a host and a port; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
