"""Which datapoints a PutMetricData call brings, read from its body: JSON, as the daemon's SDK sends it."""

import msgspec


class _Dimension(msgspec.Struct):
    Name: str
    Value: str


class _Datum(msgspec.Struct):
    MetricName: str
    Timestamp: float
    Dimensions: list[_Dimension] = []


class _PutCall(msgspec.Struct):
    MetricData: list[_Datum]


Datapoint = tuple[str, tuple[tuple[str, str], ...], float]
"""Metric, dimensions, timestamp: of these CloudWatch should hear once."""


def datapoints(body: bytes) -> list[Datapoint]:
    """List the datapoints of a call.

    Args:
        body: not compressed.

    Raises:
        msgspec.DecodeError: it is something else.
    """
    return [
        (
            datum.MetricName,
            tuple(sorted((dimension.Name, dimension.Value) for dimension in datum.Dimensions)),
            datum.Timestamp,
        )
        for datum in msgspec.json.decode(body, type=_PutCall).MetricData
    ]
