"""Which client makes the calls: where anything about the SDK's is unusual, it makes them itself."""

import re
from typing import Any, Literal

from botocore.utils import get_environ_proxies

from crrmon.adapters.fast.addresses import HTTPS_PORT, SIGNATURES, Address

ClientChoice = Literal["auto", "fast", "sdk"]
"""When the fast client is used: where it is known to behave as the SDK, wherever it can be used, or never."""

_PLAIN = {
    "s3": r"s3\.{region}\.amazonaws\.com(\.cn)?",
    "sqs": r"sqs\.{region}\.amazonaws\.com(\.cn)?",
    "dynamodb": r"dynamodb\.{region}\.amazonaws\.com(\.cn)?",
}
"""Plain endpoints, which tests compare with the SDK's."""

_OLDEST = "s3.amazonaws.com"
"""The SDK's default endpoint of S3 in us-east-1."""


def reason_for_sdk(
    client: Any, address: Address, *, choice: ClientChoice, ca_bundle: object
) -> str | None:
    """Return why a client of the SDK must make its calls itself; None where the fast client can make them.

    Args:
        client: aiobotocore's.
        address: of its endpoint.
        choice: see `ClientChoice`.
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
        (config.signature_version not in SIGNATURES, "another signature version is set"),
    )
    unless_chosen = (
        (not origin.tls, "its endpoint is http"),
        (bool(ca_bundle), "a CA bundle is set"),
        (
            not plain or origin.port != HTTPS_PORT or address.path != "/",
            "its endpoint is not the plain one of a region",
        ),
        (
            address.service == "s3" and bool((config.s3 or {}).get("use_accelerate_endpoint")),
            "S3 acceleration is set",
        ),
    )
    reasons = everywhere if choice == "fast" else everywhere + unless_chosen
    return next((reason for true, reason in reasons if true), None)
