"""One record of CloudTrail: what is read of it, and what is not relied on.

A record of a call that is of interest has all of the shape. Of others nothing is known but how they begin, so that is
a shape of its own, `Head`.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events import fields


class _Identity(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    principal_id: str | None = None
    arn: str | None = None

    @property
    def is_replication(self) -> bool:
        """Whether it is S3's own replication."""
        if fields.is_replication(self.principal_id):
            return True
        arn = self.arn or ""
        # A user may have the same name as the session.
        return arn.endswith("/s3-replication") and ":assumed-role/" in arn


class Head(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """As much of a record as it takes to see whether the rest matters."""

    event_source: str
    event_name: str
    event_category: str | None = None
    event_type: str | None = None
    read_only: bool | None = None
    error_code: str | None = None
    user_identity: _Identity | None = None

    @property
    def by_replication(self) -> bool:
        """Whether S3's own replication made the call."""
        return self.user_identity is not None and self.user_identity.is_replication


class Parameters(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a call asked for."""

    bucket_name: str | None = None
    key: str | None = None
    version_id: str | None = None
    """The version that the caller meant."""
    new_version_id: str | None = msgspec.field(name="x-amz-version-id", default=None)
    """The version that replication asked for: that of the source."""


class _CallResponse(msgspec.Struct, frozen=True, gc=False):
    version_id: str | None = msgspec.field(name="x-amz-version-id", default=None)


class _Extra(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    bytes_transferred_in: Raw | UnsetType = UNSET


class _Resource(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    arn: str | None = msgspec.field(name="ARN", default=None)
    """Absent where there is an `ARNPrefix` instead."""
    account_id: str | None = None


class Call(Head, frozen=True, kw_only=True, gc=False, rename="camel"):
    """The record of a call that wrote or deleted something."""

    event_time: fields.Instant
    aws_region: str | None = None
    request_parameters: Parameters | None = None
    response_elements: _CallResponse | None = None
    service_event_details: Raw | UnsetType = UNSET
    """Nobody documents what is in it."""
    additional_event_data: _Extra | None = None
    resources: tuple[_Resource, ...] | None = None

    @property
    def happened_at(self) -> float:
        """When the call ended."""
        return self.event_time.timestamp()

    @property
    def answered_version_id(self) -> str | None:
        """The version id of the answer, as it is."""
        return (self.response_elements and self.response_elements.version_id) or None
