"""Which events the documented patterns let through: asked of Amazon's own engine, over all samples of events."""

import json
from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import MalformedMessageError
from fakes import event_ruler
from fakes.pages import TOP, json_blocks

SAMPLES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((TOP / "tests/data").glob("*.json"))
    if path.stem.startswith(("cloudtrail_", "eventbridge_"))
}
SOURCE = "acme-ledger-src"

BY_TRAIL = {
    "cloudtrail_complete_multipart_upload",
    "cloudtrail_copy_object",
    "cloudtrail_delete_object_marker",
    "cloudtrail_delete_object_of_batch",
    "cloudtrail_delete_object_of_batch_resources_only",
    "cloudtrail_delete_object_version",
    "cloudtrail_initiate_replication",
    "cloudtrail_initiate_replication_without_version",
    "cloudtrail_post_object",
    "cloudtrail_put_object",
    "cloudtrail_put_object_access_point_alias",
    "cloudtrail_put_object_access_point_arn",
    "cloudtrail_put_object_newer_minor_version",
    "cloudtrail_put_object_null_parameters",
    "cloudtrail_put_object_without_version",
    # Damaged, which a pattern cannot see.
    "cloudtrail_object_arn_without_key",
}
"""What CloudTrail's rule lets through."""

BY_S3 = {
    "eventbridge_delete_marker",
    "eventbridge_lifecycle_deleted",
    "eventbridge_lifecycle_marker",
    "eventbridge_object_created",
    "eventbridge_object_created_copy",
    "eventbridge_object_created_multipart",
    "eventbridge_object_created_other_account",
    "eventbridge_object_created_post",
    "eventbridge_object_created_without_version",
    "eventbridge_object_deleted",
    "eventbridge_object_deleted_without_version",
}
"""What the rule for S3's own events lets through."""

ELSEWHERE = {"cloudtrail_put_object_china"}
"""Of the bucket of that name in another partition, whose ARN is another."""


def patterns() -> dict[str, Any]:
    """Find the two patterns of docs/events.md."""
    native, trail = (one for one in json_blocks("docs/events.md") if "source" in one)
    return {"native": native, "trail": trail}


def wanted(sample: str) -> bool:
    """Tell whether the decoder makes something of an event of the source bucket."""
    try:
        decoded = decode(json.dumps(SAMPLES[sample]))
    except MalformedMessageError:
        return False
    return any(fact.version.bucket == SOURCE for fact in decoded.facts)


@pytest.mark.ruler
def test_the_patterns_let_through_what_is_counted_and_nothing_else() -> None:
    """Uploads by forms, each key of a batch delete that lists no resources, access points; no failed calls, no tags."""
    questions = [
        (name, event, kind, rule)
        for name, event in SAMPLES.items()
        for kind, rule in patterns().items()
    ]
    answers = event_ruler.matches([(event, rule) for _, event, _, rule in questions])
    through: dict[str, set[str]] = {"native": set(), "trail": set()}
    for (name, _, kind, _), matched in zip(questions, answers, strict=True):
        through[kind] |= {name} if matched else set()

    assert through == {"native": BY_S3, "trail": BY_TRAIL}


def test_nothing_that_is_decoded_is_left_out() -> None:
    """A sample of a new kind of event must be let through, or be named as one that is not."""
    left_out = {name for name in SAMPLES if wanted(name)} - BY_TRAIL - BY_S3
    assert left_out == ELSEWHERE


def test_the_trail_selects_the_calls_that_its_rule_lets_through() -> None:
    """What a trail does not record, no rule sees; what no rule lets through, nobody need pay for."""
    (selectors,) = (one for one in json_blocks("docs/events.md") if isinstance(one, list))
    fields = {one["Field"]: one for one in selectors[0]["FieldSelectors"]}
    assert fields["eventName"]["Equals"] == patterns()["trail"]["detail"]["eventName"]
    assert fields["readOnly"]["Equals"] == ["false"]
    assert fields["resources.ARN"]["StartsWith"] == [f"arn:aws:s3:::{SOURCE}/"]


def test_the_second_selector_selects_what_the_samples_of_batch_deletes_are() -> None:
    """Each of its fields, in the samples of events that may list no resources, is one that it asks for."""
    (selector,) = (
        one
        for one in json_blocks("docs/events.md")
        if isinstance(one, dict) and "FieldSelectors" in one
    )
    asked = {one["Field"]: one["Equals"] for one in selector["FieldSelectors"]}
    assert asked.pop("resources.type") == ["AWS::S3::Object"]
    for name in BY_TRAIL:
        if "_of_batch" in name:
            detail = SAMPLES[name]["detail"]
            assert {field: [detail[field]] for field in asked} == {
                "eventCategory": asked["eventCategory"],
                "eventName": asked["eventName"],
                "eventType": asked["eventType"],
            }


def test_pages_with_patterns_are_these() -> None:
    """A pattern in another page would not be asked above."""
    pages = [*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("helm/**/*.md")]
    with_patterns = {path.name for path in pages if _has_pattern(path)}
    assert with_patterns == {"events.md"}


def _has_pattern(path: Path) -> bool:
    page = str(path.relative_to(TOP))
    return any(isinstance(one, dict) and "source" in one for one in json_blocks(page))
