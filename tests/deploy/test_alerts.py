"""The alerts: they name what exists, they fire when they must and only then, and the runbook knows each."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from artifacts import chart
from artifacts.__main__ import TOP
from artifacts.alerts import (
    ALERTS,
    PLAIN_FILE,
    RULES,
    RUNBOOK,
    VALUES_FILE,
    Rule,
    defaults,
    files,
)
from artifacts.grafana import FILES
from crrmon.config import keys
from crrmon.domain import catalogue
from crrmon.domain.catalogue import METRICS
from crrmon.domain.metric import Kind, Metric
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Fate
from fakes.prometheus_server import promtool

CHART = TOP / "helm" / "crrmon"
HERE = Path(__file__).parent
CASES = tuple(sorted(HERE.glob("rules*.test.yaml")))
RUNBOOK_FILE = TOP / "docs" / "runbook.md"
ALERTMANAGER_FILE = TOP / "deploy" / "prometheus" / "alertmanager.yml"
SOURCES = TOP / "src" / "crrmon"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"

NAMES = list(dict.fromkeys(alert.alert for alert in ALERTS))
RECORDED = {
    name: [rule for rule in RULES if rule.record == name]
    for name in {rule.record for rule in RULES} - {""}
}
every_alert = pytest.mark.parametrize(
    "alert", ALERTS, ids=[f"{alert.alert} {alert.labels['severity']}" for alert in ALERTS]
)
every_rule = pytest.mark.parametrize(
    "rule", RULES, ids=[f"{at} {rule.alert or rule.record}" for at, rule in enumerate(RULES)]
)

CLIENT_METRICS = ("process_start_time_seconds",)
"""Not in the catalogue: the client library adds them to every page."""

INSTALLATION = ("cluster", "namespace", "job")
"""Labels of the scraper that tell installations apart, as far as they are there."""

# ---- reading expressions ----

PLACEHOLDER = re.compile(r"@([A-Za-z.]+)@")
TOKEN = re.compile(
    r'\s*(?:(?P<text>"[^"]*")|(?P<duration>\d+[smhdw]\b)|(?P<number>\d+(?:\.\d+)?)|(?P<limit>@[\w.]+@)'
    r"|(?P<word>[a-zA-Z_:][\w:]*)|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=(){}\[\],:]))"
)
FUNCTIONS = {
    *("abs", "absent_over_time", "changes", "count_over_time", "increase", "label_replace"),
    *("last_over_time", "max_over_time", "min_over_time", "histogram_quantile", "rate", "resets"),
    *("sum_over_time", "time", "vector"),
}
AGGREGATIONS = {"count", "group", "max", "min", "sum"}
OPERATORS = (
    *({"or"}, {"and", "unless"}, {"==", "!=", "<", ">", "<=", ">="}),
    *({"+", "-"}, {"*", "/"}),
)
"""What binds more tightly comes later."""
END = ""
SERIES_SUFFIXES = ("_bucket", "_count", "_sum")
FIRING = "ALERTS"
"""What Prometheus itself records of alerts."""


def tokens(expression: str) -> list[str]:
    """Split an expression; whatever this does not understand is an error."""
    found, place = [], 0
    while place < len(expression):
        match = TOKEN.match(expression, place)
        assert match, f"not understood: {expression[place : place + 40]!r}"
        found.append(match[0].strip())
        place = match.end()
    return found


class Read:
    """
    What an expression names; the labels that it asks for are held against those of what it asks.

    Args:
        expression: of a rule.

    Raises:
        AssertionError: it is not understood, names a series that does not exist, or labels that are not there.
    """

    def __init__(self, expression: str) -> None:
        self.series: set[str] = set()
        self.matchers: set[tuple[str, str, str]] = set()
        """Series, label, value; a regular expression is taken apart at its bars."""
        self.limits: set[str] = set(PLACEHOLDER.findall(expression))
        self._left = [*tokens(expression), END][::-1]
        self.labels = self._operation(0)
        """Those that the result may have."""
        assert self._left == [END], f"not understood: {self._left[::-1]}"

    def _next_is(self, token: str) -> bool:
        if self._left[-1] != token:
            return False
        self._left.pop()
        return True

    def _until(self, closing: str) -> list[str]:
        """Take the names and texts before a bracket that closes."""
        found = []
        while not self._next_is(closing):
            found.append(self._left.pop())
        return [token for token in found if re.match(r'[\w"]', token)]

    def _operation(self, level: int) -> frozenset[str]:
        """Read what operators of this level or a stronger one join."""
        if level == len(OPERATORS):
            return self._operand()
        labels = self._operation(level + 1)
        while self._left[-1] in OPERATORS[level]:
            operator = self._left.pop()
            on = self._named("on")
            keeps_left = self._named("group_left") is not None
            right = self._operation(level + 1)
            if on is not None:
                assert on <= labels & right, f"{sorted(on - labels & right)} are not on both sides"
            if operator == "or" or not labels:
                labels |= right
            elif on is not None and operator not in ("and", "unless") and not keeps_left:
                labels = on
        return labels

    def _named(self, word: str) -> frozenset[str] | None:
        """Read the labels that follow a word, if it comes next."""
        if not self._next_is(word):
            return None
        assert self._next_is("(")
        return frozenset(self._until(")"))

    def _operand(self) -> frozenset[str]:
        word = self._left.pop()
        if word == "(":
            labels = self._operation(0)
            assert self._next_is(")")
        elif word in AGGREGATIONS:
            labels = self._named("by") or frozenset()
            within = self._call()
            assert labels <= within, f"{sorted(labels - within)} are not there to group by"
        elif word in FUNCTIONS:
            labels = self._call()
            if word == "absent_over_time":
                labels = frozenset()
        elif re.match(r"[a-zA-Z_]", word):
            labels = self._selector(word)
        else:
            assert re.match(r"[\d@]", word), f"not understood: {word}"
            labels = frozenset()
        while self._left[-1] in ("[", "offset"):
            if self._next_is("["):
                self._until("]")
            else:
                del self._left[-2:]
        return labels

    def _call(self) -> frozenset[str]:
        """Read arguments; a text that is a label is one that is made."""
        labels: frozenset[str] = frozenset()
        assert self._next_is("(")
        while not self._next_is(")"):
            if re.fullmatch(r'"\w+"', self._left[-1]):
                labels |= {self._left.pop().strip('"')}
            elif self._left[-1].startswith('"') or self._left[-1] == ",":
                self._left.pop()
            else:
                labels |= self._operation(0)
        return labels

    def _selector(self, series: str) -> frozenset[str]:
        self.series.add(series)
        if self._next_is("{"):
            label = ""
            for token in self._until("}"):
                if token.startswith('"'):
                    self.matchers |= {(series, label, one) for one in token.strip('"').split("|")}
                else:
                    label = token
        return labels_of_series(series)


_LABELS: dict[str, frozenset[str]] = {}
"""Of what is recorded."""


def labels_of_series(series: str) -> frozenset[str]:
    """Return the labels that a series may have, those of its scraper included."""
    scraped = frozenset({*INSTALLATION, "instance"})
    if series in RECORDED:
        if series not in _LABELS:
            _LABELS[series] = frozenset()  # NB: a rule that goes on with its own past adds nothing
            _LABELS[series] = frozenset().union(
                *(Read(rule.expr).labels | rule.labels.keys() for rule in RECORDED[series])
            )
        return _LABELS[series]
    if series == FIRING:
        own = {"alertname", "alertstate", "severity"}
        return scraped.union(own, *(metric.labels for metric in METRICS))
    if series in CLIENT_METRICS:
        return scraped
    return scraped.union(metric_of(series).labels, {"le"} if series.endswith("_bucket") else ())


def metric_of(series: str) -> Metric:
    """Find the catalogue's metric that a series belongs to."""
    for metric in METRICS:
        histogram = metric.kind is Kind.HISTOGRAM
        names = (
            [metric.name + suffix for suffix in SERIES_SUFFIXES] if histogram else [metric.name]
        )
        if series in names:
            return metric
    raise AssertionError(f"there is no series {series}")


