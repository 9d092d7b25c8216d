"""By which way the events of a bucket come, and what EventBridge has to deliver then."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment import notifications, quotas
from crrmon.domain.deployment.discovery import BucketFound, Discovery, bucket_found
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.sources import (
    Choice,
    Ours,
    Part,
    Source,
    Wish,
    choose,
    loads,
    parts,
)

HERE = Place(account="111122223333", region="eu-west-1")
CAPE_TOWN = Place(account="444455556666", region="af-south-1")
OURS = Ours(
    identity="crrmon-acme",
    queue_arn="arn:aws:sqs:eu-west-1:111122223333:acme-events",
    trail_arn="arn:aws:cloudtrail:eu-west-1:111122223333:trail/acme-writes",
)
WRITES = ("s3:LifecycleExpiration:Delete", "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
TOPIC = "arn:aws:sns:eu-west-1:111122223333:theirs"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:theirs"


def theirs(*events: str, identity: str = "theirs", **others: Any) -> dict[str, Any]:
    return {"Id": identity, "Events": list(events), **others}


def bucket(
    *,
    topics: list[dict[str, Any]] | None = None,
    queues: list[dict[str, Any]] | None = None,
    metrics: bool = True,
    name: str = "src",
    destination: str | None = "dst",
    place: Place = HERE,
    **others: Any,
) -> BucketFound:
    answer = {
        "TopicConfigurations": [{"TopicArn": TOPIC, **entry} for entry in topics or ()],
        "QueueConfigurations": [{"QueueArn": QUEUE, **entry} for entry in queues or ()],
    }
    target: dict[str, Any] = {"Bucket": f"arn:aws:s3:::{destination}"}
    if metrics:
        target["Metrics"] = {"Status": "Enabled"}
    rule = {"ID": "all", "Status": "Enabled", "Filter": {}, "Destination": target}
    return bucket_found(
        name,
        place=place,
        replication={"Rules": [rule]} if destination else None,
        notifications=notifications.parse(answer),
        **others,
    )


def chosen(found: BucketFound, part: Part = Part.SOURCE, **wish: Any) -> Choice:
    return choose(found, part, wish=Wish(**wish), ours=OURS)


def events(choice: Choice) -> tuple[str, ...]:
    return choice.entry.events if choice.entry else ()


def test_straight_from_s3_where_nothing_overlaps() -> None:
    """Writes, and notices where they are wanted, in one entry: so ours cannot overlap with ours."""
    plain, noticed = chosen(bucket()), chosen(bucket(), notices=True)

    assert (plain.source, plain.switch, plain.conflict, plain.warnings) == (
        Source.NOTIFICATIONS,
        False,
        "",
        (),
    )
    assert events(plain) == WRITES
    assert noticed.warnings == ()
    assert events(noticed) == (*WRITES, "s3:Replication:*")
    assert noticed.entry is not None
    assert (noticed.entry.id, noticed.entry.arn) == (OURS.identity, OURS.queue_arn)
    assert "free of charge" in plain.why


def test_an_earlier_entry_of_ours_is_no_obstacle() -> None:
    """What we put there before does not overlap with what is to stand there now."""
    earlier = chosen(
        bucket(queues=[theirs("s3:ObjectCreated:*", "s3:Replication:*", identity=OURS.identity)]),
        notices=True,
    )

    assert (earlier.source, earlier.overlaps) == (Source.NOTIFICATIONS, ())
    assert events(earlier) == (*WRITES, "s3:Replication:*")


def test_eventbridge_where_somebody_has_the_same_events() -> None:
    """The entry in the way is named, and the switch overlaps with nothing."""
    choice = chosen(bucket(topics=[theirs("s3:ObjectCreated:Put", identity="pictures")]))

    assert (choice.source, choice.switch, choice.entry) == (Source.EVENTBRIDGE, True, None)
    assert "pictures (s3:ObjectCreated:Put of all keys, to arn:aws:sns:" in choice.why
    assert [found.theirs.id for found in choice.overlaps] == ["pictures"]
    assert choice.conflict == ""


def test_what_does_not_overlap_is_no_obstacle() -> None:
    """An entry for events that are not wanted changes nothing."""
    choice = chosen(bucket(topics=[theirs("s3:ObjectRestore:*")]), notices=True)

    assert choice.source is Source.NOTIFICATIONS


def test_notices_beside_eventbridge() -> None:
    """They come by no other way than an entry, so there is one for them alone."""
    choice = chosen(bucket(topics=[theirs("s3:ObjectCreated:*")]), notices=True)

    assert (choice.source, choice.switch) == (Source.EVENTBRIDGE, True)
    assert events(choice) == ("s3:Replication:*",)


@pytest.mark.parametrize(
    ("found", "way_out"),
    [
        (
            bucket(topics=[theirs("s3:Replication:OperationFailedReplication")]),
            "Subscribe the queue to that topic.",
        ),
        (
            bucket(queues=[theirs("s3:Replication:*")]),
            "Put an SNS topic in its place, to which both subscribe.",
        ),
    ],
)
def test_notices_that_somebody_else_has(found: BucketFound, way_out: str) -> None:
    """The writes come as ever; that the notices do not is said, with a way to have them."""
    choice = chosen(found, notices=True)

    assert choice.source is Source.NOTIFICATIONS
    assert events(choice) == WRITES
    assert [overlap.theirs.id for overlap in choice.overlaps] == ["theirs"]
    assert len(choice.warnings) == 1
    assert "theirs (s3:Replication:" in choice.warnings[0]
    assert choice.warnings[0].endswith(way_out)
    assert choice.conflict == ""


def test_notices_need_metrics_in_the_rules() -> None:
    """Without them S3 sends none: the rules are named."""
    choice = chosen(bucket(metrics=False), notices=True)

    assert events(choice) == (*WRITES, "s3:Replication:*")
    assert choice.warnings == (
        "S3 sends no replication notices for rules without metrics: 'all'. Turn metrics on in them.",
    )
    assert chosen(bucket(metrics=False)).warnings == ()


def test_destinations_tell_of_replicas_only() -> None:
    """Neither removals nor notices are wanted of a bucket that nothing replicates from."""
    choice = chosen(bucket(destination=None), Part.DESTINATION, notices=True)

    assert events(choice) == ("s3:ObjectCreated:*",)
    assert choice.warnings == ()
    removed = bucket(destination=None, topics=[theirs("s3:ObjectRemoved:*")])
    assert chosen(removed, Part.DESTINATION).source is Source.NOTIFICATIONS


def test_a_bucket_with_as_many_entries_as_s3_takes() -> None:
    """EventBridge has room; where ours is one of them there is room for it."""
    others = [theirs("s3:ObjectAcl:Put", identity=str(number)) for number in range(100)]
    full = chosen(bucket(topics=others), notices=True)
    ours = theirs("s3:ObjectCreated:*", identity=OURS.identity)
    with_ours = chosen(bucket(topics=others[1:], queues=[ours]))

    assert (full.source, full.entry) == (Source.EVENTBRIDGE, None)
    assert "100 entries" in full.why
    assert "notices do not come: the bucket has 100 entries" in full.warnings[0]
    assert with_ours.source is Source.NOTIFICATIONS
    forced = chosen(bucket(topics=others), source=Source.NOTIFICATIONS)
    assert "it has 100, and S3 takes no more" in forced.conflict


def test_notifications_that_s3_would_refuse() -> None:
    """Asked for where they overlap, they are a conflict that shows both entries, a key, and the ways out."""
    in_the_way = theirs(
        "s3:ObjectCreated:*",
        Filter={"Key": {"FilterRules": [{"Name": "Prefix", "Value": "in/"}]}},
    )
    choice = chosen(bucket(topics=[in_the_way]), source=Source.NOTIFICATIONS)

    assert (choice.source, choice.switch) == (Source.NOTIFICATIONS, False)
    assert choice.why == "asked for by --source notifications"
    assert choice.conflict == (
        "S3 would refuse the entry for src: ours crrmon-acme (s3:LifecycleExpiration:Delete, s3:ObjectCreated:*, "
        f"s3:ObjectRemoved:* of all keys, to {OURS.queue_arn}) and theirs (s3:ObjectCreated:* of keys that begin with "
        f"'in/', to {TOPIC}) share s3:ObjectCreated:*, as for the key 'in/'. Choose --source eventbridge (or auto), or: "
        "Subscribe the queue to that topic."
    )


@pytest.mark.parametrize("source", [Source.EVENTBRIDGE, Source.CLOUDTRAIL])
def test_other_ways_that_were_asked_for(source: Source) -> None:
    """They overlap with nothing, and need no entry but for notices."""
    found = bucket(topics=[theirs("s3:ObjectCreated:*")])
    choice = chosen(found, source=source)

    assert (choice.source, choice.entry, choice.conflict) == (source, None, "")
    assert choice.overlaps == ()
    assert choice.switch is (source is Source.EVENTBRIDGE)
    assert events(chosen(found, source=source, notices=True)) == ("s3:Replication:*",)


def test_a_trail_beside_another_is_charged_twice() -> None:
    """A trail of somebody else that records the bucket is named; ours is not, nor is any for another way."""
    audit = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/audit"
    recorded = bucket(trails=(OURS.trail_arn, audit))

    assert chosen(recorded, source=Source.CLOUDTRAIL).warnings == (
        f"CloudTrail charges for each trail: what is written to src is recorded already by {audit}.",
    )
    by_ours = bucket(trails=(OURS.trail_arn,))
    assert chosen(by_ours, source=Source.CLOUDTRAIL).warnings == ()
    assert chosen(bucket(), source=Source.CLOUDTRAIL).warnings == ()
    assert chosen(recorded).warnings == ()


def test_two_way_replication_through_eventbridge() -> None:
    """Its events do not tell a replica from a write, which costs HEADs; those of other ways do."""
    by_eventbridge = chosen(bucket(), Part.BOTH, source=Source.EVENTBRIDGE)

    assert "do not tell a replica from a write" in by_eventbridge.warnings[0]
    assert chosen(bucket(), Part.SOURCE, source=Source.EVENTBRIDGE).warnings == ()
    assert chosen(bucket(), Part.BOTH).warnings == ()


ENTRIES = st.lists(
    st.builds(
        theirs,
        st.sampled_from(
            [
                "s3:ObjectCreated:*",
                "s3:ObjectRemoved:Delete",
                "s3:Replication:*",
                "s3:Replication:OperationFailedReplication",
                "s3:ObjectAcl:Put",
            ]
        ),
        identity=st.sampled_from(["a", "b", OURS.identity]),
    ),
    max_size=3,
)


@given(
    found=st.builds(bucket, topics=ENTRIES, queues=ENTRIES),
    part=st.sampled_from(Part),
    wish=st.builds(Wish),
)
def test_what_is_chosen_is_never_refused(found: BucketFound, part: Part, wish: Wish) -> None:
    """Merged into what is there, no entry of ours overlaps with one of others, unless it was said as a conflict."""
    choice = choose(found, part, wish=wish, ours=OURS)
    refused = notifications.overlaps(found.notifications, choice.entry) if choice.entry else ()

    assert bool(refused) is bool(choice.conflict)
    if wish.source is None:
        assert not choice.conflict
        assert choice.source is not Source.CLOUDTRAIL
    assert choice.source is (wish.source or choice.source)
    assert choice.switch is (choice.source is Source.EVENTBRIDGE)
    brings_writes = choice.switch or choice.source is Source.CLOUDTRAIL
    assert brings_writes or "s3:ObjectCreated:*" in events(choice)


def test_which_buckets_send_and_what_they_are() -> None:
    """Sources always; destinations where asked for; a chain's middle is both without asking."""
    first = bucket(name="first", destination="middle")
    middle = bucket(name="middle", destination="last")
    last = bucket(name="last", destination=None, place=CAPE_TOWN)
    plain = bucket(name="plain", destination=None)
    discovery = Discovery(buckets=(last, plain, middle, first))
    named = [(found.name, part) for found, part in parts(discovery, Wish())]

    assert named == [("first", Part.SOURCE), ("middle", Part.BOTH)]
    with_destinations = parts(discovery, Wish(destination_events=True))
    assert [(found.name, part) for found, part in with_destinations] == [
        *named,
        ("last", Part.DESTINATION),
    ]


