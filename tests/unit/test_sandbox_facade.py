"""How the sandbox's facade reads a call."""

import pytest

from crrmon.sandbox.facade import (
    Target,
    caller_of,
    is_of_s3,
    is_on_items,
    operation_of,
    target_of,
)


@pytest.mark.parametrize(
    ("method", "path", "target", "operation"),
    [
        ("HEAD", "/src-a/a%20key?versionId=v", None, "HeadObject"),
        ("HEAD", "/src-a/replication", None, "HeadObject"),
        ("GET", "/src-a?replication", None, "GetBucketReplication"),
        ("PUT", "/src-a?replication", None, "PutBucketReplication"),
        ("PUT", "/src-a/replication", None, "PutObject"),
        ("GET", "/src-a?location", None, "GetBucketLocation"),
        ("HEAD", "/src-a", None, "HeadBucket"),
        ("POST", "/", "AmazonSQS.ReceiveMessage", "ReceiveMessage"),
        ("POST", "/", "GraniteServiceVersion20100801.PutMetricData", "PutMetricData"),
        ("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", None,
         "PutMetricData"),
    ],
)  # fmt: skip
def test_operations_are_named_as_aws_names_them(
    method: str, path: str, target: str | None, operation: str
) -> None:
    """Calls are counted by operation, and only the right ones are treated differently."""
    headers = {} if target is None else {"X-Amz-Target": target}

    assert operation_of(method, path, headers) == operation
    assert is_of_s3(path, headers) is (operation not in ("ReceiveMessage", "PutMetricData"))


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/b/a%20b%2Bc%252Fd?versionId=v", Target("b", "a b+c%2Fd", {"versionId": ["v"]})),
        ("/b/a+b", Target("b", "a+b", {})),
        ("/b//double//?x-id=y", Target("b", "/double//", {"x-id": ["y"]})),
        ("/b/%F0%9F%8E%89", Target("b", "🎉", {})),
        ("/b?replication", Target("b", "", {"replication": [""]})),
        ("/b/k?", Target("b", "k", {})),
    ],
)
def test_keys_are_decoded_once(path: str, target: Target) -> None:
    """Percent signs, pluses, slashes and emoji arrive as they were written."""
    assert target_of(path) == target


def test_the_caller_is_who_signed() -> None:
    """Replicas are told apart by their access keys; an unsigned call is nobody's."""
    signed = "AWS4-HMAC-SHA256 Credential=sandbox-2/20261122/eu-west-1/s3/aws4_request, SignedHeaders=host"

    assert caller_of({"Authorization": signed}) == "sandbox-2"
    assert caller_of({}) == ""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("DynamoDB_20120810.GetItem", True),
        ("DynamoDB_20120810.TransactWriteItems", True),
        ("DynamoDB_20120810.BatchGetItem", True),
        ("DynamoDB_20120810.Query", True),
        ("DynamoDB_20120810.DescribeTable", False),
        ("AmazonSQS.ReceiveMessage", False),
        ("", False),
    ],
)
def test_only_calls_on_items_can_be_throttled(target: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """What manages tables, and every other service, has good days only."""
    assert is_on_items({"X-Amz-Target": target} if target else {}) is expected
