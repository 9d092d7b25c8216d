"""Where objects are asked for: the fast client asks just the URLs that the SDK's client would ask, or leaves it to it.

Nobody is asked: both clients are stopped before they send.
"""

from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError
from structlog.testing import capture_logs

from crrmon.adapters.aws import AwsSession, Login
from crrmon.adapters.fast.client_choice import ClientChoice
from crrmon.adapters.fast.pool import Origin
from crrmon.adapters.fast.s3 import FastHeads
from crrmon.adapters.heads import HeadRequest, SdkHeads

REGION = "eu-west-1"


class SentError(Exception):
    """What would have been sent."""

    def __init__(self, url: str, *, fast: bool) -> None:
        super().__init__(url)
        self.url = url
        self.fast = fast


def stop_sdk(request: Any, **_: object) -> NoReturn:
    """Take the place of the SDK's sending."""
    raise SentError(request.url, fast=False)


class StoppedPool:
    """Takes the place of the fast client's sending."""

    async def ask(
        self, origin: Origin, request: bytes, *, bodiless: bool = False, idempotent: bool = False
    ) -> NoReturn:
        first, *lines = request.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines if line)
        url = f"{'https' if origin.tls else 'http'}://{headers['host']}{target}"
        # The connection goes where the request says.
        parts = urlsplit(url)
        assert parts.hostname == origin.host
        assert (parts.port or (443 if origin.tls else 80)) == origin.port
        assert bodiless == idempotent == (method == "HEAD")
        raise SentError(url, fast=True)


async def both(
    aws: AwsSession, region: str | None, login: Login | None = None
) -> tuple[Any, FastHeads | SdkHeads]:
    """Return the clients that ask, both stopped."""
    client: Any = await aws.client("s3", region, login)
    client.meta.events.register("before-send.s3", stop_sdk)
    heads = (await aws.s3(region, login)).heads
    assert isinstance(heads, FastHeads | SdkHeads)
    if isinstance(heads, FastHeads):
        heads._endpoint._pool = StoppedPool()  # type: ignore[assignment]
    return client, heads


async def url_of_sdk(client: Any, fields: dict[str, str]) -> str:
    """Return what the SDK's client would send; the name of its error where it would send nothing."""
    try:
        await client.head_object(**fields)
    except SentError as sent:
        return sent.url
    except BotoCoreError as error:
        return type(error).__name__
    raise AssertionError("sent")


async def url_of_ours(heads: FastHeads | SdkHeads, fields: dict[str, str]) -> tuple[str, bool]:
    """Return the same of ours, and whether the fast client would send it."""
    request = HeadRequest(
        bucket=fields["Bucket"],
        key=fields["Key"],
        version_id=fields.get("VersionId"),
        owner=fields.get("ExpectedBucketOwner"),
    )
    try:
        await heads.head(request)
    except SentError as sent:
        return sent.url, sent.fast
    except BotoCoreError as error:
        return type(error).__name__, False
    raise AssertionError("sent")


USUAL = (
    *("bucket", "abc", "a-b-c", "0bucket9", "1234", "a--b", 63 * "a", "xn--bucket", "b-s3alias-x"),
    *("my.bucket", "a.b.c", "a.b-c", "a-.b", "a.-b", "1.2.3", "aaa.bbb", "x.y.z.w"),
)
ODD = (
    *(
        "10.0.0.1",
        "192.168.5.4",
        "a..b",
        "ab",
        "a",
        64 * "a",
        "UPPER",
        "Bucket.Upper",
        "under_score",
    ),
    *("bucket--euw1-az1--x-s3", "point-abc-s3alias", "x--ol-s3", "table--table-s3", "mrap.mrap"),
    *(
        "-a-b",
        "a-b-",
        ".a.b",
        "a.b.",
        "bu cket",
        "bücket",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a:b",
        "a%2fb",
    ),
    *("arn:aws:s3:eu-west-1:111122223333:accesspoint/p", "b\r\nx: y", "..", "", "b\0"),
    *(
        "amzn-s3-demo-bucket--xa-s3",
        "xn--a--op-s3",
        "sthree-bucket",
        "999.999.999.999",
        "1.2.3.4.5",
    ),
)
BUCKETS = (*USUAL, *ODD)

