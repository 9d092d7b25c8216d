"""Whole nights, minute by minute: how often somebody is woken, and by what.

What single alerts do at their borders stands in rules.test.yaml. Here a whole installation goes on as usual, with three
replicas and ten routes, and then one thing goes wrong. A page is a critical alert that begins to fire; what begins again
after it ended is another page. A ticket is a warning, counted likewise.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
import yaml

from artifacts.__main__ import TOP
from artifacts.alerts import PLAIN_FILE
from fakes.prometheus_server import promtool

pytestmark = pytest.mark.prometheus

REPLICAS = ("a", "b", "c")
REPORTER = "a"
HOUR = 60
DAY = 24 * HOUR

Course = Callable[[int], float | None]
"""The value of a series at a minute; None where it is not there."""


def steady(value: float) -> Course:
    """Stay as it is."""
    return lambda _: value


def growing(each_minute: float) -> Course:
    """Count up from the beginning."""
    return lambda minute: each_minute * minute


def clock(behind: float = 0) -> Course:
    """Tell a moment that moves on with the clock."""
    return lambda minute: minute * 60 - behind


def stopped(course: Course, begin: int, end: int) -> Course:
    """Stand still from one minute to another, and go on from there as if nothing had been missed."""
    return lambda minute: course(begin) if begin <= minute < end else course(minute)


def between(begin: int, end: int, inside: float, outside: float) -> Course:
    """Have one value for a while, and another one else."""
    return lambda minute: inside if begin <= minute < end else outside


def missing(course: Course, begin: int, end: int) -> Course:
    """Be not there for a while."""
    return lambda minute: None if begin <= minute < end else course(minute)


def _begun(course: Course, begins: int, *, counts: bool, start: bool) -> Course:
    if start:
        return steady(begins * 60)
    return (lambda minute: course(minute - begins)) if counts else course


class Night:
    """
    All series of an installation that is well, to be changed by a test.

    Args:
        minutes: how long it lasts.
        each_minute: objects that complete on each route in a minute.
        step: minutes from one scrape to the next, and from one evaluation to the next.
        routes: how many there are.
    """

    def __init__(
        self, minutes: int, *, each_minute: float = 20, step: int = 1, routes: int = 2
    ) -> None:
        self.minutes = minutes
        self.step = step
        self.routes = [(f"src-{number}", f"dst-{number}") for number in range(routes)]
        self._series: dict[str, Course] = {}
        for instance in REPLICAS:
            self._replica(instance, each_minute)
        for source, destination in self.routes:
            self._route(source, destination)
        self.on("crrmon_last_success_timestamp_seconds", clock(), loop="fleet")
        self.on("crrmon_last_success_timestamp_seconds", clock(), loop="publisher")
        self.on("crrmon_unsent_windows", steady(0))
        self.on("crrmon_dependency_up", steady(1), dependency="cloudwatch")
        self.on("crrmon_queue_messages", steady(0), queue="crrmon", state="dead")

    def _replica(self, instance: str, each_minute: float) -> None:
        self.on("crrmon_build_info", steady(1), instance, version="0.1.0")
        self.on("process_start_time_seconds", steady(0), instance)
        for dependency in ("ledger", "s3", "queue crrmon", "clock"):
            self.on("crrmon_dependency_up", steady(1), instance, dependency=dependency)
        for loop in (
            "intake crrmon",
            "visibility crrmon",
            "poller",
            "leases",
            "heartbeat",
            "sweeper",
        ):
            self.on("crrmon_last_attempt_timestamp_seconds", clock(), instance, loop=loop)
            self.on("crrmon_last_success_timestamp_seconds", clock(), instance, loop=loop)
        self.on("crrmon_messages_total", growing(200), instance, queue="crrmon", kind="fact")
        self.on("crrmon_queue_oldest_message_age_seconds", steady(2), instance, queue="crrmon")
        self.on("crrmon_poll_overdue_seconds", steady(0), instance)
        self.on("crrmon_clock_offset_seconds", steady(0.3), instance)
        self.on("crrmon_polls_deferred", steady(0), instance)
        for source, destination in self.routes:
            route = {"source_bucket": source, "destination_bucket": destination}
            done = growing(each_minute / len(REPLICAS))
            self.on("crrmon_replications_total", done, instance, **route, status="completed")
            self.on("crrmon_settling_held", steady(0), instance, **route)
            self.on(
                "crrmon_last_event_timestamp_seconds", clock(5), instance, source_bucket=source
            )
            self.on("crrmon_bucket_access_denied", steady(0), instance, bucket=source)
            looks = {"bucket": source, "target": "source", "result": "completed"}
            self.on("crrmon_head_requests_total", growing(each_minute), instance, **looks)

    def _route(self, source: str, destination: str) -> None:
        route = {"source_bucket": source, "destination_bucket": destination}
        self.on("crrmon_pending_objects", steady(7), **route)
        self.on("crrmon_oldest_pending_timestamp_seconds", clock(20), **route)
        self.on("crrmon_stuck_objects", steady(0), **route)
        self.on("crrmon_failed_objects", steady(0), **route)
        self.on("crrmon_settled_up_to_timestamp_seconds", clock(60), **route)
        self.on("crrmon_route_configured", steady(1), **route)

    def on(self, metric: str, course: Course, instance: str = REPORTER, **labels: str) -> None:
        """Give a series its course."""
        told = {"namespace": "ops", "job": "crrmon", "instance": instance, **labels}
        matchers = ", ".join(f'{name}="{value}"' for name, value in told.items())
        self._series[f"{metric}{{{matchers}}}"] = course

    def change(
        self, metric: str, change: Callable[[Course], Course], instance: str = "", **labels: str
    ) -> None:
        """Change the course of all series whose names begin so, and that have these labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        wanted += [f'instance="{instance}"'] if instance else []
        chosen = [
            name
            for name in self._series
            if name.startswith(metric) and all(one in name for one in wanted)
        ]
        assert chosen, f"nothing is called {metric} with {labels}"
        for name in chosen:
            self._series[name] = change(self._series[name])

    def follow(self, old: str, new: str, ends: int, begins: int) -> None:
        """
        Let one replica end at a minute, and another one begin that counts from 0 and tells what the first one told.
        """
        for name, course in list(self._series.items()):
            if f'instance="{old}"' not in name:
                continue
            counts = "_total{" in name
            self._series[name] = missing(course, ends, 99 * DAY)
            self._series[name.replace(f'instance="{old}"', f'instance="{new}"')] = missing(
                _begun(course, begins, counts=counts, start="process_start" in name), 0, begins
            )

    def written(self) -> list[dict[str, str]]:
        """Return all series as promtool reads them."""
        return [
            {"series": name, "values": self._values(course)}
            for name, course in self._series.items()
        ]

    def _values(self, course: Course) -> str:
        values = [course(minute) for minute in range(0, self.minutes + 1, self.step)]
        return " ".join("stale" if one is None else f"{one:.10g}" for one in values)


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """How often each alert began to fire."""

    pages: Mapping[str, int] = {}
    tickets: Mapping[str, int] = {}


