"""One event, one line, whatever is in it: for machines, for eyes, and for libraries that log their own way."""

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from crrmon import logs

anything = st.recursive(
    st.text(st.characters(codec=None))
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary()
    | st.booleans()
    | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
hostile = st.text(st.characters(codec=None)) | st.sampled_from(
    [
        "a\nb",
        "\x1b[2J\x1b]0;owned\x07",
        "\ud800",
        "\u2028\u2029\x85",
        "😀",
        "%2F+",
        "\u202egnp.exe",
        "\r",
    ]
)
fields = st.dictionaries(
    st.sampled_from(["bucket", "key", "version_id", "reason", "detail"]), hostile | anything
)
no_fixture_matters = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


pytestmark = pytest.mark.usefixtures("restored_logging")


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def logged(act: Callable[[Any], object], form: logs.Format, *, level: logs.Level = "info") -> str:
    """Return what is written while something is logged."""
    stream = io.StringIO(newline="")
    logs.configure(level=level, format=form, stream=stream)
    act(structlog.get_logger())
    return stream.getvalue()


def strict(line: str) -> dict[str, Any]:
    """Parse JSON as strictly as any collector would."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    parsed = json.loads(line, parse_constant=refuse)
    assert isinstance(parsed, dict)
    return parsed


def raising(text: str) -> Callable[[Any], None]:
    """Make something that logs an exception with a text."""

    def fail() -> None:
        raise ValueError(text)

    def act(log: Any) -> None:
        try:
            fail()
        except ValueError:
            log.exception("it_broke", reason=text)

    return act


# ---- for machines ----


@no_fixture_matters
@given(fields)
def test_json_is_one_parseable_line_for_each_event(values: dict[str, Any]) -> None:
    """Invariant 8: whatever the fields hold, an event is one line of ASCII that says what it was given."""
    text = logged(lambda log: log.warning("it_happened", **values), "json")

    assert text.isascii()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    event = strict(text)
    assert event["event"] == "it_happened"
    assert event["level"] == "warning"
    for name, value in values.items():
        if isinstance(value, str | int | float | None):
            assert event[name] == value


@no_fixture_matters
@given(hostile)
def test_json_keeps_a_traceback_on_the_line(text: str) -> None:
    """An exception, with whatever text, is a field like others."""
    written = logged(raising(text), "json")

    assert len(written.splitlines()) == 1
    assert "Traceback" in strict(written)["exception"]


@no_fixture_matters
@given(hostile)
def test_json_of_what_libraries_log(text: str) -> None:
    """The standard library's logging goes the same way: one line, with the logger's name."""

    def act(_log: object) -> None:
        logging.getLogger("some.library").warning("it said %s", text)

    event = strict(logged(act, "json"))

    assert event["event"] == f"it said {text}"
    assert event["logger"] == "some.library"
    assert event["level"] == "warning"


# ---- for eyes ----


@no_fixture_matters
@given(fields)
def test_console_is_one_printable_line_for_each_event(values: dict[str, Any]) -> None:
    """Invariant 8: nothing that comes from outside moves the cursor, colours the screen or begins a line."""
    text = logged(lambda log: log.warning("it_happened", **values), "console")

    line, _, rest = text.partition("\n")
    assert rest == ""
    assert line.isprintable()


@no_fixture_matters
@given(hostile)
def test_console_indents_a_traceback(text: str) -> None:
    """The lines of a traceback cannot be taken for events, and hold nothing that a terminal obeys."""
    first, *rest = logged(raising(text), "console").removesuffix("\n").split("\n")

    assert "it_broke" in first
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


@no_fixture_matters
@given(hostile)
def test_console_of_what_libraries_log(text: str) -> None:
    """What libraries log is escaped, too."""

    def act(_log: object) -> None:
        logging.getLogger("some.library").error("it said %s", text)

    line, _, rest = logged(act, "console").partition("\n")

    assert rest == ""
    assert line.isprintable()


def test_letters_that_the_terminal_lacks_are_escaped() -> None:
    """A key with an emoji does not break logging where the output knows only ASCII."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    logs.configure(level="info", format="console", stream=stream)

    structlog.get_logger().info("it_happened", key="😀é")

    assert b"\\U0001f600\\xe9" in raw.getvalue()


# ---- both ----


class Broken(io.StringIO):
    """An output that takes nothing: a full disk, a pipe whose reader is gone."""

    @override
    def write(self, text: str) -> int:
        raise BrokenPipeError

    @override
    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_output_that_takes_nothing_stops_nobody(form: logs.Format) -> None:
    """Lines are lost then, and whoever logs goes on, libraries included."""
    logs.configure(level="info", format=form, stream=Broken())

    structlog.get_logger().info("it_happened")
    logging.getLogger("some.library").error("it happened")


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_of_libraries(form: logs.Format) -> None:
    """What a library logs with an exception has its traceback, as our own events have."""

    def act(_log: object) -> None:
        try:
            int("x")
        except ValueError:
            logging.getLogger("some.library").exception("it broke")

    text = logged(act, form)

    assert "Traceback (most recent call last)" in text
    assert "invalid literal" in text
    assert len(text.splitlines()) == 1 or form == "console"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_long_text_is_cut(form: logs.Format) -> None:
    """A key of a megabyte makes no line of a megabyte; the longest that S3 has is told whole."""
    longest = "k" * 1024
    text = logged(lambda log: log.info("it_happened", key="x" * 2**20, name=longest), form)

    assert len(text) < 5000
    assert longest in text
    assert "(1048576 characters)" in text


@pytest.mark.parametrize(
    ("terminal", "is_json"), [(False, True), (True, False)], ids=["pipe", "terminal"]
)
def test_auto_is_json_unless_somebody_looks(terminal: bool, is_json: bool) -> None:  # noqa: FBT001 - parameters
    """Lines of JSON into a pipe or file, readable ones on a terminal."""
    stream = Terminal() if terminal else io.StringIO()
    logs.configure(level="info", format="auto", stream=stream)
    structlog.get_logger().info("it_happened", number=1)

    if is_json:
        assert strict(stream.getvalue())["number"] == 1
    else:
        assert "\x1b[" in stream.getvalue(), "colours"


def test_levels() -> None:
    """What is below the level is not written; times are UTC in ISO 8601."""

    def act(log: Any) -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(level)

    events = [strict(line) for line in logged(act, "json", level="warning").splitlines()]
    assert [one["event"] for one in events] == ["warning", "error"]
    assert events[0]["timestamp"].endswith("Z")

    events = [strict(line) for line in logged(act, "json", level="debug").splitlines()]
    assert len(events) == 4


def test_libraries_tell_no_details() -> None:
    """Below warning, libraries tell of every request, with keys and credentials: never written, not for debug either."""

    def act(_log: object) -> None:
        for name in ("botocore.auth", "aiobotocore", "urllib3", "asyncio"):
            logging.getLogger(name).debug("the secret")
            logging.getLogger(name).info("the secret")

    assert logged(act, "json", level="debug") == ""


@pytest.mark.usefixtures("restored_logging")
def test_r11_a_library_says_the_same_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """R11: a complaint that strangers can cause again and again is a line a minute, which tells how many were left out."""
    now = 1_800_000_000.0
    monkeypatch.setattr(logging.time, "time", lambda: now)
    monkeypatch.setattr(logging.time, "time_ns", lambda: int(now * 1e9), raising=False)
    out = io.StringIO()
    logs.configure(level="info", format="json", stream=out)
    library = logging.getLogger("some.library")
    for number in range(1000):
        now = 1_800_000_000.0 + number * 0.2
        library.error("it broke for %s", number, exc_info=ValueError(number))
    library.warning("something else")
    now -= 86_400
    library.error("it broke for %s", "a clock that was set back", exc_info=ValueError())

    told = [json.loads(line) for line in out.getvalue().splitlines()]
    broke = [one["event"] for one in told if one["event"].startswith("it broke")]
    assert broke[:2] == ["it broke for 0", "it broke for 300 (299 more like it were omitted)"]
    assert len(broke) == 4 + 1
    assert "something else" in [one["event"] for one in told]
    assert "ValueError" in told[0]["exception"]
