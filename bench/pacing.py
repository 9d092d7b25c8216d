"""What the polling policy costs and what it brings, by simulation: HEADs, detection delay, honesty of the latencies.

The real `Pacer` follows objects whose replication times are drawn from formulas; no daemon, no AWS, no real time.

    python bench/pacing.py                     the table, and docs/img/pacing.png
    python bench/pacing.py --quick             only three points of each curve, in seconds
    python bench/pacing.py --json pacing.json  the figures for machines
"""

import argparse
import heapq
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import msgspec
from rich.console import Console
from rich.table import Table

from crrmon.domain import latency as latencies
from crrmon.domain.deployment.prices import PER_MILLION_HEADS
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SEED = 20260
PATH = (Route("source", "destination"),)
HOUR = 3600.0


def _fast(rng: random.Random) -> float:
    return rng.lognormvariate(math.log(5.0), 1.0)


def _slow(rng: random.Random) -> float:
    return rng.lognormvariate(math.log(120.0), 1.0)


def _heavy(rng: random.Random) -> float:
    if rng.random() < 0.95:
        return _slow(rng)
    start, end = 600.0, 48 * HOUR
    return start / (1 - rng.random() * (1 - start / end))


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """How long objects take to replicate, and how many there are."""

    name: str
    formula: str
    latency: Callable[[random.Random], float]
    rate: float = 2.0
    """Objects written per second."""
    objects: int = 20_000
    event_delay: tuple[float, float] = (5.0, 60.0)
    """Seconds from the write to its event, uniform: CloudTrail through EventBridge is of this order."""
    outage: tuple[float, float] | None = None
    """Seconds since the start between which nothing completes; what was due then begins anew afterwards."""


SCENARIOS = (
    Scenario(name="fast", formula="lognormal, median 5 s, sigma = 1", latency=_fast),
    Scenario(name="slow", formula="lognormal, median 120 s, sigma = 1", latency=_slow),
    Scenario(
        name="heavy tail",
        formula="95 % slow, 5 % Pareto (alpha = 1) from 10 min to 48 h",
        latency=_heavy,
    ),
    Scenario(
        name="outage",
        formula="fast, nothing completes for an hour",
        latency=_fast,
        objects=28_800,
        outage=(1.5 * HOUR, 2.5 * HOUR),
    ),
)


class Followed(msgspec.Struct, kw_only=True):
    """One object on its way."""

    written_at: float
    known_at: float
    replicated_at: float
    steady: bool = False
    """First considered when its path had enough samples."""
    first_look_at: float = math.nan
    looks: int = 0
    pending_seen_at: float | None = None
    found_at: float = math.nan
    hidden: float = 1.0
    spread: tuple[tuple[int, float], ...] = ()

    @property
    def latency(self) -> float:
        """The truth, in seconds."""
        return self.replicated_at - self.written_at

    @property
    def delay(self) -> float:
        """Seconds from when it could have been found to when it was."""
        return self.found_at - max(self.replicated_at, self.known_at)


class Run(msgspec.Struct, frozen=True):
    """One simulation, over."""

    scenario: Scenario
    objects: list[Followed]
    looks: list[float]
    """When each look was made."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run comes down to. Everything but the first figures is of objects in steady state."""

    scenario: str
    freshness: float
    objects: int
    heads_overall: float
    steady: int
    heads: float
    dollars_per_million: float
    delay_median: float
    delay_p95: float
    latency_true: float
    latency_reported: float
    latency_error: float
    only_upper: float
    """Share of latencies for which no look saw the object pending."""
    hidden: float
    """Share of objects done before any is seen pending, as the pacer says: from 0.5 on, the median is a bound."""


def follow(scenario: Scenario, policy: Policy, *, seed: int = SEED) -> Run:
    """Let a pacer follow all objects of a scenario until the last is found."""
    world, rng = random.Random(seed), random.Random(seed + 1)  # noqa: S311 - a simulation
    pacer = Pacer(policy)
    objects = _written(scenario, world)
    looks: list[float] = []
    agenda = [(followed.known_at, number, True) for number, followed in enumerate(objects)]
    heapq.heapify(agenda)
    while agenda:
        now, number, first = heapq.heappop(agenda)
        followed = objects[number]
        if first:
            followed.steady = pacer.samples(PATH, now=now) >= policy.early_samples
            at = pacer.first_look_at(
                PATH, written_at=followed.written_at, now=now, draw=rng.random()
            )
            followed.first_look_at = at
            heapq.heappush(agenda, (at, number, False))
            continue
        looks.append(now)
        if not _found(pacer, followed, now):
            at = pacer.next_look_at(
                PATH,
                written_at=followed.written_at,
                now=now,
                troubles=0,
                draw=rng.random(),
            )
            heapq.heappush(agenda, (at, number, False))
    return Run(scenario, objects, looks)


