"""Merging into a bucket's notification configuration what is ours, and nothing else."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment.notifications import (
    Difference,
    Entry,
    Kind,
    NotificationConfiguration,
    difference,
    merge,
    overlap,
    overlaps,
    parse,
    queue_entry,
    remove,
    serialize,
)

OURS = "crrmon-acme"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:acme-events"
ENTRY = queue_entry(OURS, arn=QUEUE, events=("s3:ObjectRemoved:*", "s3:ObjectCreated:*"))

FOREIGN: dict[str, Any] = {
    "ResponseMetadata": {"RequestId": "X", "HTTPStatusCode": 200},
    "TopicConfigurations": [
        {
            "Id": "thumbnails",
            "TopicArn": "arn:aws:sns:eu-west-1:111122223333:pictures",
            "Events": ["s3:ObjectCreated:Put", "s3:ObjectTagging:*"],
            "Filter": {
                "Key": {
                    "FilterRules": [
                        {"Name": "Prefix", "Value": "in/"},
                        {"Name": "Suffix", "Value": ".png"},
                    ]
                }
            },
            "NewInS3": {"Field": 1},
        }
    ],
    "LambdaFunctionConfigurations": [
        {
            "Id": "bin",
            "LambdaFunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:bin",
            "Events": ["s3:ObjectRemoved:Delete"],
        }
    ],
    "EventBridgeConfiguration": {},
    "SomethingNew": [{"Kept": True}],
}

IDS = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
EVENTS = st.sampled_from(
    [
        "s3:ObjectCreated:*",
        "s3:ObjectCreated:Put",
        "s3:ObjectCreated:Copy",
        "s3:ObjectRemoved:*",
        "s3:ObjectRemoved:Delete",
        "s3:Replication:*",
        "s3:LifecycleTransition",
    ]
)
PARTS = st.text("ab", max_size=2)
ARN_FIELDS = {
    Kind.QUEUE: "QueueArn",
    Kind.TOPIC: "TopicArn",
    Kind.LAMBDA: "LambdaFunctionArn",
}
LISTS = {
    Kind.QUEUE: "QueueConfigurations",
    Kind.TOPIC: "TopicConfigurations",
    Kind.LAMBDA: "LambdaFunctionConfigurations",
}


@st.composite
def raw_entries(draw: st.DrawFn, kind: Kind) -> dict[str, Any]:
    raw: dict[str, Any] = {
        ARN_FIELDS[kind]: draw(st.sampled_from(["arn:x", "arn:y"])),
        "Events": draw(st.lists(EVENTS, min_size=1, max_size=3, unique=True)),
    }
    if identity := draw(IDS):
        raw["Id"] = identity
    rules = [
        {"Name": draw(st.sampled_from([name, name.title()])), "Value": draw(PARTS)}
        for name in draw(st.lists(st.sampled_from(["prefix", "suffix"]), unique=True))
    ]
    if rules or draw(st.booleans()):
        raw["Filter"] = {"Key": {"FilterRules": rules}}
    if draw(st.booleans()):
        raw["NewInS3"] = draw(st.sampled_from([1, "x", {"deep": ["er"]}]))
    return raw


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """What GetBucketNotificationConfiguration may answer where nothing is ours."""
    answer: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
    for kind, name in LISTS.items():
        if entries := draw(st.lists(raw_entries(kind), max_size=3)):
            answer[name] = entries
    if draw(st.booleans()):
        answer["EventBridgeConfiguration"] = draw(st.sampled_from([{}, {"New": 1}]))
    if draw(st.booleans()):
        answer["SomethingNew"] = draw(st.sampled_from(["x", [], {"a": None}]))
    return answer


CONFIGURATIONS = answers().map(parse)
OUR_ENTRIES = st.lists(EVENTS, min_size=1).map(
    lambda events: queue_entry(OURS, arn=QUEUE, events=events)
)


def reads(configuration: NotificationConfiguration) -> dict[str, Any]:
    """The next answer after it was written."""
    return {"ResponseMetadata": {"HTTPStatusCode": 200}, **serialize(configuration)}


def entry(
    *events: str, prefix: str = "", suffix: str = "", kind: Kind = Kind.TOPIC, identity: str = "x"
) -> Entry:
    rules = [{"Name": "Prefix", "Value": prefix}, {"Name": "Suffix", "Value": suffix}]
    raw = {
        "Id": identity,
        ARN_FIELDS[kind]: "arn:theirs",
        "Events": list(events),
        "Filter": {"Key": {"FilterRules": rules}},
    }
    return Entry(kind=kind, raw=raw)


@given(answers())
def test_what_was_read_is_written_as_it_was(answer: dict[str, Any]) -> None:
    """All fields go back as they came, known or not, but for the SDK's own; and the answer stays as it is."""
    before = copy.deepcopy(answer)
    written = serialize(parse(answer))

    assert answer == before
    assert written == {name: value for name, value in before.items() if name != "ResponseMetadata"}


