"""What the sections of the settings share: how they are declared, and what is refused in all of them."""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import override

DAY_SECONDS = 86_400.0


class ConfigurationError(Exception):
    """The settings cannot be used; the text says which, what is wrong and what is allowed, one line each."""


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic's protocol
    return value


NUMBER = BeforeValidator(_no_switch)


def in_quotes(value: object) -> object:
    """Refuse what YAML did not read as text."""
    if not isinstance(value, str | SecretStr):
        raise ValueError("must be in quotes, because YAML does not read it as text")  # noqa: TRY004 - pydantic's protocol
    return value


Region = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]


class Section(BaseModel):
    """Some settings that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, values: Any) -> Any:
        """Leave out what is blank and need not be set: templates write it so."""
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if not (isinstance(value, str) and not value.strip() and cls._optional(name))
        }

    @classmethod
    def _optional(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required() and field.default is None

    @classmethod
    @override
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        # Whoever holds a file against the schema, as Helm does, must not refuse what is read here.
        for name, told in handler.resolve_ref_schema(schema).get("properties", {}).items():
            if cls._optional(name) and "anyOf" in told:
                told["anyOf"].append({"const": "", "type": "string"})
        return schema


_Model = TypeVar("_Model", bound=BaseModel)


def held(section: _Model, rules: Iterable[tuple[object, str]]) -> _Model:
    """Return a section whose settings are consistent.

    Raises:
        ValueError: they do not; a line for each rule that does not hold.
    """
    if broken := [otherwise for holds, otherwise in rules if not holds]:
        raise ValueError("\n".join(broken))
    return section


def no_repetition(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a name that is listed twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is listed more than once")
    return names
