"""The metrics page, read again by the client library's own parsers."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from crrmon.adapters import prometheus
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.catalogue import METRICS
from crrmon.domain.metric import Kind, Metric

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Parser = Callable[[str], Iterable[Family]]
both = pytest.mark.parametrize(
    ("accept", "parser"), [("", parse_text), (OPENMETRICS, parse_openmetrics)], ids=["text", "om"]
)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(meters: PrometheusMeters, accept: str = "", parser: Parser = parse_text) -> Samples:
    """Render and read again; every series stands there once."""
    page, _ = meters.page(accept)
    found: Samples = {}
    for family in parser(page.decode()):
        for one in family.samples:
            series = (one.name, tuple(sorted(one.labels.items())))
            assert series not in found
            found[series] = one.value
    return found


def bucket_of(labels: tuple[tuple[str, str], ...]) -> float:
    """Return the bound of a histogram's series."""
    return float(dict(labels)["le"])


def histogram(found: Samples, name: str) -> tuple[list[float], float, float]:
    """Return the counts of a histogram by bound, its count and its sum."""
    counts = sorted(
        (bucket_of(labels), value)
        for (sample, labels), value in found.items()
        if sample == f"{name}_bucket"
    )
    (count,) = [value for (sample, _), value in found.items() if sample == f"{name}_count"]
    (total,) = [value for (sample, _), value in found.items() if sample == f"{name}_sum"]
    assert counts[-1][0] == float("inf")
    return [value for _, value in counts], count, total


@both
def test_everything_can_be_read_again(accept: str, parser: Parser) -> None:
    """A page with every metric of the catalogue parses in both formats, with kind and help as the catalogue says."""
    meters = PrometheusMeters()
    for metric in METRICS:
        labels = [f"some-{name}" for name in metric.labels]
        match metric.kind:
            case Kind.COUNTER:
                meters.add(metric, *labels, amount=2)
            case Kind.GAUGE:
                meters.set(metric, *labels, value=3)
            case Kind.HISTOGRAM:
                meters.observe(metric, *labels, value=4)

    page, _ = meters.page(accept)
    families = {family.name: family for family in parser(page.decode())}

    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind.value
        assert family.documentation == metric.meaning
        assert family.samples
        for sample in family.samples:
            told = {name: value for name, value in sample.labels.items() if name != "le"}
            assert told == {name: f"some-{name}" for name in metric.labels}
    assert "process_cpu_seconds" in families
    assert "python_info" in families


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text; version=x", "text/plain"),
        ("text/plain; version=;;=,;", "text/plain"),
    ],
)  # fmt: skip
def test_the_format_is_the_one_asked_for(accept: str, content_type: str) -> None:
    """OpenMetrics for whoever asks for it; whoever asks for nonsense gets the old format and no error."""
    assert PrometheusMeters().page(accept)[1].startswith(content_type)


@given(
    st.text(max_size=60)
    | st.text("application/openmetrics-text;version=1.0,q escaping", max_size=60)
)
def test_any_accept_header_gets_a_page(accept: str) -> None:
    """No header makes the page fail."""
    page, content_type = PrometheusMeters().page(accept)
    assert page
    assert content_type


