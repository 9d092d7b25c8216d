"""How much AWS lets an account have, where a deployment may come near it.

Defaults, as of November 2026. Those that AWS raises on request have their code for Service Quotas, by which an
account's own can be read.
"""

import msgspec


class AdjustableQuota(msgspec.Struct, frozen=True):
    """Where an account's own value of a quota is."""

    service: str
    """Service Quotas' code of the service."""
    code: str


INVOCATIONS = AdjustableQuota("events", "L-5540C5E3")
"""EventBridge's "Invocations throttle limit in transactions per second".

Source: Amazon EventBridge User Guide, "Amazon EventBridge quotas".
"""

RULES = AdjustableQuota("events", "L-244521F2")
"""EventBridge's "Number of rules" of a bus.

Source: Amazon EventBridge User Guide, "Amazon EventBridge quotas".
"""

_INVOCATIONS_PER_SECOND = {
    "us-east-1": 18_750,
    "us-west-2": 18_750,
    "eu-west-1": 18_750,
    "us-east-2": 4_500,
    "eu-central-1": 4_500,
    "eu-south-2": 4_500,
    "us-west-1": 2_250,
    "ap-northeast-1": 2_250,
    "ap-southeast-1": 2_250,
    "ap-southeast-2": 2_250,
    "eu-west-2": 2_250,
    "ap-east-1": 1_100,
    "ap-northeast-2": 1_100,
    "ap-south-1": 1_100,
    "ca-central-1": 1_100,
    "eu-north-1": 1_100,
    "eu-west-3": 1_100,
    "sa-east-1": 1_100,
}
_INVOCATIONS_ELSEWHERE = 750

_RULES_PER_BUS = {"af-south-1": 100, "eu-south-1": 100}
_RULES_ELSEWHERE = 300

EVENT_PATTERN_CHARACTERS = 2_048
"""How long the pattern of a rule may be (adjustable, `events` L-664C5505; EventBridge's API itself takes 4,096).

Source: Amazon EventBridge User Guide, "Amazon EventBridge quotas", "Event pattern size".
"""

TRAILS_PER_REGION = 5
"""How many trails an account may have in a region, those of all regions counted in each. Not adjustable.

Source: AWS CloudTrail User Guide, "Quotas in AWS CloudTrail", "Trails per Region".
"""

VALUES_PER_TRAIL = 500
"""How many values all advanced event selectors of a trail may have together. Not adjustable.

Source: AWS CloudTrail User Guide, "Quotas in AWS CloudTrail", "Advanced event selectors".
"""

ENTRIES_PER_BUCKET = 100
"""How many entries the notification configuration of a bucket may have, of all kinds together. Not adjustable.

Source: AWS General Reference, "Amazon S3 endpoints and quotas", "Event notifications".
"""

QUEUE_POLICY_BYTES = 8_192
"""How large the policy of a queue may be.

Source: Amazon SQS Developer Guide, "Amazon SQS policy quotas", "Bytes".
"""

QUEUE_POLICY_STATEMENTS = 20
"""How many statements the policy of a queue may have.

Source: Amazon SQS Developer Guide, "Amazon SQS policy quotas", "Statements".
"""

QUEUE_POLICY_ACTIONS = 7
"""How many actions a statement in the policy of a queue may name.

Source: Amazon SQS Developer Guide, "Amazon SQS policy quotas", "Actions per statement".
"""

MANAGED_POLICY_CHARACTERS = 6_144
"""How long a managed policy may be, white space not counted. Not adjustable.

Source: IAM User Guide, "IAM and AWS STS quotas", "IAM and STS character limits".
"""

INLINE_POLICIES_CHARACTERS = 10_240
"""How long all inline policies of a role may be together, white space not counted. Not adjustable.

Source: IAM User Guide, "IAM and AWS STS quotas", "IAM and STS character limits".
"""

MANAGED_POLICIES_PER_ROLE = 10
"""How many managed policies may be attached to a role. AWS raises it to 20 on request.

Source: IAM User Guide, "IAM and AWS STS quotas", "Managed policies attached to an IAM role".
"""

NOTABLE_SHARE = 0.5
"""From what share of a quota on people are told: the other half is for growth, and for everything else that counts."""


def invocations_per_second(region: str) -> int:
    """Return how many events a second EventBridge sends to the targets of all rules of an account in a region.

    What is beyond is sent later, and not lost. AWS raises it on request.

    Source: Amazon EventBridge User Guide, "Amazon EventBridge quotas", "Invocations throttle limit".
    """
    return _INVOCATIONS_PER_SECOND.get(region, _INVOCATIONS_ELSEWHERE)


def rules_per_bus(region: str) -> int:
    """Return how many rules a bus may have in a region. AWS raises it on request.

    Source: Amazon EventBridge User Guide, "Amazon EventBridge quotas", "Number of rules".
    """
    return _RULES_PER_BUS.get(region, _RULES_ELSEWHERE)


def notable(used: float, quota: float) -> bool:
    """Return whether so much of a quota is used that people are told."""
    return used >= quota * NOTABLE_SHARE
