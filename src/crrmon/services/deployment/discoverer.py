"""Finds all buckets of all accounts that replicate, and what tells of them today.

Accounts are searched side by side, and in each as many buckets at once, and as many a second, as S3 bears. What cannot
be read becomes one line with its reason, of a bucket, a region or an account, and everything else goes on.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from crrmon.domain.deployment.discovery import (
    BucketFound,
    Discovery,
    UnreadAccount,
    UnreadBucket,
    bucket_found,
)
from crrmon.domain.deployment.trail_selectors import Trail, records_writes
from crrmon.ports.bucket_survey import (
    OWN_ACCOUNT,
    BucketSurvey,
    ClosedRegionError,
    Identity,
    ListedBucket,
    ListedTrail,
    SurveyError,
)
from crrmon.services.deployment.pace import Pace

T = TypeVar("T")

BUCKETS_PER_SECOND = 50.0
"""In one account; each takes two calls. S3 says no number for these, and answers SlowDown when it is too many."""

BUCKETS_AT_ONCE = 12
"""In one account."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a search is."""

    accounts: int
    """How many are searched."""
    accounts_listed: int = 0
    """Of how many it is known which buckets they have."""
    buckets: int = 0
    """How many they have, as far as they are listed."""
    buckets_read: int = 0


class Discoverer:
    """Searches accounts.

    Args:
        survey: reads them.
        told: how far it is, whenever that changes.
        exclude_regions: the regions that are left out.
    """

    def __init__(
        self,
        survey: BucketSurvey,
        *,
        told: Callable[[Progress], None] = lambda _: None,
        exclude_regions: Collection[str] = (),
    ) -> None:
        self._survey = survey
        self._told = told
        self._excluded = frozenset(exclude_regions)
        self._progress = Progress(accounts=len(survey.accounts))

    async def run(self) -> Discovery:
        """Search all accounts, each once."""
        entered = await _side_by_side(self._enter(name) for name in self._survey.accounts)
        unread = [found for found in entered if isinstance(found, UnreadAccount)]
        accounts = _each_once(
            {
                name: found
                for name, found in zip(self._survey.accounts, entered, strict=True)
                if isinstance(found, Identity)
            }
        )
        self._note(accounts=len(accounts))
        parts = await _side_by_side(
            self._account(name, identity) for name, identity in accounts.items()
        )
        return _joined([Discovery(unread_accounts=tuple(unread)), *parts])

    async def _enter(self, name: str) -> Identity | UnreadAccount:
        try:
            identity = await self._survey.enter(name)
        except SurveyError as error:
            return UnreadAccount(account=name, reason=str(error))
        if name.isdecimal() and name != identity.account:
            reason = (
                f"its credentials are those of account {identity.account} ({identity.arn}): correct accounts[].profile or "
                "accounts[].role_arn"
            )
            return UnreadAccount(account=name, reason=reason)
        return identity

    async def _account(self, name: str, identity: Identity) -> Discovery:
        try:
            listed = await self._survey.buckets(name)
        except SurveyError as error:
            unread = UnreadAccount(account=identity.account, reason=str(error))
            return Discovery(unread_accounts=(unread,))
        finally:
            self._note(accounts_listed=self._progress.accounts_listed + 1)
        buckets = [bucket for bucket in listed if bucket.place.region not in self._excluded]
        self._note(buckets=self._progress.buckets + len(buckets))
        regions = sorted({bucket.place.region for bucket in buckets})
        recording = await self._recording(name, regions)
        pace = Pace(per_second=BUCKETS_PER_SECOND, at_once=BUCKETS_AT_ONCE)
        parts = await _side_by_side(
            self._region(
                name,
                [bucket for bucket in buckets if bucket.place.region == region],
                recording[region],
                pace,
            )
            for region in regions
        )
        return _joined(parts)

    async def _region(
        self, name: str, buckets: Sequence[ListedBucket], recording: "_Recording", pace: Pace
    ) -> Discovery:
        """Read the buckets of a region, unless it is closed, or turns out to be."""
        closed = recording.closed

        async def read(bucket: ListedBucket) -> BucketFound | UnreadBucket | None:
            nonlocal closed
            try:
                async with pace.turn():
                    if not closed:
                        return await self._bucket(name, bucket, recording)
            except ClosedRegionError as error:
                closed = str(error)
            except SurveyError as error:
                return _unread(bucket, str(error))
            finally:
                self._note(buckets_read=self._progress.buckets_read + 1)
            return _unread(bucket, f"nothing in region {bucket.place.region} can be read")

        found = await _side_by_side(map(read, buckets))
        place = buckets[0].place
        return Discovery(
            buckets=tuple(one for one in found if isinstance(one, BucketFound)),
            unread=tuple(one for one in found if isinstance(one, UnreadBucket)),
            unread_accounts=(
                UnreadAccount(account=place.account, region=place.region, reason=closed),
            )
            if closed
            else (),
        )

    async def _bucket(
        self, name: str, bucket: ListedBucket, recording: "_Recording"
    ) -> BucketFound | None:
        reading = await self._survey.read(name, bucket)
        if reading is None:  # deleted since it was listed
            return None
        trails = (
            trail.arn
            for trail in recording.trails
            if records_writes(trail, bucket.name, partition=bucket.place.partition)
        )
        return bucket_found(
            bucket.name,
            place=bucket.place,
            replication=reading.replication,
            notifications=reading.notifications,
            trails=trails,
            gaps=recording.gaps,
        )

    async def _recording(self, name: str, regions: Sequence[str]) -> Mapping[str, "_Recording"]:
        """Find out which trails record events of objects in each region; a trail of several is read once."""
        listed = dict(
            zip(
                regions,
                await _side_by_side(self._listed_trails(name, region) for region in regions),
                strict=True,
            )
        )
        trails = {
            trail.arn: trail
            for found in listed.values()
            for trail in found.listed
            if not trail.only_management
        }
        read = dict(
            zip(
                trails,
                await _side_by_side(self._trail(name, trail) for trail in trails.values()),
                strict=True,
            )
        )
        return {region: found.read(read) for region, found in listed.items()}

    async def _listed_trails(self, name: str, region: str) -> "_Listed":
        try:
            return _Listed(listed=tuple(await self._survey.trails(name, region)))
        except ClosedRegionError as error:
            return _Listed(closed=str(error))
        except SurveyError as error:
            return _Listed(gaps=(f"its trails are not known: {error}",))

    async def _trail(self, name: str, trail: ListedTrail) -> Trail | str | None:
        """Return what a trail records, or why that is not known, or None where it is switched off."""
        try:
            return await self._survey.trail(name, trail)
        except SurveyError as error:
            return f"whether trail {trail.arn} records it is not known: {error}"

    def _note(self, **changes: int) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changes)
        self._told(self._progress)


