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
    """How objects are looked at for their replication status."""

    freshness: Annotated[float, Field(ge=0, le=1), NUMBER] = 0.5
    """
    The one trade-off: 0 makes as few S3 requests as possible, 1 learns results as soon as possible. docs/performance.md
    has the curve.
    """
    concurrency: Annotated[int, Field(ge=1, le=1000), NUMBER] = 256
    """
    Maximum number of concurrent HEAD requests; each needs a connection. How many a bucket gets of them is felt for: it
    begins with 16, and goes by what S3 answers.
    """
    per_bucket_per_second: Annotated[float, Field(gt=0, le=5500), NUMBER] = 500.0
    """Maximum HEAD requests per second and bucket. S3 allows 5,500 per prefix, shared with your applications and replication."""
    stuck_after_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER] = 900.0
    """Age at which a pending object counts as stuck: S3's own promise is 15 minutes."""
    give_up_after_days: Annotated[float, Field(gt=0, le=365), NUMBER] = 14.0
    """Age at which an object without a final status is given up, and an unrepaired failure is closed."""

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
        hide_input_in_errors=True,
    )

    name: Annotated[str, Field(pattern=r"^[!-9;-~][ -~]{0,254}$")] = "crrmon"
    """Name of this monitor (all replicas together): the dimension of Heartbeat and QueueAge."""
    queues: Annotated[tuple[Queue, ...], AfterValidator(each_once)] = ()
    """The SQS queues to read, in any regions."""
    inboxes: tuple[Webhook, ...] = ()
    """Other ways for events to come in, besides or instead of the queues: webhooks for MinIO and Ceph, over HTTP."""
    buckets: Annotated[tuple[BucketName, ...], AfterValidator(no_repetition)] = ()
    """
    Source buckets for which zeros are reported from the start. Others are discovered through their events and remembered.
    """
    aws: Aws = Aws()
    accounts: Annotated[tuple[Account, ...], AfterValidator(no_contradiction)] = ()
    """
    Accounts and S3-compatible stores whose buckets need their own credentials or address. docs/operations.md has examples.
    """
    filter: Filter = Filter()
    intake: Intake = Intake()
    polling: Polling = Polling()
    ledger: LedgerSettings = LedgerSettings()
    report: Report = Report()
    http: Http = Http()
    log: Log = Log()
    shutdown_seconds: Annotated[float, Field(gt=0, le=3600), NUMBER] = 25.0
    """Maximum time from SIGTERM to exit. Keep it below the grace period of the platform (Kubernetes and ECS: 30 s)."""

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
        """Give the environment precedence over the file (which comes in as initial values)."""
        return env_settings, init_settings


def _sources(settings: Settings) -> Iterator[tuple[bool, str]]:
    """Return whether each of those that events come from has a name and a port of its own."""
    names = [queue_name(queue.url) for queue in settings.queues]
    ports = [settings.http.port]
    for place, one in enumerate(settings.inboxes):
        yield (
            one.name not in names,
            f"inboxes[{place}].name is {one.name}, which another inbox or a queue already uses: choose another name",
        )
        yield (
            one.port not in ports or not one.port,
            f"inboxes[{place}].port is {one.port}, which another inbox or http already uses: choose another port",
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
                f"intake.min_event_delay_seconds of {channel} is {delay:g}, which is not shorter than ledger.dedup_retention_days, "
                f"{settings.ledger.dedup_retention_days:g} ({retention:g} s): events that late are not counted; lower the former or "
                "raise the latter"
            ),
        )
    yield (
        stuck < give_up,
        (
            f"polling.give_up_after_days is {settings.polling.give_up_after_days:g} ({give_up:g} s), which is not longer than "
            f"polling.stuck_after_seconds, {stuck:g}: objects would be given up before they count as stuck; raise the "
            "former or lower the latter"
        ),
    )
    yield (
        hold < stuck,
        (
            f"intake.hold_seconds is {hold:g}, which is not shorter than polling.stuck_after_seconds, {stuck:g}: objects of "
            "held messages have not been looked at and cannot count as stuck; lower the former or raise the latter"
        ),
    )
    least = _SHORTEST_RETENTION_SECONDS + hold + window
    yield (
        retention >= least,
        (
            f"ledger.dedup_retention_days is {settings.ledger.dedup_retention_days:g} ({retention:g} s): with intake.hold_seconds of "
            f"{hold:g} and report.window_seconds of {window} it must be at least {least / DAY_SECONDS:.3g}, because "
            "events arrive late or twice, and those that arrive after the dedup retention are not counted; set it no shorter than "
            "the retention of the queue"
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
        yield (False, f"{named}, and filter.exclude excludes all of it: correct one of them")
    for bucket in settings.buckets:
        reason = "filter.exclude excludes all of it"
        if selection.include and not any(pattern(one).fits(bucket) for one in selection.include):
            reason = "filter.include does not name it"
        yield (
            choice.touches(bucket),
            (
                f"buckets names {bucket}, but {reason}: zeros would be reported for it although nothing in it is followed; "
                "remove it from buckets, or follow it"
            ),
        )
