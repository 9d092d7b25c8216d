"""The monitor: what there is once, where the daemon runs. Its role, the ledger's table, alarms, and whom they tell.

The daemon itself is not part of it: that runs as a service of its own, on whatever takes the role.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from crrmon.domain import ledger_table
from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import Deployment, bucket_arn, table_arn
from crrmon.domain.deployment.packing import NOTHING, Chunks
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import (
    alarms,
    bucket_access,
    daemon_access,
    dashboard,
    event_rules,
    policies,
    runtimes,
    topics,
)
from crrmon.domain.templates.intrinsics import (
    ACCOUNT,
    PARTITION,
    REGION,
    att,
    both,
    equals,
    given,
    holds,
    negated,
    none_of,
    ref,
    split_names,
    sub,
    when,
    worked_out,
)
from crrmon.domain.templates.parameters import (
    BUCKET,
    DEPLOYMENT,
    HERE,
    KEY_ARN,
    KEY_CONSTRAINT,
    NAMES,
)
from crrmon.domain.templates.runtimes import Instance, Runtime
from crrmon.domain.templates.template import Parameter, Part, Template

Json = Any

_DESCRIPTION = (
    "crrmon's monitor: the role of the daemon, the table of its ledger, alarms and a dashboard."
)


class Ledger(enum.StrEnum):
    """Where the daemon keeps what it knows of objects."""

    DYNAMODB = "dynamodb"
    OTHER = "other"
    """In no table, so that none is made."""


class Monitor(msgspec.Struct, frozen=True, kw_only=True):
    """What a monitor is to be."""

    deployment: Deployment
    runtime: Runtime
    """Where the daemon runs."""
    agents: frozenset[Place] = frozenset()
    """Where there are queues to read."""
    readable: frozenset[str] = frozenset()
    """Buckets of the monitor's own account, in all regions, that the daemon may look at."""
    ledger: Ledger = Ledger.DYNAMODB
    existing_table: str = ""
    """A table that is there already, in the monitor's region; empty creates one."""
    alarm_each: frozenset[str] = frozenset()
    """Source buckets that have an alarm of their own for failures, in place of the one for all buckets."""
    metric_namespace: str = "CRRMonitor"
    alarm_email: str = ""
    """Who is told of alarms; empty for nobody."""
    topic_key_arn: str = ""
    """A customer's KMS key for the topic; empty for none."""
    table_key_arn: str = ""
    """The same for the table; empty for DynamoDB's own encryption."""
    queue_key_arns: frozenset[str] = frozenset()
    """Customers' KMS keys that the agents' queues have."""
    failed_threshold: int = 0
    stuck_threshold: int = 0
    not_covered_threshold: int | None = None
    """Objects that no rule replicates; None for no alarm on them."""
    queue_age_seconds: int = 900
    heartbeat_periods: int = 3
    """Windows of five minutes without a heartbeat."""
    protects_table: bool = False
    """Whether DynamoDB refuses to delete the table. A stack that cannot be created then leaves its table behind."""

    @property
    def makes_table(self) -> bool:
        """Whether the ledger's table is part of it."""
        return self.ledger is Ledger.DYNAMODB and not self.existing_table

    @property
    def table(self) -> str:
        """The ledger's table, if it is in one."""
        return self.existing_table or self.deployment.names.table

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts in which the daemon takes the agent's role to look at buckets."""
        return frozenset(place.account for place in self.agents) - {
            self.deployment.monitor.account
        }

    @property
    def parameters(self) -> dict[str, str | int]:
        """What it is told by parameters, of which its template may lack some."""
        uncovered = self.not_covered_threshold
        return {
            "Deployment": self.deployment.name,
            "MetricNamespace": self.metric_namespace,
            "AlarmEmail": self.alarm_email,
            "TopicKmsKeyArn": self.topic_key_arn,
            "TableKmsKeyArn": self.table_key_arn,
            "DeletionProtection": "true" if self.protects_table else "false",
            "FailedThreshold": self.failed_threshold,
            "StuckThreshold": self.stuck_threshold,
            "NotCoveredThreshold": "" if uncovered is None else str(uncovered),
            "QueueAgeSeconds": self.queue_age_seconds,
            "HeartbeatPeriods": self.heartbeat_periods,
        }


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Which policy names what."""

    queues: Chunks = NOTHING
    """As `daemon_access.packed` names them."""
    readable: Chunks = NOTHING
    """Buckets."""


EMPTY = Layout()


def filled_in(monitor: Monitor, *, before: Layout = EMPTY) -> Template:
    """
    Return the template of a monitor: with its queues and buckets, and with most else as parameters and their defaults.

    Args:
        monitor: what it is to be.
        before: where queues and buckets are in the stack that there is; they stay there.

    Raises:
        daemon_access.TooManyAgentsError: no role can be let in to all queues and accounts.
        bucket_access.TooManyBucketsError: no role can be let in to all buckets.
        alarms.TooManyAlarmsError: so many buckets cannot have an alarm each.
        TooLargeError: a name is too long.
    """
    layout = _lay_out(monitor, before)
    roles = None if monitor.runtime is None else [ref("Role")]
    parts = [
        _deployment(),
        _table_part(monitor),
        _topic(),
        alarms.monitor(ref("Topic"), monitor.alarm_each),
        _role_part(monitor.runtime),
        _policies(monitor, layout, roles),
        _dashboard(monitor),
    ]
    if monitor.runtime is None:
        parts.append(_arns_of_policies(layout))
    return Template(
        description=_DESCRIPTION,
        parts=tuple(
            _as_literal(part.with_defaults(monitor.parameters), monitor) for part in parts
        ),
    )


def generic() -> Template:
    """Return the template with everything as parameters: for as many buckets as fit into one policy."""
    return Template(
        description=_DESCRIPTION,
        parts=(
            _deployment(),
            _chosen_ledger(),
            _table(sub(NAMES.table)).only_if("MakesTable"),
            _topic(),
            alarms.monitor(ref("Topic")),
            runtimes.choice(),
            _chosen_role(),
            _chosen_access(),
            _dashboard_with(dashboard.queues([HERE.region], NAMES)),
        ),
        # No function fills in the partition before each name of a list, so this works only in the partition aws.
        metadata={"cfn-lint": {"config": {"ignore_checks": ["I3042"]}}},
    )


# ---- where queues and buckets are named ----


def layout_of(template: Mapping[str, Json]) -> Layout:
    """
    Return where queues and buckets are in a template that was filled in.

    Args:
        template: what `document` returned, or CloudFormation of it.
    """
    return Layout(queues=daemon_access.chunks(template), readable=bucket_access.chunks(template))


def _lay_out(monitor: Monitor, before: Layout) -> Layout:
    place = monitor.deployment.monitor
    known = {
        ACCOUNT: place.account,
        PARTITION: place.partition,
        REGION: place.region,
        "Deployment": monitor.deployment.name,
        "MetricNamespace": monitor.metric_namespace,
        "TableKmsKeyArn": monitor.table_key_arn,
    }
    first = worked_out(_statements(monitor), known=known, truths={"HasTableKey": True})
    queues = daemon_access.packed(
        monitor.agents, first, monitor.deployment.names, before=before.queues
    )
    readable = bucket_access.packed(
        monitor.readable,
        partition=place.partition,
        most=quotas.MANAGED_POLICIES_PER_ROLE - len(queues),
        before=before.readable,
    )
    return Layout(queues=queues, readable=readable)


# ---- parts ----


def _deployment() -> Part:
    return Part(
        label="Deployment",
        parameters={
            "Deployment": DEPLOYMENT,
            "MetricNamespace": Parameter(
                description=(
                    "CloudWatch namespace of the metrics. Give a second deployment in the region a different one, or its alarms "
                    "cover both."
                ),
                default="CRRMonitor",
                pattern="^[A-Za-z][A-Za-z0-9_]{0,254}$",
                constraint="must be letters, digits and underscores",
            ),
        },
        outputs={
            "MetricNamespace": _exported(
                "MetricNamespace", "Namespace of the metrics.", ref("MetricNamespace")
            )
        },
    )


def _exported(name: str, description: str, value: Json) -> dict[str, Json]:
    """Return an output that other stacks can import."""
    export = {"Name": sub(f"${{Deployment}}-{name}")}
    return {"Description": description, "Value": value, "Export": export}


def _as_literal(part: Part, monitor: Monitor) -> Part:
    """Return a part that takes no other name of the deployment, where the table's is written out."""
    if not monitor.makes_table or "Deployment" not in part.parameters:
        return part
    only = msgspec.structs.replace(
        part.parameters["Deployment"],
        values=[monitor.deployment.name],
    )
    return msgspec.structs.replace(part, parameters={**part.parameters, "Deployment": only})


