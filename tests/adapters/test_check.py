"""`crrmon check`: one call of each kind, and what is missing where one is denied."""

import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
import yaml
from typer.testing import CliRunner, Result

from crrmon import app as composition
from crrmon.cli import app
from crrmon.cli import check as check_command
from crrmon.config import Settings
from crrmon.domain.checks import Check, Verdict
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import AbsentLedgerError, Ledger
from crrmon.services.checkup import Checkup, Estate
from fakes.aws_stub import (
    Answer,
    Asked,
    AwsStub,
    Hang,
    Reset,
    json_answer,
    json_error,
    role_credentials,
    s3_error,
    sts_error,
)
from fakes.ledgers import SqliteLedger
from fakes.s3 import FakeS3

pytestmark = pytest.mark.usefixtures("restored_logging")

REGION = "eu-west-1"
QUEUE = f"https://sqs.{REGION}.amazonaws.com/210987654321/crrmon"
CONFIGURATION = """\
<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Role>r</Role><Rule><ID>one</ID>
<Status>Enabled</Status><Priority>1</Priority><Filter><Prefix>in/</Prefix></Filter>
<Destination><Bucket>arn:aws:s3:::dst</Bucket></Destination></Rule></ReplicationConfiguration>"""
IDENTITY = """\
<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::210987654321:assumed-role/crrmon/pod</Arn><UserId>U</UserId><Account>210987654321</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
XML = {"Content-Type": "text/xml"}

Said = Answer | Hang | Reset


class Aws:
    """Answers as AWS does to a daemon that may do all it must; what is in `instead` it may not."""

    def __init__(self, stub: AwsStub) -> None:
        self.instead: dict[str, Said] = {}
        self.shut_out = "-"
        """Account whose role nobody may take."""
        self.asked: list[tuple[str, Asked]] = []
        stub.answer_by(self._choose)

    def _choose(self, asked: Asked) -> Said:
        call = _call(asked)
        self.asked.append((call, asked))
        if call == "AssumeRole" and self.shut_out in asked.body.decode():
            return sts_error(403, "AccessDenied", "not authorized")
        return self.instead.get(call) or _ALLOWED[call]

    @property
    def calls(self) -> set[str]:
        """Name what was asked."""
        return {call for call, _ in self.asked}


def _call(asked: Asked) -> str:
    """Name the call that a request is."""
    if "X-Amz-Target" in asked.headers:
        return asked.headers["X-Amz-Target"].partition(".")[2]
    if asked.method == "POST":
        form = parse_qs(asked.body.decode(errors="replace"))
        return form["Action"][0] if "Action" in form else "PutMetricData"
    if asked.method == "GET":
        return "GetBucketReplication"
    if asked.target.strip("/").partition("?")[0].count("/") == 0:
        return "HeadBucket"
    return "HeadObject of a version" if "versionId" in asked.query else "HeadObject of a key"


_REFUSED_BATCH = json_answer(
    {"Failed": [{"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}]}
)
_COUNTS = {
    "ApproximateNumberOfMessages": "12",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
}
_ALLOWED: Mapping[str, Said] = {
    "GetCallerIdentity": Answer(200, XML, IDENTITY.encode()),
    "AssumeRole": role_credentials("ROLE", ends_at=4_102_444_800.0),
    "GetQueueAttributes": json_answer({"Attributes": _COUNTS}),
    "DeleteMessageBatch": _REFUSED_BATCH,
    "ChangeMessageVisibilityBatch": _REFUSED_BATCH,
    "GetBucketReplication": Answer(200, XML, CONFIGURATION.encode()),
    "HeadObject of a version": Answer(404),
    "HeadObject of a key": Answer(404),
    "HeadBucket": Answer(200),
    "PutMetricData": json_error(400, "MissingParameter", "The parameter MetricData is required."),
}


@pytest.fixture
def aws(stub: AwsStub) -> Aws:
    """Have everything allowed."""
    return Aws(stub)


@pytest.fixture
def settings(stub: AwsStub, tmp_path: Path) -> Settings:
    """Name a queue, a bucket and a file that is not there yet."""
    return Settings.model_validate(
        {
            "queues": [{"url": QUEUE}],
            "buckets": ["src"],
            "aws": {"region": REGION, "endpoint_url": stub.url},
            "ledger": {"path": str(tmp_path / "crrmon.db")},
        }
    )


async def checked(settings: Settings) -> dict[tuple[str, str], Check]:
    """Try all calls."""
    return {(one.subject, one.call): one for one in await composition.check(settings)}


def left_in(folder: Path) -> list[str]:
    """Name what a folder holds."""
    return [one.name for one in folder.iterdir()]


def verdicts(checks: Mapping[tuple[str, str], Check]) -> dict[str, set[str]]:
    """Sort the calls by what came of them."""
    found: dict[str, set[str]] = {}
    for (subject, call), one in checks.items():
        found.setdefault(one.verdict.value, set()).add(f"{subject}: {call}")
    return found


async def test_all_that_can_be_tried_passes(aws: Aws, settings: Settings, tmp_path: Path) -> None:
    """What cannot be tried is unproved; nothing is received, and nothing is left behind."""
    checks = await checked(settings)

    assert verdicts(checks) == {
        "passed": {
            "credentials: GetCallerIdentity",
            "queue crrmon: GetQueueAttributes",
            "queue crrmon: DeleteMessageBatch",
            "queue crrmon: ChangeMessageVisibilityBatch",
            "bucket src: GetBucketReplication",
            "bucket src: HeadObject of a version",
            "bucket src: HeadObject of a key",
            "ledger: open",
            "ledger: read",
            "ledger: write",
        },
        "unproved": {"queue crrmon: ReceiveMessage", "cloudwatch: PutMetricData"},
    }
    assert "ReceiveMessage" not in aws.calls
    assert "assumed-role/crrmon" in checks["credentials", "GetCallerIdentity"].found
    assert left_in(tmp_path) == []
    looked = next(asked for call, asked in aws.asked if call == "HeadObject of a version")
    assert looked.target.startswith("/src/in/crrmon-check-")
    assert looked.query["versionId"] == "null"


DENIED_JSON = json_error(400, "AccessDeniedException", "User is not authorized")
DENIED_HEAD = Answer(403)


DENIED = {
    "GetCallerIdentity": (
        sts_error(403, "InvalidClientTokenId"),
        "credentials",
        "check the daemon's credentials",
    ),
    "GetQueueAttributes": (DENIED_JSON, "queue crrmon", "grant sqs:GetQueueAttributes"),
    "DeleteMessageBatch": (DENIED_JSON, "queue crrmon", "grant sqs:DeleteMessage "),
    "ChangeMessageVisibilityBatch": (
        DENIED_JSON,
        "queue crrmon",
        "grant sqs:ChangeMessageVisibility",
    ),
    "GetBucketReplication": (
        s3_error(403, "AccessDenied"),
        "bucket src",
        "grant s3:GetReplicationConfiguration",
    ),
    "HeadObject of a version": (DENIED_HEAD, "bucket src", "grant s3:GetObjectVersion "),
    "HeadObject of a key": (DENIED_HEAD, "bucket src", "grant s3:GetObject "),
    "PutMetricData": (
        json_error(403, "AccessDenied"),
        "cloudwatch",
        "grant cloudwatch:PutMetricData for namespace CRRMonitor",
    ),
}
"""What is answered to each call, whose line tells of it, and what that must say."""


async def test_what_is_denied_is_told_with_the_permission(aws: Aws, settings: Settings) -> None:
    """Each call that is denied fails and names what to grant, and nothing else is said to be wrong."""
    aws.instead |= {call: answer for call, (answer, _, _) in DENIED.items()}

    checks = await checked(settings)

    for call, (_, subject, told) in DENIED.items():
        assert told in checks[subject, call].found
    assert verdicts(checks)["failed"] == {
        f"{subject}: {call}" for call, (_, subject, _) in DENIED.items()
    }
    # S3 said that the bucket may be listed, so its 403 is about the objects.
    assert checks["bucket src", "HeadBucket"].verdict is Verdict.PASSED


async def test_a_403_for_want_of_list_bucket_names_that(aws: Aws, settings: Settings) -> None:
    """S3 answers 403 for what is not there to whoever may not list: that the looks are denied is not known."""
    aws.instead |= {
        "HeadObject of a version": DENIED_HEAD,
        "HeadObject of a key": DENIED_HEAD,
        "HeadBucket": DENIED_HEAD,
    }

    checks = await checked(settings)

    assert verdicts(checks)["failed"] == {"bucket src: HeadBucket"}
    assert "grant s3:ListBucket on bucket src" in checks["bucket src", "HeadBucket"].found
    for call in ("HeadObject of a version", "HeadObject of a key"):
        assert checks["bucket src", call].verdict is Verdict.UNPROVED


async def test_an_accepted_call_without_datapoints_passes(aws: Aws, settings: Settings) -> None:
    """Whoever takes it has let the daemon in; and no datapoint is ever in it."""
    aws.instead["PutMetricData"] = json_answer({})
    checks = await checked(settings)
    assert checks["cloudwatch", "PutMetricData"].verdict is Verdict.PASSED


async def test_a_dead_letter_queue_that_is_denied_is_told(aws: Aws, settings: Settings) -> None:
    """The queue itself is well; what is missing is told once more by its own name."""
    policy = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:210987654321:crrmon-dead"})
    aws.instead["GetQueueAttributes"] = json_answer(
        {"Attributes": {**_COUNTS, "RedrivePolicy": policy}}
    )
    aws.instead["GetQueueUrl"] = DENIED_JSON

    checks = await checked(settings)

    assert verdicts(checks)["failed"] == {"queue crrmon: dead-letter queue"}
    assert "grant sqs:GetQueueUrl" in checks["queue crrmon", "dead-letter queue"].found


async def test_roles_of_accounts_are_taken(aws: Aws, settings: Settings) -> None:
    """A role that cannot be taken is told with what its trust policy must say; "*" cannot be tried."""
    role = "arn:aws:iam::{account}:role/watch"
    ids = ("109876543210", "333333333333", "*")
    accounts = [{"id": one, "role_arn": role} for one in ids]
    aws.shut_out = "333333333333"

    checks = await checked(Settings.model_validate(settings.model_dump() | {"accounts": accounts}))

    let_in, kept_out, all_others = (checks[f"account {one}", "credentials"] for one in ids)
    assert let_in.verdict is Verdict.PASSED
    assert let_in.found == "arn:aws:iam::109876543210:role/watch"
    assert kept_out.verdict is Verdict.FAILED
    assert "grant sts:AssumeRole on arn:aws:iam::333333333333:role/watch" in kept_out.found
    assert all_others.verdict is Verdict.UNPROVED


async def test_nobody_who_answers_is_no_permission_that_is_missing(
    aws: Aws, settings: Settings
) -> None:
    """The daemon never asks who it is, so an STS that cannot be reached fails nothing; S3 out of reach does."""
    aws.instead |= {"GetCallerIdentity": Reset(), "GetBucketReplication": Reset()}
    aws.instead |= {"HeadObject of a version": Reset(), "HeadObject of a key": Answer(503)}

    checks = await checked(settings)

    assert checks["credentials", "GetCallerIdentity"].verdict is Verdict.UNPROVED
    assert checks["bucket src", "GetBucketReplication"].verdict is Verdict.FAILED
    assert checks["bucket src", "HeadObject of a version"].verdict is Verdict.FAILED
    assert checks["bucket src", "HeadObject of a key"].verdict is Verdict.UNPROVED


async def test_stores_alone_need_no_credentials_of_aws(
    aws: Aws, settings: Settings, stub: AwsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stores post their events and have users of their own, AWS is never asked, and nothing fails for want of it."""
    (tmp_path / "credentials").write_text(
        "[east]\naws_access_key_id = crrmon\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    east = {
        "id": "east",
        "endpoint_url": stub.url,
        "profile": "east",
        "region": REGION,
        "buckets": ["src"],
    }
    own = settings.model_dump() | {
        "queues": [],
        "inboxes": [{"kind": "webhook", "token": "x" * 16}],
        "accounts": [east],
        "report": {"cloudwatch": False},
    }

    checks = await checked(Settings.model_validate(own))

    assert "failed" not in verdicts(checks)
    assert "account east: credentials" in verdicts(checks)["passed"]
    assert "bucket src: HeadObject of a key" in verdicts(checks)["passed"]
    assert "GetCallerIdentity" not in aws.calls


