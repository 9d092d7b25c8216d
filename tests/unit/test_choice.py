"""Which objects are followed."""

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.config import ConfigurationError, load
from crrmon.domain.choice import Choice, Pattern, pattern


def choice(*include: str, exclude: tuple[str, ...] = ()) -> Choice:
    """Make a choice of patterns."""
    return Choice([pattern(one) for one in include], [pattern(one) for one in exclude])


@pytest.mark.parametrize(
    ("chosen", "followed", "left_out"),
    [
        pytest.param(choice(), ["src/a", "x/"], [], id="nothing-said"),
        pytest.param(choice("src"), ["src/a"], ["src2/a", "asrc/a", "SRC/a"], id="one-bucket"),
        pytest.param(
            choice("logs-*"), ["logs-/a", "logs-eu/a"], ["logs/a", "my-logs-eu/a"], id="star"
        ),
        pytest.param(choice("logs-?"), ["logs-1/a"], ["logs-/a", "logs-12/a"], id="one-character"),
        pytest.param(choice("a.b"), ["a.b/k"], ["axb/k"], id="a-dot-is-a-dot"),
        pytest.param(
            choice("src/in/"), ["src/in/a", "src/in/"], ["src/in", "src/x/in/"], id="prefix"
        ),
        pytest.param(choice("src/i?n*x"), ["src/i?n*xy"], ["src/iann-xy"], id="prefix-is-literal"),
        pytest.param(choice("src/"), ["src/a"], ["dst/a"], id="empty-prefix"),
        pytest.param(choice("*/in/"), ["a/in/b", "b/in/b"], ["a/out"], id="in-all-buckets"),
        pytest.param(
            choice(exclude=("src/tmp/", "old-*")),
            ["src/a", "src/tm"],
            ["src/tmp/a", "old-one/a"],
            id="excluded",
        ),
        pytest.param(
            choice("src", "dst", exclude=("s*/x",)),
            ["src/y", "dst/x"],
            ["src/x", "other/y"],
            id="exclusion-wins",
        ),
    ],
)
def test_what_is_followed(chosen: Choice, followed: list[str], left_out: list[str]) -> None:
    """Buckets by pattern, keys by prefix; exclusions win, and no inclusion includes all."""
    for name in followed:
        assert chosen.includes(*name.split("/", 1)), name
    for name in left_out:
        assert not chosen.includes(*name.split("/", 1)), name


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "write BUCKET"),
        ("/in/", "*/PREFIX"),
        ("s3://src/in", "without s3://"),
        ("arn:aws:s3:::src", "without arn:"),
        ("s[rc]", "write BUCKET"),
        ("my bucket", "write BUCKET"),
        ("src/in/*", "remove the * at its end"),
    ],
)
def test_a_pattern_that_fits_nothing_is_an_error(text: str, remedy: str) -> None:
    """What cannot be meant is refused, with what to write instead."""
    with pytest.raises(ValueError, match=r".") as error:
        pattern(text)

    assert remedy in str(error.value)


def test_the_settings_name_the_pattern_that_is_wrong(tmp_path: Path) -> None:
    """Whoever sets nonsense is told which entry it is, and what to write."""
    file = tmp_path / "crrmon.yaml"
    file.write_text(
        "queues: [{url: https://sqs.example/1/q}]\nfilter: {include: [src], exclude: ['*', 's3://a']}\n"
    )

    with pytest.raises(ConfigurationError) as error:
        load(file)

    assert str(error.value).startswith("filter.exclude[1]: 's3://a' is not allowed: write BUCKET")


def test_many_stars_take_no_time() -> None:
    """A pattern cannot make a name that it does not fit take for ever."""
    assert not Pattern("a*" * 40 + "b").fits("a" * 63)


PATTERNS = st.lists(
    st.builds(Pattern, st.text("ab*?", min_size=1, max_size=4), st.text("xy/", max_size=3)),
    max_size=4,
)


@given(PATTERNS, PATTERNS, st.text("ab", min_size=1, max_size=4), st.text("xy/", max_size=5))
def test_same_as_the_long_way(
    include: list[Pattern], exclude: list[Pattern], bucket: str, key: str
) -> None:
    """What is kept at hand for a bucket says what trying every pattern would."""

    def fits(one: Pattern) -> bool:
        return fnmatch.fnmatchcase(bucket, one.bucket) and key.startswith(one.prefix)

    expected = (not include or any(map(fits, include))) and not any(map(fits, exclude))

    assert Choice(include, exclude).includes(bucket, key) is expected


@given(PATTERNS, PATTERNS, st.text("ab", min_size=1, max_size=4), st.text("xy/", max_size=5))
def test_r12_a_bucket_of_which_nothing_is_followed_is_known(
    include: list[Pattern], exclude: list[Pattern], bucket: str, key: str
) -> None:
    """Where any of its objects is followed, it is touched; where it is not, none is."""
    choice = Choice(include, exclude)

    if choice.includes(bucket, key):
        assert choice.touches(bucket)
    if not choice.touches(bucket):
        assert not choice.includes(bucket, key)


@given(PATTERNS.filter(bool), PATTERNS, st.text("xy/", max_size=5))
def test_r12_an_inclusion_of_which_nothing_is_left_is_known(
    include: list[Pattern], exclude: list[Pattern], key: str
) -> None:
    """What is called void leaves nothing in the bucket of that name."""
    choice = Choice(include, exclude)
    void = choice.void()

    for bucket in void:
        if len(include) == 1:
            assert not choice.includes(bucket, include[0].prefix + key)
