"""How the sandbox's facade reads a call."""

import pytest

from crrmon.sandbox.facade import Target, operation_of, target_of


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
