"""CloudFormation by boto3: change sets and what becomes of them.

NB: of a change set that would change nothing, CloudFormation tells as of one that failed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec
from botocore.exceptions import ClientError

from crrmon.adapters.border import NoAnswerError, code_of
from crrmon.adapters.provisioning.clients import Clients
from crrmon.domain.deployment import changes
from crrmon.domain.templates.template import LONGEST_BODY
from crrmon.ports.stacks import (
    Address,
    BusyStackError,
    ChangeSet,
    Drift,
    Stack,
    StackEvent,
    StacksError,
    Wanted,
)

T = TypeVar("T")

POLL_SECONDS = 1.0
"""Between two questions whether a change set, or a search for drift, is done."""

CHANGE_SET_SECONDS = 300.0
DRIFT_SECONDS = 600.0
"""How long is waited for either."""

_NOTHING = ("didn't contain changes", "No updates are to be performed")
"""What CloudFormation says of a change set that would change nothing."""

_OUTDATED_CODES = frozenset({"ChangeSetNotFound", "InvalidChangeSetStatus"})
"""Of a change set that cannot be carried out any more. Carrying one out deletes all others: they were worked out for the
stack as it was.
"""
_STATE_WORDS = ("_IN_PROGRESS", "_FAILED state", "ROLLBACK_COMPLETE state")
"""Of a ValidationError that is about the state of the stack."""

_CAPABILITIES = ["CAPABILITY_NAMED_IAM"]
"""Roles and policies have names by which others find them."""

_ACTIONS = {
    "DescribeStacks": "cloudformation:DescribeStacks",
    "GetTemplate": "cloudformation:GetTemplate",
    "CreateChangeSet": "cloudformation:CreateChangeSet",
    "DescribeChangeSet": "cloudformation:DescribeChangeSet",
    "ExecuteChangeSet": "cloudformation:ExecuteChangeSet",
    "DeleteChangeSet": "cloudformation:DeleteChangeSet",
    "ListChangeSets": "cloudformation:ListChangeSets",
    "DescribeStackEvents": "cloudformation:DescribeStackEvents",
    "DeleteStack": "cloudformation:DeleteStack",
    "DetectStackDrift": "cloudformation:DetectStackDrift",
    "DescribeStackDriftDetectionStatus": "cloudformation:DescribeStackDriftDetectionStatus",
    "DescribeStackResourceDrifts": "cloudformation:DescribeStackResourceDrifts",
    "PutObject": "s3:PutObject",
}
"""What IAM calls the operations that are called here."""


class AwsStacks:
    """Implements the `Stacks` port.

    Args:
        clients: make the calls.
        template_bucket: returns the bucket in which templates lie that are too large to be sent, by account and region;
            None where there is none.
    """

    def __init__(
        self, clients: Clients, *, template_bucket: Callable[[str, str], str | None]
    ) -> None:
        self._clients = clients
        self._template_bucket = template_bucket

    async def find(self, address: Address) -> Stack | None:
        """Return a stack as it stands; None where there is none."""
        try:
            return await self._ask(address, lambda client: _stack(client, address.name))
        except (ClientError, NoAnswerError) as error:
            if _missing(error):
                return None
            self._fail(error, address)

    async def template(self, address: Address) -> Mapping[str, Any]:
        """Return the template that a stack was last made or changed by."""

        def read(client: Any) -> Mapping[str, Any]:
            body = client.get_template(StackName=address.name)["TemplateBody"]
            told: Mapping[str, Any] = msgspec.json.decode(body) if isinstance(body, str) else body
            return told

        return await self._done(address, read)

    async def preview(
        self, address: Address, wanted: Wanted, *, new: bool, name: str
    ) -> ChangeSet | None:
        """Have worked out what would change; None where nothing would."""
        text = await self._text(address, wanted.body, name)
        request = {
            "StackName": address.name,
            "ChangeSetName": name,
            # Asked again after a lost answer, it is the same one.
            "ClientToken": name,
            "ChangeSetType": "CREATE" if new else "UPDATE",
            "Capabilities": _CAPABILITIES,
            "Parameters": _pairs("ParameterKey", "ParameterValue", wanted.parameters),
            "Tags": _pairs("Key", "Value", wanted.tags),
            **text,
        }
        made = await self._done(address, lambda client: client.create_change_set(**request)["Id"])
        told = await self._worked_out(address, made)
        if told["Status"] == "CREATE_COMPLETE":
            found = await self._done(address, lambda client: _changes(client, made))
            return ChangeSet(id=made, changes=found)
        await self.drop(address, ChangeSet(id=made, changes=()), new=new)
        reason = told.get("StatusReason", "")
        if any(words in reason for words in _NOTHING):
            return None
        raise StacksError(
            f"{_named(address)}: CloudFormation refuses the change: {reason or told['Status']}"
        )

    async def drop(self, address: Address, change_set: ChangeSet, *, new: bool) -> None:
        """Forget a change that is not to be carried out, and the stack that was only begun for it."""
        await self._done(
            address, lambda client: client.delete_change_set(ChangeSetName=change_set.id)
        )
        stack = await self.find(address) if new else None
        # NB: somebody may have carried out another change by now: then it is a stack in use.
        if stack is None or stack.status != "REVIEW_IN_PROGRESS":
            return
        others = await self._done(
            address, lambda client: client.list_change_sets(StackName=address.name)["Summaries"]
        )
        if not others:
            await self._done(address, lambda client: client.delete_stack(StackName=stack.id))

    async def execute(self, address: Address, change_set: ChangeSet, *, token: str) -> None:
        """Begin to carry a change out; `events` tells how it goes."""
        await self._done(
            address,
            lambda client: client.execute_change_set(
                ChangeSetName=change_set.id, ClientRequestToken=token
            ),
        )

    async def delete(self, address: Address, *, token: str) -> None:
        """Begin to delete a stack."""
        await self._done(
            address,
            lambda client: client.delete_stack(StackName=address.name, ClientRequestToken=token),
        )

    async def events(self, stack_id: str, address: Address, *, token: str) -> Sequence[StackEvent]:
        """Return what happened in the course of a change or deletion, the oldest first."""
        return await self._done(address, lambda client: _events(client, stack_id, token))

    async def drift(self, address: Address) -> Sequence[Drift]:
        """Return what was changed by hand, as far as CloudFormation can tell."""
        search = await self._done(
            address,
            lambda client: client.detect_stack_drift(StackName=address.name)[
                "StackDriftDetectionId"
            ],
        )

        def ask(client: Any) -> Mapping[str, Any]:
            told: Mapping[str, Any] = client.describe_stack_drift_detection_status(
                StackDriftDetectionId=search
            )
            return told

        told = await self._until(
            address,
            ask,
            done=lambda answer: answer["DetectionStatus"] != "DETECTION_IN_PROGRESS",
            seconds=DRIFT_SECONDS,
            what="the search for drift",
        )
        if told["DetectionStatus"] == "DETECTION_FAILED":
            reason = told.get("DetectionStatusReason", "")
            raise StacksError(f"{_named(address)}: drift could not be searched for: {reason}")
        return await self._done(address, lambda client: _drifts(client, address.name))

    # ---- within ----

    async def _text(self, address: Address, body: str, name: str) -> dict[str, str]:
        """Return how to tell CloudFormation a template: by itself, or where it lies if it is too large."""
        if len(body.encode()) <= LONGEST_BODY:
            return {"TemplateBody": body}
        bucket = self._template_bucket(address.account, address.region)
        if bucket is None:
            raise StacksError(
                f"{_named(address)}: its template has {len(body.encode()):,} bytes, and CloudFormation takes"
                f" {LONGEST_BODY:,} at the most from elsewhere than S3: name a bucket of that region and account for it"
                " (--template-bucket)"
            )
        key = f"crrmon/{name}.json"

        def store(client: Any) -> str:
            client.put_object(Bucket=bucket, Key=key, Body=body.encode())
            # NB: of the client's own endpoint: it knows the partition, and the emulator's address.
            url: str = client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}
            )
            return url.partition("?")[0]

        return {"TemplateURL": await self._done(address, store, service="s3")}

    async def _worked_out(self, address: Address, change_set: str) -> Mapping[str, Any]:
        return await self._until(
            address,
            lambda client: client.describe_change_set(ChangeSetName=change_set),
            done=lambda answer: not answer["Status"].endswith(("_PENDING", "_IN_PROGRESS")),
            seconds=CHANGE_SET_SECONDS,
            what="the change set",
        )

    async def _until(
        self,
        address: Address,
        ask: Callable[[Any], Mapping[str, Any]],
        *,
        done: Callable[[Mapping[str, Any]], bool],
        seconds: float,
        what: str,
    ) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                while not done(answer := await self._done(address, ask)):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)  # CloudFormation tells nobody by itself
                return answer
        except TimeoutError:
            raise StacksError(
                f"{_named(address)}: {what} is not done after {seconds:.0f} s; see it in CloudFormation's console, or"
                " call this again"
            ) from None

    async def _ask(
        self, address: Address, work: Callable[[Any], T], *, service: str = "cloudformation"
    ) -> T:
        return await self._clients.call(address.account, service, address.region, work)

    async def _done(
        self, address: Address, work: Callable[[Any], T], *, service: str = "cloudformation"
    ) -> T:
        try:
            return await self._ask(address, work, service=service)
        except (ClientError, NoAnswerError) as error:
            self._fail(error, address)

    def _fail(self, error: ClientError | NoAnswerError, address: Address) -> NoReturn:
        if isinstance(error, ClientError):
            if code_of(error) in _OUTDATED_CODES:
                raise BusyStackError(
                    f"{_named(address)} was changed since this change was worked out: plan again"
                ) from error
            if _about_its_state(error):
                text = error.response["Error"].get("Message", "")
                waits = "_IN_PROGRESS" in text or code_of(error) != "ValidationError"
                then = (
                    "wait until it is done, then call this again"
                    if waits
                    else "plan again for the way out"
                )
                raise BusyStackError(
                    f"{_named(address)} takes no change now: {text}; {then}"
                ) from error
            action = _ACTIONS.get(error.operation_name, error.operation_name)
            permission = f"{action} on {address.name} in {address.region}"
        else:
            permission = ""
        reason = self._clients.explain(error, address.account, permission=permission)
        raise StacksError(f"{_named(address)}: {reason}") from error


def _named(address: Address) -> str:
    account = f" of account {address.account}" if address.account else ""
    return f"stack {address.name} in {address.region}{account}"


def _missing(error: ClientError | NoAnswerError) -> bool:
    told = isinstance(error, ClientError) and code_of(error) == "ValidationError"
    return told and "does not exist" in str(error)


def _about_its_state(error: ClientError) -> bool:
    code, text = code_of(error), str(error)
    return code == "OperationInProgressException" or (
        code == "ValidationError" and any(word in text for word in _STATE_WORDS)
    )


def _pairs(key: str, value: str, pairs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{key: name, value: pairs[name]} for name in sorted(pairs)]


def _stack(client: Any, name: str) -> Stack:
    (told,) = client.describe_stacks(StackName=name)["Stacks"]
    return Stack(
        id=told["StackId"],
        status=told["StackStatus"],
        reason=told.get("StackStatusReason", ""),
        outputs={one["OutputKey"]: one["OutputValue"] for one in told.get("Outputs", ())},
        tags={one["Key"]: one["Value"] for one in told.get("Tags", ())},
        protected=bool(told.get("EnableTerminationProtection")),
    )


def _changes(client: Any, change_set: str) -> tuple[changes.ResourceChange, ...]:
    pages = client.get_paginator("describe_change_set").paginate(ChangeSetName=change_set)
    return changes.read([change for page in pages for change in page["Changes"]])


def _events(client: Any, stack_id: str, token: str) -> list[StackEvent]:
    """Return the events of a change, the oldest first; they are told newest first, and older changes need not be read."""
    found: list[StackEvent] = []
    for page in client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        ours = [event for event in page["StackEvents"] if event.get("ClientRequestToken") == token]
        found += [_event(event) for event in ours]
        if found and not ours:
            break
    return found[::-1]


def _event(told: Mapping[str, Any]) -> StackEvent:
    return StackEvent(
        id=told["EventId"],
        logical=told["LogicalResourceId"],
        type=told.get("ResourceType", ""),
        status=told["ResourceStatus"],
        reason=told.get("ResourceStatusReason") or "",
    )


def _drifts(client: Any, name: str) -> list[Drift]:
    # There is no paginator for it.
    found: list[Drift] = []
    request: dict[str, Any] = {
        "StackName": name,
        "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"],
    }
    while True:
        page = client.describe_stack_resource_drifts(**request)
        found += [_drift(told) for told in page["StackResourceDrifts"]]
        if not page.get("NextToken"):
            return sorted(found, key=lambda one: one.logical)
        request["NextToken"] = page["NextToken"]


def _drift(told: Mapping[str, Any]) -> Drift:
    return Drift(
        logical=told["LogicalResourceId"],
        type=told["ResourceType"],
        status=told["StackResourceDriftStatus"],
        properties=tuple(
            sorted(one["PropertyPath"] for one in told.get("PropertyDifferences") or ())
        ),
    )
