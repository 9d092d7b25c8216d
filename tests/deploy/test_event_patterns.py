"""Which events the patterns of the pages and of the templates let through: asked of Amazon's own engine, over all samples."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import MalformedMessageError
from crrmon.domain.templates import agent
from crrmon.domain.templates.intrinsics import worked_out
from fakes import event_ruler
from fakes.agent_templates import HERE, agent_with, whole
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


def documented() -> dict[str, list[Any]]:
    """Return the one pattern of each kind that docs/events.md shows."""
    return {kind: [pattern] for kind, pattern in patterns().items()}


def generated() -> dict[str, list[Any]]:
    """Return the patterns of an agent's rules, the source bucket being one of many."""
    names = frozenset({SOURCE, *(f"acme-{number:02}".ljust(63, "x") for number in range(60))})
    return _rules(whole(agent_with(native=names, trail=names)), HERE)


def generic() -> dict[str, list[Any]]:
    """Return those of the template with parameters."""
    template = agent.generic().document()
    return _rules(template, HERE | {"SourceBuckets": ["acme-other-src", SOURCE]})


def _rules(template: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, list[Any]]:
    rules: dict[str, list[Any]] = {"native": [], "trail": []}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Events::Rule":
            properties = worked_out(resource["Properties"], known=known, truths={})
            rules["native" if "native" in properties["Name"] else "trail"].append(
                properties["EventPattern"]
            )
    return rules


@pytest.mark.ruler
@pytest.mark.parametrize("rules", [documented, generated, generic])
def test_the_patterns_let_through_what_is_counted_and_nothing_else(
    rules: Callable[[], dict[str, list[Any]]],
) -> None:
    """Uploads by forms, each key of a batch delete that lists no resources, access points; no failed calls, no tags.

    However many rules there are of a kind, one of them lets an event through, and only one.
    """
    questions = [
        (name, event, kind, pattern)
        for name, event in SAMPLES.items()
        for kind, patterns_of_kind in rules().items()
        for pattern in patterns_of_kind
    ]
    answers = event_ruler.matches([(event, pattern) for _, event, _, pattern in questions])
    through: dict[str, list[str]] = {"native": [], "trail": []}
    for (name, _, kind, _), matched in zip(questions, answers, strict=True):
        through[kind] += [name] if matched else []

    assert {kind: sorted(names) for kind, names in through.items()} == {
        "native": sorted(BY_S3),
        "trail": sorted(BY_TRAIL),
    }


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
