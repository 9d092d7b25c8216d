"""Messages read: what each says, how late it came, and how old the writes are that it may tell of."""

from collections import OrderedDict

import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    Channel,
    Decoded,
    DeletionTried,
    Fact,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    ReplicationFailed,
    TargetOffline,
    ThresholdPassed,
    VersionReplicated,
)
from crrmon.domain.events.times import believable
from crrmon.ports.inbox import Inbox, Message
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.membership.delay_memory import DelayMemory

REMEMBERED_MALFORMED = 1000

log = structlog.get_logger()


class Reader:
    """Reads the messages of one queue.

    Args:
        inbox: the queue.
        delays: told how late events come.
        retention_seconds: the times of events older than this are not believed.
    """

    def __init__(
        self, inbox: Inbox, runtime: Runtime, *, delays: DelayMemory, retention_seconds: float
    ) -> None:
        self._name = inbox.name
        self._pushed = inbox.pushed
        self._meters = runtime.meters
        self._delays = delays
        self._retention_seconds = retention_seconds
        self._malformed: OrderedDict[str, None] = OrderedDict()
        self._malformed_log = ThrottledLog(log, "message_malformed", level="error")

    def read(self, message: Message, *, now: float) -> Decoded | None:
        """Read a message, and note how late it came; None for one that is malformed."""
        decoded = self._decoded(message)
        if decoded is not None:
            self._tell_delays(decoded, message.sent_at, now)
        return decoded

    def watermark(self, decoded: Decoded, guessed: float | None, *, now: float) -> float | None:
        """Return the oldest time of a write that a message tells of; None when it tells of none.

        Args:
            decoded: what it says.
            guessed: the watermark of a write whose time is not believed.
            now: seconds since the epoch.
        """
        oldest = None
        for fact in decoded.facts:
            if (at := _written_at(fact)) is None:
                continue
            believed = at if self._believed(at, now) else guessed
            if believed is not None and (oldest is None or believed < oldest):
                oldest = believed
        return oldest

    def _tell_delays(self, decoded: Decoded, sent_at: float | None, now: float) -> None:
        """Note how long after what they tell of events came into the queue, or were pushed."""
        if self._pushed:
            sent_at = now
        for fact in decoded.facts:
            if (told := _told(fact)) is None:
                continue
            channel, at = told
            if not self._believed(at, now):
                self._meters.add(catalogue.IMPLAUSIBLE_TIMES, channel)
                continue
            if sent_at is None:
                continue
            if sent_at >= at:
                self._meters.observe(catalogue.EVENT_DELAY, channel, value=sent_at - at)
            if isinstance(fact, ObjectWritten):
                self._delays.note(channel, sent_at - at, now=now)

    def _believed(self, at: float, now: float) -> bool:
        return believable(at, now=now, retention_seconds=self._retention_seconds)

    def _decoded(self, message: Message) -> Decoded | None:
        try:
            decoded = decode(message.body)
        except MalformedMessageError as error:
            self._meters.add(catalogue.MESSAGES, self._name, "malformed")
            if message.id not in self._malformed:
                self._malformed[message.id] = None
                if len(self._malformed) > REMEMBERED_MALFORMED:
                    self._malformed.popitem(last=False)
                self._malformed_log.met(
                    str(error),
                    example=message.id,
                    queue=self._name,
                    message_id=message.id,
                    reason=str(error),
                    left_for="nobody" if self._pushed else "dead-letter queue",
                )
            return None
        self._meters.add(catalogue.MESSAGES, self._name, "fact" if decoded.facts else "irrelevant")
        for kind in decoded.irrelevant:
            self._meters.add(catalogue.EVENTS, kind)
        return decoded

    def tell(self) -> None:
        """Log what was not logged yet."""
        self._malformed_log.tell()


def _told(fact: Fact) -> tuple[str, float] | None:
    """Return who told of a fact, and when it was; None where its event does not say who it is from."""
    match fact:
        case ObjectWritten():
            return fact.channel.value, fact.written_at
        case MarkerCreated():
            return fact.channel.value, fact.created_at
        case ReplicationFailed() | ThresholdPassed() | TargetOffline():
            return Channel.NOTICE.value, fact.noticed_at
        case VersionReplicated(replicated_at=at) | DeletionTried(tried_at=at):
            return Channel.NOTICE.value, at
        case _:
            return None


def _written_at(fact: Fact) -> float | None:
    """Return when the write was that a fact tells of, by its own word; None where it tells of none."""
    match fact:
        case ObjectWritten():
            return fact.written_at
        case ReplicationFailed(written_at=at, noticed_at=noticed_at):
            return noticed_at if at is None else at
        case _:
            return None
