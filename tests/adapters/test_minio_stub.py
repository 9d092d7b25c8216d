"""That the stand-in for MinIO answers and tells what real servers did; `tests/data/minio` holds that."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.clock import EPOCH
from fakes.minio import SOURCE_PROXY, Minio, Site

SEEN = Path(__file__).parents[1] / "data" / "minio"
INVENTED = {
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-content-type-options",
    "x-xss-protection",
}
INVENTED |= {
    "strict-transport-security",
    "vary",
    "date",
    "x-minio-error-desc",
    "server",
    "accept-ranges",
}
OWN = {"content-type", "etag"}


def seen(name: str) -> Any:
    return json.loads((SEEN / f"{name}.json").read_text())


@pytest.fixture
def world() -> Minio:
    return Minio(lambda: EPOCH)


@pytest.fixture
def sites(world: Minio) -> tuple[Site, Site]:
    """Two sites with a rule each way between a and b, and one from c to d that keeps deletions to itself."""
    here, there = world.site(), world.site()
    here.make("a", "c")
    there.make("b", "d")
    here.replicate("a", there, "b")
    there.replicate("b", here, "a")
    here.replicate("c", there, "d", purges=False, old_form=True)
    return here, there


def shape(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Tell what fields there are, and of what type."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from shape(one, f"{at}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from shape(one, f"{at}[]")
    else:
        yield at, type(value).__name__


def head(site: Site, bucket: str, version: Any, **headers: str) -> tuple[int, dict[str, str]]:
    told = site.answer("HEAD", f"/{bucket}/{version.key}?versionId={version.version_id}", headers)
    return told.status, dict(told.headers)


def fields(told: dict[str, str]) -> set[str]:
    return {name.lower() for name in told} - INVENTED - OWN


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("event_put_same_bucket_name_site_19000", 0),
        ("event_put_of_zero_bytes_has_no_size", 1),
        ("event_completed_of_an_object", 3),
        ("event_marker_by_a_user_in_a_two_way_bucket", 4),
        ("event_not_tracked_without_version", 5),
        ("event_failed_of_a_delete_marker", 6),
        ("event_not_tracked_target_offline", 8),
        ("event_failed_of_an_object", 9),
        ("event_failed_of_a_version_purge_or_marker", 12),
    ],
)
def test_events_have_the_fields_of_real_ones(
    world: Minio, sites: tuple[Site, Site], name: str, told: int
) -> None:
    """Every kind of event has the fields of MinIO's own, no more and no fewer."""
    here, there = sites
    here.put("a", "sized")
    here.put("a", "empty", b"")
    world.work()
    there.up = False
    here.mark("a", "sized")
    world.work()
    late = here.put("a", "late")
    world.work()
    here.purge(late)
    world.work()

    body = json.loads(here.events[told])

    assert set(shape(body)) == set(shape(seen(name)))
    assert body["EventName"] == seen(name)["EventName"]


def test_heads_are_answered_by_the_other_side_unless_told_not_to(
    world: Minio, sites: tuple[Site, Site]
) -> None:
    """What a site does not have is told by the other one, with the status there."""
    here, there = sites
    gone, mended = here.put("c", "gone"), here.put("a", "mended")
    there.takes = False
    world.work()
    here.scan()
    there.takes, kept = True, here.put("c", "kept")
    here.work()
    here.purge(gone)

    assert head(here, "c", gone)[1]["x-amz-replication-status"] == "REPLICA"
    assert fields(head(here, "c", gone)[1]) == fields(seen("head_deleted_at_source_proxied")[1])
    assert head(here, "c", gone, **{SOURCE_PROXY: "false"})[0] == 404
    assert head(here, "c", kept)[1]["x-amz-replication-status"] == "COMPLETED"
    there.takes = False
    refused = here.put("a", "refused")
    here.work()
    assert head(there, "b", refused)[1]["x-amz-replication-status"] == "FAILED"
    assert fields(head(there, "b", refused)[1]) == fields(seen("head_multi_c"))
    assert head(there, "b", refused, **{SOURCE_PROXY: "false"})[0] == 404
    assert head(there, "b", mended)[1]["x-amz-replication-status"] == "REPLICA"


def test_what_was_deleted_while_the_other_side_is_down(
    world: Minio, sites: tuple[Site, Site]
) -> None:
    """Purged versions and markers are told apart by one header alone, where purges replicate; else a version is gone."""
    here, there = sites
    told = seen("heads_while_destination_down")
    old, left = here.put("a", "old"), here.put("c", "left")
    world.work()
    there.up = False
    new, marker, marked = here.put("a", "new"), here.mark("a", "old"), here.mark("c", "left")
    for version in (old, new, left):
        here.purge(version)
    world.work()

    for name, bucket, version in (
        ("purged_new", "a", new),
        ("purged_old", "a", old),
        ("marker", "a", marker),
    ):
        assert (status := head(here, bucket, version))[0] == told["a-one"][name][0] == 405
        assert fields(status[1]) == fields(told["a-one"][name][1]), name
    assert head(here, "c", left)[0] == told["a-two"]["purged_old"][0] == 404
    assert head(here, "c", marked)[0] == told["a-two"]["marker"][0] == 405
    there.up = True
    here.scan()
    world.work()
    assert head(here, "a", old)[0] == 404


def test_every_head_of_what_failed_has_it_tried_and_told_again(
    world: Minio, sites: tuple[Site, Site]
) -> None:
    """A failure is told again after every look at it, and not without one."""
    here, there = sites
    there.takes = False
    version = here.put("a", "k")
    world.work()
    world.work()
    assert len(here.events) == 2
    head(here, "a", version)
    world.work()
    assert [json.loads(one)["EventName"] for one in here.events[1:]] == [
        "s3:Replication:OperationFailedReplication"
    ] * 2
