"""`crrmon sandbox`: AWS on this machine, and the real daemon on it."""

import random

from crrmon.cli.commands import sandbox_options as options


def sandbox(  # noqa: PLR0913 - options, not arguments
    *,
    objects: options.Objects = None,
    replicas: options.Replicas = 1,
    ledger: options.Ledger = "sqlite",
    rate: options.Rate = 8.0,
    fail: options.Fail = 0.02,
    repair: options.Repair = 0.5,
    median: options.Median = 3.0,
    spread: options.Spread = 1.0,
    event_delay: options.EventDelay = 2.0,
    kill: options.Kill = 0,
    disable_rule: options.DisableRule = False,
    seed: options.Seed = None,
    port: options.Port = None,
    keep: options.Keep = None,
    output: options.Output = "table",
    verbose: options.Verbose = False,
) -> None:
    """Watch the real daemon follow a replication that takes time and may fail.

    Starts an emulator of AWS on this machine, writes objects, and runs the
    daemon on it, or several of them on one queue and one ledger. Nothing
    leaves the machine. src-a replicates to two destinations, src-b a prefix
    to one, src-c and src-d to each other; CloudTrail and S3 itself send
    events. Some versions fail, and some of those are repaired; some are deleted
    before they replicate. At the end, what really happened is compared with
    what CloudWatch, Prometheus and the ledger received.

    Ctrl-C stops writing and leads to the verdict; a second one ends everything.

    Exit codes: 0 all agree, 1 they do not, or something broke, 2 wrong
    usage, 130 ended by a second Ctrl-C.
    """
    from crrmon.cli.sandbox import sandbox
    from crrmon.sandbox.plan import Chances
    from crrmon.sandbox.play import SandboxSettings

    settings = SandboxSettings(
        objects=objects,
        rate=rate,
        chances=Chances(
            fail=fail, repair=repair, median=median, spread=spread, event_delay=event_delay
        ),
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        kills=kill,
        port=port,
        replicas=replicas,
        ledger=ledger,
        disable_rule=disable_rule,
    )
    sandbox(settings, keep=keep, output=output, verbose=verbose)
