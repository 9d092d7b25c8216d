import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from crrmon.domain.objects import UNKNOWN_DESTINATION
from crrmon.domain.outcomes import Cause
from crrmon.domain.records import Destination
from crrmon.domain.routes import (
    WRITE_SLACK_SECONDS,
    Configuration,
    Covered,
    NotCovered,
    Rule,
    Unsure,
    coverage,
    parse,
)

READ_AT = 1_790_000_000.0
MINIO = Path(__file__).parent.parent / "data" / "minio"


def rule(bucket: str = "dst-one", **changes: Any) -> dict[str, Any]:
    """Make an enabled rule for a destination bucket, as GetBucketReplication tells it."""
    plain = {
        "ID": f"to-{bucket}",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{bucket}"},
    }
    return {name: value for name, value in {**plain, **changes}.items() if value != "absent"}


def configuration(*rules: Any) -> Configuration:
    """Parse a configuration of these rules."""
    return parse({"Role": "arn:aws:iam::1:role/r", "Rules": list(rules)}, fetched_at=READ_AT)


def tagged(prefix: str | None = None) -> dict[str, Any]:
    """Make a filter that asks for a tag, and perhaps for a prefix."""
    tags = [{"Key": "tier", "Value": "gold"}]
    return {"And": {"Tags": tags} if prefix is None else {"Prefix": prefix, "Tags": tags}}


# ---- which keys a rule selects ----


@pytest.mark.parametrize(
    ("changes", "selected", "left_out"),
    [
        pytest.param({"Filter": {}}, ["a", "logs/a"], [], id="v2-empty"),
        pytest.param({"Filter": "absent"}, ["a", "logs/a"], [], id="no-filter-at-all"),
        pytest.param({"Filter": {"Prefix": ""}}, ["a", "logs/a"], [], id="v2-empty-prefix"),
        pytest.param({"Filter": {"Prefix": "logs/"}}, ["logs/a"], ["a", "logs"], id="v2-prefix"),
        pytest.param({"Filter": {"And": {"Prefix": "logs/"}}}, ["logs/a"], ["a"], id="v2-and"),
        pytest.param(
            {"Filter": {"Prefix": "logs/", "Tag": None}}, ["logs/a"], ["a"], id="v2-none-is-absent"
        ),
        pytest.param(
            {"Filter": "absent", "Priority": "absent", "Prefix": ""}, ["a"], [], id="v1-all"
        ),
        pytest.param(
            {"Filter": "absent", "Priority": "absent", "Prefix": "logs/"},
            ["logs/a", "logs/"],
            ["a", "Logs/a"],
            id="v1-prefix",
        ),
    ],
)
def test_prefixes(changes: dict[str, Any], selected: list[str], left_out: list[str]) -> None:
    """A rule without tags selects, for certain, the keys with its prefix and no others."""
    known = configuration(rule(**changes))

    for key in selected:
        assert known.destinations(key) == (Destination("dst-one", rule="to-dst-one"),)
    for key in left_out:
        assert known.destinations(key) == ()
    assert known.doubts == ()


@pytest.mark.parametrize(
    ("selection", "selected", "left_out"),
    [
        pytest.param({"Tag": {"Key": "tier", "Value": "gold"}}, ["a"], [], id="one-tag"),
        pytest.param(tagged(), ["a"], [], id="tags"),
        pytest.param(tagged("logs/"), ["logs/a"], ["a"], id="prefix-and-tags"),
    ],
)
def test_tags_are_maybe(
    selection: dict[str, Any], selected: list[str], left_out: list[str]
) -> None:
    """A tag filter might select the keys with its prefix: the key alone cannot tell."""
    known = configuration(rule(Filter=selection))

    for key in selected:
        assert known.destinations(key) == (
            Destination("dst-one", rule="to-dst-one", certain=False),
        )
    for key in left_out:
        assert known.destinations(key) == ()
    assert known.doubts == ()


@pytest.mark.parametrize(
    "arn", ["arn:aws:s3:::dst", "arn:aws-cn:s3:::dst", "arn:aws-us-gov:s3:::dst"]
)
def test_any_partition(arn: str) -> None:
    """The destination's name is found in an ARN of any partition."""
    known = configuration(rule(Destination={"Bucket": arn}))

    assert known.all_destinations == ("dst",)


# ---- rules of other stores ----


