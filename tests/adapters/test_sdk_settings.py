"""Whatever is wrong with how AWS's SDK is set up is said by name, before anybody is asked and when the SDK meets it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from crrmon import config, connections
from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError, border
from crrmon.adapters.remedies import explain
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.sdk_settings import faults, forget_blanks
from crrmon.adapters.sqs import SqsInbox
from crrmon.cli import app
from crrmon.config import Settings
from crrmon.domain.objects import ObjectVersion
from crrmon.ports.clock import SystemClock
from crrmon.ports.inbox import InboxError
from fakes.aws_stub import AwsStub, json_answer, sts_error
from fakes.meters import FakeMeters

REGION = "eu-west-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "Zm9yYmlkZGVu"}
SECRETS = ("Zm9yYmlkZGVu", "eyJhbGciOi")
ROLE = "arn:aws:iam::210987654321:role/crrmon"
URL = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"


class Broken(msgspec.Struct, frozen=True):
    """A way in which the SDK is set up wrongly."""

    variables: Mapping[str, str]
    """{home} in them is a directory."""
    said: tuple[str, ...]
    """What must be in the one line about it, which begins with the first of these."""
    files: Mapping[str, str] = {}
    """In that directory; .aws/config and .aws/credentials are where the SDK looks."""
    met: bool = True
    """Whether the SDK finds it out with its first call; a service or a person may have to tell it."""


CONFIG, CREDENTIALS = ".aws/config", ".aws/credentials"

BROKEN = {
    "unknown-profile": Broken(
        {**KEYS, "AWS_PROFILE": "nope"},
        ("AWS_PROFILE: there is no profile 'nope' in", "/.aws/config", "credentials (which does not exist)", "correct the name"),
        {CONFIG: "[profile dev]\nregion = eu-west-1\n"},
    ),
    "unknown-default-profile": Broken(
        {**KEYS, "AWS_DEFAULT_PROFILE": "nope"}, ("AWS_DEFAULT_PROFILE: there is no profile 'nope'",)
    ),
    "line-feed-in-the-key": Broken(
        {**KEYS, "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE\n"},
        ("AWS_ACCESS_KEY_ID: it contains a line feed", "printf %s"),
    ),
    "line-feed-in-the-secret": Broken(
        {**KEYS, "AWS_SECRET_ACCESS_KEY": "Zm9yYmlkZGVu\n"},
        ("AWS_SECRET_ACCESS_KEY: it contains a line feed", "printf %s"),
        met=False,
    ),
    "return-in-the-token": Broken(
        {**KEYS, "AWS_SESSION_TOKEN": "eyJhbGciOi\r\n"},
        ("AWS_SESSION_TOKEN: it contains a carriage return",),
    ),
    "space-before-the-key": Broken(
        {**KEYS, "AWS_ACCESS_KEY_ID": " AKIAEXAMPLE"},
        ("AWS_ACCESS_KEY_ID: it contains a space",),
        met=False,
    ),
    "key-without-secret": Broken(
        {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"},
        ("AWS_SECRET_ACCESS_KEY: it is not set, but AWS_ACCESS_KEY_ID is: set both",),
    ),
    "secret-without-key": Broken(
        {"AWS_SECRET_ACCESS_KEY": "Zm9yYmlkZGVu"},
        ("AWS_ACCESS_KEY_ID: it is not set, but AWS_SECRET_ACCESS_KEY is: set both",),
    ),
    "half-a-key-in-a-file": Broken(
        {},
        ("profile default of", "/.aws/credentials: aws_access_key_id is set without the other half"),
        {CREDENTIALS: "[default]\naws_access_key_id = AKIAEXAMPLE\n"},
    ),
    "the-other-half-in-a-file": Broken(
        {"AWS_PROFILE": "dev"},
        ("profile dev of", "aws_secret_access_key is set without the other half"),
        {CREDENTIALS: "[dev]\naws_secret_access_key = Zm9yYmlkZGVu\n"},
    ),
    "no-such-token-file": Broken(
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/nope/token"},
        ("AWS_WEB_IDENTITY_TOKEN_FILE: /var/run/nope/token cannot be read (No such file", "mount the token"),
    ),
    "token-in-place-of-its-file": Broken(
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "eyJhbGciOi"},
        ("AWS_WEB_IDENTITY_TOKEN_FILE: the file that it should name cannot be read",),
    ),
    "empty-token-file": Broken(
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token"},
        ("AWS_WEB_IDENTITY_TOKEN_FILE: ", "/token is empty"),
        {"token": "\n"},
    ),
    "no-role-for-the-token": Broken(
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token"},
        ("AWS_ROLE_ARN: it is not set, but AWS_WEB_IDENTITY_TOKEN_FILE is: set it to the role",),
        {"token": "eyJhbGciOi"},
    ),
    "no-role-at-all": Broken(
        {"AWS_ROLE_ARN": "crrmon", "AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token"},
        ("AWS_ROLE_ARN: 'crrmon' is not a role: use the form arn:aws:iam::",),
        {"token": "eyJhbGciOi"},
    ),
    "role-without-source": Broken(
        {"AWS_PROFILE": "dev"},
        ("profile dev of", "role_arn needs one of source_profile, credential_source"),
        {CONFIG: f"[profile dev]\nrole_arn = {ROLE}\n"},
    ),
    "unknown-credential-source": Broken(
        {"AWS_PROFILE": "dev"},
        ("profile dev of", "credential_source: 'Ec2Metadata' is not one of ec2instancemetadata"),
        {CONFIG: f"[profile dev]\nrole_arn = {ROLE}\ncredential_source = Ec2Metadata\n"},
    ),
    "unknown-source-profile": Broken(
        {"AWS_PROFILE": "dev"},
        ("profile dev of", "source_profile: there is no profile 'nope'"),
        {CONFIG: f"[profile dev]\nrole_arn = {ROLE}\nsource_profile = nope\n"},
    ),
    "bad-role-in-a-file": Broken(
        {"AWS_PROFILE": "dev", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
        ("profile dev of", "role_arn: 'crrmon' is not a role"),
        {CONFIG: "[profile dev]\nrole_arn = crrmon\nsource_profile = base\n[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n"},
    ),
    "a-code-to-be-entered": Broken(
        {"AWS_PROFILE": "dev"},
        ("profile dev of", "mfa_serial: a daemon cannot enter a code"),
        {CONFIG: f"[profile dev]\nrole_arn = {ROLE}\nmfa_serial = a\nsource_profile = base\n[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n"},
        met=False,
    ),
    "no-section": Broken(
        {"AWS_SHARED_CREDENTIALS_FILE": "{home}/c"},
        ("AWS_SHARED_CREDENTIALS_FILE: ", "/c is not a valid shared file of the SDK: line 1 is not below a [profile NAME]"),
        {"c": "aws_secret_access_key = Zm9yYmlkZGVu\n"},
    ),
    "no-setting": Broken(
        {**KEYS, "AWS_CONFIG_FILE": "{home}/c"},
        ("AWS_CONFIG_FILE: ", "/c is not a valid shared file of the SDK: line 2 is not NAME = VALUE"),
        {"c": "[default]\nZm9yYmlkZGVu\n"},
    ),
    "twice": Broken(
        KEYS,
        ("AWS_CONFIG_FILE: ", "/.aws/config is not a valid shared file of the SDK: line 3 starts a profile"),
        {CONFIG: "[default]\nregion = eu-west-1\n[default]\n"},
    ),
    "not-utf-8": Broken(
        KEYS,
        ("AWS_CONFIG_FILE: ", "/.aws/config is not a valid shared file of the SDK: byte"),
        {CONFIG: "[default]\nregion = \udcff\n"},
    ),
    "invalid-region": Broken(
        {**KEYS, "AWS_REGION": "eu west 1"}, ("AWS_REGION: 'eu west 1' is not a region: use AWS's name",)
    ),
    "invalid-region-in-a-file": Broken(
        KEYS,
        ("profile default of", "region: 'Ireland!' is not a region"),
        {CONFIG: "[default]\nregion = Ireland!\n"},
    ),
    "endpoint-without-scheme": Broken(
        {**KEYS, "AWS_ENDPOINT_URL": "localhost:4566"},
        ("AWS_ENDPOINT_URL: 'localhost:4566' is not an address: start it with http://",),
    ),
    "endpoint-of-a-service": Broken(
        {**KEYS, "AWS_ENDPOINT_URL_SQS": "localhost:4566"}, ("AWS_ENDPOINT_URL_SQS: 'localhost:4566' is not an address",)
    ),
    "endpoint-in-a-file": Broken(
        KEYS,
        ("profile default of", "endpoint_url: 'localhost:4566' is not an address"),
        {CONFIG: "[default]\nendpoint_url = localhost:4566\n"},
    ),
    "no-such-certificates": Broken(
        {**KEYS, "AWS_CA_BUNDLE": "/nope/ca.crt", "AWS_ENDPOINT_URL": "https://127.0.0.1:1"},
        ("AWS_CA_BUNDLE: /nope/ca.crt cannot be read (No such file",),
    ),
    "no-certificates": Broken(
        {**KEYS, "AWS_CA_BUNDLE": "{home}/ca.crt", "AWS_ENDPOINT_URL": "https://127.0.0.1:1"},
        ("AWS_CA_BUNDLE: ", "/ca.crt contains no certificates: they must be in PEM format"),
        {"ca.crt": "nothing"},
        met=False,
    ),
    "attempts": Broken(
        {**KEYS, "AWS_MAX_ATTEMPTS": "many"}, ("AWS_MAX_ATTEMPTS: 'many' is not a whole number",), met=False
    ),
    "retry-mode": Broken(
        {**KEYS, "AWS_RETRY_MODE": "often"}, ("AWS_RETRY_MODE: 'often' is not one of legacy, standard, adaptive",), met=False
    ),
}  # fmt: skip


def set_up(one: Broken, home: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Set the SDK up so, and not otherwise."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in one.variables.items():
        monkeypatch.setenv(name, value.replace("{home}", str(home)))
    for name, text in one.files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text, errors="surrogateescape")
    return one


def test_a_code_can_be_entered_where_somebody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile with multi-factor authentication is no use to a daemon, and the usual one for a person."""
    shared = tmp_path / "config"
    shared.write_text(
        f"[default]\naws_access_key_id = A\naws_secret_access_key = b\n"
        f"[profile admin]\nrole_arn = {ROLE}\nsource_profile = default\nmfa_serial = arn:aws:iam::1:mfa/me\n"
    )
    environment = {"AWS_CONFIG_FILE": str(shared), "AWS_PROFILE": "admin"}

    assert faults(environment, attended=True) == []
    assert len(faults(environment)) == 1