KEYS = (
    *(
        "k",
        "a/b",
        "/k",
        "//k",
        "k/",
        "..",
        ".",
        "../../k",
        "a/../b",
        "a//b",
        "a+b",
        "a b",
        "~",
        "%2F",
    ),
    *("a?b", "a#b", "é/日本", "😀", "\r\n", "\0", "x=y&z", "'*!()", "k;v", '"', "\\", "bucket/k"),
)

ENDPOINTS: dict[str, str | None] = {
    "AWS": None,
    "of AWS": "https://s3.eu-west-1.amazonaws.com",
    "PrivateLink": "https://bucket.vpce-0a1b2c3d-4e5f.s3.eu-west-1.vpce.amazonaws.com",
    "a store": "https://store.example",
    "a port": "https://store.example:8443",
    "the usual port": "https://store.example:443",
    "http": "http://store.example",
    "http with a port": "http://store.example:9000",
    "localhost": "http://localhost:4566",
    "an address": "http://10.0.0.7:9000",
    "an address by TLS": "https://10.0.0.7",
    "version 6": "http://[::1]:9000",
    "a path": "https://store.example/base/path",
    "a path with a slash": "https://store.example:8443/base/",
    "a slash": "http://store.example:9000/",
    "capitals": "http://Store.Example:9000",
    "China": "https://s3.cn-north-1.amazonaws.com.cn",
}


def login(endpoint: str, *, path_style: bool) -> Login:
    """Make what an account with an endpoint of its own has."""
    return Login(name="x", session=None, endpoint_url=endpoint, path_style=path_style)


CASES = [
    *((endpoint, "the session's") for endpoint in ENDPOINTS.values()),
    *((ENDPOINTS[name], "path") for name in ("a store", "localhost", "an address")),
    *(
        (ENDPOINTS[name], "virtual")
        for name in ("a store", "localhost", "an address", "version 6", "a path")
    ),
]


def normal(url: str) -> str:
    """Write a URL with a small host's name and without the port that is its scheme's own."""
    parts = urlsplit(url)
    own = ":443" if parts.scheme == "https" else ":80"
    return parts._replace(netloc=parts.netloc.lower().removesuffix(own)).geturl()


async def compare(
    client: Any, heads: FastHeads | SdkHeads, buckets: tuple[str, ...], keys: tuple[str, ...]
) -> set[str]:
    """Compare what both would send for some keys in each of some buckets; return those that the fast client asks for."""
    asked = set()
    for number, bucket in enumerate(buckets):
        fields = {"Bucket": bucket, "Key": keys[number % len(keys)]}
        if number % 2:
            fields |= {"VersionId": "a+b/c=&?#%", "ExpectedBucketOwner": "111122223333"}
        told, fast = await url_of_ours(heads, fields)
        assert normal(told) == normal(await url_of_sdk(client, fields)), fields
        if fast:
            asked.add(bucket)
    return asked


@pytest.mark.parametrize(("endpoint", "style"), CASES)
async def test_both_clients_ask_the_same_url(endpoint: str | None, style: str) -> None:
    """For any bucket at any endpoint; and the fast one asks itself for all that are plainly named."""
    own = None
    if style != "the session's" and endpoint is not None:
        own = login(endpoint, path_style=style == "path")
    async with AwsSession(
        endpoint_url=endpoint, default_region=REGION, max_connections=1, choice="fast"
    ) as aws:
        client, heads = await both(aws, REGION, own)
        asked = await compare(client, heads, BUCKETS, KEYS)
    if endpoint is None or "[" not in endpoint or style != "virtual":
        assert asked >= set(USUAL)
    # A name that is no name of a bucket is never put into a host or a path.
    assert all(set(bucket) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for bucket in asked)
    assert not {bucket for bucket in asked if bucket.endswith(("-s3", "-s3alias"))}


