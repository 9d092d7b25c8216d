"""No secret is ever shown, wherever it stands: where it belongs, beside that, or in a file that went wrong."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from crrmon import config, logs
from crrmon.cli import app
from crrmon.config import ConfigurationError
from crrmon.domain.redaction import harmless, shown, without_userinfo

MARK = "4711420815"
"""The secret: digits, for YAML and JSON make numbers of them."""

URL = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"
QUEUES = [{"url": URL}]
many = hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25
)


def said(tmp_path: Path, text: str | None = None, **environment: str) -> str:
    """Return all that `crrmon config show`, and `crrmon run` where settings are wrong, say; chained errors included."""
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump({"queues": QUEUES}) if text is None else text, "utf-8")
    told = ""
    commands = [("config", "show"), ("config", "show", "--output", "json")]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            told += repr(config.load(path))
        except ConfigurationError as error:
            told += f"{error}{error.__cause__!r}"
            commands.append(("run",))
    for command in commands:
        result = CliRunner().invoke(app, [*command, "--config", str(path)], env=environment)
        told += f"{result.output}{result.stderr}{result.exception!r}"
    return told


# ---- below and beside a secret ----

secrets = st.sampled_from([MARK, int(MARK), float(MARK), -int(MARK), MARK.encode(), f"{MARK}@:/"])
placed = st.recursive(
    secrets,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(["a", MARK, "password"]), inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)


@many
@given(
    placed,
    st.sampled_from(["password", "passwort", "url", "password:", f"password:{MARK}"]),
)
@example(int(MARK), "password")
@example({"a": MARK}, "password")
@example(None, f"password:{MARK}")
def test_r7_nothing_at_below_or_beside_a_secret_is_shown(
    tmp_path: Path, value: object, key: str
) -> None:
    """Whatever type it has and on whichever line it came: neither the value nor a name that was meant to be one."""
    assert MARK not in said(
        tmp_path, yaml.safe_dump({"queues": QUEUES, "ledger": {"redis": {key: value}}})
    )


@many
@given(
    placed.filter(lambda value: b"" not in (value, type(value)())),
    st.sampled_from(["CRRMON_LEDGER", "CRRMON_LEDGER__REDIS", "CRRMON_LEDGER__REDIS__PASSWORD"]),
    st.integers(0, 60),
    st.booleans(),
)
@example(value=int(MARK), variable="CRRMON_LEDGER", cut=0, below=True)
@example(value=MARK, variable="CRRMON_LEDGER__REDIS", cut=1, below=True)
def test_r7_nothing_of_a_variable_with_a_secret_is_shown(
    tmp_path: Path,
    value: object,
    variable: str,
    cut: int,
    below: bool,  # noqa: FBT001 - a property's argument
) -> None:
    """JSON of the wrong type, cut off anywhere, or with the secret above where it belongs."""
    levels = ("redis", "password")[variable.count("__") :] if below else ()
    for name in reversed(levels):
        value = {name: value}
    text = json.dumps(value, default=bytes.decode)

    assert MARK not in said(tmp_path, **{variable: text[: max(len(text) - cut, 1)]})


@pytest.mark.parametrize(
    "text",
    [
        f"ledger: {{redis: {{password: {MARK}}}}}",
        f"ledger: {{redis: {{password: 0x{MARK}}}}}",
        f"ledger: {{redis: {{password:{MARK}}}}}",
        f"ledger: {{redis: {{password, {MARK}}}}}",
        f"ledger: {{redis: password:{MARK}}}",
        f"ledger: password:{MARK}",
        f'ledger: {{redis: {{password: "{MARK}}}}}',
        f"ledger: {{redis: {{password: *x{MARK}}}}}",
        f"ledger: {{redis: {{password: !x{MARK} y}}}}",
        f"ledger: {{redis: {{password: %{MARK}}}}}",
        f"ledger: {{redis: {{password: !!int x{MARK}}}}}",
        f"ledger: {{redis: {{password: !!timestamp x{MARK}}}}}",
        f"ledger: {{redis: {{password: {{{MARK}: 1, {MARK}: 2}}}}}}",
        f"ledger:\n  redis:\n    password: a: {MARK}",
        f"ledger:\n  redis:\n    password:\n    x{MARK}:\n",
        f"ledger:\n  redis:\n  password: x{MARK}\n",
        f"ledger: 'redis: x{MARK}'",
        f"? redis password x{MARK}",
        f"x{MARK}",
        f"ledger:\n\tredis: {MARK}",
    ],
)  # fmt: skip
def test_r7_a_broken_file_is_told_without_what_stands_in_it(tmp_path: Path, text: str) -> None:
    """Where it is broken is told by line and column, or by the setting's name."""
    told = said(tmp_path, f"queues: [{{url: {URL}}}]\n{text}\n")

    assert "crrmon: " in told
    assert MARK not in told


def test_r7_a_password_of_digits_is_told_to_need_quotes(tmp_path: Path) -> None:
    """The message has the remedy, and nothing of the password."""
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump({"queues": QUEUES, "ledger": {"redis": {"password": 4711}}}))

    with pytest.raises(ConfigurationError) as caught:
        config.load(path)

    assert str(caught.value) == (
        "ledger.redis.password: its value is not allowed: must be in quotes, because YAML does not read it as text"
    )


def test_r7_a_variable_below_a_secret_is_not_named(tmp_path: Path) -> None:
    """Its name may be half of the secret."""
    told = said(tmp_path, **{f"CRRMON_LEDGER__REDIS__PASSWORD__X{MARK}": "1"})

    assert "CRRMON_LEDGER__REDIS__PASSWORD__***: unknown environment variable" in told
    assert MARK not in told


