"""A process that parks and settles batch after batch, tells of each, and waits to be killed."""

import asyncio
import sys

from crrmon.domain.outcomes import Settlement
from crrmon.domain.records import Record
from fakes.ledger_values import NOW, done, record
from fakes.ledgers import SqliteLedger

SIZE = 20


def records(number: int) -> list[Record]:
    """Create the records of a batch."""
    return [record(f"k{number}.{one}") for one in range(SIZE)]


def batch(number: int) -> list[Settlement]:
    """Create a batch."""
    return [done(one) for one in records(number)]


async def main(path: str, first: int) -> None:
    """Settle for ever."""
    ledger = await SqliteLedger.at(path)
    number = first
    while True:
        await ledger.park(records(number))
        print("parked", number, flush=True)  # noqa: T201 - how it tells
        await ledger.settle(f"b{number}", batch(number), now=NOW + number)
        print("settled", number, flush=True)  # noqa: T201 - how it tells
        number += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
