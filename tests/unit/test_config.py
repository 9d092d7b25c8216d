"""Settings: what is wrong with them is told by name, value and remedy; what they are can be printed and read again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from crrmon import __version__, config
from crrmon.cli import app
from crrmon.config import ConfigurationError, Queue, Settings
from crrmon.connections import queue_names
from fakes.patience import HANGS_SECONDS

ROOT = Path(__file__).parents[2]
URL = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"
QUEUES: dict[str, Any] = {"queues": [{"url": URL}]}
no_fixture_matters = hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load(path: Path, raw: object) -> Settings:
    """Load settings from a file."""
    path /= "config.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return config.load(path)


def complaint(path: Path, raw: object) -> str:
    """Return what is said about settings that cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, raw)
    return str(caught.value)


def crrmon(*arguments: str, **environment: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, arguments, env=environment)


def optional(key: str) -> bool:
    """Return whether a setting may be left out and has nothing in its place then."""
    model: type[BaseModel] = Settings
    *around, last = key.split(".")
    for name in around:
        told = model.model_fields[name.removesuffix("[]")].annotation
        (model,) = (
            one
            for one in (told, *get_args(told))
            if isinstance(one, type) and issubclass(one, BaseModel)
        )
    field = model.model_fields[last]
    return not field.is_required() and field.default is None


# ---- what is wrong is told ----


@pytest.mark.parametrize(
    ("raw", "unknown", "near"),
    [
        ({"que": []}, "que", "queues"),
        ({**QUEUES, "bucket": ["a"]}, "bucket", "buckets"),
        ({**QUEUES, "polling": {"freshnes": 1}}, "polling.freshnes", "polling.freshness"),
        ({**QUEUES, "ledger": {"Path": "x"}}, "ledger.Path", "ledger.path"),
        ({**QUEUES, "window_seconds": 5}, "window_seconds", "report.window_seconds"),
        ({**QUEUES, "http": {1: "x"}}, "http.1", "http.port"),
        ({"queues": [{"urll": URL}]}, "queues[].urll", "queues[].url"),
        ({**QUEUES, "_env_file": "x"}, "_env_file", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(
    tmp_path: Path, raw: object, unknown: str, near: str | None
) -> None:
    """An unknown key is never ignored: the error names it, and the known one that is nearest."""
    said = complaint(tmp_path, raw)

    assert f"{unknown}: unknown setting" in said
    assert (f"did you mean {near}?" if near else "config.example.yaml") in said


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"monitor": "x"}, "monitor: unknown setting; it is now name"),
        ({"looks": {"freshness": 1}}, "looks: unknown setting; it is now polling"),
        ({"watch": {}}, "watch: unknown setting; it is now filter"),
        ({"ledger": {"horizon_days": 4}}, "ledger.horizon_days: unknown setting; it is now ledger.dedup_retention_days"),
        ({"intake": {"least_event_delay_seconds": {}}}, "it is now intake.min_event_delay_seconds"),
    ],
)  # fmt: skip
def test_a_renamed_setting_is_told_by_its_new_name(
    tmp_path: Path, raw: dict[str, object], told: str
) -> None:
    """No alias for names from before the first release, but whoever knew one is told where it went."""
    assert told in complaint(tmp_path, {**QUEUES, **raw})


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("CRRMON_MONITOR", "CRRMON_NAME"),
        ("CRRMON_LOOKS__FRESHNESS", "CRRMON_POLLING__FRESHNESS"),
        ("CRRMON_LEDGER__HORIZON_DAYS", "CRRMON_LEDGER__DEDUP_RETENTION_DAYS"),
    ],
)
def test_a_renamed_variable_is_told_by_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, now: str
) -> None:
    """The same for variables, of a renamed section as well."""
    monkeypatch.setenv(name, "1")

    assert f"{name}: unknown environment variable; it is now {now}" in complaint(tmp_path, QUEUES)


