"""What all parts of a daemon share: the time, what is measured, how it is, and chance."""

import random

import msgspec

from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.services.lifecycle.health import HealthBoard


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What all parts of a daemon share."""

    clock: Clock
    meters: Meters
    board: HealthBoard
    rng: random.Random
