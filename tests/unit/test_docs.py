"""What is generated is as it would be generated now, and what is promised is there."""

import re
from pathlib import Path

from crrmon.domain.catalogue import reference

ROOT = Path(__file__).parents[2]


def test_the_metrics_page_is_the_catalogue() -> None:
    """docs/metrics.md cannot drift from the catalogue: `make docs` writes it."""
    assert (ROOT / "docs/metrics.md").read_text() == reference()


def test_every_test_that_guards_an_invariant_exists() -> None:
    """The table of docs/architecture.md names tests that are there."""
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)

    assert len(named) >= 10
    for path, test in named:
        assert re.search(rf"def {test}\(", (ROOT / path).read_text()), f"{path}::{test}"


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links of the README and the documents point to files that exist."""
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