def _count(severity: str, night: Night) -> str:
    firing = f'ALERTS{{alertstate="firing", severity="{severity}"}}'
    begun = f"({firing} unless {firing} offset {night.step}m)"
    return f"sum by (alertname) (sum_over_time({begun}[{night.minutes}m:{night.step}m]))"


def check(night: Night, woken: Woken, directory: Path) -> None:
    """Let a night pass, and compare how often somebody was told of something."""
    counted = [
        {
            "expr": _count(severity, night),
            "eval_time": f"{night.minutes}m",
            "exp_samples": [
                {"labels": f'{{alertname="{name}"}}', "value": times}
                for name, times in expected.items()
            ],
        }
        for severity, expected in (("critical", woken.pages), ("warning", woken.tickets))
    ]
    path = directory / "night.test.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(TOP / PLAIN_FILE)],
                "evaluation_interval": f"{night.step}m",
                "group_eval_order": ["crrmon-counts", "crrmon-slo", "crrmon"],
                "tests": [
                    {
                        "interval": f"{night.step}m",
                        "input_series": night.written(),
                        "promql_expr_test": counted,
                    }
                ],
            },
            width=10_000_000,
        )
    )
    told = promtool("test", "rules", path)

    assert told.returncode == 0, told.stdout + told.stderr