@pytest.mark.parametrize("name", BROKEN)
def test_e3_what_is_wrong_is_said_by_name_and_nothing_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Variable, profile and file, and what to do, in one line; by what is there, without asking anybody."""
    broken = BROKEN[name]
    set_up(broken, tmp_path, monkeypatch)

    (line,) = faults(os.environ)

    assert line.startswith(broken.said[0])
    assert [one for one in broken.said if one not in line] == []
    assert not any(secret in line for secret in SECRETS)
    assert "\n" not in line


@pytest.mark.parametrize("name", [name for name, one in BROKEN.items() if one.met])
async def test_e3_what_the_sdk_meets_is_said_the_same_way(
    stub: AwsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What comes up while the daemon runs, as when a file changes, is not put down to the network."""
    broken = BROKEN[name]
    set_up(broken, tmp_path, monkeypatch)
    stub.answer(json_answer({"Attributes": {}}))
    set_elsewhere = [*broken.variables, *"".join(broken.files.values()).split()]
    endpoint_url = (
        None
        if {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "endpoint_url"} & {*set_elsewhere}
        else stub.url
    )
    region = None if any("is not a region" in one for one in broken.said) else REGION
    async with AwsSession(
        endpoint_url=endpoint_url, default_region=region, max_connections=8
    ) as aws:
        with pytest.raises(NoAnswerError) as caught, border():
            await (await aws.client("sqs")).get_queue_attributes(QueueUrl=f"{stub.url}/1/q")
    told = explain(caught.value, permission="sqs:GetQueueAttributes")

    assert [one for one in broken.said if one not in told] == []
    assert "check the network" not in told
    assert not any(secret in told for secret in SECRETS)
    assert stub.asked == []


