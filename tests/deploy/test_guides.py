"""The guides, followed word by word: their commands run as they are printed, in a shell, by the real AWS CLI.

AWS is an emulator. Docker, kubectl and Helm's client are stand-ins that write down how they were called: what Helm would
install is rendered by the real Helm in its library, from the values that the guide wrote.
"""

import asyncio
import fnmatch
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.ecs.models import ecs_backends

from crrmon import app as composition
from crrmon.config import Settings
from crrmon.domain.checks import Verdict
from fakes import aws_cli
from fakes.chart import loaded, render_as_given
from fakes.moto_server import moto_server
from fakes.pages import TOP, blocks, json_blocks

REGION = "eu-west-1"
BUCKETS = ("acme-ledger-src", "acme-media-src")
NAME = "acme-watch"
"""
Of the installation, another one than the guide's: what is called `crrmon` all the same is called so on purpose. Other
tests of this process have things in the same emulator.
"""

STAND_INS = ("docker", "kubectl", "helm", "curl")

NO_EMULATOR_HAS = (
    "eks create-addon",
    "eks create-pod-identity-association",
    "eks list-pod-identity-associations",
    "eks delete-pod-identity-association",
    "sqs start-message-move-task",
)
"""Of these calls the real CLI checks the arguments, and asks nobody."""


class Shell:
    """
    A bash that goes on from block to block, and ends at the first command that fails.

    Args:
        folder: for its files; what it runs finds its stand-ins there.
        url: of the emulator.
        served: the socket of the CLI.
    """

    def __init__(self, folder: Path, url: str, served: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        commands = folder / "bin"
        commands.mkdir(exist_ok=True)
        for name in STAND_INS:
            command = commands / name
            command.write_text(STAND_IN.format(name=name, calls=self._calls))
            command.chmod(0o755)
        aws_cli.write_command(commands / "aws", served, url=url, only_checked=NO_EMULATOR_HAS)
        self._bash = subprocess.Popen(
            ["/bin/bash", "-eu"],
            cwd=TOP,
            env={
                "PATH": f"{commands}:{os.environ['PATH']}",
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_PAGER": "",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, commands: str) -> str:
        """Run some commands, and give what they print."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # Not by its input, of which a command might take its part.
        block = self.folder / "block"
        block.write_text(commands)
        self._bash.stdin.write(f". {block}\necho {DONE}\n")
        self._bash.stdin.flush()
        told = []
        for line in self._bash.stdout:
            if line.rstrip().endswith(DONE):
                return "".join(told) + line.rstrip().removesuffix(DONE)
            told.append(line)
        raise AssertionError(f"a command failed:\n{''.join(told)}\nof\n{commands}")

    def value(self, name: str) -> str:
        """Tell the value of a variable."""
        return self.run(f'printf %s "${{{name}}}"')

    @property
    def calls(self) -> list[list[str]]:
        """How the stand-ins were called."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    def close(self) -> None:
        """End it."""
        self._bash.kill()
        self._bash.communicate()


DONE = "--all-of-it-done--"

STAND_IN = """\
#!/bin/sh
{{ printf '["{name}"'; for one in "$@"; do printf ', "%s"' "$one"; done; printf ']\\n'; }} >> {calls}
case {name} in
  curl) echo 'crrmon_queue_messages{{queue="q",state="visible"}} 0' ;;
  docker) if [ "$1" = login ]; then cat > /dev/null; fi ;;
  # It forwards until it is ended, or the shell is.
  kubectl) case "$*" in *port-forward*) exec tail --pid=$PPID -f /dev/null > /dev/null 2>&1 ;; esac ;;
esac
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the CLI."""
    # A socket's path may not be long.
    path = tmp_path_factory.mktemp("aws") / "s"
    with aws_cli.served(path):
        yield path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the emulator, with the buckets and the cluster that are there before."""
    with moto_server() as address:
        yield address


@pytest.fixture
def open_shell(tmp_path: Path, served: Path) -> Iterator[Callable[[str], Shell]]:
    """Open shells for an emulator."""
    with ExitStack() as stack:

        def opened(url: str) -> Shell:
            shell = Shell(tmp_path, url, served)
            stack.callback(shell.close)
            return shell

        yield opened


def client(service: str, url: str, region: str = REGION) -> Any:
    """Ask the emulator."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106 - it opens nothing
    )


def make_bucket(s3: Any, bucket: str) -> None:
    """Make a bucket, unless it is there."""
    if bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})


