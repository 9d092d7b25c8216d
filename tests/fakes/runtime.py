"""What all parts of a daemon share, for tests of single parts."""

import random

from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.services.lifecycle.health import HealthBoard
from crrmon.services.lifecycle.runtime import Runtime
from fakes.meters import FakeMeters


def runtime(clock: Clock, *, meters: Meters | None = None, seed: int | str = 1) -> Runtime:
    """Share a clock, and what else is not given is new."""
    meters = meters or FakeMeters()
    return Runtime(
        clock=clock,
        meters=meters,
        board=HealthBoard(clock=clock, meters=meters),
        rng=random.Random(seed),
    )
