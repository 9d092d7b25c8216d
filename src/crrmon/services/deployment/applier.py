"""Carries a plan out: stacks side by side, and then the buckets whose queues are there.

Whatever fails keeps nothing from being finished that has begun, and lets nothing new begin. Nothing has to be undone by
hand: CloudFormation undoes its own failures, and whoever applies again goes on where this one stopped.
"""

import asyncio
import enum
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import BucketAction, BucketPlan, Plan, StackPlan
from crrmon.ports.notification_store import (
    BucketAddress,
    NotificationStoreError,
)
from crrmon.ports.stacks import Address, ChangeSet, StackEvent, Stacks, StacksError
from crrmon.services.deployment.notification_writer import NotificationWriter, Written

AT_ONCE = 4
"""Stacks of one account that CloudFormation is at work on at a time."""

BUCKETS_AT_ONCE = 16

MOST_UNANSWERED = 30
"""Questions how a stack is that may go unanswered one after the other, before nobody waits for its end any more."""

MOST_IDLE = 5
"""Questions that bring nothing new, before a stack that seems to be at rest is believed to be: it may not have begun."""

_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})

_STACK = "AWS::CloudFormation::Stack"


class State(enum.StrEnum):
    """What became of one step."""

    DONE = "done"
    FAILED = "failed"
    NOT_BEGUN = "not begun"
    GOES_ON = "goes on"
    """It was begun, and CloudFormation goes on with it; nobody waited for its end."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stack or one bucket, and what became of it."""

    subject: str
    state: State
    sentences: tuple[str, ...] = ()
    """Why, and what else people should know."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done and what was not."""

    steps: tuple[Step, ...]
    interrupted: bool = False

    @property
    def done(self) -> bool:
        """Whether all of it was."""
        return not self.interrupted and all(step.state is State.DONE for step in self.steps)


Tell = Callable[[Place, StackEvent], None]
"""Told of each event of a stack, as it is read."""


