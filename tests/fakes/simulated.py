"""A loop of simulated time for tests that are not coroutines themselves."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import looptime

Result = TypeVar("Result")


def simulate(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a loop of its own, whose time is simulated and begins at 0."""
    loop = looptime.new_event_loop(start=0.0, noop_cycles=1)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