def _topic() -> Part:
    return Part(
        label="Who is told",
        parameters={
            "AlarmEmail": topics.EMAIL,
            "TopicKmsKeyArn": Parameter(
                description=(
                    "KMS key of your own that encrypts the topic; empty for none. The key's policy must allow "
                    "cloudwatch.amazonaws.com kms:GenerateDataKey and kms:Decrypt."
                ),
                default="",
                pattern=KEY_ARN,
                constraint=KEY_CONSTRAINT,
            ),
        },
        conditions={"HasEmail": given("AlarmEmail"), "HasTopicKey": given("TopicKmsKeyArn")},
        resources=topics.topic(
            "Topic", NAMES.topic, "Mail", key=when("HasTopicKey", ref("TopicKmsKeyArn"))
        ),
        outputs={"TopicArn": _exported("TopicArn", "Topic that alarms tell.", ref("Topic"))},
    )


def _dashboard(monitor: Monitor) -> Part:
    """Return the dashboard, with the queues of the own account: those of others take a sharing of CloudWatch's."""
    own = monitor.deployment.monitor.account
    regions = sorted(place.region for place in monitor.agents if place.account == own)
    return _dashboard_with(dashboard.queues(regions, NAMES))


def _dashboard_with(queues: Sequence[Mapping[str, Json]]) -> Part:
    body = dashboard.body("${Deployment}", ("Queues", queues))
    return Part(
        label="Dashboard",
        resources={
            "Dashboard": {
                "Type": "AWS::CloudWatch::Dashboard",
                "Properties": {"DashboardBody": sub(dashboard.text(body))},
            }
        },
        outputs={"DashboardName": _exported("DashboardName", "The dashboard.", ref("Dashboard"))},
    )