def _written(scenario: Scenario, world: random.Random) -> list[Followed]:
    objects, written_at = [], 0.0
    for _ in range(scenario.objects):
        written_at += world.expovariate(scenario.rate)
        known_at = written_at + world.uniform(*scenario.event_delay)
        replicated_at = written_at + scenario.latency(world)
        if scenario.outage and scenario.outage[0] <= replicated_at < scenario.outage[1]:
            replicated_at = scenario.outage[1] + scenario.latency(world)
        objects.append(
            Followed(written_at=written_at, known_at=known_at, replicated_at=replicated_at)
        )
    return objects


def _found(pacer: Pacer, followed: Followed, now: float) -> bool:
    done = now >= followed.replicated_at
    followed.looks += 1
    pacer.note(
        PATH,
        done=done,
        written_at=followed.written_at,
        now=now,
        pending_seen_at=followed.pending_seen_at,
    )
    if not done:
        followed.pending_seen_at = now
        return False
    seen_at = followed.pending_seen_at
    lower = 0.0 if seen_at is None else seen_at - followed.written_at
    latency = Latency(lower, now - followed.written_at)
    followed.found_at = now
    followed.hidden = pacer.hidden(PATH)
    followed.spread = pacer.spread(PATH, latency, now=now)
    pacer.learn(PATH, latency, now=now)
    return True


