"""Text from outside, as it may be shown on a terminal."""

from rich.text import Text


def on_one_line(text: str) -> Text:
    """Escape what would move the cursor: AWS's sentences, and those of whoever answers for it, come from outside."""
    return Text(
        "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    )