# ---- the ledger ----


def _table_part(monitor: Monitor) -> Part:
    """Return the table, with its name as it is: only so can a stack take over a table that is there."""
    if monitor.makes_table:
        return msgspec.structs.replace(_table(monitor.table), outputs=_table_name(monitor.table))
    if monitor.ledger is Ledger.DYNAMODB:
        parameters, conditions = _table_key()
        return Part(
            label="Ledger",
            parameters=parameters,
            conditions=conditions,
            outputs=_table_name(monitor.table),
        )
    return Part(label="Ledger")


def _table_name(value: Json) -> dict[str, Json]:
    return {"TableName": _exported("TableName", "The ledger's table.", value)}


def _table_key() -> tuple[dict[str, Parameter], dict[str, Json]]:
    key = Parameter(
        description=(
            "KMS key of your own that encrypts the ledger's table; empty for DynamoDB's own encryption. The key's policy must allow "
            "crrmon's role to use it through DynamoDB, which this stack's policies do where the key's leaves that to IAM."
        ),
        default="",
        pattern=KEY_ARN,
        constraint=KEY_CONSTRAINT,
    )
    return {"TableKmsKeyArn": key}, {"HasTableKey": given("TableKmsKeyArn")}


def _table(name: Json) -> Part:
    """Return the table of the ledger. It outlives the stack: pending objects are recorded nowhere else."""
    parameters, conditions = _table_key()
    encryption = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": ref("TableKmsKeyArn")}
    return Part(
        label="Table of the ledger",
        parameters={
            **parameters,
            "DeletionProtection": Parameter(
                description=(
                    "Whether DynamoDB refuses to delete the table. The stack keeps it in any case, but one that cannot be created "
                    "then leaves it behind."
                ),
                default="false",
                values=("true", "false"),
            ),
        },
        conditions={**conditions, "ProtectsTable": equals(ref("DeletionProtection"), "true")},
        resources={
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "RetainExceptOnCreate",
                "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "TableName": name,
                    **ledger_table.definition(),
                    "TimeToLiveSpecification": ledger_table.expiry(),
                    "PointInTimeRecoverySpecification": ledger_table.recovery(),
                    "DeletionProtectionEnabled": when("ProtectsTable", then=True, otherwise=False),
                    "SSESpecification": when("HasTableKey", encryption),
                },
            }
        },
    )


