"""Why S3 gave up to replicate, in its own codes, and what to do about it.

S3 tells the code in its failure notices only, and does not try again by itself: after the cause is mended, somebody
has to start Batch Replication. Codes come with messages, so there may be others than those that are known here.

Other stores give no codes; what they do after a failure differs, and so does the advice.
"""

import enum

import msgspec

from crrmon.domain.stores import Store


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
    """What should replicate is not there any more. Mostly nothing is wrong."""
    NOT_ELIGIBLE = "not_eligible"
    """The object is none that the rules replicate, or it has replicated already."""
    BATCH = "batch"
    """A job of Batch Replication."""
    UNREACHABLE = "unreachable"
    """The way to the destination's server."""
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
"""Our own code for what MinIO says by another event: it took the destination's server to be offline and did not try."""

_AFTERWARDS = {
    Store.S3: (
        "S3 does not try again by itself: once the cause is mended, run Batch Replication on the objects whose "
        "replication status is FAILED, or write them again."
    ),
    Store.MINIO: (
        "MinIO tries again by itself once the cause is mended, at every HEAD and when its scanner comes by; "
        "`mc replicate backlog ALIAS/BUCKET` lists what waits, and `mc replicate resync start ALIAS/BUCKET "
        "--remote-bucket ARN` sends everything again."
    ),
    Store.CEPH: (
        "Ceph synchronises by itself once the cause is mended; `radosgw-admin bucket sync status --bucket BUCKET` shows "
        "how far it is."
    ),
    Store.OTHER: (
        "Unlike S3, most stores try again by themselves once the cause is mended; its own documentation says how this one "
        "is made to."
    ),
}
"""What remains to be done once the cause is mended."""

ROUTE_GONE = {
    Store.S3: "put the rule back and replicate what was written meanwhile with Batch Replication",
    Store.MINIO: (
        "put the rule back and send what was written meanwhile with mc replicate resync start, unless the rule is for"
        " existing objects, too: then the scanner sends it"
    ),
    Store.CEPH: (
        "put the rule back and see with radosgw-admin bucket sync status whether what was written meanwhile follows:"
        " what a bucket's own policy did not allow at the time does not, by itself"
    ),
    Store.OTHER: (
        "put the rule back and see by the store's own means that what was written meanwhile is replicated"
    ),
}
"""What to do where no rule leads any more, if one should."""

_REPLICATE = (
    "Allow the replication role `s3:ReplicateObject` on the destination's objects, in the role's own policy and, "
    "where another account owns the destination, in its bucket policy; look for Deny statements in both."
)

REASONS = (
    Reason(
        "AssumeRoleNotPermitted",
        Group.ROLE,
        "S3 could not take the role that the replication configuration, or the batch job, names.",
        "See that the role exists, that its trust policy lets `s3.amazonaws.com` call `sts:AssumeRole` "
        "(`batchoperations.s3.amazonaws.com` as well for batch jobs), and that no service control policy forbids it.",
    ),
    Reason(
        "DstBucketInvalidRegion",
        Group.BATCH,
        "The destination is not in the Region that the batch job works with.",
        "Make the job again, for the Region in which the destination is.",
    ),
    Reason(
        "DstBucketNotFound",
        Group.BUCKET_CONFIG,
        "There is no bucket of the name that the rule gives as its destination.",
        "Make the bucket again, or correct the destination's ARN in the rule.",
    ),
    Reason(
        "DstBucketObjectLockConfigMissing",
        Group.BUCKET_CONFIG,
        "The source has Object Lock and the destination has not.",
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
        "The role may not lay delete markers in the destination.",
        "Allow the replication role `s3:ReplicateDelete` on the destination's objects, in its own policy and, where "
        "another account owns the destination, in the bucket policy.",
    ),
    Reason(
        "DstKmsKeyInvalidState",
        Group.KMS,
        "The KMS key for the replicas cannot be used in its state: it is disabled, say, or waits for its deletion.",
        "Enable the key or cancel its deletion, or name another one as `ReplicaKmsKeyID` in the rule.",
    ),
    Reason(
        "DstKmsKeyNotFound",
        Group.KMS,
        "The KMS key that the rule names for the replicas does not exist, or not in the destination's Region.",
        "Name a key of the destination's Region as `ReplicaKmsKeyID` in the rule.",
    ),
    Reason(
        "DstMultipartCompleteNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not finish a multipart upload to the destination.",
        _REPLICATE,
    ),
    Reason(
        "DstMultipartInitNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not begin a multipart upload to the destination.",
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
        "This version was deleted for good from the destination, and Batch Replication does not bring it back.",
        "If it is wanted there, copy the source object onto itself: the new version replicates.",
    ),
    Reason(
        "DstPutAclNotPermitted",
        Group.DESTINATION_PERMISSION,
        "The role may not set the access control list of the replica.",
        f"{_REPLICATE} Object Ownership `BucketOwnerEnforced` at the destination does away with these lists.",
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
        "The role may not write the object to the destination, may not hand it over to the destination's owner, or "
        "may not use the destination's KMS key.",
        f"{_REPLICATE} If the rule changes the owner, allow `s3:ObjectOwnerOverrideToBucketOwner` there, too. If the "
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
        "If somebody deleted the replica on purpose, nothing; else replicate the object again.",
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
        "Make the job again, in the Region in which the source is.",
    ),
    Reason(
        "SrcBucketNotFound",
        Group.GONE,
        "The source bucket does not exist any more.",
        "If it was deleted on purpose, nothing: it needs no monitoring any longer.",
    ),
    Reason(
        "SrcBucketReplicationConfigMissing",
        Group.BUCKET_CONFIG,
        "The source has no replication configuration any more.",
        "Put it back; if it was removed on purpose, nothing.",
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
        "There was no object of this key any more when it was its turn.",
        "If it was deleted on purpose, nothing.",
    ),
    Reason(
        "SrcKmsKeyInvalidState",
        Group.KMS,
        "The KMS key of the source object cannot be used in its state: it is disabled, say, or waits for its "
        "deletion.",
        "Enable the key or cancel its deletion.",
    ),
    Reason(
        "SrcObjectNotEligible",
        Group.NOT_ELIGIBLE,
        "The object's storage class or its tags are none that the rule replicates.",
        "Restore the object from the archive, or change the rule or the tags, if it is meant to replicate.",
    ),
    Reason(
        "SrcObjectNotFound",
        Group.GONE,
        "The object did not exist any more when it was its turn.",
        "If it was deleted on purpose, nothing.",
    ),
    Reason(
        "SrcReplicationNotPending",
        Group.NOT_ELIGIBLE,
        "The object was not waiting for replication: it has replicated already.",
        "Nothing. The monitor's next look shows whether it did.",
    ),
    Reason(
        "SrcVersionNotFound",
        Group.GONE,
        "The version was deleted before it was its turn.",
        "If it was deleted on purpose, nothing.",
    ),
)
"""All codes that S3 documents, sorted."""

