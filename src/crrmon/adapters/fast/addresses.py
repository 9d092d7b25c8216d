"""Where services and buckets are reached, as the SDK's client resolves it."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.exceptions import BotoCoreError

from crrmon.adapters.fast.pool import Origin

BucketUrl = Callable[[str], Awaitable[str | None]]
"""Returns the URL of a bucket, without a key; None where the SDK does more than to sign a request for it."""

HTTPS_PORT = 443

SIGNATURES = ("s3v4", "v4")
"""Version 4 of AWS's signature, by the names that the SDK has for it."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^\[\]@:]+)(:[0-9]+)?")
"""With its port, as URLs have it: one name or one address, and nobody's name before it."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A service's endpoint, as the SDK resolved it."""

    service: str
    region: str
    origin: Origin
    path: str = "/"

    @property
    def host(self) -> str:
        """The Host header of the endpoint itself."""
        return host_header(self.origin)


def address_of(client: Any, service: str) -> Address:
    """Return the endpoint of a client of the SDK.

    Args:
        client: aiobotocore's.
        service: which it is of.
    """
    url = client.meta.endpoint_url
    return Address(
        service=service,
        region=client.meta.region_name,
        origin=origin_of(url),
        path=urlsplit(url).path or "/",
    )


def urls_of_buckets(client: Any) -> BucketUrl:
    """Return a function that has a client of the SDK resolve the URL of a bucket.

    Args:
        client: aiobotocore's, of S3.
    """
    meta = client.meta
    operation = meta.service_model.operation_model("HeadObject")

    async def url_of(bucket: str) -> str | None:
        context: dict[str, Any] = {"client_region": meta.region_name, "client_config": meta.config}
        # NB: not public, but only the SDK knows all about S3's endpoints.
        try:
            url, headers, _ = await client._resolve_endpoint_ruleset(  # noqa: SLF001
                operation, {"Bucket": bucket, "Key": "-"}, context
            )
        except BotoCoreError:  # which its own call is to raise
            return None
        signing = context.get("signing", {})
        usual = (
            not headers
            and _HOST.fullmatch(urlsplit(url).netloc)
            and context.get("auth_type") in SIGNATURES
            and signing.get("signing_name") == "s3"
            and signing.get("region") == meta.region_name
        )
        return str(url) if usual else None

    return url_of


def host_header(origin: Origin) -> str:
    """Write an origin as the Host header has it."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == (HTTPS_PORT if origin.tls else 80) else f"{host}:{origin.port}"


def origin_of(url: str) -> Origin:
    """Return where a URL is asked for."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Origin(parts.hostname or "", parts.port or (HTTPS_PORT if tls else 80), tls)
