"""Why S3 gave up replicating, in its own codes, and what to do about it.

S3 reports the code only in its failure notices, and does not retry by itself: after the cause is fixed, somebody
has to start Batch Replication. Codes come with messages, so there may be others than those known here.

Other stores give no codes; what they do after a failure differs, and so does the advice.
"""

import enum

import msgspec

from crrmon.domain.stores import StoreKind


class Group(enum.StrEnum):
    """Where to look for the cause."""

    ROLE = "role"
    """The role that S3 takes."""
    DESTINATION_PERMISSION = "destination_permission"
    """What that role may do at the destination."""
    SOURCE_PERMISSION = "source_permission"
    """What that role may do at the source."""
    KMS = "kms"
    """A key of either side."""
    BUCKET_CONFIG = "bucket_config"
    """The set-up of either bucket, or the rule."""
    GONE = "gone"
    """What should replicate no longer exists. Usually nothing is wrong."""
    NOT_ELIGIBLE = "not_eligible"
    """The rules do not replicate the object, or it has already replicated."""
    BATCH = "batch"
    """A job of Batch Replication."""
    UNREACHABLE = "unreachable"
    """The connection to the destination's server."""
    UNKNOWN = "unknown"
    """Nobody knows."""


class Reason(msgspec.Struct, frozen=True):
    """One code, explained."""

    code: str
    """In S3's words; the empty string where it gave none."""
    group: Group
    meaning: str
    advice: str


TARGET_OFFLINE = "TargetOffline"
"""Our own code for what MinIO reports by another event: it considered the destination's server offline and did not try."""

_AFTERWARDS = {
    StoreKind.S3: (
        "S3 does not retry by itself: once the cause is fixed, run Batch Replication on the objects whose "
        "replication status is FAILED, or write them again."
    ),
    StoreKind.MINIO: (
        "MinIO retries by itself once the cause is fixed, at every HEAD and at every pass of its scanner; "
        "`mc replicate backlog ALIAS/BUCKET` lists what is waiting, and `mc replicate resync start ALIAS/BUCKET "
        "--remote-bucket ARN` sends everything again."
    ),
    StoreKind.CEPH: (
        "Ceph synchronises by itself once the cause is fixed; `radosgw-admin bucket sync status --bucket BUCKET` shows "
        "its progress."
    ),
    StoreKind.OTHER: (
        "Unlike S3, most stores retry by themselves once the cause is fixed; see the documentation of this store for how "
        "to trigger a retry."
    ),
}
"""What remains to be done once the cause is fixed."""

ROUTE_GONE = {
    StoreKind.S3: "restore the rule, and replicate what was written meanwhile with Batch Replication",
    StoreKind.MINIO: (
        "restore the rule, and send what was written meanwhile with mc replicate resync start, unless the rule also covers"
        " existing objects: then the scanner sends it"
    ),
    StoreKind.CEPH: (
        "restore the rule, and check with radosgw-admin bucket sync status whether what was written meanwhile follows:"
        " what a bucket's own policy did not allow at the time does not follow by itself"
    ),
    StoreKind.OTHER: (
        "restore the rule, and make sure by the store's own means that what was written meanwhile is replicated"
    ),
}
"""What to do where no rule leads any longer, if one should."""

_REPLICATE = (
    "Allow the replication role `s3:ReplicateObject` on the destination's objects, in the role's own policy and, "
    "if another account owns the destination, in its bucket policy; look for Deny statements in both."
)