def outage(night: Night, begin: int, end: int) -> None:
    """
    Let S3 answer nobody from one minute to another, and show what the daemon shows then.

    Nothing is looked at and nothing received; objects stay pending and become stuck; what waited counts as late
    afterwards.
    """
    night.change(
        "crrmon_dependency_up", lambda _: between(begin + 1, end + 1, 0, 1), dependency="s3"
    )
    for loop in ("intake crrmon", "poller"):
        night.change(
            "crrmon_last_success_timestamp_seconds",
            lambda course: stopped(course, begin, end),
            loop=loop,
        )
    for metric in ("crrmon_messages_total", "crrmon_last_event_timestamp_seconds"):
        night.change(metric, lambda course: stopped(course, begin, end))
    for metric in ("crrmon_replications_total", "crrmon_head_requests_total"):
        night.change(metric, lambda course: stopped(course, begin, end))
    waiting = between(begin, end + 10, 60 * (end - begin), 0)
    night.change("crrmon_poll_overdue_seconds", lambda _: waiting)
    night.change("crrmon_queue_oldest_message_age_seconds", lambda _: waiting)
    night.change(
        "crrmon_oldest_pending_timestamp_seconds", lambda course: stopped(course, begin, end + 5)
    )
    night.change(
        "crrmon_settled_up_to_timestamp_seconds", lambda course: stopped(course, begin, end + 5)
    )
    night.change("crrmon_stuck_objects", lambda _: between(begin + 15, end + 5, 40, 0))
    night.change("crrmon_pending_objects", lambda _: between(begin + 5, end + 5, 5000, 7))
    for source, destination in night.routes:
        night.on(
            "crrmon_replications_late_total",
            lambda minute: 0 if minute < end else min(minute - end, 10) * 100,
            source_bucket=source,
            destination_bucket=destination,
        )


def test_r9_ninety_minutes_without_s3_are_one_page(tmp_path: Path) -> None:
    """Three replicas, ten routes, one alert: not one for each loop, queue and route, nor for what was late then."""
    night = Night(31 * HOUR, step=5, routes=10)
    outage(night, 27 * HOUR + 30, 29 * HOUR)

    check(
        night,
        Woken(pages={"CrrmonDependencyDown": 1}, tickets={"CrrmonOnTimeBudgetBurn": 10}),
        tmp_path,
    )


def test_r9_the_same_night_tells_it_all_where_nobody_tells_of_s3(tmp_path: Path) -> None:
    """What holds back is the alert, so without it nothing is held back: the test above is not one of a quiet night."""
    night = Night(31 * HOUR, step=5)
    outage(night, 27 * HOUR + 30, 29 * HOUR)
    night.change("crrmon_dependency_up", lambda _: steady(1), dependency="s3")

    check(
        night,
        Woken(
            pages={
                "CrrmonLoopStalled": 1,
                "CrrmonNoEvents": 1,
                "CrrmonObjectStuckPending": 2,
                "CrrmonOnTimeBudgetBurn": 2,
            },
            tickets={
                "CrrmonBacklogGrowing": 2,
                "CrrmonLowWaterLag": 2,
                "CrrmonObjectStuckPending": 2,
                "CrrmonOnTimeBudgetBurn": 2,
                "CrrmonPollBehind": 1,
                "CrrmonQueueLag": 1,
            },
        ),
        tmp_path,
    )