def discovered(*rates: float | None, place: Place = CAPE_TOWN) -> tuple[list[Choice], Discovery]:
    """Buckets with these rates, all through EventBridge."""
    buckets = tuple(
        bucket(name=f"src-{number}", place=place, writes_per_second=rate)
        for number, rate in enumerate(rates)
    )
    choices = [chosen(found, source=Source.EVENTBRIDGE) for found in buckets]
    return choices, Discovery(buckets=buckets)


def test_what_eventbridge_has_to_deliver() -> None:
    """The rates of a region's buckets together stand beside its quota; from half of it on people are warned."""
    (below,) = loads(*discovered(200.0, 174.0, None))
    (half,) = loads(*discovered(200.0, 175.0))

    assert (below.place, below.per_second, below.quota) == (CAPE_TOWN, 374.0, 750)
    assert below.rates == {"src-0": 200.0, "src-1": 174.0, "src-2": None}
    assert (below.notable, half.notable) == (False, True)
    assert below.sentences() == (
        "EventBridge delivers 750 events a second in af-south-1 of 444455556666, to all targets of the account. Up to "
        "374 would come from 2 buckets. The rate of 1 bucket is not known: there are no request metrics."
    )
    assert half.sentences().endswith(
        "Up to 375 would come from 2 buckets. What exceeds it comes late: request an increase of the quota L-5540C5E3, "
        "or let the busiest buckets send straight to the queue."
    )


