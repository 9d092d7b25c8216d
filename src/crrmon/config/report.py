"""What is reported, served and logged."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crrmon.config.addresses import no_brackets
from crrmon.config.section import NUMBER, Region, Section


def _no_namespace_of_aws(namespace: str) -> str:
    if namespace.startswith("AWS/"):
        raise ValueError(
            "names that begin with AWS/ are for AWS's own metrics, and CloudWatch would refuse all of these: take "
            "another one, such as CRRMonitor"
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
    """Namespace of the metrics; the original's by default, so that its alarms live on."""
    region: Region | None = None
    """Region that gets the metrics; else `aws.region`."""
    window_seconds: Annotated[int, Field(ge=1, le=3600), NUMBER] = 300
    """Length of a window: every metric gets one datapoint for each."""


class Http(Section):
    """Where /metrics, /livez and /readyz are served."""

    host: Annotated[str, Field(min_length=1), AfterValidator(no_brackets)] = "127.0.0.1"
    """
    Address to listen on. Loopback by default; "::" in a container whose network is its own: all addresses, of IPv6 and
    of IPv4, or of the one that the machine has.
    """
    port: Annotated[int, Field(ge=0, le=65535), NUMBER] = 9464
    """Port to listen on; 0 takes a free one."""


class Log(Section):
    """What is logged, to standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug names every object."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for eyes on a terminal, else JSON lines."""
    keys: Literal["full", "hashed", "none"] = "full"
    """
    How keys of objects are logged. hashed: as the beginning of their SHA-256, the same in all lines, which hides them
    from whoever cannot guess them. none: not at all. Both leave out texts of libraries and exceptions, too.
    """
