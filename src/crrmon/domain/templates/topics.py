"""The topic that tells people of alarms.

Never under the key that AWS manages for SNS: CloudWatch may not use it, and what an alarm says would go nowhere.
"""

from typing import Any

from crrmon.domain.templates.intrinsics import ACCOUNT, ref, sub
from crrmon.domain.templates.template import Parameter

Json = Any

EMAIL = Parameter(
    description="Address that a topic created here tells; empty for none.",
    default="",
    pattern=r"^$|^[^@\s]+@[^@\s]+$",
    constraint="must be an e-mail address, or empty",
)
"""The parameter `AlarmEmail`, which the condition `HasEmail` asks for."""


def topic(
    logical: str, name: str, mail: str, *, key: Json = None, only_if: str | None = None
) -> dict[str, Json]:
    """
    Return a topic with its policy and a subscription by e-mail; alarms of its account may tell it, and nothing else.

    Args:
        logical: the resource.
        name: of the topic, for `sub` to fill in.
        mail: the subscription's resource, made if the condition `HasEmail` holds.
        key: ARN of a customer's KMS key; None for no key, since an alarm says nothing secret.
        only_if: the condition on which the topic is made; None for always.
    """
    alarms = {
        "Sid": "Alarms",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": ref(logical),
        "Condition": {"StringEquals": {"aws:SourceAccount": ref(ACCOUNT)}},
    }
    only_tls = {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sns:Publish",
        "Resource": ref(logical),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    condition = {} if only_if is None else {"Condition": only_if}
    encryption = {} if key is None else {"KmsMasterKeyId": key}
    return {
        logical: {
            "Type": "AWS::SNS::Topic",
            **condition,
            "Properties": {"TopicName": sub(name), **encryption},
        },
        f"{logical}Policy": {
            "Type": "AWS::SNS::TopicPolicy",
            **condition,
            "Properties": {
                "Topics": [ref(logical)],
                "PolicyDocument": {"Version": "2012-10-17", "Statement": [alarms, only_tls]},
            },
        },
        mail: {
            "Type": "AWS::SNS::Subscription",
            "Condition": "HasEmail",
            "Properties": {
                "TopicArn": ref(logical),
                "Protocol": "email",
                "Endpoint": ref("AlarmEmail"),
            },
        },
    }
