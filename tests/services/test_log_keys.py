"""`log.keys`: a whole daemon, everything that it logs, and no key of an object in it."""

import ast
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import crrmon
from crrmon import logs
from crrmon.domain.observations import Sight
from fakes.rig import Rig

pytestmark = pytest.mark.usefixtures("restored_logging")

WORD = "geheim"
"""Is in every key."""

OF_OBJECTS = {
    "head_inconclusive",
    "message_failed",
    "message_malformed",
    "object_settled",
    "replication_failed",
    "poll_failed",
}
"""What is logged of single objects."""

LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "met")


async def lived(keys: logs.Keys, form: logs.Format) -> str:
    """Let a daemon meet whatever makes it name an object, and return what it logs."""
    stream = io.StringIO(newline="")
    logs.configure(level="debug", format=form, keys=keys, stream=stream)
    rig = Rig()
    rig.s3.rule("src", "dst")
    async with rig.running():
        rig.put(f"{WORD}/well", version="v1")
        rig.put(f"{WORD}/failed", version="v2", then=Sight.FAILED)
        rig.put(f"{WORD}/odd", version="v3", then=Sight.REFUSED)
        rig.s3.poison.add(f"{WORD}/poison")
        rig.put(f"{WORD}/poison", version="v4")
        rig.put(f"{WORD}/later", version="v5", takes=10_000)
        rig.inbox.send(json.dumps({"Records": [{"s3": {"object": {"key": WORD}}}]}))
        rig.inbox.send(f'{{"source": "aws.s3", "detail": "{WORD}"')
        await rig.until(lambda: "message_failed" in stream.getvalue())
        await rig.until(lambda: "head_inconclusive" in stream.getvalue())
        rig.s3.poison.add(f"{WORD}/later")
        logging.getLogger("asyncio").error("Task exception was never retrieved: %s", WORD)
        error = ValueError(WORD)
        logging.getLogger("somebody").error("it met %r", WORD, exc_info=error)
        await rig.until(lambda: "poll_failed" in stream.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("keys", ["hashed", "none"])
async def test_no_line_shows_a_key(keys: logs.Keys, form: logs.Format) -> None:
    """Not in fields, not in texts of exceptions, not in what libraries say; and each kind of line is among them."""
    text = await lived(keys, form)
    assert WORD not in text
    assert {event for event in OF_OBJECTS if event in text} == OF_OBJECTS
    shown = logs.hashed(f"{WORD}/failed")
    assert (shown in text) is (keys == "hashed")
    # What happened, and where in the code, is told all the same.
    assert "RuntimeError" in text
    assert "tests/fakes/s3.py" in text


async def test_keys_are_shown_by_default() -> None:
    """Whole, for somebody will search for them; the texts of exceptions as well."""
    lines = [json.loads(line) for line in (await lived("full", "json")).splitlines()]
    told = {line["event"]: line for line in lines}
    assert told["replication_failed"]["example_key"] == f"{WORD}/failed"
    assert told["head_inconclusive"]["key"] == f"{WORD}/odd"
    assert told["poll_failed"]["example_keys"] == [f"{WORD}/later"]
    assert f"stumbled over {WORD}/later" in told["poll_failed"]["exception"]


def test_a_hash_is_what_a_shell_makes_of_the_key() -> None:
    """Whoever asks for one object finds its lines: printf %s KEY | sha256sum."""
    assert logs.hashed("2026/03/invoice 17.pdf") == "sha256:bb2869a541ea51b2"


def test_every_key_that_is_logged_is_in_a_field_for_keys() -> None:
    """No event forgets: whatever in a log call comes of a key is in a field that the setting is about."""
    source = Path(crrmon.__file__).parent
    astray = [
        f"{path.relative_to(source)}:{call.lineno} {keyword.arg}"
        for path in source.rglob("*.py")
        if "sandbox" not in path.parts
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _logs(call)
        for keyword in [*call.keywords, *(ast.keyword(arg=None, value=one) for one in call.args)]
        if _of_a_key(keyword.value) and not _for_keys(keyword.arg, path)
    ]
    assert astray == []


def _logs(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS


def _of_a_key(value: ast.expr) -> bool:
    """Tell whether an expression has a key in it, or the whole of something that has one."""
    attributes = {id(node.value) for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    for node in ast.walk(value):
        if isinstance(node, ast.Attribute) and node.attr in ("key", "body"):
            return True
        whole = isinstance(node, ast.Name | ast.Attribute) and id(node) not in attributes
        name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        if whole and name in ("key", "version", "record", "fact", "outcome", "message", "body"):
            return True
    return False


def _for_keys(field: str | None, path: Path) -> bool:
    if field is None:
        return False
    # A throttled log says by a name of its own what its examples are.
    examples_are_keys = 'examples="example_keys"' in path.read_text(encoding="utf-8")
    return logs.holds_keys(field) or (field == "example" and examples_are_keys)


@pytest.mark.parametrize(
    ("field", "holds"),
    [("key", True), ("example_key", True), ("example_keys", True), ("keyed", False)]
    + [(name, False) for name in ("bucket", "reason", "examples", "monkey")],
)
def test_fields_for_keys_are_known_by_their_names(field: str, holds: Any) -> None:
    """`key`, `keys`, and what ends in `_key` or `_keys`."""
    assert logs.holds_keys(field) is holds