@pytest.mark.parametrize(
    ("bucket", "destination"),
    [("a-one", "b-one"), ("a-two", "b-two"), ("w-west", "w-east")],
)
def test_m1_what_minio_answers_is_understood(bucket: str, destination: str) -> None:
    """M1: both forms of MinIO's rules name a destination, select every key, and replicate delete markers as they say."""
    told = json.loads((MINIO / f"get_bucket_replication_{bucket}.json").read_text())

    known = parse(told, fetched_at=READ_AT)

    expected = (Destination(destination, rule=told["Rules"][0]["ID"]),)
    assert known.doubts == ()
    assert known.destinations("any/key") == expected
    assert known.marker_destinations("any/key") == expected


@pytest.mark.parametrize(
    ("told", "bucket"),
    [
        pytest.param("arn:minio:replication::79d0f9da-cb9e:dst-one", "dst-one", id="minio"),
        pytest.param("arn:minio:replication:eu-1:79d0f9da-cb9e:dst-one", "dst-one", id="region"),
        pytest.param("arn:rustfs:replication::79d0f9da-cb9e:dst-one", "dst-one", id="rustfs"),
        pytest.param("dst-one", "dst-one", id="bare-name"),
        pytest.param("arn:minio:replication::79d0f9da-cb9e:", UNKNOWN_DESTINATION, id="no-name"),
        pytest.param("arn:minio:replication::dst-one", UNKNOWN_DESTINATION, id="no-id"),
        pytest.param("arn:minio:sqs::primary:webhook", UNKNOWN_DESTINATION, id="of-a-queue"),
        pytest.param("arn:aws:s3:::dst/one", UNKNOWN_DESTINATION, id="key"),
        pytest.param("tenant:dst-one", UNKNOWN_DESTINATION, id="tenant"),
        pytest.param("", UNKNOWN_DESTINATION, id="nothing"),
    ],
)
def test_m1_a_destination_is_an_arn_of_any_store_or_a_name(told: str, bucket: str) -> None:
    """M1: the last part of a replication target's ARN is a bucket, and a name is a name."""
    known = configuration(rule(Destination={"Bucket": told}))

    assert [one.bucket for one in known.destinations("x")] == [bucket]
    assert (known.doubts == ()) is (bucket != UNKNOWN_DESTINATION)


@pytest.mark.parametrize(
    ("filter_", "certain"),
    [
        ({"Prefix": "logs/", "And": {}, "Tag": {}}, True),
        ({"Prefix": "logs/", "And": {"Prefix": "", "Tags": []}, "Tag": {"Key": "", "Value": ""}}, True),
        ({"Prefix": "", "And": {"Prefix": "logs/", "Tags": []}, "Tag": {"Key": ""}}, True),
        ({"Prefix": "", "And": {"Prefix": "logs/", "Tags": [{"Key": "", "Value": ""}]}, "Tag": None}, True),
        ({"Prefix": "", "And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": ""}]}, "Tag": {}}, False),
    ],
)  # fmt: skip
def test_m1_empty_parts_of_a_filter_are_absent(filter_: dict[str, Any], *, certain: bool) -> None:
    """M1: parts that hold nothing select nothing, and the prefix beside them stands."""
    known = configuration(rule(Filter=filter_))

    expected = Destination("dst-one", rule="to-dst-one", certain=certain)
    assert known.destinations("logs/x") == (expected,)
    assert known.destinations("x") == ()
    assert known.doubts == ()


@pytest.mark.parametrize("filter_", [{"Size": {}}, {"Prefix": "", "And": {"Size": {}}}])
def test_m1_an_empty_part_that_nobody_knows_is_a_doubt(filter_: dict[str, Any]) -> None:
    """Invariant 3: only of the parts that are known is it known that empty means absent."""
    known = configuration(rule(Filter=filter_))

    assert [one.certain for one in known.destinations("x")] == [False]


# ---- several rules ----


def test_d33_all_rules_count() -> None:
    """D33: not only Rules[0] is read; every enabled rule acts, each on its own prefix."""
    known = configuration(
        rule("dst-one", Filter={"Prefix": "logs/"}),
        rule("dst-two", Filter={"Prefix": "data/"}),
        rule("dst-three", Filter={"Prefix": "data/hot/"}),
    )

    assert known.destinations("logs/x") == (Destination("dst-one", rule="to-dst-one"),)
    assert known.destinations("data/x") == (Destination("dst-two", rule="to-dst-two"),)
    assert [one.bucket for one in known.destinations("data/hot/x")] == ["dst-three", "dst-two"]
    assert known.destinations("other") == ()
    assert known.all_destinations == ("dst-one", "dst-three", "dst-two")


