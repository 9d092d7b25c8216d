"""What a call of AWS may come to: an answer, an error that a service tells, or no answer that means anything."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError


class UnaskedError(Exception):
    """Nobody was asked, for a reason of our own that the text tells."""


class TooManyClientsError(UnaskedError):
    """S3 was to be asked in one more region, or for one more account, than there can reasonably be."""


class NoAnswerError(Exception):
    """No service answered, or nothing that can be understood, or none could be asked."""

    def __init__(self, met: Exception) -> None:
        super().__init__(type(met).__name__)
        self.met = met
        """What the SDK raised, or reading what it made of the answer."""


class UnsignedAnswerError(Exception):
    """Somebody answered who does not seem to be the service: a proxy, a portal, a load balancer."""


EXPIRED_CODES = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
"""How services call credentials that were good once."""

THROTTLED_CODES = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""How services say that they are asked too often, in errors and in the reasons of a cancelled transaction."""

_MEANT = (ClientError, UnaskedError, NoAnswerError)


class border:  # noqa: N801 - used as a statement; a generator would take a tenth of a look
    """Take whatever is raised within for no answer, but for what a service says itself and what we refuse to ask.

    For calls of the SDK and the reading of what they return, and for nothing else: our own faults must end the daemon.
    There is no list of what the SDK raises: its parsers meet bytes of strangers, and let through what that leads to.

    Raises:
        NoAnswerError: in place of anything else.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, _MEANT):
            raise NoAnswerError(error) from error


def unreadable(error: Exception) -> bool:
    """Return whether something did answer that speaks HTTP, and our reader could not make sense of what it said.

    Args:
        error: what a `NoAnswerError` met.
    """
    if type(error) is HTTPClientError:  # each way not to be answered has a class of its own
        causes: list[BaseException] = []
        cause: BaseException | None = error.kwargs.get("error")
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        return any(
            isinstance(one, aiohttp.ClientResponseError | UnicodeError) for one in causes
        ) and not any(isinstance(one, aiohttp.http_exceptions.BadStatusLine) for one in causes)
    return not isinstance(error, BotoCoreError | OSError | UnsignedAnswerError)


def headers_of(answer: object) -> Mapping[str, str]:
    """Return the headers of an answer in the SDK's form, by their names in lower case."""
    told: Any = answer
    headers: Mapping[str, str] = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def code_of(error: ClientError) -> str:
    """Return AWS's word for an error; for answers without a body the HTTP status as text."""
    return str(error.response.get("Error", {}).get("Code", "")) or str(status_of(error))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an error; 0 when there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
