"""Every way to tell, every status, every topology: what is counted in the end is what was the case.

A case is one version in buckets of its own. All cases of the same source channels are played to one daemon at once, for
an hour and a half of simulated time. `expected` is the table of what should be counted of each; whatever else a daemon
counts of a case fails it, too.
"""

import asyncio
import enum
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
import pytest

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.services.tracking import survey
from fakes.estate import REASON, Estate, Told, Voices, told_of_replica
from fakes.rig import DAY, Rig
from fakes.s3 import NEVER, FakeS3, Stored, Trip
from fakes.simulated import simulate

SIZE = 1000

# When things happen, in seconds after the write.
ARRIVES_EARLY = 5.0
DELETED = 10.0
ARRIVES = 20.0
FAILS = 30.0
MARKER = 50.0
RESTARTS = 600.0
MENDED = 700.0
ARRIVES_LATE = 1500.0

DELAYS = {Channel.NOTIFICATION: 1.0, Channel.EVENTBRIDGE: 2.0, Channel.CLOUDTRAIL: 6.0}
"""How long messages take to the queue."""

WINDOW = 1800
PLAYED = 3 * WINDOW + 30.0
"""By then the last window that counts is published, and a look at each open failure was made."""

CT, EB, NO = Channel.CLOUDTRAIL, Channel.EVENTBRIDGE, Channel.NOTIFICATION
SOURCES = ((CT,), (EB,), (NO,), (CT, EB), (CT, NO), (CT, EB, NO))
REPLICAS: tuple[tuple[Channel, ...], ...] = ((), (CT,), (EB,), (NO,), (CT, EB, NO))
MANY = ((), (CT, EB, NO))
"""Where several tell of sources."""


class Topology(enum.StrEnum):
    """Buckets and rules."""

    ONE = "one"
    TWO = "two"
    """Two destinations of the same fate."""
    TWO_ONE_WELL = "two-one-well"
    """Two destinations; what the status says is about the far one, and all is well at the other."""
    TWO_WAY = "two-way"
    """Each bucket replicates to the other."""
    ACROSS = "across"
    """The destination is another account's and cannot be read."""
    SELECTED = "selected"
    """Only a rule with a tag filter, and the object has the tag."""
    NOT_SELECTED = "not-selected"
    """The object does not have it."""
    BESIDE_SELECTED = "beside-selected"
    """A rule for all, and one with a tag filter to the far one; the object has the tag."""
    BESIDE_NOT_SELECTED = "beside-not-selected"
    MARKERS = "markers"
    """The rule replicates delete markers, too."""


class Status(enum.StrEnum):
    """What becomes of the version."""

    COMPLETED = "completed"
    LATE = "late"
    FAILED = "failed"
    FAILED_TOLD = "failed-told"
    """S3's notice says why and where."""
    REPAIRED = "repaired"
    REPAIRED_TOLD = "repaired-told"
    """There are S3's notice of the failure and CloudTrail's event of Batch Replication."""
    STUCK = "stuck"
    GONE = "gone"
    """Deleted before it arrived."""
    REFUSED = "refused"
    """SSE-C: it arrives, but no HEAD tells so."""
    DENIED = "denied"
    """It arrives, but no HEAD at the source is allowed."""
    NO_STATUS = "no-status"
    ARCHIVED = "archived"
    ENCRYPTED = "encrypted"
    OUTSIDE = "outside"
    """No rule selects the key."""
    REPLICA = "replica"
    """Replication wrote it to the source bucket."""
    GIVEN_UP = "given-up"
    """Pending for longer than anybody cares to look."""


_OF_VERSION = {
    Status.REFUSED, Status.DENIED, Status.NO_STATUS, Status.ARCHIVED, Status.ENCRYPTED, Status.OUTSIDE, Status.REPLICA,
}  # fmt: skip
"""What concerns a version as a whole, not one of its destinations."""

_UNREPLICATED = {
    Status.NO_STATUS: "no_status",
    Status.ARCHIVED: "storage_class",
    Status.ENCRYPTED: "encryption",
    Status.OUTSIDE: "no_rule",
}
"""The causes that are counted."""