def test_nothing_is_shared_with_what_was_read_or_written() -> None:
    """Whoever changes an answer afterwards, or what is to be written, changes no value here."""
    answer = copy.deepcopy(FOREIGN)
    configuration = parse(answer)
    answer["TopicConfigurations"][0]["Events"].append("s3:ObjectAcl:Put")
    written = serialize(configuration)
    written["TopicConfigurations"][0]["Filter"].clear()

    assert configuration == parse(FOREIGN)


def test_what_an_entry_says() -> None:
    """Id, destination, events and filter are read, the filter's names as S3 capitalises them."""
    thumbnails, functions = parse(FOREIGN).entries

    assert (thumbnails.kind, thumbnails.id) == (Kind.TOPIC, "thumbnails")
    assert thumbnails.arn == "arn:aws:sns:eu-west-1:111122223333:pictures"
    assert thumbnails.events == ("s3:ObjectCreated:Put", "s3:ObjectTagging:*")
    assert (thumbnails.prefix, thumbnails.suffix) == ("in/", ".png")
    assert (functions.kind, functions.prefix, functions.suffix) == (Kind.LAMBDA, "", "")
    assert str(thumbnails) == (
        "thumbnails (s3:ObjectCreated:Put, s3:ObjectTagging:* of keys that begin with 'in/' and that end with "
        "'.png', to arn:aws:sns:eu-west-1:111122223333:pictures)"
    )
    assert str(functions) == (
        "bin (s3:ObjectRemoved:Delete of all keys, to arn:aws:lambda:eu-west-1:111122223333:function:bin)"
    )


def test_a_bucket_without_a_configuration() -> None:
    """Where nothing is configured nothing is read, and ours alone is written."""
    nothing = parse({"ResponseMetadata": {}})

    assert nothing == NotificationConfiguration()
    assert serialize(merge(nothing, OURS, entry=ENTRY, switch=False)) == {
        "QueueConfigurations": [
            {
                "Id": OURS,
                "QueueArn": QUEUE,
                "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
            }
        ]
    }


@given(configuration=CONFIGURATIONS, entry=st.none() | OUR_ENTRIES, switch=st.booleans())
def test_merging_again_changes_nothing(
    configuration: NotificationConfiguration, entry: Entry | None, *, switch: bool
) -> None:
    """What was merged once is there, also after S3 wrote it in its way."""
    once = merge(configuration, OURS, entry=entry, switch=switch)
    again = merge(parse(reads(once)), OURS, entry=entry, switch=switch)

    assert again == parse(reads(once))
    assert again.entry(OURS) == entry
    assert again.eventbridge is (configuration.eventbridge or switch)