def metrics_of(expression: str) -> set[Metric]:
    """Find all metrics of ours that an expression rests on, by way of what is recorded, too."""
    left, found, seen = [expression], set(), set()
    while left:
        for series in Read(left.pop()).series - set(CLIENT_METRICS) - {FIRING} - seen:
            seen.add(series)
            if series in RECORDED:
                left += [rule.expr for rule in RECORDED[series]]
            else:
                found.add(metric_of(series))
    return found


def known_values(metric: Metric, label: str) -> set[str]:
    """Tell the values that the daemon gives a label: by its own words, else by what the metric's meaning lists."""
    if label in ("loop", "dependency"):
        call = {
            "loop": r'(?:began\(|await rounds\((?:[^()]|\([^()]*\))*?name=)"(\w+)"',
            "dependency": r'dependency\(\s*f?"([^"]+)"',
        }[label]
        told = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
        return {re.sub(r"{.*?}", "crrmon", one) for one in re.findall(call, told)}
    if label == "result" and metric is catalogue.HEAD_REQUESTS:
        return {sight.value for sight in Sight}
    listed = set(re.findall(r"[a-z0-9_]+", metric.meaning.partition(":")[2]))
    if metric is catalogue.REPLICATIONS and label == "status":
        return listed & {fate.value for fate in Fate}
    return listed