def test_r9_an_hour_without_the_ledger_is_one_page(tmp_path: Path) -> None:
    """The gauges of the fleet are not there meanwhile, and every loop waits."""
    night = Night(3 * HOUR)
    begin, end = HOUR, 2 * HOUR
    night.change(
        "crrmon_dependency_up", lambda _: between(begin + 1, end + 1, 0, 1), dependency="ledger"
    )
    night.change(
        "crrmon_last_success_timestamp_seconds", lambda course: stopped(course, begin, end)
    )
    for metric in ("pending_objects", "stuck_objects", "failed_objects", "route_configured"):
        night.change(f"crrmon_{metric}", lambda course: missing(course, begin, end))
    for instance in REPLICAS:
        night.on(
            "crrmon_ledger_errors_total",
            lambda minute: 5 * max(0, min(minute, end) - begin),
            instance,
            operation="park",
        )

    check(night, Woken(pages={"CrrmonDependencyDown": 1}), tmp_path)


def test_r9_an_hour_without_the_queue_is_one_page(tmp_path: Path) -> None:
    """What is pending is looked at all the same, so objects that stay pending would still be told of."""
    night = Night(30 * HOUR, step=5)
    begin, end = 28 * HOUR, 29 * HOUR + 30
    night.change(
        "crrmon_dependency_up", lambda _: between(begin, end, 0, 1), dependency="queue crrmon"
    )
    for metric in ("crrmon_messages_total", "crrmon_last_event_timestamp_seconds"):
        night.change(metric, lambda course: stopped(course, begin, end))
    night.change("crrmon_settled_up_to", lambda course: stopped(course, begin, end))
    night.change(
        "crrmon_last_success_timestamp_seconds",
        lambda course: stopped(course, begin, end),
        loop="intake crrmon",
    )
    night.change(
        "crrmon_oldest_pending",
        lambda course: stopped(course, begin - 20, end),
        source_bucket="src-1",
    )
    night.change(
        "crrmon_stuck_objects", lambda _: between(begin, end, 1, 0), source_bucket="src-1"
    )

    check(
        night,
        Woken(
            pages={"CrrmonDependencyDown": 1, "CrrmonObjectStuckPending": 1},
            tickets={"CrrmonObjectStuckPending": 1},
        ),
        tmp_path,
    )


def test_r9_s3_away_from_one_replica_is_a_ticket(tmp_path: Path) -> None:
    """The others see S3: it is that replica's network. And nothing is held back for it."""
    night = Night(3 * HOUR)
    night.change(
        "crrmon_dependency_up", lambda _: between(60, 120, 0, 1), instance="b", dependency="s3"
    )
    night.change("crrmon_oldest_pending", lambda _: steady(0), source_bucket="src-0")
    night.change("crrmon_stuck_objects", lambda _: between(70, 180, 3, 0), source_bucket="src-0")

    check(
        night,
        Woken(
            pages={"CrrmonObjectStuckPending": 1},
            tickets={"CrrmonDependencyDown": 1, "CrrmonObjectStuckPending": 1},
        ),
        tmp_path,
    )


def test_r9_a_replica_that_did_not_ask_does_not_contradict_the_others(tmp_path: Path) -> None:
    """Two of three hold nothing that is to be looked at, so S3 is as well as ever for them: it is a page all the same."""
    night = Night(3 * HOUR)
    for instance in ("a", "c"):
        night.change("crrmon_head_requests_total", lambda _: steady(7), instance=instance)
    night.change(
        "crrmon_head_requests_total", lambda course: stopped(course, 60, 150), instance="b"
    )
    night.change(
        "crrmon_dependency_up", lambda _: between(60, 150, 0, 1), instance="b", dependency="s3"
    )
    night.change("crrmon_oldest_pending", lambda course: stopped(course, 60, 150))
    night.change("crrmon_stuck_objects", lambda _: between(75, 150, 1, 0))

    check(night, Woken(pages={"CrrmonDependencyDown": 1}), tmp_path)


