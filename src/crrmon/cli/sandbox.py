"""``crrmon sandbox``: AWS on this machine, and the real daemon on it."""

import random

import typer
from rich.console import Console

from crrmon.cli import sandbox_options as options
from crrmon.cli.output import EXIT_CONFIGURATION, print_json, refuse
from crrmon.sandbox.children import SandboxError
from crrmon.sandbox.emulator import NotInstalledError
from crrmon.sandbox.plan import Chances
from crrmon.sandbox.play import SandboxSettings
from crrmon.sandbox.redis import NoRedisError
from crrmon.sandbox.session import AbortedError, UsageError, run
from crrmon.sandbox.show import Show, fleet, reasons, summary, table
from crrmon.sandbox.verdict import SandboxVerdict

_SIGNAL = 128


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
    try:
        verdict = run(settings, Show(Console(stderr=True), verbose=verbose), keep=keep)
    except AbortedError as aborted:
        raise typer.Exit(_SIGNAL + aborted.signum) from None
    except SandboxError as trouble:
        misused = isinstance(trouble, UsageError | NotInstalledError | NoRedisError)
        refuse(str(trouble), EXIT_CONFIGURATION if misused else 1)
    if output == "json":
        print_json(verdict)
    else:
        _print(verdict, several=replicas > 1)
    raise typer.Exit(0 if verdict.agrees else 1)


def _print(verdict: SandboxVerdict, *, several: bool) -> None:
    console = Console()
    console.print(table(verdict))
    if verdict.reasons:
        console.print(reasons(verdict))
    if several:
        console.print(fleet(verdict))
    for line in summary(verdict):
        console.print(line, soft_wrap=True)
