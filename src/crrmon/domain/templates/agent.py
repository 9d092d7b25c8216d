"""The agent: what stands in each account and region whose buckets are to be heard of.

Events never leave their account and region: they wait in a queue there, and the daemon fetches them. In an account that
is not the daemon's, the queue's policy lets its role in, and there is a role by which it looks at the buckets.

All names follow from the deployment's, and account, region and partition are CloudFormation's own: one text fits every
place, also as a stack set. Names of buckets are part of the text, for no parameter takes so many; except in the generic
one, which takes as many as fit into one rule.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment import event_patterns
from crrmon.domain.deployment.names import Deployment, bucket_arn
from crrmon.domain.deployment.packing import NOTHING, Chunks
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import alarms, bucket_access, event_rules, numbered, queues, topics
from crrmon.domain.templates.intrinsics import (
    REGION,
    att,
    both,
    equals,
    given,
    holds,
    ref,
    split_names,
    sub,
    when,
)
from crrmon.domain.templates.parameters import BUCKET, NAMES
from crrmon.domain.templates.template import Parameter, Part, Template

Json = Any

_DESCRIPTION = "crrmon's agent: the queue of an account and region whose buckets crrmon watches, and what fills it."
_BUCKETS = "SourceBuckets"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is to do."""

    deployment: Deployment
    place: Place
    role_region: str
    """The one region of the account in which the role for looking at buckets is made."""
    native: frozenset[str] = frozenset()
    """Buckets of the region whose events come by EventBridge from S3 itself."""
    trail: frozenset[str] = frozenset()
    """Those whose events come from a trail."""
    switched: frozenset[str] = frozenset()
    """Those of `native` whose switch for EventBridge the deployment turns on, and so may turn off again."""
    readable: frozenset[str] = frozenset()
    """Buckets of the account, in all regions, that the daemon may look at."""
    monitor_role_arn: str = ""
    """The daemon's role; empty for the one that the monitor makes."""
    external_id: str = ""
    queue_key_arn: str = ""
    """A customer's KMS key for the queues; empty for SQS's own encryption."""
    retention_seconds: int = 345_600
    alarm_topic_arn: str = ""
    """A topic of the region for alarms; empty makes one."""
    alarm_email: str = ""
    """Who is told by a topic that is made here; empty for nobody."""
    trail_retention_days: int = 7

    @property
    def makes_role(self) -> bool:
        """Whether the role by which the daemon looks at buckets is part of it."""
        foreign = self.place.account != self.deployment.monitor.account
        return foreign and self.place.region == self.role_region

    @property
    def parameters(self) -> dict[str, str | int]:
        """What it is told by parameters, of which its template may lack some."""
        return {
            "Deployment": self.deployment.name,
            "RetentionSeconds": self.retention_seconds,
            "QueueKmsKeyArn": self.queue_key_arn,
            "MonitorAccountId": self.deployment.monitor.account,
            "MonitorRoleArn": self.monitor_role_arn,
            "ExternalId": self.external_id,
            "RoleRegion": self.role_region,
            "AlarmTopicArn": self.alarm_topic_arn,
            "AlarmEmail": self.alarm_email,
            "TrailRetentionDays": self.trail_retention_days,
        }


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Which resource names which bucket."""

    native: Chunks = NOTHING
    """By numbers of rules for S3's own events."""
    trail: Chunks = NOTHING
    """By numbers of rules for a trail's."""
    readable: Chunks = NOTHING
    """By numbers of policies."""


EMPTY = Layout()


def filled_in(agent: Agent, *, before: Layout = EMPTY) -> Template:
    """
    Return the template of an agent: with its buckets, and with all else as parameters and their defaults.

    Args:
        agent: what it is to do.
        before: where the buckets are in the stack that there is; they stay there.

    Raises:
        ValueError: a switch is to be turned on for a bucket that no rule names.
        bucket_access.TooManyBucketsError: no role can be let in to all buckets.
        event_patterns.TooManyBucketsError: no trail can record all of them.
        TooLargeError: a name is too long.
    """
    if unknown := agent.switched - agent.native:
        raise ValueError(f"no rule would remember the switch of {', '.join(sorted(unknown))}")
    layout = _lay_out(agent, before)
    parts = [queues.queues(), queues.monitor(), _alarm()]
    if layout.native:
        parts.append(event_rules.native_rules(layout.native, agent.switched))
    if layout.trail:
        arns = {number: event_rules.arns_of(names) for number, names in layout.trail.items()}
        starts = event_rules.arns_of(agent.trail, after="/")
        parts += [event_rules.trail(starts), event_rules.trail_rules(arns)]
    if agent.makes_role:
        parts += [_role(), _policies(layout.readable)]
    return Template(
        description=_DESCRIPTION,
        parts=tuple(part.with_defaults(agent.parameters) for part in parts),
    )


def generic() -> Template:
    """Return the template with everything as parameters: for one source, and as many buckets as fit into one rule."""
    prefix = bucket_arn("", "aws")
    arns = split_names(_BUCKETS, before=prefix)
    native = Part(label="", resources={"NativeRule1": event_rules.native_rule(1, ref(_BUCKETS))})
    trail = event_rules.trail(split_names(_BUCKETS, before=prefix, after="/"))
    policy = bucket_access.policy(
        [ref("Role")],
        bucket_arns=arns,
        object_arns=split_names(_BUCKETS, before=prefix, after="/*"),
    )
    return Template(
        description=_DESCRIPTION,
        parts=(
            _chosen(),
            queues.queues(),
            queues.monitor(),
            _role(),
            Part(label="", resources={"Buckets1": policy}).only_if("MakesRole"),
            _alarm(),
            native.only_if("UsesRules"),
            trail.only_if("UsesTrail"),
            event_rules.trail_rules({1: arns}).only_if("UsesTrail"),
        ),
        # No function fills in the partition before each name of a list, so this works only in the partition aws.
        metadata={"cfn-lint": {"config": {"ignore_checks": ["I3042"]}}},
    )


