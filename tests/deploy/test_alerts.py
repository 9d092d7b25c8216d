"""The alerts: they name what exists, they fire when they must and only then, and the runbook knows each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from artifacts.__main__ import TOP
from artifacts.alerts import (
    ALERTS,
    CLIENT_METRICS,
    INSTALLATION,
    PLAIN_FILE,
    RUNBOOK,
    THRESHOLDS,
    Alert,
    files,
)
from crrmon.config import keys
from crrmon.domain import catalogue
from crrmon.domain.catalogue import METRICS, Kind, Metric
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Fate
from fakes.prometheus_server import promtool

CHART = TOP / "helm" / "crrmon"
HERE = Path(__file__).parent
CASES = (HERE / "rules.test.yaml", HERE / "rules-week.test.yaml")
RUNBOOK_FILE = TOP / "docs" / "runbook.md"
SOURCES = TOP / "src" / "crrmon"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"

NAMES = [alert.name for alert in ALERTS]
every_alert = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)

# ---- reading expressions ----

TOKEN = re.compile(
    r'\s*(?:(?P<text>"[^"]*")|(?P<duration>\d+[smhdw]\b)|(?P<number>\d+(?:\.\d+)?)|(?P<limit>@\w+@)'
    r"|(?P<word>[a-zA-Z_:][\w:]*)|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=(){}\[\],:]))"
)
FUNCTIONS = {
    *(
        "absent_over_time",
        "changes",
        "resets",
        "histogram_quantile",
        "increase",
        "last_over_time",
        "max_over_time",
    ),
    *("min_over_time", "rate", "time"),
}
AGGREGATIONS = {"group", "max", "min", "sum"}
OPERATORS = {"and", "or", "unless", "offset"}
GROUPINGS = {"by", "on", "group_left"}
OPENING, CLOSING, END = "{", "}", ")"
SERIES_SUFFIXES = ("_bucket", "_count", "_sum")


def tokens(expression: str) -> list[str]:
    """
    Split an expression; whatever this does not understand is an error.
    """
    found, place = [], 0
    while place < len(expression):
        match = TOKEN.match(expression, place)
        assert match, f"not understood: {expression[place : place + 40]!r}"
        found.append(match[0].strip())
        place = match.end()
    return found


class Read:
    """
    What an expression names.

    Args:
        expression: of an alert.
    """

    def __init__(self, expression: str) -> None:
        self.series: set[str] = set()
        self.matchers: set[tuple[str, str, str]] = set()
        """Series, label, value."""
        self.grouped: set[str] = set()
        self.limits: set[str] = set()
        self._left = iter(tokens(expression))
        last = ""
        for token in self._left:
            if token == OPENING:
                self._take_matchers(last)
            elif token in GROUPINGS:
                self._take_labels()
            elif token.startswith("@"):
                self.limits.add(token.strip("@"))
            elif re.match(r"[a-zA-Z_]", token) and token not in (
                FUNCTIONS | AGGREGATIONS | OPERATORS
            ):
                self.series.add(token)
            last = token

    def _take_matchers(self, series: str) -> None:
        label = ""
        for token in self._left:
            if token == CLOSING:
                return
            if token.startswith('"'):
                for value in token.strip('"').split("|"):
                    self.matchers.add((series, label, value))
            elif re.match(r"\w", token):
                label = token

    def _take_labels(self) -> None:
        for token in self._left:
            if token == END:
                return
            if re.match(r"\w", token):
                self.grouped.add(token)


def metric_of(series: str) -> Metric:
    """
    Find the catalogue's metric that a series belongs to.
    """
    for metric in METRICS:
        histogram = metric.kind is Kind.HISTOGRAM
        names = (
            [metric.name + suffix for suffix in SERIES_SUFFIXES] if histogram else [metric.name]
        )
        if series in names:
            return metric
    raise AssertionError(f"there is no series {series}")


def metrics_of(expression: str) -> set[Metric]:
    """
    Find all metrics of ours that an expression names.
    """
    return {metric_of(series) for series in Read(expression).series - set(CLIENT_METRICS)}


def known_values(metric: Metric, label: str) -> set[str]:
    """
    Tell the values that the daemon gives a label: by its own words, else by what the metric's meaning lists.
    """
    if label == "loop":
        told = "".join(path.read_text() for path in SOURCES.glob("services/*.py"))
        return set(re.findall(r'began\("(\w+)"', told))
    if metric in (catalogue.LOOKS, catalogue.DESTINATION_LOOKS):
        return {sight.value for sight in Sight}
    listed = set(re.findall(r"[a-z0-9_]+", metric.meaning.partition(":")[2]))
    if metric is catalogue.REPLICATIONS:
        return listed & {fate.value for fate in Fate}
    return listed


@every_alert
def test_an_alert_names_only_series_that_exist(alert: Alert) -> None:
    """All of them are in the catalogue, or come from the client library; and the alert knows which."""
    assert alert.metrics
    assert metrics_of(alert.expression) == set(alert.metrics)


@every_alert
def test_an_alert_selects_by_labels_and_values_that_exist(alert: Alert) -> None:
    """A misspelt label or value would select nothing, for ever."""
    for series, label, value in Read(alert.expression).matchers:
        metric = metric_of(series)
        assert label in metric.labels, f"{series} has no label {label}"
        assert value in known_values(metric, label), f"{label} of {series} is never {value}"


@every_alert
def test_an_alert_keeps_labels_that_exist_and_names_the_bucket(alert: Alert) -> None:
    """Grouping by a label that is nowhere gives one alert for all; what is kept is told to who is woken."""
    grouped = Read(alert.expression).grouped
    labels = {label for metric in alert.metrics for label in metric.labels}
    scraped = {*INSTALLATION, "instance"}
    histogram = {"le"} if any(one.kind is Kind.HISTOGRAM for one in alert.metrics) else set()
    told = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))

    assert grouped <= labels | scraped | histogram
    assert set(INSTALLATION) <= grouped, "several installations would be one"
    assert told <= grouped
    assert told >= grouped & {"source_bucket", "destination_bucket", "bucket", "queue", "account"}


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("crrmon_pending > 1", "no series crrmon_pending"),
        ("rate(crrmon_replication_latency_seconds[5m])", "no series"),
        ("crrmon_pending_objects_count", "no series"),
        ("crrmon_pending_objects ~ 1", "not understood"),
    ],
)
def test_the_check_sees_what_does_not_exist(expression: str, complaint: str) -> None:
    """The reader of expressions can fail."""
    with pytest.raises(AssertionError, match=complaint):
        metrics_of(expression)


def test_the_check_sees_values_that_do_not_exist() -> None:
    """A look is never `forbidden`, nor is an outcome `replica`."""
    assert "denied" in known_values(catalogue.LOOKS, "result")
    assert "forbidden" not in known_values(catalogue.LOOKS, "result")
    assert known_values(catalogue.REPLICATIONS, "status") == {
        *("completed", "gone", "unpollable", "given_up", "failed")
    }
    assert {"fleet", "publisher"} <= known_values(catalogue.LOOP_SUCCESS, "loop")


# ---- thresholds ----


def test_every_threshold_has_its_place() -> None:
    """None is without effect, none is without a default, and the meaning says whose it is."""
    used = {limit: alert.name for alert in ALERTS for limit in Read(alert.expression).limits}

    assert used.keys() == THRESHOLDS.keys()
    for limit, name in used.items():
        assert THRESHOLDS[limit].meaning.startswith(f"{name}: ")
    assert "@" not in re.sub(r'".*"', "", files()[PLAIN_FILE].partition("\n")[2])


def test_the_charts_thresholds_are_the_same() -> None:
    """What values.yaml gives as a default is what the plain file has."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert values["prometheusRule"]["thresholds"] == {
        name: threshold.default for name, threshold in THRESHOLDS.items()
    }
    assert values["prometheusRule"]["runbookUrl"] == RUNBOOK


