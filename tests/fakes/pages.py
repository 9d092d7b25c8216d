"""What the pages for people show in blocks: commands for a shell, and JSON."""

import re
from pathlib import Path
from typing import Any

import msgspec

TOP = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """
    Give the blocks of a page in one language, in their order.

    Args:
        page: its path from the top of the repository.
        language: as it stands behind the fence.
    """
    text = (TOP / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def json_blocks(page: str) -> list[Any]:
    """Read the blocks of a page that hold JSON."""
    return [msgspec.json.decode(block) for block in blocks(page, "json")]
