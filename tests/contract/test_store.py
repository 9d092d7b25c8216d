"""What every store does: each promise of the port, on each database."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import (
    ABSENT,
    ANY,
    FLEET,
    Action,
    ConflictError,
    Delete,
    Due,
    Found,
    Guard,
    ItemKind,
    Key,
    Put,
    Span,
    Store,
    Tag,
    TooMuchError,
    prefixed,
)
from fakes.ledger_backends import each as each_store
from fakes.ledger_values import NOW
from fakes.store_backends import STORES, StoreBackend

DAY = 86_400.0
LATE = NOW + 30 * DAY
EVER = NOW * 2
"""After everything that is due here."""

LISTED = ItemKind(name="listed", expires=True)
SPREAD = ItemKind(name="spread", spread=4)
MANY = ItemKind(name="many", ordered=False)
"""NB: only one, as the ledger has only one: DynamoDB's index knows no kinds."""
GROUPS = range(6)
KINDS = [pytest.param(kind, id=kind.name) for kind in (LISTED, MANY)]


@pytest.fixture(params=each_store(STORES))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> StoreBackend:
    """Each backend in turn."""
    return STORES[request.param](tmp_path)


@pytest.fixture
async def store(backend: StoreBackend) -> AsyncIterator[Store]:
    """A new store."""
    store = await backend.open()
    yield store
    await store.close()


def named(name: str, kind: ItemKind = LISTED, group: int = 0) -> Key:
    """Name an item: of an unordered kind, by a digest."""
    sort = name.encode("utf-8", "surrogatepass")
    return Key(kind, group, sort if kind.ordered else hashlib.md5(sort).digest())  # noqa: S324


def put(key: Key, body: bytes, tag: Tag | None = None) -> Put:
    """Write an item plainly; an unordered one is due now, and new unless there is a tag."""
    if key.kind.ordered:
        return Put(key, body, ANY if tag is None else tag)
    return Put(key, body, ABSENT if tag is None else tag, due=NOW)


async def one(store: Store, key: Key) -> Found:
    """Read an item that is there."""
    (found,) = await store.get([key])
    assert found.key == key
    return found


async def bodies(store: Store, keys: Sequence[Key]) -> list[bytes | None]:
    """Read items; None for each that is not there."""
    found = {one.key: one.body for one in await store.get(keys)}
    return [found.get(key) for key in keys]


async def gone(store: Store, key: Key) -> bool:
    """Tell whether an item is not there, or has expired."""
    return not any(found.body for found in await store.get([key]))


async def places_of(write: Awaitable[None]) -> set[int]:
    """Expect a conflict; return what it is about."""
    with pytest.raises(ConflictError) as caught:
        await write
    assert len(caught.value.places) == len(set(caught.value.places))
    return set(caught.value.places)


# ---- reading and writing ----


@pytest.mark.parametrize("kind", KINDS)
async def test_get_tells_what_is_there(store: Store, kind: ItemKind) -> None:
    """And nothing of what is not; in any order, each with its body."""
    keys = [named(f"k{number}", kind) for number in range(5)]
    assert await store.get(keys) == []
    assert await store.get([]) == []

    await store.write([put(key, b"body of %d" % place) for place, key in enumerate(keys[:3])])

    assert await bodies(store, keys) == [b"body of 0", b"body of 1", b"body of 2", None, None]
    assert await bodies(store, keys[3:]) == [None, None]


async def test_get_reads_any_number_of_any_kind_and_group(store: Store) -> None:
    """All in one call."""
    keys = [named(f"k{at}", kind, at % 5) for at in range(110) for kind in (LISTED, SPREAD, MANY)]
    for number in range(5):
        mine = [key for key in keys if key.group == number]
        await store.write_each([put(key, key.sort) for key in mine if key.kind.ordered])
        await store.write([put(key, key.sort) for key in mine if key.kind is MANY])
    absent = [named(f"absent{at}", kind, at % 5) for at in range(30) for kind in (LISTED, MANY)]

    assert await bodies(store, keys + absent) == [key.sort for key in keys] + [None] * 60


@pytest.mark.parametrize("kind", KINDS)
async def test_an_item_is_written_over_and_deleted_under_its_tag(
    store: Store, kind: ItemKind
) -> None:
    """Reading it again gives the tag for the next write."""
    key = named("k", kind)
    await store.write([put(key, b"first", ABSENT)])
    await store.write([put(key, b"second", (await one(store, key)).tag)])
    found = await one(store, key)
    assert found.body == b"second"

    await store.write([Delete(key, found.tag)])

    assert await store.get([key]) == []
    await store.write([put(key, b"third", ABSENT)])
    assert (await one(store, key)).body == b"third"