async def test_no_credentials_at_all_is_told(
    aws: Aws, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked, and everything that needs some fails with the same remedy."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    checks = await checked(settings)

    assert aws.calls == set()
    found = checks["credentials", "GetCallerIdentity"]
    assert found.verdict is Verdict.FAILED
    assert "check the daemon's credentials" in found.found
    assert checks["queue crrmon", "GetQueueAttributes"].verdict is Verdict.FAILED


async def test_a_ledger_that_its_daemon_holds_is_unproved(
    aws: Aws, settings: Settings, tmp_path: Path
) -> None:
    """The check is often run beside the daemon."""
    path = tmp_path / "crrmon.db"
    held = await SqliteLedger.at(path, shards=1, retention_seconds=86_400.0)
    try:
        found = (await checked(settings))["ledger", "open"]
    finally:
        await held.close()
    assert found.verdict is Verdict.UNPROVED
    assert "in use by another process" in found.found


async def test_a_ledger_is_read_and_written_and_left_as_it_was(
    aws: Aws, settings: Settings, tmp_path: Path
) -> None:
    """What is written is taken out again."""
    path = tmp_path / "crrmon.db"
    await (await SqliteLedger.at(path, shards=1, retention_seconds=86_400.0)).close()
    checks = await checked(settings)
    assert checks["ledger", "write"].verdict is Verdict.PASSED
    assert "1 shard" in checks["ledger", "open"].found
    after = await SqliteLedger.at(path, shards=1, retention_seconds=86_400.0)
    assert await after.states("") == {}
    await after.close()


async def test_a_ledger_that_cannot_be_made_fails(
    aws: Aws, settings: Settings, tmp_path: Path
) -> None:
    """A volume that is not mounted."""
    ledger = settings.ledger.model_copy(update={"path": tmp_path / "data" / "crrmon.db"})
    checks = await checked(settings.model_copy(update={"ledger": ledger}))
    assert checks["ledger", "open"].verdict is Verdict.FAILED
    assert "mount the volume" in checks["ledger", "open"].found


async def test_a_server_without_a_ledger_yet_is_unproved() -> None:
    """The daemon makes one at its first start; asking makes none."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Ledger]:
        raise AbsentLedgerError("there is no ledger under ledger.redis.prefix 'crrmon'")
        yield

    estate = Estate(
        own_credentials=True,
        accounts=(),
        inboxes=(),
        buckets=(),
        sink=None,
        namespace="",
        ledger_kind="redis",
    )
    checkup = Checkup(
        estate,
        access=Nobody(),
        probe=FakeS3(SystemClock()),
        ledger=opened,
        rng=random.Random(1),
    )
    told = {one.subject: one for one in await checkup.run()}
    assert told["ledger"].verdict is Verdict.UNPROVED
    assert "the daemon creates the ledger at its first start" in told["ledger"].found
    assert told["buckets"].verdict is Verdict.UNPROVED


class Nobody:
    """Has credentials that need no asking for."""

    async def identity(self) -> str:
        return "arn:aws:iam::210987654321:user/nobody"

    async def enter(self, account: str) -> str:
        return account


# ---- the command line, on an emulator ----


def test_what_an_answer_says_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences of AWS, or of whoever answers in its place, are shown escaped and without markup."""
    found = "\x1b[2J[red]gone[/red]"
    check_command._print([Check(subject="s", call="c", verdict=Verdict.FAILED, found=found)])
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\\x1b[2J[red]gone[/red]" in shown


def test_no_word_is_broken_in_a_log_of_eighty_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no terminal is, as in `kubectl exec` without one, names can still be read, searched and copied."""
    monkeypatch.setenv("COLUMNS", "80")
    one = Check(
        subject="queue acme-production-replication-events",
        call="ChangeMessageVisibilityBatch",
        needs="sqs:ChangeMessageVisibility",
        verdict=Verdict.FAILED,
        found="messages could not be kept hidden: EndpointConnectionError; check aws.endpoint_url",
    )

    check_command._print([one])

    shown = capsys.readouterr().out.split()
    assert shown[:4] == ["failed", "queue", "acme-production-replication-events:", one.call]
    assert f"{one.needs})" in shown
    assert " ".join(one.found.split()) in " ".join(shown)


@pytest.fixture
def config(moto_url: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Make a queue and a bucket, and write configurations that name them."""
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=moto_url)
    s3 = boto3.client("s3", region_name=REGION, endpoint_url=moto_url)
    url = sqs.create_queue(QueueName="checked")["QueueUrl"]
    s3.create_bucket(Bucket="checked", CreateBucketConfiguration={"LocationConstraint": REGION})

    s3.put_bucket_versioning(Bucket="checked", VersioningConfiguration={"Status": "Enabled"})

    def write(**more: Any) -> str:
        path = tmp_path / "crrmon.yaml"
        values = {
            "queues": [{"url": url}],
            "buckets": ["checked"],
            "aws": {"region": REGION, "endpoint_url": moto_url},
            "ledger": {"kind": "memory"},
        }
        path.write_text(yaml.safe_dump(values | more))
        return str(path)

    yield write
    sqs.delete_queue(QueueUrl=url)
    s3.delete_bucket(Bucket="checked")


def crrmon(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "200"})