def test_r9_what_comes_and_goes_holds_nothing_back(tmp_path: Path) -> None:
    """S3 that is away for three of five minutes is never away for long enough, so what follows is told."""
    night = Night(3 * HOUR)
    night.change(
        "crrmon_dependency_up", lambda _: lambda minute: float(minute % 5 > 2), dependency="s3"
    )
    night.change("crrmon_oldest_pending", lambda _: steady(0), source_bucket="src-0")
    night.change("crrmon_stuck_objects", lambda _: between(30, 180, 3, 0), source_bucket="src-0")

    check(
        night,
        Woken(pages={"CrrmonObjectStuckPending": 1}, tickets={"CrrmonObjectStuckPending": 1}),
        tmp_path,
    )


def test_r9_stalled_loops_are_one_page_for_an_installation(tmp_path: Path) -> None:
    """Six loops of each of three replicas stand still, for a reason that nobody tells."""
    night = Night(2 * HOUR)
    night.change("crrmon_last_success", lambda course: stopped(course, 60, 90))

    check(night, Woken(pages={"CrrmonLoopStalled": 1}), tmp_path)


def test_t1_a_rule_that_is_gone_is_one_page(tmp_path: Path) -> None:
    """Writes go on and are covered by nothing; the share of them is no second alert, whatever it was yesterday."""
    night = Night(30 * HOUR, step=5)
    gone = 28 * HOUR
    route = {"source_bucket": "src-1", "destination_bucket": "dst-1"}
    night.change("crrmon_route_configured", lambda _: between(gone, 99 * HOUR, 0, 1), **route)
    night.change(
        "crrmon_replications_total", lambda course: stopped(course, gone, 99 * HOUR), **route
    )
    night.change("crrmon_settled_up_to", lambda course: missing(course, gone, 99 * HOUR), **route)
    night.on(
        "crrmon_objects_not_covered_total",
        lambda minute: 20 * max(0, minute - gone) if minute >= gone else None,
        source_bucket="src-1",
        cause="no_rule",
    )

    check(night, Woken(pages={"CrrmonRouteGone": 1}), tmp_path)


def uncovered(night: Night, before: float, after: float, begin: int) -> None:
    """Let some writes of a bucket be covered by nothing, in a minute, and others from one minute on."""
    night.on(
        "crrmon_objects_not_covered_total",
        lambda minute: before * min(minute, begin) + after * max(0, minute - begin),
        source_bucket="src-1",
        cause="no_rule",
    )


def test_t1_more_uncovered_writes_than_yesterday_are_a_ticket(tmp_path: Path) -> None:
    """A filter was narrowed: one in five writes was not covered, now it is every second."""
    night = Night(30 * HOUR, step=5)
    uncovered(night, 5, 20, 27 * HOUR)

    check(night, Woken(tickets={"CrrmonNotCovered": 1}), tmp_path)


def test_t1_as_many_uncovered_writes_as_yesterday_are_as_they_should_be(tmp_path: Path) -> None:
    """Half of the bucket is outside of its rules, and always was; today everything is written twice as often."""
    night = Night(30 * HOUR, step=5)
    uncovered(night, 20, 40, 27 * HOUR)
    night.change(
        "crrmon_replications_total",
        lambda course: lambda minute: course(minute + max(0, minute - 27 * HOUR)),
        source_bucket="src-1",
    )

    check(night, Woken(), tmp_path)


# ---- alerts that wake the right person ----


def failing(night: Night, share: float, begin: int, end: int = 99 * DAY) -> None:
    """Let a share of what is written to a bucket fail from one minute to another, and nobody repair it."""
    route = {"source_bucket": "src-1", "destination_bucket": "dst-1"}
    total = growing(20)

    def failed(minute: int) -> float | None:
        count = int(share * ((total(min(minute, end)) or 0) - (total(begin) or 0)))
        return count if minute >= begin and count else None

    night.on("crrmon_replications_total", failed, **route, status="failed")
    night.change("crrmon_failed_objects", lambda _: lambda minute: failed(minute) or 0, **route)


def test_a_quiet_night_wakes_nobody(tmp_path: Path) -> None:
    """Neither a page nor a ticket in two hours in which all is well."""
    check(Night(2 * HOUR), Woken(), tmp_path)