async def test_whatever_is_there_is_written_over_and_deleted(store: Store) -> None:
    """With ANY; and deleting what is not there is no conflict."""
    key, other = named("k"), named("other")
    await store.write([Put(key, b"first"), Delete(other)])
    await store.write([Put(key, b"second"), Put(other, b"other")])
    assert await bodies(store, [key, other]) == [b"second", b"other"]

    await store.write([Delete(key), Delete(other)])
    await store.write([Delete(key)])
    assert await store.get([key, other]) == []


class Conflict(NamedTuple):
    """An action that must not be done."""

    name: str
    make: Callable[[Key, Found], Action]
    """Of an item that is there, and as it was read before it was changed."""


CONFLICTS = [
    Conflict("made", lambda key, _: put(key, b"wrong", ABSENT)),
    Conflict("put", lambda key, was: put(key, b"wrong", was.tag)),
    Conflict("delete", lambda key, was: Delete(key, was.tag)),
    Conflict("check", lambda key, was: Guard(key, was.tag)),
    Conflict("check_absent", lambda key, _: Guard(key, ABSENT)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conflict", CONFLICTS, ids=[one.name for one in CONFLICTS])
@pytest.mark.parametrize("deleted", [False, True], ids=["changed", "made_anew"])
async def test_one_action_under_a_wrong_tag_is_not_done(
    store: Store, kind: ItemKind, conflict: Conflict, *, deleted: bool
) -> None:
    """Not on what was changed since it was read, nor on what was deleted and made again with other content."""
    key = named("k", kind)
    await store.write([put(key, b"before")])
    was = await one(store, key)
    if deleted:
        await store.write([Delete(key, was.tag)])
        await store.write([put(key, b"after")])
    else:
        await store.write([put(key, b"after", was.tag)])

    assert await places_of(store.write([conflict.make(key, was)])) == {0}

    assert (await one(store, key)).body == b"after"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_gone_is_not_what_it_was(store: Store, kind: ItemKind) -> None:
    """No action on its old tag is done."""
    key = named("k", kind)
    await store.write([put(key, b"before")])
    was = await one(store, key)
    await store.write([Delete(key, was.tag)])

    actions: list[Action] = [
        put(key, b"wrong", was.tag),
        Delete(key, was.tag),
        Guard(key, was.tag),
    ]
    for action in actions:
        assert await places_of(store.write([action])) == {0}
    assert await store.get([key]) == []
    await store.write([Guard(key, ABSENT)])


async def test_all_is_done_or_nothing_and_the_right_places_are_told(store: Store) -> None:
    """Of both sorts of kinds in one write; those whose items are as they should be are not told."""
    actions: list[Action] = []
    wrong: set[int] = set()
    keys: list[Key] = []
    for kind in (LISTED, MANY):
        names = ["fine", "checked", "deleted", *(one.name for one in CONFLICTS)]
        mine = {name: named(name, kind) for name in names}
        await store.write([put(key, b"before") for key in mine.values()])
        was = {name: await one(store, key) for name, key in mine.items()}
        for each in CONFLICTS:
            await store.write([put(mine[each.name], b"now", was[each.name].tag)])
        actions += [
            put(named("new", kind), b"after", ABSENT),
            put(mine["fine"], b"after", was["fine"].tag),
        ]
        for each in CONFLICTS:
            wrong.add(len(actions))
            actions.append(each.make(mine[each.name], was[each.name]))
        actions += [
            Guard(mine["checked"], was["checked"].tag),
            Delete(mine["deleted"], was["deleted"].tag),
            Guard(named("none", kind), ABSENT),
        ]
        keys += [named("new", kind), *mine.values()]
    before = await bodies(store, keys)

    assert await places_of(store.write(actions)) == wrong
    assert await bodies(store, keys) == before

    await store.write([action for place, action in enumerate(actions) if place not in wrong])
    assert await bodies(
        store, [named("new", MANY), named("fine", MANY), named("deleted", MANY)]
    ) == [
        b"after",
        b"after",
        None,
    ]


async def test_one_conflict_undoes_a_full_write(store: Store) -> None:
    """As many unordered items as go into one write best, with what is written beside them."""
    number = store.limits.items
    keys = [named(f"k{at}", MANY) for at in range(number)]
    await store.write([put(keys[-1], b"there")])
    actions = [put(key, b"new") for key in keys]
    beside = Put(named("beside"), b"new", ABSENT)

    assert await places_of(store.write([*actions, beside])) == {number - 1}
    assert await bodies(store, [*keys, beside.key]) == [None] * (number - 1) + [b"there", None]

    actions[-1] = replace(actions[-1], tag=(await one(store, keys[-1])).tag)
    await store.write([*actions, beside])
    assert await bodies(store, [*keys, beside.key]) == [b"new"] * (number + 1)
    assert len(await store.due(MANY, GROUPS, until=NOW, limit=number + 1)) == number


async def test_one_write_may_touch_several_groups_where_it_says_so(store: Store) -> None:
    """All or nothing there, too."""
    if not store.limits.spans_groups:
        return
    keys = [named("k", kind, group) for kind in (SPREAD, MANY) for group in (0, 1)]
    keys = [key._replace(sort=named(f"{key.group}", key.kind).sort) for key in keys]
    keys.append(named("k", LISTED, FLEET))
    await store.write([put(key, b"body", ABSENT) for key in keys])
    assert await bodies(store, keys) == [b"body"] * 5
    found = await store.get(keys)
    tags = {one.key: one.tag for one in found}
    await store.write([put(keys[-1], b"other", tags[keys[-1]])])

    assert await places_of(store.write([Delete(key, tags[key]) for key in keys])) == {4}
    assert await bodies(store, keys) == [b"body"] * 4 + [b"other"]


@pytest.mark.parametrize("body", [b"", b"\0", b"body", bytes(range(256)) * 5, b"x" * 5000])
async def test_tag_of_is_the_tag_of_what_is_read(store: Store, body: bytes) -> None:
    """Of ordered kinds: whoever knows the body need not read before writing."""
    key = named("k")
    await store.write([Put(key, body, ABSENT)])

    found = await one(store, key)
    assert (found.body, found.tag) == (body, store.tag_of(body))
    assert await store.scan(LISTED, [0]) == [found]
    assert await places_of(store.write([Put(key, b"no", store.tag_of(body + b"!"))])) == {0}
    assert await places_of(store.write([Put(key, b"no", ABSENT)])) == {0}
    await store.write([Put(key, b"yes", store.tag_of(body))])
    assert (await one(store, key)).body == b"yes"


RACED = each_store(name for name in STORES if name != "dynamodb_moto")
"""moto does not look and write in one go."""


@pytest.mark.parametrize("backend", RACED, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", [ABSENT, None], ids=["new", "known"])
async def test_of_writers_that_race_exactly_one_wins(
    backend: StoreBackend, store: Store, kind: ItemKind, tag: Tag | None
) -> None:
    """Whether the item is new or there; the others are told, and what is there is the winner's."""
    async with opened_beside(backend, store) as other:
        await race(store, other, kind, tag)


@contextlib.asynccontextmanager
async def opened_beside(backend: StoreBackend, store: Store) -> AsyncIterator[Store]:
    """Open the same database once more, where that can be."""
    other = store if store.exclusive else await backend.open()
    try:
        yield other
    finally:
        if other is not store:
            await other.close()


async def race(store: Store, other: Store, kind: ItemKind, tag: Tag | None) -> None:
    """Let two write the same items, time after time."""
    for number in range(8):
        key = named(f"k{number}", kind)
        if tag is None:
            await store.write([put(key, b"before")])
        tags = [tag or (await one(each, key)).tag for each in (store, other)]
        done = await asyncio.gather(
            store.write([put(key, b"one", tags[0])]),
            other.write([put(key, b"other", tags[1])]),
            store.write([put(key, b"third", tags[0]), Put(named("beside"), b"%d" % number)]),
            return_exceptions=True,
        )
        assert sum(each is None for each in done) == 1
        assert [each.places for each in done if isinstance(each, ConflictError)] == [[0], [0]]
        winner = (b"one", b"other", b"third")[done.index(None)]
        assert [(await one(each, key)).body for each in (store, other)] == [winner, winner]


@pytest.mark.parametrize("kind", KINDS)
async def test_large_bodies_come_back_as_they_were(store: Store, kind: ItemKind) -> None:
    """Up to what the store says that it takes; beyond, nothing is written."""
    largest = store.limits.item_bytes
    chance = random.Random(1)
    for size in (1_000, 70_000, min(largest, 900_000)):
        key = named(f"k{size}", kind)
        body = chance.randbytes(size)
        await store.write([put(key, body, ABSENT)])
        found = await one(store, key)
        assert found.body == body
        await store.write([put(key, body[::-1], found.tag)])
        assert (await one(store, key)).body == body[::-1]
    if largest < 1_000_000:
        with pytest.raises(TooMuchError):
            await store.write([put(named("more", kind), chance.randbytes(largest + 20_000))])
        assert await bodies(store, [named("more", kind)]) == [None]


async def test_write_each_does_thousands(store: Store) -> None:
    """Of any kinds and groups, and beside large ones."""
    keys = [named(f"k{at:05d}", kind, at % 6) for at in range(1000) for kind in (LISTED, SPREAD)]
    large = [named(f"large{at}", LISTED, FLEET) for at in range(5)]
    content = random.Random(1).randbytes(300_000)
    await store.write_each([])
    await store.write_each(
        [*(Put(key, key.sort) for key in keys), *(Put(key, content) for key in large)]
    )
    assert await bodies(store, keys) == [key.sort for key in keys]
    assert await bodies(store, large) == [content] * 5

    changed: list[Put | Delete] = [Delete(key) for key in keys[::2]]
    changed += [Put(key, b"again") for key in keys[1::2]]
    changed += [Delete(named("absent"))]
    await store.write_each(changed)

    assert await store.scan(LISTED, GROUPS, Span(low=b"k", high=b"l")) == []
    found = await store.scan(SPREAD, GROUPS)
    assert [each.key.sort for each in found] == [key.sort for key in keys[1::2]]
    assert {each.body for each in found} == {b"again"}


# ---- order ----

NAMES = [
    "\0", "\0\0", "!", "A", "AB", "Aa", "B", "a", "a\0", "a#", "aa", "b", "\x7f", "\x80", "\u00ff", "\u0100", "\ue000",
    "\uffff", "\U00010000", "\U0010ffff", "z" * 800,
]  # fmt: skip
"""In UTF-16 the order of the last ones would be another."""
SORTS = sorted(name.encode() for name in NAMES)


async def listed(store: Store) -> None:
    """Write the names into several groups, two of which share a partition where there are any."""
    puts = [Put(Key(SPREAD, at % 6, sort), b"<%b>" % sort) for at, sort in enumerate(SORTS)]
    random.Random(3).shuffle(puts)
    await store.write_each(puts)


async def test_a_scan_goes_byte_by_byte_over_all_groups(store: Store) -> None:
    """Each item is told once, with a key that finds it."""
    await listed(store)
    await store.write_each([Put(named(f"other{group}", LISTED, group), b"") for group in GROUPS])

    found = await store.scan(SPREAD, GROUPS)

    assert [(each.key.sort, each.body) for each in found] == [
        (sort, b"<%b>" % sort) for sort in SORTS
    ]
    assert sorted(each.body for each in await store.get([each.key for each in found])) == sorted(
        each.body for each in found
    )
    for each in found:
        await store.write([Put(each.key, b"by the key told", each.tag)])
    assert {each.body for each in await store.scan(SPREAD, GROUPS)} == {b"by the key told"}


async def test_a_scan_tells_a_range_of_an_order(store: Store) -> None:
    """From the first key, to before the last one, from either end, and no more than asked for."""
    await listed(store)
    ranges = [
        (b"", None), (b"", b"a"), (b"a", None), (b"a", b"b"), (b"a", b"aa"), (b"aa", b"aaa"), (b"B0", b"Z"),
        ("\uffff".encode(), None), ("\u00ff".encode(), "\U00010000".encode()), (b"\0", b"\0\0"),
    ]  # fmt: skip
    for low, high in ranges:
        mine = [sort for sort in SORTS if low <= sort and (high is None or sort < high)]
        for limit in (None, 1, 4):
            span = Span(low=low, high=high, limit=limit)
            told = await store.scan(SPREAD, GROUPS, span)
            assert [each.key.sort for each in told] == mine[:limit]
            told = await store.scan(SPREAD, GROUPS, replace(span, reverse=True))
            assert [each.key.sort for each in told] == mine[::-1][:limit]


async def test_prefixed_is_the_range_of_a_prefix(store: Store) -> None:
    """The bytes 0xff, which no UTF-8 holds, have no end."""
    await listed(store)
    for prefix in ("", "a", "A", "a#", "z", "\0", "\x7f", "\u00ff", "\uffff", "\U0010ffff", "no"):
        told = await store.scan(SPREAD, GROUPS, prefixed(prefix.encode()))
        mine = [sort for sort in SORTS if sort.startswith(prefix.encode())]
        assert [each.key.sort for each in told] == mine
    assert prefixed(b"\xff\xff") == Span(low=b"\xff\xff")
    assert prefixed(b"a\xff") == Span(low=b"a\xff", high=b"b")


async def test_halves_of_characters_are_kept_or_refused(store: Store) -> None:
    """What Python holds in strings and Unicode does not know: if it is taken, it is in its place."""
    key, other = named("a\ud800"), named("a")
    await store.write([Put(other, b"other")])
    try:
        await store.write([Put(key, b"half"), Put(other, b"changed")])
    except LedgerError:  # NB: emulators fail over it; DynamoDB itself refuses it for good
        assert await bodies(store, [other]) == [b"other"]
        return
    assert await bodies(store, [key, other]) == [b"half", b"changed"]
    assert [each.key for each in await store.scan(LISTED, [0])] == [other, key]
    assert [each.key for each in await store.scan(LISTED, [0], Span(low=key.sort))] == [key]
    assert [each.key for each in await store.scan(LISTED, [0], Span(high=key.sort))] == [other]


# ---- what is due ----


def due_at(name: str, at: float, group: int = 0, tag: Tag = ABSENT) -> Put:
    """Write an item that is due at some time."""
    return Put(named(name, MANY, group), name.encode(), tag, due=at)


async def told(
    store: Store, until: float, *, groups: Sequence[int] = GROUPS, limit: int = 100
) -> list[Due]:
    """Ask what is due; what is told with it is the item as it is now, and may be written by."""
    found = await store.due(MANY, groups, until=until, limit=limit)
    along = {each.key: (each.body, each.tag) for each in found if each.body is not None}
    if along:
        assert {each.key: each[1:] for each in await store.get(list(along))} == along
    return [Due(each.at, each.key) for each in found]


async def walked(store: Store, *, after: Due | None, limit: int, group: int = 0) -> list[Due]:
    """Go through a group."""
    found = await store.walk(MANY, group, after=after, limit=limit)
    return [each._replace(body=None) for each in found]


async def test_the_longest_due_of_all_groups_are_told_first(store: Store) -> None:
    """Up to a time, no more than asked for, and exactly when; those of other groups are not told."""
    times = [NOW - 1000 + 7.1 * number + 1e-6 for number in range(40)]
    puts = [due_at(f"k{at}", when, at * at % 5) for at, when in enumerate(times)]
    for group in (0, 1, 4):
        await store.write([each for each in puts if each.key.group == group])
    dues = [Due(each.due or 0.0, each.key) for each in puts]

    assert await told(store, EVER) == dues
    assert await told(store, times[9]) == dues[:10]
    assert await told(store, times[9] - 0.01) == dues[:9]
    assert await told(store, times[0] - 1) == []
    for limit in (1, 2, 9, 39):
        assert await told(store, EVER, limit=limit) == dues[:limit]
    for groups in ([0], [1, 4], [4, 1, 0], [2], []):
        mine = [each for each in dues if each.key.group in groups]
        assert await told(store, EVER, groups=groups) == mine
        assert await told(store, EVER, groups=groups, limit=3) == mine[:3]


async def test_of_those_due_at_the_same_time_all_are_told(store: Store) -> None:
    """In any order, and as many as asked for."""
    puts = [due_at(f"k{at}", NOW + at % 2, at % 3) for at in range(30)]
    for group in range(3):
        await store.write([each for each in puts if each.key.group == group])

    found = await told(store, NOW + 1)

    assert [each.at for each in found] == [NOW] * 15 + [NOW + 1] * 15
    assert {each.key for each in found} == {each.key for each in puts}
    first = await told(store, NOW + 1, limit=20)
    assert [each.at for each in first] == [NOW] * 15 + [NOW + 1] * 5
    assert len({each.key for each in first}) == 20


async def test_an_item_is_told_by_what_it_is_now(store: Store) -> None:
    """Put off, it is not due any more, nor when it only expires, nor when it is gone."""
    key = named("k", MANY)
    await store.write([due_at("k", NOW - 9), due_at("other", NOW - 8)])
    other = Due(NOW - 8, named("other", MANY))
    assert await told(store, NOW) == [Due(NOW - 9, key), other]

    await store.write([due_at("k", NOW + 9, tag=(await one(store, key)).tag)])
    assert await told(store, NOW) == [other]
    assert await told(store, NOW + 9) == [other, Due(NOW + 9, key)]

    await store.write([Put(key, b"marks", (await one(store, key)).tag, expires_at=LATE)])
    assert await told(store, EVER) == [other]

    await store.write([due_at("k", NOW - 7, tag=(await one(store, key)).tag)])
    assert await told(store, EVER) == [other, Due(NOW - 7, key)]

    await store.write([Delete(key, (await one(store, key)).tag)])
    assert await told(store, EVER) == [other]


async def test_what_another_process_writes_is_told(backend: StoreBackend, store: Store) -> None:
    """At the latest some seconds after it is due."""
    async with opened_beside(backend, store) as other:
        assert await told(store, NOW) == []
        await other.write([due_at("k", NOW)])
        backend.clock.time = NOW + 10

        assert await told(store, NOW + 10) == [Due(NOW, named("k", MANY))]


@pytest.mark.parametrize("page", [1, 3, 7])
async def test_a_walk_tells_each_once(store: Store, page: int) -> None:
    """
    Due or not yet, in the order of when, through many of the same time; those of other groups and those that only expire
    are not told.
    """
    times = [NOW + (number // 9) * 1.5 for number in range(24)] + [NOW - 5, NOW + 1e6]
    await store.write([due_at(f"k{at}", when) for at, when in enumerate(times)])
    await store.write([due_at("elsewhere", NOW, 1)])
    await store.write([Put(named("kept", MANY), b"", ABSENT, expires_at=LATE)])

    found: list[Due] = []
    after = None
    while True:
        some = await walked(store, after=after, limit=page)
        found += some
        if len(some) < page:
            break
        after = some[-1]

    assert [each.at for each in found] == sorted(times)
    assert {each.key for each in found} == {named(f"k{at}", MANY) for at in range(26)}
    assert await walked(store, after=None, limit=page, group=2) == []


async def test_an_item_that_is_due_now_and_expires_then_is_there_once(store: Store) -> None:
    """However it goes to and fro: nothing of it is left when it is deleted, or dropped in its stead."""
    key = named("k", MANY)
    await store.write([due_at("k", NOW)])
    puts = [
        Put(key, b"kept", expires_at=LATE),
        Put(key, b"kept longer", expires_at=LATE + 3 * DAY),
        Put(key, b"kept shorter", expires_at=LATE + DAY),
        Put(key, b"kept as long", expires_at=LATE + DAY + 1),
        Put(key, b"due", due=NOW + 1),
        Put(key, b"due", due=NOW + 2),
        Put(key, b"kept again", expires_at=LATE),
        Put(key, b"due again", due=NOW + 3),
    ]
    for each in puts:
        await store.write([replace(each, tag=(await one(store, key)).tag)])
        assert (await one(store, key)).body == each.body
        dues = [] if each.due is None else [Due(each.due, key)]
        assert await told(store, EVER) == dues
        assert await walked(store, after=None, limit=9) == dues
    assert await drop_all(store, MANY, EVER) == 0

    await store.write([Delete(key, (await one(store, key)).tag)])
    assert await store.get([key]) == []
    assert await told(store, EVER) == []
    assert await drop_all(store, MANY, EVER) == 0


# ---- what expires ----


async def drop_all(store: Store, kind: ItemKind, now: float) -> int:
    """Drop what has expired, until nothing is left of it; return how many those were."""
    total = 0
    while dropped := await store.expire(kind, GROUPS, now=now):
        total += dropped
    return total


@pytest.mark.parametrize("kind", KINDS)
async def test_only_what_has_expired_is_dropped(
    backend: StoreBackend, store: Store, kind: ItemKind
) -> None:
    """Until then, and with what was written again to be kept longer or for ever, nothing happens."""
    groups = [0, 3] if kind is MANY else [0]
    keys = {name: named(name, kind, groups[-1]) for name in ("early", "late", "kept", "longer")}
    await store.write(
        [
            Put(key, name.encode(), ABSENT, expires_at=NOW + (20 if name == "late" else 5) * DAY)
            for name, key in keys.items()
        ]
    )
    assert await drop_all(store, kind, NOW + 4 * DAY) == 0
    kept, longer = [(await one(store, keys[name])).tag for name in ("kept", "longer")]
    due = None if kind.ordered else NOW
    await store.write(
        [
            Put(keys["kept"], b"kept", kept, due=due),
            Put(keys["longer"], b"longer", longer, expires_at=NOW + 20 * DAY),
        ]
    )

    backend.clock.time = NOW + 7 * DAY
    assert await drop_all(store, kind, NOW + 7 * DAY) == (1 if backend.drops else 0)
    assert await gone(store, keys["early"])
    assert await bodies(store, [keys[name] for name in ("late", "kept", "longer")]) == [
        b"late",
        b"kept",
        b"longer",
    ]

    backend.clock.time = NOW + 30 * DAY
    assert await drop_all(store, kind, NOW + 30 * DAY) == (2 if backend.drops else 0)
    assert [await gone(store, key) for key in keys.values()] == [True, True, False, True]
    if kind.ordered:
        assert [each.body for each in await store.scan(kind, GROUPS)] == [b"kept"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_has_expired_can_be_written_again(
    backend: StoreBackend, store: Store, kind: ItemKind
) -> None:
    """Whether it was dropped or is still there, as reading tells."""
    key = named("k", kind)
    await store.write([Put(key, b"before", ABSENT, expires_at=NOW + DAY)])
    backend.clock.time = NOW + 9 * DAY
    for _ in range(2):
        tags = [each.tag for each in await store.get([key])] or [ABSENT]
        await store.write([Put(key, b"again", tags[0], expires_at=NOW + 10 * DAY)])
        assert (await one(store, key)).body == b"again"
        await drop_all(store, kind, NOW + 9 * DAY)
        assert (await one(store, key)).body == b"again"


async def test_what_was_dropped_since_it_was_read_is_something_else(
    backend: StoreBackend, store: Store
) -> None:
    """Whoever writes by what it read learns of it, alone and among others, and nothing is written."""
    if not backend.drops:
        return
    gone, there = named("gone", MANY), named("there", MANY)
    await store.write([Put(gone, b"before", ABSENT, expires_at=NOW), due_at("there", NOW)])
    tags = {key: (await one(store, key)).tag for key in (gone, there)}
    backend.clock.time = NOW + 9 * DAY
    assert await drop_all(store, MANY, NOW + 9 * DAY) == 1

    for put in (
        Put(gone, b"a", tags[gone], due=NOW),
        Put(gone, b"a", tags[gone], expires_at=LATE),
    ):
        with pytest.raises(ConflictError) as caught:
            await store.write([Put(there, b"b", tags[there], due=NOW), put])
        assert list(caught.value.places) == [1]
    with pytest.raises(ConflictError):
        await store.write([Delete(gone, tags[gone])])
    assert (await one(store, there)).body != b"b"


async def test_much_is_dropped_in_portions(
    backend: StoreBackend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call takes long, and the last one says that nothing is left."""
    if not backend.drops:
        assert await store.expire(LISTED, [0], now=EVER) == 0
        return
    backend.expire_few(monkeypatch, 10)
    await store.write_each([Put(named(f"k{at}"), b"", expires_at=NOW + at) for at in range(25)])
    await store.write_each([Put(named("ever"), b"")])

    portions = [await store.expire(LISTED, [0], now=NOW + 99) for _ in range(4)]

    assert portions == [10, 10, 5, 0]
    assert [each.key for each in await store.scan(LISTED, [0])] == [named("ever")]


async def test_many_days_of_many_groups_are_dropped_whole(
    store: Store, backend: StoreBackend
) -> None:
    """Nothing is told of them any more, and what is not over stays."""
    puts = [
        Put(named(f"k{at}", MANY, at % 3), b"body", ABSENT, expires_at=NOW + at * DAY / 4)
        for at in range(40)
    ]
    for group in range(3):
        await store.write([each for each in puts if each.key.group == group])

    backend.clock.time = NOW + 6 * DAY
    dropped = await drop_all(store, MANY, NOW + 6 * DAY)

    left = [each for each in puts if not await gone(store, each.key)]
    assert all((each.expires_at or 0.0) > NOW + 4 * DAY for each in left)
    assert {each.key for each in puts[25:]} <= {each.key for each in left}
    assert dropped == (40 - len(left) if backend.drops else 0)


# ---- the whole ----


async def test_it_says_what_it_is(store: Store) -> None:
    """For people: itself, and where an item is."""
    assert "ledger." in store.name
    for kind in (LISTED, SPREAD, MANY):
        where = [store.where(named(name, kind)) for name in ("one", "other")]
        assert all(kind.name in each for each in where)
        assert where[0] != where[1]


async def test_everything_is_there_after_closing(backend: StoreBackend) -> None:
    """Where the store is durable: bodies, order, what is due and what expires."""
    if not backend.durable:
        return
    store = await backend.open()
    await store.write([Put(named("b"), b"2"), Put(named("a"), b"1", ABSENT, expires_at=NOW + DAY)])
    await store.write([due_at("due", NOW)])
    await store.write([Put(named("kept", MANY), b"kept", ABSENT, expires_at=NOW + DAY)])
    await store.write_each([Put(named(f"k{at}", SPREAD, at), b"") for at in range(5)])
    await store.close()

    store = await backend.open()
    assert [(each.key.sort, each.body) for each in await store.scan(LISTED, [0])] == [
        (b"a", b"1"),
        (b"b", b"2"),
    ]
    assert len(await store.scan(SPREAD, GROUPS)) == 5
    assert await told(store, NOW) == [Due(NOW, named("due", MANY))]
    found = await one(store, named("due", MANY))
    await store.write([Put(found.key, b"kept", found.tag, expires_at=NOW + DAY)])
    assert await bodies(store, [found.key, named("kept", MANY)]) == [b"kept", b"kept"]
    await store.close()

    store = await backend.open()
    backend.clock.time = NOW + 9 * DAY
    number = [await drop_all(store, kind, NOW + 9 * DAY) for kind in (LISTED, MANY)]
    assert number == ([1, 2] if backend.drops else [0, 0])
    assert [await gone(store, key) for key in (named("a"), found.key)] == [True, True]
    await store.close()


# ---- random histories ----

FRESH, STALE, NEW, WHATEVER = "fresh", "stale", "new", "whatever"
PLACES = [named(name, kind) for kind in (LISTED, MANY) for name in ("a", "b", "c")]


class Step(NamedTuple):
    """An action of a history."""

    place: int
    what: str
    tag: str
    when: int
    """Of an unordered item: due so many seconds after now, or expiring if below zero."""


STEPS = st.builds(
    Step,
    place=st.integers(0, len(PLACES) - 1),
    what=st.sampled_from(["put", "put", "put", "delete", "check"]),
    tag=st.sampled_from([FRESH, FRESH, FRESH, STALE, NEW, WHATEVER]),
    when=st.integers(-3, 3),
)
HISTORIES = st.lists(
    st.lists(STEPS, min_size=1, max_size=4, unique_by=lambda step: step.place), max_size=12
)
EXAMPLES = {"memory": 100, "dynamodb": 8, "dynamodb_moto": 6}
"""Emulators answer a hundred times more slowly than a file."""


class History:
    """A history of a store, told beside it by a mapping."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._model: dict[Key, Put] = {}
        self._read: dict[Key, Found] = {}
        self._stale: dict[Key, Tag] = {}
        self._numbers = count()

    async def go(self, steps: Sequence[Step]) -> None:
        """Do one write, and compare everything."""
        chosen = [(step, self._tag(step)) for step in steps]
        actions = [self._action(step, tag) for step, (tag, _) in chosen]
        wrong = {place for place, (_, (_, holds)) in enumerate(chosen) if not holds}
        if wrong:
            assert await places_of(self._store.write(actions)) == wrong
        else:
            await self._store.write(actions)
            for action in actions:
                if isinstance(action, Put):
                    self._model[action.key] = action
                elif isinstance(action, Delete):
                    self._model.pop(action.key, None)
        await self.compare()

    def _tag(self, step: Step) -> tuple[Tag, bool]:
        """Return a tag, and whether it is of what is there."""
        key = PLACES[step.place]
        there = self._read.get(key)
        if step.tag == WHATEVER and key.kind.ordered and step.what != "check":
            return ANY, True
        if step.tag == STALE and key in self._stale:
            return self._stale[key], False
        if there is None or (step.tag == NEW and step.what != "delete"):
            return ABSENT, there is None
        return there.tag, True

    def _action(self, step: Step, tag: Tag) -> Action:
        key = PLACES[step.place]
        if step.what == "check" or (step.what == "delete" and tag is ABSENT):
            return Guard(key, tag)
        if step.what == "delete":
            return Delete(key, tag)
        body = b"%d" % next(self._numbers)
        if key.kind.ordered:
            return Put(key, body, tag, expires_at=None if step.when >= 0 else LATE)
        if step.when < 0:
            return Put(key, body, tag, expires_at=LATE - step.when * DAY)
        return Put(key, body, tag, due=NOW + step.when)

    async def compare(self) -> None:
        """Compare all that can be read."""
        found = {each.key: each for each in await self._store.get(PLACES)}
        assert {key: each.body for key, each in found.items()} == self._bodies(self._model)
        for key, each in self._read.items():
            if key not in found or found[key].body != each.body:
                self._stale[key] = each.tag
        self._read = found
        ordered = sorted(
            (key for key in self._model if key.kind.ordered), key=lambda key: key.sort
        )
        scanned = await self._store.scan(LISTED, [0])
        assert [each.key for each in scanned] == ordered
        assert all(each == found[each.key] for each in scanned)
        dues = {(each.due, key) for key, each in self._model.items() if each.due is not None}
        hints = await told(self._store, EVER, groups=[0])
        assert [each.at for each in hints] == sorted(each.at for each in hints)
        assert {(each.at, each.key) for each in hints} == dues
        passed = await walked(self._store, after=None, limit=9)
        assert {(each.at, each.key) for each in passed} == dues
        assert len(hints) == len(passed) == len(dues)

    def _bodies(self, model: Mapping[Key, Put]) -> dict[Key, bytes]:
        return {key: each.body for key, each in model.items()}

    async def end(self) -> None:
        """Check that nothing expires too early, and leave nothing."""
        for kind in (LISTED, MANY):
            assert await drop_all(self._store, kind, NOW) == 0
        await self.compare()
        left = [Delete(key, each.tag) for key, each in self._read.items()]
        if left:
            await self._store.write(left)
        assert await self._store.get(PLACES) == []
        assert await drop_all(self._store, LISTED, EVER) == 0
        assert await drop_all(self._store, MANY, EVER) == 0


@pytest.mark.parametrize("name", each_store(STORES))
def test_a_store_does_what_a_mapping_does(name: str, tmp_path: Path) -> None:
    """Whatever is written under whatever tags: it is done or not as a mapping would, and all ways of reading agree."""
    with asyncio.Runner() as runner:
        store = runner.run(STORES[name](tmp_path).open())

        async def run(history: Sequence[Sequence[Step]]) -> None:
            told_beside = History(store)
            for steps in history:
                await told_beside.go(steps)
            await told_beside.end()

        @settings(max_examples=EXAMPLES.get(name, 40))
        @given(HISTORIES)
        def all_histories(history: Sequence[Sequence[Step]]) -> None:
            runner.run(run(history))

        try:
            all_histories()
        finally:
            runner.run(store.close())
