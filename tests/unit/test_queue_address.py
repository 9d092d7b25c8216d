"""What the URL of a queue tells."""

import pytest

from crrmon.domain.queue_address import is_of_aws, queue_address

PATH = "/111122223333/q"


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        (f"https://sqs.eu-west-1.amazonaws.com{PATH}", "eu-west-1", None),
        (f"https://SQS.eu-west-1.amazonaws.com:443{PATH}/", "eu-west-1", None),
        (f"https://eu-west-1.queue.amazonaws.com{PATH}", "eu-west-1", None),
        (f"https://queue.amazonaws.com{PATH}", None, None),
        (f"https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com{PATH}", "eu-west-1", "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com"),
        (f"https://sqs-fips.us-east-1.amazonaws.com{PATH}", "us-east-1", "https://sqs-fips.us-east-1.amazonaws.com"),
        (f"https://sqs.eu-west-1.api.aws{PATH}", "eu-west-1", "https://sqs.eu-west-1.api.aws"),
        (f"https://sqs.cn-north-1.amazonaws.com.cn{PATH}", "cn-north-1", None),
        (f"https://sqs.cn-north-1.api.amazonwebservices.com.cn{PATH}", "cn-north-1", "https://sqs.cn-north-1.api.amazonwebservices.com.cn"),
        (f"https://sqs.eusc-de-east-1.amazonaws.eu{PATH}", "eusc-de-east-1", None),
        (f"https://sqs.us-iso-east-1.c2s.ic.gov{PATH}", "us-iso-east-1", None),
        (f"https://sqs.us-isob-east-1.sc2s.sgov.gov{PATH}", "us-isob-east-1", None),
        (f"http://elasticmq:9324{PATH}", None, "http://elasticmq:9324"),
        (f"http://[::1]:9324{PATH}", None, "http://[::1]:9324"),
        (f"https://sqs.eu-west-1.amazonaws.com.evil.example{PATH}", None, "https://sqs.eu-west-1.amazonaws.com.evil.example"),
    ],
)  # fmt: skip
def test_the_host_tells_region_and_whom_to_ask(
    url: str, region: str | None, endpoint: str | None
) -> None:
    """In every partition; where the SDK would ask the same host by itself, it is left to it."""
    address = queue_address(url)

    assert (address.name, address.region, address.endpoint) == ("q", region, endpoint)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://monitoring.eu-west-1.amazonaws.com", True),
        ("https://vpce-0a.sqs.eu-west-1.vpce.amazonaws.com:443/", True),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", True),
        ("https://sqs.eu-west-1.api.aws", True),
        ("http://localhost:4566", False),
        ("https://amazonaws.com.evil.example", False),
        ("https://sqs.eu-west-1.localhost.localstack.cloud:4566", False),
    ],
)
def test_who_answers_for_aws_is_known_by_the_host(url: str, expected: bool) -> None:  # noqa: FBT001
    """An endpoint in a VPC is AWS as well; an emulator is not, however it was set."""
    assert is_of_aws(url) is expected


@pytest.mark.parametrize(
    "other",
    [
        f"https://sqs.eu-west-1.amazonaws.com{PATH}/",
        f"https://sqs.eu-west-1.amazonaws.com/{PATH}",
        f"http://sqs.eu-west-1.amazonaws.com{PATH}",
        f"https://SQS.EU-WEST-1.AmazonAWS.com{PATH}",
        f"https://sqs.eu-west-1.amazonaws.com:443{PATH}",
        f"https://sqs.eu-west-1.amazonaws.com.{PATH}",
        f"https://eu-west-1.queue.amazonaws.com{PATH}",
        f"https://sqs-fips.eu-west-1.amazonaws.com{PATH}",
        f"https://sqs.eu-west-1.api.aws{PATH}",
        f"https://vpce-0a1b.sqs.eu-west-1.vpce.amazonaws.com{PATH}",
    ],
)
def test_r12_one_queue_is_known_under_all_its_urls(other: str) -> None:
    """However it is spelt, and whoever is asked."""
    url = f"https://sqs.eu-west-1.amazonaws.com{PATH}"

    assert queue_address(other).identity == queue_address(url).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-2.amazonaws.com/1/q"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com/2/q"),
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com/1/Q"),
        ("http://localhost:4566/1/q", "http://localhost:4567/1/q"),
        ("http://localhost:4566/1/q", "http://other:4566/1/q"),
    ],
)
def test_r12_other_queues_are_others(one: str, other: str) -> None:
    """Another region, account, name (whose case counts), port or host."""
    assert queue_address(one).identity != queue_address(other).identity
