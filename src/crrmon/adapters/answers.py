"""How answers of AWS are read and judged, where the SDK does it otherwise than whoever asks needs it."""

import email.utils
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from typing_extensions import override

from crrmon.adapters.border import UnsignedAnswerError
from crrmon.ports.clock import Dates

MAX_HEADERS = 2048
"""Of one answer: S3 keeps up to 2 KB of names and values that users give, of which each character may be a header."""

MAX_HEAD_BYTES = 65_536
"""Of a status line and its headers: proxies add to what services send."""

_ASKED_AT = "crrmon_asked_at"
"""Where the SDK's context of a call keeps when it began."""

ID_HEADER, S3_ID_HEADER = "x-amzn-requestid", "x-amz-request-id"
"""In which AWS's services name a request; that of most, and that of S3."""

_DATES = (946_684_800.0, 4_102_444_800.0)
"""Which dates are believed, seconds since the epoch: those of this century. Beyond the year 9999 there are none at all,
and a clock that comes close has nothing to add to.
"""


class AnyBytesResponse(aiohttp.ClientResponse):
    """
    An answer whose headers may hold any bytes, as users give them to S3: those that are no UTF-8 are read as Latin-1.
    """

    @property
    @override
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name, _as_utf8(value)) for name, value in self._raw_headers or ())


def _as_utf8(value: bytes) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


class AnswerReader(AIOHTTPSession):
    """Reads all answers that S3 can give, or a proxy before another service; the SDK's own takes 128 headers of UTF-8."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session: Any = await super()._get_session(proxy_url)  # type: ignore[misc] # its stubs hide it
        # NB: aiohttp has arguments for these, which the SDK does not pass on.
        session._response_class = AnyBytesResponse  # noqa: SLF001
        session._max_headers = MAX_HEADERS  # noqa: SLF001
        session._max_line_size = MAX_HEAD_BYTES  # noqa: SLF001
        session._max_field_size = MAX_HEAD_BYTES  # noqa: SLF001
        return session


class Doorkeeper:
    """Lets no answer in that is none of the service's: an error page with the status 200 would be read as a success.

    AWS gives every request an id. Stand-ins for it need not; they must at least answer in the protocol's own format.
    """

    def __init__(self, *, trusting: bool) -> None:
        self._trusting = trusting

    def __call__(self, parsed: Mapping[str, Any], **_: object) -> None:
        told = parsed.get("ResponseMetadata", {})
        if told.get("HTTPStatusCode", 0) >= HTTPStatus.BAD_REQUEST or told.get("RequestId"):
            return
        kind = str(told.get("HTTPHeaders", {}).get("content-type", ""))
        if not (self._trusting and any(one in kind for one in ("json", "cbor", "xml"))):
            raise UnsignedAnswerError


class DateListener:
    """Hears of every call of a client, and passes on what its answer says about the time."""

    def __init__(self, dates: Dates) -> None:
        self._dates = dates

    def asked(self, context: dict[str, Any], **_: object) -> None:
        context[_ASKED_AT] = self._dates.asked()

    def answered(self, context: dict[str, Any], parsed: Any, **_: object) -> None:
        asked_at = context.get(_ASKED_AT)
        told = parsed.get("ResponseMetadata", {}) if isinstance(parsed, dict) else {}
        headers = told.get("HTTPHeaders", {})
        if asked_at is None or not tells_time(headers):
            return
        date = read_date(headers.get("date", ""))
        if date is not None:
            self._dates.heard(date, asked_at=asked_at)


def tells_time(headers: Mapping[str, str]) -> bool:
    """Return whether what an answer says about the time can be relied on.

    Answers without AWS's id of the request, or out of a cache, are of somebody else on the way, or of another time.

    Args:
        headers: of the answer, by names in lower case.
    """
    return "age" not in headers and (S3_ID_HEADER in headers or ID_HEADER in headers)


@lru_cache(maxsize=8)
def read_date(text: str) -> float | None:
    """Read a Date header, into seconds since the epoch; None for one that no calendar has, or no clock."""
    try:
        date = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return date if _DATES[0] <= date < _DATES[1] else None


def follow_no_redirect(context: dict[str, Any], **_: object) -> None:
    """Keep the SDK from asking again after every 400: it would HEAD all objects with a customer's key twice or thrice.

    Buckets elsewhere are found by `s3.S3Probe`.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def mean_this_site(params: dict[str, Any], **_: object) -> None:
    """
    Make a store answer for itself: MinIO asks the other side of a replication for what it does not have, and passes its
    answer on as its own, unless this header says that somebody asked already.
    """
    params["headers"]["x-minio-source-proxy-request"] = "false"
