"""The tables of docs/scaling.md, as scaling.py computes them; `make docs` calls this.

python bench/scaling_page.py     write them into the page
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import scaling
from crrmon.domain.deployment import prices
from scaling import DAYS, LEDGERS, MILLION, PEAK, QUICK, SLOW, Traffic, Wall

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


def tables() -> Mapping[str, str]:
    """Return the tables of the page by their names there."""
    return {
        "sizes quick": _sizes(QUICK),
        "sizes slow": _sizes(SLOW),
        "inputs": _inputs(),
        "chosen": _chosen(),
        "walls": _walls(),
        "replicas": _replicas(),
        "needs": _needs(),
        "eventbridge": _eventbridge(),
        "marks": _marks(),
        "redis": _redis(),
        "dynamodb": _dynamodb(),
        "journal": _journal(),
        "bill": _bill(QUICK),
        "prices": _prices(),
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sizes(traffic: Traffic) -> str:
    head = (
        *("objects a day", "average / peak a second", "replicas", "ledger"),
        *("walls, the first one first", "$ a month", "$ a million"),
    )
    return _table(head, (row for objects in DAYS for row in _size(objects, traffic)))


def _size(objects: float, traffic: Traffic) -> Iterator[list[str]]:
    for ledger in scaling.ledgers_for(objects, traffic):
        total = scaling.bill(objects, traffic, ledger).total
        passed = "; ".join(wall.name for wall in scaling.reached(objects, traffic, ledger))
        yield [
            _day(objects),
            f"{_few(scaling.average(objects))} / {_few(PEAK * scaling.average(objects))}",
            str(scaling.replicas(objects, traffic, ledger)),
            ledger.name,
            passed or "none",
            f"{_few(total)}{' and the servers' if ledger is scaling.REDIS else ''}",
            f"{total / (objects * scaling.MONTH_DAYS) * MILLION:.2f}",
        ]


def _bill(traffic: Traffic) -> str:
    rows = []
    for objects in DAYS:
        for ledger in scaling.ledgers_for(objects, traffic):
            one = scaling.bill(objects, traffic, ledger)
            parts = (one.tasks, one.requests, one.ledger, one.metrics, one.total)
            rows.append([f"{_day(objects)}, {ledger.name}", *(_few(part) for part in parts)])
    return _table(("objects a day", "tasks", "requests", "DynamoDB", "metrics", "in all"), rows)


def _inputs() -> str:
    return _table(
        ("measured", "figure", "by"),
        [
            ["CPU of an object settled at its first look, SQLite, TLS", f"{scaling.CPU_MS} ms", "`bench/daemon.py`"],
            ["CPU of one HEAD more, TLS", f"{scaling.CPU_MS_HEAD:.2f} ms", "`bench/calls.py`"],
            ["CPU of the ledger", "as in [performance.md](performance.md)", "`bench/ledgers.py`"],
            ["AWS calls of an object at its first look", f"{1 + scaling.RECEIVES + scaling.DELETES:.3f}", "`bench/daemon.py`"],
            ["... at list prices, a million objects", f"${scaling.call_dollars(1.0):.2f}", "`bench/daemon.py`"],
            *(row for traffic in (QUICK, SLOW) for row in _traffic(traffic)),
            ["memory of a replica with a million parked", f"{scaling.RESIDENT_MIB} MiB", "`bench/daemon.py`"],
            ["... and for each message held", f"{scaling.FACT_KIB} KiB", "see `intake.max_in_flight`"],
            ["a mark in SQLite, Redis, DynamoDB", f"{', '.join(str(one.mark_bytes) for one in LEDGERS)} bytes", "`bench/marks.py`"],
            ["on the network for an object, both ways", f"{scaling.BYTES_PER_OBJECT / 1e3:.1f} KB", "`bench/daemon.py`, and the interface's counter"],
        ],
    )  # fmt: skip


def _traffic(one: Traffic) -> Iterator[list[str]]:
    yield [f"{one.name}: HEADs of an object", f"{one.heads:.2f}", "`bench/scaling.py`"]
    yield [
        f"{one.name}: parked are",
        f"{100 * one.parked:.0f} % of the objects",
        "`bench/scaling.py`",
    ]
    yield [f"{one.name}: HEADs of one that is parked", f"{one.polls:.2f}", "`bench/scaling.py`"]
    yield [f"{one.name}: a message is held for", f"{one.held_seconds:.1f} s", "`bench/scaling.py`"]


def _chosen() -> str:
    return _table(
        ("chosen", ""),
        [
            ["peak beside average", f"{PEAK:g} times"],
            ["share of a core in use at the peak", f"{100 * scaling.BUSY:.0f} %"],
            ["replicas more than needed, where there are several", str(scaling.SPARE)],
            [
                "a replica on Fargate, arm64",
                f"{scaling.TASK_VCPUS:g} vCPU, {scaling.TASK_GB:g} GB",
            ],
            ["routes, each with a source bucket of its own", str(scaling.ROUTES)],
            ["a month", f"{scaling.MONTH_DAYS} days, {scaling.MONTH_HOURS} hours of tasks"],
        ],
    )


def _prices() -> str:
    metric = " and ".join(f"{price:.2f}" for _, price in prices.PER_METRIC)
    return _table(
        ("list price, us-east-1", "$"),
        [
            ["a million HEADs, storage class Standard", f"{prices.PER_MILLION_HEADS:.2f}"],
            ["a million requests to SQS", f"{prices.PER_MILLION_SQS:.2f}"],
            ["a million write units, read units of DynamoDB on demand", f"{prices.PER_MILLION_WRITE_UNITS:.3f}, {prices.PER_MILLION_READ_UNITS:.3f}"],
            ["a GB in DynamoDB, a month", f"{prices.PER_STORED_GB:.2f}"],
            ["a metric in CloudWatch, a month: the first 10,000, further ones", metric],
            ["Fargate, arm64, an hour: vCPU, GB", f"{prices.PER_VCPU_HOUR}, {prices.PER_GB_HOUR}"],
        ],
    )  # fmt: skip


def _replicas() -> str:
    rows = [
        [
            f"{ledger.name}, {traffic.name}",
            f"{scaling.cpu_milliseconds(traffic, ledger):.2f}",
            _few(scaling.per_replica(traffic, ledger)),
            _millions(scaling.per_replica(traffic, ledger)),
        ]
        for ledger in LEDGERS
        for traffic in (QUICK, SLOW)
    ]
    head = ("", "CPU ms of an object", "objects a second, of a replica", "millions a day")
    return _table(head, rows)


def _walls() -> str:
    quick, slow = ({wall.name: wall for wall in scaling.walls(one)} for one in (QUICK, SLOW))
    rows = []
    for name, wall in quick.items():
        where = f"{name}, of each replica" if wall.by_replica else name
        rows.append([where, _reach(wall), _reach(slow.get(name)), wall.remedy])
    head = ("wall", "quick: objects a second (millions a day)", "slow", "what to do")
    return _table(head, rows)


def _reach(wall: Wall | None) -> str:
    return f"{_few(wall.per_second)} ({_millions(wall.per_second)})" if wall else "none"


def _eventbridge() -> str:
    rows = [
        [region, f"{quota:,}", _millions(quota)] for region, quota in scaling.EVENTBRIDGE.items()
    ]
    return _table(("region", "invocations a second", "millions of objects a day"), rows)


def _needs() -> str:
    """Show what grows with the peak, where nobody's wall is in the way."""
    rows = []
    for objects in DAYS:
        peak = PEAK * scaling.average(objects)
        per_prefix = scaling.HEADS_PER_PREFIX / (scaling.REPLICATION_HEADS + QUICK.heads)
        held, bits = peak * QUICK.held_seconds, peak * scaling.BYTES_PER_OBJECT * 8
        ledger = scaling.ledgers_for(objects, QUICK)[0]
        rows.append(
            [
                *(_day(objects), _few(held), str(math.ceil(held / scaling.QUEUE_IN_FLIGHT))),
                *(_few(peak * QUICK.heads), str(math.ceil(peak / per_prefix))),
                *(f"{_few(scaling.memory_mib(objects, QUICK, ledger))} MiB", _few(bits / 1e6)),
            ]
        )
    head = (
        *("objects a day", "messages in flight", "queues", "HEADs a second", "prefixes"),
        *("memory of a replica", "Mbit/s, both ways"),
    )
    return _table(head, rows)


