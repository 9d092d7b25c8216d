"""Every setting, with its default and why.

They come from one YAML file, overridden by the environment: `CRRMON_SECTION__KEY`, lists and maps as JSON.
An unknown key is an error, never ignored: a misspelt setting that is silently off is worse than no start.
"""

from crrmon.config.example import example, schema
from crrmon.config.intake import Filter, Queue, Webhook
from crrmon.config.ledger import LedgerSettings
from crrmon.config.loading import load, public
from crrmon.config.names import keys
from crrmon.config.section import ConfigurationError
from crrmon.config.settings import PREFIX, Polling, Settings

__all__ = [
    "PREFIX",
    "ConfigurationError",
    "Filter",
    "LedgerSettings",
    "Polling",
    "Queue",
    "Settings",
    "Webhook",
    "example",
    "keys",
    "load",
    "public",
    "schema",
]
