"""Wrong numbers must be found, whoever has them wrong."""

import msgspec
import pytest

from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.truth import COMPLETED, FAILED, NOT_COVERED, PENDING
from crrmon.sandbox.verdict import (
    NOTHING,
    Messages,
    Replica,
    Run,
    SandboxVerdict,
    compare,
    compare_reasons,
    judge,
)
from crrmon.sandbox.watermarks import Ahead, WatermarkLine

A, B = Route("src-a", "dst-a"), Route("src-b", "dst-b")
TRUTH = SandboxAccount(
    replicated={A: 10, B: 5},
    bytes={A: 1000, B: 500},
    repaired={B: 1},
    gone={A: 2},
    open_failures={A: 1},
    failures={A: 1, B: 1},
    markers_created={A: 3},
    markers_arrived={A: 3},
    configured={A: 1, B: 0},
    failed={"src-a": 1, "src-b": 1},
    not_covered={"src-b": 2},
    reasons={(A, "DstKmsKeyNotFound"): 1, (B, "DstBucketUnversioned"): 1},
)
PROMETHEUS = msgspec.structs.replace(TRUTH, failed=None)
LEDGER = msgspec.structs.replace(TRUTH, failures=None, configured=None, reasons=None)
CLOUDWATCH = SandboxAccount(
    replicated={A: 10, B: 5},
    bytes={A: 1000, B: 500},
    pending={A: 0, B: 0},
    failed={"src-a": 1, "src-b": 1},
    not_covered={"src-b": 2},
)
ONE = Replica(name="replica 1", looks=20, reports=True, exit=0)
OTHER = Replica(name="replica 2", looks=7, reports=False, exit=0)
KILLED = msgspec.structs.replace(OTHER, kills=1)
RUN = Run(
    seed=1,
    seconds=60.0,
    ledger="redis",
    written=18,
    replicas=(ONE, OTHER),
    calls={"HeadObject": 27},
    repeated_calls=0,
    doubled_datapoints=0,
    messages=Messages(delivered=20, malformed=2, left_in_queue=1, left_in_dead_letter_queue=1),
    latencies=(),
)
VERSION = ObjectVersion("src-a", "a\nkey", "v1")


def judged(
    run: Run = RUN,
    *,
    cloudwatch: SandboxAccount = CLOUDWATCH,
    ledger: SandboxAccount = LEDGER,
    prometheus: SandboxAccount | None = PROMETHEUS,
    status: tuple[str, str] = (COMPLETED, COMPLETED),
    listed: dict[str, int] | None = None,
    watermarks: tuple[WatermarkLine, ...] = (),
    unreported: int = 0,
    unsent: int = 0,
) -> SandboxVerdict:
    """Judge a run that went well, except for what is given."""
    return judge(
        compare(TRUTH, cloudwatch, ledger, prometheus),
        run,
        reasons=compare_reasons(TRUTH, prometheus),
        watermarks=watermarks,
        statuses={VERSION: status},
        open_failures=({"src-a": 1}, {"src-a": 1} if listed is None else listed),
        unreported=unreported,
        unsent=unsent,
    )


def changed(account: SandboxAccount, **numbers: object) -> SandboxAccount:
    """Return an account with other numbers."""
    return msgspec.structs.replace(account, **numbers)


