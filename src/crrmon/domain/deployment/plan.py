"""What would be made, changed and removed, before anything is: stacks by CloudFormation's word, buckets by ours."""

import enum
from collections.abc import Collection, Iterable

import msgspec

from crrmon.domain.deployment.changes import ResourceChange
from crrmon.domain.deployment.discovery import BucketFound, Discovery
from crrmon.domain.deployment.notifications import (
    Difference,
    NotificationConfiguration,
    difference,
    merge,
)
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.sources import Choice
from crrmon.domain.deployment.stack_state import Kind, Standing


class BucketAction(enum.StrEnum):
    """What becomes of a bucket's notification configuration."""

    ADD = "add"
    """An entry, or the switch for EventBridge."""
    CHANGE = "change"
    KEEP = "keep"
    REMOVE = "remove"
    """Our entry: the bucket does not replicate any more, or its events come by another way."""
    CONFLICT = "conflict"
    """S3 would refuse what was asked for."""


class BucketPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one bucket."""

    bucket: str
    place: Place
    action: BucketAction
    choice: Choice | None
    """How its events are to come; None where they are not wanted any more."""
    before: NotificationConfiguration
    """As it was read."""
    difference: Difference
    """From before to then."""
    switch_off: bool = False
    """Whether its switch for EventBridge goes off: we turned it on, and need it no more."""


class StackPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one stack."""

    standing: Standing
    changes: tuple[ResourceChange, ...] = ()
    change_set: str | None = None
    """By its ARN; None where nothing changes, or nothing can be changed now."""
    removed: bool = False
    """Whether it is to be deleted: there is nothing left for it to do."""
    protected: bool = False
    """Whether it is protected from deletion."""

    @property
    def dangerous(self) -> tuple[ResourceChange, ...]:
        """The changes by which something would be lost."""
        return tuple(change for change in self.changes if change.dangerous)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a plan from being carried out, or what people should know before it is."""

    subject: str
    text: str
    blocks: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    stacks: tuple[StackPlan, ...]
    buckets: tuple[BucketPlan, ...]
    problems: tuple[Problem, ...]
    complete: bool = True
    """Whether all that it rests on could be read."""

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(stack.change_set or stack.removed for stack in self.stacks) or any(
            one.action is not BucketAction.KEEP for one in self.buckets
        )

    @property
    def blocked(self) -> bool:
        """Whether it cannot be carried out as it is."""
        return any(problem.blocks for problem in self.problems)

    @property
    def exit_code(self) -> int:
        """0 for nothing to do, 2 for changes, 1 where it cannot be carried out, or not all could be read."""
        if self.blocked or not self.complete:
            return 1
        return 2 if self.changes else 0


def bucket_plans(
    choices: Iterable[Choice],
    discovery: Discovery,
    *,
    identity: str,
    switched: Collection[str] = (),
) -> tuple[BucketPlan, ...]:
    """Return what becomes of each bucket that is to send events, or has an entry of ours; by place and name.

    Where not everything could be read, nothing is taken from anybody: a bucket may be the destination of one unread.

    Args:
        choices: how events are to come.
        discovery: the buckets, as they were read.
        identity: the Id of our entries.
        switched: the buckets for which we turned EventBridge on.
    """
    chosen = {choice.bucket: choice for choice in choices}
    plans = [
        _bucket_plan(bucket, chosen.get(bucket.name), identity, switched=bucket.name in switched)
        for bucket in sorted(discovery.buckets, key=lambda one: (one.place, one.name))
        if bucket.name in chosen
        or (
            discovery.complete
            and (bucket.name in switched or bucket.notifications.entry(identity) is not None)
        )
    ]
    return tuple(plans)


def problems(
    stacks: Iterable[StackPlan],
    buckets: Iterable[BucketPlan],
    discovery: Discovery,
    *,
    allow_replacement: bool,
) -> tuple[Problem, ...]:
    """Return what keeps a plan from being carried out, and what people should know.

    Args:
        stacks: what becomes of them.
        buckets: what becomes of them.
        discovery: what could not be read is part of it, and blocks nothing.
        allow_replacement: whether queues, tables and buckets may be replaced or removed.
    """
    found = [*_of_stacks(stacks, allow_replacement=allow_replacement), *_of_buckets(buckets)]
    found += [
        Problem(subject=f"bucket {one.name}", text=one.reason, blocks=False)
        for one in discovery.unread
    ]
    found += [
        Problem(subject=f"account {one.account}", text=one.reason, blocks=False)
        for one in discovery.unread_accounts
    ]
    return tuple(found)


def _bucket_plan(
    bucket: BucketFound, choice: Choice | None, identity: str, *, switched: bool
) -> BucketPlan:
    now, off = bucket.notifications, switched and not (choice and choice.switch)
    entry, switch = (None, False) if choice is None else (choice.entry, choice.switch)
    wanted = merge(now, identity, entry=entry, switch=switch, switch_off=off)
    found = difference(now, wanted)
    return BucketPlan(
        bucket=bucket.name,
        place=bucket.place,
        action=_action(found, choice),
        choice=choice,
        before=now,
        difference=found,
        switch_off=off,
    )


def _action(found: Difference, choice: Choice | None) -> BucketAction:
    if choice is not None and choice.conflict:
        return BucketAction.CONFLICT
    if not found:
        return BucketAction.KEEP
    added = bool(found.unexpected) or found.eventbridge is True
    taken = bool(found.missing) or found.eventbridge is False
    if found.changed or (added and taken):
        return BucketAction.CHANGE
    return BucketAction.REMOVE if taken else BucketAction.ADD


def _of_stacks(stacks: Iterable[StackPlan], *, allow_replacement: bool) -> Iterable[Problem]:
    for stack in stacks:
        standing = stack.standing
        if standing.kind in (Kind.BUSY, Kind.STUCK, Kind.FOREIGN) and not stack.removed:
            yield Problem(
                subject=f"stack {standing.name}",
                text=f"{standing.sentence}: {standing.way_out}",
                blocks=True,
            )
        if stack.removed:
            lost = "its queues, with whatever is still in them"
            yield Problem(
                subject=f"stack {standing.name} in {standing.place.region}",
                text=f"would be deleted, as nothing is left for it to do, and with it {lost}"
                + ("" if allow_replacement else ": allow it with --allow-replacement"),
                blocks=not allow_replacement,
            )
        if stack.removed and stack.protected:
            yield Problem(
                subject=f"stack {standing.name} in {standing.place.region}",
                text="is protected from deletion: turn its termination protection off",
                blocks=True,
            )
        for change in stack.dangerous:
            why = f" ({', '.join(change.because)})" if change.because else ""
            yield Problem(
                subject=f"stack {standing.name} in {standing.place.region}",
                text=f"would {change.action} {change.logical} ({change.type}, {change.physical}){why}, and what it holds would be"
                + (" lost" if allow_replacement else " lost: allow it with --allow-replacement"),
                blocks=not allow_replacement,
            )


def _of_buckets(buckets: Iterable[BucketPlan]) -> Iterable[Problem]:
    for one in buckets:
        if one.choice is None:
            continue
        if one.choice.conflict:
            yield Problem(subject=f"bucket {one.bucket}", text=one.choice.conflict, blocks=True)
        for warning in one.choice.warnings:
            yield Problem(subject=f"bucket {one.bucket}", text=warning, blocks=False)
