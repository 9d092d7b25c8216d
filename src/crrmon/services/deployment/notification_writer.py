"""Puts our entry into a bucket's notification configuration, or takes it out, and nothing else.

S3 has no condition to write under. So the configuration is read right before it is written, and once more afterwards:
what somebody else wrote in between is not overwritten unseen, as far as that can be told at all.
"""

import asyncio
import enum

import msgspec

from crrmon.domain.deployment.notifications import (
    Entry,
    NotificationConfiguration,
    difference,
    merge,
    overlaps,
)
from crrmon.ports.notification_store import (
    BucketAddress,
    InvalidDestinationError,
    NotificationStore,
    NotificationStoreError,
)

PATIENCE_SECONDS = 90.0
"""For a new queue's policy, which SQS heeds after up to a minute, and for S3 to tell what was just written."""

PAUSE_SECONDS = 5.0
"""Between two tries."""


class Written(enum.StrEnum):
    """What came of a bucket."""

    UNCHANGED = "unchanged"
    """It was as it was to be."""
    CHANGED = "changed"
    DISTURBED = "disturbed"
    """It was changed, and is another than was written: somebody else writes it at the same time."""


class WriteResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of writing one bucket's configuration."""

    written: Written
    sentences: tuple[str, ...] = ()
    """What people should know of it, in a sentence each."""


class NotificationWriter:
    """Writes configurations.

    Args:
        store: where they are kept.
        identity: the Id of our entries.
        patience_seconds: for what takes AWS a while.
        pause_seconds: between two tries.
    """

    def __init__(
        self,
        store: NotificationStore,
        identity: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._identity = identity
        self._tries = 1 + int(patience_seconds / pause_seconds)
        self._pause_seconds = pause_seconds

    async def put(
        self,
        bucket: BucketAddress,
        *,
        entry: Entry | None,
        switch: bool,
        switch_off: bool = False,
        planned_on: NotificationConfiguration | None = None,
    ) -> WriteResult:
        """Have a bucket tell what we need.

        Args:
            bucket: which.
            entry: ours, with our Id; None for none.
            switch: whether its switch for EventBridge must be on.
            switch_off: whether it goes off: it was us who turned it on. With neither, it stays as it is.
            planned_on: the configuration as a plan saw it; what differs by now is told.

        Raises:
            MissingBucketError: there is no such bucket.
            NotificationStoreError: it was not written; the text says why.
        """
        before = await self._store.read(bucket)
        notes = _since(planned_on, before)
        if entry is not None and (met := overlaps(before, entry)):
            theirs = "; ".join(str(one.theirs) for one in met)
            raise NotificationStoreError(
                f"bucket {bucket.name}: S3 does not take our entry ({entry}) beside what is there by now ({theirs}): plan"
                " again"
            )
        wanted = merge(before, self._identity, entry=entry, switch=switch, switch_off=switch_off)
        if not difference(before, wanted):
            return WriteResult(written=Written.UNCHANGED, sentences=notes)
        notes += await self._stored(bucket, wanted, ours=entry)
        after = await self._read_back(bucket, before)
        if found := difference(wanted, after):
            told = " ".join(found.sentences())
            note = (
                f"somebody else changed bucket {bucket.name} at the same time, and it is not as it was written: {told} Call"
                " this again, and see with whoever changed it that nothing of theirs is missing."
            )
            return WriteResult(written=Written.DISTURBED, sentences=(*notes, note))
        return WriteResult(written=Written.CHANGED, sentences=notes)

    async def take_out(self, bucket: BucketAddress, *, switch_off: bool) -> WriteResult:
        """Have a bucket tell us nothing more.

        Args:
            bucket: which.
            switch_off: whether its switch for EventBridge goes off, too: it was us who turned it on.

        Raises:
            MissingBucketError: there is no such bucket.
            NotificationStoreError: it was not written; the text says why.
        """
        return await self.put(bucket, entry=None, switch=False, switch_off=switch_off)

    async def _read_back(
        self, bucket: BucketAddress, before: NotificationConfiguration
    ) -> NotificationConfiguration:
        """Return what a bucket has after it was written; S3 may go on telling the old for a moment."""
        for _ in range(self._tries - 1):
            after = await self._store.read(bucket)
            if difference(before, after):
                return after
            await asyncio.sleep(self._pause_seconds)
        return await self._store.read(bucket)

    async def _stored(
        self, bucket: BucketAddress, wanted: NotificationConfiguration, *, ours: Entry | None
    ) -> tuple[str, ...]:
        """Write a configuration, past destinations of others that are gone; return what to say of it."""
        others = {one.arn for one in wanted.entries} - ({ours.arn} if ours else set())
        left = self._tries
        while True:
            try:
                await self._store.write(bucket, wanted, validate=True)
            except InvalidDestinationError as error:
                left -= 1
                if error.arns and others.issuperset(error.arns):
                    await self._store.write(bucket, wanted, validate=False)
                    gone = ", ".join(error.arns)
                    return (
                        f"bucket {bucket.name} has entries of others to which S3 cannot send ({gone}); they stay as they are",
                    )
                # Those that S3 does not name might be ours: skipping them, events would be lost without a word.
                if not left:
                    raise
                await asyncio.sleep(self._pause_seconds)
            else:
                return ()


def _since(
    planned_on: NotificationConfiguration | None, now: NotificationConfiguration
) -> tuple[str, ...]:
    """Tell what changed since the plan."""
    found = None if planned_on is None else difference(planned_on, now)
    if not found:
        return ()
    return ("since the plan was made, somebody changed it: " + " ".join(found.sentences()),)