def figures(run: Run, policy: Policy) -> Figures:
    """Sum a run up."""
    steady = [followed for followed in run.objects if followed.steady]
    delays = sorted(followed.delay for followed in steady)
    weights: dict[int, float] = {}
    for followed in steady:
        for bucket, weight in followed.spread:
            weights[bucket] = weights.get(bucket, 0.0) + weight
    truth = statistics.median(followed.latency for followed in steady)
    reported = latencies.quantile(weights, 0.5) or math.nan
    heads = statistics.fmean(followed.looks for followed in steady)
    return Figures(
        scenario=run.scenario.name,
        freshness=policy.freshness,
        objects=len(run.objects),
        heads_overall=statistics.fmean(followed.looks for followed in run.objects),
        steady=len(steady),
        heads=heads,
        dollars_per_million=heads * PER_MILLION_HEADS,
        delay_median=delays[len(delays) // 2],
        delay_p95=delays[int(len(delays) * 0.95)],
        latency_true=truth,
        latency_reported=reported,
        latency_error=reported / truth - 1,
        only_upper=statistics.fmean(followed.pending_seen_at is None for followed in steady),
        hidden=statistics.median(followed.hidden for followed in steady),
    )


class Cost(msgspec.Struct, frozen=True):
    """What calls of the pacer cost."""

    call: str
    microseconds: float


def costs(run: Run, policy: Policy) -> list[Cost]:
    """Measure the processor time of each method over the objects of a run, fits included."""
    pacer = Pacer(policy)
    found = sorted(run.objects, key=lambda followed: followed.found_at)
    intervals = [
        Latency(0.0 if seen is None else seen - each.written_at, each.found_at - each.written_at)
        for each in found
        for seen in (each.pending_seen_at,)
    ]

    def learn(each: Followed, latency: Latency) -> None:
        pacer.learn(PATH, latency, now=each.found_at)

    def spread(each: Followed, latency: Latency) -> None:
        pacer.spread(PATH, latency, now=each.found_at)

    def learn_and_spread(each: Followed, latency: Latency) -> None:
        learn(each, latency)
        spread(each, latency)

    def first(each: Followed, _: Latency) -> None:
        pacer.first_look_at(PATH, written_at=each.written_at, now=each.known_at, draw=0.5)

    def following(each: Followed, latency: Latency) -> None:
        pacer.next_look_at(
            PATH,
            written_at=each.written_at,
            now=each.written_at + latency.upper,
            troubles=0,
            draw=0.5,
        )

    def note(each: Followed, _: Latency) -> None:
        pacer.note(
            PATH,
            done=False,
            written_at=each.written_at,
            now=each.found_at,
            pending_seen_at=each.pending_seen_at,
        )

    timed: list[tuple[str, Callable[[Followed, Latency], None]]] = [
        ("learn, with its share of fits", learn),
        ("learn and spread, in turn", learn_and_spread),
        ("spread", spread),
        ("first_look_at", first),
        ("next_look_at", following),
        ("note", note),
    ]
    return [Cost(name, _microseconds(call, found, intervals)) for name, call in timed]


def _microseconds(
    call: Callable[[Followed, Latency], None], found: list[Followed], intervals: list[Latency]
) -> float:
    began = time.process_time()
    for each, latency in zip(found, intervals, strict=True):
        call(each, latency)
    return (time.process_time() - began) / len(found) * 1e6


# ---- for eyes ----


def show(console: Console, rows: list[Figures], calls: list[Cost]) -> None:
    """Print the figures at the default policy, and whether they reach what was set out to be reached."""
    table = Table(
        "", "HEADs per\nobject", "with\nlearning", "$ per\nmillion", "delay\nmedian", "delay\n95 %",
        "latency\ntrue", "latency\nreported", "off by", "only upper\nbounds", "done before\nseen pending",
        title="The polling policy in steady state; seconds",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        bound = row.hidden >= 0.5
        table.add_row(
            row.scenario,
            f"{row.heads:.2f}",
            f"{row.heads_overall:.2f}",
            f"{row.dollars_per_million:.2f}",
            f"{row.delay_median:.0f}",
            f"{row.delay_p95:.0f}",
            f"{row.latency_true:.1f}",
            f"{row.latency_reported:.1f}",
            "a bound" if bound else f"{row.latency_error:+.1%}",
            f"{row.only_upper:.0%}",
            f"{row.hidden:.0%}",
        )
    console.print(table)
    for aim, reached in targets({row.scenario: row for row in rows}).items():
        console.print(f"{'reached' if reached else '[bold red]MISSED[/]'}: {aim}")
    console.print()
    for cost in calls:
        console.print(f"{cost.microseconds:6.1f} µs  {cost.call}", highlight=False)


def targets(rows: dict[str, Figures]) -> dict[str, bool]:
    """Compare with what section 6 of the design wants."""
    fast, slow = rows["fast"], rows["slow"]
    return {
        "fast: at most 1.2 HEADs per object": fast.heads <= 1.2,
        "slow: at most 1.75 HEADs per object": slow.heads <= 1.75,
        "slow: median delay at most the median latency": slow.delay_median <= slow.latency_true,
        "slow: reported median latency within 15 %": abs(slow.latency_error) <= 0.15,
        "fast: the median latency is called a bound": fast.hidden >= 0.5,
    }


COLOURS = {"fast": "#0072B2", "slow": "#D55E00", "heavy tail": "#009E73", "outage": "#AA4499"}
GREY = "#888888"


def draw(file: Path, curves: list[list[Figures]], runs: dict[str, Run], unheld: Run) -> None:
    """Draw the trade-off, and how tail and outage are found."""
    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "legend.frameon": False,
        }
    )
    figure, axes = plt.subplots(2, 2, figsize=(13, 9.5), layout="constrained")
    _draw_tradeoff(axes[0, 0], curves)
    _draw_delays(axes[0, 1], runs)
    _draw_tail(axes[1, 0], runs["heavy tail"])
    _draw_outage(axes[1, 1], runs["outage"], unheld)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_tradeoff(axes: Axes, curves: list[list[Figures]]) -> None:
    axes.fill_between([1, 1.75], 0, 120, color=COLOURS["slow"], alpha=0.08, linewidth=0)
    axes.text(1.02, 117, "aim for slow", color=COLOURS["slow"], va="top", fontsize=9)
    for curve in curves:
        colour = COLOURS[curve[0].scenario]
        heads, delays = [row.heads for row in curve], [row.delay_median for row in curve]
        axes.plot(heads, delays, "o-", color=colour, markersize=4, label=curve[0].scenario)
        middle = min(curve, key=lambda row: abs(row.freshness - 0.5))
        axes.plot(middle.heads, middle.delay_median, "o", color=colour, markersize=10)
        if curve[0].scenario in ("slow", "heavy tail"):
            for row, text in ((curve[0], "freshness 0"), (middle, "0.5"), (curve[-1], "1")):
                axes.annotate(
                    text,
                    (row.heads, row.delay_median),
                    xytext=(8, 6 if row is not curve[-1] else -14),
                    textcoords="offset points",
                    color=colour,
                    fontsize=9,
                )
    axes.set(
        title="What freshness buys (large dot: the default)",
        xlabel="HEADs per object",
        ylabel="median detection delay, s",
        xlim=(1, None),
        ylim=(-4, None),
    )
    axes.legend(loc="upper right", title="replication")


