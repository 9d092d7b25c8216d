"""How a window lies in a store: a header, what it takes along, its parts, and which window is the newest.

Parts and what is taken along may be large, so they lie in pieces under a name that nobody else uses. Parts expire when
nobody would take them any more; what is taken along must be there for as long as the window needs it.
"""

import random
import zlib
from collections.abc import Sequence

import msgspec
import structlog

from crrmon.domain.slicing import sliced
from crrmon.ledger.damage import decoded, reading
from crrmon.ledger.encoding import Body, pack, unpack
from crrmon.ledger.journal import EntryId, Moved
from crrmon.ledger.layout import OF_FLEET, PIECES, WINDOWS, fleet_key, sortable
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import FrozenWindow, LedgerError
from crrmon.ports.store import ABSENT, Action, Delete, Found, Key, Put, Span, Store, Tag, prefixed

KEPT_SECONDS = 20 * 86_400.0
"""
When the parts of a window expire: nobody may have committed it. CloudWatch takes nothing older than two weeks, so what
was committed and could not be sent until then is of no use any more either; it reads as sent.
"""
_LAST = fleet_key(WINDOWS, "#last")
"""
Comes before all headers: whoever reads in this order while a window is committed may see its header without its number
here, and then knows; the other way round, nothing would show that a header was missed.
"""
_TRIES = 5
_TAKEN_PIECES = "taken"
_PART_PIECES = "part"

