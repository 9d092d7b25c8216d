"""Reading the file: YAML, whose errors are reported without anything that may be a secret."""

import re
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from crrmon.config.names import known_name
from crrmon.config.section import ConfigurationError


def read(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
        ConfigurationError: it cannot be read, or is no mapping.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe one
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: byte {error.start} is not UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: is not YAML: {_fault(error)}") from None
    except (ValueError, LookupError, AttributeError, TypeError):
        raise ConfigurationError(f"{path}: is not YAML: {_NOT_AS_IT_LOOKS}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is not YAML: it is nested too deeply") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise ConfigurationError(f"{path}: must be a mapping of settings; see config.example.yaml")
    return raw


_NOT_AS_IT_LOOKS = "a value is not what it seems to be"


def _fault(error: yaml.YAMLError) -> str:
    """Say what is wrong with YAML and where, without quoting any of it: it may be a password."""
    mark = getattr(error, "problem_mark", None)
    problem = (
        getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    )
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if r"'\t'" in problem:
        return f"a tab where YAML requires spaces{where}"
    # What a parser expected and found are kinds of tokens, and nothing of what they say.
    of_kinds = isinstance(error, yaml.parser.ParserError) and problem.startswith("expected ")
    return (problem if of_kinds else unquoted(problem)) + where


def unquoted(text: str) -> str:
    """Return what a library says without what it quotes."""
    return re.sub(r"['\"].*['\"]", "...", text, flags=re.DOTALL)


class _Loader(yaml.SafeLoader):
    """Reads YAML; a duplicate key is an error instead of the last one winning."""

    @override
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError):
            # NB: not all that YAML's parser finds wrong is one of its own errors: a 31st of February is not.
            raise yaml.constructor.ConstructorError(
                None, None, _NOT_AS_IT_LOOKS, node.start_mark
            ) from None

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for name, _ in node.value:
            if names.count(name.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{known_name(name.value)} is set more than once",
                    name.start_mark,
                )
        return super().construct_mapping(node, deep=deep)