# ---- where buckets are named ----


def layout_of(template: Mapping[str, Json]) -> Layout:
    """
    Return where the buckets are in a template that was filled in.

    Args:
        template: what `document` returned, or CloudFormation of it.
    """
    return Layout(
        native=numbered.chunks(
            template,
            "NativeRule",
            lambda rule: rule["EventPattern"]["detail"]["bucket"]["name"],
        ),
        trail=numbered.chunks(
            template,
            "TrailRule",
            lambda rule: rule["EventPattern"]["detail"]["resources"]["ARN"],
        ),
        readable=bucket_access.chunks(template),
    )


def _lay_out(agent: Agent, before: Layout) -> Layout:
    partition = agent.place.partition
    readable = NOTHING
    if agent.makes_role:
        readable = bucket_access.packed(
            agent.readable, partition=partition, before=before.readable
        )
    return Layout(
        native=event_patterns.native_rules(agent.native, before=before.native),
        trail=event_patterns.trail_rules(agent.trail, partition=partition, before=before.trail),
        readable=readable,
    )


# ---- parts ----


def _chosen() -> Part:
    return Part(
        label="Buckets",
        parameters={
            _BUCKETS: Parameter(
                type="CommaDelimitedList",
                description=(
                    "Source and destination buckets of the account, separated by commas. Those of other regions do no harm. "
                    "About 20 with long names fit into a rule."
                ),
                pattern=BUCKET,
                constraint="must be names of buckets, separated by commas, without spaces",
            ),
            "Source": Parameter(
                description=(
                    "How their events come: notifications (which you configure on the buckets, to the queue), eventbridge (which you "
                    "enable on the buckets), or cloudtrail (by a trail that this stack creates)."
                ),
                default="notifications",
                values=("notifications", "eventbridge", "cloudtrail"),
            ),
        },
        conditions={
            "UsesRules": equals(ref("Source"), "eventbridge"),
            "UsesTrail": equals(ref("Source"), "cloudtrail"),
        },
    )


def _role() -> Part:
    """Return the role that the daemon takes to look at buckets; `queues.monitor` has conditions that it needs."""
    caller = queues.monitor_as_caller()
    external_id = {"sts:ExternalId": ref("ExternalId")}
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": caller["Principal"],
        "Condition": caller["Condition"] | {"StringEquals": when("HasExternalId", external_id)},
    }
    return Part(
        label="Role in an account that is not the monitor's",
        parameters={
            "RoleRegion": Parameter(
                description="Region whose stack creates the role by which crrmon looks at the buckets of all regions of the account.",
                pattern="^[a-z]{2,4}(-[a-z]+)+-[0-9]+$",
                constraint="must be a region",
            ),
            "ExternalId": Parameter(
                description="External ID that crrmon must give to assume the role; empty for none.",
                default="",
                pattern="^$|^[A-Za-z0-9_+=,.@:/-]{2,1224}$",
                constraint="must be an external ID, or empty",
            ),
        },
        conditions={
            "MakesRole": both(holds("IsForeign"), equals(ref("RoleRegion"), ref(REGION))),
            "HasExternalId": given("ExternalId"),
        },
        resources={
            "Role": {
                "Type": "AWS::IAM::Role",
                "Condition": "MakesRole",
                "Properties": {
                    "RoleName": sub(NAMES.agent_role),
                    "Description": "Lets crrmon look at the buckets that it watches.",
                    "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
                },
            }
        },
        outputs={
            "RoleArn": {
                "Description": "Role that crrmon assumes to look at buckets.",
                "Condition": "MakesRole",
                "Value": att("Role"),
            }
        },
    )


def _policies(readable: Chunks) -> Part:
    policies = {
        f"Buckets{number}": bucket_access.policy(
            [ref("Role")],
            bucket_arns=event_rules.arns_of(names),
            object_arns=event_rules.arns_of(names, after="/*"),
        )
        for number, names in readable.items()
    }
    return Part(label="", resources=policies).only_if("MakesRole")


def _alarm() -> Part:
    """Return the alarm for dead letters: what SQS measures is in the queue's own account and region."""
    topic = when("MakesTopic", ref("AlarmTopic"), ref("AlarmTopicArn"))
    return Part(
        label="Alarm",
        parameters={
            "AlarmTopicArn": Parameter(
                description=(
                    "SNS topic of this region that the alarm notifies; empty creates one. An encrypted topic needs a customer managed "
                    "key whose policy allows cloudwatch.amazonaws.com to use it."
                ),
                default="",
                pattern=r"^$|^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$",
                constraint="must be the ARN of a standard topic, or empty",
            ),
            "AlarmEmail": topics.EMAIL,
        },
        conditions={
            "MakesTopic": equals(ref("AlarmTopicArn"), ""),
            "HasEmail": both(holds("MakesTopic"), given("AlarmEmail")),
        },
        resources={
            **topics.topic("AlarmTopic", NAMES.agent_topic, "AlarmMail", only_if="MakesTopic"),
            "DeadLettersAlarm": alarms.alarm(
                "Messages are in crrmon's dead-letter queue: the objects they report are not followed. "
                "docs/runbook.md#crrmondeadletters",
                topic,
                **alarms.metric(
                    "AWS/SQS",
                    "ApproximateNumberOfMessagesVisible",
                    {"QueueName": att("DeadLetters", "QueueName")},
                ),
                EvaluationPeriods=1,
                ComparisonOperator="GreaterThanThreshold",
                Threshold=0,
            ),
        },
    )
