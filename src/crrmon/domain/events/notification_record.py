"""One record of a notification of S3, or of a store that sends the same shape: what it says, as far as that is believed.

What is not understood of the details counts as not said: the record is worth more than they are.
"""

import re

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events import fields
from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import SITE, UNKNOWN_DESTINATION, named_bucket
from crrmon.domain.stores import StoreKind, store_of

_SITE = re.compile(SITE)

AMAZON = "aws:s3"
"""The `eventSource` of S3 itself."""

_STATUS = "x-amz-replication-status"
"""What MinIO tells of the object's merged status is among the user's own metadata."""

_LONGEST = 255
"""Characters of a rule's id, by S3's own limit. Nothing else that is kept of a notice is longer."""


class _Writer(msgspec.Struct, frozen=True, gc=False):
    principal_id: str | None = msgspec.field(name="principalId", default=None)


class _NotedObject(msgspec.Struct, frozen=True, gc=False):
    key: fields.Key
    version_id: str | None = msgspec.field(name="versionId", default=None)
    size: Raw | UnsetType = UNSET
    e_tag: Raw | UnsetType = msgspec.field(name="eTag", default=UNSET)
    user_metadata: Raw | UnsetType = msgspec.field(name="userMetadata", default=UNSET)


class _Entity(msgspec.Struct, frozen=True, gc=False):
    bucket: fields.NamedBucket
    object: _NotedObject


class ReplicationNote(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a notice says about the replication. Its formats are documented in part only, so none is relied on."""

    replication_rule_id: Raw | UnsetType = UNSET
    destination_bucket: Raw | UnsetType = UNSET
    s3_operation: Raw | UnsetType = UNSET
    request_time: Raw | UnsetType = UNSET
    failure_reason: Raw | UnsetType = UNSET

    @property
    def requested_at(self) -> float | None:
        """When the request was made that was to be replicated; None where the notice does not tell."""
        told = fields.lenient(self.request_time, _TIME, None)
        return told.timestamp() if told else None

    @property
    def destination(self) -> str:
        """The destination's bucket, or `UNKNOWN_DESTINATION`."""
        return named_bucket(text(self.destination_bucket)) or UNKNOWN_DESTINATION


class _ResponseElements(msgspec.Struct, frozen=True, gc=False):
    site: Raw | UnsetType = msgspec.field(name="x-minio-deployment-id", default=UNSET)


class NotificationRecord(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One record."""

    event_source: str
    event_time: fields.Instant
    s3: _Entity
    aws_region: str | None = None
    user_identity: _Writer | None = None
    response_elements: Raw | UnsetType = UNSET
    replication_event_data: Raw | UnsetType = UNSET

    @property
    def happened_at(self) -> float:
        """When S3 was done, to the millisecond."""
        return self.event_time.timestamp()

    @property
    def region(self) -> str:
        """The bucket's region; the empty string where the record says none."""
        return self.aws_region or ""

    @property
    def site(self) -> str | None:
        """
        Which of a store's sites tells; None where the record does not say. S3's own never does: bucket names are unique.
        """
        if self.event_source == AMAZON or self.response_elements is UNSET:
            return None
        told = fields.lenient(self.response_elements, _RESPONSE, _ResponseElements())
        site = text(told.site)
        return site if _SITE.fullmatch(site) else None

    @property
    def principal(self) -> str:
        """Who did it; the empty string where the record says nobody."""
        return (self.user_identity and self.user_identity.principal_id) or ""

    @property
    def channel(self) -> Channel:
        """Whether the record tells replication's writes apart: not where a store has no name for that session."""
        tells = self.event_source == AMAZON and self.principal
        return Channel.NOTIFICATION if tells else Channel.EVENTBRIDGE

    @property
    def size(self) -> int | None:
        """Bytes of the object; None where the record cannot be believed, or says none of what may have some."""
        told = self.s3.object
        if self.of_minio and told.size is UNSET and told.e_tag is not UNSET:
            return 0
        return fields.size(told.size)

    @property
    def of_minio(self) -> bool:
        """Whether MinIO sent it."""
        return store_of(self.event_source) is StoreKind.MINIO

    @property
    def of_deletion(self) -> bool:
        """Whether a notice about a replication is about that of a deletion, as MinIO alone tells them."""
        return self.of_minio and self.s3.object.e_tag is UNSET

    @property
    def replication(self) -> ReplicationNote:
        """What the record says about the replication, however little."""
        # Not worth losing the notice for: that the version failed is known already.
        return fields.lenient(self.replication_event_data, _REPLICATION, _NOTHING)

    @property
    def status(self) -> str:
        """The replication status that MinIO tells with an object; the empty string where it tells none."""
        told: dict[str, str] = fields.lenient(self.s3.object.user_metadata, _METADATA, {})
        return next((one for name, one in told.items() if name.lower() == _STATUS), "")


_NOTHING = ReplicationNote()
RECORD = msgspec.json.Decoder(NotificationRecord)
_RESPONSE = msgspec.json.Decoder(_ResponseElements)
_REPLICATION = msgspec.json.Decoder(ReplicationNote)
_TEXT = msgspec.json.Decoder(str)
_METADATA = msgspec.json.Decoder(dict[str, str])
_TIME = msgspec.json.Decoder(fields.Instant)


def text(raw: Raw | UnsetType) -> str:
    """Return a text; the empty string for what is none."""
    return fields.lenient(raw, _TEXT, "")[:_LONGEST]