RIGHT = {
    "nothing": Broken({}, ()),
    "keys": Broken({**KEYS, "AWS_SESSION_TOKEN": "FwoGZXIvYXdzE/+=", "AWS_REGION": "us-gov-west-1"}, ()),
    "missing-files": Broken({**KEYS, "AWS_CONFIG_FILE": "/nope", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}, ()),
    "a-role-in-a-cluster": Broken(
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{home}/token", "AWS_STS_REGIONAL_ENDPOINTS": "regional"},
        (),
        {"token": "eyJhbGciOi"},
    ),
    "a-token-that-is-not-used": Broken({**KEYS, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nope"}, ()),
    "a-role-by-another-profile": Broken(
        {"AWS_PROFILE": "dev"},
        (),
        {
            CONFIG: f"[profile dev]\nregion = eu-west-1\nrole_arn = {ROLE}\nsource_profile = base\n",
            CREDENTIALS: "[base]\naws_access_key_id = a\naws_secret_access_key = b\n",
        },
    ),
    "a-role-by-the-container": Broken(
        {"AWS_PROFILE": "dev"}, (), {CONFIG: f"[profile dev]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n"}
    ),
    "endpoints-and-numbers": Broken(
        {**KEYS, "AWS_ENDPOINT_URL": "http://[::1]:4566", "AWS_MAX_ATTEMPTS": "3", "AWS_RETRY_MODE": "Adaptive"}, ()
    ),
    "a-profile-that-is-not-used": Broken(KEYS, (), {CREDENTIALS: "[default]\naws_access_key_id = a\n"}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_e3_what_is_right_is_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As people really set it up, and with leftovers that the SDK does not look at."""
    set_up(RIGHT[name], tmp_path, monkeypatch)

    assert faults(os.environ) == []


def test_e3_every_fault_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to start again for each."""
    variables = {**KEYS, "AWS_REGION": "eu west 1", "AWS_PROFILE": "nope", "AWS_MAX_ATTEMPTS": "x"}
    set_up(Broken(variables, ()), tmp_path, monkeypatch)

    assert [one.partition(":")[0] for one in faults(os.environ)] == [
        "AWS_REGION", "AWS_MAX_ATTEMPTS", "AWS_PROFILE",
    ]  # fmt: skip


# ---- what is blank ----


def test_e3_a_variable_without_a_value_is_not_set() -> None:
    """Templates leave them behind; the SDK would look for a profile of no name. Those of others are left alone."""
    variables = {
        "AWS_PROFILE": "",
        "AWS_REGION": " ",
        "AWS_MAX_ATTEMPTS": "3",
        "OTHER": "",
        "CRRMON_AWS__REGION": "",
    }

    forget_blanks(variables)

    assert variables == {"AWS_MAX_ATTEMPTS": "3", "OTHER": "", "CRRMON_AWS__REGION": ""}


async def test_e3_the_sdk_works_with_variables_left_blank(
    stub: AwsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a daemon that was checked asks."""
    names = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE",
             "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_SESSION_TOKEN")  # fmt: skip
    set_up(Broken({**KEYS, **dict.fromkeys(names, "")}, ()), tmp_path, monkeypatch)
    stub.answer(json_answer({"Attributes": {}}))
    settings = Settings(
        queues=[{"url": f"{stub.url}/1/q"}], aws={"endpoint_url": "", "region": REGION}
    )

    connections.check_sdk(settings)
    async with connections.aws_of(settings) as aws:
        inbox = SqsInbox(aws, settings.queues[0].url)
        with pytest.raises(InboxError, match="KeyError"):
            await inbox.depth()

    assert len(stub.asked) == 2


# ---- at the start ----


def refused(*, settings: str = "", **variables: str) -> str:
    """Start the daemon with settings that cannot work; tell what it says."""
    queues = json.dumps([{"url": URL}])
    told = CliRunner().invoke(app, ["run"], env={"CRRMON_QUEUES": settings or queues, **variables})
    assert told.exit_code == 2, told.output
    return told.stderr


def test_e3_the_daemon_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and a line for each fault."""
    set_up(BROKEN["unknown-profile"], tmp_path, monkeypatch)

    lines = refused(AWS_ENDPOINT_URL="localhost:4566").splitlines()

    assert [one.split(":")[:2] for one in lines] == [
        ["crrmon", " AWS_ENDPOINT_URL"], ["crrmon", " AWS_PROFILE"],
    ]  # fmt: skip


def test_e3_no_region_is_said_of_whatever_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queues whose URLs name none, metrics, the table; and where to set it."""
    set_up(Broken({**KEYS, "AWS_REGION": ""}, ()), tmp_path, monkeypatch)
    queues = json.dumps([{"url": URL}, {"url": "http://elasticmq:9324/1/q"}])

    said = refused(settings=queues, CRRMON_LEDGER__KIND="dynamodb")

    assert said == (
        "crrmon: no region is known for queues[1], report, ledger.dynamodb: set aws.region, AWS_REGION, or region in the "
        "profile\n"
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_REGION": REGION},
        {"AWS_DEFAULT_REGION": REGION},
        {"AWS_PROFILE": "dev"},
        {"CRRMON_AWS__REGION": REGION},
        {"CRRMON_REPORT__REGION": REGION},
        {"CRRMON_REPORT__CLOUDWATCH": "false"},
    ],
    ids=str,
)
def test_e3_a_region_from_anywhere_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """A variable, the profile, a setting; or nobody needs one."""
    files = {CONFIG: "[profile dev]\nregion = eu-west-1\n"}
    set_up(Broken({**KEYS, **variables}, (), files), tmp_path, monkeypatch)
    monkeypatch.setenv("CRRMON_QUEUES", json.dumps([{"url": URL}]))

    connections.check_sdk(config.load(None))


@pytest.mark.parametrize(
    "command",
    [
        ["ledger", "create"],
        ["routes", "list"],
        ["ledger", "copy", "--from", "sqlite", "--to", "dynamodb"],
    ],
)
def test_e3_commands_that_use_a_table_refuse_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Exit code 2, before anything is asked or made."""
    set_up(BROKEN["key-without-secret"], tmp_path, monkeypatch)
    monkeypatch.setenv("CRRMON_LEDGER__KIND", "dynamodb")
    monkeypatch.setenv("CRRMON_LEDGER__PATH", str(tmp_path / "crrmon.db"))
    (tmp_path / "crrmon.db").touch()

    told = CliRunner().invoke(app, command)

    assert told.exit_code == 2
    assert told.stderr.startswith("crrmon: AWS_SECRET_ACCESS_KEY: it is not set")


def test_e3_commands_that_ask_nobody_of_aws_do_not_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger in a file is read however the SDK is set up."""
    set_up(BROKEN["unknown-profile"], tmp_path, monkeypatch)
    monkeypatch.setenv("CRRMON_LEDGER__PATH", str(tmp_path / "crrmon.db"))

    told = CliRunner().invoke(app, ["routes", "list"])

    assert (told.exit_code, told.stderr) == (
        1, f"crrmon: ledger.path {tmp_path}/crrmon.db: there is no such file\n"
    )  # fmt: skip


# ---- later ----


async def test_e3_an_accounts_profile_is_said_to_be_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: AwsStub
) -> None:
    """It harms its own buckets only, so the daemon starts; what is told of it has profile and file."""
    files = {CREDENTIALS: "[half]\naws_access_key_id = AKIAEXAMPLE\n"}
    set_up(Broken(KEYS, (), files), tmp_path, monkeypatch)
    told = {}
    for profile in ("half", "nope"):
        account = KnownAccount(id="222222222222", profile=profile)
        async with AwsSession(
            endpoint_url=stub.url, default_region=REGION, max_connections=8
        ) as aws:
            reach = Accounts(aws, [account], clock=SystemClock(), meters=FakeMeters())
            probe = S3Probe(reach, clock=SystemClock())
            version = ObjectVersion("src", "k", "Zx81")
            told[profile] = (await probe.look(version, region=REGION, owner=account.id)).detail

    assert "accounts[].profile" in told["half"]
    assert (
        f"profile half of {tmp_path}/.aws/config (which does not exist) and {tmp_path}/.aws/credentials"
        in told["half"]
    )
    assert "aws_access_key_id is set without the other half" in told["half"]
    assert "profile nope: there is no such profile in " in told["nope"]
    assert "accounts[].profile" in told["nope"]


async def test_e3_a_role_that_sts_refuses_is_not_put_down_to_the_queue(
    stub: AwsStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trust policy that does not know the service account: the queue's permissions are fine."""
    set_up(RIGHT["a-role-in-a-cluster"], tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
    stub.answer(
        sts_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
    )
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        with pytest.raises(InboxError) as caught:
            await SqsInbox(aws, URL).receive(wait_seconds=0, visibility_seconds=30)

    assert "AssumeRoleWithWebIdentity was refused: check AWS_ROLE_ARN" in str(caught.value)
    assert "sqs:ReceiveMessage" not in str(caught.value)