REASONS = (
    Reason(
        "AssumeRoleNotPermitted",
        Group.ROLE,
        "S3 could not assume the role that the replication configuration, or the batch job, names.",
        "Make sure that the role exists, that its trust policy lets `s3.amazonaws.com` call `sts:AssumeRole` "
        "(`batchoperations.s3.amazonaws.com` as well for batch jobs), and that no service control policy forbids it.",
    ),
    Reason(
        "DstBucketInvalidRegion",
        Group.BATCH,
        "The destination is not in the Region that the batch job works with.",
        "Create the job again, for the destination's Region.",
    ),
    Reason(
        "DstBucketNotFound",
        Group.BUCKET_CONFIG,
        "There is no bucket with the name that the rule gives as its destination.",
        "Recreate the bucket, or correct the destination's ARN in the rule.",
    ),
    Reason(
        "DstBucketObjectLockConfigMissing",
        Group.BUCKET_CONFIG,
        "The source has Object Lock and the destination does not.",
        "Turn Object Lock on in the destination.",
    ),
    Reason(
        "DstBucketUnversioned",
        Group.BUCKET_CONFIG,
        "Versioning of the destination is off or suspended.",
        "Turn versioning on in the destination.",
    ),
    Reason(
        "DstDelObjNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not create delete markers in the destination.",
        "Allow the replication role `s3:ReplicateDelete` on the destination's objects, in its own policy and, if "
        "another account owns the destination, in the bucket policy.",
    ),
    Reason(
        "DstKmsKeyInvalidState",
        Group.KMS,
        "The KMS key for the replicas cannot be used in its current state: for example, it is disabled or pending deletion.",
        "Enable the key or cancel its deletion, or name another one as `ReplicaKmsKeyID` in the rule.",
    ),
    Reason(
        "DstKmsKeyNotFound",
        Group.KMS,
        "The KMS key that the rule names for the replicas does not exist, or is not in the destination's Region.",
        "Name a key of the destination's Region as `ReplicaKmsKeyID` in the rule.",
    ),
    Reason(
        "DstMultipartCompleteNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not complete a multipart upload to the destination.",
        _REPLICATE,
    ),
    Reason(
        "DstMultipartInitNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not start a multipart upload to the destination.",
        _REPLICATE,
    ),
    Reason(
        "DstMultipartUploadNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not upload parts to the destination.",
        _REPLICATE,
    ),
    Reason(
        "DstObjectHardDeleted",
        Group.BATCH,
        "This version was permanently deleted from the destination, and Batch Replication does not restore it.",
        "If it should be there, copy the source object onto itself: the new version replicates.",
    ),
    Reason(
        "DstPutAclNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not set the access control list of the replica.",
        f"{_REPLICATE} Object Ownership `BucketOwnerEnforced` at the destination disables these lists.",
    ),
    Reason(
        "DstPutLegalHoldNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not put a legal hold on the replica.",
        "Allow the replication role `s3:PutObjectLegalHold` on the destination's objects.",
    ),
    Reason(
        "DstPutObjectNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not write the object to the destination, may not transfer its ownership to the destination's owner, or "
        "may not use the destination's KMS key.",
        f"{_REPLICATE} If the rule changes the owner, also allow `s3:ObjectOwnerOverrideToBucketOwner` there. If the "
        "rule names a KMS key, allow the role `kms:GenerateDataKey` and `kms:Encrypt` on it, in the key's policy as "
        "well.",
    ),
    Reason(
        "DstPutRetentionNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not set the retention of the replica.",
        "Allow the replication role `s3:PutObjectRetention` on the destination's objects.",
    ),
    Reason(
        "DstPutTaggingNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not write the tags of the replica.",
        "Allow the replication role `s3:ReplicateTags` and `s3:ReplicateObject` on the destination's objects.",
    ),
    Reason(
        "DstVersionNotFound",
        Group.GONE,
        "A change of tags, lists or locks could not be applied: the version is not in the destination.",
        "Nothing if somebody deleted the replica on purpose; otherwise replicate the object again.",
    ),
    Reason(
        "InitiateReplicationNotPermitted",
        Group.BATCH,
        "The role of the batch job may not start the replication of existing objects.",
        "Allow the job's role `s3:InitiateReplication` on the source's objects.",
    ),
    Reason(
        "SrcBucketInvalidRegion",
        Group.BATCH,
        "The source is not in the Region that the batch job works with.",
        "Create the job again, in the source's Region.",
    ),
    Reason(
        "SrcBucketNotFound",
        Group.GONE,
        "The source bucket no longer exists.",
        "Nothing if it was deleted on purpose: it no longer needs monitoring.",
    ),
    Reason(
        "SrcBucketReplicationConfigMissing",
        Group.BUCKET_CONFIG,
        "The source no longer has a replication configuration.",
        "Restore it; nothing if it was removed on purpose.",
    ),
    Reason(
        "SrcGetAclNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the access control list of the object, often because another account owns the object.",
        "Allow the replication role `s3:GetObjectVersionAcl` on the source's objects. Object Ownership "
        "`BucketOwnerEnforced` at the source makes its owner the owner of all of them.",
    ),
    Reason(
        "SrcGetLegalHoldNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the legal hold of the object.",
        "Allow the replication role `s3:GetObjectLegalHold` on the source's objects.",
    ),
    Reason(
        "SrcGetObjectNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the object, or may not use the KMS key with which it is encrypted.",
        "Allow the replication role `s3:GetObjectVersionForReplication` on the source's objects and `kms:Decrypt` on "
        "their key, in the key's policy as well; look for Deny statements.",
    ),
    Reason(
        "SrcGetRetentionNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the retention of the object.",
        "Allow the replication role `s3:GetObjectRetention` on the source's objects.",
    ),
    Reason(
        "SrcGetTaggingNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the tags of the object.",
        "Allow the replication role `s3:GetObjectVersionTagging` on the source's objects.",
    ),
    Reason(
        "SrcHeadObjectNotPermitted",
        Group.SOURCE_PERMISSION,
        "The role may not read the metadata of the object.",
        "Allow the replication role `s3:GetObjectVersionForReplication` on the source's objects; look for Deny "
        "statements.",
    ),
    Reason(
        "SrcKeyNotFound",
        Group.GONE,
        "The object with this key no longer existed when its turn came.",
        "Nothing if it was deleted on purpose.",
    ),
    Reason(
        "SrcKmsKeyInvalidState",
        Group.KMS,
        "The KMS key of the source object cannot be used in its current state: for example, it is disabled or pending "
        "deletion.",
        "Enable the key or cancel its deletion.",
    ),
    Reason(
        "SrcObjectNotEligible",
        Group.NOT_ELIGIBLE,
        "The rule does not replicate the object's storage class or its tags.",
        "Restore the object from the archive, or change the rule or the tags, if it should replicate.",
    ),
    Reason(
        "SrcObjectNotFound",
        Group.GONE,
        "The object no longer existed when its turn came.",
        "Nothing if it was deleted on purpose.",
    ),
    Reason(
        "SrcReplicationNotPending",
        Group.NOT_ELIGIBLE,
        "The object was not waiting for replication: it has already replicated.",
        "Nothing. The monitor's next look shows whether it has.",
    ),
    Reason(
        "SrcVersionNotFound",
        Group.GONE,
        "The version was deleted before its turn came.",
        "Nothing if it was deleted on purpose.",
    ),
)
"""All codes that S3 documents, sorted."""

