"""
MiniStack, completed for tests of deployments: what its CloudFormation leaves out is made, and failures can be ordered.

What it does beyond MiniStack is in `fakes.completed`. Accounts are access keys of twelve digits.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import botocore.session
from botocore.serialize import create_serializer
from msgspec.structs import replace

from fakes.cloud import ROOT_SECRET, client
from fakes.completed.orders import VARIABLE, Failure, Interference, Orders, give
from fakes.ministack import ministack
from fakes.patience import HANGS_SECONDS

OURS = "111111111111"
THEIRS = "222222222222"
REGION = "eu-west-1"


class WholeMiniStack:
    """One that runs, and the orders that it obeys; those that were given last end first."""

    def __init__(self, url: str, orders: Path) -> None:
        """
        Args:
            url: of all its services.
            orders: file that it reads them from.
        """
        self.url = url
        self._file = orders
        self._orders = Orders()
        give(self._orders, orders)

    def client(self, service: str, *, account: str = OURS, region: str = REGION) -> Any:
        """Return boto3's client, as the root of an account."""
        return client(self.url, service, account=account, region=region)

    def settled(self, stack: str, *, account: str = OURS, region: str = REGION) -> str:
        """
        Wait until nothing happens to a stack any more.

        Args:
            stack: its id, or the name of one that is there.
            account: where it is.
            region: where it is.

        Returns:
            Its status.
        """
        caller = self.client("cloudformation", account=account, region=region)
        until = time.monotonic() + HANGS_SECONDS
        while time.monotonic() < until:
            (told,) = caller.describe_stacks(StackName=stack)["Stacks"]
            status = str(told["StackStatus"])
            if status == "REVIEW_IN_PROGRESS" or not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(0.02)  # noqa: TID251 - another process has to get there
        raise AssertionError(f"{stack} does not settle")

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Have each resource of a stack take so long to create, update or delete."""
        with self._ordered(replace(self._orders, slow=seconds)):
            yield

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have stacks stay where they are, in progress, until the end of this."""
        with self._ordered(replace(self._orders, held=True)):
            yield

    @contextlib.contextmanager
    def failing(
        self,
        step: str,
        reason: str,
        *,
        spare: int = 0,
        account: str | None = None,
        region: str | None = None,
    ) -> Iterator[None]:
        """
        Have stacks fail.

        Args:
            step: `create`, `update` or `delete`, and a type of resources, as in `create AWS::SQS::Queue`.
            reason: what the stack's event says.
            spare: how many such steps go well first. The rollback of an update is an update, too.
            account: where; None for everywhere.
            region: where; None for everywhere.
        """
        failure = Failure(
            id=str(uuid4()), step=step, reason=reason, spare=spare, account=account, region=region
        )
        with self._ordered(replace(self._orders, failures=(*self._orders.failures, failure))):
            yield

    @contextlib.contextmanager
    def interfering(
        self,
        bucket: str,
        configuration: Mapping[str, Any],
        *,
        after: Literal["GET", "PUT"] = "GET",
        nth: int = 1,
    ) -> Iterator[None]:
        """
        Have somebody else put a bucket's notification configuration, once.

        Args:
            bucket: its name.
            configuration: in boto3's form.
            after: which request for the configuration is answered before that, but comes to know nothing of it.
            nth: which of these requests, from now on.
        """
        interference = Interference(
            id=str(uuid4()), bucket=bucket, after=after, nth=nth, configuration=_xml(configuration)
        )
        orders = replace(self._orders, interferences=(*self._orders.interferences, interference))
        with self._ordered(orders):
            yield

    @contextlib.contextmanager
    def _ordered(self, orders: Orders) -> Iterator[None]:
        before, self._orders = self._orders, orders
        give(orders, self._file)
        try:
            yield
        finally:
            self._orders = before
            give(before, self._file)


@contextlib.contextmanager
def whole_ministack(**settings: str) -> Iterator[WholeMiniStack]:
    """
    Run one, on loopback, which ends with this.

    Args:
        settings: variables of its environment, as `AUTH="true"`.
    """
    tests = str(Path(__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as folder:
        orders = Path(folder) / "orders.json"
        give(Orders(), orders)
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, (tests, inherited))),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_SECRET_ACCESS_KEY": ROOT_SECRET,
            "MINISTACK_HOST": "127.0.0.1",  # else URLs of queues begin with localhost
            VARIABLE: str(orders),
        }
        with ministack("fakes.completed", **environment | settings) as url:
            yield WholeMiniStack(url, orders)


def _xml(configuration: Mapping[str, Any]) -> str:
    service = botocore.session.get_session().get_service_model("s3")
    request = create_serializer(service.metadata["protocol"]).serialize_to_request(
        {"Bucket": "any", "NotificationConfiguration": configuration},
        service.operation_model("PutBucketNotificationConfiguration"),
    )
    return str(request["body"].decode())
