"""The template of the service: as it is written, and as a stack on moto, whose CloudFormation fills in all names.

moto makes queues, table, rules, roles, log group, cluster, task definition, service and dashboard. It says CREATE_COMPLETE of
queue policies, alarms and scaling as well and makes nothing: those are for tests of the text.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from cfnlint.decode import decode

TEMPLATE = Path(__file__).parents[2] / "deploy/cloudformation/crrmon-service.yaml"
REGION = "eu-west-1"
ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/crrmon:0.1.0"
BUCKETS = ("acme-ledger-src", "acme-other-src")


@cache
def template() -> dict[str, Any]:
    """Read the template; functions are maps with one key, as in JSON."""
    text, complaints = decode(str(TEMPLATE))
    assert not complaints, complaints
    return dict(json.loads(json.dumps(text)))


def properties(name: str) -> dict[str, Any]:
    """Return the properties of a resource as they are written."""
    return dict(template()["Resources"][name]["Properties"])


class Stack:
    """A stack on moto."""

    def __init__(self, name: str, *, endpoint: str | None = None, **parameters: str) -> None:
        """
        Make it, in a network of its own.

        Args:
            name: its name.
            endpoint: of moto as a server; None for moto in this process.
            parameters: over the least that is needed.
        """
        self.name = name
        self._endpoint = endpoint
        ec2 = self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        given = {"Image": IMAGE, "VpcId": vpc, "SubnetIds": subnet} | parameters
        given.setdefault("SourceBuckets", ",".join(BUCKETS))
        self._formation = self.client("cloudformation")
        self._formation.create_stack(
            StackName=name,
            # moto does not know the policy that keeps what was once made, and would take it for Delete.
            TemplateBody=TEMPLATE.read_text(encoding="utf-8").replace(
                "DeletionPolicy: RetainExceptOnCreate", "DeletionPolicy: Retain"
            ),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in given.items()
            ],
        )

    def client(self, service: str) -> Any:
        """Create a client of the same AWS."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=REGION,
            endpoint_url=self._endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - moto checks nothing
        )

    def physical(self) -> Mapping[str, str]:
        """Return the names that the resources got, by those of the template; without those that moto does not make."""
        told = self._formation.list_stack_resources(StackName=self.name)["StackResourceSummaries"]
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in told
            if one.get("PhysicalResourceId")
        }

    def outputs(self) -> Mapping[str, str]:
        """Return the outputs."""
        (told,) = self._formation.describe_stacks(StackName=self.name)["Stacks"]
        return {one["OutputKey"]: one["OutputValue"] for one in told["Outputs"]}

    def container(self) -> Mapping[str, Any]:
        """Return the container of the task definition."""
        arn = self.physical()["TaskDefinition"]
        told = self.client("ecs").describe_task_definition(taskDefinition=arn)
        (container,) = told["taskDefinition"]["containerDefinitions"]
        return dict(container)

    def environment(self) -> dict[str, str]:
        """Return the environment of the container."""
        # NB: moto leaves None where a condition left something out; CloudFormation does not.
        return {one["name"]: one["value"] for one in self.container()["environment"] if one}

    def statements(self, role: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what a role may do, by the ids of its statements."""
        iam = self.client("iam")
        name = self.physical()[role]
        (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        # NB: moto keeps it in Python's notation, with None where a condition left something out.
        read: Any = ast.literal_eval(document) if isinstance(document, str) else document
        return {one["Sid"]: one for one in read["Statement"] if one is not None}

    def delete(self) -> None:
        """Delete it."""
        self._formation.delete_stack(StackName=self.name)


def listed(value: str | Sequence[Any]) -> list[Any]:
    """Create a list of what IAM lets be one value or several; moto leaves None where a condition left something out."""
    return [value] if isinstance(value, str) else [one for one in value if one is not None]
