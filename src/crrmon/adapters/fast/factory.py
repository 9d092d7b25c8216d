"""Creates the fast client of a service beside the SDK's, where it can be used."""

import asyncio
import random
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import structlog
from botocore.httpsession import get_cert_path

from crrmon.adapters.answers import Doorkeeper
from crrmon.adapters.fast.addresses import Address, address_of, urls_of_buckets
from crrmon.adapters.fast.client_choice import ClientChoice, reason_for_sdk
from crrmon.adapters.fast.credentials import CredentialsProvider
from crrmon.adapters.fast.endpoint import ServiceEndpoint
from crrmon.adapters.fast.json_calls import Calls, JsonCalls, JsonService, SdkCalls
from crrmon.adapters.fast.pool import ConnectionPool, Limits
from crrmon.adapters.fast.s3 import MOST_BYTES, FastHeads
from crrmon.adapters.heads import Heads, SdkHeads
from crrmon.ports.clock import Dates, SystemClock

Service = Literal["s3", "sqs", "cloudwatch", "dynamodb"]

_CALLED: Mapping[str, JsonService] = {
    # As the SDK sends it: errors keep the codes that they had in SQS's older protocol.
    "sqs": JsonService("AmazonSQS", (("x-amzn-query-mode", "true"),)),
    "dynamodb": JsonService("DynamoDB_20120810"),
}

_MOST_BYTES: Mapping[str, int] = {"s3": MOST_BYTES, "sqs": 33_554_432, "dynamodb": 67_108_864}
"""Of a response: SQS returns up to a megabyte of messages, DynamoDB sixteen of items, and JSON makes more of them."""

log = structlog.get_logger()


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the SDK is made with and does not show."""

    service: Service
    ca_bundle: str | None
    """Certificates to trust instead of the usual ones."""
    own_store: bool
    """Whether it is one of another store than AWS."""
    trusting: bool
    """Whether responses need not have AWS's id of the request."""
    dates: Dates | None
    """Takes in the dates of responses; None where they say nothing of AWS's time."""


class ClientFactory:
    """Creates fast clients; those of one service share a connection pool.

    Args:
        choice: when to use them.
        most_connections: in each pool.
    """

    def __init__(self, choice: ClientChoice, *, most_connections: int) -> None:
        self._choice = choice
        self._most_connections = most_connections
        self._rng = random.Random()  # noqa: S311 - no secret
        self._pools: dict[tuple[str, str | None], ConnectionPool] = {}
        self._providers: dict[int, CredentialsProvider] = {}
        """By the identity of the SDK's credentials, which they keep."""
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._making_context = asyncio.Lock()

    def heads(self, client: Any, held: Any, setting: Setting) -> Heads:
        """Return what asks for objects: the fast client, or the SDK's where that must be used.

        Args:
            client: aiobotocore's.
            held: its credentials.
            setting: of the client.
        """
        credentials = self._credentials(held)
        sdk = SdkHeads(client, credentials)
        endpoint = self._endpoint(client, credentials, setting)
        if endpoint is None:
            return sdk
        headers = (("x-minio-source-proxy-request", "false"),) if setting.own_store else ()
        return FastHeads(endpoint, urls_of_buckets(client), sdk, signed_headers=headers)

    def calls(self, client: Any, held: Any, setting: Setting) -> Calls:
        """Return what calls a service that speaks JSON; as `heads`."""
        credentials = self._credentials(held)
        endpoint = self._endpoint(client, credentials, setting)
        if endpoint is None:
            return SdkCalls(client)
        return JsonCalls(
            endpoint,
            _CALLED[setting.service],
            attempts=client.meta.config.retries["total_max_attempts"],
            doorkeeper=Doorkeeper(trusting=setting.trusting),
            rng=self._rng,
            credentials=credentials,
        )

    async def close(self) -> None:
        """End all connections."""
        for pool in self._pools.values():
            await pool.close()

    def _credentials(self, held: Any) -> CredentialsProvider:
        credentials = self._providers.get(id(held))
        if credentials is None:
            credentials = CredentialsProvider(held, monotonic=asyncio.get_running_loop().time)
            self._providers[id(held)] = credentials
        return credentials

    def _endpoint(
        self, client: Any, credentials: CredentialsProvider, setting: Setting
    ) -> ServiceEndpoint | None:
        address = address_of(client, setting.service)
        reason = reason_for_sdk(client, address, choice=self._choice, ca_bundle=setting.ca_bundle)
        if reason is not None:
            self._log(address, reason)
            return None
        return ServiceEndpoint(
            address,
            pool=self._pool(client, setting),
            credentials=credentials,
            now=SystemClock.now,
            dates=setting.dates,
        )

    def _log(self, address: Address, reason: str) -> None:
        if self._choice == "sdk":
            return  # as it was set
        log.info(
            "sdk_used",
            service=address.service,
            region=address.region,
            host=address.origin.host,
            reason=reason,
        )

    def _pool(self, client: Any, setting: Setting) -> ConnectionPool:
        key = (setting.service, setting.ca_bundle)
        if key not in self._pools:
            config = client.meta.config
            self._pools[key] = ConnectionPool(
                Limits(
                    connect_seconds=config.connect_timeout,
                    silent_seconds=config.read_timeout,
                    whole_seconds=2 * config.read_timeout,
                    most_bytes=_MOST_BYTES[setting.service],
                    most_connections=self._most_connections,
                ),
                tls=lambda: self._context(setting.ca_bundle),
                rng=self._rng,
            )
        return self._pools[key]

    async def _context(self, ca_bundle: str | None) -> ssl.SSLContext:
        """Return the context for certificates, made once."""
        async with self._making_context:
            if ca_bundle not in self._contexts:
                self._contexts[ca_bundle] = await asyncio.to_thread(_new_context, ca_bundle)
        return self._contexts[ca_bundle]


def _new_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Read all certificates that are trusted, for up to a tenth of a second."""
    context = ssl.create_default_context(cafile=ca_bundle or get_cert_path(True))  # noqa: FBT003 - its signature
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As the SDK: from Python 3.13 on, authorities of companies would be refused for what they leave out.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context