def test_equal_accounts_agree() -> None:
    """Zeros and silence are the same; what CloudWatch cannot tell is not held against it."""
    verdict = judged()

    assert verdict.complaints == ()
    assert verdict.agrees
    assert verdict.run.heads_per_object == 1.5
    elsewhere = msgspec.structs.replace(RUN, looks_elsewhere=9)
    assert elsewhere.heads_per_object == 1.0
    assert {(one.measure, one.source, one.truth) for one in verdict.lines} == {
        ("replicated", "src-a", 10),
        ("replicated", "src-b", 5),
        ("bytes", "src-a", 1000),
        ("bytes", "src-b", 500),
        ("pending", "src-a", 0),
        ("pending", "src-b", 0),
        ("repaired", "src-b", 1),
        ("gone", "src-a", 2),
        ("open_failures", "src-a", 1),
        ("failures", "src-a", 1),
        ("failures", "src-b", 1),
        ("configured", "src-a", 1),
        ("configured", "src-b", 0),
        ("markers_created", "src-a", 3),
        ("markers_arrived", "src-a", 3),
        ("failed", "src-a", 1),
        ("failed", "src-b", 1),
        ("not_covered", "src-b", 2),
    }
    assert {(one.source, one.reason, one.truth, one.prometheus) for one in verdict.reasons} == {
        ("src-a", "DstKmsKeyNotFound", 1, 1),
        ("src-b", "DstBucketUnversioned", 1, 1),
    }


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        pytest.param({"replicated": {A: 9, B: 5}}, "src-a → dst-a: replicated", id="missing"),
        pytest.param({"replicated": {A: 11, B: 5}}, "src-a → dst-a: replicated", id="double"),
        pytest.param({"bytes": {A: 1000, B: 501}}, "src-b → dst-b: bytes", id="wrong bytes"),
        pytest.param({"pending": {A: 1}}, "src-a → dst-a: pending", id="still pending"),
        pytest.param({"failed": {}}, "src-a: failed", id="failure missed"),
        pytest.param({"failed": {"src-a": 1, "src-b": 2}}, "src-b: failed", id="false alarm"),
        pytest.param({"replicated": {}}, "src-b → dst-b: replicated", id="silence"),
    ],
)
@pytest.mark.parametrize("side", ["cloudwatch", "ledger"])
def test_a_wrong_number_is_found(side: str, numbers: dict, complaint: str) -> None:
    """Missing, double and wrong numbers are named with their place, on either side."""
    account = changed({"cloudwatch": CLOUDWATCH, "ledger": LEDGER}[side], **numbers)
    verdict = judged(**{side: account})

    assert not verdict.agrees
    assert f"{complaint} differs" in verdict.complaints


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ({"repaired": {}}, "src-b → dst-b: repaired"),
        ({"gone": {A: 3}}, "src-a → dst-a: gone"),
        ({"open_failures": {B: 1, A: 1}}, "src-b → dst-b: open_failures"),
        ({"markers_created": {A: 2}}, "src-a → dst-a: markers_created"),
        ({"markers_arrived": {}}, "src-a → dst-a: markers_arrived"),
        ({"not_covered": {"src-b": 3}}, "src-b: not_covered"),
    ],
)
@pytest.mark.parametrize("side", ["prometheus", "ledger"])
def test_what_cloudwatch_is_not_told_is_compared_with_the_others(
    side: str, numbers: dict, complaint: str
) -> None:
    """Repairs, deletions, delete markers and open failures stand in the ledger, and Prometheus counts them."""
    account = changed({"prometheus": PROMETHEUS, "ledger": LEDGER}[side], **numbers)
    verdict = judged(**{side: account})

    assert verdict.complaints == (f"{complaint} differs",)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({(A, "DstKmsKeyNotFound"): 1}, "src-b → dst-b: failures by DstBucketUnversioned differ"),
        (
            {**TRUTH.reasons, (A, "DstKmsKeyNotFound"): 2},
            "src-a → dst-a: failures by DstKmsKeyNotFound differ",
        ),
        ({**TRUTH.reasons, (B, "Odd"): 1}, "src-b → dst-b: failures by Odd differ"),
    ],
)
def test_a_wrong_reason_is_found(told: dict, complaint: str) -> None:
    """A reason that was missed, counted twice, or made up is named with its route."""
    verdict = judged(prometheus=changed(PROMETHEUS, reasons=told))

    assert verdict.complaints == (complaint,)


def test_t14_failures_are_compared_for_each_destination() -> None:
    """Two failures of five at one destination are a difference there, however right the sum by source is."""
    verdict = judged(prometheus=changed(PROMETHEUS, failures={A: 1}))

    assert verdict.complaints == ("src-b → dst-b: failures differs",)
    (line,) = (one for one in verdict.lines if not one.agrees)
    assert (line.truth, line.prometheus, line.ledger, line.cloudwatch) == (1, 0, None, None)


@pytest.mark.parametrize(
    ("side", "told", "complaint"),
    [
        ("prometheus", {"configured": {A: 1, B: 1}}, "src-b → dst-b: configured differs"),
        ("prometheus", {"configured": {A: 0, B: 0}}, "src-a → dst-a: configured differs"),
        ("cloudwatch", {"not_covered": {"src-b": 0}}, "src-b: not_covered differs"),
    ],
)
def test_t1_rules_that_are_gone_must_be_known_to_be(side: str, told: dict, complaint: str) -> None:
    """Each route shows whether rules lead there, and CloudWatch hears of what none took."""
    account = changed({"prometheus": PROMETHEUS, "cloudwatch": CLOUDWATCH}[side], **told)

    assert judged(**{side: account}).complaints == (complaint,)


def test_t1_where_no_rule_leads_nothing_is_complete() -> None:
    """The gauge must be away as soon as it is known, however right it may be by chance."""
    gone, led = (
        WatermarkLine(
            measure="complete_up_to", source=route.source, destination=route.destination,
            shown=90, ahead=0, worst=None, last=1900.0,
        )
        for route in (B, A)
    )  # fmt: skip

    assert judged(watermarks=(gone, led)).complaints == (
        "src-b → dst-b: no rule leads there, and complete_up_to is shown all the same",
    )
    assert judged(watermarks=(msgspec.structs.replace(gone, last=None), led)).agrees