# ---- what the chart makes of them ----


def rendered(**settings: Any) -> dict[str, Any]:
    """
    Render the chart's PrometheusRule.
    """
    values = {
        "config": {"queues": [{"url": QUEUE}]},
        "prometheusRule": {"enabled": True, **settings},
    }
    pages = helm.Chart.load(str(CHART)).render(values, name="demo", namespace="ops")
    (page,) = [text for path, text in pages.items() if path.endswith("/prometheusrule.yaml")]
    return yaml.safe_load(page)


def rules_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """
    Return its rules by their names.
    """
    (group,) = manifest["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_the_chart_renders_the_plain_rules() -> None:
    """With its defaults, it says what the plain file says."""
    (group,) = yaml.safe_load(files()[PLAIN_FILE])["groups"]
    manifest = rendered()

    assert manifest["kind"] == "PrometheusRule"
    assert manifest["metadata"]["namespace"] == "ops"
    assert rules_of(manifest) == {rule["alert"]: rule for rule in group["rules"]}
    assert list(rules_of(manifest)) == NAMES


def test_the_chart_fills_in_thresholds_as_plain_numbers() -> None:
    """A million has no exponent, a fraction keeps its digits; each stands in its own place."""
    limits = {"backlogGrowthObjects": 25_000_000, "errorRatio": 0.0025, "deadLetters": 7}
    rules = rules_of(rendered(thresholds=limits))

    assert rules["CrrmonBacklogGrowing"]["expr"].endswith("> 25000000")
    assert ") > 0.0025\nand" in rules["CrrmonReplicationErrorRatio"]["expr"]
    assert rules["CrrmonDeadLetters"]["expr"].endswith("> 7")
    assert "@" not in "".join(rule["expr"] for rule in rules.values())


def test_a_missing_threshold_is_told_by_its_name() -> None:
    """Null takes a default away: then nothing is rendered."""
    with pytest.raises(Exception, match="deadLetters"):
        rendered(thresholds={"deadLetters": None})


def test_an_unknown_threshold_is_refused() -> None:
    """A misspelt one would be without effect."""
    with pytest.raises(Exception, match="deadLetter"):
        rendered(thresholds={"deadLetter": 1})


def test_alerts_are_left_out_by_name() -> None:
    """One that does not exist is an error, not a wish that is not heard."""
    rules = rules_of(rendered(disabled=["CrrmonNoEvents", "CrrmonLowWaterLag"]))

    assert set(NAMES) - set(rules) == {"CrrmonNoEvents", "CrrmonLowWaterLag"}
    with pytest.raises(Exception, match="CrrmonNothing"):
        rendered(disabled=["CrrmonNothing"])


def test_labels_links_and_rules_of_ones_own() -> None:
    """All that the values offer comes out."""
    extra = {"alert": "Extra", "expr": "vector(1)", "labels": {"severity": "none"}}
    manifest = rendered(
        namespace="monitoring",
        labels={"release": "prometheus"},
        annotations={"team": "storage"},
        ruleLabels={"team": "storage"},
        runbookUrl="https://wiki.example.com/crrmon",
        additionalRules=[extra],
    )
    rules = rules_of(manifest)

    assert manifest["metadata"]["namespace"] == "monitoring"
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
    assert manifest["metadata"]["annotations"] == {"team": "storage"}
    assert rules.pop("Extra") == extra
    assert list(rules) == NAMES
    for name, rule in rules.items():
        assert rule["labels"]["team"] == "storage"
        assert rule["labels"]["severity"] in {"warning", "critical"}
        link = rule["annotations"]["runbook_url"]
        assert link == f"https://wiki.example.com/crrmon#{name.lower()}"


# ---- what fires, and when ----


def cases() -> Iterator[dict[str, Any]]:
    """
    Tell every expectation of the unit tests.
    """
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test["alert_rule_test"]


@every_alert
def test_unit_tests_see_an_alert_fire_and_not_fire(alert: Alert) -> None:
    """Each alert has a case that fires with labels and annotations, and one that does not."""
    mine = [case.get("exp_alerts") for case in cases() if case["alertname"] == alert.name]
    fired = [one for expected in mine for one in expected or ()]

    assert fired
    assert None in mine
    for one in fired:
        assert one["exp_labels"]["severity"] == alert.severity
        assert one["exp_annotations"].keys() == {"summary", "description", "runbook_url"}


def test_unit_tests_name_alerts_that_exist() -> None:
    """An alert that does not exist never fires, so a case that expects that would pass for ever."""
    assert {case["alertname"] for case in cases()} == set(NAMES)


@pytest.mark.prometheus
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_promtools_unit_tests(path: Path) -> None:
    """Thresholds' borders, blips, resets, hand-overs, several replicas: promtool evaluates them all."""
    told = promtool("test", "rules", path)

    assert told.returncode == 0, told.stdout + told.stderr
    assert "SUCCESS" in told.stdout


@pytest.mark.prometheus
def test_promtool_accepts_the_plain_file() -> None:
    """Syntax, templates and names."""
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", TOP / PLAIN_FILE)

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(ALERTS)} rules found" in told.stdout