def check_matcher(series: str, label: str, value: str) -> None:
    """See that a series can have a label, with this value; a misspelt one would select nothing, for ever."""
    if series == FIRING:
        known = {
            "alertname": set(NAMES),
            "alertstate": {"firing"},
            "severity": {alert.labels["severity"] for alert in ALERTS},
        }[label]
        assert value in known, f"{label} of {series} is never {value}"
        return
    if series not in RECORDED:
        metric = metric_of(series)
        assert label in metric.labels, f"{series} has no label {label}"
        known = known_values(metric, label)
    else:
        assert label in labels_of_series(series), f"{series} has no label {label}"
        if any(FIRING in rule.expr for rule in RECORDED[series]):
            known = {"critical", "warning"} | known_values(catalogue.DEPENDENCY_UP, "dependency")
        else:
            below = {
                rule.labels[label]
                for name in RECORDED
                for rule in RECORDED[name]
                if label in rule.labels
            }
            metrics = {one for rule in RECORDED[series] for one in metrics_of(rule.expr)}
            known = below.union(
                *(known_values(one, label) for one in metrics if label in one.labels)
            )
    assert any(re.fullmatch(value, one) for one in known), f"{label} of {series} is never {value}"


@every_rule
def test_a_rule_names_only_what_exists(rule: Rule) -> None:
    """Series of the catalogue, of the client library, or recorded by another rule; and labels and values that they have."""
    read = Read(rule.expr)
    for series, label, value in read.matchers:
        check_matcher(series, label, value)

    assert bool(rule.alert) != bool(rule.record)
    assert rule.record.startswith("crrmon:") or not rule.record


@every_rule
def test_a_rule_never_adds_up_installations(rule: Rule) -> None:
    """Each grouping keeps the labels that tell them apart, or there would be one alert for all."""
    groupings = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule.expr)

    for labels in groupings:
        assert labels.startswith("cluster, namespace, job") or labels == "slo", labels


