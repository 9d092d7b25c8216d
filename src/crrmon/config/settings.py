"""All settings, and which of them go together."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from crrmon.config.accounts import Account, Aws, BucketName, no_contradiction
from crrmon.config.intake import Filter, Intake, Queue, Webhook, each_once
from crrmon.config.ledger import LedgerSettings
from crrmon.config.report import Http, Log, Report
from crrmon.config.section import DAY_SECONDS, NUMBER, Section, held, no_repetition
from crrmon.domain.choice import pattern
from crrmon.domain.queue_address import queue_name

PREFIX = "CRRMON_"


NESTING = "__"


_SHORTEST_RETENTION_SECONDS = 3600.0
"""CloudTrail's events come up to a quarter of an hour after S3's own of the same object, and more in bad times."""


class Polling(Section):
    """How replication status is looked at."""

    freshness: Annotated[float, Field(ge=0, le=1), NUMBER] = 0.5
    """
    The one trade-off: 0 asks S3 as seldom as possible, 1 knows as soon as possible. docs/performance.md has the curve.
    """
    concurrency: Annotated[int, Field(ge=1, le=1000), NUMBER] = 64
    """Most HEAD requests under way at once."""
    per_bucket_per_second: Annotated[float, Field(gt=0, le=5500), NUMBER] = 500.0
    """Most HEAD requests a second and bucket. S3 allows 5,500 a prefix, which your applications and replication share."""
    stuck_after_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER] = 900.0
    """Age at which a pending object counts as stuck: S3's own promise is 15 minutes."""
    give_up_after_days: Annotated[float, Field(gt=0, le=365), NUMBER] = 14.0
    """Age at which an object that is never final is given up, and a failure nobody repairs is closed."""

    @property
    def give_up_after_seconds(self) -> float:
        """`give_up_after_days` in seconds."""
        return self.give_up_after_days * DAY_SECONDS


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTING,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    name: Annotated[str, Field(pattern=r"^[!-9;-~][ -~]{0,254}$")] = "crrmon"
    """Name of this monitor (all replicas together): the dimension of Heartbeat and QueueAge."""
    queues: Annotated[tuple[Queue, ...], AfterValidator(each_once)] = ()
    """The SQS queues to read, in any regions."""
    inboxes: tuple[Webhook, ...] = ()
    """Where events come in otherwise, beside the queues or in their place: MinIO's and Ceph's, over HTTP."""
    buckets: Annotated[tuple[BucketName, ...], AfterValidator(no_repetition)] = ()
    """
    Source buckets whose zeros are reported from the start. Others are met through their events and remembered.
    """
    aws: Aws = Aws()
    accounts: Annotated[tuple[Account, ...], AfterValidator(no_contradiction)] = ()
    """
    Accounts and S3-compatible stores whose buckets are reached in a way of their own. docs/operations.md has examples.
    """
    filter: Filter = Filter()
    intake: Intake = Intake()
    polling: Polling = Polling()
    ledger: LedgerSettings = LedgerSettings()
    report: Report = Report()
    http: Http = Http()
    log: Log = Log()
    shutdown_seconds: Annotated[float, Field(gt=0, le=3600), NUMBER] = 25.0
    """
    Longest time from SIGTERM to the end. Below the grace of whoever stops the daemon (Kubernetes and ECS: 30 s).
    """

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        return held(self, [*_sources(self), *_times(self), *_choice(self)])

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file (which comes in as initial values)."""
        return env_settings, init_settings


def _sources(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Return whether each of those that events come from has a name and a port of its own."""
    names = [queue_name(queue.url) for queue in settings.queues]
    ports = [settings.http.port]
    for place, one in enumerate(settings.inboxes):
        yield (
            one.name not in names,
            f"inboxes[{place}].name is {one.name}, as another inbox or a queue is called: give it one of its own",
        )
        yield (
            one.port not in ports or not one.port,
            f"inboxes[{place}].port is {one.port}, as another inbox or http has it: give it one of its own",
        )
        names.append(one.name)
        ports.append(one.port)


def _times(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Return which times go together, and what to do where they do not."""
    hold, stuck = settings.intake.hold_seconds, settings.polling.stuck_after_seconds
    give_up = settings.polling.give_up_after_seconds
    retention = settings.ledger.dedup_retention_seconds
    window = settings.report.window_seconds
    for channel, delay in settings.intake.min_event_delay_seconds.items():
        yield (
            delay < retention,
            (
                f"intake.min_event_delay_seconds of {channel} is {delay:g} and not shorter than ledger.dedup_retention_days, "
                f"{settings.ledger.dedup_retention_days:g} ({retention:g} s): events that late are not counted; lower the one or "
                "raise the other"
            ),
        )
    yield (
        stuck < give_up,
        (
            f"polling.give_up_after_days is {settings.polling.give_up_after_days:g} ({give_up:g} s) and not longer than "
            f"polling.stuck_after_seconds, {stuck:g}: objects would be given up before they count as stuck; raise the one "
            "or lower the other"
        ),
    )
    yield (
        hold < stuck,
        (
            f"intake.hold_seconds is {hold:g} and not shorter than polling.stuck_after_seconds, {stuck:g}: what is held "
            "was not looked at, and cannot count as stuck; lower the one or raise the other"
        ),
    )
    least = _SHORTEST_RETENTION_SECONDS + hold + window
    yield (
        retention >= least,
        (
            f"ledger.dedup_retention_days is {settings.ledger.dedup_retention_days:g} ({retention:g} s): with intake.hold_seconds of "
            f"{hold:g} and report.window_seconds of {window} it must be at least {least / DAY_SECONDS:.3g}, for events "
            "come late and come twice, and one that comes after the dedup retention is not counted; no shorter than the retention "
            "of the queue is right"
        ),
    )


def _choice(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Return whether something is followed of all that is named, and what to do where nothing is."""
    selection = settings.filter
    choice = selection.choice
    for bucket in choice.void():
        named = (
            f"filter.include names {bucket}"
            if selection.include
            else "filter.include names nothing"
        )
        yield (False, f"{named}, and filter.exclude leaves all of it out: correct one of them")
    for bucket in settings.buckets:
        reason = "filter.exclude leaves all of it out"
        if selection.include and not any(pattern(one).fits(bucket) for one in selection.include):
            reason = "filter.include does not name it"
        yield (
            choice.touches(bucket),
            (
                f"buckets names {bucket}, but {reason}: its zeros would be reported though nothing of it is followed; "
                "take it out of buckets, or follow it"
            ),
        )
