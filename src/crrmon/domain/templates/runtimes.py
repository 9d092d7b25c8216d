"""Where the daemon runs, and who therefore may take its role."""

import json
from typing import Any

import msgspec

from crrmon.domain.templates.intrinsics import (
    ACCOUNT,
    after,
    equals,
    given,
    ref,
    sub,
    sub_with,
    when,
)
from crrmon.domain.templates.parameters import HERE
from crrmon.domain.templates.policies import document
from crrmon.domain.templates.template import Parameter, Part

Json = Any

_PROVIDER = ":oidc-provider/"
"""Stands in the ARN of an OIDC provider before the issuer."""


class Irsa(msgspec.Struct, frozen=True, kw_only=True):
    """In a cluster of EKS, with a role for its service account by the cluster's OIDC provider."""

    provider_arn: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        """Refuse what is not a provider's ARN: its issuer would be in no condition."""
        if not self.provider_arn.partition(_PROVIDER)[2]:
            raise ValueError(
                f"{self.provider_arn!r} is not the ARN of an OIDC provider; "
                "aws iam list-open-id-connect-providers shows those of the account"
            )


class PodIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """In a cluster of EKS, with a role by the agent of EKS Pod Identity."""

    namespace: str
    service_account: str
    cluster: str = ""
    """Its name; empty for any cluster of the account."""


class Ecs(msgspec.Struct, frozen=True):
    """As a task of ECS."""


class Instance(msgspec.Struct, frozen=True):
    """On an instance of EC2."""


Runtime = Irsa | PodIdentity | Ecs | Instance | None
"""None where the daemon has a role already: then it is given policies to attach, and no role is made."""


def trust(runtime: Irsa | PodIdentity | Ecs | Instance) -> Json:
    """Return the trust policy of the daemon's role."""
    match runtime:
        case Irsa(provider_arn=arn, namespace=namespace, service_account=account):
            return _irsa(arn, arn.partition(_PROVIDER)[2], namespace, account)
        case PodIdentity(namespace=namespace, service_account=account, cluster=cluster):
            return _pod_identity(namespace, account, cluster or None)
        case Ecs():
            return _ecs()
        case Instance():
            return _INSTANCE


def choice() -> Part:
    """Return the parameters for whoever says only later where the daemon runs, and conditions for it."""
    return Part(
        label="Where crrmon runs",
        parameters=_PARAMETERS,
        conditions={
            **{
                name: equals(ref("Runtime"), runtime)
                for name, runtime in (
                    ("UsesIrsa", "irsa"),
                    ("UsesPodIdentity", "pod-identity"),
                    ("UsesEcs", "ecs"),
                    ("UsesInstance", "instance"),
                )
            },
            "NamesCluster": given("ClusterName"),
        },
    )


def chosen_trust() -> Json:
    """Return the trust policy for what the parameters of `choice` say."""
    # The names of conditions are the issuer's, and CloudFormation fills in only values: so the policy is a text.
    irsa = json.dumps(
        _irsa("${OidcProviderArn}", "${Issuer}", "${Namespace}", "${ServiceAccount}")
    )
    issuer = after(_PROVIDER, "OidcProviderArn")
    cluster = when("NamesCluster", ref("ClusterName"))
    pods = _pod_identity(ref("Namespace"), ref("ServiceAccount"), cluster)
    others = when("UsesPodIdentity", pods, when("UsesEcs", _ecs(), _INSTANCE))
    return when("UsesIrsa", sub_with(irsa, {"Issuer": issuer}), others)


_KUBERNETES_NAME = "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"

_PARAMETERS = {
    "Runtime": Parameter(
        description=(
            "Where crrmon runs, which may assume its role: irsa or pod-identity on EKS, ecs, instance on EC2. "
            "With none, no role is created: attach the policies to the one that crrmon has."
        ),
        values=("irsa", "pod-identity", "ecs", "instance", "none"),
    ),
    "OidcProviderArn": Parameter(
        description="OIDC provider of the EKS cluster in IAM; only with irsa, which needs it.",
        default="",
        pattern="^$|^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/[A-Za-z0-9./_-]+$",
        constraint="must be the ARN of an OIDC provider, or empty",
    ),
    "Namespace": Parameter(
        description="Kubernetes namespace of crrmon's service account; only with irsa and pod-identity.",
        default="crrmon",
        pattern=f"^{_KUBERNETES_NAME}$",
        constraint="must be the name of a namespace",
    ),
    "ServiceAccount": Parameter(
        description="Name of crrmon's service account; only with irsa and pod-identity.",
        default="crrmon",
        pattern=f"^{_KUBERNETES_NAME}$",
        constraint="must be the name of a service account",
    ),
    "ClusterName": Parameter(
        description="Name of the EKS cluster; only with pod-identity. Empty for any cluster of the account.",
        default="",
        pattern="^$|^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$",
        constraint="must be the name of a cluster, or empty",
    ),
}


# ---- trust policies ----


def _irsa(provider_arn: str, issuer: str, namespace: str, account: str) -> Json:
    only = {
        f"{issuer}:aud": "sts.amazonaws.com",
        f"{issuer}:sub": f"system:serviceaccount:{namespace}:{account}",
    }
    return _trust(
        {"Federated": provider_arn},
        "sts:AssumeRoleWithWebIdentity",
        {"StringEquals": only},
    )


def _pod_identity(namespace: Json, account: Json, cluster: Json) -> Json:
    only = {
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": account,
    }
    if cluster is not None:
        only["aws:RequestTag/eks-cluster-name"] = cluster
    return _trust(
        {"Service": "pods.eks.amazonaws.com"},
        ["sts:AssumeRole", "sts:TagSession"],
        {"StringEquals": only},
    )


def _ecs() -> Json:
    tasks = f"arn:{HERE.partition}:ecs:{HERE.region}:{HERE.account}:*"
    only = {
        "StringEquals": {"aws:SourceAccount": ref(ACCOUNT)},
        "ArnLike": {"aws:SourceArn": sub(tasks)},
    }
    return _trust({"Service": "ecs-tasks.amazonaws.com"}, "sts:AssumeRole", only)


def _trust(principal: Json, actions: Json, condition: Json = None) -> Json:
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions}
    return document([statement if condition is None else statement | {"Condition": condition}])


# Whoever may pass the role to an instance is what limits this one.
_INSTANCE = _trust({"Service": "ec2.amazonaws.com"}, "sts:AssumeRole")
