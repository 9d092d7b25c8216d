"""Where one service is reached in one region, and on whose behalf: what the SDK's client knows, taken over from it.

Endpoints, regions and credentials stay the SDK's: its client is asked for them, and whatever about it is out of the
ordinary is left to it.
"""

import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.utils import get_environ_proxies

from crrmon.adapters.fast.signing import Credentials
from crrmon.adapters.fast.wire import Origin

Choice = Literal["auto", "fast", "sdk"]
"""Whether the short way is taken: where it is sure to be the same, wherever it can be, or never."""

RENEWAL_SECONDS = 60.0
"""Between two times that credentials are renewed because a service took them for expired."""

_PLAIN = {
    "s3": r"s3\.{region}\.amazonaws\.com(\.cn)?",
    "sqs": r"sqs\.{region}\.amazonaws\.com(\.cn)?",
    "dynamodb": r"dynamodb\.{region}\.amazonaws\.com(\.cn)?",
}
"""Host names that tests compare with those that the SDK asks."""

_HTTPS = 443

_SIGNATURES = ("s3v4", "v4")


class Keyring:
    """Has the credentials of a session, newer ones when the SDK has them.

    Args:
        held: the SDK's own, which refreshes them.
        monotonic: the loop's clock.
    """

    def __init__(self, held: Any, *, monotonic: Callable[[], float]) -> None:
        self._held = held
        self._monotonic = monotonic
        self._frozen: Any = None
        self._current: Credentials | None = None
        self._renewed_at = float("-inf")

    async def current(self) -> Credentials:
        """Return what to sign with now.

        Raises:
            NoCredentialsError: there are none; whatever the SDK raises where it could not refresh them.
        """
        frozen = await self._held.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise NoCredentialsError
        if frozen is not self._frozen or self._current is None:
            self._frozen = frozen
            self._current = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        return self._current

    async def renew(self) -> bool:
        """Get newer credentials than those that a service took for expired before their time.

        Returns:
            Whether there are newer ones; there are none where nobody refreshes them, or somebody just did.
        """
        now = self._monotonic()
        if not isinstance(self._held, AioRefreshableCredentials):
            return False
        if now - self._renewed_at < RENEWAL_SECONDS:
            return False
        self._renewed_at = now
        # NB: the SDK itself asks for newer ones by the clock alone.
        held: Any = self._held
        async with held._refresh_lock:  # noqa: SLF001
            await held._protected_refresh(is_mandatory=False)  # noqa: SLF001
        before = self._current
        return await self.current() != before


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A service's endpoint, as the SDK found it."""

    service: str
    region: str
    origin: Origin
    base: str = ""
    """Path before every request's own, without a slash at its end."""
    virtual: bool = True
    """Whether a bucket may be part of the host name."""

    @property
    def host(self) -> str:
        """The Host header of the endpoint itself."""
        return host_header(self.origin)


def address_of(client: Any, service: str) -> Address:
    """Return where a client of the SDK asks.

    Args:
        client: aiobotocore's.
        service: which it is of.
    """
    url = urlsplit(client.meta.endpoint_url)
    tls = url.scheme == "https"
    host = url.hostname or ""
    style = (client.meta.config.s3 or {}).get("addressing_style")
    return Address(
        service=service,
        region=client.meta.region_name,
        origin=Origin(host, url.port or (_HTTPS if tls else 80), tls),
        base=url.path.rstrip("/"),
        virtual=style != "path" and not _is_ip(host),
    )


def unusual(client: Any, address: Address, *, choice: Choice, ca_bundle: object) -> str | None:
    """Say why the SDK is to make a client's calls itself; None where the short way will do.

    Args:
        client: aiobotocore's.
        address: of its endpoint.
        choice: how sure it must be.
        ca_bundle: certificates that the SDK was told to trust instead of the usual ones, if any.
    """
    config = client.meta.config
    plain = _PLAIN[address.service].format(region=re.escape(address.region))
    origin = address.origin
    everywhere = (
        (choice == "sdk", "aws.client is sdk"),
        (bool(get_environ_proxies(client.meta.endpoint_url) or config.proxies), "a proxy is set"),
        (config.signature_version not in _SIGNATURES, "another signature version is set"),
    )
    where_unsure = (
        (not origin.tls, "its endpoint is http"),
        (bool(ca_bundle), "a CA bundle is set"),
        (
            not re.fullmatch(plain, origin.host) or origin.port != _HTTPS or bool(address.base),
            "its endpoint is not the plain one of a region",
        ),
        (bool((config.s3 or {}).get("use_accelerate_endpoint")), "S3 acceleration is set"),
    )
    held_against = everywhere if choice == "fast" else everywhere + where_unsure
    return next((reason for true, reason in held_against if true), None)


def host_header(origin: Origin) -> str:
    """Write an origin as the Host header has it."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == (_HTTPS if origin.tls else 80) else f"{host}:{origin.port}"


def _is_ip(host: str) -> bool:
    return ":" in host or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host) is not None
