"""Steps of stacks, each of which creates, updates or deletes a resource: by a test's orders, and never over others'."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError
from ministack.core.responses import get_account_id, get_region, new_uuid
from ministack.services import cloudformation
from ministack.services.cloudformation import provisioners, stacks

from fakes.completed import orders
from fakes.completed.itself import call

_NAMES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "AWS::SQS::Queue": (
        "QueueName",
        lambda name: call("sqs", "GetQueueUrl", QueueName=name),
    ),
    "AWS::SNS::Topic": (
        "TopicName",
        lambda name: call("sns", "GetTopicAttributes", TopicArn=_arn("sns", name)),
    ),
    "AWS::IAM::Role": ("RoleName", lambda name: call("iam", "GetRole", RoleName=name)),
    "AWS::DynamoDB::Table": (
        "TableName",
        lambda name: call("dynamodb", "DescribeTable", TableName=name),
    ),
}
"""Properties that name a resource, and who answers if it is there."""

_seen: Counter[str] = Counter()
"""How many steps there were that a failure was ordered for."""
_seeing = threading.Lock()


def complete() -> None:
    """Put it before each step. All run in threads, so that they may wait and call MiniStack itself."""
    for kind, actions in provisioners._RESOURCE_HANDLERS.items():
        if kind in _NAMES:
            actions["create"] = _under_a_free_name(kind, actions["create"])
        for action in ("create", "update", "delete"):
            if action in actions:
                actions[action] = _as_ordered(f"{action} {kind}", actions[action])
    stacks._runs_on_worker_thread = lambda _: True


def _as_ordered(step: str, take: Callable[..., Any]) -> Callable[..., Any]:
    def obey(*arguments: Any, **named: Any) -> Any:
        time.sleep(orders.current().slow)  # noqa: TID251 - as long as a test wants it to take
        while orders.current().held:
            time.sleep(0.02)  # noqa: TID251 - another process lets it go
        for failure in orders.current().failures:
            if (
                failure.step == step
                and failure.account in (None, get_account_id())
                and failure.region in (None, get_region())
            ):
                with _seeing:
                    _seen[failure.id] += 1
                    spared = _seen[failure.id] <= failure.spare
                if not spared:
                    raise ValueError(failure.reason)
        return take(*arguments, **named)

    return obey


def _under_a_free_name(kind: str, create: Callable[..., Any]) -> Callable[..., Any]:
    """
    Refuse to create what is there, which MiniStack would take over.

    The words are those of CloudFormation's schema-driven handlers; some types have words of their own, all of which
    have "already exists" in them.
    """
    named, ask = _NAMES[kind]

    def create_new(logical_id: str, properties: Mapping[str, Any], stack: str) -> Any:
        name = properties.get(named)
        if name and _answers(ask, name):
            raise ValueError(_clash(kind, name))
        return create(logical_id, properties, stack)

    return create_new


def _answers(ask: Callable[[str], Any], name: str) -> bool:
    try:
        ask(name)
    except ClientError:
        return False
    return True


def _clash(kind: str, name: str) -> str:
    for stack in cloudformation._stacks.values():
        for resource in stack.get("_resources", {}).values():
            known = (name, _arn("sns", name))
            physical = resource["PhysicalResourceId"]
            if resource["ResourceType"] == kind and (
                physical in known or physical.endswith(f"/{name}")
            ):
                return f"{name} already exists in stack {stack['StackId']}"
    return (
        f"Resource handler returned message: \"Resource of type '{kind}' with identifier '{name}' already exists.\" "
        f"(RequestToken: {new_uuid()}, HandlerErrorCode: AlreadyExists)"
    )


def _arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{get_region()}:{get_account_id()}:{name}"
