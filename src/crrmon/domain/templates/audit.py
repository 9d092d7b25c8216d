"""Rules that every template here keeps, checked on the text that CloudFormation gets.

What a linter finds is wrong at AWS; this finds what AWS takes and nobody should send it: a policy that lets in anybody,
a queue without encryption, a table that goes with its stack, and whatever grows over a quota only when it is filled in.

Each resource is looked at for every outcome of the conditions that it depends on.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from crrmon.domain.deployment import quotas
from crrmon.domain.templates.intrinsics import (
    ACCOUNT,
    PARTITION,
    REGION,
    conditions_of,
    worked_out,
)
from crrmon.domain.templates.template import LONGEST_TEMPLATE, MOST_RESOURCES

Json = Any

_PLACE: Final = {ACCOUNT: "123456789012", PARTITION: "aws", REGION: "ap-southeast-1"}
"""Where a template is thought to be, where nobody says it: a region with a long name."""

_WITHOUT_RESOURCE = {"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}
"""Actions for which AWS has no resources that could be named."""
_WITH_CONDITION = {"cloudwatch:PutMetricData"}
"""Those of them that a condition can limit."""

_KEPT = {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}
"""What holds data that is nowhere else."""

_ONLY_TLS = {
    "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues"),
    "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics"),
    "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket"),
}
"""What is called from outside: the type of its policy, and where that names it."""

_CODE = (
    "AWS::Lambda::",
    "Custom::",
    "AWS::CloudFormation::CustomResource",
    "AWS::CloudFormation::Macro",
)
"""What would run code of ours in somebody's account."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """A rule that is not kept."""

    resource: str
    """Its logical name; empty for the template as a whole."""
    text: str


def audit(template: Mapping[str, Json], known: Mapping[str, Json] = _PLACE) -> tuple[Finding, ...]:
    """
    Check a template.

    Args:
        template: as CloudFormation reads it.
        known: values of parameters and pseudo parameters where they are not the defaults; lengths are measured with
            them.

    Returns:
        What is wrong, sorted, each once.
    """
    parameters = template.get("Parameters", {}).items()
    # One that is empty is never looked at: a condition asks before.
    defaults = {name: one["Default"] for name, one in parameters if one.get("Default")}
    values = {**_PLACE, **defaults, **known}
    found = {Finding("", text) for text in _of_the_whole(template)}
    for name, resource in template["Resources"].items():
        for outcome in _outcomes(resource, values):
            found |= {Finding(name, text) for text in _of_a_resource(outcome)}
        found |= {Finding(name, text) for text in _without_tls(name, template["Resources"])}
    return tuple(sorted(found))


def _outcomes(resource: Json, known: Mapping[str, Json]) -> Iterator[Json]:
    """Work a resource out for each outcome of its conditions, whether or not all of them can come together."""
    conditions = sorted(conditions_of(resource))
    for outcome in itertools.product((False, True), repeat=len(conditions)):
        truths = dict(zip(conditions, outcome, strict=True))
        yield worked_out(resource, known=known, truths=truths)


def _of_the_whole(template: Mapping[str, Json]) -> Iterator[str]:
    if len(template["Resources"]) > MOST_RESOURCES:
        yield f"{len(template['Resources'])} resources are more than {MOST_RESOURCES}"
    if (length := _length(template)) > LONGEST_TEMPLATE:
        yield f"{length} bytes are more than {LONGEST_TEMPLATE}"
    if "Transform" in template:
        yield "a transform is code that runs in the account"


def _of_a_resource(resource: Mapping[str, Json]) -> Iterator[str]:
    kind, properties = resource["Type"], resource.get("Properties", {})
    if kind.startswith(_CODE):
        yield f"{kind} is code that runs in the account"
    if kind in _KEPT:
        yield from _not_kept(resource)
    for statement in _statements(properties):
        yield from _of_a_statement(statement)
    if check := _CHECKS.get(kind):
        yield from check(properties)


# ---- policies ----


def _statements(value: Json) -> Iterator[Mapping[str, Json]]:
    """Find all statements of all policies, wherever a property holds one."""
    match value:
        case {"Statement": statements}:
            yield from _listed(statements)
        case dict():
            for part in value.values():
                yield from _statements(part)
        case list():
            for part in value:
                yield from _statements(part)
        case str() if value.startswith("{"):
            # A policy as a text, with what CloudFormation fills in as a name.
            yield from _statements(msgspec.json.decode(value))
        case _:
            pass


def _of_a_statement(statement: Mapping[str, Json]) -> Iterator[str]:
    name = statement.get("Sid", "a statement")
    conditional = bool(statement.get("Condition"))
    principal = statement.get("Principal", {})
    principals = principal.values() if isinstance(principal, dict) else [principal]
    if not conditional and any("*" in _listed(one) for one in principals):
        yield f"{name}: any principal, without a condition"
    for unlimited in ("NotAction", "NotResource", "NotPrincipal"):
        if unlimited in statement:
            yield f"{name}: {unlimited} lets in whatever there will be"
    if statement["Effect"] != "Allow":
        return
    actions = _listed(statement.get("Action", []))
    yield from (f"{name}: {one} is any action" for one in actions if one.endswith("*"))
    if any(map(_is_any, _listed(statement.get("Resource", [])))):
        for action in actions:
            if action not in _WITHOUT_RESOURCE:
                yield f"{name}: {action} on any resource"
            elif action in _WITH_CONDITION and not conditional:
                yield f"{name}: {action} on any resource, without a condition"