_TOLD = {Status.FAILED_TOLD, Status.REPAIRED_TOLD}
_BESIDE = {Topology.BESIDE_SELECTED, Topology.BESIDE_NOT_SELECTED}
_TAGGED = {Topology.SELECTED, Topology.NOT_SELECTED}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One version in buckets of its own, and who tells of it."""

    topology: Topology
    status: Status
    operation: Operation
    source: tuple[Channel, ...]
    replicas: tuple[Channel, ...]

    @property
    def name(self) -> str:
        """Names the case; its buckets' names begin with it."""
        told = "+".join(self.source)
        back = "+".join(self.replicas) or "nobody"
        return f"{self.topology}.{self.status}.{self.operation}.{told}.{back}".replace("+", "-")

    @property
    def impossible(self) -> str:
        """Tell why there is no such case; nothing where there is."""
        if self.topology is Topology.NOT_SELECTED and self.status not in _UNREPLICATED:
            return "what no rule selects has no fate"
        if self.topology is Topology.TWO_ONE_WELL and self.status in _OF_VERSION:
            return "that is about the version, not about one of its destinations"
        if self.status is Status.REPLICA and self.operation is Operation.COPY:
            return "replication does not copy"
        return ""

    @property
    def blind(self) -> bool:
        """
        Whether nobody tells of replicas.

        S3's own events do not tell them from writes. In a bucket that is both, or might be, looks do; here they are
        refused.
        """
        might_be_both = self.topology in {Topology.TWO_WAY, Topology.ACROSS}
        hidden = might_be_both and self.status is Status.REFUSED
        return not self.replicas or (hidden and self.replicas == (EB,))

    @property
    def selected(self) -> tuple[str, ...]:
        """Where the version should arrive."""
        if self.status in _UNREPLICATED or self.status is Status.REPLICA:
            return ()
        two = {Topology.TWO, Topology.TWO_ONE_WELL, Topology.BESIDE_SELECTED}
        return ("dst", "far") if self.topology in two else ("dst",)

    @property
    def doubtful(self) -> bool:
        """Whether more destinations than those might be meant: a tag filter that does not fit."""
        return self.topology is Topology.BESIDE_NOT_SELECTED

    def status_at(self, bucket: str) -> Status:
        """Tell what becomes of the version at one destination."""
        well = self.topology is Topology.TWO_ONE_WELL and bucket == "dst"
        return Status.COMPLETED if well else self.status


def cases(source: tuple[Channel, ...], statuses: frozenset[Status]) -> Iterator[Case]:
    """All cases of some source channels. Operations take turns: each meets every topology, status and channel."""
    operations = itertools.cycle(Operation)
    replicated = REPLICAS if len(source) == 1 else MANY
    for topology, status, replicas in itertools.product(Topology, Status, replicated):
        case = Case(
            topology=topology,
            status=status,
            operation=next(operations),
            source=source,
            replicas=replicas,
        )
        if status in statuses and not case.impossible:
            yield case


# ---- the table: what should be counted ----

_COUNTED: Mapping[Status, tuple[str, ...]] = {
    Status.COMPLETED: ("completed",),
    Status.LATE: ("completed", "late"),
    Status.FAILED: ("failed", "open"),
    Status.FAILED_TOLD: ("failed", "open", "reason"),
    Status.REPAIRED: ("failed", "completed", "repaired"),
    Status.REPAIRED_TOLD: ("failed", "completed", "repaired", "reason"),
    Status.STUCK: ("pending", "stuck"),
    Status.GONE: ("gone",),
    Status.REFUSED: ("unreadable",),
    Status.DENIED: ("pending", "stuck"),
    Status.GIVEN_UP: ("given_up",),
}
"""At each destination. What no look can tell, replicas tell: see `expected`."""


