"""Clients of an emulator that takes an access key of twelve digits for an account."""

import threading
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from fakes.patience import HANGS_SECONDS

ROOT_SECRET = "of-every-account"  # noqa: S105 - opens nothing but emulators
"""With it, keys of twelve digits may do anything, also where policies are enforced."""

_making = threading.Lock()
"""Sessions do not let several threads make clients."""


def client(url: str, service: str, *, account: str, region: str) -> Any:
    """
    Return a client that asks once, and nobody else; the same one for the same arguments.

    Args:
        url: of the emulator.
        service: as boto3 calls it.
        account: whose root it acts as.
        region: its region.
    """
    with _making:
        return _client(url, service, account, region)


@cache
def _session() -> boto3.Session:
    return boto3.Session()


@cache
def _client(url: str, service: str, account: str, region: str) -> Any:
    return _session().client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key=ROOT_SECRET,
        config=Config(
            proxies={},
            retries={"total_max_attempts": 1},
            read_timeout=HANGS_SECONDS,
            max_pool_connections=32,
        ),
    )