def as_ours(block: str, **ours: str) -> str:
    """Put a reader's own values in place of a guide's, where a block assigns them."""
    for name, value in ours.items():
        block, times = re.subn(
            rf"^(export )?{name}=\S+", rf"\g<1>{name}={value}", block, flags=re.MULTILINE
        )
        assert times == 1, f"{name} is assigned {times} times"
    return block


def attributes(url: str, queue: str) -> dict[str, Any]:
    """Read a queue's attributes."""
    sqs = client("sqs", url)
    told = sqs.get_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], AttributeNames=["All"]
    )
    return dict(told["Attributes"])


@pytest.mark.acceptance
def test_the_guide_to_eks_works_as_it_is_printed(
    open_shell: Callable[[str], Shell], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first command to the last, in a cluster in another region, under another name; then nothing is left."""
    shell = open_shell(url)
    s3, sqs, iam = (client(one, url) for one in ("s3", "sqs", "iam"))
    make_bucket(s3, BUCKETS[0])
    client("eks", url, "eu-central-1").create_cluster(
        name="main", roleArn="arn:aws:iam::123456789012:role/eks", resourcesVpcConfig={}
    )
    before = worktree()
    first, *others = blocks("docs/install-eks.md", "sh")
    shell.run(as_ours(first, NAME=NAME, CLUSTER_REGION="eu-central-1"))
    shell.run("PASSWORD=secret")
    uninstall = next(place for place, one in enumerate(others) if one.startswith("helm uninstall"))
    for block in others[:uninstall]:
        shell.run(block)

    queue, dead = attributes(url, NAME), attributes(url, f"{NAME}-dead")
    assert json.loads(queue["RedrivePolicy"])["deadLetterTargetArn"] == dead["QueueArn"]
    for one in (queue, dead):
        policy = json.loads(one["Policy"])["Statement"]
        assert {statement["Resource"] for statement in policy} == {one["QueueArn"]}
    bodies = sqs.receive_message(QueueUrl=shell.value("QUEUE"), MaxNumberOfMessages=10)
    records = [json.loads(one["Body"]).get("Records", ()) for one in bodies["Messages"]]
    names = [record["s3"]["object"]["key"] for one in records for record in one]
    assert names == ["crrmon-test"], "what is written comes into the queue by S3's notification"
    assert {action for one in role_of(iam) for action in one["Action"]} == actions_of_the_readme()
    settings = check_values(shell, queue, dead)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    checks = asyncio.run(composition.check(at_emulator(settings, url)))
    assert [one for one in checks if one.verdict is Verdict.FAILED] == []
    assert any(call[:3] == ["helm", "install", NAME] for call in shell.calls)
    rollbacks = [call for call in shell.calls if call[:3] == ["helm", "rollback", NAME]]
    assert rollbacks
    for call in rollbacks:
        assert call[3].isdigit(), "without a revision Helm may go to one that failed"
    assert worktree() == before, "files in passing do not go into the work tree"

    client("dynamodb", url).create_table(
        TableName=NAME,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    follow_events(shell, url)
    for block in others[uninstall:]:
        shell.run(block)
    ecr = client("ecr", url, "eu-central-1")
    left = [
        *sqs.list_queues(QueueNamePrefix=NAME).get("QueueUrls", ()),
        *(one["RoleName"] for one in iam.list_roles()["Roles"]),
        *(one["repositoryName"] for one in ecr.describe_repositories()["repositories"]),
    ]
    assert [one for one in left if NAME in one] == []


def follow_events(shell: Shell, url: str) -> None:
    """
    Follow docs/events.md in the same shell: both rules bring their events into the queue, and the trail is one more.
    """
    events, trails, sqs = (client(one, url) for one in ("events", "cloudtrail", "sqs"))
    commands = blocks("docs/events.md", "sh")
    removals = [one for one in commands if "delete-rule" in one]
    for block in commands:
        if block not in removals:
            shell.run(block)

    native, trail = (one for one in json_blocks("docs/events.md") if "source" in one)
    for kind, pattern in (("native", native), ("trail", trail)):
        rule = f"{NAME}-{kind}"
        assert json.loads(events.describe_rule(Name=rule)["EventPattern"]) == pattern
        (target,) = events.list_targets_by_rule(Rule=rule)["Targets"]
        assert target["Arn"].endswith(f":{NAME}")
        assert target["DeadLetterConfig"]["Arn"].endswith(f":{NAME}-dead")
    (selectors,) = (one for one in json_blocks("docs/events.md") if isinstance(one, list))
    told = trails.get_event_selectors(TrailName=NAME)["AdvancedEventSelectors"]
    assert told == selectors
    assert trails.get_trail_status(Name=NAME)["IsLogging"]
    for policy in (attributes(url, one)["Policy"] for one in (NAME, f"{NAME}-dead")):
        (sender,) = (
            one
            for one in json.loads(policy)["Statement"]
            if one["Principal"] == {"Service": "events.amazonaws.com"}
        )
        pattern = sender["Condition"]["ArnLike"]["aws:SourceArn"]
        for kind in ("native", "trail"):
            arn = events.describe_rule(Name=f"{NAME}-{kind}")["Arn"]
            assert fnmatch.fnmatchcase(arn, pattern)
    detail = {"bucket": {"name": BUCKETS[0]}, "object": {"key": "by-rule"}}
    events.put_events(
        Entries=[
            {"Source": "aws.s3", "DetailType": "Object Created", "Detail": json.dumps(detail)}
        ]
    )
    got = sqs.receive_message(QueueUrl=shell.value("QUEUE"), MaxNumberOfMessages=10)
    assert "by-rule" in "".join(one["Body"] for one in got["Messages"])

    for block in removals:
        shell.run(block)
    left = [
        *(one["Name"] for one in trails.describe_trails()["trailList"]),
        *(one["Name"] for one in events.list_rules()["Rules"]),
        *(one["Name"] for one in client("s3", url).list_buckets()["Buckets"]),
    ]
    assert [one for one in left if NAME in one] == []


def worktree() -> set[str]:
    """Name what lies in the top of the repository."""
    return {one.name for one in TOP.iterdir()}


def role_of(iam: Any) -> list[dict[str, Any]]:
    """Read what the role may do; actions as lists."""
    document = iam.get_role_policy(RoleName=NAME, PolicyName=NAME)["PolicyDocument"]
    return [
        one | {"Action": [one["Action"]] if isinstance(one["Action"], str) else one["Action"]}
        for one in document["Statement"]
    ]


def actions_of_the_readme() -> set[str]:
    """Read which actions the README grants the daemon."""
    documents = [one for one in json_blocks("README.md") if "Statement" in one]
    role = next(one for one in documents if len(one["Statement"]) > 1)
    return {
        action
        for one in role["Statement"]
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }


def at_emulator(settings: Settings, url: str) -> Settings:
    """Have a daemon ask the emulator, and lay no file where a pod has its volume."""
    aws = settings.aws.model_copy(update={"endpoint_url": url})
    ledger = settings.ledger.model_copy(update={"kind": "memory"})
    return settings.model_copy(update={"aws": aws, "ledger": ledger})


def check_values(shell: Shell, queue: Mapping[str, str], dead: Mapping[str, str]) -> Settings:
    """
    Render the chart with the guide's values: names and times agree with what the guide made.

    Returns:
        What the daemon's own loader makes of them.
    """
    text = (Path(shell.value("WORK")) / "values.yaml").read_text()
    manifests = render_as_given(yaml.safe_load(text), name=NAME)
    assert {one["metadata"]["name"] for one in manifests.of("ServiceAccount")} == {NAME}
    assert manifests.workload["metadata"]["name"] == NAME
    account = manifests.one("ServiceAccount")
    role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert role.endswith(f":role/{NAME}")
    settings = loaded(manifests)
    kept = [int(one["MessageRetentionPeriod"]) for one in (queue, dead)]
    assert settings.ledger.dedup_retention_days * 86_400 >= max(kept)
    assert [one.url for one in settings.queues] == [shell.value("QUEUE")]
    assert (settings.name, settings.buckets) == (NAME, BUCKETS[:1])
    trust = json.loads((Path(shell.value("WORK")) / "trust.json").read_text())
    (statement,) = trust["Statement"]
    assert (
        f"system:serviceaccount:crrmon:{NAME}" in statement["Condition"]["StringEquals"].values()
    )
    return settings


# moto says so of what it cannot make.
@pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")
@pytest.mark.acceptance
def test_the_guide_to_ecs_works_as_it_is_printed(
    open_shell: Callable[[str], Shell], url: str
) -> None:
    """From the first command to the last, under another name: two buckets tell the stack's queue; then nothing is left."""
    first, *others = blocks("docs/install-ecs.md", "sh")
    first = as_ours(first, NAME=TASKS, **network(url))
    guide = iter(others)
    for bucket in BUCKETS:
        make_bucket(client("s3", url), bucket)
    before = worktree()
    shell = open_shell(url)
    shell.run(f"{first}\n{INSTEAD}")
    run_until(shell, guide, "cloudformation deploy")
    deploy(shell, url)
    run_until(shell, guide, "put-bucket-notification-configuration")
    check_trail(shell, url)
    run_until(shell, guide, "services-stable")
    run_until(shell, guide, "run-task")
    check_task(shell, url)
    run_until(shell, guide, "--metric-name ReplicationObjects")
    assert "crrmon-test" in told_by_buckets(url)

    # Somebody comes back another day, and has run the first block alone.
    shell = open_shell(url)
    shell.run(f"{first}\n{INSTEAD}")
    operate(shell, url, guide)
    run_until(shell, guide, "sns delete-topic")
    assert list(guide) == []
    assert [one for one in left(url) if TASKS in one] == []
    assert worktree() == before, "files in passing do not go into the work tree"


TASKS = "acme-tasks"
"""Of the installation on ECS."""

INSTEAD = """\
aws() {
  if [ "$1 $2" = "cloudformation deploy" ]; then
    printf '%s\\n' "$@" > $HOME/deploy
    if ! command aws cloudformation describe-stacks --stack-name $NAME > $HOME/told 2>&1; then
      command aws "$@" --no-execute-changeset
      command aws cloudformation delete-stack --stack-name $NAME
    fi
  else
    command aws "$@"
  fi
}
"""
"""
The first change set is made, and put away again: the emulator's stacks have no outputs where they come of one. Of a stack
that is there it makes none, and an update by another call loses names: an upgrade is looked at, and not made.
"""


def network(url: str) -> dict[str, str]:
    """Make the network that a reader has already."""
    ec2 = client("ec2", url)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"]
        for number in (1, 2)
    ]
    return {"VPC": vpc, "SUBNETS": ",".join(subnets)}