def expected(case: Case) -> Counter[str]:
    """Tell all that should be counted of a case."""
    want: Counter[str] = Counter()
    for bucket in case.selected:
        want |= _expected_at(case, bucket)
    if any(one.startswith("failed ") for one in want):
        want["failures src"] = 1
    followed = case.status is Status.DENIED or {"pending", "open"} & {*_counted(case, "dst")}
    if case.doubtful and followed:
        # Nobody can tell whether it is to arrive there.
        want["pending src>far"] = want["stuck src>far"] = 1
    if (
        case.topology is Topology.TWO_WAY
        and case.status is Status.REFUSED
        and case.replicas == (EB,)
    ):
        want["unreadable dst>src"] = (
            1  # S3's own event of the replica alone: it might be a write there
        )
    if case.status in _UNREPLICATED:
        want[f"not covered {_cause(case)} src"] = 1
    if case.status is Status.REPLICA:
        want["orphaned src"] = 1
    if case.topology is Topology.MARKERS and case.status is not Status.OUTSIDE:
        want["marker created src>dst"] = 1
        want["marker arrived src>dst"] = 1 if case.replicas else 0
    return +want


def _expected_at(case: Case, bucket: str) -> Counter[str]:
    """Tell what should be counted at one destination."""
    want: Counter[str] = Counter()
    counted = _counted(case, bucket)
    unplaced = "failed" in counted and not _place_known(case)
    for what in counted:
        at = UNKNOWN_DESTINATION if unplaced and what in {"failed", "open"} else bucket
        want[f"{what} src>{at}"] = 1
    if "completed" in counted:
        want[f"objects src>{bucket}"] = 1
        want[f"bytes src>{bucket}"] = SIZE if _size_known(case) else 0
    if unplaced and "open" in counted:
        want[f"pending src>{bucket}"] = want[f"stuck src>{bucket}"] = 1
    return want


def _counted(case: Case, bucket: str) -> tuple[str, ...]:
    counted = _COUNTED.get(case.status_at(bucket), ())
    if case.status in {Status.REFUSED, Status.DENIED} and not case.blind:
        return ("completed",)
    ended = {"gone", "given_up", "unreadable"} & {*counted}
    if ended and bucket == "far" and case.topology is Topology.BESIDE_SELECTED:
        return ()  # nobody can tell any more whether it was to arrive there
    return counted


def _place_known(case: Case) -> bool:
    """Whether it can be told where it failed: S3 says so, or it is at all other destinations."""
    return case.status in _TOLD or not (case.topology is Topology.TWO or case.topology in _BESIDE)


def _size_known(case: Case) -> bool:
    """Whether a HEAD or an event tells it: CloudTrail's do for plain puts only."""
    if case.status not in {Status.REFUSED, Status.DENIED}:
        return True
    return {*case.source, *case.replicas} != {CT} or case.operation is not Operation.MULTIPART


def _cause(case: Case) -> str:
    if case.topology in _TAGGED and case.status in {Status.NO_STATUS, Status.ENCRYPTED}:
        return "tag_filter"
    return _UNREPLICATED[case.status]


# ---- playing ----


def _trip(case: Case, bucket: str) -> Trip:
    status = case.status_at(bucket)
    if case.status is Status.GONE and status is Status.COMPLETED:
        return Trip(((ARRIVES_EARLY, Sight.COMPLETED),))
    match status:
        case Status.LATE:
            return Trip(((ARRIVES_LATE, Sight.COMPLETED),))
        case Status.FAILED | Status.FAILED_TOLD:
            return Trip(((FAILS, Sight.FAILED),))
        case Status.REPAIRED | Status.REPAIRED_TOLD:
            return Trip(
                (
                    (FAILS, Sight.FAILED),
                    (RESTARTS, Sight.PENDING),
                    (MENDED, Sight.COMPLETED),
                )
            )
        case Status.STUCK | Status.GONE | Status.GIVEN_UP:
            return Trip()
        case _:
            return Trip(((ARRIVES, Sight.COMPLETED),))


