"""`python -m crrmon` and the `crrmon` command."""

from crrmon.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
