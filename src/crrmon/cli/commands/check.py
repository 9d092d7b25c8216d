"""`crrmon check`: can the daemon do what it must?"""

from crrmon.cli.commands.options import ConfigFile, Output


def check(*, config: ConfigFile = None, output: Output = "table") -> None:
    """Try one call of each kind that the daemon makes, and report what is missing.

    For the settings that `crrmon config show` prints, it tries: credentials,
    the role of each account, each queue with its dead-letter queue, each
    of `buckets`, CloudWatch, the ledger. Run it where the daemon will run,
    with the same credentials.

    Nothing is received from a queue, no object is read, no datapoint is
    stored, and whatever is written to the ledger is removed again. What
    cannot be tried in this way is "unproved", never "passed".

    Exit codes: 0 nothing failed, 1 something failed, 2 wrong usage,
    or the settings or those of AWS's SDK cannot be used.
    """
    from crrmon.cli.check import check

    check(config, output)