@pytest.mark.parametrize(
    ("name", "value", "unknown", "near"),
    [
        ("CRRMON_POLLING__FRESHNES", "1", "CRRMON_POLLING__FRESHNES", "CRRMON_POLLING__FRESHNESS"),
        ("CRRMON_LEDGER_PATH", "x", "CRRMON_LEDGER_PATH", "CRRMON_LEDGER__PATH"),
        ("CRRMON_PORT", "9464", "CRRMON_PORT", ""),
        ("crrmon_http__prt", "9464", "CRRMON_HTTP__PRT", "CRRMON_HTTP__PORT"),
        ("CRRMON_QUEUES__0__URL", "x", "CRRMON_QUEUES__0__URL", "CRRMON_QUEUES"),
        ("CRRMON_LEDGER", '{"pth": "x"}', "ledger.pth", "ledger.path"),
        ("CRRMON_QUEUES", '[{"urll": "x"}]', "queues[0].urll", "queues[].url"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    unknown: str,
    near: str,
) -> None:
    """A misspelt variable is an error, too, by its own name; so is a key within a variable's JSON."""
    monkeypatch.setenv(name, value)

    said = complaint(tmp_path, QUEUES)

    assert f"{unknown}: unknown" in said
    assert f"did you mean {near}" in said


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        ("http", "port", 70000, "less than or equal to 65535"),
        ("http", "port", "many", "valid integer"),
        ("http", "port", True, "a number"),
        ("http", "port", [1], "valid integer"),
        ("polling", "freshness", -0.1, "greater than or equal to 0"),
        ("polling", "freshness", float("nan"), "less than or equal to 1"),
        ("polling", "stuck_after_seconds", float("inf"), "finite"),
        ("polling", "concurrency", 1.5, "integer"),
        ("intake", "max_in_flight", 9, "greater than or equal to 10"),
        ("ledger", "kind", "postgres", "'sqlite', 'redis', 'dynamodb' or 'memory'"),
        ("log", "level", "loud", "'debug', 'info'"),
        ("report", "window_seconds", 0, "greater than or equal to 1"),
        (
            "report",
            "namespace",
            ":a",
            "letters, digits and . _ / # : -, the first not a colon",
        ),
        ("ledger", "dedup_retention_days", 31, "less than or equal to 30"),
        ("ledger", "path", 5, "path"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    tmp_path: Path, section: str, key: str, value: object, allowed: str
) -> None:
    """Wrong type or out of range: the key, the value and what is allowed, as it is written."""
    said = complaint(tmp_path, {**QUEUES, section: {key: value}})

    assert said.startswith(f"{section}.{key}: {value!r} is not allowed: ")
    assert allowed in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"queues": URL}, f"queues: '{URL}' is not allowed: must be a list"),
        (
            {"queues": [URL]},
            f"queues[0]: '{URL}' is not allowed: must be a mapping with url, region",
        ),
        (
            {"queues": [{"url": "q"}]},
            "queues[0].url: 'q' is not allowed: give the URL of the queue, such as https://sqs.REGION.amazonaws.com/",
        ),
        (
            {"inboxes": [{"kind": "kafka", "token": "x" * 16}]},
            "inboxes[0].kind: its value is not allowed: input should be 'webhook'",
        ),
        ({"queues": [{}]}, "queues[0].url: is missing"),
        ({"queues": QUEUES["queues"] * 2}, f"{URL} is listed more than once"),
        ({**QUEUES, "http": None}, "http: None is not allowed: must be a mapping with host, port"),
        ({**QUEUES, "buckets": "b"}, "buckets: 'b' is not allowed: must be a list"),
        ({**QUEUES, "buckets": ["good", ""]}, "buckets[1]: '' is not allowed"),
        ({**QUEUES, "name": "süd"}, "name: 'süd' is not allowed"),
        ({**QUEUES, "name": " "}, "name: ' ' is not allowed"),
    ],
)
def test_wrong_lists_and_sections(tmp_path: Path, raw: object, said: str) -> None:
    """What has the wrong shape is told as that, in one line; what CloudWatch would refuse is refused here."""
    (line,) = complaint(tmp_path, raw).splitlines()

    assert said in line


def patterns(schema: dict[str, Any], part: dict[str, Any], name: str = "") -> Iterator[str]:
    """List the settings whose texts have to match a pattern."""
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    if "pattern" in part:
        yield name
    for one in part.get("anyOf", []):
        yield from patterns(schema, one, name)
    if "items" in part:
        yield from patterns(schema, part["items"], f"{name}[]")
    for key, one in part.get("properties", {}).items():
        yield from patterns(schema, one, f"{name}.{key}" if name else key)


SCHEMA = Settings.model_json_schema()


@pytest.mark.parametrize("name", [*patterns(SCHEMA, SCHEMA)])
def test_the_form_of_a_text_is_told_in_words(tmp_path: Path, name: str) -> None:
    """Nobody has to read a regular expression, whichever setting it is."""
    wrong: Any = "http://x/\n"
    for part in reversed(name.replace("[]", ".[]").split(".")):
        wrong = [wrong] if part == "[]" else {part: wrong}

    told = complaint(tmp_path, {**QUEUES, **wrong})

    (line,) = (
        one for one in told.splitlines() if one.startswith(f"{name.replace('[]', '[0]')}: ")
    )
    assert "is not allowed: " in line
    assert "pattern" not in line
    assert "^" not in line


def test_a_contradiction_in_a_list_of_sections_is_told_without_them_all(tmp_path: Path) -> None:
    """The sections are in the file; what is wrong with them is the message."""
    stores = [
        {
            "id": one,
            "endpoint_url": f"http://{one}:9000",
            "region": "us-east-1",
            "buckets": ["orders"],
        }
        for one in ("east", "west")
    ]

    told = complaint(tmp_path, {**QUEUES, "accounts": stores})

    assert told.startswith(
        "accounts: a bucket that matches both orders of east and orders of west would"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("buckets: [a", "expected ',' or ']', but got '<stream end>' in line 1, column 12"),
        ("name: 'x'y", "expected <block end>, but found '<scalar>' in line 1, column 10"),
        (
            "name: `secret",
            "found character ... that cannot start any token in line 1, column 7",
        ),
    ],
)
def test_what_yaml_expected_is_told_and_nothing_of_what_stands_there(
    tmp_path: Path, text: str, told: str
) -> None:
    """A bracket that is missing is named; what was written may be a password."""
    assert told in complaint(tmp_path, text)