class Stage:
    """Has one daemon watch many cases."""

    def __init__(self, s3: FakeS3) -> None:
        self._s3 = s3
        self._estate = Estate(s3)

    def set_up(self, case: Case) -> None:
        """Make the buckets of a case and their rules."""
        src, dst, far = (f"{case.name}.{one}" for one in ("src", "dst", "far"))
        tagged = case.topology in _TAGGED
        markers = case.topology is Topology.MARKERS
        if case.topology is Topology.ACROSS:
            self._s3.denied.add(dst)
            self._s3.hidden.add(dst)
        if case.status is Status.DENIED:
            self._s3.denied.add(src)
        self._s3.rule(src, dst, prefix="in/", tagged=tagged, markers=markers)
        if case.topology in {Topology.TWO, Topology.TWO_ONE_WELL}:
            self._s3.add_rule(src, far, prefix="in/")
        if case.topology in _BESIDE:
            self._s3.add_rule(src, far, prefix="in/", tagged=True)
        if case.topology is Topology.TWO_WAY:
            self._s3.rule(dst, src, prefix="in/")

    def write(self, case: Case, at: float) -> list[Told]:
        """Write the version of a case; return what is said about it, each when it reaches the queue."""
        src = f"{case.name}.src"
        key = "out/a b" if case.status is Status.OUTSIDE else "in/a b"
        version = ObjectVersion(src, key, f"v.{case.name}")
        voices = Voices(
            source=frozenset(case.source),
            replicas=frozenset(case.replicas),
            notices=case.status in _TOLD,
            restarts=case.status in _TOLD,
        )
        if case.status is Status.REPLICA:
            origin = ObjectVersion(f"{case.name}.origin", key, version.version_id)
            trips = {src: Trip(((at, Sight.COMPLETED),))}
            self._s3.store(origin, Stored(written_at=at, size=SIZE, trips=trips))
            told = told_of_replica(
                version, case.source, at=at, size=SIZE, operation=case.operation
            )
        else:
            told = self._estate.write(
                version, self._stored(case, at), voices, operation=case.operation
            )
        reaches = {f"{case.name}.dst": at + MARKER + 5}
        mark = ObjectVersion(src, key, f"m.{case.name}")
        laid = self._estate.lay_marker(
            mark,
            voices,
            at=at + MARKER,
            arrives=reaches
            if case.topology is Topology.MARKERS and case.status is not Status.OUTSIDE
            else {},
        )
        return [Told(one.at + self._delay(case, one, at), one.body) for one in (*told, *laid)]

    @staticmethod
    def _delay(case: Case, one: Told, written_at: float) -> float:
        kind = msgspec.json.decode(one.body)
        if "Records" in kind:
            # S3's notices come at once, or a look finds the failure before anybody says where it is.
            delay = 0.0 if "replicationEventData" in kind["Records"][0] else DELAYS[NO]
        else:
            delay = DELAYS[CT] if "eventName" in kind["detail"] else DELAYS[EB]
        if case.status is Status.REFUSED and one.at == written_at:
            # The source's event comes last: three looks are soon refused, and then it is settled.
            delay += ARRIVES + max(DELAYS.values())
        return delay

    @staticmethod
    def _stored(case: Case, at: float) -> Stored:
        return Stored(
            written_at=at,
            size=SIZE,
            trips={
                f"{case.name}.{bucket}": Trip(
                    tuple((at + after, sight) for after, sight in _trip(case, bucket).steps)
                )
                for bucket in case.selected
            },
            deleted_at=at + DELETED if case.status is Status.GONE else NEVER,
            shows=Sight.REFUSED if case.status is Status.REFUSED else None,
            storage_class="GLACIER" if case.status is Status.ARCHIVED else "",
            encryption="aws:kms" if case.status is Status.ENCRYPTED else "",
        )