OWN = (
    Reason(
        TARGET_OFFLINE,
        Group.UNREACHABLE,
        "The source's store considered the destination's server offline, and did not try (MinIO).",
        "Make sure that the destination's server is running and reachable from the source's. MinIO retries by itself.",
    ),
)
"""Our own codes for what other stores report without one."""

_BY_CODE = {one.code: one for one in (*REASONS, *OWN)}

_NONE_GIVEN = {
    StoreKind.S3: (
        "S3 gave no reason: its notice did not name one, or there was no notice.",
        (
            "Configure the source bucket to send `s3:Replication:OperationFailedReplication` to the daemon's queue, and turn "
            "metrics on in the rule: these notices name the reason."
        ),
    ),
    StoreKind.MINIO: (
        "MinIO gives no reason in its notices.",
        (
            "`mc replicate status ALIAS/BUCKET` shows whether the target is reachable, and the log of the source's servers why "
            "not; check the target's credentials, versioning and free space."
        ),
    ),
    StoreKind.CEPH: (
        "Ceph gives no reason.",
        "`radosgw-admin sync error list` shows what went wrong.",
    ),
    StoreKind.OTHER: (
        "The store gave no reason.",
        "Check its log, and whether both buckets and its credentials are as the rule requires.",
    ),
}
"""Meaning and advice if nothing is known about the cause."""

_UNKNOWN_MEANING = "The store gave a reason that this version of crrmon does not know."
_UNKNOWN_ADVICE = {
    StoreKind.S3: "Look the code up in the S3 documentation; check whether both buckets and the role are as the rule requires.",
    **dict.fromkeys(
        (StoreKind.MINIO, StoreKind.CEPH, StoreKind.OTHER),
        "Look the code up in the store's documentation; check whether both buckets and its credentials are as the rule "
        "requires.",
    ),
}


def reason(code: str, store: StoreKind = StoreKind.S3) -> Reason:
    """Explain a code.

    Args:
        code: as the store gave it; one that is not known is passed through with general advice, and so is the empty
            string.
        store: the kind of store that gave it, or none.
    """
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code:
        meaning, advice = _UNKNOWN_MEANING, _UNKNOWN_ADVICE[store]
    else:
        meaning, advice = _NONE_GIVEN[store]
    return Reason(code, Group.UNKNOWN, meaning, f"{advice} {_AFTERWARDS[store]}")


def label(code: str) -> str:
    """Return a code as the value of a metric's label: one of a bounded set, whatever messages contain.

    Returns:
        The code if it is known, `other` for all others, `none` for the empty string.
    """
    if not code:
        return "none"
    return code if code in _BY_CODE else "other"


_STORES = {
    StoreKind.S3: "S3",
    StoreKind.MINIO: "MinIO",
    StoreKind.CEPH: "Ceph",
    StoreKind.OTHER: "another",
}


def reference() -> str:
    """Return the documentation of all codes, as Markdown."""
    rows = "\n".join(
        f"| `{one.code}` | {one.group.value} | {one.meaning} | {one.advice} |"
        for one in (*REASONS, *OWN)
    )
    stores = "\n".join(
        f"| {name} | {_NONE_GIVEN[store][1]} | {_AFTERWARDS[store]} |"
        for store, name in _STORES.items()
    )
    return f"""\
# Failure reasons

Generated by `make docs` from `src/crrmon/domain/reasons.py`; a test keeps it true.

Why S3 gave up replicating a version, by the code in its own notices (`s3:Replication:OperationFailedReplication`,
which a bucket sends once metrics are turned on in the rule). The code is the label `reason` of
`crrmon_failure_reasons_total`: `none` if S3 gave none, `other` for codes that are not in this table. Other stores give
no codes.

| store | how to find a reason that is not given | what remains to be done |
| --- | --- | --- |
{stores}

The advice in the log depends on the kind of store, which is known from its events and `accounts[].endpoint_url`.

| code | group | meaning | what to do |
| --- | --- | --- | --- |
{rows}
"""
