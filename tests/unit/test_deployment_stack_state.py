"""The statuses of stacks: each tells what can be done, and what to do where nothing can."""

import pytest
from botocore.session import Session

from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.stack_state import Kind, Standing, standing

PLACE = Place(account="111111111111", region="eu-west-1")


def of(status: str | None) -> Standing:
    """Tell how a stack stands that has a status."""
    return standing("crrmon-agent", PLACE, status)


def statuses() -> list[str]:
    """Return all that the SDK's model knows."""
    return list(Session().get_service_model("cloudformation").shape_for("StackStatus").enum)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (None, Kind.ABSENT),
        ("DELETE_COMPLETE", Kind.ABSENT),
        ("REVIEW_IN_PROGRESS", Kind.ABSENT),
        ("CREATE_COMPLETE", Kind.READY),
        ("UPDATE_COMPLETE", Kind.READY),
        ("UPDATE_ROLLBACK_COMPLETE", Kind.READY),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Kind.BUSY),
        ("DELETE_IN_PROGRESS", Kind.BUSY),
        ("ROLLBACK_COMPLETE", Kind.STUCK),
        ("UPDATE_ROLLBACK_FAILED", Kind.STUCK),
        ("DELETE_FAILED", Kind.STUCK),
    ],
)
def test_what_can_be_done(status: str | None, kind: Kind) -> None:
    """Only what CloudFormation takes changes for is ready."""
    assert of(status).kind is kind


@pytest.mark.parametrize("status", statuses())
def test_all_that_the_sdk_knows(status: str) -> None:
    """Each status is read as what its name says, and no stack that cannot be changed lacks a way out."""
    found = of(status)

    if status.endswith("_FAILED") or status == "ROLLBACK_COMPLETE":
        assert found.kind is Kind.STUCK
    elif status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        assert found.kind is Kind.BUSY
    else:
        assert found.kind in (Kind.READY, Kind.ABSENT)
    told = found.kind in (Kind.STUCK, Kind.BUSY)
    assert bool(found.way_out) is told
    assert (status in found.sentence) is told


def test_a_status_that_is_new_is_waited_for() -> None:
    """Nothing is changed in a state that nobody here knows."""
    assert of("PAUSED_BY_SOMEBODY").kind is Kind.BUSY


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("ROLLBACK_COMPLETE", "delete-stack --stack-name crrmon-agent --region eu-west-1"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name crrmon-agent"),
        ("UPDATE_FAILED", "rollback-stack --stack-name crrmon-agent"),
        ("DELETE_FAILED", "call `crrmon deploy destroy` again"),
    ],
)
def test_the_way_out_is_a_command(status: str, told: str) -> None:
    """Whoever is stuck is told what to type."""
    assert told in of(status).way_out


def test_commands_name_a_stack_so_that_no_other_account_has_it() -> None:
    """All accounts have one of the same name: pasted with other credentials, the command would hit another stack."""
    arn = "arn:aws:cloudformation:eu-west-1:111111111111:stack/crrmon-agent/0f5f"
    found = standing("crrmon-agent", PLACE, "ROLLBACK_COMPLETE", stack_id=arn)

    assert f"--stack-name {arn} " in found.way_out


@pytest.mark.parametrize(
    ("status", "deletable"),
    [
        (None, False),
        ("UPDATE_IN_PROGRESS", False),
        ("CREATE_COMPLETE", True),
        ("ROLLBACK_COMPLETE", True),
    ],
)
def test_what_can_be_deleted(status: str | None, *, deletable: bool) -> None:
    """A stuck stack can be deleted, a busy one cannot."""
    assert of(status).deletable is deletable