def _marks() -> str:
    rows = [
        [_day(objects), *(_few(scaling.remembered_gb(objects, ledger)) for ledger in LEDGERS)]
        for objects in DAYS
    ]
    return _table(("objects a day", "GB on disk: SQLite", "in memory: Redis", "DynamoDB"), rows)


def _redis() -> str:
    rows = [[one.name, _few(scaling.redis_per_second(one))] for one in (QUICK, SLOW)]
    return _table(("", "objects a second of one server, at least"), rows)


def _dynamodb() -> str:
    rows = []
    for traffic in (QUICK, SLOW):
        writes, reads = scaling.units_per_object(traffic)
        million = prices.of_units(writes * MILLION, reads * MILLION)
        rows.append([traffic.name, f"{writes:.2f}", f"{reads:.2f}", f"{million:.2f}"])
    return _table(("", "write units of an object", "read units", "$ a million objects"), rows)


def _journal() -> str:
    rows = []
    for objects in DAYS:
        average = scaling.average(objects)
        entries = (scaling.journal_entries(rate) for rate in (average, PEAK * average))
        dollars = prices.of_units(0, scaling.journal_reads(objects))
        rows.append([_day(objects), *(_few(number) for number in entries), _few(dollars)])
    head = (
        "objects a day",
        "entries of a window, average",
        "at the peak",
        "$ a month to read them",
    )
    return _table(head, rows)


def _day(objects: float) -> str:
    return f"{objects / MILLION:,.0f} M" if objects < 1e9 else f"{objects / 1e9:,.0f} G"


def _millions(per_second: float) -> str:
    return f"{scaling.a_day(per_second) / MILLION:,.0f}"


def _few(number: float) -> str:
    """Write a number with two digits, or as a whole where it has more."""
    if number >= 100:
        digits = -(math.floor(math.log10(number)) - 1)
        return f"{round(number, digits):,.0f}"
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def filled(page: str) -> str:
    """Return the page with its tables as they are computed now.

    Raises:
        KeyError: it has a table that nobody computes.
    """
    computed = tables()

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{computed[found[2]]}\n\n{found[3]}"

    return re.sub(r"(<!-- table: ([\w ]+) -->)\n.*?(<!-- end -->)", table, page, flags=re.DOTALL)


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