def _draw_delays(axes: Axes, runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        touched = [each.delay for each in run.objects if each.steady and _touched(run, each)]
        delays = sorted(max(delay, 0.5) for delay in touched)
        shares = [100 * (number + 1) / len(delays) for number in range(len(delays))]
        label = "outage, those it held up" if run.scenario.outage else name
        axes.plot(delays, shares, color=COLOURS[name], label=label)
    axes.set(
        title="How late objects are found, at the default",
        xlabel="detection delay, s (at once: 0.5)",
        ylabel="% found within",
        xscale="log",
        xlim=(0.5, HOUR),
        ylim=(0, 101),
    )
    axes.legend(loc="center left")


def _touched(run: Run, followed: Followed) -> bool:
    if run.scenario.outage is None:
        return True
    _, end = run.scenario.outage
    return followed.written_at < end and followed.replicated_at >= end and followed.latency > 60


def _draw_tail(axes: Axes, run: Run) -> None:
    edges = [30 * 1.35**step for step in range(30)]
    spots: list[tuple[float, list[float]]] = []
    for start, end in pairwise(edges):
        delays = sorted(
            each.delay for each in run.objects if each.steady and start <= each.latency < end
        )
        if len(delays) >= 8:
            spots.append((math.sqrt(start * end), delays))
    colour = COLOURS["heavy tail"]
    ages = [age for age, _ in spots]
    low, high = ([delays[int(len(delays) * share)] for _, delays in spots] for share in (0.1, 0.9))
    medians = [statistics.median(delays) for _, delays in spots]
    axes.fill_between(ages, low, high, color=colour, alpha=0.15, linewidth=0, label="10 to 90 %")
    axes.plot(ages, medians, "o-", color=colour, markersize=4, label="median")
    axes.plot(ages, ages, "--", color=GREY, linewidth=1, label="as late as it took")
    caps = [Policy().cap(age) for age in ages]
    axes.plot(ages, caps, ":", color=GREY, linewidth=1.5, label="longest wait")
    axes.set(
        title="Heavy tail: the longer it takes, the later is soon enough",
        xlabel="replication latency, s",
        ylabel="detection delay, s",
        xscale="log",
        yscale="log",
        ylim=(5, 2e4),
    )
    axes.legend(loc="upper left")


def _draw_outage(axes: Axes, run: Run, unheld: Run) -> None:
    start, end = run.scenario.outage or (0.0, 0.0)
    purple, rate = COLOURS["outage"], run.scenario.rate
    axes.axvspan(0, (end - start) / 60, color="#eeeeee", linewidth=0)
    axes.step(*_rates(unheld.looks, start), where="post", color=GREY)
    axes.step(*_rates(run.looks, start), where="post", color=purple)
    axes.axhline(rate, linestyle=":", color="black", linewidth=1)
    for x, y, text, colour in (
        (2, 14.5, "nothing completes", "#666666"),
        (2, 11.5, "had nobody noticed", GREY),
        (67, 4.2, "looks", purple),
        (-29, 0.75, "objects written", "black"),
    ):
        axes.text(x, y * rate, text, color=colour, va="top")
    axes.set(
        title="An hour's outage: looks stay few, no burst follows",
        xlabel="minutes since it began",
        ylabel="per second",
        xlim=(-30, 100),
        ylim=(0, 15.5 * rate),
    )


def _rates(looks: list[float], start: float) -> tuple[list[int], list[float]]:
    """Count looks per second in slots of two minutes, from half an hour before the start."""
    slots = range(-30, 102, 2)
    counts = dict.fromkeys(slots, 0)
    for at in looks:
        slot = 2 * math.floor((at - start) / 120)
        if slot in counts:
            counts[slot] += 1
    return list(counts), [count / 120 for count in counts.values()]


def main() -> None:
    """Run all scenarios over all of `freshness`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, default=Path("docs/img/pacing.png"))
    parser.add_argument("--quick", action="store_true", help="three points of each curve")
    options = parser.parse_args()
    console = Console(width=max(Console().width, 120))
    steps = 2 if options.quick else 8
    curves: list[list[Figures]] = []
    runs: dict[str, Run] = {}
    with console.status("simulating"):
        for scenario in SCENARIOS:
            curves.append([])
            for step in range(steps + 1):
                policy = Policy(freshness=step / steps)
                run = follow(scenario, policy)
                curves[-1].append(figures(run, policy))
                if policy.freshness == Policy().freshness:
                    runs[scenario.name] = run
        unheld = follow(SCENARIOS[-1], Policy(outage_evidence=math.inf))
        calls = costs(runs["slow"], Policy())
    rows = [row for curve in curves for row in curve if row.freshness == Policy().freshness]
    show(console, rows, calls)
    draw(options.plot, curves, runs, unheld)
    console.print(f"\ndrawn: {options.plot}", highlight=False)
    if options.json:
        everything = {
            "default": rows,
            "curves": [row for curve in curves for row in curve],
            "calls": calls,
        }
        options.json.write_text(json.dumps(msgspec.to_builtins(everything), indent=2) + "\n")


if __name__ == "__main__":
    main()
