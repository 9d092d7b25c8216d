"""Stacks of CloudFormation: how they stand, what a change would do, making and deleting them, and what goes on meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from crrmon.domain.deployment.changes import ResourceChange


class StacksError(Exception):
    """CloudFormation did not do what it was asked; the text says why and what to do."""


class BusyStackError(StacksError):
    """CloudFormation takes no change of a stack in the state that it is in by now, or not this one any more."""


class Address(msgspec.Struct, frozen=True):
    """Which stack."""

    account: str
    """By the name that the configuration has for it."""
    region: str
    name: str


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that there is."""

    id: str
    """Its ARN, by which it is found even after it was deleted."""
    status: str
    reason: str
    """Of the status, in CloudFormation's words; may be empty."""
    outputs: Mapping[str, str]
    tags: Mapping[str, str]
    protected: bool
    """Whether it is protected from deletion."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack is to be."""

    body: str
    """The text of its template."""
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


class ChangeSet(msgspec.Struct, frozen=True, kw_only=True):
    """A change that CloudFormation worked out and has not carried out."""

    id: str
    """Its ARN."""
    changes: tuple[ResourceChange, ...]
    """None of the resources; what is left are changes of outputs or tags."""


class StackEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a resource of a stack, or to the stack."""

    id: str
    logical: str
    type: str
    status: str
    reason: str
    """In CloudFormation's words; may be empty."""

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return self.status.endswith("_FAILED")


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that somebody changed by hand."""

    logical: str
    type: str
    status: str
    """MODIFIED or DELETED."""
    properties: tuple[str, ...]
    """Paths of those that differ."""


class Stacks(Protocol):
    """CloudFormation, in every region and account."""

    async def find(self, address: Address) -> Stack | None:
        """Return a stack as it stands; None where there is none.

        Raises:
            StacksError: it could not be read.
        """

    async def template(self, address: Address) -> Mapping[str, Any]:
        """Return the template that a stack was last made or changed by.

        Raises:
            StacksError: it could not be read.
        """

    async def preview(
        self, address: Address, wanted: Wanted, *, new: bool, name: str
    ) -> ChangeSet | None:
        """Have worked out what would change; None where nothing would.

        Args:
            address: of the stack.
            wanted: what it is to be.
            new: whether it is to be made.
            name: of the change set; another one each time.

        Raises:
            BusyStackError: it takes no change now.
            StacksError: CloudFormation refuses what is wanted, or cannot be asked.
        """

    async def drop(self, address: Address, change_set: ChangeSet, *, new: bool) -> None:
        """Forget a change that is not to be carried out, and the stack that was only begun for it.

        Raises:
            StacksError: it could not be forgotten.
        """

    async def execute(self, address: Address, change_set: ChangeSet, *, token: str) -> None:
        """Begin to carry a change out; `events` tells how it goes.

        Args:
            address: of the stack.
            change_set: from `preview`.
            token: events of this change have it, and asking twice with it changes once.

        Raises:
            BusyStackError: somebody changed the stack meanwhile.
            StacksError: it was not begun.
        """

    async def delete(self, address: Address, *, token: str) -> None:
        """Begin to delete a stack; as `execute`.

        Raises:
            BusyStackError: it cannot be deleted now.
            StacksError: it was not begun.
        """

    async def events(self, stack_id: str, address: Address, *, token: str) -> Sequence[StackEvent]:
        """Return what happened in the course of a change or deletion, the oldest first.

        Args:
            stack_id: by which it is found after its deletion, too.
            address: of the stack.
            token: of the change.

        Raises:
            StacksError: they could not be read.
        """

    async def drift(self, address: Address) -> Sequence[Drift]:
        """Return what was changed by hand, as far as CloudFormation can tell; takes seconds to minutes.

        Raises:
            StacksError: it could not be found out.
        """
