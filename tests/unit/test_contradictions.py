"""Settings that do not go together, or that AWS would refuse with every call, are refused with what to do instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crrmon import config
from crrmon.config import ConfigurationError, Settings

HOST = "https://sqs.eu-west-1.amazonaws.com"
URL = f"{HOST}/210987654321/crrmon"
QUEUES: dict[str, Any] = {"queues": [{"url": URL}]}


def load(tmp_path: Path, raw: dict[str, Any]) -> Settings:
    """Load settings from a file."""
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump({**QUEUES, **raw}), encoding="utf-8")
    return config.load(path)


def complaint(tmp_path: Path, raw: dict[str, Any]) -> str:
    """Return what is said about settings that cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, raw)
    return str(caught.value)


# ---- what AWS refuses as a whole ----


@pytest.mark.parametrize("namespace", ["AWS/S3", "AWS/CRRMonitor"])
def test_r5_a_namespace_of_aws_is_refused(tmp_path: Path, namespace: str) -> None:
    """CloudWatch would refuse every call; the message says so and names another one."""
    said = complaint(tmp_path, {"report": {"namespace": namespace}})

    assert said == (
        f"report.namespace: '{namespace}' is not allowed: names that begin with AWS/ are reserved for AWS's own metrics, and"
        " CloudWatch would refuse all metrics: choose another name, such as CRRMonitor"
    )


@pytest.mark.parametrize("namespace", ["AWS", "AWSome/S3", "aws/S3", "Acme/AWS/S3", "CRRMonitor"])
def test_r5_other_namespaces_are_accepted(tmp_path: Path, namespace: str) -> None:
    """CloudWatch keeps for itself only what begins with AWS and a slash."""
    assert load(tmp_path, {"report": {"namespace": namespace}}).report.namespace == namespace


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"aws": {"region": "eu-west-1 "}}, "aws.region"),
        ({"aws": {"region": "EU-WEST-1"}}, "aws.region"),
        ({"queues": [{"url": URL, "region": "eu_west_1"}]}, "queues[0].region"),
        ({"report": {"region": "eu-west-1\n"}}, "report.region"),
        ({"ledger": {"dynamodb": {"region": "eu west"}}}, "ledger.dynamodb.region"),
        ({"ledger": {"dynamodb": {"tags": {"aws:owner": "me"}}}}, "ledger.dynamodb.tags.aws:owner"),
        ({"ledger": {"dynamodb": {"tags": {"": "me"}}}}, "ledger.dynamodb.tags"),
        ({"ledger": {"dynamodb": {"tags": {"a": "x" * 257}}}}, "ledger.dynamodb.tags.a"),
        ({"ledger": {"dynamodb": {"tags": {f"t{n}": "" for n in range(51)}}}}, "ledger.dynamodb.tags"),
        ({"ledger": {"dynamodb": {"table": "a b"}}}, "ledger.dynamodb.table"),
        ({"name": ":crrmon"}, "name"),
        ({"name": " "}, "name"),
        ({"report": {"namespace": ":crrmon"}}, "report.namespace"),
        ({"report": {"namespace": "x" * 256}}, "report.namespace"),
        ({"aws": {"endpoint_url": "localhost:4566"}}, "aws.endpoint_url"),
        ({"aws": {"endpoint_url": "http://localhost:99999"}}, "aws.endpoint_url"),
        ({"queues": [{"url": "https://[::1/1/q"}]}, "queues[0].url"),
        ({"queues": [{"url": "https://host:x/1/q"}]}, "queues[0].url"),
    ],
)  # fmt: skip
def test_r5_what_every_call_would_be_refused_for_is_refused_at_the_start(
    tmp_path: Path, raw: dict[str, Any], name: str
) -> None:
    """By the setting's name, in one line."""
    (line,) = complaint(tmp_path, raw).splitlines()

    assert line.startswith(f"{name}")
    assert "is not allowed: " in line


# ---- settings that do not go together ----


