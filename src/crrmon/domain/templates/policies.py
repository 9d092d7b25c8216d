"""Policies of IAM."""

from collections.abc import Sequence
from typing import Any

Json = Any


def document(statements: Sequence[Json]) -> dict[str, Json]:
    """Return a policy's document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(sid: str, actions: Sequence[str], resources: Json, **more: Json) -> dict[str, Json]:
    """Return a statement that allows actions; `more` is what else is in it, such as its condition."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources,
        **more,
    }


def managed(roles: Json, statements: Sequence[Json]) -> dict[str, Json]:
    """
    Return a managed policy.

    Without a name of its own, as two of a name cannot stand beside each other while one replaces the other.

    Args:
        roles: a list of those that have it; None for none.
        statements: what it allows.
    """
    properties = {"PolicyDocument": document(statements)}
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": properties if roles is None else {"Roles": roles, **properties},
    }
