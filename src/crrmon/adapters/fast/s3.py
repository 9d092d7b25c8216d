"""HEAD of an object by the fast client: where a bucket is reached, and what S3 is asked."""

import re
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
import structlog

from crrmon.adapters.fast.addresses import BucketUrl, host_header, origin_of
from crrmon.adapters.fast.endpoint import UNSIGNED, ServiceEndpoint
from crrmon.adapters.fast.pool import Origin
from crrmon.adapters.fast.reading import MalformedAnswerError
from crrmon.adapters.fast.signing import Request, escaped, escaped_path
from crrmon.adapters.heads import HeadAnswer, HeadRequest, SdkHeads
from crrmon.domain.recent import Recent

MOST_BYTES = 65_536
"""Of the body of an error."""

_USUAL = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OF_OTHER_KINDS = re.compile(r".*--(x|xa|ol|op|table)-s3|.*-s3alias")
"""Names of directory buckets, access points and the like, which S3 has other endpoints for."""
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")

log = structlog.get_logger()


class _Place(msgspec.Struct, frozen=True):
    """Where a bucket is reached."""

    origin: Origin
    host: str
    path: str
    """Of the bucket itself, without a slash at its end."""


class FastHeads:
    """Asks for objects by the fast client, and by the SDK for those of buckets with special names.

    Args:
        endpoint: the endpoint of S3 in a region.
        url_of: returns the URL of a bucket; None where the SDK must be used.
        sdk: the SDK's client.
        signed_headers: of every request.
    """

    def __init__(
        self,
        endpoint: ServiceEndpoint,
        url_of: BucketUrl,
        sdk: SdkHeads,
        *,
        signed_headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._endpoint = endpoint
        self._url_of = url_of
        self._sdk = sdk
        self._signed_headers = signed_headers
        self._places: Recent[str, _Place] = Recent()
        self._left_out: Recent[str, bool] = Recent()
        self.renew = sdk.renew

    @property
    def region(self) -> str:
        """Of its endpoint."""
        return self._endpoint.address.region

    async def head(self, request: HeadRequest) -> HeadAnswer:
        """HEAD an object."""
        place = self._places.get(request.bucket) or await self._found(request.bucket)
        if place is None or not request.key:
            return await self._sdk.head(request)
        answer = await self._endpoint.ask(
            self._request("HEAD", place, request), origin=place.origin
        )
        return HeadAnswer(answer.status, answer.headers)

    async def code(self, request: HeadRequest) -> str:
        """Return S3's error code for an object."""
        place = self._places.get(request.bucket) or await self._found(request.bucket)
        if place is None or not request.key:
            return await self._sdk.code(request)
        asked = self._request("GET", place, request, ("range", "bytes=0-0"))
        try:
            answer = await self._endpoint.ask(asked, origin=place.origin)
        except MalformedAnswerError:  # a whole object, of a store that has no ranges
            return ""
        found = _CODE.search(answer.body) if answer.status >= HTTPStatus.BAD_REQUEST else None
        return found[1].decode() if found else ""

    def _request(
        self, method: str, place: _Place, request: HeadRequest, *more: tuple[str, str]
    ) -> Request:
        headers = self._signed_headers + more
        if request.owner is not None:
            headers += (("x-amz-expected-bucket-owner", request.owner),)
        if request.payer:
            headers += (("x-amz-request-payer", "requester"),)
        version = request.version_id
        return Request(
            method=method,
            host=place.host,
            path=f"{place.path}{escaped_path(request.key)}",
            query="" if version is None else f"versionId={escaped(version)}",
            headers=headers,
            unsigned=UNSIGNED,
        )

    async def _found(self, bucket: str) -> _Place | None:
        """Return where a bucket is reached; None where the SDK must be used."""
        usual = _USUAL.fullmatch(bucket) and not _OF_OTHER_KINDS.fullmatch(bucket)
        url = await self._url_of(bucket) if usual else None
        if url is not None:
            origin = origin_of(url)
            place = _Place(origin, host_header(origin), urlsplit(url).path.removesuffix("/"))
            self._places.put(bucket, place)
            return place
        if bucket not in self._left_out:
            self._left_out.put(bucket, True)  # noqa: FBT003 - a set that forgets
            log.info(
                "sdk_used", service="s3", bucket=bucket, reason="the bucket's name is unusual"
            )
        return None