@pytest.mark.parametrize("raw", ["", "queues:", "queues: []", "name: x"])
def test_no_queue(tmp_path: Path, raw: str) -> None:
    """Without a queue, the error says what to set, in the file and in the environment."""
    said = complaint(tmp_path, raw)

    assert "queues: no queue is configured" in said
    assert "queues: [{url: https://sqs." in said
    assert "CRRMON_QUEUES='[{" in said


@pytest.mark.parametrize("value", ["nope", "a,b", "[{", ""])
def test_lists_in_the_environment_are_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """What is no JSON is told by the variable's name, with its value."""
    monkeypatch.setenv("CRRMON_BUCKETS", value)

    assert f"CRRMON_BUCKETS: {value!r} is not allowed" in complaint(tmp_path, QUEUES)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Nobody should have to try again for each mistake."""
    raw = {**QUEUES, "http": {"port": -1}, "polling": {"freshness": 2}, "log": {"level": "x"}}

    assert len(complaint(tmp_path, raw).splitlines()) == 3


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    """The error stays readable whatever the value is."""
    assert len(complaint(tmp_path, {**QUEUES, "name": "x" * 10_000})) < 300


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("[1]", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("name: 2026-02-31", "is not YAML"),
        ("[" * 3000, "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("name: !!python/object/apply:os.system [id]", "is not YAML"),
        ("http: {port: 1}\nhttp: {port: 2}", "http is set more than once"),
        ("http: {port: 1, port: 2}", "port is set more than once"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, raw: str, said: str) -> None:
    """A file that cannot be read as settings is named with the reason; nothing in it is executed or silently lost."""
    text = complaint(tmp_path, raw)

    assert text.startswith(str(tmp_path / "config.yaml"))
    assert said in text


@pytest.mark.parametrize("name", [".", "absent.yaml"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    """A directory, or nothing, in place of the file: an error that names it."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config.load(tmp_path / name)


def test_other_bytes_than_utf_8(tmp_path: Path) -> None:
    """A file in another encoding is an error, no traceback."""
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfeq\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config.load(tmp_path / "config.yaml")


