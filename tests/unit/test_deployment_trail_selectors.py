"""Which trails record what is written to a bucket."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment.trail_selectors import Trail, records_writes

ARN = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/t"


def records(bucket: str, **selectors: Any) -> bool:
    return records_writes(Trail(arn=ARN, selectors=selectors), bucket)


def basic(*values: str, kind: str = "AWS::S3::Object", mode: str = "All") -> dict[str, Any]:
    return {"ReadWriteType": mode, "DataResources": [{"Type": kind, "Values": list(values)}]}


def advanced(**fields: Any) -> dict[str, Any]:
    """Create a selector of all data events of objects, with more fields or others."""
    usual: dict[str, Any] = {
        "eventCategory": {"Equals": ["Data"]},
        "resources.type": {"Equals": ["AWS::S3::Object"]},
    }
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return {
        "FieldSelectors": [{"Field": name, **value} for name, value in (usual | named).items()]
    }


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (basic("arn:aws:s3"), True),
        (basic("arn:aws:s3:::"), True),
        (basic("arn:aws:s3:::acme/"), True),
        (basic("arn:aws:s3:::acme/in/"), True),
        (basic("arn:aws:s3:::acme/", mode="WriteOnly"), True),
        (basic("arn:aws:s3:::acme/", mode="ReadOnly"), False),
        (basic("arn:aws:s3:::acme-other/"), False),
        (basic("arn:aws:lambda", kind="AWS::Lambda::Function"), False),
        ({"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}, False),
    ],
)
def test_basic_selectors(selector: dict[str, Any], *, expected: bool) -> None:
    """All buckets, the bucket, or a part of it; not what is only read, not other buckets, not functions."""
    assert records("acme", EventSelectors=[selector]) is expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (advanced(), True),
        (advanced(resources__ARN={"StartsWith": ["arn:aws:s3:::acme/"]}), True),
        (advanced(resources__ARN={"StartsWith": ["arn:aws:s3:::x/", "arn:aws:s3:::acme/"]}), True),
        (advanced(resources__ARN={"StartsWith": ["arn:aws:s3:::acme/in/"]}), True),
        (advanced(resources__ARN={"StartsWith": ["arn:aws:s3:::acme-other/"]}), False),
        (advanced(resources__ARN={"Equals": ["arn:aws:s3:::acme/one-key"]}), True),
        (advanced(resources__ARN={"Equals": ["arn:aws:s3:::other/one-key"]}), False),
        (advanced(resources__ARN={"NotStartsWith": ["arn:aws:s3:::acme/"]}), False),
        (advanced(resources__ARN={"NotStartsWith": ["arn:aws:s3:::acme/tmp/"]}), True),
        (advanced(readOnly={"Equals": ["true"]}), False),
        (advanced(readOnly={"Equals": ["false"]}), True),
        (advanced(eventName={"Equals": ["GetObject"]}), False),
        (advanced(eventName={"Equals": ["GetObject", "PutObject"]}), True),
        (advanced(eventName={"StartsWith": ["Delete"]}), True),
        (advanced(eventName={"NotEquals": ["PutObject"]}), True),
        (advanced(eventName={"NotStartsWith": ["Put", "Copy", "Post", "Delete", "Comp"]}), False),
        (advanced(eventType={"Equals": ["AwsServiceEvent"]}), True),
        (advanced(eventCategory={"Equals": ["Management"]}), False),
        (advanced(resources__type={"Equals": ["AWS::DynamoDB::Table"]}), False),
    ],
)
def test_advanced_selectors(selector: dict[str, Any], *, expected: bool) -> None:
    """All fields of a selector must fit one write to the bucket; what is not known here might."""
    assert records("acme", AdvancedEventSelectors=[selector]) is expected


def test_one_of_several_selectors_is_enough() -> None:
    """Selectors add to each other."""
    reads = advanced(readOnly={"Equals": ["true"]})

    assert not records("acme", AdvancedEventSelectors=[reads])
    assert records("acme", AdvancedEventSelectors=[reads, advanced()])


def test_another_partition() -> None:
    """ARNs begin with the partition."""
    trail = Trail(arn=ARN, selectors={"EventSelectors": [basic("arn:aws-cn:s3:::acme/")]})

    assert records_writes(trail, "acme", partition="aws-cn")
    assert not records_writes(trail, "acme")


_json = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(
    selectors=st.dictionaries(st.sampled_from(["EventSelectors", "AdvancedEventSelectors"]), _json)
)
def test_nonsense_is_read(selectors: dict[str, Any]) -> None:
    """Whatever stands there, reading it does not fail."""
    assert records("acme", **selectors) in (True, False)
