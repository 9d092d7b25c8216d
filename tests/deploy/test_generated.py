"""What is generated and committed is what would be generated now."""

from pathlib import Path

import pytest

from artifacts.__main__ import TOP, files

FILES = files()


@pytest.mark.parametrize("path", FILES)
def test_a_generated_file_is_up_to_date(path: str) -> None:
    """`make docs` would change nothing."""
    assert Path(TOP / path).read_text(encoding="utf-8") == FILES[path], "call make docs"