class Applier:
    """Carries plans out.

    Args:
        stacks: CloudFormation.
        writer: of buckets' configurations.
        stack_address: returns where a stack of the plan is asked for.
        bucket_address: returns where a bucket of the plan is asked for.
        tokens: returns a text that marks the events of one change, another one each time.
        tell: told how it goes.
        poll_seconds: between two questions how a stack is.
    """

    def __init__(
        self,
        stacks: Stacks,
        writer: NotificationWriter,
        *,
        stack_address: Callable[[StackPlan], Address],
        bucket_address: Callable[[BucketPlan], BucketAddress],
        tokens: Callable[[], str],
        tell: Tell,
        poll_seconds: float = 2.0,
    ) -> None:
        self._stacks = stacks
        self._writer = writer
        self._stack_address = stack_address
        self._bucket_address = bucket_address
        self._tokens = tokens
        self._tell = tell
        self._poll_seconds = poll_seconds
        self._steps: dict[str, Step] = {}
        self._failed = False
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing more; what has begun is waited for."""
        self._stopped = True

    async def apply(self, plan: Plan) -> Report:
        """Carry a plan out, which nothing blocks.

        Args:
            plan: what to do.

        Returns:
            What was done; also where it is cancelled, by `report`.
        """
        changed = [one for one in plan.stacks if one.change_set is not None]
        removed = [one for one in plan.stacks if one.removed]
        buckets = [one for one in plan.buckets if one.action is not BucketAction.KEEP]
        for subject in (*map(_stack, [*changed, *removed]), *map(_bucket, buckets)):
            self._steps[subject] = Step(subject=subject, state=State.NOT_BEGUN)
        await self._all_stacks(changed)
        ready = {one.standing.place for one in plan.stacks} - {
            one.standing.place
            for one in changed
            if self._steps[_stack(one)].state is not State.DONE
        }
        # A bucket's turn has come when its queue is there, or it needs none any more.
        await self._all_buckets(
            [one for one in buckets if one.choice is None or one.place in ready]
        )
        if not self._failed:
            # Last: until its bucket's entry is out, S3 sends to a queue that would be gone.
            await self._all_stacks(removed)
        return self.report()

    def report(self) -> Report:
        """Return what was done so far."""
        return Report(steps=tuple(self._steps.values()), interrupted=self._stopped)

    # ---- within ----

    async def _all_stacks(self, plans: Sequence[StackPlan]) -> None:
        gates: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

        async def carry_out(one: StackPlan) -> None:
            async with gates[one.standing.place.account]:
                if not (self._failed or self._stopped):
                    await self._stack(one)

        await asyncio.gather(*map(carry_out, plans))

    async def _all_buckets(self, plans: Sequence[BucketPlan]) -> None:
        gate = asyncio.Semaphore(BUCKETS_AT_ONCE)

        async def carry_out(one: BucketPlan) -> None:
            async with gate:
                if not self._stopped:
                    await self._bucket(one)

        await asyncio.gather(*map(carry_out, plans))

    async def _stack(self, one: StackPlan) -> None:
        address, subject, token = self._stack_address(one), _stack(one), self._tokens()
        try:
            stands = await self._stacks.find(address)
            if stands is None and one.removed:
                self._note(subject, State.DONE)  # somebody else was faster
                return
            if one.removed:
                await self._stacks.delete(address, token=token)
            else:
                assert one.change_set is not None  # noqa: S101 - for the type checker
                change_set = ChangeSet(id=one.change_set, changes=one.changes)
                await self._stacks.execute(address, change_set, token=token)
        except StacksError as error:
            self._fail(subject, str(error))
            return
        self._note(subject, State.GOES_ON)
        await self._followed(one, address.name if stands is None else stands.id, token)

    async def _followed(self, one: StackPlan, stack_id: str, token: str) -> None:
        """Tell of a stack's events until the last one, or until it is at rest by somebody else's doing."""
        told: set[str] = set()
        address, subject = self._stack_address(one), _stack(one)
        failures: list[str] = []
        unanswered = idle = 0
        while True:
            try:
                events = await self._stacks.events(stack_id, address, token=token)
                news = [event for event in events if event.id not in told]
                idle = 0 if news else idle + 1
                at_rest = await self._at_rest(address) if idle >= MOST_IDLE else None
            except StacksError as error:
                unanswered += 1
                if unanswered >= MOST_UNANSWERED:
                    self._lose_sight(subject, str(error))
                    return
            else:
                unanswered = 0
                told.update(event.id for event in news)
                for event in news:
                    self._tell(one.standing.place, event)
                failures += [_sentence(event) for event in news if event.failed]
                ends = [event.status for event in news if _is_end(event)]
                if ends or at_rest is not None:
                    self._ended(one, ends[-1] if ends else str(at_rest), failures)
                    return
            await asyncio.sleep(self._poll_seconds)

    async def _at_rest(self, address: Address) -> str | None:
        """Return the status of a stack with which CloudFormation does nothing any more; None while it is at work."""
        stack = await self._stacks.find(address)
        if stack is None:
            return "DELETE_COMPLETE"
        return None if stack.status.endswith("_IN_PROGRESS") else stack.status

    def _ended(self, one: StackPlan, status: str, failures: Sequence[str]) -> None:
        good = {"DELETE_COMPLETE"} if one.removed else _GOOD
        if status in good and not failures:
            self._note(_stack(one), State.DONE)
        else:
            self._fail(_stack(one), f"it is {status} now", *failures)

    def _lose_sight(self, subject: str, why: str) -> None:
        self._failed = True
        self._note(
            subject,
            State.GOES_ON,
            f"nobody could ask how it goes ({why}); see it in CloudFormation's console, and call this again",
        )

    async def _bucket(self, one: BucketPlan) -> None:
        address, subject = self._bucket_address(one), _bucket(one)
        try:
            result = await self._writer.put(
                address,
                entry=one.choice.entry if one.choice else None,
                switch=bool(one.choice and one.choice.switch),
                switch_off=one.switch_off,
                planned_on=one.before,
            )
        except NotificationStoreError as error:
            self._fail(subject, str(error))
        else:
            if result.written is Written.DISTURBED:
                self._fail(subject, *result.sentences)
            else:
                self._note(subject, State.DONE, *result.sentences)

    def _note(self, subject: str, state: State, *sentences: str) -> None:
        self._steps[subject] = Step(subject=subject, state=state, sentences=sentences)

    def _fail(self, subject: str, *sentences: str) -> None:
        self._failed = True
        self._note(subject, State.FAILED, *sentences)


def _stack(one: StackPlan) -> str:
    place = one.standing.place
    return f"stack {one.standing.name} in {place.region} of account {place.account}"


def _bucket(one: BucketPlan) -> str:
    return f"bucket {one.bucket}"


def _sentence(event: StackEvent) -> str:
    return f"{event.logical} ({event.type}): {event.reason}"


def _is_end(event: StackEvent) -> bool:
    return event.type == _STACK and not event.status.endswith("_IN_PROGRESS")