async def _play(todo: list[Case], give_up_after: float) -> dict[str, Counter[str]]:
    rig = Rig(
        max_in_flight=5000,
        buckets=tuple(f"{case.name}.{one}" for case in todo for one in ("src", "dst")),
        window=WINDOW,
        give_up_after=give_up_after,
    )
    stage = Stage(rig.s3)
    loop = asyncio.get_running_loop()
    for number, case in enumerate(todo):
        stage.set_up(case)
        now = rig.clock.now()
        at = now + 10.25 + number % 60
        for one in stage.write(case, at):
            loop.call_later(one.at - now, rig.inbox.send, one.body)
    # The gauges of thousands of buckets every few seconds would take long, and nobody reads them before the end; so would
    # their rules every minute, which do not change.
    rig.start(without=("fleet",))
    try:
        with pytest.MonkeyPatch.context() as slowed:
            slowed.setattr(survey, "REPORTING_SURVEY_SECONDS", float(WINDOW))
            await asyncio.sleep(PLAYED)
        await rig.fleet._refresh()
    finally:
        await rig.kill()
    assert not rig.inbox.dead
    assert not rig.inbox.waiting
    return _found(rig)


_CLOUDWATCH = {
    catalogue.CW_OBJECTS.name: "objects",
    catalogue.CW_BYTES.name: "bytes",
    catalogue.CW_FAILED.name: "failures",
    catalogue.CW_LATE.name: "late",
}
_COUNTERS = {
    catalogue.RECOVERED.name: "repaired",
    catalogue.UNIDENTIFIED.name: "unidentified",
    catalogue.BEYOND_RETENTION.name: "too old",
    catalogue.REPLICAS_ORPHANED.name: "orphaned",
}
_LABELLED = {
    catalogue.REPLICATIONS.name: "",
    catalogue.DELETE_MARKERS.name: "marker ",
    catalogue.NOT_COVERED.name: "not covered ",
    catalogue.FAILURE_REASONS.name: "",
}
_GAUGES = {
    catalogue.PENDING_OBJECTS.name: "pending",
    catalogue.STUCK_OBJECTS.name: "stuck",
    catalogue.FAILED_OBJECTS.name: "open",
}


def _found(rig: Rig) -> dict[str, Counter[str]]:
    """Sort all that was counted by case."""
    found: dict[str, Counter[str]] = {}

    def add(what: str, buckets: tuple[str, ...], amount: float) -> None:
        case = buckets[0].rpartition(".")[0]
        where = ">".join(one.rpartition(".")[2] for one in buckets)
        if amount:
            found.setdefault(case, Counter())[f"{what} {where}"] += round(amount)

    for datum in rig.sink.datums:
        if (what := _CLOUDWATCH.get(datum["MetricName"])) is not None:
            add(what, tuple(one["Value"] for one in datum["Dimensions"]), datum["Value"])
    for (name, *labels), amount in rig.meters.counters.items():
        if name in _COUNTERS:
            add(_COUNTERS[name], tuple(labels), amount)
        elif name in _LABELLED:
            said = "reason" if labels[-1] == REASON else labels[-1]
            add(f"{_LABELLED[name]}{said}", tuple(labels[:-1]), amount)
    for (name, *labels), value in rig.meters.gauges.items():
        if name in _GAUGES:
            add(_GAUGES[name], tuple(labels), value)
    return found


ENDING = frozenset({Status.GIVEN_UP})
LASTING = frozenset(Status) - ENDING


