"""Looks at objects in S3: their replication status, and the replication configuration of their buckets.

A HEAD has an answer for everything that can be wrong with it, mostly without a body. What the answers mean is told
in `observations`; what is special to S3 is kept here: statuses with two spellings, answers about another version
than the one asked for, buckets that are not where they were thought to be. So is what S3-compatible stores do
otherwise.
"""

import asyncio
import email.utils
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from botocore.exceptions import ClientError, ParamValidationError
from botocore.utils import parse_timestamp
from msgspec.structs import replace

from crrmon.adapters.account_way import AccountError, Way
from crrmon.adapters.accounts import Accounts, TooManyAccountsError, UnknownSiteError
from crrmon.adapters.border import (
    EXPIRED_CODES,
    NoAnswerError,
    UnaskedError,
    border,
    code_of,
    headers_of,
    status_of,
    unreadable,
)
from crrmon.adapters.deadline import Deadline
from crrmon.adapters.heads import HeadAnswer, HeadRequest, Heads
from crrmon.adapters.remedies import CREDENTIALS_CODES, CREDENTIALS_REMEDY, explain
from crrmon.domain.objects import ObjectVersion, plausible_size
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.recent import Recent
from crrmon.ports.clock import Clock
from crrmon.ports.probe import NoBucketError, UnreadableConfigurationError, UnusableAccountError

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_s3 import S3Client

_Answer = TypeVar("_Answer")

DEADLINE_SECONDS = 30.0
"""For one look or reading in all: what the time-outs of its parts (name, connection, answer) may add up to."""

_SIGHTS = {
    "PENDING": Sight.PENDING,
    "COMPLETED": Sight.COMPLETED,
    "COMPLETE": Sight.COMPLETED,  # older, and still in the API's model
    "FAILED": Sight.FAILED,
    "REPLICA": Sight.REPLICA,
}

_REFUSALS = {
    400: Sight.REFUSED,
    403: Sight.DENIED,
    404: Sight.GONE,
    405: Sight.DELETE_MARKER,
    429: Sight.THROTTLED,
    503: Sight.THROTTLED,
}

_ANSWERS_OF_S3 = (Sight.REFUSED, Sight.DENIED, Sight.GONE, Sight.DELETE_MARKER)
"""What other HTTP servers between us and S3 say as well, and mean themselves."""

_WITHOUT_PROOF = (Sight.GONE, Sight.DELETE_MARKER, Sight.NO_STATUS)
"""What ends the following of a version, and what any HTTP server might have said."""

_OK = 200
_WORDLESS = (400, 403)
"""Refusals that mean many things, of which a HEAD does not say which."""

WHY_SECONDS = 60.0
"""Between two requests that ask one bucket why it refuses."""

_STANDARD = "STANDARD"

_ACCOUNT_ID = re.compile(r"[0-9]{12}")

_ANOTHER_VERSION = "answer about another version"

_PURGED = "x-minio-replication-delete-status"
"""
With 405: the version was deleted for good here and not yet at the destination, until when MinIO keeps it. It claims to
be a delete marker, of which another header would tell.
"""

_NO_CONFIGURATION = "ReplicationConfigurationNotFoundError"
_REQUEST_ID = "x-amz-request-id"
_NOT_S3 = f"without {_REQUEST_ID}, so not from S3: a proxy or mesh answered, or aws.endpoint_url is wrong"