def test_counters_without_labels_are_zero_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that never counted is 0, so that its first increase can be seen; what has labels has no series yet."""
    counter = Metric(name="crrmon_things_total", kind=Kind.COUNTER, meaning="Things.")
    gauge = Metric(name="crrmon_things", kind=Kind.GAUGE, meaning="Things.")
    monkeypatch.setattr(prometheus, "METRICS", (counter, gauge, *METRICS))

    found = samples(PrometheusMeters())

    assert found.pop(("crrmon_things_total", ())) == 0
    unlabelled = {one.name for one in METRICS if one.kind is Kind.COUNTER and not one.labels}
    assert {name for name, _ in found if name.startswith("crrmon_")} == unlabelled


def test_counters_add_and_gauges_are_set() -> None:
    """Series are apart by their labels; a counter sums up, a gauge has its last value."""
    meters = PrometheusMeters()
    meters.add(catalogue.DUPLICATES, "one")
    meters.add(catalogue.DUPLICATES, "one", amount=2)
    meters.add(catalogue.DUPLICATES, "two")
    meters.set(catalogue.MESSAGES_IN_FLIGHT, value=5)
    meters.set(catalogue.MESSAGES_IN_FLIGHT, value=4)
    found = samples(meters)

    assert found["crrmon_objects_duplicate_total", (("source_bucket", "one"),)] == 3
    assert found["crrmon_objects_duplicate_total", (("source_bucket", "two"),)] == 1
    assert found["crrmon_messages_in_flight", ()] == 4


@both
@pytest.mark.parametrize(
    "label", ['a"b', "a\\b", "a\nb", "a\\nb", "\x1b[31m", "😀", "", "{x}", "a b,c=d}", "\\"]
)
def test_any_label_value_can_be_read_again(accept: str, parser: Parser, label: str) -> None:
    """Whatever a bucket or queue is called, its value comes out of the page as it went in."""
    meters = PrometheusMeters()
    meters.add(catalogue.DUPLICATES, label, amount=7)

    found = samples(meters, accept, parser)

    assert found["crrmon_objects_duplicate_total", (("source_bucket", label),)] == 7


weights = st.lists(
    st.tuples(
        st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, 5.0, 172800.0, 172800.5]),
        st.integers(1, 12),
    ),
    max_size=60,
)


@both
@given(weights)
def test_a_histogram_is_whole_and_never_falls(
    accept: str, parser: Parser, observed: list[tuple[float, int]]
) -> None:
    """Values spread by fractional weights: every bucket a whole number, none below the one before, the last is all."""
    meters = PrometheusMeters()
    for value, pieces in observed:
        for piece in range(pieces):
            meters.observe(
                catalogue.LATENCY, "a", "b", value=value / (piece + 1), weight=1 / pieces
            )
    if not observed:
        return

    counts, count, total = histogram(samples(meters, accept, parser), catalogue.LATENCY.name)

    assert all(one == int(one) for one in counts)
    assert counts == sorted(counts)
    assert counts[-1] == count == len(observed)
    exact = sum(v / (p + 1) / pieces for v, pieces in observed for p in range(pieces))
    assert total == pytest.approx(exact)


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    """Bounds include their value, as Prometheus has them."""
    meters = PrometheusMeters()
    for value in (5.0, 5.1):
        meters.observe(catalogue.LATENCY, "a", "b", value=value)
    found = samples(meters)

    def at(bound: float) -> float:
        (value,) = [
            value
            for (name, labels), value in found.items()
            if name == f"{catalogue.LATENCY.name}_bucket" and bucket_of(labels) == bound
        ]
        return value

    assert (at(1), at(5), at(15)) == (0, 1, 2)


def test_many_fractions_do_not_drift() -> None:
    """A hundred thousand thirds of an object are whole objects still."""
    meters = PrometheusMeters()
    for _ in range(300_000):
        meters.observe(catalogue.LATENCY, "a", "b", value=2.0, weight=1 / 3)

    _, count, _ = histogram(samples(meters), catalogue.LATENCY.name)

    assert count == 100_000


def test_invariant_9_fleet_gauges_vanish_when_cleared() -> None:
    """Invariant 9: a cleared gauge has no series any more, not a zero; the others stay; it can come back."""
    meters = PrometheusMeters()
    meters.set(catalogue.MESSAGES_IN_FLIGHT, value=1)
    for metric in METRICS:
        if metric.fleet:
            assert metric.kind is Kind.GAUGE
            meters.set(metric, *("x" for _ in metric.labels), value=1)
            meters.clear(metric)

    names = {name for name, _ in samples(meters)}

    assert not names & {metric.name for metric in METRICS if metric.fleet}
    assert "crrmon_messages_in_flight" in names
    meters.set(catalogue.PENDING_OBJECTS, "a", "b", value=2)
    assert "crrmon_pending_objects" in {name for name, _ in samples(meters)}


@both
def test_invariant_9_a_page_shows_the_fleet_only_while_this_daemon_speaks_for_it(
    accept: str, parser: Parser
) -> None:
    """Invariant 9: asked anew for every page; what is not the fleet's, and what is kept, stays as it is."""
    speaks = False
    meters = PrometheusMeters(shows_fleet=lambda: speaks)
    for metric in METRICS:
        if metric.kind is Kind.GAUGE:
            meters.set(metric, *("x" for _ in metric.labels), value=1)
    fleet = {metric.name for metric in METRICS if metric.fleet}

    without, _ = meters.page(accept)
    assert not {family.name for family in parser(without.decode())} & fleet
    speaks = True
    shown = {name for name, _ in samples(meters, accept, parser)}
    assert fleet <= shown
    speaks = False
    assert {name for name, _ in samples(meters, accept, parser)} == shown - fleet


