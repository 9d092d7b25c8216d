"""Endpoints and credentials of the fast client, as the SDK's client has them.

They stay the SDK's: its client is asked for them, and where anything about it is unusual, it makes the calls itself.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import BotoCoreError, NoCredentialsError
from botocore.utils import get_environ_proxies

from crrmon import __version__
from crrmon.adapters.fast.pool import Origin
from crrmon.adapters.fast.signing import Credentials

Choice = Literal["auto", "fast", "sdk"]
"""When the fast client is used: where it is known to behave as the SDK, wherever it can be used, or never."""

RENEWAL_SECONDS = 60.0
"""Between two times that credentials are renewed because a service took them for expired."""

ASKED_SECONDS = 0.5
"""How often the SDK is asked for credentials: it renews them minutes before they end."""

BucketUrl = Callable[[str], Awaitable[str | None]]
"""Returns the URL of a bucket, without a key; None where the SDK does more than to sign a request for it."""

UNSIGNED = f"user-agent: crrmon/{__version__}\r\naccept-encoding: identity\r\n"
"""Lines of every request's head that are not signed, as proxies may change them."""

_PLAIN = {
    "s3": r"s3\.{region}\.amazonaws\.com(\.cn)?",
    "sqs": r"sqs\.{region}\.amazonaws\.com(\.cn)?",
    "dynamodb": r"dynamodb\.{region}\.amazonaws\.com(\.cn)?",
}
"""Plain endpoints, which tests compare with the SDK's."""

_OLDEST = "s3.amazonaws.com"
"""The SDK's default endpoint of S3 in us-east-1."""

_HTTPS = 443

_SIGNATURES = ("s3v4", "v4")

_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^\[\]@:]+)(:[0-9]+)?")
"""With its port, as URLs have it: one name or one address, and nobody's name before it."""


class Keyring:
    """The credentials of a session, as the SDK refreshes them; one for all services that the session calls.

    Args:
        held: the SDK's own, which refreshes them.
        monotonic: the loop's clock.
    """

    def __init__(self, held: Any, *, monotonic: Callable[[], float]) -> None:
        self._held = held
        self._monotonic = monotonic
        self._frozen: Any = None
        self._current: Credentials | None = None
        self._renewing = asyncio.Lock()
        self._asked_at = self._renewed_at = self._changed_at = float("-inf")

    def at_hand(self) -> Credentials | None:
        """Return what to sign with, where the SDK was asked for it just now; else None."""
        return self._current if self._monotonic() < self._asked_at + ASKED_SECONDS else None

    async def current(self) -> Credentials:
        """Return what to sign with now.

        Raises:
            NoCredentialsError: there are none; whatever the SDK raises where it could not refresh them.
        """
        frozen = await self._held.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise NoCredentialsError
        if frozen is not self._frozen or self._current is None:
            if self._current is not None:
                self._changed_at = self._monotonic()
            self._frozen = frozen
            self._current = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        self._asked_at = self._monotonic()
        return self._current

    async def renew(self, *, asked_at: float) -> bool:
        """Refresh credentials that a service called expired before their time.

        Args:
            asked_at: when the call was made that failed for it, by the loop's clock. Of several that failed together, the
                first refreshes for all.

        Returns:
            Whether there are newer ones: none where they cannot be refreshed, or a refresh just failed to help.
        """
        if not isinstance(self._held, AioRefreshableCredentials):
            return False
        async with self._renewing:
            now = self._monotonic()
            if asked_at < self._changed_at:
                return True
            if now - self._renewed_at < RENEWAL_SECONDS:
                return False
            self._renewed_at = now
            before = await self.current()
            # NB: the SDK itself asks for newer ones by the clock alone.
            held: Any = self._held
            async with held._refresh_lock:  # noqa: SLF001
                await held._protected_refresh(is_mandatory=False)  # noqa: SLF001
            return await self.current() != before


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
            and context.get("auth_type") in _SIGNATURES
            and signing.get("signing_name") == "s3"
            and signing.get("region") == meta.region_name
        )
        return str(url) if usual else None

    return url_of


def unusual(client: Any, address: Address, *, choice: Choice, ca_bundle: object) -> str | None:
    """Return why a client of the SDK must make its calls itself; None where the fast client can make them.

    Args:
        client: aiobotocore's.
        address: of its endpoint.
        choice: see there.
        ca_bundle: certificates that the SDK trusts instead of the usual ones, if any.
    """
    config = client.meta.config
    origin = address.origin
    plain = re.fullmatch(
        _PLAIN[address.service].format(region=re.escape(address.region)), origin.host
    ) or (address.region == "us-east-1" and origin.host == _OLDEST)
    proxies = config.proxies or get_environ_proxies(client.meta.endpoint_url)
    everywhere = (
        (choice == "sdk", "aws.client is sdk"),
        (("https" if origin.tls else "http") in proxies, "a proxy is set"),
        (config.signature_version not in _SIGNATURES, "another signature version is set"),
    )
    unless_chosen = (
        (not origin.tls, "its endpoint is http"),
        (bool(ca_bundle), "a CA bundle is set"),
        (
            not plain or origin.port != _HTTPS or address.path != "/",
            "its endpoint is not the plain one of a region",
        ),
        (
            address.service == "s3" and bool((config.s3 or {}).get("use_accelerate_endpoint")),
            "S3 acceleration is set",
        ),
    )
    reasons = everywhere if choice == "fast" else everywhere + unless_chosen
    return next((reason for true, reason in reasons if true), None)


def host_header(origin: Origin) -> str:
    """Write an origin as the Host header has it."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == (_HTTPS if origin.tls else 80) else f"{host}:{origin.port}"


def origin_of(url: str) -> Origin:
    """Return where a URL is asked for."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Origin(parts.hostname or "", parts.port or (_HTTPS if tls else 80), tls)
