"""`crrmon run`: the daemon."""

import gc

from crrmon.cli.commands.options import ConfigFile


def run(config: ConfigFile = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; a second one stops it at once.

    Exit codes: 0 after an orderly stop, 1 after a fault, 2 when the
    settings, those of AWS's SDK or a sqlite ledger cannot be used.
    """
    # What is imported stays. Looking again and again for garbage in it took a fifth of the start's CPU time.
    gc.disable()
    from crrmon.cli.run import run

    gc.freeze()
    gc.enable()
    run(config)