def test_the_table_is_for_eyes(config: Callable[..., str]) -> None:
    """A line for each call, the counts below, exit code 0: nothing failed."""
    result = crrmon("--config", config())
    assert result.exit_code == 0, result.output
    line = next(one for one in result.output.splitlines() if "GetQueueAttributes" in one)
    assert line.split() == ["passed", "queue", "checked:", "GetQueueAttributes"]
    assert "0 failed" in result.output.splitlines()[-1]


def test_json_is_for_machines_and_a_failure_is_1(config: Callable[..., str]) -> None:
    """A bucket and a table that are not there: their calls fail, all others are told all the same."""
    wanting = config(buckets=["checked", "not-there"], ledger={"kind": "dynamodb"})
    result = crrmon("--config", wanting, "--output", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["failed"] is True
    wrong = [(one["subject"], one["call"]) for one in told["checks"] if one["verdict"] == "failed"]
    assert wrong == [("bucket not-there", "GetBucketReplication"), ("ledger", "open")]
    assert "crrmon ledger create" in told["checks"][-1]["found"]
    assert set(told["checks"][0]) == {"subject", "call", "needs", "verdict", "found"}


def test_settings_that_cannot_be_used_are_2(
    config: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read as by `config show`, those of the SDK as by `run`, and nothing is asked."""
    result = crrmon("--config", config(bukets=["checked"]))
    assert result.exit_code == 2
    assert "did you mean buckets?" in result.stderr
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    result = crrmon("--config", config())
    assert result.exit_code == 2
    assert "AWS_PROFILE" in result.stderr
