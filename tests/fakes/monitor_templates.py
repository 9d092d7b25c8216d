"""Monitors and their templates, for tests that look at what comes out."""

import json
from typing import Any

from crrmon.domain.deployment.places import Place
from crrmon.domain.templates.monitor import EMPTY, Layout, Monitor, filled_in
from crrmon.domain.templates.runtimes import Ecs, Instance, Irsa, PodIdentity, Runtime
from fakes.agent_templates import DEPLOYMENT, FOREIGN, MONITOR

ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
PROVIDER = f"arn:aws:iam::{MONITOR.account}:oidc-provider/{ISSUER}"
RUNTIMES: dict[str, Runtime] = {
    "irsa": Irsa(provider_arn=PROVIDER, namespace="watch", service_account="acme"),
    "pod-identity": PodIdentity(namespace="watch", service_account="acme", cluster="prod"),
    "ecs": Ecs(),
    "instance": Instance(),
    "none": None,
}
"""By what the generic template calls them."""

REGIONS = ("ap-southeast-1", "eu-central-1", "eu-west-1", "us-east-1")
AGENTS = frozenset(
    Place(account=account, region=region)
    for account in (MONITOR.account, FOREIGN.account)
    for region in REGIONS
)
"""In two accounts, of which one is the monitor's, and four regions of each."""


def monitor_with(**fields: Any) -> Monitor:
    """Return a monitor on ECS, unless it is said otherwise."""
    return Monitor(**({"deployment": DEPLOYMENT, "runtime": Ecs(), "agents": AGENTS} | fields))


def whole(monitor: Monitor, before: Layout = EMPTY) -> dict[str, Any]:
    """Return a monitor's template as CloudFormation reads it from its text."""
    return dict(json.loads(filled_in(monitor, before=before).body()))
