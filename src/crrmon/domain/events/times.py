"""Which times of events are believed.

An event is told by somebody's clock, or was made up: consoles and tutorials send samples of 1970. Such a time says
something about the event's identity, for the next delivery says the same, but nothing about an age.

- Before S3 was there, or later than now: impossible.
- Older than the retention: possible, when somebody sends old messages again. S3 itself says so as soon as the object
  is looked at; until then nobody knows.

What is not believed is taken for written when it was heard of, until a look tells S3's own LastModified. So a
pending object that truly is a week old holds back what is complete, as soon as S3 has said that it is there, and one
that never was makes nothing look old.
"""

from msgspec.structs import replace

from crrmon.domain.events.facts import (
    DeletionTried,
    RarerFact,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    TargetOffline,
    ThresholdPassed,
    VersionReplicated,
)

S3_BEGAN_AT = 1_142_294_400.0
"""2006-03-14: there was no S3 before."""

AHEAD_SECONDS = 60.0
"""How far the clock of whoever told of something may be ahead of ours."""


def possible(at: float, *, now: float) -> bool:
    """Return whether something can have happened at a moment."""
    return S3_BEGAN_AT <= at <= now + AHEAD_SECONDS


def believable(at: float, *, now: float, retention_seconds: float) -> bool:
    """Return whether a moment that an event tells is believed before S3 itself has told."""
    return possible(at, now=now) and now - at <= retention_seconds


def in_time(fact: RarerFact, *, now: float) -> RarerFact:
    """Return a fact about a version that is followed without a time that cannot be: then it was now.

    A write keeps its own: it is told by that; see `records.Record.claimed_at`. A restart or a failure that lies too
    far back tells nothing against what is known, and stays where it is.
    """
    match fact:
        case ReplicaWritten(written_at=at) if not possible(at, now=now):
            return replace(fact, written_at=now)
        case VersionReplicated(replicated_at=at) if not possible(at, now=now):
            return replace(fact, replicated_at=now)
        case (
            ReplicationFailed(noticed_at=at)
            | ThresholdPassed(noticed_at=at)
            | TargetOffline(noticed_at=at)
        ) if _later(at, now):
            return replace(fact, noticed_at=now)
        case DeletionTried(tried_at=at) if not possible(at, now=now):
            return replace(fact, tried_at=now)
        case ReplicationRestarted(restarted_at=at) if _later(at, now):
            return replace(fact, restarted_at=now)
        case _:
            return fact


def _later(at: float, now: float) -> bool:
    return at > now + AHEAD_SECONDS