def test_fifteen_failures_in_half_an_hour_and_nothing_else_wake_somebody_once(
    tmp_path: Path,
) -> None:
    """A quiet bucket of which everything fails: one every two minutes, for two hours."""
    night = Night(4 * HOUR, each_minute=0)
    failing(night, 0.025, HOUR, 3 * HOUR)

    check(
        night,
        Woken(
            pages={"CrrmonReplicatedBudgetBurn": 1},
            tickets={"CrrmonReplicationFailures": 1, "CrrmonReplicatedBudgetBurn": 1},
        ),
        tmp_path,
    )


def test_three_failures_of_a_quiet_bucket_wake_somebody(tmp_path: Path) -> None:
    """Nothing completed: it is no single object that is the matter."""
    night = Night(3 * HOUR, each_minute=0)
    failing(night, 0.005, HOUR, HOUR + 30)

    check(
        night,
        Woken(pages={"CrrmonReplicatedBudgetBurn": 1}, tickets={"CrrmonReplicationFailures": 1}),
        tmp_path,
    )


def test_four_in_a_hundred_that_fail_for_a_day_wake_somebody_once(tmp_path: Path) -> None:
    """Forty times as many as the objective allows; the tickets stay for whoever repairs it."""
    night = Night(30 * HOUR, step=5)
    failing(night, 0.04, 2 * HOUR, 26 * HOUR)

    check(
        night,
        Woken(
            pages={"CrrmonReplicatedBudgetBurn": 1},
            tickets={"CrrmonReplicationFailures": 1, "CrrmonReplicatedBudgetBurn": 1},
        ),
        tmp_path,
    )


def test_one_in_five_that_is_late_for_a_day_wakes_somebody_once(tmp_path: Path) -> None:
    """Twenty times as many as the objective allows."""
    night = Night(30 * HOUR, step=5)
    night.on(
        "crrmon_replications_late_total",
        lambda minute: 4 * max(0, min(minute, 26 * HOUR) - 2 * HOUR),
        source_bucket="src-1",
        destination_bucket="dst-1",
    )

    check(
        night,
        Woken(pages={"CrrmonOnTimeBudgetBurn": 1}, tickets={"CrrmonOnTimeBudgetBurn": 1}),
        tmp_path,
    )


def test_two_in_a_thousand_that_fail_are_a_ticket(tmp_path: Path) -> None:
    """Twice as many as the objective allows: nobody's sleep is worth that."""
    night = Night(20 * HOUR, step=5)
    failing(night, 0.002, 2 * HOUR)

    check(
        night,
        Woken(tickets={"CrrmonReplicationFailures": 1, "CrrmonReplicatedBudgetBurn": 1}),
        tmp_path,
    )


@pytest.mark.parametrize("each_minute", [0, 0.1, 20])
def test_one_failed_object_is_one_ticket(tmp_path: Path, each_minute: float) -> None:
    """Whether much is written to the bucket or hardly anything: one ticket, and it stays until it is repaired."""
    night = Night(3 * HOUR, each_minute=each_minute)
    failing(night, 0.05, HOUR, HOUR + 1)

    check(night, Woken(tickets={"CrrmonReplicationFailures": 1}), tmp_path)


def test_failures_that_stay_open_do_not_mask_lag(tmp_path: Path) -> None:
    """`settled_up_to` goes on over them, so only what is really behind is told as lag."""
    night = Night(3 * HOUR)
    failing(night, 0.05, 10, 11)
    night.change(
        "crrmon_settled_up_to", lambda course: stopped(course, HOUR, DAY), source_bucket="src-0"
    )

    check(
        night,
        Woken(tickets={"CrrmonReplicationFailures": 1, "CrrmonLowWaterLag": 1}),
        tmp_path,
    )


