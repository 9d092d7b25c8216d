"""From deltas to the datapoints of windows."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain import windows
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta, Tally, fold
from crrmon.domain.windows import Pulse, Standing

A, B = Route("src-a", "dst-a"), Route("src-b", "dst-b")


def named(datums: list[dict], name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(one["Value"] for one in datum["Dimensions"]): datum["Value"]
        for datum in datums
        if datum["MetricName"] == name
    }


def delta(at: float, route: Route, **counts: object) -> Delta:
    return Delta(id=f"c{at}", settled_at=at, tallies=((route, Tally(**counts)),))


def test_d38_zeros_are_sent_for_every_known_bucket() -> None:
    """D38: a window without any object still has a zero for each known source and route."""
    datums = windows.datapoints(300.0, {}, routes=[A], sources=["src-c"])

    assert named(datums, "FailedReplications") == {("src-a",): 0, ("src-c",): 0}
    assert named(datums, "ReplicationObjects") == {("src-a", "dst-a"): 0}
    assert named(datums, "ReplicationSpeed") == {}


def test_d39_d40_metrics_have_units_and_latencies_as_values_and_counts() -> None:
    """D39, D40: units everywhere, percentiles possible, speed in bytes per second without a +1."""
    tally = Tally(
        completed=2, bytes=600, timed=2, timed_bytes=600, seconds=30.0, latency={10: 1.5, 12: 0.5}
    )
    datums = windows.datapoints(300.0, {A: tally}, routes=[A], sources=[])

    assert all(datum["Unit"] for datum in datums)
    assert named(datums, "ReplicationSpeed") == {("src-a", "dst-a"): 20.0}
    latency = next(one for one in datums if one["MetricName"] == "ReplicationLatency")
    assert latency["Counts"] == [1.5, 0.5]
    assert len(latency["Values"]) == 2
    assert "Value" not in latency


def test_failures_of_a_source_are_one_datapoint() -> None:
    """Failed versions carry no destination; they add up by source bucket."""
    tallies = {Route("src-a", ""): Tally(failed=3), A: Tally(completed=1)}
    datums = windows.datapoints(0.0, tallies, routes=[A], sources=["src-a"])

    assert named(datums, "FailedReplications") == {("src-a",): 3}
    assert named(datums, "ReplicationObjects") == {("src-a", "dst-a"): 1}


def test_late_replications_are_counted_for_every_route() -> None:
    """What took longer than 15 minutes has a datapoint per route and window; zero where nothing did."""
    datums = windows.datapoints(300.0, {A: Tally(completed=3, late=2)}, routes=[A, B], sources=[])

    assert named(datums, "LateReplications") == {
        ("src-a", "dst-a"): 2,
        ("src-b", "dst-b"): 0,
    }


def test_what_has_an_unknown_end_makes_no_datapoint_of_its_own() -> None:
    """A delete marker from nobody knows where, or a version that goes nobody knows where, names no bucket."""
    tallies = {
        Route("unknown", "dst-a"): Tally(markers_arrived=2),
        Route("src-a", "unknown"): Tally(gone=1),
        A: Tally(markers=1),
    }
    datums = windows.datapoints(300.0, tallies, routes=[A], sources=[])

    assert datums == windows.datapoints(300.0, {}, routes=[A], sources=[])
    assert not any("unknown" in str(one) for one in datums)


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.integers(0, 5), st.integers(0, 5)), max_size=30
    ),
    st.lists(st.sampled_from([A, B]), max_size=2),
)
def test_one_datapoint_per_metric_and_window(
    counts: list[tuple[Route, int, int]], routes: list[Route]
) -> None:
    """Whatever is folded, no metric appears twice with the same dimensions, and counts add up."""
    given_ones = [
        delta(float(number), route, completed=done, failed=failed)
        for number, (route, done, failed) in enumerate(counts)
    ]
    datums = windows.datapoints(0.0, fold(given_ones), routes=routes, sources=["src-a"])
    datums += windows.standing_datapoints(
        0.0, {A: Standing(pending_objects=1)}, routes=routes, now=5.0
    )
    datums += windows.pulse_datapoints(0.0, Pulse(monitor="m", queue_age=1.0))

    identities = [msgspec.json.encode([one["MetricName"], one["Dimensions"]]) for one in datums]
    assert len(set(identities)) == len(identities)
    assert sum(done for _, done, _ in counts) == sum(named(datums, "ReplicationObjects").values())
    assert sum(failed for *_, failed in counts) == sum(
        named(datums, "FailedReplications").values()
    )


def test_the_open_window_is_left_out() -> None:
    """What was settled in the slot that is still open waits for its end."""
    ready = windows.by_window(
        [delta(650.0, A)], closing=300.0, last_frozen=None, window_seconds=300
    )
    assert ready == {}


def test_late_work_goes_into_the_window_that_is_closing() -> None:
    """A delta to a window that is frozen already lands in the next; others keep their own start."""
    late, crashed, own = delta(310.0, A), delta(700.0, A), delta(950.0, A)
    ready = windows.by_window(
        [late, crashed, own], closing=900.0, last_frozen=300.0, window_seconds=300
    )
    assert {600.0: [crashed], 900.0: [late, own]} == ready
    assert list(ready) == [600.0, 900.0]


def test_parts_hold_as_much_as_a_call_may() -> None:
    """D39: datapoints are packed up to the API's limits, in order, and none is lost."""
    datums = windows.datapoints(
        0.0, {}, routes=[Route(f"src-{n}", f"dst-{n}") for n in range(900)], sources=[]
    )
    packed = windows.parts(datums)

    assert [len(msgspec.json.decode(part)) for part in packed] == [1000, 1000, 1000, 1000, 500]
    assert datums == [one for part in packed for one in msgspec.json.decode(part)]
    assert all(len(part) <= windows.PART_BYTES + 2 for part in packed)


def test_nothing_makes_no_part() -> None:
    """Without datapoints there is nothing to send."""
    assert windows.parts([]) == ()