# ---- properties ----

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([URL, "sqlite", "debug", "0.5", "json"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
every_key = list(config.keys())
known = [key for key in every_key if "[" not in key]


def nested(flat: dict[str, object]) -> dict[str, Any]:
    """Put dotted keys where they belong."""
    made: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        if section:
            made[section] = made[section] if isinstance(made.get(section), dict) else {}
            made[section][name] = value
        else:
            made.setdefault(key, value)
    return made


@no_fixture_matters
@given(
    st.dictionaries(st.sampled_from(known), values, max_size=5),
    st.dictionaries(st.text(max_size=6), values, max_size=1),
    st.booleans(),
)
def test_any_mapping_gives_settings_or_an_error_that_names_keys(
    tmp_path: Path,
    flat: dict[str, object],
    odd: dict[str, object],
    with_queue: bool,  # noqa: FBT001 - a property's argument
) -> None:
    """Whatever stands in the file: usable settings, or a line for each thing that is wrong, and no other exception."""
    raw = nested(flat) | odd | (QUEUES if with_queue else {})
    try:
        settings = load(tmp_path, raw)
    except ConfigurationError as error:
        said = str(error)
    else:
        said = "fine"
        assert settings.queues
        assert 0 <= settings.polling.freshness <= 1
    assert said


@no_fixture_matters
@given(st.text(max_size=60) | st.text("[]{}:,-&*!?#|>'\"% \n012a=<", max_size=40))
@example("? ? ?")
@example("!!int ''")
@example("0x: 1")
@example("{<<: 1}")
@example("&a [*a]")
@example("!!timestamp 1-1-1")
@example("- !!binary =")
@example("1_:_2:3")
@example("!!bool x")
@example("!!float ''")
@example("!!omap {a: 1}")
@example("!!set x")
def test_any_text_gives_settings_or_an_error(tmp_path: Path, raw: str) -> None:
    """Whatever is in the file, there is no traceback."""
    with pytest.raises(ConfigurationError):
        load(tmp_path, raw)


@no_fixture_matters
@given(st.sampled_from(known), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example("buckets", "[" * 10_000)
@example("queues", "NaN")
@example("http", "1e999")
def test_any_variable_gives_settings_or_an_error(key: str, value: str) -> None:
    """Whatever is in the environment, there is no traceback."""
    name = config.PREFIX + key.upper().replace(".", "__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRRMON_QUEUES", json.dumps(QUEUES["queues"]))
        patch.setenv(name, value)
        try:
            said = str(config.load(None).queues)
        except ConfigurationError as error:
            said = str(error)
    assert said


# ---- the environment ----


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key for itself: others of the same section stay as the file has them."""
    monkeypatch.setenv("CRRMON_HTTP__PORT", "7")
    monkeypatch.setenv("CRRMON_NAME", "from-environment")
    monkeypatch.setenv("CRRMON_BUCKETS", '["one", "two"]')

    settings = load(tmp_path, {**QUEUES, "name": "from-file", "http": {"host": "::", "port": 1}})

    assert settings.http.port == 7
    assert settings.http.host == "::"
    assert settings.name == "from-environment"
    assert settings.buckets == ("one", "two")


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is needed: a queue in the environment makes a daemon."""
    monkeypatch.setenv("CRRMON_QUEUES", json.dumps([{"url": URL, "region": "eu-west-1"}]))

    assert config.load(None).queues[0].region == "eu-west-1"


def test_what_kubernetes_sets_for_a_service_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service called crrmon, or crrmon-something, does not keep pods from starting."""
    for name, value in {
        "CRRMON_SERVICE_HOST": "10.0.0.1",
        "CRRMON_SERVICE_PORT": "9464",
        "CRRMON_SERVICE_PORT_METRICS": "9464",
        "CRRMON_PORT": "tcp://10.0.0.1:9464",
        "CRRMON_PORT_9464_TCP": "tcp://10.0.0.1:9464",
        "CRRMON_PORT_9464_TCP_PROTO": "tcp",
        "CRRMON_PORT_9464_TCP_PORT": "9464",
        "CRRMON_PORT_9464_TCP_ADDR": "10.0.0.1",
        "CRRMON_METRICS_SERVICE_HOST": "10.0.0.1",
        "CRRMON_METRICS_PORT": "tcp://10.0.0.1:9464",
    }.items():
        monkeypatch.setenv(name, value)

    assert load(tmp_path, QUEUES).http.port == 9464


def test_e1_an_address_to_listen_on_has_no_brackets(tmp_path: Path) -> None:
    """Those are of URLs; with them it would be looked up as a name."""
    said = complaint(tmp_path, {**QUEUES, "http": {"host": "[::]"}})

    assert (
        said
        == "http.host: '[::]' is not allowed: an address to listen on has no brackets: remove them"
    )


OPTIONAL = [*filter(optional, config.keys())]


@pytest.mark.parametrize("blank", ["", " "])
def test_e3_what_is_left_blank_is_not_set(tmp_path: Path, blank: str) -> None:
    """Templates write what nobody gave them a value for as an empty text; whatever may be left out may be that."""
    raw: dict[str, Any] = {
        "queues": [{"url": URL}],
        "inboxes": [{"kind": "webhook", "token": TOKEN}],
        "accounts": [{"id": "109876543210"}],
    }
    expected = load(tmp_path, raw)
    assert {"aws.endpoint_url", "accounts[].endpoint_url", "queues[].region"} <= {*OPTIONAL}
    for key in OPTIONAL:
        if key == "inboxes[].token":
            continue  # one of the two must be set
        *around, last = key.split(".")
        section: Any = raw
        for name in around:
            section = section[name[:-2]][0] if "[]" in name else section.setdefault(name, {})
        section[last] = blank

    assert load(tmp_path, raw) == expected


def test_e3_variables_left_blank_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for those of crrmon's own that set what may be left out."""
    monkeypatch.setenv("CRRMON_QUEUES", json.dumps([{"url": URL}]))
    expected = config.load(None)
    for key in OPTIONAL:
        if "[]" not in key:
            monkeypatch.setenv(f"CRRMON_{key.upper().replace('.', '__')}", "")

    assert config.load(None) == expected


def test_e3_the_schema_lets_blanks_through_too() -> None:
    """Helm holds values against it."""
    endpoint = config.schema()["$defs"]["Aws"]["properties"]["endpoint_url"]

    assert {"const": "", "type": "string"} in endpoint["anyOf"]


@pytest.mark.parametrize("section", ["aws", "account"])
def test_e3_an_endpoint_without_a_scheme_is_refused(tmp_path: Path, section: str) -> None:
    """Nothing could be sent there."""
    account = {"id": "minio", "buckets": ["a"], "endpoint_url": "localhost:4566"}
    raw = (
        {"aws": {"endpoint_url": "localhost:4566"}}
        if section == "aws"
        else {"accounts": [account]}
    )
    said = complaint(tmp_path, {**QUEUES, **raw})

    where = "aws" if section == "aws" else "accounts[0]"
    assert said == (
        f"{where}.endpoint_url: 'localhost:4566' is not allowed: it must start with http:// or https://, followed by a host"
    )


# ---- queues ----


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["https://sqs.eu-west-1.amazonaws.com/1/one", "https://sqs.eu-west-1.amazonaws.com/1/two"], ["one", "two"]),
        (["https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.us-east-1.amazonaws.com/1/q"], ["q@eu-west-1", "q@us-east-1"]),
        (["https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com/2/q"], ["https://sqs.eu-west-1.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com/2/q"]),
        (["http://127.0.0.1:4566/1/q", "http://127.0.0.1:4566/1/other/"], ["q", "other"]),
    ],
    ids=["names", "regions", "accounts", "emulator"],
)  # fmt: skip
def test_queues_are_told_apart(urls: list[str], names: list[str]) -> None:
    """Every queue has a name of its own for logs, labels and loops, however alike their addresses are."""
    assert queue_names([Queue(url=url) for url in urls]) == names


