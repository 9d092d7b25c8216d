"""The dashboards name only what there is, and lie as they should."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from artifacts import datadog, grafana, panels
from artifacts.alerts import ALERTS, RULES, RUNBOOK, defaults
from artifacts.panels import (
    COLUMNS,
    ROUTE,
    Panel,
    Row,
    Shape,
    UnknownLabelError,
    placed,
    rate,
    series,
)
from crrmon.domain import catalogue
from crrmon.domain.catalogue import CLOUDWATCH_METRICS, METRICS
from crrmon.domain.metric import Kind, Metric
from crrmon.domain.observations import Sight
from fakes.chart import TOP, render

Json = dict[str, Any]

BY_NAME = {one.name: one for one in METRICS}
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")
SELECTOR = re.compile(r"\b((?:crrmon|process)_[a-z_]+)(?:\{([^}]*)\})?")
RECORDED = re.compile(r"(crrmon:[\w:]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)(=~|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
VARIABLE = re.compile(r"\$\{?(\w+)")
BUILT_IN = {"__rate_interval", "__range", "__range_s", "__all"}
FROM_SCRAPING = {"job", "instance"}


def dashboard() -> Json:
    loaded: Json = json.loads((TOP / grafana.FILES[0]).read_text(encoding="utf-8"))
    return loaded


DASHBOARD = dashboard()
PANELS = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
ROWS = [one for one in DASHBOARD["panels"] if one["type"] == "row"]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def expressions(panel: Json) -> Iterator[str]:
    for target in panel["targets"]:
        yield target["expr"]


def metric_of(name: str) -> tuple[Metric, str]:
    """Find the metric of a series by its name, and which part of a histogram it is."""
    if name in BY_NAME and BY_NAME[name].kind is not Kind.HISTOGRAM:
        return BY_NAME[name], ""
    for part in HISTOGRAM_PARTS:
        metric = BY_NAME.get(name.removesuffix(part))
        if metric is not None and name.endswith(part) and metric.kind is Kind.HISTOGRAM:
            return metric, part
    raise AssertionError(f"{name} is not in the catalogue")


def words_of(metric: Metric, label: str) -> set[str]:
    """Return the values that a label may have, as the catalogue tells them."""
    if label == "result" and metric is catalogue.HEAD_REQUESTS:
        return {one.value for one in Sight}
    return set(re.findall(r"\w+", metric.meaning))


def check_matchers(metric: Metric, matchers: str) -> None:
    assert re.fullmatch(rf"(?:{MATCHER.pattern}(?:, |$))*", matchers), matchers
    for label, how, value in MATCHER.findall(matchers):
        assert label in {*metric.labels, *FROM_SCRAPING}, (metric.name, label)
        if "$" in value:
            assert how == "=~", "a variable of several values is a regular expression"
        else:
            assert set(value.split("|")) <= words_of(metric, label), (metric.name, label, value)
            assert how == ("=~" if "|" in value else "=")


def check_recorded(expression: str, legend: str) -> None:
    """See that a rule records what a query asks for, with these labels, and that the variables narrow it down."""
    found = RECORDED.fullmatch(expression)
    assert found is not None, expression
    assert [rule for rule in RULES if rule.record == found[1]]
    matchers = {label: value for label, _, value in MATCHER.findall(found[2])}
    assert matchers.keys() == {"job", *ROUTE, "slo"}
    assert matchers["slo"] in {rule.labels.get("slo") for rule in RULES}
    assert set(re.findall(r"{{(\w+)}}", legend)) <= set(ROUTE)


# ---- Grafana ----


@each_panel
def test_every_name_in_a_query_exists(panel: Json) -> None:
    """Metrics, labels and the values of labels are the catalogue's."""
    for target in panel["targets"]:
        expression = target["expr"]
        if expression.startswith("crrmon:"):
            check_recorded(expression, target["legendFormat"])
            continue
        selected = SELECTOR.findall(expression)
        assert selected
        labels = set(FROM_SCRAPING)
        for name, matchers in selected:
            if name in grafana.CLIENT_METRICS:
                assert {label for label, _, _ in MATCHER.findall(matchers)} <= FROM_SCRAPING
                continue
            metric, part = metric_of(name)
            check_matchers(metric, matchers)
            labels |= {*metric.labels, *(("le",) if part == "_bucket" else ())}
        for group in GROUPING.findall(expression):
            assert set(filter(None, re.split(r", *", group))) <= labels, expression
        kept = set(FROM_SCRAPING) if "sum" not in expression else set()
        kept |= {one for group in GROUPING.findall(expression) for one in re.split(r", *", group)}
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, expression


