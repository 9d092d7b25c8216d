"""What the URL of a queue tells."""

import itertools

import pytest
from botocore.exceptions import EndpointVariantError
from botocore.regions import EndpointResolver
from botocore.session import Session

from crrmon.domain.queue_address import is_of_aws, queue_address
from fakes.queue_hosts import ROWS, Row

PATH = "/111122223333/q"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.url)
def test_e2_the_region_is_read_off_the_url_in_every_partition(row: Row) -> None:
    """And off nothing else than a host of AWS; the name is the last part of the path."""
    address = queue_address(row.url)

    assert (address.name, address.region) == (row.url.rpartition("/")[2], row.region)
    assert address.endpoint in (None, row.asked)


def test_e2_every_endpoint_that_the_sdk_knows_is_read_as_the_sdk_means_it() -> None:
    """In all its partitions and regions, with FIPS, dual-stack, both and neither: none falls to the default region."""
    session = Session()
    resolver = EndpointResolver(session.get_data("endpoints"))
    read = 0
    for partition in session.get_available_partitions():
        for region in session.get_available_regions("sqs", partition):
            for fips, dual in itertools.product((False, True), repeat=2):
                try:
                    told = resolver.construct_endpoint(
                        "sqs",
                        region,
                        partition,
                        use_fips_endpoint=fips,
                        use_dualstack_endpoint=dual,
                    )
                except EndpointVariantError:
                    continue
                address = queue_address(f"https://{told['hostname']}{PATH}")
                assert address.region == region, told["hostname"]
                assert is_of_aws(f"https://{told['hostname']}")
                read += 1

    assert read > 100


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
