"""CloudFormation in memory: as much as plans need."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from crrmon.domain.deployment.changes import Action, ResourceChange
from crrmon.ports.stacks import Address, ChangeSet, Drift, Stack, StackEvent, Wanted


class FakeStacks:
    """Implements the `Stacks` port: a stack is the template that it was made by."""

    def __init__(self) -> None:
        self.templates: dict[Address, dict[str, Any]] = {}
        self.statuses: dict[Address, str] = {}
        self.tags: dict[Address, dict[str, str]] = {}
        self.protected: set[Address] = set()
        self.change_sets: dict[str, tuple[Address, Wanted]] = {}
        """Those that were neither carried out nor dropped."""

    async def find(self, address: Address) -> Stack | None:
        """Return a stack as it stands."""
        if address not in self.statuses:
            return None
        return Stack(
            id=f"arn:{address.name}",
            status=self.statuses[address],
            reason="",
            outputs={},
            tags=self.tags.get(address, {}),
            protected=address in self.protected,
        )

    async def template(self, address: Address) -> Mapping[str, Any]:
        """Return the template of a stack."""
        return self.templates[address]

    async def preview(
        self, address: Address, wanted: Wanted, *, new: bool, name: str
    ) -> ChangeSet | None:
        """Compare templates."""
        assert name not in self.change_sets
        assert new is (address not in self.templates)
        before = self.templates.get(address, {"Resources": {}})
        after = json.loads(wanted.body)
        if before == after:
            return None
        self.change_sets[name] = (address, wanted)
        if new:
            self.statuses[address] = "REVIEW_IN_PROGRESS"
        return ChangeSet(id=name, changes=_changes(before["Resources"], after["Resources"]))

    async def drop(self, address: Address, change_set: ChangeSet, *, new: bool) -> None:
        """Forget a change."""
        del self.change_sets[change_set.id]
        if new:
            del self.statuses[address]

    async def execute(self, address: Address, change_set: ChangeSet, *, token: str) -> None:
        """Carry a change out at once."""
        del token
        made, wanted = self.change_sets.pop(change_set.id)
        assert made == address
        self.templates[address] = json.loads(wanted.body)
        self.tags[address] = dict(wanted.tags)
        self.statuses[address] = "UPDATE_COMPLETE"

    async def delete(self, address: Address, *, token: str) -> None:
        """Delete a stack at once."""
        del token, self.templates[address], self.statuses[address]

    async def events(self, stack_id: str, address: Address, *, token: str) -> Sequence[StackEvent]:
        """Tell of nothing."""
        del stack_id, address, token
        return []

    async def drift(self, address: Address) -> Sequence[Drift]:
        """Find nothing."""
        del address
        return []


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[ResourceChange, ...]:
    def change(logical: str) -> ResourceChange:
        if logical not in before:
            action = Action.CREATE
        else:
            action = Action.CHANGE if logical in after else Action.REMOVE
        one = after.get(logical) or before[logical]
        return ResourceChange(logical=logical, type=one["Type"], physical="", action=action)

    differ = (name for name in sorted({*before, *after}) if before.get(name) != after.get(name))
    return tuple(map(change, differ))