def test_d33_disabled_rule_zero() -> None:
    """D33: a disabled first rule does not hide the bucket, and itself selects nothing."""
    known = configuration(
        rule("dst-one", Status="Disabled"), rule("dst-two", Filter={"Prefix": "logs/"})
    )

    assert known.destinations("logs/x") == (Destination("dst-two", rule="to-dst-two"),)
    assert known.destinations("x") == ()
    assert known.all_destinations == ("dst-two",)


def test_highest_priority_of_a_destination() -> None:
    """Of several rules for one bucket, the one with the highest priority gives its id."""
    known = configuration(
        rule(ID="low", Priority=3),
        rule(ID="high", Priority=12, Filter={"Prefix": "logs/"}),
        rule(ID="middle", Priority=7),
    )

    assert known.destinations("logs/x") == (Destination("dst-one", rule="high"),)
    assert known.destinations("x") == (Destination("dst-one", rule="middle"),)


def test_certain_beats_maybe() -> None:
    """A destination that one rule surely selects is certain, whatever a tag rule's priority is."""
    known = configuration(
        rule(ID="tags", Priority=99, Filter=tagged()),
        rule(ID="low", Priority=1),
        rule(ID="sure", Priority=5),
    )

    assert known.destinations("x") == (Destination("dst-one", rule="sure"),)


def _slowly(rules: tuple[Rule, ...], key: str) -> tuple[Destination, ...]:
    """Say again, the long way, which destinations a key has."""
    best: dict[str, Rule] = {}
    for one in rules:
        if key.startswith(one.prefix):
            other = best.get(one.destination)
            if other is None or (one.certain, one.priority) > (other.certain, other.priority):
                best[one.destination] = one
    return tuple(
        Destination(bucket, rule=best[bucket].id, certain=best[bucket].certain)
        for bucket in sorted(best)
    )


PREFIXES = st.text("ab/", max_size=4)


@given(
    st.lists(
        st.tuples(PREFIXES, st.sampled_from(["x", "y", "z"]), st.booleans()),
        max_size=12,
    ),
    st.text("ab/", max_size=8),
)
def test_same_as_the_long_way(shapes: list[tuple[str, str, bool]], key: str) -> None:
    """The look-up by prefix finds exactly what trying every rule would find."""
    rules = tuple(
        Rule(destination=bucket, id=str(number), prefix=prefix, priority=number, certain=certain)
        for number, (prefix, bucket, certain) in enumerate(shapes)
    )

    assert Configuration(rules=rules, fetched_at=0).destinations(key) == _slowly(rules, key)


class CountingText(str):
    """A key that counts how often a prefix is cut off it."""

    __slots__ = ("cuts",)

    @override
    def __getitem__(self, index: Any) -> str:
        self.cuts = getattr(self, "cuts", 0) + 1
        return super().__getitem__(index)


def test_a_thousand_rules_cost_one_look_up_per_length_of_prefix() -> None:
    """The most rules that S3 allows, with prefixes of three lengths: three look-ups a key, the right one found."""
    known = configuration(
        *(rule(f"dst-{number % 7}", ID=f"r{number}", Priority=number, Filter={
            "Prefix": f"{number:04}/" + "ab"[: number % 3]
        }) for number in range(1000))
    )  # fmt: skip
    key = CountingText("0999/x")

    assert known.destinations(key) == (Destination("dst-5", rule="r999"),)
    assert key.cuts <= 3
    assert known.destinations("1000/x") == ()


# ---- what rules say beside ----


