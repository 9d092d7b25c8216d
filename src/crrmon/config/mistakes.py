"""What is wrong with settings, in words that name the setting, what it was, and what is allowed."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from crrmon.config.file import unquoted
from crrmon.config.names import (
    composed,
    hides,
    keys,
    model_at,
    secretive,
    section_in,
    section_of,
    siblings,
    variables,
)
from crrmon.config.settings import NESTING, PREFIX, Settings
from crrmon.domain.redaction import HIDDEN, harmless, shown

NO_QUEUE = (
    "queues: no queue is configured; set queues: [{url: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME}] "
    'in the file, or CRRMON_QUEUES=\'[{"url": "..."}]\'; or, for events that stores post, '
    "inboxes: [{kind: webhook, token_file: PATH}]"
)

_RENAMED = {
    "monitor": "name",
    "looks": "polling",
    "watch": "filter",
    "ledger.horizon_days": "ledger.dedup_retention_days",
    "intake.least_event_delay_seconds": "intake.min_event_delay_seconds",
}
"""Settings by the names that they had before the first release: early users learn where they went."""


def explanations(error: ValidationError) -> Iterator[str]:
    """Say what is wrong with each setting, what it was, and what is allowed."""
    for one in error.errors():
        yield _explain(_dotted(one["loc"]), one)


def unknown_keys(
    raw: Mapping[str, Any], model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[str]:
    """Name the keys of a file that are no settings."""
    for name, value in raw.items():
        if name not in model.model_fields:
            around = [f"{prefix}{field}" for field in model.model_fields]
            yield _unknown(f"{prefix}{_name(name, value, model)}", around)
            continue
        section, mark = section_in(model.model_fields[name].annotation)
        if section is None:
            continue
        inner = value if isinstance(value, list) else [value]
        for one in inner:
            if isinstance(one, dict):
                yield from unknown_keys(one, section, f"{prefix}{name}{mark}.")


def unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Name the variables of the environment that look like ours and set nothing."""
    known = [*variables(), PREFIX + "CONFIG"]
    for name, value in environment.items():
        unknown = name.upper().startswith(PREFIX) and name.upper() not in known
        if unknown and not _is_service_link(name, value):
            yield _unknown(_variable(name.upper()), known, what="environment variable")


def not_json(environment: Mapping[str, str]) -> Iterator[str]:
    """Return a line for each variable that should hold a list or a map and does not."""
    lists_and_maps = set(composed(Settings, ""))
    known = variables()
    for name, value in environment.items():
        if (key := known.get(name.upper())) in lists_and_maps:
            try:
                json.loads(value)
            except ValueError:
                # What cannot be read may hold a password wherever it likes.
                told = _UNSEEN if hides(key) or "@" in value or "://" in value else shown(value)
                yield f"{name}: {told} is not allowed: lists and maps in the environment must be JSON"


def _dotted(location: tuple[int | str, ...]) -> str:
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def _explain(name: str, error: Any) -> str:
    value, kind = error["input"], error["type"]
    if name == "queues" and not value:
        return NO_QUEUE
    if kind == "missing":
        return f"{name}: is missing"
    if kind == "extra_forbidden":  # in a variable's JSON; in the file it was found before
        *around, last = error["loc"]
        section = model_at(_dotted(tuple(around)))
        prefix = f"{_dotted(tuple(around))}." if around else ""
        return _unknown(prefix + _name(last, value, section), list(siblings(name)))
    said = harmless(error["msg"].removeprefix("Value error, "))
    if kind == "value_error" and (not name or _sections(value)):
        # A contradiction between settings, which it names; the value would be all of them.
        return "\n".join(f"{name}: {line}" if name else line for line in said.splitlines())
    if kind == "model_type":
        inner = (key.rpartition(".")[2] for key in siblings(f"{name}."))
        said = f"must be a mapping with {', '.join(inner)}"
    elif kind == "tuple_type":
        said = "must be a list"
    elif kind == "string_pattern_mismatch":
        said = _FORMS[re.sub(r"\[\d+\]", "[]", name)]
    elif kind != "literal_error" and hides(name):  # that lists what is allowed, and nothing else
        said = unquoted(said)
    told = _UNSEEN if hides(name) else shown(value)
    return f"{name}: {told} is not allowed: {said[:1].lower()}{said[1:]}"