def _is_any(resource: str) -> bool:
    """Return whether a resource stands for all there are, be it of S3 alone: the names of buckets have no account."""
    return resource == "*" or ":s3:::*" in resource


def _without_tls(name: str, resources: Mapping[str, Json]) -> Iterator[str]:
    kind = resources[name]["Type"]
    if kind not in _ONLY_TLS:
        return
    policy_kind, naming = _ONLY_TLS[kind]
    for policy in resources.values():
        if policy["Type"] != policy_kind:
            continue
        properties = policy["Properties"]
        if {"Ref": name} in _listed(properties[naming]) and any(
            map(_is_only_tls, _statements(properties))
        ):
            return
    yield "no policy refuses calls without TLS"


def _is_only_tls(statement: Mapping[str, Json]) -> bool:
    return (
        statement.get("Effect") == "Deny"
        and statement.get("Principal") == "*"
        and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
    )


# ---- kinds of resources ----


def _not_kept(resource: Mapping[str, Json]) -> Iterator[str]:
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        if not str(resource.get(policy)).startswith("Retain"):
            yield f"{policy} would delete data"


def _queue(properties: Mapping[str, Json]) -> Iterator[str]:
    key = properties.get("KmsMasterKeyId", "")
    if not key and properties.get("SqsManagedSseEnabled") is not True:
        yield "no encryption"
    if "alias/aws/" in str(key):
        yield "the key that AWS manages lets no service send"


def _topic(properties: Mapping[str, Json]) -> Iterator[str]:
    if "alias/aws/" in str(properties.get("KmsMasterKeyId", "")):
        yield "the key that AWS manages lets no service send"


def _bucket(properties: Mapping[str, Json]) -> Iterator[str]:
    if not properties.get("BucketEncryption"):
        yield "no encryption"
    access = properties.get("PublicAccessBlockConfiguration", {})
    for block in (
        "BlockPublicAcls",
        "BlockPublicPolicy",
        "IgnorePublicAcls",
        "RestrictPublicBuckets",
    ):
        if access.get(block) is not True:
            yield f"public access: not {block}"
    if properties.get("OwnershipControls") != {
        "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]
    }:
        yield "lists of access are not turned off"


def _rule(properties: Mapping[str, Json]) -> Iterator[str]:
    if (length := _length(properties.get("EventPattern", {}))) > quotas.EVENT_PATTERN_CHARACTERS:
        yield f"a pattern of {length} characters is longer than {quotas.EVENT_PATTERN_CHARACTERS}"
    for target in properties.get("Targets", []):
        if "DeadLetterConfig" not in target:
            yield f"target {target['Id']} has no dead-letter queue"


def _trail(properties: Mapping[str, Json]) -> Iterator[str]:
    selectors = properties.get("AdvancedEventSelectors", [])
    fields = [field for one in selectors for field in one["FieldSelectors"]]
    categories = [one["Equals"] for one in fields if one["Field"] == "eventCategory"]
    if categories != [["Data"]] * len(selectors) or not selectors:
        yield "it records more than data events"


def _queue_policy(properties: Mapping[str, Json]) -> Iterator[str]:
    if (length := _length(properties["PolicyDocument"])) > quotas.QUEUE_POLICY_BYTES:
        yield f"a policy of {length} bytes is longer than {quotas.QUEUE_POLICY_BYTES}"
    statements = list(_statements(properties))
    if len(statements) > quotas.QUEUE_POLICY_STATEMENTS:
        yield f"{len(statements)} statements are more than {quotas.QUEUE_POLICY_STATEMENTS}"
    if (
        most := max((len(_listed(one["Action"])) for one in statements), default=0)
    ) > quotas.QUEUE_POLICY_ACTIONS:
        yield f"{most} actions of a statement are more than {quotas.QUEUE_POLICY_ACTIONS}"


def _managed_policy(properties: Mapping[str, Json]) -> Iterator[str]:
    yield from _too_long_for_iam(properties["PolicyDocument"])


def _role(properties: Mapping[str, Json]) -> Iterator[str]:
    for policy in properties.get("Policies", []):
        yield from _too_long_for_iam(policy["PolicyDocument"])


def _too_long_for_iam(document: Json) -> Iterator[str]:
    if (length := _length(document)) > quotas.MANAGED_POLICY_CHARACTERS:
        yield f"a policy of {length} characters is longer than {quotas.MANAGED_POLICY_CHARACTERS}"


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Json]], Iterator[str]]]] = {
    "AWS::CloudTrail::Trail": _trail,
    "AWS::Events::Rule": _rule,
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::IAM::Role": _role,
    "AWS::S3::Bucket": _bucket,
    "AWS::SNS::Topic": _topic,
    "AWS::SQS::Queue": _queue,
    "AWS::SQS::QueuePolicy": _queue_policy,
}


def _length(value: Json) -> int:
    return len(msgspec.json.encode(value))


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]
