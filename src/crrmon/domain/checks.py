"""What was found when the daemon's calls were tried: one value for each call, for a table or for a machine.

A check proves what it says, or says that it proves nothing. A call that would take a message or store a datapoint is not
made, and an answer that AWS might have given for another reason is `unproved`; so "all passed" is never said of what
nobody tried.
"""

import enum
from collections.abc import Iterable

import msgspec


class Verdict(enum.StrEnum):
    """What a call that was tried proves."""

    PASSED = "passed"
    FAILED = "failed"
    UNPROVED = "unproved"
    """Nothing is known to be wrong, and nothing is proved: it was not tried, or the answer leaves it open."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One call, and what came of it."""

    subject: str
    """What was asked: the credentials, an account, a queue, a bucket, CloudWatch, the ledger."""
    call: str
    """What was asked of it, in AWS's own word where it has one."""
    needs: str = ""
    """The IAM permissions that the call takes, separated by commas; empty where it takes none."""
    verdict: Verdict
    found: str = ""
    """What was found; of what did not pass, why and what to do. Never a secret."""


def failed(checks: Iterable[Check]) -> bool:
    """Return whether any of them failed; what is unproved did not."""
    return any(check.verdict is Verdict.FAILED for check in checks)