@pytest.mark.parametrize(
    "region",
    [
        *("us-east-1", "us-west-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"),
        *("us-iso-east-1", "aws-global", "fips-us-east-1", "zz-made-up-1"),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "fast"])
async def test_regions(region: str, choice: ClientChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all partitions, and those that are none."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    async with AwsSession(
        endpoint_url=None, default_region=REGION, max_connections=1, choice=choice
    ) as aws:
        client, heads = await both(aws, region)
        asked = await compare(client, heads, USUAL, KEYS)
    if region == "aws-global":  # signed for us-east-1, which its name does not say
        assert not asked
    elif choice == "fast" or region in ("us-east-1", "us-west-2", "cn-north-1", "us-gov-west-1"):
        assert asked == set(USUAL)


SETTINGS = {
    "fips": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "dual-stack": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "both": {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "an endpoint of S3": {"AWS_ENDPOINT_URL_S3": "http://localhost:9000"},
    "an endpoint of all": {"AWS_ENDPOINT_URL": "https://store.example/base"},
    "the oldest region's own": {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"},
    "a profile: path": {"s3": "addressing_style = path"},
    "a profile: virtual": {"s3": "addressing_style = virtual"},
    "a profile: acceleration": {"s3": "use_accelerate_endpoint = true"},
    "a profile: virtual at a store": {
        "s3": "addressing_style = virtual",
        "AWS_ENDPOINT_URL_S3": "http://store.example:9000",
    },
    "a profile: another signature": {"s3": "signature_version = s3"},
}


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS)
def sdk_set_up(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Set the SDK up in one of the ways that it knows itself."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in request.param.items():
        if name == "s3":
            path = tmp_path / "config"
            path.write_text(f"[default]\ns3 =\n  {value}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("region", ["us-east-1", REGION])
@pytest.mark.parametrize("choice", ["auto", "fast"])
@pytest.mark.usefixtures("sdk_set_up")
async def test_whatever_the_sdk_is_set_up_for(region: str, choice: ClientChoice) -> None:
    """Both ask the same, be it in the environment or in a profile."""
    async with AwsSession(
        endpoint_url=None, default_region=REGION, max_connections=1, choice=choice
    ) as aws:
        client, heads = await both(aws, region)
        await compare(client, heads, BUCKETS, KEYS)


async def test_all_keys_in_one_bucket() -> None:
    """Each key, with and without a bucket in the host's name."""
    async with AwsSession(
        endpoint_url=None, default_region=REGION, max_connections=1, choice="fast"
    ) as aws:
        client, heads = await both(aws, REGION)
        for bucket in ("bucket", "my.bucket"):
            for key in KEYS:
                for version in (None, "", "null", "é", "a b", *KEYS[:4]):
                    fields = {"Bucket": bucket, "Key": key}
                    if version is not None:
                        fields["VersionId"] = version
                    told, fast = await url_of_ours(heads, fields)
                    assert fast
                    assert told == await url_of_sdk(client, fields)


async def test_an_unusual_bucket_is_told_once() -> None:
    """One line for each, however often it is asked for."""
    async with AwsSession(
        endpoint_url=None, default_region=REGION, max_connections=1, choice="fast"
    ) as aws:
        _, heads = await both(aws, REGION)
        with capture_logs() as logs:
            for bucket in ("UPPER", "b--euw1-az1--x-s3", "UPPER", "usual", "UPPER"):
                await url_of_ours(heads, {"Bucket": bucket, "Key": "k"})
    told = [(line["bucket"], line["reason"]) for line in logs if line["event"] == "sdk_used"]
    assert told == [
        ("UPPER", "the bucket's name is unusual"),
        ("b--euw1-az1--x-s3", "the bucket's name is unusual"),
    ]