@every_alert
def test_an_alert_names_the_bucket(alert: Rule) -> None:
    """What is kept is told to who is woken, and nothing else."""
    texts = alert.annotations["summary"] + alert.annotations["description"]
    told = set(re.findall(r"\$labels\.(\w+)", texts))
    kept = Read(alert.expr).labels
    about = {
        "source_bucket",
        "destination_bucket",
        "bucket",
        "queue",
        "account",
        "dependency",
        "channel",
    }

    assert told <= kept
    assert alert.annotations.keys() == {"summary", "description", "runbook"}
    assert all(alert.annotations.values())
    assert alert.labels["severity"] in {"critical", "warning"}
    last = re.findall(r"^(?:\w+) by \(([^)]*)\)", alert.expr)
    for labels in last:
        assert told >= set(labels.split(", ")) & about


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("crrmon_pending > 1", "no series crrmon_pending"),
        ("rate(crrmon_replication_latency_seconds[5m])", "no series"),
        ("crrmon_pending_objects_count", "no series"),
        ("crrmon:nothing > 1", "no series crrmon:nothing"),
        ("crrmon_pending_objects ~ 1", "not understood"),
        ("crrmon_pending_objects 1", "not understood"),
        ("sum by (queue) (crrmon_pending_objects)", "'queue'.* are not there to group by"),
        ("max by (job) (sum by (cluster) (crrmon_pending_objects))", "'job'.* to group by"),
        ("sum by (le) (crrmon_replication_latency_seconds_sum)", "'le'.* to group by"),
        ("crrmon_pending_objects and on (queue) crrmon_queue_messages", "'queue'.* both sides"),
    ],
)
def test_the_check_sees_what_does_not_exist(expression: str, complaint: str) -> None:
    """The reader of expressions can fail."""
    with pytest.raises(AssertionError, match=complaint):
        metrics_of(expression)


@pytest.mark.parametrize(
    ("series", "label", "value"),
    [
        ("crrmon_head_requests_total", "result", "forbidden"),
        ("crrmon_replications_total", "status", "replica"),
        ("crrmon_replications_total", "state", "failed"),
        ("crrmon_dependency_up", "dependency", "S3"),
        ("crrmon:replications:increase5m", "status", "fail"),
        ("crrmon:slo_burn_rate:1h", "slo", "late"),
        ("crrmon:root_cause", "dependency", "queues .+"),
        ("ALERTS", "alertname", "CrrmonNothing"),
    ],
)
def test_the_check_sees_values_that_do_not_exist(series: str, label: str, value: str) -> None:
    """A look is never `forbidden`, nor is an outcome `replica`."""
    with pytest.raises(AssertionError):
        check_matcher(series, label, value)


def test_the_daemons_words_are_found() -> None:
    """The values that are read off the source are those that there are."""
    assert known_values(catalogue.REPLICATIONS, "status") == {
        *("completed", "gone", "unreadable", "given_up", "failed")
    }
    assert {"fleet", "publisher"} <= known_values(catalogue.LOOP_SUCCESS, "loop")
    assert {"ledger", "s3", "queue crrmon", "cloudwatch", "clock"} <= known_values(
        catalogue.DEPENDENCY_UP, "dependency"
    )


def test_what_is_recorded_is_read() -> None:
    """By another rule, or by the dashboard; nothing is recorded for nobody."""
    read = {series for rule in RULES for series in Read(rule.expr).series}
    board = (TOP / FILES[0]).read_text()

    assert {name for name in RECORDED if name not in read and f"{name}{{" not in board} == set()


def test_counts_are_all_made_alike() -> None:
    """A first occurrence counts, a reset does not take away, and counts that lie side by side add up."""
    counts = [
        rule
        for rule in RULES
        if re.search(r"crrmon_\w+_total unless", rule.expr) and rule.group == "crrmon-counts"
    ]
    shapes = {
        re.sub(r"crrmon_\w+_total", "COUNTER", re.sub(r"^sum by \([^)]*\)", "sum by", rule.expr))
        for rule in counts
    }

    assert len(counts) == 8
    assert len(shapes) == 1
    for rule in counts:
        (metric,) = metrics_of(rule.expr) - {catalogue.BUILD_INFO}
        assert (
            rule.record
            == f"crrmon:{metric.name.removeprefix('crrmon_').removesuffix('_total')}:increase5m"
        )


# ---- thresholds ----


