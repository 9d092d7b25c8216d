"""Reading the settings, and showing them."""

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from crrmon.config.file import read
from crrmon.config.mistakes import (
    NO_QUEUE,
    explanations,
    not_json,
    unknown_keys,
    unknown_variables,
)
from crrmon.config.section import ConfigurationError
from crrmon.config.settings import Settings
from crrmon.domain.redaction import without_userinfo


def load(path: Path | None, *, queues: bool = True) -> Settings:
    """Read the settings: the file, and the environment over it.

    Args:
        path: the YAML file; None reads the environment only.
        queues: whether at least one, or an inbox, must be set; who does not read any need not ask for one.

    Raises:
        ConfigurationError: with a line for everything that is wrong.
    """
    raw = {} if path is None else read(path)
    problems = [*unknown_keys(raw), *unknown_variables(os.environ)]
    if problems:
        raise ConfigurationError("\n".join(problems))
    try:
        settings = Settings(**raw)
    # NB: "from None", for what these errors quote may hold a password, and tracebacks show causes.
    except ValidationError as error:
        raise ConfigurationError("\n".join(explanations(error))) from None
    except SettingsError as error:
        raise ConfigurationError("\n".join(not_json(os.environ)) or str(error)) from None
    except RecursionError as error:
        raise ConfigurationError("the environment is nested too deeply to be settings") from error
    if queues and not (settings.queues or settings.inboxes):
        raise ConfigurationError(NO_QUEUE)
    return settings


def public(settings: Settings) -> dict[str, Any]:
    """Return all settings as plain values that everybody may see: secrets and users in addresses masked."""
    values: dict[str, Any] = _masked(settings.model_dump(mode="json"))
    return values


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _masked(one) for key, one in value.items()}
        case list():
            return [_masked(one) for one in value]
        case str():
            return without_userinfo(value)
        case _:
            return value