class S3Probe:
    """Reads replication status and configuration from S3."""

    def __init__(
        self, accounts: Accounts, *, clock: Clock, deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._deadline = Deadline(deadline_seconds)
        self._regions: Recent[tuple[str, str], str] = Recent()
        """Of buckets, by account and name, that were found elsewhere than was thought."""
        self._asked_why: Recent[tuple[str, str], tuple[float, asyncio.Future[str]]] = Recent()
        """When buckets, by account and name, were asked why they refuse, and what of their answers is about all objects."""

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        """HEAD one version.

        One request without retries; two when S3 says that the bucket is in another region, which is remembered.
        """
        try:
            way = self._accounts.way(version.bucket, owner)
        except AccountError as error:
            return self._unasked(error)
        return await self._look(way, version, region, owner)

    async def look_at_replica(
        self,
        version: ObjectVersion,
        bucket: str,
        *,
        region: str,
        owner: str | None,
        source_owner: str | None,
    ) -> Observation:
        """HEAD one version in a destination; as `look`."""
        try:
            way = self._accounts.way_from(version.bucket, source_owner, bucket, owner)
        except AccountError as error:
            return self._unasked(error)
        replica = ObjectVersion(bucket, version.key, version.version_id)
        return await self._look(way, replica, region, owner)

    def sites(self, bucket: str) -> tuple[str | None, ...]:
        """Return all owners under which buckets of one name are reached."""
        return self._accounts.sites(bucket)

    async def _look(
        self, way: Way, version: ObjectVersion, region: str, owner: str | None
    ) -> Observation:
        asked = version.version_id if version.identified else None
        request = HeadRequest(
            bucket=version.bucket,
            key=version.key,
            version_id=asked,
            owner=_expected(way, owner),
            payer=way.pays_for(version.bucket),
        )
        try:
            with border():
                with self._deadline.kept():
                    asked_at = asyncio.get_running_loop().time()
                    heads, answer = await self._head(way, region, request)
                    code = ""
                    if answer.status in _WORDLESS:
                        code = await self._code(heads, request, answer, way)
                        if code in EXPIRED_CODES and await heads.renew(asked_at=asked_at):
                            answer, code = await self._again(heads, request, code, way)
                if answer.status == _OK:
                    return self._seen(answer.headers, asked, way)
        except AccountError as error:
            return self._unasked(error)
        except UnaskedError as error:
            return self._trouble(Sight.UNREACHABLE, error)
        except NoAnswerError as error:
            return self._unanswered(error.met)
        return self._refused(answer, asked, way, code)

    async def _head(self, way: Way, region: str, request: HeadRequest) -> tuple[Heads, HeadAnswer]:
        """Ask in the bucket's region; once more in the one that S3 names when the bucket is not there."""
        found = self._regions.get((way.name, request.bucket))
        clients = way.at_hand(found or region)
        if clients is None:
            clients = await (way.s3(region) if found is None else way.s3_in(found))
        heads = clients.heads
        answer = await heads.head(request)
        if answer.status == _OK:
            return heads, answer
        elsewhere = _region_told(answer.status, answer.headers, "")
        if elsewhere is None or elsewhere == heads.region:
            return heads, answer
        heads = (await way.s3_in(elsewhere)).heads
        self._regions.put((way.name, request.bucket), elsewhere)
        return heads, await heads.head(request)

    async def _code(self, heads: Heads, request: HeadRequest, answer: HeadAnswer, way: Way) -> str:
        """Return S3's word for a refusal, which the answer to a HEAD has no place for; now and then, as it costs a request."""
        if not _proved(answer.headers, way):
            return ""
        place, now = (way.name, request.bucket), self._clock.now()
        asked = self._asked_why.get(place)
        if asked is not None and 0 <= now - asked[0] < WHY_SECONDS:
            return await asyncio.shield(
                asked[1]
            )  # whoever gives up must not end it for the others
        why: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked_why.put(place, (now, why))
        code = ""
        try:
            with border():
                code = await heads.code(request)
        except (UnaskedError, NoAnswerError):
            pass  # the answer that was there stands
        finally:
            why.set_result(code if code in CREDENTIALS_CODES else "")
        return code

    async def _again(
        self, heads: Heads, request: HeadRequest, code: str, way: Way
    ) -> tuple[HeadAnswer, str]:
        """Ask with newer credentials; also return the code that still holds for them."""
        answer = await heads.head(request)
        if answer.status in _WORDLESS:
            return answer, code
        nothing: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        nothing.set_result("")
        self._asked_why.put((way.name, request.bucket), (self._clock.now(), nothing))
        return answer, ""

    async def configuration(
        self, bucket: str, *, region: str, owner: str | None
    ) -> dict[str, Any] | None:
        """Read a bucket's replication configuration; None when S3 says that it has none."""
        try:
            way = self._accounts.way(bucket, owner)
        except (TooManyAccountsError, UnknownSiteError) as error:
            raise _unreadable(bucket, str(error)) from error
        request = _request(way, bucket, owner)
        try:
            with border():
                answer = await self._ask(
                    way, bucket, region, lambda s3: s3.get_bucket_replication(**request)
                )
                told = _configuration(answer)
        except AccountError as error:
            raise UnusableAccountError(str(error)) from error
        except (ClientError, UnaskedError, NoAnswerError) as error:
            code = code_of(error) if isinstance(error, ClientError) else ""
            if code == _NO_CONFIGURATION:
                if _proved(headers_of(getattr(error, "response", {})), way):
                    return None
                raise _unreadable(bucket, f"an answer {_NOT_S3}") from error
            trouble = _unreadable(bucket, _reason(bucket, region, way, error))
            if way.own_endpoint and code == "NoSuchBucket":
                raise NoBucketError(str(trouble)) from error
            raise trouble from error
        if not _proved(headers_of(answer), way):
            raise _unreadable(bucket, f"an answer {_NOT_S3}")
        return told

    async def lists(self, bucket: str, *, region: str, owner: str | None) -> bool:
        """Return whether a bucket may be listed: S3 answers HeadBucket to whoever has s3:ListBucket."""
        try:
            way = self._accounts.way(bucket, owner)
        except AccountError as error:
            raise UnusableAccountError(str(error)) from error
        request = _request(way, bucket, owner)
        try:
            with border():
                answer = await self._ask(way, bucket, region, lambda s3: s3.head_bucket(**request))
        except AccountError as error:
            raise UnusableAccountError(str(error)) from error
        except (ClientError, UnaskedError, NoAnswerError) as error:
            denied = isinstance(error, ClientError) and status_of(error) == HTTPStatus.FORBIDDEN
            if denied and _proved(headers_of(getattr(error, "response", {})), way):
                return False
            raise _unlisted(bucket, _reason(bucket, region, way, error)) from error
        if not _proved(headers_of(answer), way):
            raise _unlisted(bucket, f"an answer {_NOT_S3}")
        return True

    async def _ask(
        self, way: Way, bucket: str, region: str, ask: "Callable[[S3Client], Awaitable[_Answer]]"
    ) -> _Answer:
        """Ask in the bucket's region; once more in the one that S3 names when the bucket is not there."""
        async with asyncio.timeout(self._deadline_seconds):
            found = self._regions.get((way.name, bucket))
            clients = await (way.s3(region) if found is None else way.s3_in(found))
            client = clients.sdk
            try:
                return await ask(client)
            except ClientError as error:
                told = str(error.response.get("Error", {}).get("Region") or "")
                elsewhere = _region_told(status_of(error), headers_of(error.response), told)
                if elsewhere is None or elsewhere == client.meta.region_name:
                    raise
            client = (await way.s3_in(elsewhere)).sdk
            self._regions.put((way.name, bucket), elsewhere)
            return await ask(client)

    def _seen(self, headers: Mapping[str, str], asked: str | None, way: Way) -> Observation:
        """Read a 200."""
        if not _proved(headers, way):
            return self._trouble(Sight.UNREACHABLE, f"HTTP 200 {_NOT_S3}")
        # S3 leaves the header out for the only version in a bucket that never was versioned; other stores may always.
        unnamed = asked if way.own_endpoint and asked is not None else "null"
        version_id = headers.get("x-amz-version-id") or unnamed
        if asked not in (None, version_id):
            return self._trouble(Sight.UNREACHABLE, _ANOTHER_VERSION)
        status = headers.get("x-amz-replication-status")
        sight = _sight(status)
        if not way.reports_status and sight in (Sight.NO_STATUS, Sight.REPLICA):
            sight = Sight.SILENT
        storage_class = headers.get("x-amz-storage-class") or ""
        length = headers.get("content-length")
        return Observation(
            sight=sight,
            looked_at=self._clock.now(),
            version_id=version_id,
            size=plausible_size(None if length is None else int(length)),
            last_modified_at=_moment(headers.get("last-modified")),
            storage_class="" if storage_class == _STANDARD else storage_class,
            encryption=headers.get("x-amz-server-side-encryption") or "",
            etag=(headers.get("etag") or "").strip('"'),
            unproved=way.own_endpoint and sight in _WITHOUT_PROOF,
            of_store=way.own_endpoint,
            detail=str(status)[:64] if sight is Sight.UNKNOWN else "",
        )

    def _refused(self, answer: HeadAnswer, asked: str | None, way: Way, code: str) -> Observation:
        """Read an answer that is no 200."""
        version_id = answer.headers.get("x-amz-version-id")
        if asked is not None and version_id not in (None, asked):
            return self._trouble(Sight.UNREACHABLE, _ANOTHER_VERSION)
        status = answer.status
        sight = _REFUSALS.get(status, Sight.UNREACHABLE)
        if sight is Sight.DELETE_MARKER and _PURGED in answer.headers:
            sight = Sight.GONE
        if sight in _ANSWERS_OF_S3 and not _proved(answer.headers, way):
            return self._trouble(Sight.UNREACHABLE, f"HTTP {status} {_NOT_S3}")
        if code in CREDENTIALS_CODES:
            return self._trouble(
                Sight.UNREACHABLE, f"HTTP {status} ({code}); {CREDENTIALS_REMEDY}"
            )
        seen = self._trouble(
            sight, f"HTTP {status} ({code})" if code else f"HTTP {status}", version_id
        )
        return replace(
            seen,
            unproved=way.own_endpoint and sight in _WITHOUT_PROOF,
            of_store=way.own_endpoint,
        )

    def _unanswered(self, met: Exception) -> Observation:
        """Return what it means that there was no answer, or none that could be read."""
        if isinstance(met, ParamValidationError | UnicodeError):
            return self._trouble(Sight.REFUSED, met)  # nothing that S3 could have a name for
        return self._trouble(Sight.UNREADABLE if unreadable(met) else Sight.UNREACHABLE, met)

    def _unasked(self, error: AccountError) -> Observation:
        seen = self._trouble(Sight.DENIED, str(error))
        return msgspec.structs.replace(seen, asked=False)

    def _trouble(
        self, sight: Sight, detail: str | Exception, version_id: str | None = None
    ) -> Observation:
        # NB: the texts of the SDK's errors hold URLs, and so object keys.
        text = detail if isinstance(detail, str) else type(detail).__name__
        return Observation(
            sight=sight, looked_at=self._clock.now(), version_id=version_id, detail=text
        )


def _configuration(answer: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a bucket's replication configuration is. S3 keeps none without rules, and an empty answer proves nothing.
    """
    told = dict(answer["ReplicationConfiguration"])
    if not told["Rules"]:
        raise KeyError("Rules")
    return told


def _sight(status: str | None) -> Sight:
    """Read a replication status; other stores than S3 may write it otherwise."""
    if not status:
        return Sight.NO_STATUS
    return _SIGHTS.get(status.upper(), Sight.UNKNOWN)


def _request(way: Way, bucket: str, owner: str | None) -> dict[str, Any]:
    """Name a bucket and its owner, where it is known."""
    expected = _expected(way, owner)
    return {"Bucket": bucket} | ({} if expected is None else {"ExpectedBucketOwner": expected})


def _expected(way: Way, owner: str | None) -> str | None:
    """Return the account that a bucket must belong to; None for what is no account, or not AWS's."""
    owned = owner is not None and _ACCOUNT_ID.fullmatch(owner) and not way.own_endpoint
    return owner if owned else None


def _proved(headers: Mapping[str, str], way: Way) -> bool:
    """Return whether an answer is S3's own, as far as it can tell; other stores need not say so."""
    return way.own_endpoint or bool(headers.get(_REQUEST_ID))


def _region_told(status: int, headers: Mapping[str, str], told: str) -> str | None:
    """Return the region in which S3 says the bucket is, if that may be why it refused.

    Args:
        status: of its answer.
        headers: of its answer.
        told: the region that the answer's body names, if any.
    """
    if status not in (301, 307, 400):
        return None
    return headers.get("x-amz-bucket-region") or told or None


@lru_cache(maxsize=1024)
def _moment(text: str | None) -> float | None:
    """Read a header that is a date; None where it is not there.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return None
    try:
        read = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        read = parse_timestamp(text)  # other stores than S3 may write it otherwise
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _reason(bucket: str, region: str, way: Way, error: Exception) -> str:
    address = "accounts[].endpoint_url" if way.own_endpoint else "aws.endpoint_url"
    where = f" in region {region}" if region else " there"
    return explain(
        error,
        permission=f"s3:GetReplicationConfiguration on bucket {bucket}",
        advice={
            "NoSuchBucket": (
                f"check that the bucket is{where} and that {address} is right; if it was deleted, remove it"
                " from buckets; crrmon keeps asking for it while its routes are remembered"
            )
        },
        whom=way.whom,
        address=address,
    )


def _unreadable(bucket: str, reason: str) -> UnreadableConfigurationError:
    return UnreadableConfigurationError(
        f"the replication configuration of bucket {bucket} could not be read: {reason}"
    )


def _unlisted(bucket: str, reason: str) -> UnreadableConfigurationError:
    return UnreadableConfigurationError(
        f"could not determine whether bucket {bucket} may be listed: {reason}"
    )
