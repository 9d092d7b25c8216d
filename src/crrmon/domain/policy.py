"""How to weigh few HEADs against fresh numbers: what the pacer goes by."""

import msgspec

HOUR = 3600.0
DAY = 86400.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How to weigh few HEADs against fresh numbers. `freshness` is for users, the rest for simulations."""

    freshness: float = 0.5
    """0: fewest HEADs; 1: found soonest."""
    lateness_price: float = 0.3
    """HEADs that finding an object twice as late as it took may cost, at `freshness` 0.5."""
    price_range: float = 8.0
    """Factor on that price at `freshness` 1, and divisor at 0."""
    grace: float = 10.0
    """Seconds added to an object's own latency before lateness is compared with it: nobody minds these few."""

    early_samples: float = 300.0
    """Look at every object at once until a path has this many samples; at ever fewer with up to half as many more..."""
    early_share: float = 0.03
    """...and at this share for ever, to keep the estimate honest."""
    early_step: float = 0.5
    """An object that was looked at early waits this multiple of its age, until it is as old as usual ones then are."""
    jitter: float = 0.15
    """Waits are spread by this share to either side. It is exploration, too: it costs next to nothing."""

    memory_samples: float = 5000.0
    """Each sample fades the older ones by one in this many..."""
    memory_shortest: float = 1800.0
    """...but none faster than by 1/e in this time, however many come,..."""
    memory_longest: float = 6 * HOUR
    """...and all of them at least by 1/e in this one."""

    shortest_wait: float = 1.0
    cap_young: float = 300.0
    """Longest wait of an object up to an hour old."""
    cap_old: float = 900.0
    """Up to a day old."""
    cap_ancient: float = HOUR
    """Beyond; also the longest wait for a first look, lest an estimate gone wrong be believed for long."""
    retry_first: float = 2.0
    """Wait after the first look that told nothing; doubled for each one more."""
    retry_longest: float = 300.0
    failed_young: float = HOUR
    """Between looks at an open failure in its first day; somebody may be repairing it."""
    failed_old: float = DAY

    outage_evidence: float = 14.0
    """Call it an outage when that much was against completions being only late by chance: minus the logarithm of the
    probability. 14 is one in a million.
    """
    outage_quiet: float = 60.0
    """...and when that went on for so long."""
    probe_every: float = 15.0
    """In an outage, seconds between objects that are treated as if there was none."""
    hold_share: float = 0.5
    """In an outage, hold objects for this share of the time that it has lasted; at `freshness` 0.5."""
    hold_range: float = 2.0
    """Factor on that share at `freshness` 0, and divisor at 1."""
    hold_shortest: float = 30.0
    hold_longest: float = HOUR

    paths: int = 1024
    """Learn about this many at most; beyond, forget the one that was learned about longest ago."""

    def cap(self, age: float) -> float:
        """Return the longest wait of an object that is so old."""
        if age <= HOUR:
            return self.cap_young
        return self.cap_old if age <= DAY else self.cap_ancient

    def fading(self, samples: float, since: float) -> float:
        """Return by how much new samples fade the older ones: minus the logarithm of the share that is left.

        Args:
            samples: how many are new.
            since: seconds since the last that was not.
        """
        by_samples = min(samples / self.memory_samples, since / self.memory_shortest)
        return max(by_samples, since / self.memory_longest)