def test_a_rolling_restart_under_names_that_stay_wakes_nobody(tmp_path: Path) -> None:
    """Each replica is away for two minutes, counts from 0 again, and the gauges of the fleet move on."""
    night = Night(2 * HOUR)
    for place, instance in enumerate(REPLICAS):
        begin = HOUR + 5 * place
        start = begin + 2
        night.change(
            "process_start_time_seconds",
            lambda _, start=start: lambda minute: 0 if minute < start else start * 60,
            instance=instance,
        )
        for metric in (
            "crrmon_replications_total",
            "crrmon_messages_total",
            "crrmon_head_requests_total",
        ):
            night.change(
                metric,
                lambda course, start=start: (
                    lambda minute: course(minute) if minute < start else course(minute - start)
                ),
                instance=instance,
            )
        night.change("", lambda course, begin=begin: missing(course, begin, begin + 2), instance)

    check(night, Woken(), tmp_path)


def test_a_rolling_restart_under_new_names_wakes_nobody(tmp_path: Path) -> None:
    """Three replicas go, three with other names come and count from 1; one of them tells of the fleet."""
    night = Night(2 * HOUR)
    for place, instance in enumerate(REPLICAS):
        night.follow(instance, f"new-{instance}", HOUR + 5 * place, HOUR + 5 * place + 2)

    check(night, Woken(), tmp_path)


def test_a_nightly_batch_that_is_late_is_no_silence(tmp_path: Path) -> None:
    """A thousand objects at one o'clock on the first night, and two hours later on the second."""
    night = Night(31 * HOUR, step=10, routes=1, each_minute=0)
    first, second = HOUR, 27 * HOUR

    def last(minute: int) -> float | None:
        if minute < first:
            return None
        begun = second if minute >= second else first
        return 60 * min(minute, begun + 60)

    def messages(minute: int) -> float:
        return 17 * (min(max(0, minute - first), 60) + min(max(0, minute - second), 60))

    night.change("crrmon_last_event", lambda _: last)
    night.change("crrmon_messages_total", lambda _: messages)

    check(night, Woken(), tmp_path)


def test_a_bucket_that_falls_silent_is_a_ticket(tmp_path: Path) -> None:
    """The others go on, so the queue is not silent; its own yesterday tells that it should not be."""
    night = Night(31 * HOUR, step=10)
    night.change(
        "crrmon_last_event",
        lambda course: stopped(course, 28 * HOUR, 99 * HOUR),
        source_bucket="src-1",
    )

    check(night, Woken(tickets={"CrrmonBucketSilent": 1}), tmp_path)


def test_objects_stuck_on_one_route_wake_somebody_once(tmp_path: Path) -> None:
    """The route's own threshold says what is stuck; the gauge moves to another replica meanwhile."""
    night = Night(3 * HOUR)
    night.change("crrmon_oldest_pending", lambda _: steady(60 * 60), source_bucket="src-1")
    night.change("crrmon_stuck_objects", lambda _: between(75, 200, 2, 0), source_bucket="src-1")
    night.follow("a", "d", 100, 103)

    check(
        night,
        Woken(pages={"CrrmonObjectStuckPending": 1}, tickets={"CrrmonObjectStuckPending": 1}),
        tmp_path,
    )


def test_a_busy_route_on_which_some_object_is_always_a_little_late_is_a_ticket(
    tmp_path: Path,
) -> None:
    """Each of them arrives after twenty minutes: it is never the same one."""
    night = Night(3 * HOUR)
    night.change("crrmon_oldest_pending", lambda _: clock(20 * 60), source_bucket="src-1")
    night.change("crrmon_stuck_objects", lambda _: steady(2), source_bucket="src-1")

    check(night, Woken(tickets={"CrrmonObjectStuckPending": 1}), tmp_path)


def test_t7_a_clock_that_leaps_is_one_page(tmp_path: Path) -> None:
    """A day ahead at one replica, for half an hour: what its loops tell of their time is not believed."""
    night = Night(2 * HOUR)
    night.change("crrmon_clock_offset", lambda _: between(60, 90, 86400, 0.3), instance="b")
    night.change(
        "crrmon_last_success",
        lambda _: lambda minute: minute * 60 - (86400 if 60 <= minute < 90 else 0),
        instance="b",
    )

    check(
        night,
        Woken(pages={"CrrmonClockWrong": 1}, tickets={"CrrmonClockWrong": 1}),
        tmp_path,
    )