@pytest.mark.prometheus
def test_promtool_accepts_what_the_chart_renders(tmp_path: Path) -> None:
    """The same, out of the manifest."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rendered(thresholds={"backlogGrowthObjects": 1e7})["spec"]))
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", path)

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(ALERTS)} rules found" in told.stdout


def test_d46_dead_letters_and_own_lag_have_alerts() -> None:
    """The original had a dead-letter queue without an alarm, and no metric of its own lag."""
    by_name = {alert.name: Read(alert.expression) for alert in ALERTS}

    assert by_name["CrrmonDeadLetters"].matchers == {("crrmon_queue_messages", "state", "dead")}
    assert by_name["CrrmonQueueLag"].series == {"crrmon_queue_oldest_message_age_seconds"}
    assert THRESHOLDS["deadLetters"].default == 0


# ---- the runbook ----


def sections() -> dict[str, str]:
    """
    Return the runbook's sections on alerts by their headings.
    """
    parts = re.split(r"^## (.+)$", RUNBOOK_FILE.read_text(), flags=re.MULTILINE)
    both = zip(parts[1::2], parts[2::2], strict=True)
    return {heading: text for heading, text in both if heading.startswith("Crrmon")}


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    """In the order of the rules; the anchor is the heading in lower case."""
    assert list(sections()) == NAMES
    assert [alert.link for alert in ALERTS] == [f"{RUNBOOK}#{name.lower()}" for name in NAMES]


@every_alert
def test_a_section_says_all_that_is_needed_at_three_in_the_morning(alert: Alert) -> None:
    """What it means, how to look, what to do, when it clears, when it may be wrong; and its thresholds."""
    text = sections()[alert.name]
    parts = [
        "What it means",
        "How to look",
        "What to do",
        "When it clears",
        "When it may be wrong",
    ]
    places = [text.find(f"**{part}.**") for part in parts]

    assert -1 not in places
    assert places == sorted(places)
    assert alert.severity in text
    for limit in Read(alert.expression).limits:
        assert f"`{limit}`" in text, f"the threshold {limit} is not mentioned"


def test_the_runbook_names_only_metrics_that_exist() -> None:
    """In sentences by their names, in queries with labels and values that exist, too."""
    text = RUNBOOK_FILE.read_text()
    queries = re.findall(r"```promql\n(.*?)\n *```", text, flags=re.DOTALL)

    assert len(queries) >= len(ALERTS)
    for one in set(re.findall(r"\bcrrmon_\w+", text)):
        metric_of(one)
    for query in (line for block in queries for line in block.splitlines()):
        read = Read(query)
        for series, label, value in read.matchers:
            assert label in metric_of(series).labels
            assert value in known_values(metric_of(series), label)
        labels = {label for metric in metrics_of(query) for label in metric.labels}
        assert read.grouped <= {*labels, *INSTALLATION, "instance", "le"}


def test_the_runbook_names_only_log_events_that_exist() -> None:
    """Each word after "log event", and each that a command looks for, is in the source."""
    told = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    exist = set(re.findall(r'log\.\w+\(\s*(?:#[^\n]*\s*)?"(\w+)"', told))
    text = RUNBOOK_FILE.read_text()
    named = {
        event
        for line in re.findall(r"[Ll]og events? (`\w+`(?:(?:, | and | or )`\w+`)*)", text)
        for event in re.findall(r"\w+(?=`)", line)
    }

    assert len(named) > len(ALERTS) / 2
    assert named <= exist


def test_the_runbook_names_only_settings_that_exist() -> None:
    """Each dotted word in code that begins as a setting does."""
    exist = {key.replace("[]", "") for key in keys()}
    tops = {key.partition(".")[0] for key in exist}
    named = {
        one.replace("[]", "")
        for one in re.findall(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+)+)`", RUNBOOK_FILE.read_text())
        if re.split(r"[.\[]", one)[0] in tops
    }

    assert len(named) > 5
    assert named <= exist