@pytest.mark.parametrize(
    ("changes", "replicated"),
    [
        pytest.param({"DeleteMarkerReplication": {"Status": "Enabled"}}, True, id="v2-enabled"),
        pytest.param({}, False, id="v2-disabled"),
        pytest.param({"DeleteMarkerReplication": "absent"}, False, id="v2-says-nothing"),
        pytest.param(
            {"DeleteMarkerReplication": {"Status": "Enabled"}, "Filter": tagged("a/")},
            False,
            id="never-with-tags",
        ),
        pytest.param(
            {"DeleteMarkerReplication": "absent", "Filter": "absent", "Prefix": "a/"},
            True,
            id="v1-by-default",
        ),
        pytest.param(
            {"DeleteMarkerReplication": {"Status": "Enabled"}, "Status": "Disabled"},
            False,
            id="disabled-rule",
        ),
        pytest.param(
            {"DeleteMarkerReplication": {"Status": "Enabled"}, "Filter": {"Size": 5}},
            False,
            id="not-understood",
        ),
        pytest.param(
            {"DeleteMarkerReplication": {"Status": "Enabled"}, "Filter": {"Prefix": "b/"}},
            False,
            id="other-prefix",
        ),
        pytest.param({"DeleteMarkerReplication": "Enabled"}, False, id="no-structure"),
        pytest.param(
            {"DeleteMarkerReplication": {"Status": ""}, "Filter": "absent", "Prefix": ""},
            True,
            id="v1-empty",
        ),
        pytest.param({"DeleteMarkerReplication": {}, "Filter": {}}, False, id="v2-empty"),
    ],
)
def test_d21_which_rules_replicate_delete_markers(
    changes: dict[str, Any], *, replicated: bool
) -> None:
    """D21: only what is certain: nobody can look at a marker to find out."""
    known = configuration(rule(**changes))

    assert [one.bucket for one in known.marker_destinations("a/x")] == ["dst-one"] * replicated


def test_the_rule_that_counts_decides_about_markers() -> None:
    """Of several rules for one bucket the highest priority alone says whether markers replicate."""
    enabled = {"DeleteMarkerReplication": {"Status": "Enabled"}}
    known = configuration(
        rule(ID="low", Priority=1, **enabled),
        rule(ID="high", Priority=2, Filter={"Prefix": "no/"}),
        rule("dst-two", ID="two", **enabled),
    )

    assert [one.rule for one in known.marker_destinations("x")] == ["low", "two"]
    assert [one.rule for one in known.marker_destinations("no/x")] == ["two"]


def test_timed_rules_and_owners() -> None:
    """Replication Time Control and the destination's account are read where they are what they should be."""
    known = configuration(
        rule(
            Destination={
                "Bucket": "arn:aws:s3:::dst-one",
                "Account": "109876543210",
                "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
            }
        ),
        rule(
            "dst-two",
            Destination={
                "Bucket": "arn:aws:s3:::dst-two",
                "Account": "me",
                "ReplicationTime": {"Status": "Disabled"},
            },
        ),
    )

    assert known.timed == {"dst-one"}
    assert [one.owner for one in known.destinations("x")] == ["109876543210", None]


# ---- what is not understood ----


@pytest.mark.parametrize(
    ("strange", "bucket", "doubt"),
    [
        pytest.param(rule(Status="Paused"), "dst-one", "status", id="status"),
        pytest.param(rule(Status="absent"), "dst-one", "status", id="no-status"),
        pytest.param(rule(Filter=["x"]), "dst-one", "is not an object", id="filter-list"),
        pytest.param(rule(Filter={"Size": 5}), "dst-one", "(Size)", id="unknown-criterion"),
        pytest.param(
            rule(Filter={"Prefix": "logs/", "Size": 5}),
            "dst-one",
            "(Prefix, Size)",
            id="two-parts",
        ),
        pytest.param(
            rule(Filter={"SDK_UNKNOWN_MEMBER": {"name": "Size"}}),
            "dst-one",
            "SDK",
            id="new-to-sdk",
        ),
        pytest.param(rule(Filter={"Prefix": 7}), "dst-one", "(Prefix)", id="prefix-number"),
        pytest.param(rule(Filter={"And": "x"}), "dst-one", "(And)", id="and-text"),
        pytest.param(rule(Filter={"And": {"Size": 1}}), "dst-one", "(Size)", id="and-unknown"),
        pytest.param(
            rule(Filter={"And": {"Prefix": 7}}), "dst-one", "is not text", id="and-prefix"
        ),
        pytest.param(rule(Prefix="logs/"), "dst-one", "both", id="filter-and-prefix"),
        pytest.param(
            rule(Filter="absent", Prefix=7), "dst-one", "(Prefix)", id="v1-prefix-number"
        ),
        pytest.param(rule(Destination="absent"), UNKNOWN_DESTINATION, "ARN", id="no-destination"),
        pytest.param(
            rule(Destination={"Bucket": "arn:aws:s3-outposts:eu-west-1:1:outpost/o/bucket/b"}),
            UNKNOWN_DESTINATION,
            "ARN",
            id="outposts",
        ),
        pytest.param(rule(Destination={"Bucket": 7}), UNKNOWN_DESTINATION, "ARN", id="no-arn"),
        pytest.param("a rule", UNKNOWN_DESTINATION, "rule 0", id="no-structure"),
    ],
)
def test_what_is_not_understood_is_maybe(strange: Any, bucket: str, doubt: str) -> None:
    """Invariant 3: a rule that is not understood might apply to every key, and says why."""
    known = configuration(strange)

    assert [(one.bucket, one.certain) for one in known.destinations("x")] == [(bucket, False)]
    assert isinstance(coverage(known, "x", written_at=READ_AT - 60), Covered)
    assert len(known.doubts) == 1
    assert doubt in known.doubts[0]


