"""What the URL of an SQS queue tells: whom to ask, in which region, and whether two of them are one queue.

AWS has one queue under many URLs: that of the service, an older one, those for FIPS and for IPv6, and those of
endpoints in a VPC. The chart reads the same off them (helm/crrmon/templates/_settings.tpl), for KEDA;
tests/data/queue_hosts.yaml holds both to it.
"""

import re
from urllib.parse import urlsplit

import msgspec

FIFO = ".fifo"
"""How the name of every FIFO queue ends, and of no other."""

_SUFFIXES = r"amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov"
_DUAL_STACK = (
    r"api\.aws|api\.amazonwebservices\.(?:com\.cn|eu)|api\.aws\.ic\.gov|api\.aws\.scloud|api\.cloud-aws\.adc-e\.uk"
    r"|api\.aws\.hci\.ic\.gov"
)
_HOST = re.compile(
    rf"(?P<apart>(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?)\.(?P<region>[a-z0-9-]+)"
    rf"\.(?:(?P<vpce>vpce\.)?(?:{_SUFFIXES})|(?P<dual>{_DUAL_STACK}))"
    rf"|(?:(?P<legacy>[a-z0-9-]+)\.)?queue\.(?:{_SUFFIXES})"
)
_OLDEST, _LEGACY_REGION = "queue.amazonaws.com", "us-east-1"
"""The one host of AWS that names no region, and where it is."""

_PORTS = {"http": 80, "https": 443}

_OF_AWS = re.compile(rf"[a-z0-9.-]+\.(?:{_SUFFIXES}|{_DUAL_STACK})")


class QueueAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of a queue, taken apart."""

    name: str
    """The queue's name."""
    region: str | None
    """That it names; None where it names none, as with emulators."""
    endpoint: str | None
    """Whom to ask, where that is not whom AWS's SDK would ask for a queue of this region; None where it is."""
    identity: tuple[str, ...]
    """The same for all URLs of a queue."""


def queue_address(url: str) -> QueueAddress:
    """Take the URL of a queue apart.

    Raises:
        ValueError: it is no URL; the text says why.
    """
    parts = urlsplit(url)
    host, path = (parts.hostname or "").rstrip("."), "/".join(filter(None, parts.path.split("/")))
    port = parts.port or _PORTS.get(parts.scheme)
    name = path.rpartition("/")[2]
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    match = _HOST.fullmatch(host)
    if match is None:
        return QueueAddress(
            name=name,
            region=None,
            endpoint=origin,
            identity=(host, str(port), path),
        )
    region = match["region"] or match["legacy"]
    if region is None and host == _OLDEST:
        region = _LEGACY_REGION
    usual = match["region"] is None or (
        match["apart"] == "sqs" and not (match["vpce"] or match["dual"])
    )
    return QueueAddress(
        name=name,
        region=region,
        endpoint=None if usual else origin,
        identity=(region or host, path),
    )


def is_of_aws(url: str) -> bool:
    """Return whether AWS itself answers at an address, and no stand-in for it."""
    return bool(_OF_AWS.fullmatch((urlsplit(url).hostname or "").rstrip(".")))


def queue_name(url: str) -> str:
    """Return the name of a queue: the last part of its URL."""
    return queue_address(url).name


def region_of(url: str) -> str | None:
    """Return the region that a queue's URL names; None when it names none, as with emulators."""
    return queue_address(url).region