class Theatre:
    """Plays all cases of some source channels the first time that one of them is asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Counter[str]] = {}
        self._played: set[tuple[tuple[Channel, ...], bool]] = set()

    def found(self, case: Case) -> Counter[str]:
        """Tell all that was counted of a case."""
        ending = case.status in ENDING
        if (case.source, ending) not in self._played:
            todo = list(cases(case.source, ENDING if ending else LASTING))
            self._found |= simulate(_play(todo, 3000.0 if ending else 14 * DAY))
            self._played.add((case.source, ending))
        return self._found.get(case.name, Counter())


@pytest.fixture(scope="module")
def theatre() -> Theatre:
    return Theatre()


@pytest.mark.parametrize(
    "case",
    [case for source in SOURCES for case in cases(source, frozenset(Status))],
    ids=lambda case: case.name,
)
def test_every_case_is_counted_as_it_was(theatre: Theatre, case: Case) -> None:
    """What is counted of a version, and all that is, is what became of it."""
    assert theatre.found(case) == expected(case)


async def _two_fail(*, hasty: bool, told_after: float | None) -> Counter[str]:
    """
    Have a version fail at the far destination while it is on its way to the other, and be repaired an hour later.

    Args:
        hasty: whether S3 shows a failure before all destinations are final.
        told_after: seconds from the failure to S3's notice; None for never.
    """
    rig = Rig(window=WINDOW)
    rig.s3.hasty = hasty
    rig.s3.rule("x.src", "x.dst", "x.far")
    loop = asyncio.get_running_loop()
    at = rig.clock.now() + 10
    version = ObjectVersion("x.src", "slow", "v1")
    mended = Trip(
        ((at + 30, Sight.FAILED), (at + 8000, Sight.PENDING), (at + 8100, Sight.COMPLETED))
    )
    stored = Stored(
        written_at=at,
        size=SIZE,
        trips={"x.dst": Trip(((at + 600, Sight.COMPLETED),)), "x.far": mended},
    )
    voices = Voices(source=frozenset({CT}), notices=told_after is not None)
    for one in Estate(rig.s3).write(version, stored, voices):
        after = 1.0 if one.at == at else told_after or 0.0
        loop.call_later(one.at + after - rig.clock.now(), rig.inbox.send, one.body)
    async with rig.running():
        await asyncio.sleep(13000)
        await asyncio.sleep(2 * WINDOW)
    return _found(rig)["x"]


@pytest.mark.parametrize("hasty", [True, False], ids=["at-once", "at-last"])
@pytest.mark.parametrize("told_after", [0.0, 300.0, None], ids=["told", "told-late", "untold"])
def test_whoever_is_only_slow_did_not_fail(*, hasty: bool, told_after: float | None) -> None:
    """Whether S3 shows a failure at once or when the slower one is done: one failed and was repaired, one was slow."""
    found = simulate(_two_fail(hasty=hasty, told_after=told_after))
    assert found["failures src"] == 1
    assert found["completed src>dst"] == found["completed src>far"] == 1
    assert found["repaired src>far"] == 1
    assert found["open src>far"] == found["open src>unknown"] == found["pending src>dst"] == 0
    assert found["failed src>far"] == 1
    assert found["failed src>unknown"] == found["failed src>dst"] == 0
    assert found["repaired src>dst"] == 0


async def _two_notices() -> tuple[Counter[str], Counter[str]]:
    """Have a version fail at two destinations, one after the other, and be repaired; tell what was counted by when."""
    rig = Rig(window=WINDOW)
    rig.s3.rule("x.src", "x.dst", "x.far")
    loop = asyncio.get_running_loop()
    at = rig.clock.now() + 10
    version = ObjectVersion("x.src", "both", "v1")
    later = ((at + 4000, Sight.PENDING), (at + 4100, Sight.COMPLETED))
    trips = {
        "x.dst": Trip(((at + 30, Sight.FAILED), *later)),
        "x.far": Trip(((at + 400, Sight.FAILED), *later)),
    }
    voices = Voices(source=frozenset({CT}), notices=True, restarts=True)
    stored = Stored(written_at=at, size=SIZE, trips=trips)
    for one in Estate(rig.s3).write(version, stored, voices):
        loop.call_later(one.at - rig.clock.now(), rig.inbox.send, one.body)
    async with rig.running():
        await asyncio.sleep(1000)
        before = _found(rig)["x"]
        await asyncio.sleep(4000 + 2 * WINDOW)
    return before, _found(rig)["x"]


def test_two_notices_one_after_the_other_make_one_failure_and_two_repairs() -> None:
    """The second one comes when the failure is counted: the place is known from then on."""
    before, found = simulate(_two_notices())
    assert before["open src>dst"] == before["open src>far"] == 1
    assert before["reason src>dst"] == before["reason src>far"] == 1
    assert before["failed src>dst"] == before["failed src>far"] == 1
    assert found["failures src"] == 1
    assert found["repaired src>dst"] == found["repaired src>far"] == 1
    assert found["objects src>dst"] == found["objects src>far"] == 1
