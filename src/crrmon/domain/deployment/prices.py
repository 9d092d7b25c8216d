"""What AWS charges, by its list prices of us-east-1: the one place where a price stands.

Other regions cost up to a third more, and large accounts pay less. None of AWS's free tiers is in it.
"""

import math

AS_OF = "2026-11"
"""When they were last looked up, year and month."""

PER_MILLION_HEADS = 0.40
"""HeadObject in the storage class Standard."""
PER_MILLION_SQS = 0.40
"""Requests of up to 64 KiB, S3's and EventBridge's own among them."""
PER_MILLION_EVENTBRIDGE = 1.00
"""S3's events, which are charged as those that are opted into."""
PER_MILLION_TRAIL = 1.00
"""Data events of CloudTrail."""
PER_MILLION_WRITE_UNITS, PER_MILLION_READ_UNITS = 0.625, 0.125
"""DynamoDB on demand."""
PER_STORED_GB = 0.25
"""A month, DynamoDB."""
PER_METRIC = ((10_000, 0.30), (math.inf, 0.10))
"""A month in CloudWatch: up to so many, each."""
PER_ALARM_METRIC = 0.10
"""A month, for each metric that an alarm looks at."""
PER_VCPU_HOUR, PER_GB_HOUR = 0.03238, 0.00356
"""Fargate, arm64."""


def of_metrics(number: float) -> float:
    """Return the price of so many metrics in CloudWatch, dollars a month."""
    dollars, below = 0.0, 0.0
    for limit, price in PER_METRIC:
        dollars += max(min(number, limit) - below, 0.0) * price
        below = limit
    return dollars


def of_units(writes: float, reads: float) -> float:
    """Return the price of so many write and read units of DynamoDB, dollars."""
    return (writes * PER_MILLION_WRITE_UNITS + reads * PER_MILLION_READ_UNITS) / 1e6