def _chosen_ledger() -> Part:
    table = when("MakesTable", sub(NAMES.table), ref("LedgerTable"))
    return Part(
        label="Ledger",
        parameters={
            "Ledger": Parameter(
                description="Whether crrmon's ledger is on DynamoDB, or elsewhere.",
                default=Ledger.DYNAMODB.value,
                values=tuple(one.value for one in Ledger),
            ),
            "LedgerTable": Parameter(
                description="Name of an existing ledger table of this region; empty creates one.",
                default="",
                pattern="^$|^[A-Za-z0-9_.-]{3,255}$",
                constraint="must be the name of a table, or empty",
            ),
        },
        conditions={
            "HasTable": equals(ref("Ledger"), Ledger.DYNAMODB.value),
            "MakesTable": both(holds("HasTable"), equals(ref("LedgerTable"), "")),
        },
        outputs={
            name: one | {"Condition": "HasTable"} for name, one in _table_name(table).items()
        },
    )


# ---- the role, and what it may do ----


def _role_part(runtime: Runtime) -> Part:
    if runtime is None:
        return Part(label="Role")
    role = _role(runtimes.trust(runtime))
    return _with_profile(role) if isinstance(runtime, Instance) else role


def _chosen_role() -> Part:
    role = _role(runtimes.chosen_trust()).only_if("MakesRole")
    profile = _with_profile(Part(label="")).only_if("UsesInstance")
    conditional = {
        **_only_if(role.outputs, "MakesRole"),
        **_only_if(profile.outputs, "UsesInstance"),
    }
    return Part(
        label="Role",
        conditions={"MakesRole": negated(equals(ref("Runtime"), "none"))},
        resources={**role.resources, **profile.resources},
        outputs=conditional,
    )


def _only_if(outputs: Mapping[str, Json], condition: str) -> dict[str, Json]:
    return {name: one | {"Condition": condition} for name, one in outputs.items()}


def _role(trust: Json) -> Part:
    return Part(
        label="Role",
        resources={
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": sub(NAMES.monitor_role),
                    "Description": "The permissions of crrmon itself.",
                    "AssumeRolePolicyDocument": trust,
                },
            }
        },
        outputs={"RoleArn": _exported("RoleArn", "Role of crrmon itself.", att("Role"))},
    )


def _with_profile(role: Part) -> Part:
    profile = {
        "Type": "AWS::IAM::InstanceProfile",
        "Properties": {
            "InstanceProfileName": sub(NAMES.monitor_role),
            "Roles": [ref("Role")],
        },
    }
    output = _exported("InstanceProfileName", "Its instance profile.", ref("InstanceProfile"))
    return msgspec.structs.replace(
        role,
        resources={**role.resources, "InstanceProfile": profile},
        outputs={**role.outputs, "InstanceProfileName": output},
    )


def _statements(monitor: Monitor) -> list[Json]:
    """Return what the daemon may do besides reading queues and looking at buckets."""
    statements = [daemon_access.metrics()]
    if monitor.ledger is Ledger.DYNAMODB:
        statements += _ledger_statements(table_arn(HERE, monitor.table))
    if monitor.queue_key_arns:
        statements.append(daemon_access.queue_keys(sorted(monitor.queue_key_arns)))
    if monitor.accounts:
        partition = HERE.partition
        places = [
            Place(account=one, region="", partition=partition) for one in sorted(monitor.accounts)
        ]
        statements.append(
            daemon_access.accounts([sub(NAMES.agent_role_arn(one)) for one in places])
        )
    return statements


def _ledger_statements(arn: str) -> list[Json]:
    return [
        daemon_access.ledger(sub(arn), sub(f"{arn}/index/*")),
        when("HasTableKey", daemon_access.table_key(ref("TableKmsKeyArn"))),
    ]


def _policies(monitor: Monitor, layout: Layout, roles: Json) -> Part:
    first = _statements(monitor)
    daemon = {
        f"{daemon_access.PREFIX}{number}": policies.managed(
            roles,
            [
                *daemon_access.of_places(places, HERE.partition),
                *(first if number == 1 else []),
            ],
        )
        for number, places in layout.queues.items()
    }
    buckets = {
        f"Buckets{number}": bucket_access.policy(
            roles,
            bucket_arns=event_rules.arns_of(names),
            object_arns=event_rules.arns_of(names, after="/*"),
        )
        for number, names in layout.readable.items()
    }
    return Part(label="Permissions", resources={**daemon, **buckets})