def test_a_waterline_ahead_of_the_truth_is_told_with_its_sample() -> None:
    """Route, gauge, replica, what was shown when, what was missing, and by how much; one sample spoils the verdict."""
    worst = Ahead(replica="replica 2", seen_at=2000.0, shown=1900.0, truth=1887.5, missing=VERSION)
    line = WatermarkLine(
        measure="complete_up_to", source="src-a", destination="dst-a",
        shown=90, ahead=3, worst=worst, last=1900.0,
    )  # fmt: skip
    verdict = judged(watermarks=(line,))

    assert not verdict.agrees
    (complaint,) = verdict.complaints
    assert complaint == (
        "src-a → dst-a: complete_up_to was ahead of the truth in 3 of 90 samples, by up to 12.5 s: at "
        "1970-01-01T00:33:20.000+00:00 replica 2 showed 1970-01-01T00:31:40.000+00:00, and "
        r'"s3://src-a/a\nkey" version v1, written at 1970-01-01T00:31:27.500+00:00, was missing'
    )
    good = msgspec.structs.replace(line, ahead=0, worst=None)
    assert judged(watermarks=(good,)).agrees
    assert judged(watermarks=(good,)).watermarks == (good,)


def test_what_a_killed_process_counted_is_not_asked_for() -> None:
    """Its counters ended with it: lines and reasons then have no number of Prometheus, and agree without."""
    verdict = judged(prometheus=None)

    assert verdict.agrees
    assert {one.prometheus for one in (*verdict.lines, *verdict.reasons)} == {None}


def test_a_wrong_route_is_found_at_both_ends() -> None:
    """An object counted for another destination is missing on one route and too much on another."""
    astray = Route("src-a", "dst-b")
    verdict = judged(cloudwatch=changed(CLOUDWATCH, replicated={A: 9, B: 5, astray: 1}))

    assert set(verdict.complaints) == {
        "src-a → dst-a: replicated differs",
        "src-a → dst-b: replicated differs",
    }


def test_every_single_version_must_be_remembered_rightly() -> None:
    """Two errors that cancel out in the sums are still found; keys are escaped."""
    verdict = judged(status=(COMPLETED, FAILED))

    assert verdict.complaints == (
        r'"s3://src-a/a\nkey" version v1 is COMPLETED, the ledger has FAILED',
    )


@pytest.mark.parametrize(
    "status",
    [
        (COMPLETED, COMPLETED),
        (FAILED, FAILED),
        (PENDING, PENDING),
        (NOT_COVERED, NOT_COVERED),
        (NOT_COVERED, NOTHING),
    ],
)
def test_statuses_in_step(status: tuple[str, str]) -> None:
    """The ledger may say nothing of what no rule covers, but of nothing else."""
    assert judged(status=status).agrees
    assert not judged(status=(COMPLETED, NOTHING)).agrees
    assert not judged(status=(PENDING, NOTHING)).agrees


def test_only_so_many_versions_are_named() -> None:
    """A ledger that lost everything does not fill the screen."""
    verdict = judge(
        (),
        RUN,
        statuses={ObjectVersion("b", "k", str(n)): (COMPLETED, NOTHING) for n in range(100)},
        open_failures=({}, {}),
        unreported=0,
        unsent=0,
    )

    assert len(verdict.complaints) == 11
    assert verdict.complaints[-1] == "... and 90 more versions"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            {"replicas": (ONE, msgspec.structs.replace(OTHER, exit=None))},
            "replica 2 had to be killed",
        ),
        (
            {"replicas": (msgspec.structs.replace(ONE, exit=1), OTHER)},
            "replica 1 ended with exit code 1",
        ),
        ({"replicas": (OTHER, OTHER)}, "0 replicas show the numbers of the whole fleet"),
        ({"replicas": (ONE, ONE)}, "2 replicas show the numbers of the whole fleet"),
        ({"doubled_datapoints": 1}, "1 datapoints were told to CloudWatch more than once"),
        ({"repeated_calls": 1}, "1 calls to CloudWatch were repeated"),
        (
            {"replicas": (ONE, KILLED), "ledger_kills": 1, "repeated_calls": 3},
            "3 calls to CloudWatch were repeated, with 2 kills",
        ),
        (
            {"messages": msgspec.structs.replace(RUN.messages, left_in_queue=0)},
            "1 messages are left in the queues, 2 were malformed",
        ),
        (
            {"messages": msgspec.structs.replace(RUN.messages, left_in_queue=2)},
            "3 messages are left in the queues, 2 were malformed",
        ),
    ],
)
def test_other_trouble_is_held_against_the_daemon(run: dict, words: str) -> None:
    """A bad end, calls repeated without need, and messages lost or left over spoil the verdict."""
    verdict = judged(msgspec.structs.replace(RUN, **run))

    assert not verdict.agrees
    assert words in verdict.complaints[0]


def test_one_repeated_call_per_kill_is_forgiven() -> None:
    """Invariant 5: after a kill -9, of a daemon or of its ledger, one call with identical bytes may repeat."""
    killed = msgspec.structs.replace(RUN, replicas=(ONE, KILLED), repeated_calls=1)
    assert judged(killed).agrees
    assert judged(msgspec.structs.replace(RUN, ledger_kills=1, repeated_calls=1)).agrees


def test_leftovers_in_the_ledger_are_found() -> None:
    """What was counted but never reported, frozen but never sent, or failed but never listed is a fault."""
    assert not judged(unreported=1).agrees
    assert not judged(unsent=1).agrees
    assert not judged(listed={}).agrees