@pytest.mark.parametrize(
    ("raw", "names", "remedy"),
    [
        ({"polling": {"give_up_after_days": 0.01}}, ("polling.give_up_after_days", "polling.stuck_after_seconds"), "raise the former or lower the latter"),
        ({"polling": {"give_up_after_days": 1, "stuck_after_seconds": 86_400}}, ("polling.give_up_after_days", "polling.stuck_after_seconds"), "raise the former"),
        ({"intake": {"hold_seconds": 60}, "polling": {"stuck_after_seconds": 60}}, ("intake.hold_seconds", "polling.stuck_after_seconds"), "lower the former or raise the latter"),
        ({"ledger": {"dedup_retention_days": 1 / 86_400}}, ("ledger.dedup_retention_days", "intake.hold_seconds", "report.window_seconds"), "at least 0.0458"),
        ({"ledger": {"dedup_retention_days": 0.05}, "report": {"window_seconds": 3600}}, ("ledger.dedup_retention_days", "report.window_seconds"), "at least 0.084"),
        ({"ledger": {"dedup_retention_days": 1}, "intake": {"min_event_delay_seconds": {"cloudtrail": 86_400}}}, ("intake.min_event_delay_seconds", "cloudtrail", "ledger.dedup_retention_days"), "lower the former or raise the latter"),
        ({"buckets": ["acme-a"], "filter": {"exclude": ["acme-*"]}}, ("buckets", "filter.exclude", "acme-a"), "remove it from buckets, or follow it"),
        ({"buckets": ["acme-a"], "filter": {"include": ["acme-b"]}}, ("buckets", "filter.include", "acme-a"), "remove it from buckets, or follow it"),
        ({"buckets": ["acme-a"], "filter": {"include": ["acme-*/x/"], "exclude": ["acme-a/x"]}}, ("buckets", "filter.exclude", "acme-a"), "remove it"),
        ({"filter": {"include": ["acme-a/x"], "exclude": ["acme-*"]}}, ("filter.include", "filter.exclude", "acme-a"), "correct one of them"),
        ({"filter": {"exclude": ["*"]}}, ("filter.exclude",), "correct one of them"),
        ({"queues": [{"url": URL, "region": "us-east-1"}]}, ("queues[0]", "region is us-east-1", "url names eu-west-1"), "remove region"),
        ({"queues": [{"url": f"{URL}.fifo"}]}, ("queues[0].url", "FIFO queue"), "Use a standard queue"),
        ({"queues": [{"url": f"{URL}.fifo/"}]}, ("queues[0].url", "message group"), "Use a standard queue"),
        ({"buckets": ["acme-a", "acme-b", "acme-a"]}, ("buckets", "acme-a"), "more than once"),
        ({"ledger": {"redis": {"password": "geheim", "password_file": "/x"}}}, ("ledger.redis", "password", "password_file"), "keep one of them"),
        ({"ledger": {"redis": {"ca_file": "/x"}}}, ("ledger.redis", "ca_file", "url"), "rediss://"),
        ({"ledger": {"redis": {"url": "redis://h/3", "cluster": True}}}, ("ledger.redis", "cluster", "url"), "remove the number at the end of url"),
    ],
)  # fmt: skip
def test_r12_a_contradiction_is_refused_with_both_settings_named(
    tmp_path: Path, raw: dict[str, Any], names: tuple[str, ...], remedy: str
) -> None:
    """In one line, with what to do; and without the secrets that stand beside."""
    (line,) = complaint(tmp_path, raw).splitlines()

    assert all(name in line for name in names), line
    assert remedy in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    "other",
    [
        f"{URL}/",
        URL.replace("https", "http"),
        URL.replace("sqs.eu", "SQS.EU"),
        URL.replace(".com/", ".com:443/"),
        URL.replace("sqs.eu-west-1", "eu-west-1.queue"),
        URL.replace("//sqs.", "//vpce-0a.sqs.").replace(".amazonaws", ".vpce.amazonaws"),
    ],
)
def test_r12_one_queue_under_two_urls_is_refused(tmp_path: Path, other: str) -> None:
    """Two intakes of one queue would each take the other's messages for news; both URLs are named."""
    said = complaint(tmp_path, {"queues": [{"url": URL}, {"url": other}]})

    assert said.startswith("queues: ")
    assert f"{other} is listed more than once, also as {URL}: list each queue once" in said


@pytest.mark.parametrize(
    "raw",
    [
        {"polling": {"stuck_after_seconds": 86_399, "give_up_after_days": 1}},
        {"intake": {"hold_seconds": 600}, "polling": {"stuck_after_seconds": 601}},
        {"ledger": {"dedup_retention_days": 0.05}},
        {"buckets": ["acme-a"], "filter": {"exclude": ["acme-a/tmp/"]}},
        {"buckets": ["acme-a"], "filter": {"include": ["acme-*"], "exclude": ["acme-b"]}},
        {"filter": {"include": ["acme-*"], "exclude": ["acme-a"]}},
        {"filter": {"include": ["acme-a"], "exclude": ["acme-a/x"]}},
        {"queues": [{"url": URL, "region": "eu-west-1"}, {"url": f"{HOST}/210987654321/other"}]},
        {"queues": [{"url": f"{HOST}/210987654321/fifo"}]},
        {"ledger": {"redis": {"ca_file": "/x", "url": "rediss://h/0", "cluster": True}}},
    ],
)
def test_r12_what_goes_together_is_accepted(tmp_path: Path, raw: dict[str, Any]) -> None:
    """Nothing is refused that works."""
    assert load(tmp_path, raw).name == "crrmon"


def test_r12_all_contradictions_are_told_at_once(tmp_path: Path) -> None:
    """A line for each."""
    raw = {
        "polling": {"give_up_after_days": 0.001},
        "ledger": {"dedup_retention_days": 0.001},
        "buckets": ["a-b", "c-d"],
        "filter": {"include": ["x"]},
    }

    assert len(complaint(tmp_path, raw).splitlines()) == 4