def test_the_accounts_own_quota_counts() -> None:
    """Where it is known it stands in place of the default."""
    (load,) = loads(*discovered(400.0), invocations={CAPE_TOWN: 5000})

    assert (load.quota, load.notable) == (5000, False)


def test_only_what_goes_through_eventbridge_counts() -> None:
    """Trails send through it, too; notifications do not. Regions and accounts are apart."""
    choices, discovery = discovered(100.0, 30.0, 7.0)
    straight = msgspec.structs.replace(choices[0], source=Source.NOTIFICATIONS)
    trail = msgspec.structs.replace(choices[1], source=Source.CLOUDTRAIL)
    elsewhere = msgspec.structs.replace(choices[2], place=HERE)
    found = loads((elsewhere, straight, trail), discovery)

    assert [(load.place, load.per_second) for load in found] == [(HERE, 7.0), (CAPE_TOWN, 30.0)]
    assert loads((straight,), discovery) == ()


@pytest.mark.parametrize(
    ("region", "invocations", "rules"),
    [
        ("us-east-1", 18_750, 300),
        ("eu-central-1", 4_500, 300),
        ("eu-west-2", 2_250, 300),
        ("eu-north-1", 1_100, 300),
        ("af-south-1", 750, 100),
        ("mx-central-1", 750, 300),
    ],
)
def test_quotas_by_region(region: str, invocations: int, rules: int) -> None:
    """As AWS's page has them; a region that is not on it has the lowest."""
    assert quotas.invocations_per_second(region) == invocations
    assert quotas.rules_per_bus(region) == rules
