"""The side by side as a picture: who settles how many with a second of CPU time, and what that depends on."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from calls import Call, per_object, ways
from report import BESIDE, CONCURRENCY, SIDE_BY_SIDE, Report, Summary, label, summaries

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

PLAIN, TLS, GREY = "#2b7bba", "#1b4f78", "#999999"
STEPS = ("#2b7bba", "#4f9bd1", "#8fc1e3", "#e8a33d", "#c8553d", "#7a5195", "#999999")


def draw(file: Path, report: Report) -> None:
    """Draw what there is of the four panels; the others say that nothing was measured."""
    found = summaries(report.runs)
    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    _draw_side_by_side(axes[0, 0], _of(found, SIDE_BY_SIDE))
    _draw_steps(axes[0, 1], report.calls, _of(found, SIDE_BY_SIDE))
    _draw_conditions(axes[1, 0], _of(found, BESIDE))
    _draw_concurrency(axes[1, 1], _of(found, CONCURRENCY))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _of(found: Sequence[Summary], group: str) -> list[Summary]:
    return [one for one in found if one.case.group == group]


def _missing(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
    axes.set_axis_off()


def _draw_side_by_side(axes: Axes, found: Sequence[Summary]) -> None:
    names = list(dict.fromkeys(one.case.contender for one in found))
    for tls, colour, shift in ((False, PLAIN, -0.2), (True, TLS, 0.2)):
        chosen = [one for one in found if one.case.tls is tls]
        places = [names.index(one.case.contender) + shift for one in chosen]
        heights = [one.per_core for one in chosen]
        bars = axes.bar(places, heights, 0.38, color=colour, label="TLS" if tls else "plain HTTP")
        marks = [
            f"{one.per_core:,.0f}" + (f"\n({one.to_ordinary:.2f})" if one.to_ordinary else "")
            for one in chosen
        ]
        axes.bar_label(bars, marks, fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.margins(y=0.15)
    axes.set(title="Objects settled with a second of CPU time (to the ordinary pipeline's)")
    axes.legend()


def _draw_steps(axes: Axes, calls: Sequence[Call], found: Sequence[Summary]) -> None:
    title = "Where an object's CPU time goes: single steps, and the whole"
    if not calls:
        _missing(axes, title)
        return
    labels = []
    for place, (client, tls) in enumerate(ways(calls)):
        labels.append(f"{client}, {'TLS' if tls else 'plain'}")
        start = 0.0
        chosen = [one for one in calls if not one.client or (one.client, one.tls) == (client, tls)]
        for number, one in enumerate(sorted(chosen, key=lambda call: not call.client)):
            width = one.microseconds * one.each
            name = one.step if place == 0 else None
            axes.barh(place, width, 0.6, start, color=STEPS[number % len(STEPS)], label=name)
            start += width
        whole = [
            one.cpu_milliseconds * 1e3
            for one in found
            if one.case.contender in ("crrmon", f"crrmon {client}") and one.case.tls is tls
        ]
        for microseconds in whole:
            name = "the whole daemon" if place == 0 else None
            rest = microseconds - per_object(calls, client, tls=tls)
            axes.barh(place, max(rest, 0.0), 0.6, start, color="#dddddd", label=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="CPU µs of one object")
    axes.legend(fontsize=8)


def _draw_conditions(axes: Axes, found: Sequence[Summary]) -> None:
    title = "What crrmon's CPU time depends on"
    if not found:
        _missing(axes, title)
        return
    usual = f"{found[0].case.contender}, plain"
    labels = [label(one.case).removeprefix(usual).strip(", ") or usual for one in found]
    bars = axes.barh(labels, [one.per_core for one in found], 0.6, color=PLAIN)
    axes.bar_label(bars, [f"{one.per_core:,.0f}" for one in found], fontsize=8, padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel="objects settled with a second of CPU time")


def _draw_concurrency(axes: Axes, found: Sequence[Summary]) -> None:
    title = "More HEADs at once, where S3 takes 100 ms"
    if not found:
        _missing(axes, title)
        return
    abreast = [one.case.concurrency or 0 for one in found]
    late = found[0].case.head_milliseconds / 1e3
    axes.plot(abreast, [one.per_second for one in found], "o-", color=PLAIN, label="settled")
    axes.plot(abreast, [one / late for one in abreast], ":", color=GREY, label="nothing but S3")
    highest = max(one.per_core for one in found)
    axes.axhline(highest, linestyle="--", color=GREY, linewidth=1)
    axes.text(abreast[0], highest, "a core's worth", color=GREY, va="bottom", fontsize=8)
    axes.set(
        title=title,
        xlabel="polling.concurrency",
        ylabel="objects settled per second",
        xscale="log",
        xticks=abreast,
        xticklabels=[str(one) for one in abreast],
        ylim=(0, 1.2 * highest),
    )
    axes.minorticks_off()
    axes.legend(loc="lower right")