@given(
    configuration=CONFIGURATIONS,
    entries=st.lists(st.none() | OUR_ENTRIES, max_size=3),
    switch=st.booleans(),
)
def test_others_keep_all_they_had(
    configuration: NotificationConfiguration, entries: list[Entry | None], *, switch: bool
) -> None:
    """However often ours changes, what is not ours stays as it was, in its order; and ours taken out leaves it."""
    merged = configuration
    for one in entries:
        merged = merge(merged, OURS, entry=one, switch=switch)
        assert tuple(e for e in merged.entries if e.id != OURS) == configuration.entries
        assert merged.other == configuration.other

    on_before = configuration.eventbridge
    turned_on = merged.eventbridge and not on_before
    assert remove(merged, OURS, switch_off=turned_on) == configuration


def test_s3s_own_way_to_write_ours_is_left() -> None:
    """Another order of the events is no change; other events, or another queue, are one, in the same place."""
    raw = {
        "Id": OURS,
        "QueueArn": QUEUE,
        "Events": ["s3:ObjectRemoved:*", "s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": []}},
    }
    theirs = {"Id": "last", "QueueArn": "arn:other", "Events": ["s3:LifecycleTransition"]}
    now = parse({"QueueConfigurations": [raw, theirs]})

    assert merge(now, OURS, entry=ENTRY, switch=False) == now
    moved = queue_entry(OURS, arn="arn:aws:sqs:eu-west-1:1:moved", events=ENTRY.events)
    assert [e.arn for e in merge(now, OURS, entry=moved, switch=False).entries] == [
        "arn:aws:sqs:eu-west-1:1:moved",
        "arn:other",
    ]


def test_ours_twice_becomes_ours_once() -> None:
    """An entry of another kind under our Id is replaced, too: S3 takes each Id once."""
    stray = entry("s3:ObjectCreated:*", identity=OURS)
    now = NotificationConfiguration(entries=(stray, ENTRY))

    assert merge(now, OURS, entry=ENTRY, switch=False).entries == (ENTRY,)


def test_an_entry_under_another_id_is_refused() -> None:
    """It would be added again each time, and never removed."""
    with pytest.raises(ValueError, match="'crrmon-acme', and not 'crrmon-other'"):
        merge(NotificationConfiguration(), "crrmon-other", entry=ENTRY, switch=False)


def test_the_switch_of_others_stays_on() -> None:
    """The switch is not turned off by taking ours out, nor by merging without it."""
    now = merge(parse(FOREIGN), OURS, entry=ENTRY, switch=False)

    assert now.eventbridge
    assert remove(now, OURS).eventbridge
    assert not remove(now, OURS, switch_off=True).eventbridge
    assert "EventBridgeConfiguration" not in serialize(remove(now, OURS, switch_off=True))


@pytest.mark.parametrize(
    ("ours", "theirs", "events", "example"),
    [
        (entry("s3:ObjectCreated:*"), entry("s3:ObjectCreated:*"), ("s3:ObjectCreated:*",), ""),
        (
            entry("s3:ObjectCreated:*"),
            entry("s3:ObjectCreated:Put"),
            ("s3:ObjectCreated:Put",),
            "",
        ),
        (
            entry("s3:ObjectCreated:Put"),
            entry("s3:ObjectCreated:*"),
            ("s3:ObjectCreated:Put",),
            "",
        ),
        (entry("s3:ObjectCreated:Put"), entry("s3:ObjectCreated:Copy"), (), None),
        (entry("s3:ObjectCreated:*"), entry("s3:ObjectRemoved:*"), (), None),
        (
            entry("s3:Replication:*"),
            entry("s3:Replication:OperationFailedReplication"),
            ("s3:Replication:OperationFailedReplication",),
            "",
        ),
        (
            entry("s3:LifecycleExpiration:Delete"),
            entry("s3:LifecycleExpiration:*", "s3:LifecycleTransition"),
            ("s3:LifecycleExpiration:Delete",),
            "",
        ),
        (
            entry("s3:ObjectCreated:*"),
            entry("s3:ObjectCreated:*", prefix="in/", suffix=".png"),
            ("s3:ObjectCreated:*",),
            "in/.png",
        ),
        (
            entry("s3:ObjectCreated:*", prefix="in"),
            entry("s3:ObjectCreated:*", prefix="in/"),
            ("s3:ObjectCreated:*",),
            "in/",
        ),
        (
            entry("s3:ObjectCreated:*", prefix="in/"),
            entry("s3:ObjectCreated:*", prefix="out/"),
            (),
            None,
        ),
        (
            entry("s3:ObjectCreated:*", prefix="in/"),
            entry("s3:ObjectCreated:*", suffix=".png"),
            ("s3:ObjectCreated:*",),
            "in/.png",
        ),
        (
            entry("s3:ObjectCreated:*", suffix="jpg"),
            entry("s3:ObjectCreated:*", suffix="pg"),
            ("s3:ObjectCreated:*",),
            "jpg",
        ),
        (
            entry("s3:ObjectCreated:*", prefix="in/", suffix=".jpg"),
            entry("s3:ObjectCreated:*", prefix="in/", suffix=".png"),
            (),
            None,
        ),
    ],
)
def test_what_s3_refuses_together(
    ours: Entry, theirs: Entry, events: tuple[str, ...], example: str | None
) -> None:
    """The cases of S3's own page on filters: an event, a prefix and a suffix in common, whatever the destination."""
    found = overlap(ours, theirs)

    if example is None:
        assert found is None
    else:
        assert found is not None
        assert (found.events, found.example_key) == (events, example)


