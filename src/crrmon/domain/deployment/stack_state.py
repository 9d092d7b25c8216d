"""What the status of a stack means for whoever wants to change or delete it, and the way out where it is stuck.

The statuses are those of CloudFormation's API reference ("Stack status codes"). CloudFormation refuses a change in most
of them with a sentence that names the status only; here each has what happened and what to do about it.
"""

import enum

import msgspec

from crrmon.domain.deployment.places import Place


class Kind(enum.StrEnum):
    """What can be done with a stack."""

    ABSENT = "absent"
    """It is to be created."""
    READY = "ready"
    """It can be changed, and deleted."""
    BUSY = "busy"
    """CloudFormation is at work on it, for whomever."""
    STUCK = "stuck"
    """It can only be freed by hand; the way out says how."""
    FOREIGN = "foreign"
    """It has the name of ours, and is somebody else's."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A stack as it stands."""

    name: str
    place: Place
    status: str | None
    """By CloudFormation's name; None where there is no stack."""
    kind: Kind
    sentence: str
    """What happened, where it is not ready; else the empty string."""
    way_out: str
    """What to do about it; the empty string where there is nothing to do."""

    @property
    def deletable(self) -> bool:
        """Whether CloudFormation takes a request to delete it."""
        return self.kind in (Kind.READY, Kind.STUCK)


_READY = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
_ABSENT = frozenset({"DELETE_COMPLETE", "REVIEW_IN_PROGRESS"})
"""The latter of a stack of which there is a change set that was never executed."""

_STUCK = {
    "ROLLBACK_COMPLETE": ("its creation failed and was undone", "delete", "apply"),
    "CREATE_FAILED": ("its creation failed", "delete", "apply"),
    "ROLLBACK_FAILED": ("its creation failed and could not be undone", "delete", "apply"),
    "DELETE_FAILED": ("something in it could not be deleted", "", "destroy"),
    "UPDATE_FAILED": ("a change failed and was not undone", "rollback", "apply"),
    "UPDATE_ROLLBACK_FAILED": ("a change failed and could not be undone", "continue", "apply"),
    "IMPORT_ROLLBACK_FAILED": ("an import failed and could not be undone", "", "apply"),
}
"""What happened, what frees the stack, and what goes on from there."""


def standing(name: str, place: Place, status: str | None, *, stack_id: str = "") -> Standing:
    """Tell how a stack of ours stands.

    Args:
        name: of the stack.
        place: where it is.
        status: as CloudFormation names it; None where there is no stack.
        stack_id: its ARN. Commands name it by that: another account has a stack of the same name.
    """
    if status is None or status in _ABSENT:
        return _standing(name, place, status, Kind.ABSENT)
    if status in _READY:
        return _standing(name, place, status, Kind.READY)
    if status in _STUCK:
        happened, freed, again = _STUCK[status]
        sentence = (
            f"stack {name} in {place.region} of account {place.account}: {happened} ({status})"
        )
        way_out = _way_out(stack_id or name, place, freed, again)
        return _standing(name, place, status, Kind.STUCK, sentence, way_out)
    # What else there is ends in _IN_PROGRESS; a status that is new can only be waited for as well.
    return _standing(
        name,
        place,
        status,
        Kind.BUSY,
        f"stack {name} in {place.region} of account {place.account} is being changed ({status})",
        "wait until CloudFormation is done with it, then call this again",
    )


def foreign(name: str, place: Place, status: str) -> Standing:
    """Tell of a stack that has the name of ours, and whose tags do not say that it is."""
    return _standing(
        name,
        place,
        status,
        Kind.FOREIGN,
        f"stack {name} in {place.region} of account {place.account} is none of this deployment: its tags do not say so",
        "give the deployment another name, or delete that stack if nobody needs it",
    )


def _standing(
    name: str, place: Place, status: str | None, kind: Kind, sentence: str = "", way_out: str = ""
) -> Standing:
    return Standing(
        name=name, place=place, status=status, kind=kind, sentence=sentence, way_out=way_out
    )


def _way_out(name: str, place: Place, freed: str, again: str) -> str:
    call = f"aws cloudformation {{}} --stack-name {name} --region {place.region}"
    steps = {
        "delete": f"delete it ({call.format('delete-stack')})",
        "rollback": f"have the change undone ({call.format('rollback-stack')})",
        "continue": (
            "see its events for what could not be undone, put that right, and have it go on undoing"
            f" ({call.format('continue-update-rollback')})"
        ),
        "": "see its events for what hindered it, and put that right",
    }
    return f"{steps[freed]}; then call `crrmon deploy {again}` again"
