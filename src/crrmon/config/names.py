"""The names of all settings: as keys of the file, and as variables of the environment."""

import functools
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr

from crrmon.config.settings import NESTING, PREFIX, Settings


def keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """List all keys, sections included, in dotted form; list items as `queues[].url`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        section, mark = section_in(field.annotation)
        if section is not None:
            yield from keys(section, f"{prefix}{name}{mark}.")


def section_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """Return the section that a setting holds and what marks a list of them ("[]"); None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, "[]"
    return None, ""


def variables() -> dict[str, str]:
    """Return the environment variables that set something, with the keys that they set."""
    return {PREFIX + key.upper().replace(".", NESTING): key for key in keys() if "[" not in key}


def composed(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """List the keys whose values are lists or maps, sections included."""
    for name, field in model.model_fields.items():
        section, mark = section_in(field.annotation)
        if section is not None or get_origin(field.annotation) in (tuple, dict):
            yield prefix + name
        if section is not None and not mark:
            yield from composed(section, f"{prefix}{name}.")


def secretive(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """List the sections that have a secret among their settings."""
    for name, field in model.model_fields.items():
        section, mark = section_in(field.annotation)
        if section is not None:
            yield from secretive(section, f"{prefix}{name}{mark}.")
        elif SecretStr in (field.annotation, *_parts(field.annotation)):
            yield prefix.removesuffix(".")


@functools.cache
def _all_secretive() -> tuple[str, ...]:
    return tuple(secretive(Settings))


def _parts(annotation: Any) -> Iterator[Any]:
    for inner in get_args(annotation):
        yield inner
        yield from _parts(inner)


def hides(name: str) -> bool:
    """
    Return whether what a setting is set to is never shown: a secret, what is above or below one, and what is beside it.

    A password in the wrong line is still a password.
    """
    plain = re.sub(r"\[\d+\]", "[]", name)
    return any(
        f"{plain}.".startswith(f"{section}.") or f"{section}.".startswith(f"{plain}.")
        for section in _all_secretive()
    )


def model_at(name: str) -> type[BaseModel] | None:
    """Return the section of that name; None where there is none."""
    model: type[BaseModel] | None = Settings
    for part in filter(None, re.sub(r"\[\d+\]", "", name).split(".")):
        field = model.model_fields.get(part) if model else None
        model = section_in(field.annotation)[0] if field else None
    return model


def section_of(key: str) -> type[BaseModel] | None:
    """Return the section that a key stands for; None where it is a value."""
    around, _, last = key.rpartition(".")
    model = model_at(around)
    return section_in(model.model_fields[last].annotation)[0] if model else None


def siblings(name: str) -> Iterator[str]:
    """List the keys that are known where this one stands."""
    around, dot, _ = re.sub(r"\[\d+\]", "[]", name).rpartition(".")
    within = around + dot
    return (key for key in keys() if key.startswith(within) and "." not in key[len(within) :])


def known_name(name: str) -> str:
    """Return a name that is one of a setting; else what stands for others."""
    return name if any(name == key.rpartition(".")[2] for key in keys()) else "a name"