def test_every_threshold_has_its_place() -> None:
    """None is without effect, none is without a default, and the meaning says whose it is."""
    described = {
        entry.name.removeprefix("prometheusRule.").removeprefix("thresholds."): entry.description
        for entry in chart.leaves(chart.entries((TOP / VALUES_FILE).read_text()))
        if entry.name.startswith(("prometheusRule.thresholds.", "prometheusRule.slo."))
    }
    used = {limit for rule in RULES for limit in Read(rule.expr).limits}

    assert used == defaults().keys() == described.keys()
    for limit, text in described.items():
        told = set(re.findall(r"Crrmon\w+", text.partition(": ")[0]))
        assert told >= {alert.alert for alert in ALERTS if limit in Read(alert.expr).limits}
        assert told
        assert told <= set(NAMES)
    assert "@" not in re.sub(r"^ *#.*$", "", files()[PLAIN_FILE], flags=re.MULTILINE)


# ---- what the chart makes of them ----


def rendered(**settings: Any) -> dict[str, Any]:
    """Render the chart's PrometheusRule."""
    values = {
        "image": {"repository": "registry.example.com/crrmon"},
        "config": {"queues": [{"url": QUEUE}]},
        "prometheusRule": {"enabled": True, **settings},
    }
    pages = helm.Chart.load(str(CHART)).render(values, name="demo", namespace="ops")
    (page,) = [text for path, text in pages.items() if path.endswith("/prometheusrule.yaml")]
    return yaml.safe_load(page)


