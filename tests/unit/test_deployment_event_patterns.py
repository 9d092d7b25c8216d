"""Rules within their quotas. Which events they let through is asked in tests/deploy/test_event_patterns.py."""

import pytest

from crrmon.domain.deployment import event_patterns
from crrmon.domain.deployment.event_patterns import (
    TooManyBucketsError,
    length,
    native,
    native_rules,
    selectors,
    trail,
    trail_rules,
)
from crrmon.domain.deployment.names import bucket_arn
from fakes.buckets import long_names
from fakes.pages import json_blocks

LONG = long_names(300)


def test_300_long_names_make_few_rules_of_which_none_is_too_long() -> None:
    """D35: the original put them into one, and ended at 125 buckets. No rule but the last has room for one more."""
    rules = list(native_rules(LONG).values())
    lengths = [length(native(list(names))) for names in rules]
    assert len(rules) == 11
    assert max(lengths) <= 2_048 < min(lengths[:-1]) + len('"",') + 63


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_so_do_the_arns_of_a_trail(partition: str) -> None:
    """An ARN is longer than a name, and longer in other partitions."""
    rules = list(trail_rules(LONG, partition=partition).values())
    lengths = [length(trail([bucket_arn(name, partition) for name in names])) for names in rules]
    more = len(bucket_arn("", partition)) + len('"",') + 63
    assert len(rules) < 20
    assert max(lengths) <= 2_048 < min(lengths[:-1]) + more


def test_the_last_character_of_a_pattern_is_used() -> None:
    """What is counted is what the pattern has."""
    room = 2_048 - length(native([]))
    names = ["a" * 500, "b" * 500, "c" * (room - 1_000 - 3 * len('""') - 2 * len(","))]
    assert length(native(names)) == 2_048
    assert list(native_rules(names)) == [1]
    assert list(native_rules([*names[:2], names[2] + "c"])) == [1, 2]


def test_a_trail_records_as_many_buckets_as_it_has_values_left() -> None:
    """500 in all selectors; one more is refused with another way for its events."""
    values = [
        value
        for field in selectors([])[0]["FieldSelectors"]
        for value in [*field.get("Equals", []), *field.get("StartsWith", [])]
    ]
    most = 500 - len(values)
    trail_rules(long_names(most), partition="aws")
    with pytest.raises(TooManyBucketsError, match=f"at most {most} buckets, not {most + 1}: let"):
        trail_rules(long_names(most + 1), partition="aws")


def test_patterns_and_selectors_are_those_of_the_page() -> None:
    """Whoever types them gets the same events; a rule for batch deletes stands beside those of many buckets."""
    shown = json_blocks("docs/events.md")
    (by_s3, by_trail) = (one for one in shown if "source" in one)
    (selection,) = (one for one in shown if isinstance(one, list))
    arn = "arn:aws:s3:::acme-ledger-src"

    assert native(["acme-ledger-src"]) == by_s3
    assert selectors([f"{arn}/"]) == selection
    either = by_trail["detail"].pop("$or")
    for part, pattern in zip(either, (trail([arn]), event_patterns.batches()), strict=True):
        assert pattern == by_trail | {"detail": by_trail["detail"] | part}


def test_selectors_never_ask_for_management_events() -> None:
    """D36: the original recorded and paid for those as well."""
    (selector,) = selectors(["arn:aws:s3:::acme/"])
    assert {"Field": "eventCategory", "Equals": ["Data"]} in selector["FieldSelectors"]