class _Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What records events of objects in a region."""

    trails: tuple[Trail, ...] = ()
    gaps: tuple[str, ...] = ()
    closed: str = ""
    """Why nothing can be read there; empty where that is not known of it."""


class _Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The trails of a region, before they are read."""

    listed: tuple[ListedTrail, ...] = ()
    gaps: tuple[str, ...] = ()
    closed: str = ""

    def read(self, contents: Mapping[str, Trail | str | None]) -> _Recording:
        """Put in what was read of each, by ARN."""
        found = [contents.get(trail.arn) for trail in self.listed]
        return _Recording(
            trails=tuple(one for one in found if isinstance(one, Trail)),
            gaps=(*self.gaps, *(one for one in found if isinstance(one, str))),
            closed=self.closed,
        )


def _unread(bucket: ListedBucket, reason: str) -> UnreadBucket:
    return UnreadBucket(name=bucket.name, account=bucket.place.account, reason=reason)


def _each_once(identities: Mapping[str, Identity]) -> dict[str, Identity]:
    """Leave out accounts that are there under several names; the credentials at hand give way to the configuration."""
    in_order = sorted(identities, key=lambda name: name == OWN_ACCOUNT)
    first: dict[str, str] = {}
    for name in in_order:
        first.setdefault(identities[name].account, name)
    return {name: identities[name] for name in first.values()}


def _joined(parts: Sequence[Discovery]) -> Discovery:
    """Put parts together, in an order that does not depend on who answered first."""
    return Discovery(
        buckets=tuple(
            sorted(
                (bucket for part in parts for bucket in part.buckets),
                key=lambda bucket: (bucket.place, bucket.name),
            )
        ),
        unread=tuple(
            sorted(
                (bucket for part in parts for bucket in part.unread),
                key=lambda bucket: (bucket.account, bucket.name),
            )
        ),
        unread_accounts=tuple(
            sorted(
                (account for part in parts for account in part.unread_accounts),
                key=lambda account: (account.account, account.region),
            )
        ),
    )


async def _side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once; the results come in the order of the work."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
