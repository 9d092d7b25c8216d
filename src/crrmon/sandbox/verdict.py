"""Whether what was reported is what happened. Pure: four accounts in, a list of lines out."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.accounts import BY_ROUTE, BY_SOURCE, SandboxAccount
from crrmon.sandbox.truth import NOT_COVERED
from crrmon.sandbox.watermarks import WatermarkLine

NOTHING = "nothing"
"""What the ledger has of a version that no rule covers: the daemon keeps no trace of those."""

EXAMPLES = 10
"""How many versions are named when the ledger has them wrong."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One number, as four know it; None where one of them does not tell."""

    measure: str
    source: str
    destination: str | None
    """None for what concerns the source bucket as a whole."""
    truth: int
    cloudwatch: int | None
    ledger: int | None
    prometheus: int | None
    agrees: bool


class ReasonLine(msgspec.Struct, frozen=True, kw_only=True):
    """How often S3 gave up for one reason on one route: by its notices, and as Prometheus was told."""

    reason: str
    source: str
    destination: str
    truth: int
    prometheus: int | None
    """None where nobody can tell any more: what a process counted ends with it."""
    agrees: bool


class LatencyVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Medians in seconds, to look at; how near they are depends on how early events come."""

    source: str
    destination: str
    truth: float | None
    cloudwatch: float | None


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages."""

    delivered: int
    malformed: int
    """How many of them were not to be understood: they belong into the dead-letter queue, or on the way there."""
    left_in_queue: int
    left_in_dead_letter_queue: int


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon of the fleet."""

    name: str
    looks: int
    """HEAD requests that it sent, those at destinations included."""
    kills: int = 0
    reports: bool
    """Whether it showed the fleet's numbers when all was told."""
    exit: int | None
    """Its exit code; None: it had to be killed when it was asked to end."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be judged beside the accounts."""

    seed: int
    seconds: float
    """From the start of the daemons to their end."""
    ledger: str
    """Of which kind."""
    written: int
    samples: int = 0
    """Pages of metrics whose watermarks were compared with the truth."""
    replicas: tuple[Replica, ...]
    ledger_kills: int = 0
    """How often the ledger's server was killed and started again."""
    ledger_calls_refused: int = 0
    """For want of capacity, on purpose."""
    ledger_answers_lost: int = 0
    """Of calls to the ledger that were carried out, on purpose."""
    calls: dict[str, int]
    """The daemons' calls to AWS, by operation."""
    looks_elsewhere: int = 0
    """Those HEAD requests of `calls` that were not about a version that an application wrote: at destinations."""
    repeated_calls: int
    """PutMetricData calls that said again what had been accepted."""
    doubled_datapoints: int
    """Datapoints (metric, dimensions, timestamp) that other calls said again."""
    messages: Messages
    latencies: tuple[LatencyVerdict, ...]

    @property
    def kills(self) -> int:
        """How many processes were killed, the ledger's server included."""
        return self.ledger_kills + sum(replica.kills for replica in self.replicas)

    @property
    def heads_per_object(self) -> float:
        """HEAD requests for each version written, those at destinations left out."""
        looks = self.calls.get("HeadObject", 0) - self.looks_elsewhere
        return looks / self.written if self.written else 0.0


class SandboxVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement on a run."""

    agrees: bool
    complaints: tuple[str, ...]
    """What is wrong, in words; empty when all agree."""
    lines: tuple[Line, ...]
    reasons: tuple[ReasonLine, ...]
    watermarks: tuple[WatermarkLine, ...]
    run: Run


def compare(
    truth: SandboxAccount,
    cloudwatch: SandboxAccount,
    ledger: SandboxAccount | None,
    prometheus: SandboxAccount | None = None,
) -> tuple[Line, ...]:
    """Lay four accounts beside each other, for every route and bucket that any of them names.

    Args:
        truth: what happened.
        cloudwatch: what was reported.
        ledger: what is remembered; None while it cannot be read.
        prometheus: what was counted; None where a process that counted is gone.
    """
    lines: list[Line] = []
    for measure in (*BY_ROUTE, *BY_SOURCE):
        sides = [_side(account, measure) for account in (truth, cloudwatch, ledger, prometheus)]
        lines += _lines(measure, sides)
    return tuple(lines)


def compare_reasons(
    truth: SandboxAccount, prometheus: SandboxAccount | None
) -> tuple[ReasonLine, ...]:
    """Lay the reasons of failures beside each other.

    Args:
        truth: what S3 said.
        prometheus: what was counted of it; None where a process that counted is gone.
    """
    said = truth.reasons or {}
    told = None if prometheus is None else prometheus.reasons or {}
    lines = []
    for route, reason in sorted({*said, *(told or ())}):
        truly = said.get((route, reason), 0)
        counted = None if told is None else told.get((route, reason), 0)
        lines.append(
            ReasonLine(
                reason=reason,
                source=route.source,
                destination=route.destination,
                truth=truly,
                prometheus=counted,
                agrees=counted in (None, truly),
            )
        )
    return tuple(lines)


_Place = tuple[str, str | None]
_Side = Mapping[_Place, int] | None


def _side(account: SandboxAccount | None, measure: str) -> _Side:
    sums = None if account is None else getattr(account, measure)
    if sums is None:
        return None
    if measure in BY_SOURCE:
        return {(source, None): number for source, number in sums.items()}
    return {(route.source, route.destination): number for route, number in sums.items()}


def _lines(measure: str, sides: list[_Side]) -> list[Line]:
    places = {place for side in sides if side is not None for place in side}
    lines = []
    for place in sorted(places, key=lambda one: (one[0], one[1] or "")):
        truth, cloudwatch, ledger, prometheus = (
            None if side is None else side.get(place, 0) for side in sides
        )
        told = {one for one in (cloudwatch, ledger, prometheus) if one is not None}
        lines.append(
            Line(
                measure=measure,
                source=place[0],
                destination=place[1],
                truth=truth or 0,
                cloudwatch=cloudwatch,
                ledger=ledger,
                prometheus=prometheus,
                agrees=told <= {truth or 0},
            )
        )
    return lines


def judge(
    lines: tuple[Line, ...],
    run: Run,
    *,
    reasons: tuple[ReasonLine, ...] = (),
    watermarks: tuple[WatermarkLine, ...] = (),
    statuses: Mapping[ObjectVersion, tuple[str, str]],
    open_failures: tuple[Mapping[str, int], Mapping[str, int]],
    unreported: int,
    unsent: int,
) -> SandboxVerdict:
    """Decide whether all agree.

    Args:
        lines: of `compare`.
        run: what else was seen.
        reasons: of `compare_reasons`.
        watermarks: of all samples of the run.
        statuses: of every version: the true status and the ledger's.
        open_failures: by source bucket: the true number and the ledger's.
        unreported: deltas left in the ledger.
        unsent: windows left in the ledger.
    """
    complaints = [
        *(f"{where(line)}: {line.measure} differs" for line in lines if not line.agrees),
        *(
            f"{where(reason)}: failures by {reason.reason} differ"
            for reason in reasons
            if not reason.agrees
        ),
        *(_ahead(watermark) for watermark in watermarks if not watermark.agrees),
        *_undead(lines, watermarks),
        *_misremembered(statuses),
        *_run_complaints(run),
    ]
    true_failures, listed = ({k: v for k, v in side.items() if v} for side in open_failures)
    if true_failures != listed:
        complaints.append(f"open failures are {true_failures}, the ledger lists {listed}")
    if unreported:
        complaints.append(f"{unreported} deltas in the ledger were never reported")
    if unsent:
        complaints.append(f"{unsent} windows in the ledger were never sent")
    return SandboxVerdict(
        agrees=not complaints,
        complaints=tuple(complaints),
        lines=lines,
        reasons=reasons,
        watermarks=watermarks,
        run=run,
    )


def where(line: Line | ReasonLine | LatencyVerdict | WatermarkLine) -> str:
    """Say what a line is about: a route or a source bucket."""
    return line.source if line.destination is None else f"{line.source} → {line.destination}"


def _ahead(line: WatermarkLine) -> str:
    told = f"{where(line)}: {line.measure} was ahead of the truth in {line.ahead} of {line.shown} samples"
    worst = line.worst
    if worst is None:
        return told
    missed = "that moment had not come"
    if worst.missing is not None:
        name = json.dumps(f"s3://{worst.missing.bucket}/{worst.missing.key}")
        missed = f"{name} version {worst.missing.version_id}, written at {_utc(worst.truth)}, was missing"
    return (
        f"{told}, by up to {worst.seconds:.1f} s: at {_utc(worst.seen_at)} {worst.replica} showed "
        f"{_utc(worst.shown)}, and {missed}"
    )


def _undead(lines: Iterable[Line], watermarks: Iterable[WatermarkLine]) -> Iterable[str]:
    """Find watermarks that are shown although it is known that no rule leads there."""
    dead = {where(line) for line in lines if line.measure == "configured" and line.prometheus == 0}
    for watermark in watermarks:
        if where(watermark) in dead and watermark.last is not None:
            yield f"{where(watermark)}: no rule leads there, and {watermark.measure} is shown all the same"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _misremembered(statuses: Mapping[ObjectVersion, tuple[str, str]]) -> Iterable[str]:
    wrong = [
        (version, pair)
        for version, pair in statuses.items()
        if pair[0] != pair[1] and pair != (NOT_COVERED, NOTHING)
    ]
    for version, (truth, ledger) in wrong[:EXAMPLES]:
        name = json.dumps(f"s3://{version.bucket}/{version.key}")
        yield f"{name} version {version.version_id} is {truth}, the ledger has {ledger}"
    if len(wrong) > EXAMPLES:
        yield f"... and {len(wrong) - EXAMPLES} more versions"


def _run_complaints(run: Run) -> Iterable[str]:
    left = run.messages.left_in_queue + run.messages.left_in_dead_letter_queue
    if left != run.messages.malformed:
        yield f"{left} messages are left in the queues, {run.messages.malformed} were malformed"
    if run.repeated_calls > run.kills:
        yield f"{run.repeated_calls} calls to CloudWatch were repeated, with {run.kills} kills"
    if run.doubled_datapoints:
        yield f"{run.doubled_datapoints} datapoints were told to CloudWatch more than once"
    reporting = sum(one.reports for one in run.replicas)
    if reporting != 1:
        yield f"{reporting} replicas show the numbers of the whole fleet on /metrics, not 1"
    for replica in run.replicas:
        if replica.exit is None:
            yield f"{replica.name} had to be killed when it was asked to end"
        elif replica.exit != 0:
            yield f"{replica.name} ended with exit code {replica.exit}"
