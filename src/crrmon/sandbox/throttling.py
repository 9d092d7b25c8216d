"""DynamoDB on a bad day: some calls are refused for want of capacity, and some answers get lost on the way back.

What is refused was not carried out; what is lost was. Whoever keeps a ledger there must bear both.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec

REFUSED_SHARE = 0.10
LOST_SHARE = 0.02
_EXCEEDED = "ProvisionedThroughputExceeded"
_TEXT = "The level of configured provisioned throughput for the table was exceeded."
_PARTIAL = {"BatchWriteItem": "UnprocessedItems", "BatchGetItem": "UnprocessedKeys"}
"""What these two leave out for want of capacity, they say in their answer instead."""

Carry = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Carries out a call with this body; returns status and body of the answer."""


class LostAnswerError(Exception):
    """The call was carried out, and nobody is to hear of it."""


class Throttling:
    """Decides by chance how calls to tables fare."""

    def __init__(self, chance: random.Random) -> None:
        """Args:
        chance: of the run's seed.
        """
        self._chance = chance
        self.counts: Counter[str] = Counter()
        """How many calls were `refused`, and of how many the answer was `lost`."""

    async def answer(self, operation: str, body: bytes, carry: Carry) -> tuple[int, bytes]:
        """Answer a call, after carrying it out or not.

        Args:
            operation: of DynamoDB, on items.
            body: of the call.
            carry: carries it out.

        Returns:
            Status and body.

        Raises:
            LostAnswerError: it was carried out; drop the connection.
        """
        drawn = self._chance.random()
        if drawn < REFUSED_SHARE:
            self.counts["refused"] += 1
            return await self._refuse(operation, body, carry)
        answer = await carry(body)
        if drawn < REFUSED_SHARE + LOST_SHARE:
            self.counts["lost"] += 1
            raise LostAnswerError
        return answer

    async def _refuse(self, operation: str, body: bytes, carry: Carry) -> tuple[int, bytes]:
        if operation in _PARTIAL:
            done, left = _early_facts(msgspec.json.decode(body)["RequestItems"])
            if done:
                asked = {**msgspec.json.decode(body), "RequestItems": done}
                status, answered = await carry(msgspec.json.encode(asked))
                if status != HTTPStatus.OK:
                    return status, answered
                told = {**msgspec.json.decode(answered), _PARTIAL[operation]: left}
                return status, msgspec.json.encode(told)
        if operation.startswith("Transact"):
            return HTTPStatus.BAD_REQUEST, self._cancelled(body)
        return _error(f"{_EXCEEDED}Exception", message=_TEXT)

    def _cancelled(self, body: bytes) -> bytes:
        items = msgspec.json.decode(body)["TransactItems"]
        codes = ["None"] * len(items)
        codes[self._chance.randrange(len(items))] = _EXCEEDED
        return _error(
            "TransactionCanceledException",
            Message="Transaction cancelled, please refer cancellation reasons for specific "
            f"reasons [{', '.join(codes)}]",
            CancellationReasons=[
                {"Code": code} if code == "None" else {"Code": code, "Message": _TEXT}
                for code in codes
            ],
        )[1]


def _error(name: str, **fields: Any) -> tuple[int, bytes]:
    kind = f"com.amazonaws.dynamodb.v20120810#{name}"
    return HTTPStatus.BAD_REQUEST, msgspec.json.encode({"__type": kind, **fields})


def _early_facts(requested: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide what a batch asks of the first table it names; nothing is in the first half if that is one thing only."""
    table, asked = next(iter(requested.items()))
    reads = isinstance(asked, dict)
    things: list[Any] = asked["Keys"] if reads else asked
    middle = len(things) // 2
    done, left = things[:middle], things[middle:]

    def asking(some: list[Any]) -> Any:
        return {**asked, "Keys": some} if reads else some

    return ({table: asking(done)} if done else {}), {**requested, table: asking(left)}