OWN = (
    Reason(
        TARGET_OFFLINE,
        Group.UNREACHABLE,
        "The source's store took the destination's server to be offline, and did not try (MinIO).",
        "See that the destination's server runs and can be reached from the source's. MinIO tries again by itself.",
    ),
)
"""Codes of our own for what other stores say without one."""

_BY_CODE = {one.code: one for one in (*REASONS, *OWN)}

_NONE_GIVEN = {
    Store.S3: (
        "S3 gave no reason: its notice did not name one, or there was no notice.",
        (
            "Have the source bucket send `s3:Replication:OperationFailedReplication` to the daemon's queue, with metrics "
            "turned on in the rule: these notices name the reason."
        ),
    ),
    Store.MINIO: (
        "MinIO gives no reason in its notices.",
        (
            "`mc replicate status ALIAS/BUCKET` shows whether the target is reached, and the log of the source's servers why "
            "not; see to the target's credentials, versioning and space."
        ),
    ),
    Store.CEPH: (
        "Ceph gives no reason.",
        "`radosgw-admin sync error list` shows what went wrong.",
    ),
    Store.OTHER: (
        "The store gave no reason.",
        "See its log, and that both buckets and its credentials are as the rule needs them.",
    ),
}
"""Meaning and advice where nothing is known of the cause."""

_UNKNOWN_MEANING = "The store gave a reason that this version of crrmon does not know."
_UNKNOWN_ADVICE = {
    Store.S3: "Look the code up in the S3 documentation; see that both buckets and the role are as the rule needs them.",
    **dict.fromkeys(
        (Store.MINIO, Store.CEPH, Store.OTHER),
        "Look the code up in the store's documentation; see that both buckets and its credentials are as the rule needs "
        "them.",
    ),
}


def reason(code: str, store: Store = Store.S3) -> Reason:
    """
    Explain a code.

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
    """
    Return a code as the value of a metric's label: one of a bounded set, whatever messages hold.

    Returns:
        The code if it is known, `other` for all others, `none` for the empty string.
    """
    if not code:
        return "none"
    return code if code in _BY_CODE else "other"


_STORES = {
    Store.S3: "S3",
    Store.MINIO: "MinIO",
    Store.CEPH: "Ceph",
    Store.OTHER: "another",
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

Why S3 gave up to replicate a version, by the code in its own notices (`s3:Replication:OperationFailedReplication`,
which a bucket sends once metrics are turned on in the rule). The code is the label `reason` of
`crrmon_failure_reasons_total`: `none` where S3 gave none, `other` for codes that are not in this table. Other stores give
no codes.

| store | how to find a reason that is not given | afterwards |
| --- | --- | --- |
{stores}

The advice in the log goes by the kind of store, which its events tell, and `accounts[].endpoint_url`.

| code | group | meaning | what to do |
| --- | --- | --- | --- |
{rows}
"""
