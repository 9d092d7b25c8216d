"""From what was found and asked for to a plan: which stacks CloudFormation would change, and which buckets we would.

Where not everything could be read, nothing is taken away: whoever sees only a part does not know that there is nothing
left to watch, nor whether a bucket is the destination of one unread. And a stack is ours only if its tags say so.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment.discovery import BucketFound, Discovery
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import Plan, StackPlan, bucket_plans, problems
from crrmon.domain.deployment.sources import Choice, Ours, Wish, choose, parts
from crrmon.domain.deployment.stack_state import Kind, Standing, foreign, standing
from crrmon.domain.templates.agent import EMPTY, Agent, filled_in, layout_of
from crrmon.domain.templates.wanted import AgentOptions, agents, names_in, switched
from crrmon.ports.stacks import Address, ChangeSet, Stack, Stacks, Wanted


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever deploys asks for."""

    wish: Wish
    options: AgentOptions = AgentOptions()
    allow_replacement: bool = False
    """Whether queues, tables and buckets may be replaced or removed."""


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that there is."""

    stack: Stack
    template: Mapping[str, Any] | None
    """That it was made by; None where it is somebody else's."""


class Planner:
    """Makes plans; changes nothing but the change sets that it has CloudFormation work out.

    Args:
        stacks: CloudFormation.
        deployment: what is to be deployed.
        accounts: the names that the configuration has for accounts, by their numbers.
        change_set_names: returns a name that no change set had before.
    """

    def __init__(
        self,
        stacks: Stacks,
        *,
        deployment: Deployment,
        accounts: Mapping[str, str],
        change_set_names: Callable[[], str],
    ) -> None:
        self._stacks = stacks
        self._deployment = deployment
        self._accounts = accounts
        self._change_set_names = change_set_names

    async def plan(self, discovery: Discovery, request: Request) -> Plan:
        """Return what would be done.

        Args:
            discovery: what was found.
            request: what is asked for.

        Raises:
            StacksError: CloudFormation could not be asked, or refuses a template.
            ValueError: a template would be too large for CloudFormation or IAM; the text says which and why.
        """
        choices = self._choices(discovery, request.wish)
        there = await self._present({bucket.place for bucket in discovery.buckets})
        before = {place: one.template for place, one in there.items() if one.template is not None}
        wanted = agents(
            self._deployment,
            choices,
            {bucket.name: bucket for bucket in discovery.buckets},
            options=request.options,
            before=before,
            unread=self._unsure(discovery, choices, before),
        )
        planned = [self._agent(agent, there.get(place)) for place, agent in wanted.items()]
        if discovery.complete:
            planned += [
                self._removed(place, there[place])
                for place in sorted(before)
                if place not in wanted
            ]
        stacks = tuple(await asyncio.gather(*planned))
        buckets = bucket_plans(
            choices,
            discovery,
            identity=self._deployment.names.notification_id,
            switched={name for template in before.values() for name in switched(template)},
        )
        return Plan(
            stacks=stacks,
            buckets=buckets,
            problems=problems(
                stacks, buckets, discovery, allow_replacement=request.allow_replacement
            ),
            complete=discovery.complete,
        )

    async def forget(self, plan: Plan) -> None:
        """Drop what CloudFormation worked out for a plan that is not to be carried out.

        Raises:
            StacksError: CloudFormation could not be asked.
        """
        for one in plan.stacks:
            if one.change_set is not None:
                await self._stacks.drop(
                    self._address(one.standing.place),
                    ChangeSet(id=one.change_set, changes=one.changes),
                    new=one.standing.kind is Kind.ABSENT,
                )

    # ---- within ----

    def _choices(self, discovery: Discovery, wish: Wish) -> tuple[Choice, ...]:
        return tuple(
            choose(bucket, part, wish=wish, ours=self._ours(bucket))
            for bucket, part in parts(discovery, wish)
        )

    def _ours(self, bucket: BucketFound) -> Ours:
        names = self._deployment.names
        return Ours(
            identity=names.notification_id,
            queue_arn=names.queue_arn(bucket.place),
            trail_arn=names.trail_arn(bucket.place),
        )

    def _unsure(
        self,
        discovery: Discovery,
        choices: Iterable[Choice],
        before: Mapping[Place, Mapping[str, Any]],
    ) -> frozenset[str]:
        """Return the buckets that keep what they have: where not all was read, any that is not chosen again."""
        if discovery.complete:
            return frozenset()
        named = (names_in(template) for template in before.values())
        return frozenset().union(*named) - {choice.bucket for choice in choices}

    def _address(self, place: Place) -> Address:
        return Address(
            self._accounts.get(place.account, place.account),
            place.region,
            self._deployment.names.agent_stack,
        )

    async def _present(self, places: set[Place]) -> dict[Place, Present]:
        """Return the agents that there are, and whatever else has their name."""

        async def look(place: Place) -> tuple[Place, Present | None]:
            stack = await self._stacks.find(self._address(place))
            if stack is None or _kind(place, stack) is Kind.ABSENT:
                return place, None
            if not self._is_ours(stack):
                return place, Present(stack=stack, template=None)
            template = await self._stacks.template(self._address(place))
            return place, Present(stack=stack, template=template)

        found = await asyncio.gather(*map(look, sorted(places)))
        return {place: one for place, one in found if one is not None}

    @property
    def _tags(self) -> dict[str, str]:
        return {"managed-by": "crrmon", "crrmon:deployment": self._deployment.name}

    def _is_ours(self, stack: Stack) -> bool:
        return all(stack.tags.get(name) == value for name, value in self._tags.items())

    async def _agent(self, agent: Agent, there: Present | None) -> StackPlan:
        place, name = agent.place, self._deployment.names.agent_stack
        if there is not None and there.template is None:
            return StackPlan(standing=foreign(name, place, there.stack.status))
        stands = self._standing(place, there)
        if stands.kind in (Kind.BUSY, Kind.STUCK):
            return StackPlan(standing=stands)
        present = None if there is None else there.template
        layout = EMPTY if present is None else layout_of(present)
        template = filled_in(agent, before=layout)
        change_set = await self._stacks.preview(
            self._address(place),
            Wanted(body=template.body(), parameters=template.defaults, tags=self._tags),
            new=present is None,
            name=self._change_set_names(),
        )
        if change_set is None:
            return StackPlan(standing=stands)
        return StackPlan(standing=stands, changes=change_set.changes, change_set=change_set.id)

    async def _removed(self, place: Place, there: Present) -> StackPlan:
        stands = self._standing(place, there)
        return StackPlan(
            standing=stands, removed=stands.deletable, protected=there.stack.protected
        )

    def _standing(self, place: Place, there: Present | None) -> Standing:
        name = self._deployment.names.agent_stack
        if there is None:
            return standing(name, place, None)
        return standing(name, place, there.stack.status, stack_id=there.stack.id)


def _kind(place: Place, stack: Stack) -> Kind:
    return standing("", place, stack.status).kind