def test_invariant_7_names_in_messages_do_not_become_series_without_bound() -> None:
    """Invariant 7: further buckets are counted together, their gauges not shown; nothing is lost of the sums."""
    meters = PrometheusMeters()
    many = catalogue.MAX_BUCKETS + 500
    for _ in range(2):
        for number in range(many):
            meters.add(catalogue.NOT_COVERED, f"b{number}", "no_rule")
            meters.set(catalogue.ACCESS_DENIED, f"b{number}", value=1)
    found = samples(meters)

    counted = {
        dict(labels)["source_bucket"]: value
        for (name, labels), value in found.items()
        if name == catalogue.NOT_COVERED.name
    }
    denied = {
        dict(labels)["bucket"] for name, labels in found if name == catalogue.ACCESS_DENIED.name
    }
    assert len(counted) == catalogue.MAX_BUCKETS + 1
    assert sum(counted.values()) == 2 * many
    assert counted["b0"] == 2
    assert counted[catalogue.OTHER_BUCKETS] == 1000
    assert len(denied) == catalogue.MAX_BUCKETS
    assert catalogue.OTHER_BUCKETS not in denied


def test_buckets_of_routes_always_have_their_own_series() -> None:
    """Nonsense that came first takes no place from a bucket of which outcomes are counted."""
    meters = PrometheusMeters()
    for number in range(catalogue.MAX_BUCKETS):
        meters.add(catalogue.HEAD_REQUESTS, f"b{number}", "source", "gone")
    meters.add(catalogue.REPLICATIONS, "src", "dst", "completed")
    meters.add(catalogue.REPLICATIONS, "nonsense", "unknown", "given_up")
    for bucket in ("src", "dst", "nonsense"):
        meters.add(catalogue.HEAD_REQUESTS, bucket, "source", "completed")
    found = samples(meters)

    name = catalogue.HEAD_REQUESTS.name

    def shown(bucket: str) -> tuple[tuple[str, str], ...]:
        return (("bucket", bucket), ("result", "completed"), ("target", "source"))

    assert found[name, shown("src")] == 1
    assert found[name, shown("dst")] == 1
    assert found[name, shown(catalogue.OTHER_BUCKETS)] == 1


def test_r10_one_series_can_be_taken_away_and_makes_room() -> None:
    """R10: what is not known any more has no series; a bucket whose only series is gone leaves its place to another."""
    meters = PrometheusMeters()
    meters.unset(catalogue.QUEUE_AGE, "never set")
    for queue in ("one", "two"):
        meters.set(catalogue.QUEUE_AGE, queue, value=3)
    meters.unset(catalogue.QUEUE_AGE, "one")
    for number in range(catalogue.MAX_BUCKETS):
        meters.set(catalogue.ACCESS_DENIED, f"b{number}", value=1)
    meters.set(catalogue.ACCESS_DENIED, "too many", value=1)
    meters.unset(catalogue.ACCESS_DENIED, "b0")
    meters.set(catalogue.ACCESS_DENIED, "after", value=1)

    found = samples(meters)
    ages = [dict(labels)["queue"] for name, labels in found if name == catalogue.QUEUE_AGE.name]
    assert ages == ["two"]
    denied = {
        dict(labels)["bucket"] for name, labels in found if name == catalogue.ACCESS_DENIED.name
    }
    assert len(denied) == catalogue.MAX_BUCKETS
    assert "after" in denied
    assert not denied & {"b0", "too many"}
