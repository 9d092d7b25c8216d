"""The daemon, in the process of `crrmon run`."""

from pathlib import Path

import uvloop

from crrmon import app, logs
from crrmon.adapters.door import PortTakenError
from crrmon.adapters.webhook import UnusableWebhookError
from crrmon.cli.output import misuse, refuse
from crrmon.cli.settings import sdk_or_exit, settings_or_exit
from crrmon.ports.ledger import LedgerError, UnusableLedgerError
from crrmon.services.lifecycle.supervisor import UnexpectedEndError


def run(config: Path | None) -> None:
    """Run the daemon until it is told to stop."""
    settings = settings_or_exit(config)
    sdk_or_exit(settings, daemon=True)
    logs.configure(level=settings.log.level, format=settings.log.format, keys=settings.log.keys)
    try:
        uvloop.run(app.run(settings))
    except (UnusableLedgerError, UnusableWebhookError, PortTakenError) as error:
        misuse(str(error))
    except (LedgerError, UnexpectedEndError) as error:
        refuse(str(error))
