"""Which agents a deployment needs, for the buckets that were found and the ways that were chosen for them.

What only an earlier deployment knows is read from the templates of the stacks that there are: for which buckets it was us
who turned EventBridge on, and in which region of an account the role is. There is no other memory.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment.discovery import BucketFound
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.sources import Choice, Source
from crrmon.domain.templates.agent import Agent

Json = Any

Templates = Mapping[Place, Mapping[str, Json]]
"""Templates of the agents that there are, by where they stand."""


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever deploys may say of all agents."""

    monitor_role_arn: str = ""
    """The daemon's role, where it is not the monitor's."""
    external_ids: Mapping[str, str] = {}
    """What the daemon gives to assume the role of an account, by the account's number."""
    queue_key_arns: Mapping[Place, str] = {}
    """A customer's KMS key for the queues of a place."""
    alarm_topic_arns: Mapping[Place, str] = {}
    """A topic that is there already."""
    alarm_email: str = ""
    retention_seconds: int = 345_600
    trail_retention_days: int = 7


def agents(
    deployment: Deployment,
    choices: Iterable[Choice],
    found: Mapping[str, BucketFound],
    *,
    options: AgentOptions,
    before: Templates,
) -> dict[Place, Agent]:
    """Return the agents, by where they stand, sorted.

    Args:
        deployment: whose they are.
        choices: how the events of each bucket are to come.
        found: the buckets of the choices, by their names.
        options: what else is to be so.
        before: what there is.
    """
    by_place: dict[Place, list[Choice]] = {}
    by_account: dict[str, list[Choice]] = {}
    for choice in choices:
        by_place.setdefault(choice.place, []).append(choice)
        by_account.setdefault(choice.place.account, []).append(choice)
    homes = {
        account: _role_region(deployment, account, there, before)
        for account, there in by_account.items()
    }
    wanted: dict[Place, Agent] = {}
    for place in sorted(by_place):
        native = _by(by_place[place], Source.EVENTBRIDGE)
        turned_on = switched(before[place]) if place in before else frozenset()
        wanted[place] = Agent(
            deployment=deployment,
            place=place,
            role_region=homes[place.account],
            native=native,
            trail=_by(by_place[place], Source.CLOUDTRAIL),
            switched=frozenset(
                name
                for name in native
                if name in turned_on or not found[name].notifications.eventbridge
            ),
            readable=frozenset(choice.bucket for choice in by_account[place.account]),
            monitor_role_arn=options.monitor_role_arn,
            external_id=options.external_ids.get(place.account, ""),
            queue_key_arn=options.queue_key_arns.get(place, ""),
            retention_seconds=options.retention_seconds,
            alarm_topic_arn=options.alarm_topic_arns.get(place, ""),
            alarm_email=options.alarm_email,
            trail_retention_days=options.trail_retention_days,
        )
    return wanted


def switched(template: Mapping[str, Json]) -> frozenset[str]:
    """Return the buckets for which a deployment turned EventBridge on, as an agent's template remembers them."""
    resources: Iterable[Mapping[str, Json]] = template["Resources"].values()
    return frozenset(
        name
        for resource in resources
        for name in resource.get("Metadata", {}).get("crrmon", {}).get("switched", ())
    )


def _by(choices: Iterable[Choice], source: Source) -> frozenset[str]:
    return frozenset(choice.bucket for choice in choices if choice.source is source)


def _role_region(
    deployment: Deployment, account: str, choices: Iterable[Choice], before: Templates
) -> str:
    """Return in which region of an account its role is made: where it is, or else near the monitor, or else anywhere."""
    regions = sorted({choice.place.region for choice in choices})
    for region in regions:
        if any(
            place.account == account and place.region == region and "Role" in template["Resources"]
            for place, template in before.items()
        ):
            return region
    return deployment.monitor.region if deployment.monitor.region in regions else regions[0]
