"""From what was found and asked for to a plan: which stacks CloudFormation would change, and which buckets we would.

A stack that is not wanted any more is planned to be removed only where everything of its account could be read: whoever
sees only a part does not know that there is nothing left to watch.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment.discovery import BucketFound, Discovery
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import Plan, StackPlan, bucket_plans, problems
from crrmon.domain.deployment.sources import Choice, Ours, Wish, choose, parts
from crrmon.domain.deployment.stack_state import Kind, standing
from crrmon.domain.templates.agent import EMPTY, Agent, filled_in, layout_of
from crrmon.domain.templates.wanted import AgentOptions, agents, switched
from crrmon.ports.stacks import Address, ChangeSet, Stack, Stacks, Wanted

TAGS = {"managed-by": "crrmon"}
"""Of everything that is made; beside `crrmon:deployment` with the deployment's name."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever deploys asks for."""

    wish: Wish
    options: AgentOptions = AgentOptions()
    allow_replacement: bool = False
    """Whether queues, tables and buckets may be replaced or removed."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that there is, with the template it was made by."""

    stack: Stack
    template: Mapping[str, Any]


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
        there = await self._standing({bucket.place for bucket in discovery.buckets})
        wanted = agents(
            self._deployment,
            choices,
            {bucket.name: bucket for bucket in discovery.buckets},
            options=request.options,
            before={place: one.template for place, one in there.items()},
            unread=self._unread(discovery),
        )
        planned = [self._agent(agent, there.get(place)) for place, agent in wanted.items()]
        planned += [
            self._removed(place, one)
            for place, one in sorted(there.items())
            if place not in wanted and self._read_whole(discovery, place.account)
        ]
        stacks = tuple(await asyncio.gather(*planned))
        buckets = bucket_plans(
            choices,
            discovery,
            identity=self._deployment.names.notification_id,
            switched={name for one in there.values() for name in switched(one.template)},
        )
        return Plan(
            stacks=stacks,
            buckets=buckets,
            problems=problems(
                stacks, buckets, discovery, allow_replacement=request.allow_replacement
            ),
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

    def _unread(self, discovery: Discovery) -> frozenset[str]:
        return frozenset(one.name for one in discovery.unread)

    def _read_whole(self, discovery: Discovery, account: str) -> bool:
        unread = {one.account for one in discovery.unread}
        unread |= {one.account for one in discovery.unread_accounts}
        return unread.isdisjoint({account, self._accounts.get(account, account)})

    def _address(self, place: Place) -> Address:
        return Address(
            self._accounts.get(place.account, place.account),
            place.region,
            self._deployment.names.agent_stack,
        )

    async def _standing(self, places: set[Place]) -> dict[Place, Standing]:
        """Return the agents that there are."""

        async def look(place: Place) -> tuple[Place, Standing | None]:
            stack = await self._stacks.find(self._address(place))
            if stack is None or _kind(place, stack) is Kind.ABSENT:
                return place, None
            template = await self._stacks.template(self._address(place))
            return place, Standing(stack=stack, template=template)

        found = await asyncio.gather(*map(look, sorted(places)))
        return {place: one for place, one in found if one is not None}

    async def _agent(self, agent: Agent, there: Standing | None) -> StackPlan:
        place = agent.place
        stands = standing(
            self._deployment.names.agent_stack,
            place,
            None if there is None else there.stack.status,
        )
        if stands.kind in (Kind.BUSY, Kind.STUCK):
            return StackPlan(standing=stands)
        layout = EMPTY if there is None else layout_of(there.template)
        template = filled_in(agent, before=layout)
        change_set = await self._stacks.preview(
            self._address(place),
            Wanted(
                body=template.body(),
                parameters=template.defaults,
                tags=TAGS | {"crrmon:deployment": self._deployment.name},
            ),
            new=there is None,
            name=self._change_set_names(),
        )
        if change_set is None:
            return StackPlan(standing=stands)
        return StackPlan(standing=stands, changes=change_set.changes, change_set=change_set.id)

    async def _removed(self, place: Place, there: Standing) -> StackPlan:
        stands = standing(self._deployment.names.agent_stack, place, there.stack.status)
        return StackPlan(standing=stands, removed=stands.deletable)


def _kind(place: Place, stack: Stack) -> Kind:
    return standing("", place, stack.status).kind
