"""Which agents a deployment needs, for the buckets that were found and the ways that were chosen for them.

What only an earlier deployment knows is read from the templates of the stacks that there are: for which buckets it was us
who turned EventBridge on, and in which region of an account the role is. There is no other memory.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment.discovery import BucketFound
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.packing import Chunks
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.sources import Choice, Source
from crrmon.domain.templates.agent import Agent, layout_of

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
    unread: Collection[str] = (),
) -> dict[Place, Agent]:
    """Return the agents, by where they stand, sorted.

    Args:
        deployment: whose they are.
        choices: how the events of each bucket are to come.
        found: the buckets of the choices, by their names.
        options: what else is to be so.
        before: what there is.
        unread: buckets about which too little could be read this time. They keep what they have: whoever cannot read a
            bucket does not know that it does not replicate any more.
    """
    kept = {place: _kept(template, frozenset(unread)) for place, template in before.items()}
    by_place: dict[Place, list[Choice]] = {}
    by_account: dict[str, list[Choice]] = {}
    for choice in choices:
        by_place.setdefault(choice.place, []).append(choice)
        by_account.setdefault(choice.place.account, []).append(choice)
    places = sorted(by_place.keys() | {place for place, one in kept.items() if one.names})
    homes = {
        account: _role_region(deployment, account, places, before)
        for account in {place.account for place in places}
    }
    wanted: dict[Place, Agent] = {}
    for place in places:
        here, stays = by_place.get(place, []), kept.get(place, _NOTHING)
        chosen = _by(here, Source.EVENTBRIDGE)
        turned_on = switched(before[place]) if place in before else frozenset()
        wanted[place] = Agent(
            deployment=deployment,
            place=place,
            role_region=homes[place.account],
            native=chosen | stays.native,
            trail=_by(here, Source.CLOUDTRAIL) | stays.trail,
            switched=frozenset(
                name
                for name in chosen
                if name in turned_on or not found[name].notifications.eventbridge
            )
            | (turned_on & stays.native),
            readable=frozenset(choice.bucket for choice in by_account.get(place.account, ()))
            | _readable(kept, place.account),
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


def names_in(template: Mapping[str, Json]) -> frozenset[str]:
    """Return all buckets that an agent's template names."""
    layout = layout_of(template)
    return _named(layout.native) | _named(layout.trail) | _named(layout.readable)


def _by(choices: Iterable[Choice], source: Source) -> frozenset[str]:
    return frozenset(choice.bucket for choice in choices if choice.source is source)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Of the buckets that could not be read, what an agent has."""

    native: frozenset[str] = frozenset()
    trail: frozenset[str] = frozenset()
    readable: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.native | self.trail | self.readable


_NOTHING = _Kept()


def _kept(template: Mapping[str, Json], unread: frozenset[str]) -> _Kept:
    layout = layout_of(template)
    return _Kept(
        native=_named(layout.native) & unread,
        trail=_named(layout.trail) & unread,
        readable=_named(layout.readable) & unread,
    )


def _named(chunks: Chunks) -> frozenset[str]:
    return frozenset(name for names in chunks.values() for name in names)


def _readable(kept: Mapping[Place, _Kept], account: str) -> frozenset[str]:
    """Return what stays readable in an account, wherever its role is."""
    return frozenset(
        name for place, one in kept.items() if place.account == account for name in one.readable
    )


def _role_region(
    deployment: Deployment, account: str, places: Iterable[Place], before: Templates
) -> str:
    """Return in which region of an account its role is made: where it is, or else near the monitor, or else anywhere."""
    regions = sorted(place.region for place in places if place.account == account)
    having = {
        place.region
        for place, template in before.items()
        if place.account == account and "Role" in template["Resources"]
    }
    for preferred in (having, {deployment.monitor.region}):
        if found := preferred.intersection(regions):
            return min(found)
    return regions[0]
