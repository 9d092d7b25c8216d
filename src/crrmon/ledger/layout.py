"""What lies in a ledger's store, kind by kind, and under which keys.

| kind | group | sort key | what |
| --- | --- | --- | --- |
| `trail` | shard | the trail's id | records, marks and early facts of a version (`trails`): due where it has a record, else expiring |
| `failures` | shard | time, trail, bucket | open failures, a key without a body (`failures`) |
| `bucketfailures` | shard | bucket, time, trail | the same, by source bucket |
| `journal` | shard | name | what one write adds to the sums (`journal`) |
| `windows` | fleet | start | frozen windows that are not wholly sent, and the newest (`windows`) |
| `pieces` | fleet | name of a window, what, number | what belongs to a window and is large |
| `backlog` | fleet | route and day | the backlog as of the last window (`backlog`) |
| `leases` | fleet | number | 256 shards each: who works on what (`leases`); and who publishes |
| `members` | fleet | owner | what each daemon says about itself |
| `routes` | fleet | source and destination | routes ever met |
| `states` | fleet | name | small state by name |
| `latencies` | fleet | number of the format, digest of the path | what was learned of a path's latencies (`latency_items`) |
| `meta` | fleet | `meta` | format and number of shards |
"""

import struct
from typing import Final

from crrmon.ledger.encoding import pack
from crrmon.ports.store import FLEET, ItemKind, Key

TRAILS: Final = ItemKind(name="trail", ordered=False)
FAILURES: Final = ItemKind(name="failures", spread=8)
BUCKET_FAILURES: Final = ItemKind(name="bucketfailures", spread=8)
JOURNAL: Final = ItemKind(name="journal", spread=4)
"""A partition of DynamoDB takes 1,000 write units a second and an entry three, so four are enough for 40,000 objects a
second. Each one more would have to be read whenever the backlog is told.
"""
WINDOWS: Final = ItemKind(name="windows")
PIECES: Final = ItemKind(name="pieces", expires=True)
BACKLOG: Final = ItemKind(name="backlog", expires=True)
LEASES: Final = ItemKind(name="leases")
MEMBERS: Final = ItemKind(name="members")
ROUTES: Final = ItemKind(name="routes")
STATES: Final = ItemKind(name="states")
LATENCIES: Final = ItemKind(name="latencies", expires=True)
META: Final = ItemKind(name="meta")

OF_FLEET: Final = (FLEET,)
"""The groups of a kind that belongs to no shard."""


def fleet_key(kind: ItemKind, sort: str) -> Key:
    """Return the key of what belongs to no shard."""
    return Key(kind, FLEET, pack(sort))


def joined(*parts: str) -> str:
    """Return parts of a sort key as one: different parts never make the same."""
    return "#".join(part.replace("%", "%25").replace("#", "%23") for part in parts)


def sortable(time: float) -> str:
    """Return a time (not before the epoch) as text that sorts as times do."""
    return struct.pack(">d", time + 0.0).hex()


def time_of(text: str) -> float:
    """Return the time that `sortable` was given."""
    (time,) = struct.unpack(">d", bytes.fromhex(text))
    return float(time)