@pytest.mark.parametrize(
    "url", ["https://sqs.amazonaws.com/1/q", "https://email.eu-west-1.amazonaws.com/1/q"]
)
def test_e2_a_host_of_aws_that_names_no_region_is_refused_with_the_way_to_set_it(
    tmp_path: Path, url: str
) -> None:
    """It would be signed for whatever the default region is, and refused by AWS for ever."""
    told = complaint(tmp_path, {"queues": [{"url": url}]})

    assert told.endswith(
        f"url has an AWS host, {urlsplit(url).hostname}, that names no region: correct it, or set region"
    )
    settings = load(tmp_path, {"queues": [{"url": url, "region": "eu-west-1"}]})
    assert settings.queues[0].region == "eu-west-1"


# ---- the example, and printing ----


def test_the_example_file_is_what_the_code_says() -> None:
    """The file in the repository is printed from the settings, word for word."""
    assert (ROOT / "config.example.yaml").read_text(encoding="utf-8") == config.example()


def test_the_example_has_the_defaults() -> None:
    """Loaded as it is, it is the same as setting nothing but the queue."""
    loaded = config.load(ROOT / "config.example.yaml")

    assert loaded == Settings(queues=loaded.queues)
    assert [queue.url for queue in loaded.queues] == [URL]


def test_the_example_shows_every_key_with_its_meaning() -> None:
    """Every key there is stands in the example, below a comment of its own."""
    raw = yaml.safe_load(config.example())
    found = set(raw) | {"queues[].url", "queues[].region"}
    for section in ("accounts", "inboxes"):
        found |= {f"{section}[].{key}" for key in example_item(section)}

    def below(section: str, one: object) -> set[str]:
        if not isinstance(one, dict):
            return set()
        inner = {f"{section}.{key}": value for key, value in one.items()}
        return set(inner).union(*(below(name, value) for name, value in inner.items()))

    assert found.union(*(below(section, one) for section, one in raw.items())) == set(every_key)

    lines = config.example().splitlines()
    for number, line in enumerate(lines):
        if line.strip() and not line.strip().startswith(("#", "-")):
            assert lines[number - 1].strip().startswith("#"), line


def example_item(section: str) -> dict[str, Any]:
    """Read the item of a list that stands in the example as comments."""
    block = config.example().partition(f"\n{section}: []\n")[2].partition("\n\n")[0]
    lines = [line.removeprefix("#") for line in block.splitlines()]
    (item,) = yaml.safe_load("\n".join(lines))
    return dict(item)


def test_the_account_of_the_example_has_the_defaults(tmp_path: Path) -> None:
    """Without its comment signs it is an account like one of which nothing but the id is set."""
    account = example_item("accounts")

    shown, bare = (
        load(tmp_path, {**QUEUES, "accounts": [one]}).accounts
        for one in (account, {"id": account["id"]})
    )
    assert shown == bare


# ---- inboxes ----

TOKEN = "s3cr3t-and-long-enough"  # noqa: S105 - to be found where it must not be
HOOK: dict[str, Any] = {"kind": "webhook", "token": TOKEN}


def test_m8_a_webhook_needs_no_queue(tmp_path: Path) -> None:
    """M8: at least one of queues and inboxes must be set, whichever; a webhook listens on loopback unless told otherwise."""
    settings = load(tmp_path, {"inboxes": [HOOK]})

    assert settings.queues == ()
    (hook,) = settings.inboxes
    assert (hook.name, hook.host, hook.port) == ("webhook", "127.0.0.1", 9465)
    assert hook.token is not None
    assert hook.token.get_secret_value() == TOKEN
    assert load(tmp_path, {**QUEUES, "inboxes": [HOOK]}).queues[0].url == URL


def test_m8_the_token_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """M8: the whole list is one variable, in JSON."""
    monkeypatch.setenv("CRRMON_INBOXES", json.dumps([HOOK]))

    (hook,) = config.load(None).inboxes
    assert hook.token is not None
    assert hook.token.get_secret_value() == TOKEN