# ---- in addresses ----

passwords = st.text("ab:@/ ?#%[]", max_size=4).map(lambda more: f"{more}{MARK}{more[::-1]}")
hosts = st.sampled_from(["sqs.eu-west-1.amazonaws.com/1/q", "localhost:4566/1/q", "host", "h:x/"])
places = st.sampled_from(
    ["queue", "queue text", "endpoint", "store", "redis", "variable", "broken"]
)


def written(place: str, address: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Put an address where one belongs, or where somebody may have put it."""
    store = {"id": "minio", "endpoint_url": address, "buckets": ["*"]}
    text = json.dumps([{"url": address}])
    files: dict[str, dict[str, Any]] = {
        "queue": {"queues": [{"url": address}]},
        "queue text": {"queues": address},
        "endpoint": {"queues": QUEUES, "aws": {"endpoint_url": address}},
        "store": {"queues": QUEUES, "accounts": [store]},
        "redis": {"queues": QUEUES, "ledger": {"redis": {"url": address}}},
    }
    variables = {"variable": text, "broken": text[:-1]}
    return files.get(place, {}), (
        {"CRRMON_QUEUES": variables[place]} if place in variables else {}
    )


@many
@given(passwords, hosts, st.sampled_from(["https", "http", "redis"]), places)
@example(MARK, "sqs.eu-west-1.amazonaws.com/1/q", "https", "queue")
@example(MARK, "localhost:4566", "http", "endpoint")
@example(f"][{MARK}[]", "host", "redis", "redis")
@example(f"][{MARK}[]", "host/1/q", "https", "queue")
@example(f"][{MARK}[]", "host/1/q", "https", "store")
def test_r7_no_password_in_an_address_is_shown(
    tmp_path: Path, password: str, host: str, scheme: str, place: str
) -> None:
    """In whichever setting it stands: neither in what is shown, nor in what is refused."""
    raw, environment = written(place, f"{scheme}://user:{password}@{host}")

    assert MARK not in said(tmp_path, yaml.safe_dump(raw), **environment)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"queues": [{"url": URL.replace("//", "//me:geheim@")}]}, "queues[0].url: 'https://***@sqs.eu-west-1"),
        ({"queues": QUEUES, "aws": {"endpoint_url": "http://me@localhost:4566"}}, "aws.endpoint_url: 'http://***@localhost:4566'"),
    ],
)  # fmt: skip
def test_r7_a_user_in_an_address_for_aws_is_refused(
    tmp_path: Path, raw: dict[str, Any], name: str
) -> None:
    """No call can be sent there: user and signature would stand in the same header. The message has the remedy."""
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump(raw))

    with pytest.raises(ConfigurationError) as caught:
        config.load(path)

    assert str(caught.value).startswith(name)
    assert "remove it; credentials come from the SDK's usual places" in str(caught.value)


def test_r7_a_user_of_redis_is_masked(tmp_path: Path) -> None:
    """It is needed there, and nobody who reads the output needs it."""
    raw = {"queues": QUEUES, "ledger": {"redis": {"url": f"redis://u{MARK}@host:6379/0"}}}
    told = said(tmp_path, yaml.safe_dump(raw))
    shown_url = CliRunner().invoke(app, ["config", "show", "-c", str(tmp_path / "crrmon.yaml")])

    assert "redis://***@host:6379/0" in shown_url.stdout
    assert MARK in told  # in the settings themselves, which nobody is shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at http://u:p@proxy:3128, and https://x/y", "at http://***@proxy:3128, and https://x/y"),
        ("redis://u:p@a@host/0", "redis://***@host/0"),
        ("someone@example.com", "someone@example.com"),
        ("https://host/a b@c", "https://host/a b@c"),
        ("nothing", "nothing"),
    ],
)
def test_r7_userinfo_is_taken_out_of_texts(text: str, expected: str) -> None:
    """All of it, however many @ it has; and nothing else."""
    assert without_userinfo(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:a b@c@host/q", "https://***@host/q"),
        ("u:p@host", "***@host"),
        ("https://host/q?X-Amz-Signature=abc", "https://host/q?***"),
        ("https://host/#abc", "https://host/#***"),
        ("what?", "what?"),
    ],
)
def test_r7_what_may_be_an_address_is_shown_without_what_may_be_secret(
    text: str, expected: str
) -> None:
    """Also where the scheme is missing, or the address is signed."""
    assert harmless(text) == expected


def test_r7_a_value_is_shortened_after_secrets_were_taken_out() -> None:
    """What is cut in two is not recognised as an address any more."""
    long = f"https://user:{'x' * 200}{MARK}{'x' * 200}@host/q"

    assert shown(long) == "'https://***@host/q'"
    assert shown({"a": [long]}) == "{'a': ['https://***@host/q']}"


# ---- in logs ----


@pytest.fixture
def _restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("form", ["json", "console"])
def test_r7_logs_hold_no_password_of_an_address(form: Any) -> None:
    """Neither in a field, nor in a list, nor in a traceback; a key stays as it is."""
    stream = io.StringIO()
    logs.configure(level="info", format=form, stream=stream)
    log = structlog.get_logger()
    address = f"http://user:{MARK}@proxy:3128"

    log.info("started", queues=[address], http=address)
    log.error("failed", exc_info=OSError(f"cannot connect to {address}"))

    assert MARK not in stream.getvalue()
    assert "http://***@proxy:3128" in stream.getvalue()
    log.info("object", key="s3://a@b")
    assert "s3://a@b" in stream.getvalue()
