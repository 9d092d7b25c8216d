"""The command line: arguments in, tables and exit codes out; no logic."""

from crrmon.cli.commands import app

__all__ = ["app"]
