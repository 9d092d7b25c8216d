"""`crrmon run`: the daemon."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from crrmon.cli.commands.options import ConfigFile


def run(config: ConfigFile = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; a second one stops it at once.

    Exit codes: 0 after an orderly stop, 1 after a fault, 2 when the
    settings, those of AWS's SDK or a sqlite ledger cannot be used.
    """
    # What is imported stays. Looking again and again for garbage in it took a fifth of the start's CPU time.
    gc.disable()
    # structlog draws tracebacks with it where it can be imported. Ours are plain, and it takes a tenth of the start.
    with _not_installed("rich"):
        from crrmon.cli.run import run

    gc.freeze()
    gc.enable()
    run(config)


@contextmanager
def _not_installed(name: str) -> Iterator[None]:
    """Have a package look as if it were not installed, to whoever can do without it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # so that its import fails, as Python documents
    try:
        yield
    finally:
        del sys.modules[name]