@pytest.mark.parametrize(
    ("inboxes", "said"),
    [
        ([{"kind": "webhook"}], "inboxes[0]: anyone who reaches the port could forge events"),
        ([{**HOOK, "token_file": "t"}], "inboxes[0]: token and token_file are both set"),
        ([{**HOOK, "key_file": "k"}], "certificate_file and key_file belong together"),
        ([{**HOOK, "certificate_file": "c"}], "certificate_file and key_file belong together"),
        ([{"kind": "webhook", "token": "s3cr3t"}], "inboxes[0].token: its value"),
        (
            [{"kind": "webhook", "token": "s3cr3t with blanks"}],
            "inboxes[0].token: its value",
        ),
        ([{"kind": "webhook", "token": 1234567890123456}], "must be in quotes"),
        ([{**HOOK, "kind": "mail"}], "inboxes[0].kind"),
        ([{"token": TOKEN}], "inboxes[0].kind: is missing"),
        ([{**HOOK, "tokn": "x"}], "inboxes[].tokn"),
        (
            [{**HOOK, "port": 9464}],
            "inboxes[0].port is 9464, which another inbox or http already uses",
        ),
        ([HOOK, {**HOOK, "name": "b"}], "inboxes[1].port is 9465"),
        ([HOOK, {**HOOK, "port": 1}], "inboxes[1].name is webhook"),
        (
            [{**HOOK, "name": "crrmon"}],
            "inboxes[0].name is crrmon, which another inbox or a queue",
        ),
    ],
)
def test_m8_a_webhook_that_cannot_be_used(
    tmp_path: Path, inboxes: list[dict[str, Any]], said: str
) -> None:
    """M8: each mistake is told by its setting and without the token; no webhook is open to everybody."""
    text = complaint(tmp_path, {**QUEUES, "inboxes": inboxes})

    assert said in text
    assert "s3cr3t" not in text


def test_m8_a_token_is_never_shown(tmp_path: Path) -> None:
    """M8: `crrmon config show` masks it, as it does passwords."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"inboxes": [HOOK]}))

    for output in ("yaml", "json"):
        result = crrmon("config", "show", "--config", str(path), "--output", output)
        assert result.exit_code == 0
        assert TOKEN not in result.stdout


# ---- accounts ----

ROLE = "arn:aws:iam::{account}:role/crrmon"
STORE = "http://minio:9000"
SITE, OTHER_SITE = "35184ec2-4345-4928-847a-363729e46e5b", "0551843f-49cb-4b31-9c1c-8cccf8531b6b"


@pytest.mark.parametrize(
    "account",
    [
        {"id": "210987654321"},
        {"id": "210987654321", "role_arn": ROLE, "external_id": "a1:b/2", "buckets": ["acme-*"]},
        {"id": "210987654321", "role_arn": "arn:aws:iam::109876543210:role/a/b"},
        {"id": "*", "role_arn": "arn:aws-cn:iam::{account}:role/crrmon", "profile": "china"},
        {"id": "*", "role_arn": "arn:aws-us-gov:iam::{account}:role/crrmon", "region": "us-gov-east-1"},
        {"id": "minio", "endpoint_url": STORE, "buckets": ["*"], "profile": "minio"},
        {"id": "ceph", "endpoint_url": f"{STORE}/s3", "path_style": False, "reports_status": False, "buckets": ["a[0-9]"]},
        {"id": "210987654321", "endpoint_url": STORE},
        {"id": "minio", "endpoint_url": STORE, "buckets": ["*"], "site": SITE},
    ],
)  # fmt: skip
def test_accounts(tmp_path: Path, account: dict[str, Any]) -> None:
    """What makes sense together is accepted, and kept as it is."""
    (loaded,) = load(tmp_path, {**QUEUES, "accounts": [account]}).accounts

    assert loaded.model_dump(mode="json", exclude_unset=True) == account


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ({}, "accounts[0].id: is missing"),
        ({"id": 210987654321}, "accounts[0].id: 210987654321 is not allowed: must be in quotes"),
        ({"id": "2109"}, "accounts[0].id: '2109' is not allowed"),
        ({"id": "210987654321", "rolearn": ROLE}, "accounts[].rolearn: unknown setting; did you mean accounts[].role_arn?"),
        ({"id": "210987654321", "role_arn": "crrmon"}, "accounts[0].role_arn: 'crrmon' is not allowed"),
        ({"id": "210987654321", "role_arn": "arn:aws:iam::x:role/y"}, "accounts[0].role_arn"),
        ({"id": "210987654321", "external_id": "abc"}, "external_id needs a role_arn"),
        ({"id": "210987654321", "role_arn": ROLE, "external_id": "a b"}, "accounts[0].external_id: 'a b' is not allowed"),
        ({"id": "*"}, 'id "*" needs a role_arn that contains {account}'),
        ({"id": "*", "role_arn": "arn:aws:iam::210987654321:role/x"}, 'id "*" needs a role_arn that contains {account}'),
        ({"id": "*", "role_arn": ROLE, "buckets": ["a"]}, "no buckets"),
        ({"id": "*", "role_arn": ROLE, "endpoint_url": STORE}, "no endpoint_url"),
        ({"id": "minio", "endpoint_url": STORE}, "set buckets"),
        ({"id": "minio", "role_arn": ROLE, "buckets": ["a"]}, "needs an id of twelve digits"),
        ({"id": "minio", "buckets": ["a"], "path_style": False}, "path_style needs an endpoint_url"),
        ({"id": "minio", "buckets": ["a"], "reports_status": False}, "reports_status needs an endpoint_url"),
        ({"id": "minio", "buckets": ["a"], "site": SITE}, "site needs an endpoint_url"),
        ({"id": "minio", "buckets": ["a"], "endpoint_url": STORE, "site": "210987654321"}, "accounts[0].site: '210987654321' is not allowed"),
        ({"id": "minio", "buckets": ["a"], "endpoint_url": "minio:9000"}, "accounts[0].endpoint_url: 'minio:9000' is not allowed"),
        ({"id": "minio", "buckets": ["a/b"], "endpoint_url": STORE}, "accounts[0].buckets[0]: 'a/b' is not allowed"),
        ({"id": "minio", "buckets": "a", "endpoint_url": STORE}, "accounts[0].buckets: 'a' is not allowed: must be a list"),
    ],
)  # fmt: skip
def test_an_account_that_makes_no_sense(
    tmp_path: Path, account: dict[str, Any], said: str
) -> None:
    """A contradiction is told in one line with what would be right."""
    (line,) = complaint(tmp_path, {**QUEUES, "accounts": [account]}).splitlines()

    assert said in line


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("id", ("210987654321", "210987654321")),
        ("site", (SITE, SITE)),
        ("buckets", (["a", "a"], ["c"])),
    ],
)
def test_accounts_that_contradict_each_other(
    tmp_path: Path, key: str, values: tuple[Any, Any]
) -> None:
    """One account, site or pattern twice: nobody could tell which is meant."""
    accounts = [
        {"id": name, "buckets": [name], "endpoint_url": STORE, key: value}
        for name, value in zip(("one", "two"), values, strict=True)
    ]

    said = complaint(tmp_path, {**QUEUES, "accounts": accounts})

    assert said.startswith("accounts: ")
    assert "is listed more than once" in said


def test_e4_who_pays_is_said_by_pattern_of_buckets(tmp_path: Path) -> None:
    """An account of the daemon's own credentials needs nothing else; a store that is not S3 asks for no payment."""
    account = {"id": "109876543210", "request_payer": ["acme-*", "paid"]}
    settings = load(tmp_path, {**QUEUES, "accounts": [account]})
    assert settings.accounts[0].request_payer == ("acme-*", "paid")
    of_aws = {**account, "endpoint_url": "https://bucket.vpce-0a.s3.eu-west-1.vpce.amazonaws.com"}
    assert load(tmp_path, {**QUEUES, "accounts": [of_aws]}).accounts[0].request_payer

    store = {"id": "minio", "endpoint_url": STORE, "buckets": ["a"], "request_payer": ["a"]}
    said = complaint(tmp_path, {**QUEUES, "accounts": [store]})
    assert (
        "request_payer is for AWS S3 only: remove it, or the endpoint_url of another store" in said
    )

    twice = [account, {**account, "id": "210987654321"}]
    assert "acme-* is listed more than once" in complaint(tmp_path, {**QUEUES, "accounts": twice})


