"""DynamoDB's bad day must look like one, and harm nothing by itself."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from crrmon.sandbox.throttling import LOST_SHARE, REFUSED_SHARE, LostAnswerError, Throttling

REFUSED, LOST, FINE = REFUSED_SHARE / 2, REFUSED_SHARE + LOST_SHARE / 2, 0.9


class Drawn(random.Random):
    """Draws what it is told to."""

    def __init__(self, value: float) -> None:
        super().__init__(1)
        self._value = value

    @override
    def random(self) -> float:
        return self._value


class Table:
    """Remembers what was carried out."""

    def __init__(self, answer: dict[str, Any] | None = None, status: int = 200) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer = (status, msgspec.json.encode(answer or {}))

    async def carry(self, body: bytes) -> tuple[int, bytes]:
        self.asked.append(msgspec.json.decode(body))
        return self._answer


async def ask(
    drawn: float, operation: str, asked: dict[str, Any], table: Table
) -> tuple[int, dict[str, Any]]:
    """Make one call."""
    throttling = Throttling(Drawn(drawn))
    status, body = await throttling.answer(operation, msgspec.json.encode(asked), table.carry)
    return status, msgspec.json.decode(body)


async def test_on_the_whole_calls_are_carried_out() -> None:
    """A call that is not drawn is passed on and answered as it is."""
    table = Table({"Item": {}})

    assert await ask(FINE, "GetItem", {"Key": 1}, table) == (200, {"Item": {}})
    assert table.asked == [{"Key": 1}]


async def test_a_refused_call_is_not_carried_out() -> None:
    """It gets the error of a table without capacity, as DynamoDB spells it."""
    table = Table()
    status, said = await ask(REFUSED, "PutItem", {"Item": 1}, table)

    assert status == 400
    assert said["__type"].endswith("#ProvisionedThroughputExceededException")
    assert table.asked == []


async def test_a_refused_transaction_names_the_item_that_had_no_capacity() -> None:
    """All reasons but one are None, and nothing was carried out."""
    table = Table()
    status, said = await ask(REFUSED, "TransactWriteItems", {"TransactItems": [{}] * 5}, table)

    codes = [one["Code"] for one in said["CancellationReasons"]]
    assert status == 400
    assert said["__type"].endswith("#TransactionCanceledException")
    assert sorted(codes) == ["None"] * 4 + ["ProvisionedThroughputExceeded"]
    assert ", ".join(codes) in said["Message"]
    assert table.asked == []


@pytest.mark.parametrize(
    ("operation", "left_in", "items", "first", "second"),
    [
        ("BatchWriteItem", "UnprocessedItems", {"t": [1, 2, 3]}, {"t": [1]}, {"t": [2, 3]}),
        (
            "BatchGetItem",
            "UnprocessedKeys",
            {"t": {"Keys": [1, 2], "ConsistentRead": True}},
            {"t": {"Keys": [1], "ConsistentRead": True}},
            {"t": {"Keys": [2], "ConsistentRead": True}},
        ),
    ],
)
async def test_of_a_refused_batch_a_part_is_carried_out(
    operation: str, left_in: str, items: dict, first: dict, second: dict
) -> None:
    """The answer names what is left, and is one of success."""
    table = Table({"Responses": {}})
    status, said = await ask(
        REFUSED, operation, {"RequestItems": items, "ReturnConsumedCapacity": "TOTAL"}, table
    )

    assert status == 200
    assert said == {"Responses": {}, left_in: second}
    assert table.asked == [{"RequestItems": first, "ReturnConsumedCapacity": "TOTAL"}]


@pytest.mark.parametrize(
    ("operation", "items"),
    [("BatchWriteItem", {"t": [1]}), ("BatchGetItem", {"t": {"Keys": [1]}})],
)
async def test_a_batch_of_one_is_refused_as_a_whole(operation: str, items: dict) -> None:
    """As DynamoDB does when nothing at all could be done."""
    table = Table()
    status, _ = await ask(REFUSED, operation, {"RequestItems": items}, table)

    assert status == 400
    assert table.asked == []


async def test_an_error_in_a_part_of_a_batch_is_told() -> None:
    """What the table says against it comes before what it had no capacity for."""
    table = Table({"__type": "x#ResourceNotFoundException"}, status=400)
    answer = await ask(REFUSED, "BatchWriteItem", {"RequestItems": {"t": [1, 2]}}, table)

    assert answer == (400, {"__type": "x#ResourceNotFoundException"})


async def test_a_lost_answer_was_carried_out() -> None:
    """The call did what it should, and nobody hears of it."""
    table = Table()
    with pytest.raises(LostAnswerError):
        await ask(LOST, "PutItem", {"Item": 1}, table)

    assert table.asked == [{"Item": 1}]


async def test_shares_are_kept_and_counted() -> None:
    """Over many calls, about a tenth is refused and some answers are lost; the counts say exactly how many."""
    throttling, table = Throttling(random.Random(3)), Table()
    statuses: list[int] = []
    for _ in range(2000):
        try:
            statuses.append((await throttling.answer("GetItem", b"{}", table.carry))[0])
        except LostAnswerError:
            continue
    assert throttling.counts == {
        "refused": statuses.count(400),
        "lost": 2000 - len(statuses),
    }
    assert 0.08 < shares(statuses) < 0.12
    assert 20 < throttling.counts["lost"] < 60


def shares(statuses: Sequence[int]) -> float:
    """Return how many of all answers were refusals."""
    return statuses.count(400) / len(statuses)