CONCRETE = [
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Copy",
    "s3:ObjectRemoved:Delete",
    "s3:Replication:OperationNotTracked",
    "s3:LifecycleTransition",
]
KEYS = ["".join(key) for length in range(6) for key in itertools.product("ab", repeat=length)]
"""Two filters with parts of two characters have a key of four in common, or none."""


def fits(one: Entry, event: str, key: str) -> bool:
    """Whether S3 would tell of an event: written without looking at how overlaps are found."""
    asked = any(event.startswith(e[:-1]) if e[-1] == "*" else event == e for e in one.events)
    return asked and key.startswith(one.prefix) and key.endswith(one.suffix)


ANY_ENTRY = st.sampled_from(Kind).flatmap(
    lambda kind: raw_entries(kind).map(lambda raw: Entry(kind=kind, raw=raw))
)


@given(one=ANY_ENTRY, two=ANY_ENTRY)
def test_entries_overlap_where_one_event_of_one_key_is_told_to_both(
    one: Entry, two: Entry
) -> None:
    """As trying all events of all short keys tells; the example is such a key, and who is asked first is the same."""
    both = any(
        fits(one, event, key) and fits(two, event, key) for event in CONCRETE for key in KEYS
    )
    found, other_way = overlap(one, two), overlap(two, one)

    assert (found is not None) is both
    assert (other_way is not None) is both
    if found is not None and other_way is not None:
        assert found.events == other_way.events
        assert found.example_key == other_way.example_key
        assert all(
            found.example_key.startswith(e.prefix) and found.example_key.endswith(e.suffix)
            for e in (one, two)
        )


def test_overlaps_across_all_kinds_but_not_with_ours() -> None:
    """Those with a topic and a function are found; the one with our own earlier entry is none."""
    now = merge(parse(FOREIGN), OURS, entry=ENTRY, switch=False)
    found = overlaps(now, ENTRY)

    assert [(o.theirs.id, o.events, o.example_key) for o in found] == [
        ("thumbnails", ("s3:ObjectCreated:Put",), "in/.png"),
        ("bin", ("s3:ObjectRemoved:Delete",), ""),
    ]


@given(CONFIGURATIONS, st.randoms(use_true_random=False))
def test_only_what_s3_keeps_is_compared(
    configuration: NotificationConfiguration, rng: Any
) -> None:
    """Other orders, capitals, empty filters and made-up Ids are no difference."""
    answer = reads(configuration)
    for kind, name in LISTS.items():
        entries = answer.get(name, [])
        rng.shuffle(entries)
        for number, raw in enumerate(entries):
            raw.setdefault("Id", f"made-up-{kind}-{number}")
            rng.shuffle(raw["Events"])
            rules = raw.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            rng.shuffle(rules)
            for rule in rules:
                rule["Name"] = rule["Name"].swapcase()
            if not any(rule["Value"] for rule in rules):
                raw.pop("Filter", None)
    found = difference(configuration, parse(answer))

    assert not found
    assert found == Difference()
    assert found.sentences() == ()


