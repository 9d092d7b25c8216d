"""One pipeline for all logs: JSON lines for machines, colours for eyes; stable events, data in fields."""

import contextlib
import hashlib
import io
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger
from typing_extensions import override

from crrmon.domain.redaction import without_userinfo

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]
Keys = Literal["full", "hashed", "none"]

LONGEST_TEXT = 2000
"""Characters of a field. S3's longest key has 1024 bytes."""

REMINDER_SECONDS = 60.0
"""Least time between two lines of a library that say the same."""

REMEMBERED = 1000
"""Most different lines of libraries that are told apart."""

_TRACES = ("exception", "stack")
"""Fields of several lines."""

_VERBATIM = ("prefix",)
"""Fields that somebody will search for as they are, beside those of keys."""

HASH_DIGITS = 16
"""Of a key's SHA-256, in hexadecimal: two of a billion keys are the same by a chance of one in 37."""

LEFT_OUT = "text omitted because it may contain object keys (log.keys)"
"""Stands for what a library says."""


# A test reads every call that logs, so that a field with keys has such a name; no event has to think of `log.keys`.
def holds_keys(field: str) -> bool:
    """Return whether a field of this name holds keys of objects; all that do are named so, and nothing else is."""
    return field in ("key", "keys") or field.endswith(("_key", "_keys"))


def hashed(key: str) -> str:
    """Return what stands for a key where keys are not shown, the same everywhere and always.

    It hides a key from whoever cannot guess it: `printf %s KEY | sha256sum` finds the lines of a known one.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest[:HASH_DIGITS]}"


def configure(
    *,
    level: Level,
    format: Format,  # noqa: A002 - the setting's name
    keys: Keys = "full",
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process.

    Args:
        level: the least that is logged.
        format: "auto" is console on a terminal, else json.
        keys: how keys of objects are shown. But for "full", texts that nobody here wrote are left out with them.
        stream: where to; standard output by default.
    """
    out = sys.stdout if stream is None else stream
    if isinstance(out, io.TextIOWrapper):
        # A key must not break logging only because the terminal lacks its letters.
        out.reconfigure(errors="backslashreplace")
    as_json = format == "json" or (format == "auto" and not out.isatty())
    rendering: list[Processor] = (
        [_masked, _cut, structlog.processors.JSONRenderer(ensure_ascii=True)]
        if as_json
        else [
            _masked,
            _cut,
            _escaped,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    own: list[Processor] = [structlog.processors.format_exc_info]
    foreign: list[Processor] = []
    if keys != "full":
        own, foreign = [_bare_traceback, _Curtain(keys)], [_without_text]
    threshold = getattr(logging, level.upper())
    outlet = cast("TextIO", _Outlet(out))
    structlog.configure(
        processors=[*shared, *own, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(outlet),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(shared, [*foreign, *own, *rendering], outlet, threshold)


class _Outlet:
    """Where lines go. A full disk, or a collector that is gone, is no reason to stop working: they are lost then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _adopt_standard_logging(
    shared: list[Processor],
    rendering: list[Processor],
    out: TextIO,
    threshold: int,
) -> None:
    """Route libraries that use the standard library's logging the same way."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
            ],
        )
    )
    handler.addFilter(_Throttle())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries below warning tell of every request, with keys and credentials' whereabouts.
    root.setLevel(max(threshold, logging.WARNING))


class _Throttle(logging.Filter):
    """Lets each complaint of a library through once a minute: what it complains of may be a stranger's doing."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str, str], tuple[float, int]] = {}
        """When it was last told, and how many were left out since; the one longest not met first."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on one line; the next one of its kind tells how many were left out."""
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, str(record.msg)[:200], "" if error is None else error.__name__)
        told_at, left_out = self._told.pop(kind, (float("-inf"), 0))
        # NB: a wall clock may be set back.
        tells = not 0 <= record.created - told_at < REMINDER_SECONDS
        self._told[kind] = (record.created, 0) if tells else (told_at, left_out + 1)
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        if tells and left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like it were omitted)"
            record.args = None
        return tells


class _Curtain:
    """Hides the keys of objects, in every field that holds some."""

    def __init__(self, keys: Literal["hashed", "none"]) -> None:
        self._keys = keys

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Hide them in one line."""
        if self._keys == "none":
            return {name: value for name, value in event.items() if not holds_keys(name)}
        return {
            name: _hashed(value) if holds_keys(name) else value for name, value in event.items()
        }


def _hashed(value: object) -> object:
    if isinstance(value, list | tuple):
        return [hashed(str(one)) for one in value]
    return hashed(str(value))


def _without_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what a library says in its own words: they may quote anything."""
    return {**event, "event": LEFT_OUT}


def _bare_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Describe which exception it is and where it was raised, but not its text, which may quote anything."""
    told = event.pop("exc_info", None)
    error = told[1] if isinstance(told, tuple) else told
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_bare(error, set()))
    return event


def _bare(error: BaseException, met: set[int]) -> Iterator[str]:
    """Write an exception after what led to it."""
    met.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for one in (before, *inner):
        if one is not None and id(one) not in met:
            yield from _bare(one, met)
    yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    yield f"{type(error).__module__}.{type(error).__qualname__}"


def _masked(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take users and passwords out of addresses: libraries' errors quote those of proxies, and more."""
    return {
        name: value if name in _VERBATIM or holds_keys(name) else _without_userinfo(value)
        for name, value in event.items()
    }


def _without_userinfo(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_userinfo(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_without_userinfo(one) for one in value)
    if isinstance(value, dict):
        return {name: _without_userinfo(one) for name, one in value.items()}
    return without_userinfo(value) if isinstance(value, str) else value


def _cut(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep lines short enough for what collects them; a message of a megabyte may hold a key of a megabyte."""
    return {
        name: _shortened(value) if isinstance(value, str) and name not in _TRACES else value
        for name, value in event.items()
    }


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"


def _escaped(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep what comes from outside on one line: control characters become escapes.

    A traceback has lines of its own below the event's, all indented.
    """
    return {
        name: _indented(value) if name in _TRACES else _one_line(value)
        for name, value in event.items()
    }


def _indented(trace: object) -> str:
    return "\n".join(f"    {_printable(line)}" for line in str(trace).split("\n"))


def _one_line(value: object) -> object:
    text = value if isinstance(value, str) else repr(value)
    return value if text.isprintable() else _printable(text)


def _printable(text: str) -> str:
    return "".join(
        one
        if one.isprintable()
        else one.encode("unicode_escape").decode("ascii")
        if not "\ud800" <= one <= "\udfff"
        else f"\\u{ord(one):04x}"
        for one in text
    )