def rules_of(manifest: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return its alerts by their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in manifest["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                found.setdefault(rule["alert"], []).append(rule)
    return found


def test_the_chart_renders_the_plain_rules() -> None:
    """With its defaults, it says what the plain file says."""
    manifest = rendered()

    assert manifest["kind"] == "PrometheusRule"
    assert manifest["metadata"]["namespace"] == "ops"
    assert manifest["spec"] == yaml.safe_load(files()[PLAIN_FILE])
    assert list(rules_of(manifest)) == NAMES


def test_the_chart_fills_in_thresholds_as_plain_numbers() -> None:
    """A million has no exponent, a fraction keeps its digits; each stands in its own place."""
    limits = {"backlogGrowthObjects": 25_000_000, "throttledRatio": 0.0025, "deadLetters": 7}
    manifest = rendered(thresholds=limits, slo={"replicated": 0.99999})
    rules = rules_of(manifest)
    budgets = [
        rule["expr"]
        for rule in manifest["spec"]["groups"][1]["rules"]
        if rule.get("record") == "crrmon:slo_budget"
    ]

    assert "> 25000000\n" in rules["CrrmonBacklogGrowing"][0]["expr"]
    assert "> 0.0025\n" in rules["CrrmonS3Throttling"][0]["expr"]
    assert rules["CrrmonDeadLetters"][0]["expr"].endswith("> 7")
    assert budgets == ["vector(1 - 0.99999)", "vector(1 - 0.99)"]
    assert "@" not in str(manifest["spec"])


def test_a_missing_threshold_is_told_by_its_name() -> None:
    """Null takes a default away: then nothing is rendered."""
    with pytest.raises(Exception, match=r"thresholds\.deadLetters"):
        rendered(thresholds={"deadLetters": None})
    with pytest.raises(Exception, match=r"slo\.onTime"):
        rendered(slo={"onTime": None})


@pytest.mark.parametrize(
    "settings", [{"thresholds": {"deadLetter": 1}}, {"slo": {"late": 0.9}}, {"slo": {"onTime": 1}}]
)
def test_an_unknown_threshold_or_an_impossible_objective_is_refused(
    settings: dict[str, Any],
) -> None:
    """A misspelt one would be without effect; one of 1 leaves no budget to burn."""
    with pytest.raises(Exception, match=r"deadLetter|late|onTime"):
        rendered(**settings)


def test_alerts_are_left_out_by_name() -> None:
    """In all severities; one that does not exist is an error, not a wish that is not heard."""
    rules = rules_of(rendered(disabled=["CrrmonNoEvents", "CrrmonDependencyDown"]))

    assert set(NAMES) - set(rules) == {"CrrmonNoEvents", "CrrmonDependencyDown"}
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
    assert rules.pop("Extra") == [extra]
    assert list(rules) == NAMES
    for name, rule in ((name, rule) for name, same in rules.items() for rule in same):
        assert rule["labels"]["team"] == "storage"
        assert rule["labels"]["severity"] in {"warning", "critical"}
        link = rule["annotations"]["runbook_url"]
        assert link == f"https://wiki.example.com/crrmon#{name.lower()}"
        assert "runbook" not in rule["annotations"]
    recorded = [
        rule for group in manifest["spec"]["groups"] for rule in group["rules"] if "record" in rule
    ]
    assert not any("team" in rule.get("labels", {}) for rule in recorded)


# ---- what Alertmanager makes of them ----


def inhibitions() -> list[dict[str, Any]]:
    """Return the rules by which one alert holds back another one."""
    loaded: dict[str, Any] = yaml.safe_load(ALERTMANAGER_FILE.read_text())
    return loaded["inhibit_rules"]


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    """Tell whether all matchers hold, as Alertmanager does: regular expressions match as a whole."""
    parts = [re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', one) for one in matchers]
    return all(
        part is not None
        and (
            bool(re.fullmatch(part[3], labels.get(part[1], "")))
            if "~" in part[2]
            else labels.get(part[1], "") == part[3]
        )
        != part[2].startswith("!")
        for part in parts
    )


def inhibited(target: dict[str, str], source: dict[str, str]) -> bool:
    """Tell whether one alert holds back another one."""
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in inhibitions()
    )


DEPENDENCIES = ("ledger", "s3", "queue crrmon", "cloudwatch")


@every_alert
@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_r9_alertmanager_holds_back_what_the_rules_hold_back(alert: Rule, dependency: str) -> None:
    """While something is away, the same alerts wait in both; of another installation none does."""
    held = [
        {label: value for label, _, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers)}
        for matchers in re.findall(r"crrmon:root_cause{([^}]*)}", alert.expr)
    ]
    severity = "warning" if dependency == "cloudwatch" else "critical"
    source = {
        "alertname": "CrrmonDependencyDown",
        "severity": severity,
        "dependency": dependency,
        "job": "crrmon",
    }
    target = {"alertname": alert.alert, **alert.labels, "job": "crrmon", "source_bucket": "src"}
    waits = any(
        re.fullmatch(one.get("dependency", ".*"), dependency)
        and one.get("severity", severity) == severity
        for one in held
    )
    tickets = alert.alert == "CrrmonOnTimeBudgetBurn" and alert.labels["severity"] == "warning"

    if not tickets:
        assert inhibited(target, source) == waits
    assert not inhibited(target | {"job": "other"}, source)


def test_r9_inhibition_names_alerts_that_exist() -> None:
    """And no alert holds back itself, which would silence it for good."""
    for rule in inhibitions():
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            names = re.fullmatch(r'alertname(?:=~|!=|=)"(.*)"', matcher)
            if names and names[1] != "Crrmon.+":
                assert set(names[1].split("|")) <= set(NAMES)
    for alert in ALERTS:
        labels = {"alertname": alert.alert, **alert.labels, "dependency": "s3"}
        assert not inhibited(labels, labels)


def test_a_page_goes_over_the_ticket_of_the_same_name() -> None:
    """For the same route and objective only."""
    page = {
        "alertname": "CrrmonObjectStuckPending",
        "severity": "critical",
        "source_bucket": "src",
    }

    assert inhibited(page | {"severity": "warning"}, page)
    assert not inhibited(page | {"severity": "warning", "source_bucket": "other"}, page)
    assert not inhibited(page | {"severity": "warning", "alertname": "CrrmonPollBehind"}, page)


# ---- what fires, and when ----


def cases() -> Iterator[dict[str, Any]]:
    """Tell every expectation of the unit tests."""
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            yield from test["alert_rule_test"]


@every_alert
def test_unit_tests_see_an_alert_fire_and_not_fire(alert: Rule) -> None:
    """Each alert has a case that fires with labels and annotations, and one that does not."""
    mine = [case.get("exp_alerts") for case in cases() if case["alertname"] == alert.alert]
    fired = [one for expected in mine for one in expected or ()]

    assert None in mine
    assert any(one["exp_labels"].items() >= alert.labels.items() for one in fired)
    for one in fired:
        assert one["exp_annotations"].keys() == {"summary", "description", "runbook"}


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
    assert f"{len(RULES)} rules found" in told.stdout


@pytest.mark.prometheus
def test_promtool_accepts_what_the_chart_renders(tmp_path: Path) -> None:
    """The same, out of the manifest."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rendered(thresholds={"backlogGrowthObjects": 1e7})["spec"]))
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", path)

    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(RULES)} rules found" in told.stdout


def test_d46_dead_letters_and_own_lag_have_alerts() -> None:
    """The original had a dead-letter queue without an alarm, and no metric of its own lag."""
    by_name = {alert.alert: Read(alert.expr) for alert in ALERTS}

    assert by_name["CrrmonDeadLetters"].matchers == {("crrmon_queue_messages", "state", "dead")}
    assert "crrmon_queue_oldest_message_age_seconds" in by_name["CrrmonQueueLag"].series
    assert defaults()["deadLetters"] == 0


# ---- the runbook ----


def sections() -> dict[str, str]:
    """Return the runbook's sections on alerts by their headings."""
    parts = re.split(r"^## (.+)$", RUNBOOK_FILE.read_text(), flags=re.MULTILINE)
    both = zip(parts[1::2], parts[2::2], strict=True)
    return {heading: text for heading, text in both if heading.startswith("Crrmon")}


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    """In the order of the rules; the anchor is the heading in lower case."""
    assert list(sections()) == NAMES
    for alert in ALERTS:
        assert alert.annotations["runbook"] == f"{RUNBOOK}#{alert.alert.lower()}"
    assert RUNBOOK_FILE == TOP / RUNBOOK


@every_alert
def test_a_section_says_all_that_is_needed_at_three_in_the_morning(alert: Rule) -> None:
    """What it means, how to look, what to do, when it clears, when it may be wrong; and its thresholds."""
    text = sections()[alert.alert]
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
    assert f"`{alert.labels['severity']}`" in text
    for limit in Read(alert.expr).limits:
        assert f"`{limit}`" in text, f"the threshold {limit} is not mentioned"


def test_the_runbook_names_only_metrics_that_exist() -> None:
    """In sentences by their names, in queries with labels and values that exist, too."""
    text = RUNBOOK_FILE.read_text()
    queries = re.findall(r"```promql\n(.*?)\n *```", text, flags=re.DOTALL)

    assert len(queries) >= len(NAMES)
    for one in set(re.findall(r"\bcrrmon_\w+", text)):
        metric_of(one)
    for query in (line for block in queries for line in block.splitlines()):
        read = Read(query)
        for series, label, value in read.matchers:
            check_matcher(series, label, value)


def test_the_runbook_names_only_log_events_that_exist() -> None:
    """Each word after "log event", and each that a command looks for, is in the source."""
    told = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    exist = set(re.findall(r'log\.\w+\(\s*(?:#[^\n]*\s*)?"(\w+)"', told))
    exist |= set(re.findall(r'ThrottledLog\(\s*log,\s*"(\w+)"', told))
    text = RUNBOOK_FILE.read_text()
    named = {
        event
        for line in re.findall(r"[Ll]og events? (`\w+`(?:(?:, | and | or )`\w+`)*)", text)
        for event in re.findall(r"\w+(?=`)", line)
    }

    assert len(named) > len(NAMES) / 3
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