@each_panel
def test_every_query_obeys_the_variables(panel: Json) -> None:
    """What is chosen at the top of the dashboard narrows every series down."""
    for expression in expressions(panel):
        for name, matchers in SELECTOR.findall(expression):
            narrowed = {
                label for label, _, value in MATCHER.findall(matchers) if value.startswith("$")
            }
            assert "job" in narrowed, expression
            if name not in grafana.CLIENT_METRICS:
                metric, _ = metric_of(name)
                assert {"source_bucket", "destination_bucket", "bucket"} & {
                    *metric.labels
                } <= narrowed


def test_every_metric_is_shown() -> None:
    """Each metric is on a panel, or there is a reason why it is on none."""
    shown = {
        metric_of(name)[0]
        for panel in PANELS
        for expression in expressions(panel)
        for name, _ in SELECTOR.findall(expression)
        if name not in grafana.CLIENT_METRICS
    }
    assert shown | set(grafana.NOT_SHOWN) == set(METRICS)
    assert not shown & set(grafana.NOT_SHOWN)
    assert all(grafana.NOT_SHOWN.values())


@each_panel
def test_counters_are_summed_and_gauges_of_the_fleet_are_not(panel: Json) -> None:
    """Counters are of one process; what one replica tells for all would count double after it moved to another one."""
    for expression in expressions(panel):
        for name, _ in SELECTOR.findall(expression):
            if name in grafana.CLIENT_METRICS:
                continue
            metric, _ = metric_of(name)
            if metric.kind is not Kind.GAUGE:
                assert re.search(r"\b(rate|increase)\(", expression), expression
                assert "sum" in expression, expression
            elif metric.fleet and f"0 * sum by ({', '.join(metric.labels)})" not in expression:
                first = re.search(rf"(\w+)(?: by \([^)]*\))? \({name}|(\w+)\({name}", expression)
                assert first is not None, expression
                assert (first[1] or first[2]) in {"max", "min", "sum"}, expression


def test_panels_fill_the_grid_without_overlap() -> None:
    """24 columns, nothing upon another thing, and nothing that floats."""
    taken: dict[tuple[int, int], str] = {}
    for one in DASHBOARD["panels"]:
        grid = one["gridPos"]
        assert grid["x"] >= 0
        assert grid["x"] + grid["w"] <= COLUMNS == 24
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert (x, y) not in taken, (one["title"], taken.get((x, y)))
                taken[x, y] = one["title"]
    height = 1 + max(y for _, y in taken)
    assert all((x, y) in taken for x in range(COLUMNS) for y in range(height)), "there is a hole"


def test_rows_are_in_order() -> None:
    """Panels stand below the heading that they belong to."""
    assert [row["title"] for row in ROWS] == [
        "Overview",
        "Objectives",
        "Pending",
        "Failures",
        "Latency",
        "Ingest",
        "Looking",
        "Ledger and reporting",
        "Coverage and configuration",
        "Daemon",
    ]
    places = [(one["gridPos"]["y"], one["gridPos"]["x"], one["id"]) for one in DASHBOARD["panels"]]
    assert places == sorted(places)
    for above, below in pairwise([*ROWS, None]):
        inside = [
            one["id"]
            for one in PANELS
            if one["gridPos"]["y"] > above["gridPos"]["y"]
            and (below is None or one["gridPos"]["y"] < below["gridPos"]["y"])
        ]
        assert inside
        assert {one // 100 * 100 for one in inside} == {above["id"]}


def test_numbers_and_titles_are_unique() -> None:
    """Links and readers tell panels apart."""
    numbers = [one["id"] for one in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    titles = [one["title"] for one in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))


@each_panel
def test_every_panel_says_what_to_do(panel: Json) -> None:
    """A description in sentences, a unit, and a word for no number."""
    assert len(panel["description"]) > 60
    assert panel["description"].endswith(".")
    assert "  " not in panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] != ""
    assert panel["fieldConfig"]["defaults"]["noValue"]


