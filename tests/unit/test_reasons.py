"""S3's reasons for failures: all are explained, unknown ones pass through, and labels are bounded."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.reasons import REASONS, TARGET_OFFLINE, Group, label, reason, reference
from crrmon.domain.stores import StoreKind, store_of

CODES = [
    "AssumeRoleNotPermitted",
    "DstBucketInvalidRegion",
    "DstBucketNotFound",
    "DstBucketObjectLockConfigMissing",
    "DstBucketUnversioned",
    "DstDelObjNotPermitted",
    "DstKmsKeyInvalidState",
    "DstKmsKeyNotFound",
    "DstMultipartCompleteNotPermitted",
    "DstMultipartInitNotPermitted",
    "DstMultipartUploadNotPermitted",
    "DstObjectHardDeleted",
    "DstPutAclNotPermitted",
    "DstPutLegalHoldNotPermitted",
    "DstPutObjectNotPermitted",
    "DstPutRetentionNotPermitted",
    "DstPutTaggingNotPermitted",
    "DstVersionNotFound",
    "InitiateReplicationNotPermitted",
    "SrcBucketInvalidRegion",
    "SrcBucketNotFound",
    "SrcBucketReplicationConfigMissing",
    "SrcGetAclNotPermitted",
    "SrcGetLegalHoldNotPermitted",
    "SrcGetObjectNotPermitted",
    "SrcGetRetentionNotPermitted",
    "SrcGetTaggingNotPermitted",
    "SrcHeadObjectNotPermitted",
    "SrcKeyNotFound",
    "SrcKmsKeyInvalidState",
    "SrcObjectNotEligible",
    "SrcObjectNotFound",
    "SrcReplicationNotPending",
    "SrcVersionNotFound",
]
"""All that S3 documents."""


def test_every_documented_code_is_explained() -> None:
    """All 34 codes have a group, a meaning and an advice."""
    assert len(CODES) == 34
    for code in CODES:
        known = reason(code)
        assert known.code == code
        assert known.group is not Group.UNKNOWN
        assert known.meaning.endswith(".")
        assert known.advice.endswith(".")
    assert [one.code for one in REASONS] == CODES


def test_m5_a_target_that_is_offline_has_a_label_and_an_advice_of_its_own() -> None:
    """M5: MinIO has no code for it, and tries again by itself."""
    assert label(TARGET_OFFLINE) == TARGET_OFFLINE
    assert reason(TARGET_OFFLINE).group is Group.UNREACHABLE
    assert "Batch Replication" not in reason(TARGET_OFFLINE).advice


@pytest.mark.parametrize("code", [code for code in CODES if code.endswith("NotPermitted")])
def test_what_is_not_permitted_names_the_permission(code: str) -> None:
    """Whoever lacks a permission is told which."""
    assert re.search(r"`(s3|kms|sts):\w+`", reason(code).advice)


@pytest.mark.parametrize("code", ["DstOutOfCapacity", "dstbucketnotfound", " ", "a|b\n"])
def test_unknown_codes_pass_through(code: str) -> None:
    """A code that nobody told us of is kept as it is, with general advice."""
    unknown = reason(code)

    assert unknown.code == code
    assert unknown.group is Group.UNKNOWN
    assert "Batch Replication" in unknown.advice
    assert code.strip() not in f"{unknown.meaning} {unknown.advice}" or not code.strip()


def test_no_code_is_no_reason() -> None:
    """Without a notice nobody knows why; the advice is how to be told next time."""
    none = reason("")

    assert (none.code, none.group) == ("", Group.UNKNOWN)
    assert "s3:Replication:OperationFailedReplication" in none.advice


@pytest.mark.parametrize("code", ["", "DstOutOfCapacity"])
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("aws:s3", "S3 does not retry by itself: once the cause is fixed, run Batch Replication"),
        ("minio:s3", "MinIO retries by itself"),
        ("ceph:s3", "Ceph synchronises by itself"),
        ("acme:s3", "most stores retry by themselves"),
    ],
)  # fmt: skip
def test_m7_what_to_do_goes_by_the_store(source: str, says: str, code: str) -> None:
    """M7: what is true of S3 alone is said of S3 alone; each of the others has its own means."""
    told = reason(code, store_of(source))

    assert says in told.advice
    if source != "aws:s3":
        text = f"{told.meaning} {told.advice}"
        for words in (
            "S3 gave",
            "S3 does not",
            "Batch Replication",
            "metrics",
            "S3 documentation",
        ):
            assert words not in text


@pytest.mark.parametrize("store", list(StoreKind))
def test_m7_the_page_says_what_each_store_does(store: StoreKind) -> None:
    """M7: the reference has what to do afterwards for every kind of store."""
    advice = reason("Strange", store).advice
    afterwards = advice.partition(". ")[2] or advice

    assert afterwards in reference()


@given(st.text() | st.sampled_from(CODES))
def test_labels_are_bounded(code: str) -> None:
    """Whatever messages hold, a label is a known code or one of two words."""
    told = label(code)

    assert told == code if code in CODES else told == ("other" if code else "none")


def test_the_page_has_a_row_for_each() -> None:
    """Every code has one row of four cells; no cell breaks the table."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == [*CODES, TARGET_OFFLINE]
    assert {row.count("|") for row in rows} == {5}
