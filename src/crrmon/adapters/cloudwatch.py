"""CloudWatch as the sink of windows.

A part is the JSON of a list of PutMetricData's MetricData, except that each `Timestamp` is in seconds since the
epoch. Whether a failed part is worth sending again decides what becomes of its numbers: only what CloudWatch says of
the content of a call makes a part refused, all else may be fixed by time or by somebody.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from botocore.exceptions import ClientError, ParamValidationError

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError, border, code_of
from crrmon.adapters.remedies import explain
from crrmon.ports.sink import RefusedPartError, SinkError

_REFUSED = frozenset(
    {
        "InvalidFormat",
        "InvalidParameterCombination",
        "InvalidParameterValue",  # also: older than two weeks
        "MalformedInput",
        "MissingParameter",
        "MissingRequiredParameter",
        "RequestEntityTooLarge",
        "413",
        "Serialization",
        "Validation",
        "ValidationError",
    }
)
"""Codes without the word Exception, which some of CloudWatch's protocols add."""


class CloudWatchSink:
    """Sends parts with PutMetricData."""

    def __init__(self, aws: AwsSession, *, namespace: str, region: str | None = None) -> None:
        self._aws = aws
        self._region = region
        self._namespace = namespace

    async def send(self, part: bytes) -> None:
        """Deliver one part in one call."""
        data = _data(part)
        try:
            with border():
                client = await self._aws.client("cloudwatch", self._region)
                await client.put_metric_data(Namespace=self._namespace, MetricData=data)
        except ClientError as error:
            refused = code_of(error).removesuffix("Exception") in _REFUSED
            raise (RefusedPartError if refused else SinkError)(self._reason(error)) from error
        except NoAnswerError as error:
            unsent = isinstance(error.met, ParamValidationError)
            raise (RefusedPartError if unsent else SinkError)(self._reason(error.met)) from error

    def _reason(self, error: Exception) -> str:
        permission = f"cloudwatch:PutMetricData for namespace {self._namespace}"
        said = str(error) if isinstance(error, ParamValidationError) else ""
        return f"PutMetricData: {said or explain(error, permission=permission)}"


def _data(part: bytes) -> list[Any]:
    """Return PutMetricData's MetricData of a part."""
    try:
        data = msgspec.json.decode(part, type=list[dict[str, Any]])
        for datum in data:
            datum["Timestamp"] = datetime.fromtimestamp(datum["Timestamp"], UTC)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RefusedPartError(f"not a list of datapoints: {error!r}") from error
    return data
