"""Which messages tell of something: those of the channels of its bucket, each when it arrives."""

from collections.abc import Callable, Iterable

from crrmon.domain.events.facts import Channel
from crrmon.sandbox import cloudtrail, native
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.plan import Deliveries, Passage
from crrmon.sandbox.truth import Written
from crrmon.sandbox.world import World

_FURTHER = 1 << 64
"""Sets the ids of further messages about the same object apart."""


class EventTeller:
    """Hands messages to the courier."""

    def __init__(self, world: World, courier: Courier) -> None:
        """Args:
        world: says by which channels a bucket tells.
        courier: brings the messages.
        """
        self._world = world
        self._courier = courier

    def written(
        self,
        written: Written,
        deliveries: Deliveries,
        *,
        chance: int,
        by_replication: bool = False,
    ) -> None:
        """Send the events of a version that was written.

        Args:
            written: the version.
            deliveries: when, for each channel of its bucket.
            chance: for ids.
            by_replication: whether it is a replica.
        """
        self._tell(
            written,
            deliveries,
            {
                Channel.CLOUDTRAIL: lambda: cloudtrail.written_body(written, chance=chance),
                Channel.EVENTBRIDGE: lambda: native.created_event(written, chance=chance),
                Channel.NOTIFICATION: lambda: native.created_notification(
                    written, by_replication=by_replication, chance=chance
                ),
            },
        )

    def deleted(self, written: Written, deliveries: Deliveries, *, at: float, chance: int) -> None:
        """Send the events of a version that was permanently deleted."""
        version, region, chance = written.version, written.region, chance ^ _FURTHER
        self._tell(
            written,
            deliveries,
            {
                Channel.CLOUDTRAIL: lambda: cloudtrail.deleted_body(written, at=at, chance=chance),
                Channel.EVENTBRIDGE: lambda: native.deleted_event(
                    version, region, at=at, chance=chance
                ),
                Channel.NOTIFICATION: lambda: native.deleted_notification(
                    version, region, at=at, chance=chance
                ),
            },
        )

    def marker(
        self,
        marker: Written,
        deliveries: Deliveries,
        *,
        chance: int,
        by_replication: bool = False,
    ) -> None:
        """Send the events of a delete marker.

        Args:
            marker: with the version id of its own.
            deliveries: when, for each channel of its bucket.
            chance: for ids.
            by_replication: whether replication created it.
        """
        version, region, at = marker.version, marker.region, marker.written_at
        self._tell(
            marker,
            deliveries,
            {
                Channel.CLOUDTRAIL: lambda: cloudtrail.marker_body(marker, chance=chance),
                Channel.EVENTBRIDGE: lambda: native.marker_event(
                    version, region, at=at, chance=chance
                ),
                Channel.NOTIFICATION: lambda: native.marker_notification(
                    version, region, at=at, by_replication=by_replication, chance=chance
                ),
            },
        )

    def failed(self, written: Written, passage: Passage, *, at: float, chance: int) -> None:
        """Send the notice of a failure, as S3 does itself."""
        body = native.failed_notice(
            written,
            destination=passage.destination,
            rule=passage.rule,
            reason=passage.reason,
            at=at,
            chance=chance ^ 2 * _FURTHER,
        )
        self._send(body, passage.notice)

    def restarted(
        self, written: Written, deliveries: Iterable[float], *, at: float, chance: int
    ) -> None:
        """Send the event that a version was put back to pending. Trails record that of every bucket."""
        body = cloudtrail.restarted_body(written, at=at, chance=chance ^ 3 * _FURTHER)
        self._send(body, deliveries)

    def _tell(
        self,
        written: Written,
        deliveries: Deliveries,
        bodies: dict[Channel, Callable[[], str]],
    ) -> None:
        channels = self._world.bucket(written.version.bucket).channels
        for channel, times in zip(channels, deliveries, strict=True):
            self._send(bodies[channel](), times)

    def _send(self, body: str, times: Iterable[float]) -> None:
        for after in times:
            self._courier.send(body, after=after)
