import fnmatch
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
from jsonschema import Draft7Validator

from artifacts import chart
from crrmon import config
from fakes.chart import PATH

SMALL = """\
# A file of values.

# -- How many there are,
# at least.
count: 1

# Nothing tells what this is for.
silent: true

# -- The image.
image:
  # -- Its name; a | in the text.
  name: crrmon
  # -- Set on every object.
  annotations: {}

# -- The daemon's own.
config:
  queues: []
"""


def _of(text: str) -> dict[str, chart.Entry]:
    found = chart.entries(text)
    return {entry.name: entry for entry in (*chart.sections(found), *chart.leaves(found))}


PUBLISHED = ("https://keepachangelog.com/", "https://semver.org/")

VALUES = _of((PATH / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((PATH / "values.schema.json").read_text(encoding="utf-8"))
PAGE = (PATH / "README.md").read_text(encoding="utf-8")


def test_a_comment_with_its_mark_is_the_keys_documentation() -> None:
    """It may go over lines; a comment without the mark documents nothing."""
    found = _of(SMALL)

    assert found["count"].description == "How many there are, at least."
    assert found["image.name"].description == "Its name; a | in the text."
    assert not found["silent"].description


def test_a_section_is_read_key_by_key_and_config_as_a_whole() -> None:
    """The daemon's settings have a page of their own."""
    assert list(_of(SMALL)) == [
        "image",
        "count",
        "silent",
        "image.name",
        "image.annotations",
        "config",
    ]


def test_types_are_read_off_the_defaults() -> None:
    """Nobody repeats what is plain to see."""
    properties = chart.schema(chart.entries(SMALL))["properties"]

    assert properties["count"]["type"] == "integer"
    assert properties["silent"]["type"] == "boolean"
    assert properties["image"]["properties"]["name"]["type"] == "string"
    assert properties["image"]["additionalProperties"] is False


@pytest.mark.parametrize("default", ["null", "[]", "{}", "[1]"])
def test_a_default_that_tells_no_type_must_be_known(default: str) -> None:
    """Else the schema would let anything through."""
    with pytest.raises(
        chart.UndescribedError, match=r"strange: the default .* add the key to KNOWN"
    ):
        chart.schema(chart.entries(f"{SMALL}\n# -- A\nstrange: {default}\n"))


@pytest.mark.parametrize("like", chart.KNOWN)
def test_what_is_known_exists(like: str) -> None:
    """No line of the table outlives its key."""
    assert fnmatch.filter(VALUES, like)


@pytest.mark.parametrize("entry", VALUES.values(), ids=VALUES)
def test_every_value_is_documented(entry: chart.Entry) -> None:
    """It has a comment in a sentence, a type in the schema and, if it can be set, a line on the page."""
    assert entry.description.endswith("."), "its comment must be sentences"
    schema = SCHEMA
    for part in entry.path:
        schema = schema["properties"][part]
    assert schema["type"]
    assert entry.inner or f"| `{entry.name}` |" in PAGE


def test_the_schema_is_one() -> None:
    """It follows the draft that it names, and the chart's own defaults pass it."""
    Draft7Validator.check_schema(SCHEMA)
    helm.Chart.load(PATH).validate_schema({})


def test_the_daemons_own_schema_stands_under_config() -> None:
    """Every setting is checked before anything is installed, and one that is made tomorrow, too."""
    settings = config.schema()

    assert SCHEMA["$defs"] == settings["$defs"]
    assert SCHEMA["properties"]["config"]["properties"].keys() == settings["properties"].keys()


def test_the_page_names_every_example() -> None:
    """With what it shows."""
    names = [path.name for path in (PATH / "ci").glob("*-values.yaml")]

    assert names
    assert all(f"- `{name}`: " in PAGE for name in names)


def test_the_page_s_links_lead_somewhere_in_the_package(tmp_path: Path) -> None:
    """The chart is also had without the repository around it; no address is named that nobody registered."""
    packed = helm.package(PATH, destination=tmp_path)
    with tarfile.open(
        packed if isinstance(packed, str) else next(tmp_path.glob("*.tgz"))
    ) as package:
        names = set(package.getnames())
    changes = (PATH / "CHANGELOG.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", PAGE + changes)

    assert links
    for link in links:
        assert f"crrmon/{link}" in names or link.startswith(PUBLISHED), link


@pytest.mark.parametrize("path", ["Chart.yaml", "values.yaml", "templates/NOTES.txt"])
def test_the_chart_names_no_home_that_nobody_registered(path: str) -> None:
    """Whoever took the name could tell its users anything."""
    text = (PATH / path).read_text(encoding="utf-8")

    assert not re.findall(r"https?://(?!sqs\.|127\.0\.0\.1)[^\s'\"]+", text)


def test_an_example_must_say_what_it_shows() -> None:
    """The page would have an empty line."""
    with pytest.raises(chart.UndescribedError, match="begin with a comment"):
        chart.example("config: {}\n")


def test_a_bar_does_not_break_the_table() -> None:
    """Markdown would take it for the end of a cell."""
    about = {
        "name": "x",
        "description": "x",
        "version": "1",
        "appVersion": "1",
        "kubeVersion": ">=1.25.0-0",
    }

    text = chart.page(about, chart.entries(SMALL), {})

    assert '| `image.name` | string | `"crrmon"` | Its name; a \\| in the text. |' in text
