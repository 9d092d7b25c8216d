"""The settings of a command, and what happens when they cannot be used."""

from pathlib import Path

from crrmon import connections
from crrmon.adapters.sdk_settings import SdkSettingsError
from crrmon.cli.output import misuse
from crrmon.config import ConfigurationError, Settings, load


def settings_or_exit(path: Path | None, *, queues: bool = True) -> Settings:
    """Read the settings, or say what is wrong with them and exit with 2.

    Args:
        path: of the file.
        queues: whether at least one queue must be set.
    """
    try:
        return load(path, queues=queues)
    except ConfigurationError as error:
        misuse(str(error))


def sdk_or_exit(settings: Settings, *, daemon: bool = False) -> None:
    """Make sure that AWS's SDK can be used, or say what is wrong with how it is set up and exit with 2.

    Args:
        settings: say what it is needed for; without need, nothing is looked at.
        daemon: whether for all that the daemon does, or the ledger alone.
    """
    if not (daemon or settings.ledger.kind == "dynamodb"):
        return
    try:
        connections.check_sdk(settings, daemon=daemon)
    except SdkSettingsError as error:
        misuse(str(error))