def _two_with(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return {**QUEUES, "accounts": [{"id": "one"} | one, {"id": "two"} | two]}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["w"], ["w"]),
        (["w", "x"], ["y", "x"]),
        (["*"], ["a[0-9]"]),
        (["acme-*"], ["*-logs"]),
    ],
)
@pytest.mark.parametrize("named", [False, True], ids=["no-site", "one-site"])
def test_m6_a_bucket_name_in_two_stores_is_refused(
    tmp_path: Path, one: list[str], two: list[str], *, named: bool
) -> None:
    """M6: unless both say which site they are, with the way to do it."""
    first = {"endpoint_url": STORE, "buckets": one} | ({"site": SITE} if named else {})

    said = complaint(tmp_path, _two_with(first, {"endpoint_url": STORE, "buckets": two}))

    assert said.startswith("accounts: ")
    assert "give both an accounts[].site, the deployment id in their events" in said


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"site": SITE, "buckets": ["w", "x-*"]}, {"site": OTHER_SITE, "buckets": ["w", "*"]}),
        ({"buckets": ["a-*"]}, {"buckets": ["b-*"]}),
    ],
)
def test_m6_a_bucket_name_at_two_sites_that_events_name(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any]
) -> None:
    """M6: with their sites two stores may have the same buckets; without, others than each other."""
    store = {"endpoint_url": STORE}

    assert len(load(tmp_path, _two_with(store | one, store | two)).accounts) == 2


def test_m6_accounts_of_aws_stand_in_order(tmp_path: Path) -> None:
    """Names are unique in AWS: there a wider pattern may stand after a narrower one, but not the same one."""
    roles = [{"id": name, "role_arn": ROLE} for name in ("210987654321", "109876543210")]

    ordered = _two_with(roles[0] | {"buckets": ["a-logs"]}, roles[1] | {"buckets": ["a-*"]})
    assert len(load(tmp_path, ordered).accounts) == 2
    same = _two_with(roles[0] | {"buckets": ["a-*"]}, roles[1] | {"buckets": ["a-*"]})
    assert "a-* of 109876543210" in complaint(tmp_path, same)


