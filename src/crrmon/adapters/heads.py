"""HEAD of an object, whichever client sends it: the request, and the response's status and headers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from botocore.exceptions import ClientError

from crrmon.adapters.border import headers_of, status_of

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_s3 import S3Client


class HeadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which object to ask about; None for what is left out."""

    bucket: str
    key: str
    version_id: str | None = None
    owner: str | None = None
    """Account that the bucket must belong to."""
    payer: bool = False
    """Whether whoever asks pays for it."""


class HeadAnswer(msgspec.Struct, frozen=True):
    """S3's response."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case."""


class Heads(Protocol):
    """A client of S3 in one region."""

    @property
    def region(self) -> str:
        """Of its endpoint."""

    async def head(self, request: HeadRequest) -> HeadAnswer:
        """HEAD an object, once, without following anything.

        Raises:
            Exception: there was no response, or none that can be read; see `border`.
        """

    async def code(self, request: HeadRequest) -> str:
        """Return S3's error code for an object, which a HEAD's response cannot hold; empty where there is none.

        The first byte is asked for.

        Raises:
            Exception: as `head`.
        """

    async def renew(self, *, asked_at: float) -> bool:
        """Refresh credentials that S3 called expired; return whether there are newer ones.

        Args:
            asked_at: when the request was made that failed for it, by the loop's clock.
        """


class Renewing(Protocol):
    """Has credentials that can be refreshed."""

    async def renew(self, *, asked_at: float) -> bool:
        """Refresh the credentials; as `Heads.renew`."""


class SdkHeads:
    """Calls S3 by the SDK's client.

    Args:
        client: aiobotocore's.
        credentials: its own.
    """

    def __init__(self, client: "S3Client", credentials: Renewing) -> None:
        self._client = client
        self.renew = credentials.renew

    @property
    def region(self) -> str:
        """Of its endpoint."""
        return self._client.meta.region_name

    async def head(self, request: HeadRequest) -> HeadAnswer:
        """HEAD an object."""
        try:
            answer: Any = await self._client.head_object(**_fields(request))
        except ClientError as error:
            return HeadAnswer(status_of(error), headers_of(error.response))
        return HeadAnswer(200, headers_of(answer))

    async def code(self, request: HeadRequest) -> str:
        """Return S3's error code for an object."""
        try:
            answer: Any = await self._client.get_object(**_fields(request), Range="bytes=0-0")
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            return "" if code.isdigit() else code  # the SDK's own, where there is none
        answer["Body"].close()
        return ""


def _fields(request: HeadRequest) -> dict[str, Any]:
    """Return the SDK's names of what is asked."""
    fields = {
        "Bucket": request.bucket,
        "Key": request.key,
        "VersionId": request.version_id,
        "ExpectedBucketOwner": request.owner,
        "RequestPayer": "requester" if request.payer else None,
    }
    return {name: value for name, value in fields.items() if value is not None}