log = structlog.get_logger()


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A window that is committed, or about to be."""

    starts_at: float
    number: int
    """Windows are numbered without gaps."""
    name: str
    """Of what was written for it."""
    parts: int
    unsent: tuple[int, ...]
    pieces: int
    """Of what it takes along; 0 once that is dealt with."""

    @property
    def done(self) -> bool:
        """Whether nothing needs this header any more."""
        return not (self.unsent or self.pieces)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a window takes along."""

    deltas: tuple[EntryId, ...] = ()
    others: tuple[EntryId, ...] = ()
    """Entries that change the backlog only."""
    moved: tuple[Moved, ...] = ()

    @property
    def entries(self) -> tuple[EntryId, ...]:
        """All entries of the journal that are in the window."""
        return (*self.deltas, *self.others)


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The window that was committed last."""

    number: int = 0
    newest: float | None = None
    """The latest start of all windows so far."""
    name: str = ""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """All that is committed, at one moment."""

    last: Last
    tag: Tag
    """Of the item that holds `last`."""
    headers: tuple[Header, ...]


_HEADER = Body(Header)
_TAKEN = Body(Taken)
_LAST_BODY = Body(Last)


class WindowItems:
    """Reads and writes what belongs to windows."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lost: set[str] = set()
        """Of what it was said that it is lost."""
        self._tags: dict[Header, Tag] = {}
        """Of headers as they were read: a newer version may have written more into them than is known here."""

    # ---- what is committed ----

    async def committed(self) -> Committed:
        """Read all headers, and which window was the last."""
        for _ in range(_TRIES):
            last, tag = Last(), ABSENT
            headers = []
            self._tags.clear()
            for found in await self._store.scan(WINDOWS, OF_FLEET):
                if found.key == _LAST:
                    last, tag = decoded(self._store, found, _LAST_BODY), found.tag
                else:
                    headers.append(self._header(found))
            # A header of a later number shows that a window was committed while all this was read.
            if all(header.number <= last.number for header in headers):
                return Committed(last=last, tag=tag, headers=tuple(headers))
        raise LedgerError("windows are committed faster than they are read")

    async def last(self) -> Last:
        """Read which window was the last."""
        for found in await self._store.get([_LAST]):
            return decoded(self._store, found, _LAST_BODY)
        return Last()

    def _header(self, found: Found) -> Header:
        header = decoded(self._store, found, _HEADER)
        self._tags[header] = found.tag
        return header

    async def at(self, starts_at: float) -> Header | None:
        """Read the header of the window of a start."""
        for found in await self._store.get([_key(starts_at)]):
            return self._header(found)
        return None

    async def now(self, header: Header) -> Header | None:
        """Read the header of a window as it is now; None when the window is gone."""
        now = await self.at(header.starts_at)
        return now if now is not None and now.name == header.name else None

    def commit(self, header: Header, committed: Committed) -> list[Action]:
        """Return what commits a window, if no other one was committed since."""
        newest = max(header.starts_at, committed.last.newest or header.starts_at)
        last = Last(number=header.number, newest=newest, name=header.name)
        actions: list[Action] = [Put(_LAST, _LAST_BODY.encode(last), committed.tag)]
        # One that has nothing to send and takes nothing along is finished as it is committed.
        if not header.done:
            actions.append(Put(_key(header.starts_at), _HEADER.encode(header), ABSENT))
        return actions

    def change(self, old: Header, new: Header) -> Action:
        """Return what replaces a header, if it still is as it was; one that is done goes."""
        key = _key(old.starts_at)
        # One that this process has just committed was not read since; then its tag is that of what was written.
        tag = self._tags.get(old) or self._store.tag_of(_HEADER.encode(old))
        return Delete(key, tag) if new.done else Put(key, _HEADER.encode(new), tag)

    # ---- what belongs to one ----

    def draft(
        self, window: FrozenWindow, taken: Taken, *, number: int, name: str
    ) -> tuple[Header, list[Put]]:
        """Return the header of a window that nobody sees yet, and how what belongs to it is written."""
        largest = self._store.limits.item_bytes
        some = sliced(_TAKEN.encode(taken), largest) if taken.entries else []
        unsent = tuple(part for part, body in enumerate(window.parts) if body)
        header = Header(
            starts_at=window.starts_at,
            number=number,
            name=name,
            parts=len(window.parts),
            unsent=unsent,
            pieces=len(some),
        )
        # NB: what is taken along never expires: a window without it could not be finished.
        puts = [Put(_taken_key(name, place), piece) for place, piece in enumerate(some)]
        expires_at = self._clock.now() + KEPT_SECONDS
        for part in unsent:
            for place, piece in enumerate(sliced(zlib.compress(window.parts[part]), largest)):
                key = fleet_key(PIECES, f"{name}#{_PART_PIECES}#{part:05d}#{place:05d}")
                puts.append(Put(key, piece, expires_at=expires_at))
        return header, puts

    async def frozen(self, header: Header) -> FrozenWindow:
        """Read a window as the port tells it."""
        bodies: dict[int, bytes] = {}
        for found in await self._pieces_of(header.name, f"{_PART_PIECES}#"):
            with reading(self._store, found.key):
                part = int(unpack(found.key.sort).split("#")[2])
            bodies[part] = bodies.get(part, b"") + found.body
        taken = await self.taken(header)
        whole = {part: _whole(bodies.get(part, b"")) for part in header.unsent}
        if None in whole.values():
            await self._tell_lost_parts(
                header, [part for part, one in whole.items() if one is None]
            )
        return FrozenWindow(
            starts_at=header.starts_at,
            parts=tuple(whole.get(part) or b"" for part in range(header.parts)),
            deltas=() if taken is None else tuple(name for name, _ in taken.deltas),
        )

    async def _tell_lost_parts(self, header: Header, parts: Sequence[int]) -> None:
        """
        Say which parts have expired or are damaged, so that nothing is left to be sent; unless they were sent meanwhile.
        """
        now = await self.now(header)
        for part in parts:
            if now is not None and part in now.unsent:
                self.tell_lost(
                    f"{header.name} {part}",
                    "ledger_window_part_lost",
                    starts_at=header.starts_at,
                    part=part,
                    reason="its datapoints have expired, or are damaged; they are not sent",
                )

    def tell_lost(self, name: str, event: str, **fields: object) -> None:
        """Say once what is lost."""
        if name not in self._lost:
            self._lost.add(name)
            log.error(event, ledger=self._store.name, **fields)

    async def taken(self, header: Header) -> Taken | None:
        """Read what a window took along; None where that is dealt with."""
        if not header.pieces:
            return None
        some = await self._pieces_of(header.name, f"{_TAKEN_PIECES}#")
        # Some of it missing is as good as all: without the whole list nothing may be folded in or deleted.
        if len(some) != header.pieces:
            return None
        with reading(self._store, some[0].key):
            return _TAKEN.decode(b"".join(one.body for one in some))

    async def is_lost(self, header: Header) -> bool:
        """Return, when what a window took along was not found, whether it is lost; else somebody finished it meanwhile.

        It is deleted after the header tells that it is dealt with, never before. Without it everything must go on: what
        was not yet deleted of the window's entries counts as in no window.
        """
        now = await self.now(header)
        if now is None or not now.pieces:
            return False
        self.tell_lost(
            header.name,
            "ledger_window_names_lost",
            starts_at=header.starts_at,
            item=self._store.where(_taken_key(header.name, 0)),
            reason="the list of the deltas counted in this window is gone; those that were not deleted yet "
            "are reported again in the next window",
        )
        return True

    # ---- letting go ----

    async def drop(self, header: Header, *, parts: bool) -> None:
        """Delete what was written for a window, with its parts or without."""
        keys = [_taken_key(header.name, place) for place in range(header.pieces)]
        if parts:
            keys += [one.key for one in await self._pieces_of(header.name, f"{_PART_PIECES}#")]
        await self._delete(keys)

    async def drop_part(self, header: Header, part: int) -> None:
        """Delete one part."""
        some = await self._pieces_of(header.name, f"{_PART_PIECES}#{part:05d}#")
        await self._delete([one.key for one in some])

    async def drop_leftovers(self, last: Last) -> None:
        """Delete what the newest window took along, if whoever finished it was stopped before that."""
        # Its parts stay: they are dropped one by one as they are sent.
        if last.name:
            some = await self._pieces_of(last.name, f"{_TAKEN_PIECES}#")
            await self._delete([one.key for one in some])

    async def drop_abandoned(self, committed: Committed) -> None:
        """Delete what was written for windows that no process will commit any more: their numbers are others' by now."""
        kept = {header.name for header in committed.headers} | {committed.last.name}
        # Those of later numbers may belong to a publisher that is at work just now.
        before = Span(high=prefixed(pack(_numbered(committed.last.number))).high)
        found = await self._store.scan(PIECES, OF_FLEET, before)
        named = ((unpack(one.key.sort).partition("#")[0], one.key) for one in found)
        await self._delete([key for name, key in named if name not in kept])

    async def _delete(self, keys: Sequence[Key]) -> None:
        await self._store.write_each([Delete(key) for key in keys])

    async def _pieces_of(self, name: str, what: str) -> Sequence[Found]:
        return await self._store.scan(PIECES, OF_FLEET, prefixed(pack(f"{name}#{what}")))


def name_of(number: int, rng: random.Random) -> str:
    """Return a name for what belongs to a window, which nobody else uses: those of lower numbers come first."""
    return f"{_numbered(number)}-{rng.getrandbits(96):024x}"


def _numbered(number: int) -> str:
    return f"{number:012d}"


def _whole(body: bytes) -> bytes | None:
    """Return what a part was made of; None when some of it is missing or damaged."""
    decompressor = zlib.decompressobj()
    try:
        told = decompressor.decompress(body)
    except zlib.error:
        return None
    return told if decompressor.eof else None


def _taken_key(name: str, place: int) -> Key:
    return fleet_key(PIECES, f"{name}#{_TAKEN_PIECES}#{place:05d}")


def _key(starts_at: float) -> Key:
    return fleet_key(WINDOWS, f"at#{sortable(starts_at)}")
