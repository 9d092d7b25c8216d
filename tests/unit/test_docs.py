"""What is generated is as it would be generated now, and what is promised is there."""

import ast
import json
import re
from pathlib import Path

from crrmon.config import load
from crrmon.domain import reasons
from crrmon.domain.metrics_page import reference
from fakes.pages import blocks, json_blocks

ROOT = Path(__file__).parents[2]


def test_the_metrics_page_is_the_catalogue() -> None:
    """docs/metrics.md cannot drift from the catalogue: `make docs` writes it."""
    assert (ROOT / "docs/metrics.md").read_text() == reference()


def test_the_page_of_failure_reasons_is_the_table() -> None:
    """docs/failure-reasons.md cannot drift from what the daemon says: `make docs` writes it."""
    assert (ROOT / "docs/failure-reasons.md").read_text() == reasons.reference()


def test_every_test_that_guards_an_invariant_exists() -> None:
    """The table of docs/architecture.md names tests that are there."""
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)

    assert len(named) >= 10
    for path, test in named:
        assert re.search(rf"def {test}\(", (ROOT / path).read_text()), f"{path}::{test}"


def anchors(page: Path) -> set[str]:
    """List what a link can point to within a page: its headings, as they are shown on the web."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links of the README and the documents point to files that exist, and to headings in them."""
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)]+)", page.read_text()):
            path, _, heading = target.partition("#")
            led_to = page.parent / path if path else page
            assert led_to.exists(), f"{page.name}: {target}"
            assert not heading or heading in anchors(led_to), f"{page.name}: {target}"


def test_the_readmes_configuration_can_be_used(tmp_path: Path) -> None:
    """The YAML of the README is a valid configuration."""
    (block,) = blocks("README.md", "yaml")
    path = tmp_path / "crrmon.yaml"
    path.write_text(block)

    assert [one.url for one in load(path).queues] == [
        "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"
    ]


def test_m8_the_settings_of_the_page_on_stores_can_be_used(tmp_path: Path) -> None:
    """The YAML within the commands of docs/stores.md is a valid configuration, with an inbox and two stores."""
    (block,) = re.findall(
        r"cat > crrmon\.yaml <<'END'\n(.*?)END\n", (ROOT / "docs/stores.md").read_text(), re.DOTALL
    )
    path = tmp_path / "crrmon.yaml"
    path.write_text(block)

    settings = load(path)
    assert [one.kind for one in settings.inboxes] == ["webhook"]
    assert [one.id for one in settings.accounts] == ["east", "west"]


def test_the_readmes_policies_allow_what_the_daemon_does_and_no_more() -> None:
    """The JSON of the README is JSON, and the role's policy names the calls that the adapters make."""
    documents = json_blocks("README.md")
    role = next(one for one in documents if "Statement" in one and len(one["Statement"]) > 1)
    actions = {action for one in role["Statement"] for action in _list(one["Action"])}

    assert actions == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:GetReplicationConfiguration",
        "cloudwatch:PutMetricData",
    }


def test_the_readmes_notifications_are_those_of_the_guides() -> None:
    """What is put on a bucket is the same text in all pages; the guides' are run by a test."""
    (readme,) = (one for one in json_blocks("README.md") if "QueueConfigurations" in one)
    (page,) = (one for one in json_blocks("docs/events.md") if "QueueConfigurations" in one)
    assert readme == page
    (events,) = {json.dumps(one["Events"]) for one in page["QueueConfigurations"]}
    for guide in ("docs/install-eks.md", "docs/install-ecs.md"):
        assert f'"Events": {events}' in "".join(blocks(guide, "sh")), guide


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []
