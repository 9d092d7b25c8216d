"""The configuration file as an example and as a JSON schema."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from crrmon.config.meanings import meanings
from crrmon.config.names import section_in
from crrmon.config.settings import Settings


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file."""
    told = Settings.model_json_schema()
    definitions = told["$defs"]
    for section in _sections(Settings):
        properties = (told if section is Settings else definitions[section.__name__])["properties"]
        for name, meaning in meanings(section).items():
            properties[name] = dict(sorted({**properties[name], "description": meaning}.items()))
    return told


def _sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """List a section and all that lie within it."""
    yield section
    for field in section.model_fields.values():
        inner, _ = section_in(field.annotation)
        if inner is not None:
            yield from _sections(inner)


def example() -> str:
    """Return a configuration file that shows every setting with its meaning and its default."""
    head = """\
# Settings of crrmon, each with its default. Only `queues` must be set, or `inboxes`.
# The environment overrides this file: CRRMON_POLLING__FRESHNESS=0.8, CRRMON_QUEUES='[{"url": "..."}]'.
"""
    return head + "".join(_lines(Settings, ""))


_EXAMPLE_VALUES = {
    "url": "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon",
    "id": '"109876543210"',
    "kind": "webhook",
}


def _lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    meant = meanings(model)
    for name, field in model.model_fields.items():
        section, mark = section_in(field.annotation)
        if not indent:
            yield "\n"
        text = meant.get(name) or (section.__doc__ if section else "") or ""
        for line in textwrap.wrap(
            " ".join(text.split()), 96 - len(indent), break_on_hyphens=False
        ):
            yield f"{indent}# {line}\n"
        if section is None:
            value = _EXAMPLE_VALUES[name] if field.is_required() else _plain(field.get_default())
            yield f"{indent}{name}: {value}\n"
            continue
        if mark and name != "queues":
            yield f"{indent}{name}: []\n"
            yield f"{indent}#   -\n"
            for line in _lines(section, "     "):
                yield f"{indent}#{line}"
            continue
        yield f"{indent}{name}:\n"
        if mark:
            yield f"{indent}  -\n"
            yield from _lines(section, indent + "    ")
        else:
            yield from _lines(section, indent + "  ")


def _plain(value: Any) -> str:
    """Write a default as YAML has it on one line."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")