def test_unknown_part_beside_a_prefix() -> None:
    """In a conjunction the prefix stands: an unknown part of it can only select fewer keys."""
    known = configuration(rule(Filter={"And": {"Prefix": "logs/", "Size": 5}}))

    assert known.destinations("logs/x") == (
        Destination("dst-one", rule="to-dst-one", certain=False),
    )
    assert known.destinations("x") == ()


@pytest.mark.parametrize("raw", [{}, {"Rules": None}, {"Rules": "none"}])
def test_no_list_of_rules(raw: dict[str, Any]) -> None:
    """Invariant 3: a configuration whose rules cannot be found might cover everything."""
    known = parse(raw, fetched_at=READ_AT)

    assert known.destinations("x") == (Destination(UNKNOWN_DESTINATION, certain=False),)
    assert len(known.doubts) == 1


def test_the_unknown_destination_is_not_listed() -> None:
    """The stand-in for what was not understood is no bucket to report about."""
    known = configuration(rule("dst-one"), rule(Destination="absent"))

    assert known.all_destinations == ("dst-one",)


def test_rules_beside_a_strange_one_stand() -> None:
    """One rule that is not understood harms no other rule."""
    known = configuration(rule("dst-one"), rule("dst-two", Filter={"Size": 5}))

    assert known.destinations("x") == (
        Destination("dst-one", rule="to-dst-one"),
        Destination("dst-two", rule="to-dst-two", certain=False),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NO_PREFIX = JSON.filter(lambda value: not isinstance(value, str))
FILTERS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "Prefix": NO_PREFIX,
        "Tag": JSON,
        "And": JSON | st.fixed_dictionaries({}, optional={"Prefix": NO_PREFIX, "Tags": JSON}),
        "Size": JSON,
    },
)
RULES = JSON | st.fixed_dictionaries(
    {},
    optional={
        "ID": JSON,
        "Status": JSON,
        "Priority": JSON,
        "Filter": FILTERS,
        "Prefix": NO_PREFIX,
        "Destination": JSON | st.fixed_dictionaries({"Bucket": JSON}),
    },
)


@given(st.lists(RULES, min_size=1, max_size=3), st.text(max_size=8))
@example([{"Status": "Enabled", "Filter": {"And": {"Tags": []}}}], "")
def test_nothing_strange_uncovers_a_key(rules: list[Any], key: str) -> None:
    """Invariant 3: whatever rules look like, none is an error, and none without a plain prefix uncovers a key."""
    known = configuration(*rules)

    assert known.destinations(key)


# ---- coverage ----


def test_covered() -> None:
    """A key that a rule selects is covered, however old the configuration is."""
    known = configuration(rule())

    covered = Covered((Destination("dst-one", rule="to-dst-one"),))
    assert coverage(known, "x", written_at=READ_AT + 3600) == covered


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        pytest.param(
            parse(None, fetched_at=READ_AT), Cause.NO_CONFIGURATION, id="no-configuration"
        ),
        pytest.param(configuration(), Cause.NO_CONFIGURATION, id="no-rules"),
        pytest.param(
            configuration(rule(Status="Disabled")), Cause.NO_CONFIGURATION, id="disabled"
        ),
        pytest.param(
            configuration(rule(Filter={"Prefix": "logs/"})), Cause.NO_RULE, id="other-prefix"
        ),
    ],
)
def test_not_covered_needs_a_newer_configuration(known: Configuration, cause: Cause) -> None:
    """Invariant 3: only a configuration read well after the write proves a key uncovered, and says why."""
    in_time = READ_AT - WRITE_SLACK_SECONDS

    assert coverage(known, "x", written_at=in_time) == NotCovered(cause)
    assert coverage(known, "x", written_at=in_time + 0.001) == Unsure()
    assert coverage(known, "x", written_at=READ_AT + 3600) == Unsure()
