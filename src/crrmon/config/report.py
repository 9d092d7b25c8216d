"""What is reported, served and logged."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crrmon.config.addresses import no_brackets
from crrmon.config.section import NUMBER, Region, Section


def _no_namespace_of_aws(namespace: str) -> str:
    if namespace.startswith("AWS/"):
        raise ValueError(
            "names that begin with AWS/ are reserved for AWS's own metrics, and CloudWatch would refuse all metrics: choose "
            "another name, such as CRRMonitor"
        )
    return namespace


class Report(Section):
    """What is reported to CloudWatch."""

    cloudwatch: bool = True
    """Whether to send metrics to CloudWatch."""
    namespace: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._/#-][A-Za-z0-9._/#:-]{0,254}$"),
        AfterValidator(_no_namespace_of_aws),
    ] = "CRRMonitor"
    """Namespace of the metrics; by default that of the original, so that its alarms keep working."""
    region: Region | None = None
    """Region that the metrics are sent to. Default: `aws.region`."""
    window_seconds: Annotated[int, Field(ge=1, le=3600), NUMBER] = 300
    """Length of a window; each metric gets one datapoint per window."""


class Http(Section):
    """Where /metrics, /livez and /readyz are served."""

    host: Annotated[str, Field(min_length=1), AfterValidator(no_brackets)] = "127.0.0.1"
    """
    Address to listen on. Loopback by default; use "::" in a container with its own network: all IPv6 and IPv4 addresses,
    or those of the one protocol that the machine has.
    """
    port: Annotated[int, Field(ge=0, le=65535), NUMBER] = 9464
    """Port to listen on; 0 takes a free port."""


class Log(Section):
    """What is logged, to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level to log; debug logs every object."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto: human-readable on a terminal, else JSON lines."""
    keys: Literal["full", "hashed", "none"] = "full"
    """
    How object keys are logged. hashed: as the first characters of their SHA-256, the same in all lines, which hides keys
    that cannot be guessed. none: not at all. Both also omit texts of libraries and exceptions.
    """