def test_the_accounts_of_the_documentation(tmp_path: Path) -> None:
    """What docs/operations.md shows can be used as it is."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    blocks = [one.partition("```")[0] for one in page.split("```yaml\n")[1:]]
    shown = [one for one in map(yaml.safe_load, blocks) if "accounts" in one]

    loaded = [load(tmp_path, {**QUEUES, **one}).accounts for one in shown]

    assert [[account.id for account in accounts] for accounts in loaded] == [
        ["*", "210987654321", "109876543210", "321098765432"],
        ["109876543210"],
        ["minio"],
        ["east", "west"],
    ]


def test_accounts_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """CRRMON_ACCOUNTS holds them as JSON."""
    monkeypatch.setenv("CRRMON_QUEUES", json.dumps([{"url": URL}]))
    monkeypatch.setenv("CRRMON_ACCOUNTS", json.dumps([{"id": "*", "role_arn": ROLE}]))

    assert config.load(None).accounts[0].role_arn == ROLE


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://me:geheim@host:6379/0", "ledger.redis.password_file"),
        ("redis://me:geheim?x@host:6379/0", "ledger.redis.password_file"),
        ("redis://me:1#geheim@host:6379/0", "ledger.redis.password_file"),
        ("redis://host:6379/0?password=geheim", "ledger.redis.password_file"),
        ("http://me:geheim@host/", "ledger.redis.password_file"),
        ("redis://me:geheim/x@host:6379/0", "the port must be a number"),
        ("redis://host:99999", "the port must be a number"),
        ("http://host/", "must be redis://"),
        ("redis://", "must be redis://"),
        ("redis://host/one", "the database must be a number"),
    ],
)
def test_a_wrong_redis_url_is_told_without_its_password(
    tmp_path: Path, url: str, said: str
) -> None:
    """The message names the setting and the remedy, and is safe to paste anywhere."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, yaml.safe_dump({**QUEUES, "ledger": {"redis": {"url": url}}}))

    assert "ledger.redis.url" in str(caught.value)
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    """`crrmon config show` masks it."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**QUEUES, "ledger": {"redis": {"password": "geheim"}}}))

    for output in ("yaml", "json"):
        result = crrmon("config", "show", "--config", str(path), "--output", output)
        assert result.exit_code == 0
        assert "geheim" not in result.stdout


def test_what_show_prints_can_be_read_again(tmp_path: Path) -> None:
    """`crrmon config show` prints the effective settings, environment included, as a file that gives the same."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**QUEUES, "http": {"port": 1}}))

    result = crrmon("config", "show", "--config", str(path), CRRMON_HTTP__HOST="0.0.0.0")  # noqa: S104 - not listened on

    assert result.exit_code == 0
    shown = load(tmp_path, result.stdout)
    assert (shown.http.host, shown.http.port) == ("0.0.0.0", 1)  # noqa: S104 - not listened on
    as_json = crrmon("config", "show", "--config", str(path), "--output", "json")
    assert json.loads(as_json.stdout)["http"]["port"] == 1


def test_schema() -> None:
    """`crrmon config schema` prints a JSON schema with every key, its description and its default."""
    schema = json.loads(crrmon("config", "schema").stdout)

    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False
    ledger = schema["$defs"]["LedgerSettings"]["properties"]
    assert ledger["shards"]["maximum"] == 4096
    assert ledger["shards"]["description"].startswith("Number of parts of the ledger")


def test_example_command() -> None:
    """`crrmon config example` prints the example."""
    assert crrmon("config", "example").stdout == config.example()


# ---- the command line ----


@pytest.mark.parametrize("command", [["run"], ["config", "show"]])
def test_settings_that_cannot_be_used_end_with_2(tmp_path: Path, command: list[str]) -> None:
    """Exit code 2, the reason on standard error, nothing on standard output, no traceback."""
    path = tmp_path / "config.yaml"
    path.write_text("lodger: 1\nqueu: 2")

    result = crrmon(*command, "--config", str(path))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "crrmon: lodger: unknown setting; did you mean ledger?",
        "crrmon: queu: unknown setting; did you mean queues?",
    ]


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """CRRMON_CONFIG names the file as --config does."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**QUEUES, "name": "found"}))

    result = crrmon("config", "show", CRRMON_CONFIG=str(path))

    assert result.exit_code == 0
    assert "name: found" in result.stdout


def test_help_names_every_command() -> None:
    """Asked for help, the command says what there is; so it does when asked nothing."""
    for arguments, code in ((["--help"], 0), (["-h"], 0), ([], 2)):
        result = crrmon(*arguments, COLUMNS="120", TERM="dumb")
        assert result.exit_code == code
        for command in ("run", "sandbox", "config"):
            assert command in result.output
        assert "Exit codes" in result.output


def test_as_a_module() -> None:
    """`python -m crrmon --version` prints the version, as `crrmon --version` does."""
    done = subprocess.run(
        [sys.executable, "-m", "crrmon", "--version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        env={"PATH": os.environ["PATH"]},
    )

    assert done.stdout.strip() == __version__
    assert done.stderr == ""
