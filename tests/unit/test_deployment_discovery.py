"""What is found of a bucket, and which buckets replicate whereto."""

from typing import Any

from crrmon.domain.deployment.discovery import (
    BucketFound,
    Discovery,
    UnreadAccount,
    UnreadBucket,
    bucket_found,
)
from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.domain.deployment.places import Place

HERE = Place(account="111122223333", region="eu-west-1")
THERE = Place(account="444455556666", region="us-east-1")

NOTHING = NotificationConfiguration()


def rule(name: str, destination: str, **others: Any) -> dict[str, Any]:
    target = {"Bucket": f"arn:aws:s3:::{destination}", **others.pop("Destination", {})}
    return {"ID": name, "Status": "Enabled", "Prefix": "", "Destination": target, **others}


def bucket(name: str, *rules: dict[str, Any], place: Place = HERE) -> BucketFound:
    replication = {"Role": "arn:aws:iam::1:role/r", "Rules": list(rules)} if rules else None
    return bucket_found(name, place=place, replication=replication, notifications=NOTHING)


def test_d33_all_rules_and_all_destinations_count() -> None:
    """D33: not only the first rule: a disabled one before it, both versions, several destinations."""
    found = bucket(
        "src",
        rule("old", "gone", Status="Disabled"),
        {
            "ID": "second-version",
            "Status": "Enabled",
            "Priority": 2,
            "Filter": {"And": {"Prefix": "in/", "Tags": [{"Key": "k", "Value": "v"}]}},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": "arn:aws:s3:::dst-b", "Account": "444455556666"},
        },
        rule("first-version", "dst-a"),
        rule("again", "dst-b"),
    )

    assert found.replicates
    assert [r.id for r in found.rules] == ["second-version", "first-version", "again"]
    assert found.disabled_rules == 1
    assert found.destinations == ("dst-a", "dst-b")


def test_rules_that_are_not_understood_count_too() -> None:
    """A bucket that might replicate is one that does: what was not understood is told, and no destination made up."""
    found = bucket("src", {"ID": "odd", "Status": "Enabled", "Destination": {"Bucket": 7}})

    assert found.replicates
    assert found.destinations == ()
    assert len(found.doubts) == 1
    assert "'odd'" in found.doubts[0]


def test_buckets_that_do_not_replicate() -> None:
    """Neither without a configuration, nor with disabled rules alone."""
    assert not bucket("plain").replicates
    assert not bucket("paused", rule("off", "dst", Status="Disabled")).replicates
    assert bucket("paused", rule("off", "dst", Status="Disabled")).disabled_rules == 1


def test_rules_without_metrics() -> None:
    """Which rules S3 sends no notices for: those without metrics, and with metrics that are off; disabled ones aside."""
    on, off = {"Metrics": {"Status": "Enabled"}}, {"Metrics": {"Status": "Disabled"}}
    found = bucket(
        "src",
        rule("none", "dst"),
        rule("on", "dst", Destination=on),
        rule("off", "dst", Destination=off),
        rule("disabled", "dst", Status="Disabled"),
    )

    assert found.rules_without_metrics == ("none", "off")


def test_destinations_whether_found_or_not() -> None:
    """Each has its sources, its owner, the bucket itself where it was read, and else the reason."""
    found = bucket("dst-found", place=THERE)
    named = rule("r3", "dst-foreign", Destination={"Account": "777788889999"})
    discovery = Discovery(
        buckets=(
            bucket("src-b", rule("r1", "dst-found"), named),
            bucket("src-a", rule("r2", "dst-found"), rule("r4", "dst-denied")),
            found,
        ),
        unread=(UnreadBucket(name="dst-denied", account=HERE.account, reason="AccessDenied"),),
    )
    denied, foreign, read = discovery.destinations()

    assert (read.name, read.sources) == ("dst-found", ("src-a", "src-b"))
    assert (read.owner, read.found, read.reason) == (THERE.account, found, "")
    assert (denied.name, denied.found, denied.reason) == ("dst-denied", None, "AccessDenied")
    assert (foreign.name, foreign.owner, foreign.found) == ("dst-foreign", "777788889999", None)
    assert "add its account" in foreign.reason


def test_what_replicates_is_in_order() -> None:
    """By account, region and name, whatever order it was found in."""
    discovery = Discovery(
        buckets=(
            bucket("a", rule("r", "dst"), place=THERE),
            bucket("c", rule("r", "dst")),
            bucket("plain"),
            bucket("b", rule("r", "dst")),
        )
    )

    assert [found.name for found in discovery.replicating()] == ["b", "c", "a"]


def test_whether_all_was_read() -> None:
    """A bucket or an account that could not be read makes it incomplete."""
    assert Discovery(buckets=(bucket("a"),)).complete
    assert not Discovery(unread=(UnreadBucket(name="a", account="1", reason="x"),)).complete
    assert not Discovery(unread_accounts=(UnreadAccount(account="1", reason="x"),)).complete
