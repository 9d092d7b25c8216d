"""Carrying plans out, where CloudFormation does not tell how it ends, or somebody else is at work on the same stack."""

from collections.abc import Sequence

import pytest
from typing_extensions import override

from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.plan import Plan, StackPlan
from crrmon.domain.deployment.stack_state import standing
from crrmon.ports.notification_store import BucketAddress
from crrmon.ports.stacks import Address, ChangeSet, StackEvent, StacksError
from crrmon.services.deployment.applier import MOST_UNANSWERED, Applier, Report, State
from fakes.stacks import FakeStacks

HERE = Place(account="111111111111", region="eu-west-1")
ADDRESS = Address("", HERE.region, "acme-agent")
SUBJECT = "stack acme-agent in eu-west-1 of account 111111111111"


class ScriptedStacks(FakeStacks):
    """CloudFormation of which it is said what it tells.

    Args:
        told: what each question for events brings; then nothing more.
        status: of the stack from its change on; None where somebody deletes it.
    """

    def __init__(
        self, *told: Sequence[StackEvent] | StacksError, status: str | None = "CREATE_COMPLETE"
    ) -> None:
        super().__init__()
        self._told = list(told)
        self._status = status
        self.statuses[ADDRESS] = "REVIEW_IN_PROGRESS"

    @override
    async def execute(self, address: Address, change_set: ChangeSet, *, token: str) -> None:
        """Begin a change."""
        del change_set, token
        if self._status is None:
            del self.statuses[address]
        else:
            self.statuses[address] = self._status

    @override
    async def delete(self, address: Address, *, token: str) -> None:
        """Begin a deletion."""
        del token, self.statuses[address]

    @override
    async def events(self, stack_id: str, address: Address, *, token: str) -> Sequence[StackEvent]:
        """Tell of what is next."""
        del stack_id, address, token
        answer = self._told.pop(0) if self._told else []
        if isinstance(answer, StacksError):
            raise answer
        return answer


def event(logical: str, status: str, reason: str = "") -> StackEvent:
    kind = "AWS::CloudFormation::Stack" if logical == "acme-agent" else "AWS::SQS::Queue"
    return StackEvent(
        id=f"{logical} {status}", logical=logical, type=kind, status=status, reason=reason
    )


END = event("acme-agent", "CREATE_COMPLETE")


async def applied(stacks: FakeStacks, *, removed: bool = False) -> Report:
    """Carry out a plan of one stack."""
    name = Deployment(name="acme", monitor=HERE).names.agent_stack
    one = StackPlan(
        standing=standing(name, HERE, "CREATE_COMPLETE" if removed else None),
        change_set=None if removed else "c1",
        removed=removed,
    )
    applier = Applier(
        stacks,
        _NoWriter(),  # type: ignore[arg-type]
        stack_address=lambda _: ADDRESS,
        bucket_address=lambda _: BucketAddress("", HERE.account, HERE.region, "none"),
        tokens=lambda: "token",
        tell=lambda _place, _event: None,
        poll_seconds=0.0,
    )
    return await applier.apply(Plan(stacks=(one,), buckets=(), problems=()))


class _NoWriter:
    """There is no bucket in these plans."""


def only(report: Report) -> tuple[State, str]:
    """Return what became of the only step."""
    (step,) = report.steps
    assert step.subject == SUBJECT
    return step.state, " ".join(step.sentences)


async def test_questions_that_are_not_answered_are_asked_again() -> None:
    """CloudFormation goes on all the while."""
    throttled = StacksError("ThrottlingException")
    stacks = ScriptedStacks(throttled, [event("Queue", "CREATE_COMPLETE")], throttled, [END])

    assert only(await applied(stacks)) == (State.DONE, "")


async def test_a_stack_that_nobody_can_ask_about_goes_on() -> None:
    """It did not fail, as far as anybody knows; nor is it done."""
    stacks = ScriptedStacks(*[StacksError("no route to host")] * MOST_UNANSWERED)

    state, told = only(await applied(stacks))

    assert state is State.GOES_ON
    assert "no route to host" in told


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CREATE_COMPLETE", State.DONE),
        ("ROLLBACK_COMPLETE", State.FAILED),
        (None, State.FAILED),
    ],
)
async def test_a_stack_that_ends_without_a_word_ends_by_its_status(
    status: str | None, state: State
) -> None:
    """Somebody else canceled the change, or deleted the stack: the events of that are not ours."""
    stacks = ScriptedStacks([event("Queue", "CREATE_IN_PROGRESS")], status=status)

    assert only(await applied(stacks))[0] is state


async def test_what_failed_is_told_with_its_reason() -> None:
    """Also where the stack then ended well, by a name for its end that is not known here."""
    stacks = ScriptedStacks(
        [event("Queue", "CREATE_FAILED", "denied"), event("acme-agent", "ROLLBACK_COMPLETE")]
    )

    state, told = only(await applied(stacks))

    assert state is State.FAILED
    assert "it is ROLLBACK_COMPLETE now" in told
    assert "Queue (AWS::SQS::Queue): denied" in told


async def test_removing_a_stack_that_is_gone_is_done() -> None:
    """Somebody else was faster."""
    stacks = ScriptedStacks()
    stacks.statuses.clear()

    assert only(await applied(stacks, removed=True)) == (State.DONE, "")


async def test_a_removal_ends_when_the_stack_is_gone() -> None:
    """Whatever its events say of that."""
    assert only(await applied(ScriptedStacks(), removed=True)) == (State.DONE, "")