def _arns_of_policies(layout: Layout) -> Part:
    """Return what is to be attached to a role of one's own."""
    names = [
        *(f"{daemon_access.PREFIX}{number}" for number in layout.queues),
        *(f"Buckets{number}" for number in layout.readable),
    ]
    description = "Policy to attach to crrmon's role."
    outputs = {f"{name}Arn": {"Description": description, "Value": ref(name)} for name in names}
    return Part(label="Permissions", outputs=outputs)


def _chosen_access() -> Part:
    """Return the policies for what parameters say of buckets, agents and keys."""
    roles = when("MakesRole", [ref("Role")])
    everywhere = Place(account=HERE.account, region="*", partition=HERE.partition)
    prefix = bucket_arn("", "aws")
    buckets = bucket_access.policy(
        roles,
        bucket_arns=split_names("Buckets", before=prefix),
        object_arns=split_names("Buckets", before=prefix, after="/*"),
    )
    statements = [
        *daemon_access.queues(
            [sub(NAMES.queue_arn(everywhere))], [sub(NAMES.dead_letters_arn(everywhere))]
        ),
        when("HasOtherQueues", daemon_access.given_queues(ref("OtherQueueArns"))),
        daemon_access.metrics(),
        *_chosen_ledger_statements(),
        when("HasQueueKeys", daemon_access.queue_keys(ref("QueueKmsKeyArns"))),
        when("HasAccounts", daemon_access.accounts(ref("AgentRoleArns"))),
    ]
    arns = {"Daemon1": "NeedsAttaching", "Buckets1": "NeedsAttachingOfBuckets"}
    return Part(
        label="Buckets and agents",
        parameters=_ACCESS_PARAMETERS,
        conditions={
            "HasBuckets": negated(none_of("Buckets")),
            "HasOtherQueues": negated(none_of("OtherQueueArns")),
            "HasQueueKeys": negated(none_of("QueueKmsKeyArns")),
            "HasAccounts": negated(none_of("AgentRoleArns")),
            "NeedsAttaching": negated(holds("MakesRole")),
            "NeedsAttachingOfBuckets": both(holds("NeedsAttaching"), holds("HasBuckets")),
        },
        resources={
            "Daemon1": policies.managed(roles, statements),
            "Buckets1": buckets | {"Condition": "HasBuckets"},
        },
        outputs={
            f"{name}Arn": {
                "Description": "Policy to attach to crrmon's role.",
                "Condition": condition,
                "Value": ref(name),
            }
            for name, condition in arns.items()
        },
    )


def _chosen_ledger_statements() -> list[Json]:
    given_table = table_arn(HERE, "${LedgerTable}")
    own_table = NAMES.table_arn(HERE)
    ledger = daemon_access.ledger(
        when("MakesTable", sub(own_table), sub(given_table)),
        when("MakesTable", sub(f"{own_table}/index/*"), sub(f"{given_table}/index/*")),
    )
    key = daemon_access.table_key(ref("TableKmsKeyArn"))
    return [when("HasTable", ledger), when("HasTableKey", key)]


_ACCESS_PARAMETERS = {
    "Buckets": Parameter(
        type="CommaDelimitedList",
        description=(
            "Source and destination buckets of this account, of all regions, separated by commas; may be empty. About 35 with long "
            "names fit into the policy."
        ),
        default="",
        pattern=f"^$|{BUCKET}",
        constraint="must be names of buckets, separated by commas, without spaces, or empty",
    ),
    "AgentRoleArns": Parameter(
        type="CommaDelimitedList",
        description="Roles that agents created in other accounts, separated by commas; may be empty.",
        default="",
        pattern=r"^$|^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=.@/-]+$",
        constraint="must be ARNs of IAM roles, separated by commas, without spaces, or empty",
    ),
    "OtherQueueArns": Parameter(
        type="CommaDelimitedList",
        description=(
            "Queues and dead-letter queues of agents in other accounts, separated by commas; may be empty. Those of this account need "
            "not be listed."
        ),
        default="",
        pattern=r"^$|^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80}$",
        constraint="must be ARNs of queues, separated by commas, without spaces, or empty",
    ),
    "QueueKmsKeyArns": Parameter(
        type="CommaDelimitedList",
        description="KMS keys of your own that encrypt queues, separated by commas; may be empty.",
        default="",
        pattern=KEY_ARN,
        constraint="must be ARNs of keys, not of aliases, separated by commas, without spaces, or empty",
    ),
}
