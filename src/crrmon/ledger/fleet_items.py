"""What the daemons share besides objects: the routes ever met, what each says about itself, and small state by name."""

import contextlib
from collections.abc import Mapping, Sequence

from crrmon.domain.objects import Route
from crrmon.ledger.damage import decoded
from crrmon.ledger.encoding import MEMBER, Body, pack, unpack
from crrmon.ledger.layout import MEMBERS, OF_FLEET, ROUTES, STATES, fleet_key, joined
from crrmon.ports.ledger import Member
from crrmon.ports.store import ABSENT, ConflictError, Delete, Put, Store, prefixed

_ROUTE = Body(Route)


class FleetItems:
    """That part of the `Ledger` port which reads and writes single items."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._routes: set[Route] = set()
        """Those that this process has remembered."""

    # ---- routes ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """Remember routes for ever; each is written once by a process."""
        new = [route for route in dict.fromkeys(routes) if route not in self._routes]
        if new:
            await self._store.write_each(
                [
                    Put(
                        fleet_key(ROUTES, joined(route.source, route.destination)),
                        _ROUTE.encode(route),
                    )
                    for route in new
                ]
            )
            self._routes.update(new)

    async def known_routes(self) -> Sequence[Route]:
        """Return all routes remembered so far, sorted."""
        return sorted(
            decoded(self._store, found, _ROUTE)
            for found in await self._store.scan(ROUTES, OF_FLEET)
        )

    # ---- the daemons among themselves ----

    async def announce(self, member: Member) -> None:
        """Keep a daemon's heartbeat, instead of its last one."""
        key = fleet_key(MEMBERS, member.owner)
        await self._store.write([Put(key, MEMBER.encode(member))])

    async def members(self) -> Sequence[Member]:
        """Return the heartbeat of every daemon, by owner."""
        return [
            decoded(self._store, found, MEMBER)
            for found in await self._store.scan(MEMBERS, OF_FLEET)
        ]

    async def dismiss(self, member: Member) -> None:
        """Drop a heartbeat, if it still is this one."""
        for found in await self._store.get([fleet_key(MEMBERS, member.owner)]):
            if decoded(self._store, found, MEMBER) == member:
                with contextlib.suppress(ConflictError):  # then it is another one by now
                    await self._store.write([Delete(found.key, found.tag)])

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """Return the small named states whose names begin with a prefix."""
        found = await self._store.scan(STATES, OF_FLEET, prefixed(pack(prefix)))
        return {unpack(one.key.sort): one.body for one in found}

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """Replace a small named state if it is still as it was seen."""
        key = fleet_key(STATES, name)
        if before != after:
            tag = ABSENT if before is None else self._store.tag_of(before)
            try:
                await self._store.write(
                    [Delete(key, tag) if after is None else Put(key, after, tag)]
                )
            except ConflictError:
                pass  # by somebody else, or by this very call, the answer of which got lost
            else:
                return True
        now = [found.body for found in await self._store.get([key])]
        return now == ([] if after is None else [after])