def run_until(shell: Shell, guide: Iterator[str], last: str) -> str:
    """Run the next blocks of a guide up to one with some text, and give what that one prints."""
    for block in guide:
        told = shell.run(block)
        if last in block:
            return told
    raise AssertionError(f"no block has {last}")


def asked_to_deploy(shell: Shell) -> tuple[str, str, dict[str, str]]:
    """Tell which stack the guide deployed last, of which template and with which parameters."""
    asked = (shell.folder / "deploy").read_text().splitlines()
    assert asked[asked.index("--capabilities") + 1] == "CAPABILITY_IAM"
    parameters = asked[asked.index("--parameter-overrides") + 1 :]
    return (
        asked[asked.index("--stack-name") + 1],
        (TOP / asked[asked.index("--template-file") + 1]).read_text(),
        dict(one.split("=", 1) for one in parameters),
    )


def deploy(shell: Shell, url: str) -> None:
    """Make the stack that the guide deploys, with its parameters."""
    name, template, parameters = asked_to_deploy(shell)
    client("cloudformation", url).create_stack(
        StackName=name,
        # moto does not know the policy that keeps what was once made, and would take it for Delete.
        TemplateBody=template.replace(
            "DeletionPolicy: RetainExceptOnCreate", "DeletionPolicy: Retain"
        ),
        Parameters=[
            {"ParameterKey": one, "ParameterValue": value} for one, value in parameters.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    # moto adds up what the containers need, and on Fargate only the task says that.
    for family in ecs_backends[ACCOUNT][REGION].task_definitions.values():
        for definition in family.values():
            for container in definition.container_definitions:
                container["memory"] = int(definition.memory)


def check_task(shell: Shell, url: str) -> None:
    """See that the guide's task runs the command `check`."""
    ecs = client("ecs", url)
    cluster, task = shell.run("output ClusterName").strip(), shell.value("TASK")
    (told,) = ecs.describe_tasks(cluster=cluster, tasks=[task])["tasks"]
    assert told["overrides"]["containerOverrides"] == [{"name": "crrmon", "command": ["check"]}]
    # moto has it end by itself, and wants it to run all the same.
    ecs.stop_task(cluster=cluster, task=task, reason="it is done")


def check_trail(shell: Shell, url: str) -> None:
    """Make the trail of docs/events.md in the same shell: it records the writes to all buckets."""
    (block,) = (one for one in blocks("docs/events.md", "sh") if "create-trail" in one)
    shell.run(block)
    trails = client("cloudtrail", url)
    (selector,) = trails.get_event_selectors(TrailName=TASKS)["AdvancedEventSelectors"]
    (begins,) = (
        one["StartsWith"] for one in selector["FieldSelectors"] if one["Field"] == "resources.ARN"
    )
    assert begins == [f"arn:aws:s3:::{bucket}/" for bucket in BUCKETS]
    for command in re.findall(
        r"`(aws (?:cloudtrail delete-trail|s3 rb)[^`]*)`",
        (TOP / "docs/install-ecs.md").read_text(encoding="utf-8"),
    ):
        shell.run(command)
    assert trails.describe_trails()["trailList"] == []


def told_by_buckets(url: str) -> str:
    """Read what came into the queue that all buckets tell."""
    s3, sqs = client("s3", url), client("sqs", url)
    (queue,) = {
        one["QueueArn"]
        for bucket in BUCKETS
        for one in s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    }
    address = sqs.get_queue_url(QueueName=queue.rpartition(":")[2])["QueueUrl"]
    got = sqs.receive_message(QueueUrl=address, MaxNumberOfMessages=10)["Messages"]
    return "".join(one["Body"] for one in got)


def operate(shell: Shell, url: str, guide: Iterator[str]) -> None:
    """Follow the guide through upgrades, what may be wrong, a stop and a start."""
    ecs, logs, sqs = (client(one, url) for one in ("ecs", "logs", "sqs"))
    named = {
        one: shell.run(f"output {one}").strip()
        for one in ("ClusterName", "ServiceName", "LogGroupName", "SecurityGroupId")
    }

    def service() -> Any:
        return ecs.describe_services(
            cluster=named["ClusterName"], services=[named["ServiceName"]]
        )["services"][0]

    def suspended() -> set[bool]:
        scaling = client("application-autoscaling", url)
        (target,) = scaling.describe_scalable_targets(
            ServiceNamespace="ecs",
            ResourceIds=[f"service/{named['ClusterName']}/{named['ServiceName']}"],
        )["ScalableTargets"]
        return set(target["SuspendedState"].values())

    ec2 = client("ec2", url)
    prometheus = ec2.create_security_group(
        GroupName="prometheus", Description="-", VpcId=shell.value("VPC")
    )["GroupId"]
    shell.run(f"PROMETHEUS_GROUP={prometheus}")
    run_until(shell, guide, "authorize-security-group-ingress")
    (group,) = ec2.describe_security_groups(GroupIds=[named["SecurityGroupId"]])["SecurityGroups"]
    (entry,) = group["IpPermissions"]
    assert entry["UserIdGroupPairs"][0]["GroupId"] == prometheus

    stack, template, _ = asked_to_deploy(shell)
    run_until(shell, guide, "cloudformation deploy")
    image = f"{shell.value('REGISTRY')}/{TASKS}:0.2.0"
    assert asked_to_deploy(shell) == (stack, template, {"Image": image})
    assert f"docker buildx build --platform linux/arm64 --tag {image} --push ." in [
        " ".join(one) for one in shell.calls
    ]

    stream = {"logGroupName": named["LogGroupName"], "logStreamName": "crrmon/crrmon/1"}
    logs.create_log_stream(**stream)
    now = int(time.time() * 1000)  # noqa: TID251 - the guide asks for the last hour by the shell's clock
    logs.put_log_events(
        **stream,
        logEvents=[
            {"timestamp": now - age, "message": message}
            for age, message in ((7_200_000, "old"), (2_000, "first"), (1_000, "second"))
        ],
    )
    told = run_until(shell, guide, "describe-stack-events")
    assert told.splitlines()[-2:] == ["first", "second"]
    assert "old" not in told
    told = run_until(shell, guide, "--desired-status STOPPED")
    assert "it is done" in told, "a task has stopped, that of the check"

    dead = shell.run("output DeadLetterQueueUrl").strip()
    sqs.send_message(QueueUrl=dead, MessageBody="not understood")
    assert "not understood" in run_until(shell, guide, "start-message-move-task")

    assert run_until(shell, guide, "--desired-count 0").splitlines()[-1] == "0"
    assert (service()["desiredCount"], suspended()) == (0, {True})
    run_until(shell, guide, "--desired-count 1")
    assert (service()["desiredCount"], suspended()) == (1, {False})


def left(url: str) -> list[str]:
    """Name what an installation on ECS may leave; without the cluster, which moto keeps when its stack goes."""
    s3, sqs, logs = (client(one, url) for one in ("s3", "sqs", "logs"))
    configured = (s3.get_bucket_notification_configuration(Bucket=bucket) for bucket in BUCKETS)
    return [
        *(one["QueueArn"] for told in configured for one in told.get("QueueConfigurations", ())),
        *sqs.list_queues().get("QueueUrls", ()),
        *(one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]),
        *(one["StackName"] for one in client("cloudformation", url).describe_stacks()["Stacks"]),
        *client("dynamodb", url).list_tables()["TableNames"],
        *(one["RoleName"] for one in client("iam", url).list_roles()["Roles"]),
        *(one["TopicArn"] for one in client("sns", url).list_topics()["Topics"]),
        *(
            one["repositoryName"]
            for one in client("ecr", url).describe_repositories()["repositories"]
        ),
    ]
