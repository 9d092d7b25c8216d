"""`crrmon deploy discover` on MiniStack over HTTP: two accounts, four regions, and what goes wrong."""

import ast
import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import yaml
from typer.testing import CliRunner, Result

from crrmon.cli import app
from crrmon.domain.deployment.permissions import DISCOVERY
from fakes.aws_stub import Answer, Asked, AwsStub, Hang, Reply, json_error, s3_error, sts_error
from fakes.ministack import ministack
from fakes.patience import HANGS_SECONDS

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("restored_logging")]

A, B = "111122223333", "444455556666"
REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "ap-southeast-2")
SRC = Path(__file__).parents[2] / "src/crrmon"


class Aws:
    """An emulator, and what stands in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = cache(self._client)

    def _client(self, service: str, account: str = A, region: str = "eu-west-1") -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=account,
            aws_secret_access_key="secret",  # noqa: S106 - for an emulator
        )

    def bucket(
        self, name: str, *destinations: str, account: str = A, region: str = "eu-west-1"
    ) -> None:
        """Make a bucket, versioned; it replicates to others, which are versioned already or not there."""
        s3 = self.client("s3", account, region)
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else where))
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if destinations:
            self.replicate(name, *destinations, account=account, region=region)

    def replicate(
        self, name: str, *destinations: str, account: str = A, region: str = "eu-west-1"
    ) -> None:
        """Have a bucket replicate."""
        rules = [
            {
                "ID": f"to-{destination}",
                "Status": "Enabled",
                "Priority": number,
                "Filter": {"Prefix": ""},
                "DeleteMarkerReplication": {"Status": "Disabled"},
                "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
            }
            for number, destination in enumerate(destinations)
        ]
        role_arn = f"arn:aws:iam::{account}:role/replication"
        self.client("s3", account, region).put_bucket_replication(
            Bucket=name, ReplicationConfiguration={"Role": role_arn, "Rules": rules}
        )

    def trail(self, name: str, *, account: str = A, region: str = "eu-west-1", **more: Any) -> str:
        """Make a trail that is on; of the writes to some buckets."""
        buckets = more.pop("buckets")
        cloudtrail = self.client("cloudtrail", account, region)
        made = cloudtrail.create_trail(Name=name, S3BucketName="trail-logs", **more)
        fields = [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "resources.ARN", "StartsWith": [f"arn:aws:s3:::{b}/" for b in buckets]},
        ]
        cloudtrail.put_event_selectors(
            TrailName=name,
            AdvancedEventSelectors=[{"Name": "writes", "FieldSelectors": fields}],
        )
        cloudtrail.start_logging(Name=name)
        return str(made["TrailARN"])


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Start an emulator; the credentials at hand are those of account A."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", A)
    with ministack() as url:
        yield Aws(url)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., str]:
    """Write a configuration."""

    def write(url: str, *accounts: Mapping[str, object]) -> str:
        path = tmp_path / "crrmon.yaml"
        settings = {
            "aws": {"endpoint_url": url, "region": "eu-west-1"},
            "accounts": list(accounts),
        }
        path.write_text(yaml.safe_dump(settings))
        return str(path)

    return write


def role(account: str, name: str = "crrmon-deployer", **more: str) -> dict[str, str]:
    return {"id": account, "role_arn": f"arn:aws:iam::{account}:role/{name}", **more}


def discover(config: str, *arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["deploy", "discover", "--config", config, *arguments])


def told(result: Result) -> dict[str, Any]:
    """Read what was printed as JSON."""
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


# ---- what is there ----


def test_300_buckets_in_4_regions_of_2_accounts(aws: Aws, configured: Callable[..., str]) -> None:
    """All of them, by a process of its own, in the regions and accounts that they are in."""
    places = [(account, region) for account in (A, B) for region in REGIONS]
    for account, region in places:
        aws.client("s3", account, region)  # making them is not safe in several threads

    def make(number: int) -> None:
        account, region = places[number % len(places)]
        aws.bucket(f"acme-{number:03d}", account=account, region=region)

    def replicate(number: int) -> None:
        account, region = places[number % len(places)]
        target = f"acme-{(number + 1) % 300:03d}"
        aws.replicate(f"acme-{number:03d}", target, account=account, region=region)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(300)))
        list(threads.map(replicate, range(300)))

    done = subprocess.run(  # noqa: S603 - our own
        [
            sys.executable,
            "-m",
            "crrmon",
            "deploy",
            "discover",
            "-c",
            configured(aws.url, role(B)),
            "-o",
            "json",
        ],
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=True,
        env=os.environ,
    )

    found = json.loads(done.stdout)
    assert found["complete"]
    got = {bucket["bucket"]: (bucket["account"], bucket["region"]) for bucket in found["buckets"]}
    assert got == {f"acme-{n:03d}": places[n % len(places)] for n in range(300)}
    rules = {bucket["bucket"]: bucket["rules"][0]["destination"] for bucket in found["buckets"]}
    assert rules == {f"acme-{n:03d}": f"acme-{(n + 1) % 300:03d}" for n in range(300)}
    assert len(found["destinations"]) == 300
    assert all(destination["found"] for destination in found["destinations"])
    assert "accounts listed" in done.stderr


def test_what_tells_of_a_bucket_today(aws: Aws, configured: Callable[..., str]) -> None:
    """Notifications with whom, what and which keys; the switch for EventBridge; trails that record its writes."""
    for name in ("trail-logs", "plain", "src"):
        aws.bucket(name)
    aws.bucket("quiet", "plain")
    aws.bucket("dst-b", "src", account=B, region="us-east-1")
    aws.replicate("src", "plain", "dst-b")
    queue = aws.client("sqs").create_queue(QueueName="ingest")["QueueUrl"]
    assert queue
    arn = f"arn:aws:sqs:eu-west-1:{A}:ingest"
    keys = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}}
    entry = {"Id": "etl", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": keys}
    aws.client("s3").put_bucket_notification_configuration(
        Bucket="src",
        NotificationConfiguration={"QueueConfigurations": [entry], "EventBridgeConfiguration": {}},
    )
    everywhere = aws.trail("writes", buckets=["src", "dst-b"], IsMultiRegionTrail=True)
    theirs = aws.trail("theirs", account=B, region="us-east-1", buckets=["dst-b"])
    off = aws.trail("off", buckets=["src"])
    aws.client("cloudtrail").stop_logging(Name=off)

    table = discover(configured(aws.url, role(B)))
    found = told(discover(configured(aws.url, role(B)), "-o", "json"))

    assert table.exit_code == 0
    lines = {
        cells[2]: cells
        for line in table.stdout.splitlines()
        if len(cells := re.split(r"\s{2,}", line.strip())) == 5
    }
    assert lines["src"] == [
        A,
        "eu-west-1",
        "src",
        "dst-b, plain",
        "queue ingest (ObjectCreated:* of in/*); EventBridge; trail writes",
    ]
    assert lines["quiet"][3:] == ["plain", "nothing"]
    assert lines["dst-b"] == [B, "us-east-1", "dst-b", "src", "trail theirs"]
    assert "plain" not in lines
    assert "5 buckets in 2 regions of 2 accounts: 3 replicate, to 3 buckets." in table.stdout
    buckets = {bucket["bucket"]: bucket for bucket in found["buckets"]}
    assert buckets["src"]["notifications"] == [
        {
            "id": "etl",
            "to": "queue",
            "arn": arn,
            "events": ["s3:ObjectCreated:*"],
            "prefix": "in/",
            "suffix": "",
        }
    ]
    assert buckets["src"]["eventbridge"]
    assert buckets["src"]["trails"] == [everywhere]
    assert buckets["dst-b"]["trails"] == [theirs]
    assert not buckets["plain"]["replicates"]
    # Two rules of one source, and none has metrics.
    assert buckets["src"]["rules_without_metrics"] == ["to-dst-b", "to-plain"]


def test_nothing_is_there(aws: Aws, configured: Callable[..., str]) -> None:
    """That is said, and is no failure."""
    result = discover(configured(aws.url))

    assert result.exit_code == 0
    assert result.stdout == "There are no buckets.\n"


def test_a_destination_in_an_account_that_was_not_searched(
    aws: Aws, configured: Callable[..., str]
) -> None:
    """It is named with what to do."""
    aws.bucket("src", "elsewhere")

    result = discover(configured(aws.url))

    assert result.exit_code == 0
    assert (
        "destination elsewhere: no account that was searched has it: add its account to those to search"
        in result.stdout
    )


def test_a_profile_is_used(
    aws: Aws, configured: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the SDK's shared files; and one that belongs to another account than is said is refused."""
    shared = tmp_path / "credentials"
    shared.write_text(f"[prod]\naws_access_key_id = {B}\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    aws.bucket("theirs", account=B)

    right = told(discover(configured(aws.url, {"id": B, "profile": "prod"}), "-o", "json"))
    wrong = discover(configured(aws.url, {"id": "777788889999", "profile": "prod"}))

    assert [bucket["account"] for bucket in right["buckets"]] == [B]
    assert wrong.exit_code == 1
    assert f"account 777788889999: its credentials are those of account {B}" in wrong.stdout


def test_accounts_that_cannot_be_searched_are_left_out(
    aws: Aws, configured: Callable[..., str]
) -> None:
    """S3-compatible stores, and the account that stands for all others."""
    store = {"id": "minio", "endpoint_url": "http://127.0.0.1:9", "buckets": ["orders"]}
    others = {"id": "*", "role_arn": "arn:aws:iam::{account}:role/crrmon"}
    aws.bucket("mine")

    found = told(discover(configured(aws.url, store, others), "-o", "json"))

    assert found["complete"]
    assert [bucket["bucket"] for bucket in found["buckets"]] == ["mine"]


# ---- who may not ----


def test_no_credentials(
    aws: Aws, configured: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is said with how to get some."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    result = discover(configured(aws.url, role(B)))

    assert result.exit_code == 1
    assert result.stdout == (
        "Nothing could be read:\n"
        "the account of the credentials at hand: NoCredentialsError; log in (aws sso login), or set AWS_PROFILE or the "
        "AWS_* variables of an access key\n"
        f"account {B}: NoCredentialsError; log in (aws sso login), or set AWS_PROFILE or the AWS_* variables of an access "
        "key\n"
    )


def test_half_a_key_is_wrong_usage(
    configured: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be seen without asking is said before anybody is asked."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    result = discover(configured("http://127.0.0.1:9"))

    assert result.exit_code == 2
    assert "AWS_SECRET_ACCESS_KEY: it is not set, but AWS_ACCESS_KEY_ID is" in result.stderr


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Start an emulator that goes by policies, with a user in account A who may read all buckets but one."""
    with ministack(AUTH="true", AWS_SECRET_ACCESS_KEY="secret") as url:  # noqa: S106 - for an emulator
        aws = Aws(url)
        for name in ("open", "secret"):
            aws.bucket(name)
        iam = aws.client("iam")
        iam.create_user(UserName="operator")
        reading = [
            "s3:ListAllMyBuckets",
            "s3:GetReplicationConfiguration",
            "s3:GetBucketNotification",
        ]
        allow(
            iam,
            {"Effect": "Allow", "Action": reading, "Resource": "*"},
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
            {"Effect": "Deny", "Action": reading[2], "Resource": "arn:aws:s3:::secret"},
        )
        key = iam.create_access_key(UserName="operator")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        yield aws


def allow(iam: Any, *statements: Mapping[str, Any]) -> None:
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    iam.put_user_policy(
        UserName="operator", PolicyName="discovery", PolicyDocument=json.dumps(policy)
    )


def test_a_bucket_that_may_not_be_read(guarded: Aws, configured: Callable[..., str]) -> None:
    """It is listed with what AWS said, the one permission that is missing and who lacks it; the other one is read."""
    result = discover(configured(guarded.url))
    found = told(discover(configured(guarded.url), "-o", "json"))

    assert result.exit_code == 1
    assert [bucket["bucket"] for bucket in found["buckets"]] == ["open"]
    (unread,) = found["unread_buckets"]
    assert unread["bucket"] == "secret"
    assert unread["reason"].startswith("AccessDenied (")
    assert unread["reason"].endswith(
        f"; grant s3:GetBucketNotification on bucket secret to arn:aws:iam::{A}:user/operator"
    )
    assert f"bucket secret: {unread['reason']}" in result.stdout


def test_what_many_buckets_lack_is_said_once(guarded: Aws, configured: Callable[..., str]) -> None:
    """Not in a line for each, although AWS and the remedy name each of them; the JSON has them all."""
    for number in range(20):
        guarded.bucket(f"b-{number:02d}")
    allow(guarded.client("iam"), {"Effect": "Allow", "Action": "s3:List*", "Resource": "*"})

    result = discover(configured(guarded.url))
    found = told(discover(configured(guarded.url), "-o", "json"))

    (line,) = (line for line in result.stdout.splitlines() if line.startswith("bucket"))
    assert line.startswith("buckets b-00, b-01, b-02, b-03, b-04 and 17 more: AccessDenied (")
    assert line.endswith(
        f"; grant s3:GetReplicationConfiguration on bucket NAME to arn:aws:iam::{A}:user/operator"
    )
    assert len(found["unread_buckets"]) == 22
    assert "on bucket b-07 to" in found["unread_buckets"][7]["reason"]


def test_one_of_several_roles_cannot_be_assumed(
    guarded: Aws, configured: Callable[..., str]
) -> None:
    """Its line says which role, by whom, with which external id; the other accounts are searched."""
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{A}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "sesame"}},
    }
    iam = guarded.client("iam", B)
    iam.create_role(
        RoleName="guest",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    all_of_it = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.put_role_policy(
        RoleName="guest",
        PolicyName="all",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [all_of_it]}),
    )
    guarded.bucket("theirs", account=B)
    absent = role("777788889999")

    right = discover(configured(guarded.url, role(B, "guest", external_id="sesame"), absent))
    wrong = discover(configured(guarded.url, role(B, "guest", external_id="mellon")))

    assert right.exit_code == 1
    assert "2 buckets in 1 region of 2 accounts" in right.stdout
    assert (
        "account 777788889999: arn:aws:iam::777788889999:role/crrmon-deployer cannot be assumed: AccessDenied ("
        in right.stdout
    )
    assert (
        "the credentials at hand, and have the role's trust policy allow it (no external id is sent;"
        in right.stdout
    )
    assert f"account {B}:" not in right.stdout
    assert f"account {B}: arn:aws:iam::{B}:role/guest cannot be assumed" in wrong.stdout
    assert "(external id mellon is sent; accounts[].external_id must be" in wrong.stdout


def test_an_account_whose_buckets_may_not_be_listed(
    guarded: Aws, configured: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permission is named."""
    allow(guarded.client("iam"), {"Effect": "Allow", "Action": "sts:*", "Resource": "*"})

    result = discover(configured(guarded.url))

    assert result.exit_code == 1
    assert f"grant s3:ListAllMyBuckets to arn:aws:iam::{A}:user/operator" in result.stdout


def test_somebody_who_is_logged_out(
    aws: Aws, configured: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of single sign-on the profile to log in with is named; other accounts are searched."""
    shared = tmp_path / "config"
    shared.write_text(
        "[profile prod]\nsso_session = work\nsso_account_id = 444455556666\nsso_role_name = Admin\n"
        "[sso-session work]\nsso_region = eu-west-1\nsso_start_url = https://example.awsapps.com/start\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(shared))
    monkeypatch.setenv("HOME", str(tmp_path))
    aws.bucket("mine")

    result = discover(configured(aws.url, {"id": B, "profile": "prod"}))

    assert result.exit_code == 1
    assert "1 bucket in 1 region of 1 account" in result.stdout
    assert f"account {B}: " in result.stdout
    assert "; log in (aws sso login --profile prod), or correct the profile" in result.stdout


# ---- what no emulator does ----


class Between:
    """Stands between the command and an emulator, and answers some requests itself."""

    def __init__(self, stub: AwsStub, aws: Aws) -> None:
        self.url = stub.url
        self.instead: Callable[[str, str], Reply | None] = lambda _service, _region: None
        self.asked: list[tuple[str, str]] = []
        """Service and region of each request."""
        self.targets: list[str] = []
        """Path and query of each."""
        host = urlsplit(aws.url).netloc
        self._emulator = lambda: http.client.HTTPConnection(host, timeout=HANGS_SECONDS)
        stub.answer_by(self._answer)

    def _answer(self, asked: Asked) -> Reply:
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", asked.headers["Authorization"])
        assert scope is not None
        region, service = scope.groups()
        self.asked.append((service, region))
        self.targets.append(asked.target)
        if (own := self.instead(service, region)) is not None:
            return own
        connection = self._emulator()
        headers = {name: value for name, value in asked.headers.items() if name.lower() != "host"}
        connection.request(asked.method, asked.target, asked.body, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return Answer(answer.status, {"Content-Type": answer.headers["Content-Type"]}, body)


@pytest.fixture
async def between(aws: Aws) -> AsyncIterator[Between]:
    """Put something in front of the emulator that answers as only AWS does."""
    async with AwsStub() as stub:
        yield Between(stub, aws)


async def discover_aside(config: str, *arguments: str) -> Result:
    """Run the command in a thread: what it asks is answered by this one."""
    return await asyncio.to_thread(discover, config, *arguments)


@pytest.mark.parametrize("service", ["cloudtrail", "s3"])
async def test_a_region_that_is_not_enabled(
    aws: Aws, between: Between, configured: Callable[..., str], service: str
) -> None:
    """It is one line with the way out, whichever service shows it first, and the other regions are read."""
    for number in range(30):
        aws.bucket(f"far-{number}", region="af-south-1")
    aws.bucket("src", "far-1")
    refusals = {
        "cloudtrail": json_error(400, "UnrecognizedClientException", "token invalid"),
        "s3": s3_error(403, "InvalidAccessKeyId", "does not exist in our records"),
    }
    between.instead = lambda asked, region: (
        refusals[service] if (asked, region) == (service, "af-south-1") else None
    )

    result = await discover_aside(configured(between.url))
    excluded = await discover_aside(configured(between.url), "--exclude-region", "af-south-1")

    assert result.exit_code == 1
    code = "InvalidAccessKeyId" if service == "s3" else "UnrecognizedClientException"
    lines = result.stdout.splitlines()[-4:]
    assert lines == [
        "1 bucket in 1 region of 1 account: 1 replicates, to 1 bucket. Not everything could be read:",
        (
            f"region af-south-1 of account {A}: {code}; the credentials are good elsewhere, so the region is probably not "
            "enabled in the account: enable it, or leave it out (--exclude-region af-south-1)"
        ),
        "buckets far-0, far-1, far-10, far-11, far-12 and 25 more: nothing in region af-south-1 can be read",
        "destination far-1: nothing in region af-south-1 can be read",
    ]
    assert excluded.exit_code == 0


@pytest.mark.parametrize(
    ("service", "refusal", "subject"),
    [
        (
            "sts",
            sts_error(
                403, "ExpiredToken", "The security token included in the request is expired"
            ),
            "the account of the credentials at hand",
        ),
        (
            "s3",
            s3_error(400, "ExpiredToken", "The provided token has expired."),
            f"account {A}",
        ),
    ],
)
async def test_expired_credentials(
    between: Between,
    configured: Callable[..., str],
    service: str,
    refusal: Answer,
    subject: str,
) -> None:
    """Whether they were expired before or expire meanwhile, that is said, and what to do."""
    between.instead = lambda asked, _: refusal if asked == service else None

    result = await discover_aside(configured(between.url))

    assert result.exit_code == 1
    assert f"{subject}: ExpiredToken (" in result.stdout
    assert "; the credentials have expired: log in again, or set new ones" in result.stdout


async def test_trails_that_may_not_be_read_are_said_of_what_replicates(
    aws: Aws, between: Between, configured: Callable[..., str]
) -> None:
    """Without that permission all else is found, and counts as done."""
    aws.bucket("dst")
    aws.bucket("src", "dst")
    between.instead = lambda asked, _: (
        json_error(400, "AccessDeniedException", "not authorized")
        if asked == "cloudtrail"
        else None
    )

    result = await discover_aside(configured(between.url))

    assert result.exit_code == 0
    assert (
        "bucket src: its trails are not known: AccessDeniedException (not authorized); grant cloudtrail:DescribeTrails to "
        f"arn:aws:iam::{A}:root" in result.stdout
    )
    assert "bucket dst:" not in result.stdout


async def test_buckets_are_listed_by_pages(
    aws: Aws, between: Between, configured: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are read; AWS tells the regions to none but a request that limits the page, as emulators do to any."""
    monkeypatch.setattr("crrmon.adapters.provisioning.surveys._PAGE", 2)
    for number in range(5):
        aws.bucket(f"b-{number}")

    found = told(await discover_aside(configured(between.url), "-o", "json"))

    assert len(found["buckets"]) == 5
    assert sum("max-buckets=2" in target for target in between.targets) == 3


@pytest.mark.parametrize("call", ["replication", "notification"])
async def test_a_bucket_deleted_meanwhile_is_left_out(
    aws: Aws, between: Between, configured: Callable[..., str], call: str
) -> None:
    """Somebody deletes it after it was listed, and before or between the calls about it."""
    aws.bucket("stays")
    aws.bucket("goes")
    between.instead = lambda _service, _region: (
        s3_error(404, "NoSuchBucket", "The specified bucket does not exist")
        if between.targets[-1] == f"/goes?{call}"
        else None
    )

    found = told(await discover_aside(configured(between.url), "-o", "json"))

    assert f"/goes?{call}" in between.targets
    assert found["complete"]
    assert [bucket["bucket"] for bucket in found["buckets"]] == ["stays"]


async def test_s3_that_asks_for_fewer_calls_is_asked_again(
    aws: Aws, between: Between, configured: Callable[..., str]
) -> None:
    """Being throttled for a while is no failure."""
    for number in range(5):
        aws.bucket(f"b-{number}")
    refusals = [s3_error(503, "SlowDown", "Please reduce your request rate.")]
    between.instead = lambda service, _: (
        refusals.pop() if refusals and service == "s3" and len(between.asked) > 5 else None
    )

    found = told(await discover_aside(configured(between.url), "-o", "json"))

    assert not refusals
    assert found["complete"]
    assert len(found["buckets"]) == 5


async def test_ctrl_c_ends_it(between: Between, configured: Callable[..., str]) -> None:
    """At once, although somebody still waits for an answer, and it says that nothing was changed."""
    reached = asyncio.Event()

    def hangs(_service: str, _region: str) -> Reply:
        reached.set()
        return Hang()

    between.instead = hangs
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crrmon", "deploy", "discover", "-c", configured(between.url)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(HANGS_SECONDS):
        await reached.wait()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()

    assert process.returncode == 130
    assert said.decode().splitlines()[-1] == "crrmon: interrupted; nothing was changed"


# ---- permissions ----


def called() -> set[str]:
    """Return the operations that the survey calls, as methods of boto3's clients and by paginators."""
    tree = ast.parse((SRC / "adapters/provisioning/surveys.py").read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="get_paginator"), args=[ast.Constant(str(name))]
            ):
                names.add(name)
            case ast.Call(func=ast.Attribute(attr=name)):
                names.add(name)
    operations = set()
    for service in ("s3", "sts", "cloudtrail"):
        client = boto3.client(service, region_name="eu-west-1")
        known = client.meta.method_to_api_mapping
        operations |= {f"{service}:{known[name]}" for name in names if name in known}
    return operations


_BY_OTHER_NAMES = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:GetBucketReplication": "s3:GetReplicationConfiguration",
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
}


def test_every_call_has_its_action_and_the_help_names_them() -> None:
    """What the survey calls, what is written down for policies, and what the help says are the same actions."""
    needed = {need.action for need in DISCOVERY}
    help_text = " ".join(CliRunner().invoke(app, ["deploy", "discover", "--help"]).stdout.split())

    assert {_BY_OTHER_NAMES.get(name, name) for name in called()} == {
        *needed,
        "sts:GetCallerIdentity",
    }
    said: Sequence[str] = re.findall(r"\b(?:s3|cloudtrail|sts):\w+", help_text)
    assert set(said) == {*needed, "sts:AssumeRole"}