def _unknown(name: str, known: list[str], *, what: str = "setting") -> str:
    if renamed := _renamed(name):
        return f"{name}: unknown {what}; it is now {renamed}"
    own = [key for key in keys() if "[" not in key] if what == "setting" else known
    elsewhere = [one for one in own if one.rpartition(".")[2] == name]
    near = (
        elsewhere
        or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        or difflib.get_close_matches(name, own, n=1, cutoff=0.6)
    )
    hint = f"; did you mean {near[0]}?" if near else "; config.example.yaml shows all of them"
    return f"{name}: unknown {what}{hint}"


def _renamed(name: str) -> str | None:
    """Return the new name of a setting or variable that was renamed, or of one in a section that was; else None."""
    for before, now in _RENAMED.items():
        if name == before:
            return now
        variable = _as_variable(before)
        if name == variable or name.startswith(variable + NESTING):
            return _as_variable(now) + name.removeprefix(variable)
    return None


def _as_variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", NESTING)


def _name(name: object, value: object, model: type[BaseModel] | None) -> str:
    """Return what may be shown of an unknown name: in a file that went wrong, a name may have been a value.

    Args:
        name: that is unknown.
        value: that it is given.
        model: the section that it stands in.
    """
    text = str(name)
    if model is None:
        return HIDDEN
    if not list(secretive(model)):
        return harmless(text)
    near = difflib.get_close_matches(text, model.model_fields, n=1, cutoff=0.8)
    return text if (near or value is not None) and _LIKE_A_NAME.fullmatch(text) else HIDDEN


_LIKE_A_NAME = re.compile(r"[A-Za-z_]{1,32}[0-9]?")


def _variable(name: str) -> str:
    """Return what may be shown of the name of an unknown variable: nothing below a secret."""
    for variable, key in variables().items():
        if name.startswith(variable + NESTING) and section_of(key) is None:
            return f"{variable}{NESTING}{HIDDEN}" if hides(key) else name
    return name


def _sections(value: object) -> bool:
    """Return whether a value is a section of settings, or several."""
    return isinstance(value, Mapping) or (
        isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value)
    )


_UNSEEN = "its value"


_REGION_FORM = "use AWS's name, such as eu-west-1"


_ADDRESS_FORM = "start it with http:// or https:// and a host, and remove anything after a ? or #"


_PATTERN_FORM = "give the name of a bucket, in which * matches any characters and ? matches one"


_FORMS = {
    "name": "at most 255 printable ASCII characters, the first neither a blank nor a colon",
    "queues[].url": "give the URL of the queue, such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    "queues[].region": _REGION_FORM,
    "inboxes[].name": "at most 80 letters, digits and . _ -",
    "buckets[]": "the name of a bucket has 3 to 255 letters, digits and . _ -",
    "aws.region": _REGION_FORM,
    "aws.endpoint_url": _ADDRESS_FORM,
    "accounts[].id": 'give twelve digits, "*", or, for a store, a short name that starts with a letter',
    "accounts[].role_arn": "give the ARN of a role, such as arn:aws:iam::{account}:role/NAME",
    "accounts[].external_id": "AWS accepts only letters, digits and _ + = , . @ : / -",
    "accounts[].endpoint_url": _ADDRESS_FORM,
    "accounts[].region": _REGION_FORM,
    "accounts[].site": "give the deployment id, 13 to 128 letters, digits and . _ -",
    "accounts[].buckets[]": _PATTERN_FORM,
    "accounts[].request_payer[]": _PATTERN_FORM,
    "ledger.redis.prefix": "at most 64 letters, digits and . _ : -",
    "ledger.dynamodb.table": "the name of a table has 3 to 255 letters, digits and _ . -",
    "ledger.dynamodb.region": _REGION_FORM,
    "report.namespace": "at most 255 letters, digits and . _ / # : -, the first not a colon",
    "report.region": _REGION_FORM,
}
"""What a text has to look like, by the name of its setting."""


def _is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes set a variable, which it does for every service; ours may well be called crrmon."""
    return bool(_SERVICE_LINK.fullmatch(name)) or (
        name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    )


_SERVICE_LINK = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
