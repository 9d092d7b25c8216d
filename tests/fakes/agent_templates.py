"""Agents and their templates, for tests that look at what comes out."""

import json
from typing import Any

from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates.agent import EMPTY, Agent, Layout, filled_in

MONITOR = Place(account="123456789012", region="eu-west-1")
FOREIGN = Place(account="109876543210", region="eu-west-1")
DEPLOYMENT = Deployment(name="acme", monitor=MONITOR)
HERE = {
    "AWS::AccountId": MONITOR.account,
    "AWS::Region": MONITOR.region,
    "AWS::Partition": MONITOR.partition,
    "Deployment": DEPLOYMENT.name,
}
"""What CloudFormation knows of the monitor's own place."""

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f5f0f5f-0000-4000-8000-000000000000"


def agent_with(**fields: Any) -> Agent:
    """Return an agent beside the monitor, unless it is said otherwise."""
    defaults = {"deployment": DEPLOYMENT, "place": MONITOR, "role_region": MONITOR.region}
    return Agent(**(defaults | fields))


def whole(agent: Agent, before: Layout = EMPTY) -> dict[str, Any]:
    """Return an agent's template as CloudFormation reads it from its text."""
    return dict(json.loads(filled_in(agent, before=before).body()))