@given(configuration=CONFIGURATIONS, kind=st.sampled_from(Kind), data=st.data())
def test_one_entry_more_or_less_is_told(
    configuration: NotificationConfiguration, kind: Kind, data: st.DataObject
) -> None:
    """What somebody else added since is new, and what somebody else took out is missing; also where it is there twice."""
    raw = data.draw(raw_entries(kind)) | {"Id": "somebody"}
    more = NotificationConfiguration(
        entries=(*configuration.entries, Entry(kind=kind, raw=raw)),
        switch=configuration.switch,
        other=configuration.other,
    )

    assert difference(configuration, configuration) == Difference()
    assert [e.id for e in difference(configuration, more).unexpected] == ["somebody"]
    assert [e.id for e in difference(more, configuration).missing] == ["somebody"]
    doubled = NotificationConfiguration(entries=(*more.entries, more.entries[-1]))
    assert [e.id for e in difference(more, doubled).unexpected] == ["somebody"]


def test_what_somebody_else_changed_is_told_in_words() -> None:
    """Each way in which what is read back is not what was written has its sentence."""
    written = merge(parse(FOREIGN), OURS, entry=ENTRY, switch=False)
    answer = reads(written)
    answer["LambdaFunctionConfigurations"][0]["Events"] = ["s3:ObjectAcl:Put"]
    answer["TopicConfigurations"] = []
    answer["QueueConfigurations"].append({"Id": "new", "QueueArn": "arn:n", "Events": ["s3:X"]})
    answer["SomethingNew"] = []
    del answer["EventBridgeConfiguration"]
    found = difference(written, parse(answer))
    to = " of all keys, to arn:aws:lambda:eu-west-1:111122223333:function:bin"

    assert found
    assert found.sentences() == (
        f"Entry {parse(FOREIGN).entries[0]} is missing.",
        "Entry new (s3:X of all keys, to arn:n) is new.",
        f"Entry bin (s3:ObjectRemoved:Delete{to}) is now bin (s3:ObjectAcl:Put{to}).",
        "EventBridge is off.",
        "SomethingNew has other contents.",
    )
    assert difference(parse(answer), written).eventbridge is True


def test_an_id_counts_where_one_was_written() -> None:
    """The same under another Id is another entry: ours is found by its Id alone."""
    first = NotificationConfiguration(entries=(ENTRY,))
    renamed = queue_entry("crrmon-other", arn=QUEUE, events=ENTRY.events)
    found = difference(first, NotificationConfiguration(entries=(renamed,)))

    assert (found.missing, found.unexpected, found.changed) == ((ENTRY,), (renamed,), ())


def test_contents_of_the_switch_count() -> None:
    """What may once stand in the switch is written back, and missed when it is not there."""
    first = parse({"EventBridgeConfiguration": {"New": 1}})
    found = difference(first, parse({"EventBridgeConfiguration": {}}))

    assert (found.eventbridge, found.fields) == (None, ("EventBridgeConfiguration",))


@pytest.mark.parametrize(
    "change",
    [
        {"QueueArn": "arn:other"},
        {"Events": ["s3:ObjectCreated:*"]},
        {"NewInS3": 2},
        {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "b"}]}}},
        {"Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": "a"}]}}},
        {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}], "New": 1}}},
        {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}]}, "New": 1}},
    ],
)
def test_any_other_field_counts(change: dict[str, Any]) -> None:
    """An entry with anything else than it had is told as changed."""
    raw = {
        "Id": "x",
        "QueueArn": "arn:q",
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}]}},
        "NewInS3": 1,
    }
    first = parse({"QueueConfigurations": [raw]})
    second = parse({"QueueConfigurations": [raw | change]})

    assert difference(first, second).changed == ((first.entries[0], second.entries[0]),)
