"""One pipeline for all logs: JSON lines for machines, colours for eyes; stable events, data in fields."""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]


def configure(*, level: Level, format: Format, stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """
    Set up logging for this process.

    Args:
        level: the least that is logged.
        format: "auto" is console on a terminal, else json.
        stream: where to; standard output by default.
    """
    out = sys.stdout if stream is None else stream
    as_json = format == "json" or (format == "auto" and not out.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not as_json:
        shared.append(_escaped)
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(shared, renderer, out, threshold)


def _adopt_standard_logging(
    shared: list[structlog.typing.Processor],
    renderer: structlog.typing.Processor,
    out: TextIO,
    threshold: int,
) -> None:
    """
    Have libraries that use the standard library's logging go the same way.
    """
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries below warning tell of every request, with keys and credentials' whereabouts.
    root.setLevel(max(threshold, logging.WARNING))


def _escaped(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    Keep what comes from outside on one line: control characters become escapes.
    """
    return {
        name: value if not isinstance(value, str) or value.isprintable() else _printable(value)
        for name, value in event.items()
    }


def _printable(text: str) -> str:
    return "".join(
        one
        if one.isprintable()
        else one.encode("unicode_escape").decode("ascii")
        if not "\ud800" <= one <= "\udfff"
        else f"\\u{ord(one):04x}"
        for one in text
    )
