"""crrmon follows every object through Amazon S3 replication."""

from importlib.metadata import version

__version__ = version("crrmon")