def test_every_alert_has_a_panel() -> None:
    """Whoever is woken by an alert finds where to look."""
    told = [re.findall(r" More in (\S+): (.+)\.$", panel["description"]) for panel in PANELS]
    named = {name for ((page, names),) in filter(None, told) for name in names.split(", ")}
    assert {one.alert for one in ALERTS} == named
    assert {page for ((page, _),) in filter(None, told)} == {RUNBOOK}


def test_variables_are_defined_and_used() -> None:
    """No query asks for a variable that is not there, and none is there for nothing."""
    defined = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(VARIABLE.findall(json.dumps(DASHBOARD))) - BUILT_IN
    assert used == defined


def test_variables_ask_for_what_exists() -> None:
    """Their values come from metrics and labels of the catalogue."""
    asking = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    assert len(asking) == 3
    for variable in asking:
        ((name, matchers),) = SELECTOR.findall(variable["definition"])
        check_matchers(BY_NAME[name], matchers)
        label = variable["definition"].removesuffix(")").rpartition(", ")[2]
        assert label == variable["name"]
        assert label in {*BY_NAME[name].labels, *FROM_SCRAPING}


def test_tables_name_all_their_columns() -> None:
    """No column is called `Value #A`, and units belong to columns that are there."""
    tables = [one for one in PANELS if one["type"] == "table"]
    assert len(tables) == 5
    for table in tables:
        (organize,) = (
            one["options"] for one in table["transformations"] if one["id"] == "organize"
        )
        values = [f"Value #{one['refId']}" for one in table["targets"]]
        renamed = organize["renameByName"]
        assert set(values if len(values) > 1 else ["Value"]) <= set(renamed)
        for override in table["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in renamed.values()
        assert all(
            target["instant"] and target["format"] == "table" for target in table["targets"]
        )


def test_the_dashboard_is_the_same_each_time() -> None:
    """A change of it is a change of what it is made from."""
    assert grafana.files() == grafana.files()
    assert len(set(grafana.files().values())) == 1
    assert set(panels.Shape) == {Shape(one["type"]) for one in PANELS}


def test_the_catalogue_refuses_what_does_not_exist() -> None:
    """A label that a metric does not have ends the making of the dashboard."""
    with pytest.raises(UnknownLabelError, match="crrmon_head_requests_total has no label status"):
        series(catalogue.HEAD_REQUESTS, status="denied")
    with pytest.raises(UnknownLabelError, match="crrmon_head_requests_total has no label queue"):
        rate(catalogue.HEAD_REQUESTS, "queue")


def test_a_line_that_is_full_begins_a_new_one() -> None:
    """Panels flow from left to right; the next row begins below the highest."""
    query = (panels.Query(expression="vector(1)"),)
    wide = [
        Panel(number=at, title=f"{at}", description="", queries=query, width=12, height=height)
        for at, height in enumerate((4, 6, 5), 1)
    ]
    rows = (
        Row(number=10, title="first", panels=tuple(wide)),
        Row(number=20, title="second", panels=()),
    )
    places = [(place.x, place.y) for _, place in placed(rows)]
    assert places == [(0, 0), (0, 1), (12, 1), (0, 7), (0, 12)]


# ---- the chart ----


def test_the_chart_ships_the_dashboard_when_asked() -> None:
    """A ConfigMap with the text as it is, legends in braces included, and the label that a sidecar looks for."""
    values = {
        "dashboards": {
            "enabled": True,
            "namespace": "grafana",
            "labelKey": "find_me",
            "labelValue": "yes",
            "annotations": {"folder": "Storage"},
        }
    }
    # Sidecars put the files of all releases into one folder.
    file = "watch-demo-crrmon.json"
    (found,) = (one for one in render(values).of("ConfigMap") if file in one["data"])
    text = (TOP / grafana.FILES[1]).read_text(encoding="utf-8")
    assert found["data"][file] == text.strip()
    assert json.loads(found["data"][file]) == DASHBOARD
    assert found["metadata"]["namespace"] == "grafana"
    assert found["metadata"]["labels"]["find_me"] == "yes"
    assert found["metadata"]["annotations"] == {"folder": "Storage"}
    assert not [one for one in render().of("ConfigMap") if file in one["data"]]


def test_the_chart_tells_the_agent_what_the_dashboard_rests_on() -> None:
    """The annotation of the pods is the check, with the chart's port and what the values lay over it."""
    name = "ad.datadoghq.com/crrmon.checks"
    told = json.loads(render({"datadog": {"enabled": True}}).pod["metadata"]["annotations"][name])
    assert told == datadog.check()
    values = {"datadog": {"enabled": True, "instance": {"tags": ["team:storage"]}}}
    told = json.loads(render(values).pod["metadata"]["annotations"][name])
    (instance,) = told["openmetrics"]["instances"]
    (own,) = datadog.check()["openmetrics"]["instances"]
    assert instance == own | {"tags": ["team:storage"]}
    assert name not in render().pod["metadata"].get("annotations", {})


def test_the_chart_gives_the_pods_datadogs_tags_and_names_the_source_of_their_logs() -> None:
    """Service, version and environment, as labels; what the user's labels say goes before, and without Datadog there are none."""
    tags = "tags.datadoghq.com/"
    pod = render(
        {
            "datadog": {"enabled": True, "env": "prod"},
            "podLabels": {f"{tags}service": "crr"},
        }
    ).pod
    told = {
        name.removeprefix(tags): value
        for name, value in pod["metadata"]["labels"].items()
        if name.startswith(tags)
    }
    logs = json.loads(pod["metadata"]["annotations"]["ad.datadoghq.com/crrmon.logs"])

    assert told == {
        "service": "crr",
        "version": pod["metadata"]["labels"]["app.kubernetes.io/version"],
        "env": "prod",
    }
    assert logs == [{"source": "crrmon", "service": "crrmon"}]
    assert not any(name.startswith(tags) for name in render().pod["metadata"]["labels"])


def test_datadog_agent_takes_more_series_than_it_does_by_itself() -> None:
    """2,000 are 40 routes; what is beyond would be missing without a word."""
    (instance,) = datadog.check()["openmetrics"]["instances"]
    routes, series_of_a_route = 400, 50

    assert instance["max_returned_metrics"] >= routes * series_of_a_route


# ---- Datadog ----

DATADOG = {
    way: json.loads((TOP / path).read_text(encoding="utf-8"))
    for way, path in datadog.FILES.items()
}
AGENT_TAGS = {
    datadog.agent_name(one): {datadog.agent_tag(label) for label in one.labels} for one in METRICS
}
CLOUDWATCH_TAGS = {
    datadog.cloudwatch_name(one, statistic): {
        datadog.cloudwatch_tag(dimension) for dimension in one.dimensions
    }
    for one in CLOUDWATCH_METRICS
    for statistic in ("average", "sum", "maximum")
}
NAMES = {"cloudwatch": CLOUDWATCH_TAGS, "openmetrics": AGENT_TAGS}
DATADOG_QUERY = re.compile(
    r"(?P<over>\w+):(?P<metric>[\w.]+?)\{(?P<filters>[^}]*)\}"
    r"(?: by \{(?P<by>[^}]*)\})?(?P<function>\.\w+\(\w*\))?"
)
ways = pytest.mark.parametrize("way", DATADOG)


def groups(way: str) -> list[Json]:
    return [one["definition"] for one in DATADOG[way]["widgets"]]


def datadog_queries(way: str) -> Iterator[tuple[Json, str]]:
    for group in groups(way):
        for widget in group["widgets"]:
            for request in widget["definition"].get("requests", ()):
                for query in [*request.get("queries", ()), *filter(None, [request.get("query")])]:
                    yield widget["definition"], query["query"]


def check_datadog_query(text: str, names: dict[str, set[str]], variables: set[str]) -> str:
    """Look whether a query's names are there, and return the metric's."""
    parsed = DATADOG_QUERY.fullmatch(text)
    assert parsed is not None, text
    tags = names[parsed["metric"]]
    assert set(filter(None, (parsed["by"] or "").split(","))) <= tags, text
    filters = re.sub(  # each value of a list on its own
        r"(\w+) IN \((.*?)\)",
        lambda one: ",".join(f"{one[1]}:{value}" for value in one[2].split(",")),
        parsed["filters"],
    )
    for one in filters.split(","):
        if one.startswith("$"):
            assert one[1:] in variables, text
            assert one[1:] in tags, text
        elif one != "*":
            tag, _, value = one.partition(":")
            assert tag in tags, text
            metric = next(one for one in METRICS if datadog.agent_name(one) == parsed["metric"])
            assert value in words_of(metric, tag), text
    return parsed["metric"]


@ways
def test_datadog_every_name_in_a_query_exists(way: str) -> None:
    """Metrics, tags and their values are the catalogue's, under Datadog's names; every route obeys the variables."""
    variables = {one["name"] for one in DATADOG[way]["template_variables"]}
    asked = list(datadog_queries(way))
    assert len(asked) > 15
    for _, text in asked:
        metric = check_datadog_query(text, NAMES[way], variables)
        for one in NAMES[way][metric] & variables:
            assert f"${one}" in text, text


@ways
def test_datadog_numbers_are_aggregated_as_they_must_be(way: str) -> None:
    """Counts are counts, distributions are asked for values, and gauges for neither."""
    kinds = {datadog.agent_name(one): one.kind for one in METRICS}
    happened = {
        datadog.cloudwatch_name(one)
        for one, statistic in datadog.STATISTICS.items()
        if statistic == "sum"
    }
    for _, text in datadog_queries(way):
        parsed = DATADOG_QUERY.fullmatch(text)
        assert parsed is not None
        if way == "openmetrics":
            counter = kinds[parsed["metric"]] is Kind.COUNTER
            assert (parsed["function"] == ".as_count()") == counter, text
            histogram = kinds[parsed["metric"]] is Kind.HISTOGRAM
            assert (parsed["over"] not in {"sum", "max", "min"}) == histogram, text
        else:
            assert (parsed["function"] == ".rollup(sum)") == (parsed["metric"] in happened), text


def test_datadog_shows_all_that_cloudwatch_has() -> None:
    """Each CloudWatch metric is on the dashboard."""
    named = [text for _, text in datadog_queries("cloudwatch")]
    for metric in CLOUDWATCH_METRICS:
        assert any(f"{datadog.cloudwatch_name(metric)}{{" in text for text in named), metric.name


@ways
def test_datadog_widgets_fill_twelve_columns(way: str) -> None:
    """Nothing overlaps and nothing stands out, among groups as within each; groups are as high as what they hold."""
    check_layout([one["layout"] for one in DATADOG[way]["widgets"]])
    for outer in DATADOG[way]["widgets"]:
        inner = [one["layout"] for one in outer["definition"]["widgets"]]
        check_layout(inner)
        assert outer["layout"]["height"] == 1 + max(one["y"] + one["height"] for one in inner)


def check_layout(layouts: list[dict[str, int]]) -> None:
    taken = [
        (x, y)
        for one in layouts
        for x in range(one["x"], one["x"] + one["width"])
        for y in range(one["y"], one["y"] + one["height"])
    ]
    assert len(taken) == len(set(taken))
    assert {x for x, _ in taken} == set(range(12))
    assert len(taken) == 12 * (1 + max(y for _, y in taken))


@ways
def test_datadog_formulas_use_their_queries(way: str) -> None:
    """A formula names queries of its own request, each of them once at least, and titles tell widgets apart."""
    titles = []
    for group in groups(way):
        assert group["widgets"][0]["definition"]["type"] == "note"
        for widget in group["widgets"][1:]:
            titles.append(widget["definition"]["title"])
            for request in widget["definition"]["requests"]:
                names = {one["name"] for one in request.get("queries", ())}
                used = {
                    name
                    for one in request.get("formulas", ())
                    for name in re.findall(r"\b[a-z]\b", one["formula"])
                }
                assert used == names
                scalar = request.get("response_format") == "scalar"
                assert all(("aggregator" in one) == scalar for one in request.get("queries", ()))
    assert len(titles) == len(set(titles))


def test_datadog_names_are_unique() -> None:
    """No two metrics become one in Datadog."""
    assert len(AGENT_TAGS) == len(METRICS)
    assert len(CLOUDWATCH_TAGS) == 3 * len(CLOUDWATCH_METRICS)
    assert set(datadog.STATISTICS) == set(CLOUDWATCH_METRICS)
    assert datadog.cloudwatch_name(catalogue.CW_OBJECTS) == "crrmonitor.ReplicationObjects.sum"
    assert datadog.agent_name(catalogue.REPLICATIONS) == "crrmon.replications.count"
    assert datadog.agent_name(catalogue.LATENCY) == "crrmon.replication_latency_seconds"
    assert datadog.agent_name(catalogue.OLDEST_PENDING) == "crrmon.oldest_pending_age_seconds"


def test_datadog_agent_makes_ages_of_all_moments() -> None:
    """A date does not fit into Datadog's numbers, so none may get there."""
    (instance,) = datadog.check()["openmetrics"]["instances"]
    elapsed = {
        name: to["name"]
        for one in instance["metrics"]
        if isinstance(one, dict)
        for name, to in one.items()
        if to["type"] == "time_elapsed"
    }
    moments = [one for one in METRICS if "timestamp" in one.name]
    assert len(moments) == 8
    assert elapsed == {
        one.name.removeprefix("crrmon_"): datadog.agent_name(one).removeprefix("crrmon.")
        for one in moments
    }


def test_datadog_the_page_names_what_there_is() -> None:
    """The monitors of docs/datadog.md are JSON, and ask for metrics and tags that exist."""
    page = (TOP / datadog.PAGE).read_text(encoding="utf-8")
    blocks = [json.loads(one) for one in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert datadog.check() in blocks
    told = [one for block in blocks if isinstance(block, list) for one in block if "query" in one]
    monitors = [one for one in told if one["type"] == "query alert"]
    assert len(monitors) == 13
    runbook = {one.alert.lower() for one in ALERTS}
    for monitor in monitors:
        way = "cloudwatch" if "crrmonitor." in monitor["query"] else "openmetrics"
        query = re.fullmatch(
            r"\w+\(last_\d+[mh]\):(.*) [<>] ([\d.]+)", monitor["query"]
        )  # fmt: skip
        assert query is not None
        metric = check_datadog_query(query[1], NAMES[way], set())
        assert float(query[2]) == monitor["options"]["thresholds"]["critical"]
        tags = set(re.findall(r"{{(\w+)\.name}}", monitor["message"]))
        assert tags <= NAMES[way][metric]
    for monitor in told:
        if monitor["type"] != "metric":
            (alert,) = re.findall(r"Runbook: (\w+)\.$", monitor["message"])
            assert alert in runbook
            assert monitor["tags"] == ["service:crrmon"]
            assert monitor["priority"] in (1, 4)


def test_datadog_objectives_are_those_of_the_rules() -> None:
    """Good events over all events, of metrics that exist, with the same targets and the same burn rates."""
    page = (TOP / datadog.PAGE).read_text(encoding="utf-8")
    blocks = [json.loads(one) for one in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    told = [one for block in blocks if isinstance(block, list) for one in block if "query" in one]
    targets = {}
    for objective in (one for one in told if one["type"] == "metric"):
        for query in objective["query"].values():
            for part in re.split(r" [+-] ", query):
                check_datadog_query(part, AGENT_TAGS, set())
        (threshold,) = objective["thresholds"]
        targets[objective["name"].rpartition(": ")[2]] = threshold["target"]
    burns = [
        re.fullmatch(
            r'burn_rate\("(\w+)"\)\.over\("30d"\)\.long_window\("(\w+)"\)\.short_window\("(\w+)"\) > ([\d.]+)',
            one["query"],
        )
        for one in told
        if one["type"] == "slo alert"
    ]

    assert targets == {
        "replicated": 100 * defaults()["slo.replicated"],
        "on time": 100 * defaults()["slo.onTime"],
    }
    assert [one.groups() for one in burns if one] == [
        (name, *how)
        for name in ("REPLICATED", "ON_TIME")
        for how in (("1h", "5m", "14.4"), ("6h", "30m", "6"))
    ]
