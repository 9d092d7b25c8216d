"""What following replication costs: each item by itself, and what no item may hide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment import prices
from crrmon.domain.deployment.cost import Amount, Item, Usage, bill, bills, total
from crrmon.domain.deployment.sources import Source

MILLION_A_MONTH = 1e6 / 30


def usage(**changes: object) -> Usage:
    """Return a million objects a month from one bucket to one other."""
    told = {"objects_per_day": MILLION_A_MONTH, "buckets": 1, "routes": 1}
    return Usage(**(told | changes))  # type: ignore[arg-type]


def item(name: str, of: Usage, source: Source = Source.NOTIFICATIONS) -> Item:
    """Return an item of a bill."""
    (found,) = [one for one in bill(of, source) if one.name == name]
    return found


def amount(least: float, most: float | None = None) -> object:
    """Return what an amount is compared with."""
    most = least if most is None else most
    return pytest.approx((least, most), abs=0.005)


def pair(of: Amount) -> tuple[float, float]:
    """Return the least and the most."""
    return of.least, of.most


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Source.NOTIFICATIONS, amount(0.0)),
        (Source.EVENTBRIDGE, amount(1.0)),
        (Source.CLOUDTRAIL, amount(1.0, 2.0)),
    ],
)
def test_events(source: Source, expected: object) -> None:
    """Notifications are free; what AWS does not say is told as a range, not left out."""
    assert pair(item("events", usage(), source).amount) == expected


def test_events_of_destinations_count_as_well() -> None:
    """With two destinations, each object has three events."""
    both = usage(routes=2, arrivals=True)

    assert pair(item("events", both, Source.EVENTBRIDGE).amount) == amount(3.0)
    assert pair(item("SQS", both).amount) == amount(3 * 1.2 * 0.40)
    assert pair(item("HEAD requests", both).amount) == pair(item("HEAD requests", usage()).amount)


def test_heads() -> None:
    """The more, the longer replication takes."""
    assert pair(item("HEAD requests", usage()).amount) == amount(1.27 * 0.40, 1.91 * 0.40)


def test_a_table_is_paid_for_only_where_it_is_the_ledger() -> None:
    """Its units, what it stores, and what it costs while nothing happens."""
    assert "DynamoDB" not in [one.name for one in bill(usage(), Source.NOTIFICATIONS)]

    idle = item("DynamoDB", usage(objects_per_day=0.0, dynamodb=True)).amount
    busy = item("DynamoDB", usage(dynamodb=True)).amount

    assert pair(idle) == amount(3.45)
    stored = MILLION_A_MONTH * 4 * 328 / 1e9 * 0.25
    assert busy.least == pytest.approx(
        idle.least + stored + prices.of_units(3.09e6, 1.40e6), abs=0.005
    )
    assert busy.most == pytest.approx(
        idle.most + stored + prices.of_units(8.83e6, 3.82e6), abs=0.005
    )


def test_metrics_and_alarms() -> None:
    """Both go by what there is, not by how many objects there are."""
    many = usage(buckets=10, routes=20, alarms=3, alarms_of_all=1)

    assert pair(item("metrics", many).amount) == amount((9 * 20 + 2 * 10 + 2) * 0.30)
    assert pair(item("alarms", many).amount) == amount((3 + 10) * 0.10)


def test_many_metrics_are_cheaper() -> None:
    """Beyond ten thousand, each costs a third."""
    assert prices.of_metrics(10_000) == pytest.approx(3000.0)
    assert prices.of_metrics(10_001) == pytest.approx(3000.1)


@given(
    objects=st.floats(0, 1e9),
    buckets=st.integers(1, 500),
    copies=st.integers(1, 3),
    arrivals=st.booleans(),
    dynamodb=st.booleans(),
)
def test_every_bill(
    objects: float, buckets: int, copies: int, *, arrivals: bool, dynamodb: bool
) -> None:
    """No item is negative or least above most; notifications are never dearer than another way."""
    of = usage(
        objects_per_day=objects,
        buckets=buckets,
        routes=copies * buckets,
        arrivals=arrivals,
        dynamodb=dynamodb,
    )
    all_bills = bills(of)

    for items in all_bills.values():
        assert all(0 <= one.amount.least <= one.amount.most for one in items)
    totals = {source: total(items) for source, items in all_bills.items()}
    assert totals[Source.NOTIFICATIONS].most <= totals[Source.EVENTBRIDGE].most
    assert totals[Source.NOTIFICATIONS].least <= totals[Source.CLOUDTRAIL].least


def test_no_bucket_costs_no_division() -> None:
    """Before anything is discovered, there is nothing to pay for."""
    nothing = usage(objects_per_day=0.0, buckets=0, routes=0, arrivals=True)

    assert total(bill(nothing, Source.EVENTBRIDGE)).least == pytest.approx(2 * 0.30)
