"""What everything that a deployment makes is called.

All names follow from the deployment's, so every ARN is known before anything exists: policies can name what another
stack makes, stacks can be made in any order, and whatever bears such a name already is found before it is in the way.

A template writes its names with the same functions, with parameters of CloudFormation in place of texts.
"""

import re

import msgspec

from crrmon.domain.deployment.places import Place

LONGEST_NAME = 20
"""Characters of a deployment's name: names of roles and rules end at 64, and CloudFormation adds to some."""

DEPLOYMENT_NAME = r"[a-z](-?[a-z0-9])*"
"""What a deployment may be called. NB: CloudTrail refuses two dashes in a row, so none may stand at the end."""

_DEPLOYMENT_NAME = re.compile(DEPLOYMENT_NAME)


class NameRefusedError(ValueError):
    """A deployment cannot be called that; the text says what it can be called."""


class Names(msgspec.Struct, frozen=True):
    """The names of what one deployment makes."""

    stem: str
    """The deployment's name, or what a template has in its place."""

    @property
    def monitor_stack(self) -> str:
        """The stack of what there is once: table, role of the daemon, alarms."""
        return f"{self.stem}-monitor"

    @property
    def agent_stack(self) -> str:
        """The stack of what there is in each account and region."""
        return f"{self.stem}-agent"

    @property
    def service_stack(self) -> str:
        """The stack of the daemon on ECS."""
        return f"{self.stem}-service"

    @property
    def notification_id(self) -> str:
        """The Id of the deployment's entry in a bucket's notification configuration."""
        return f"crrmon-{self.stem}"

    @property
    def queue(self) -> str:
        """The queue of events in each account and region."""
        return f"{self.stem}-events"

    @property
    def dead_letters(self) -> str:
        """Its dead-letter queue."""
        return f"{self.stem}-events-dead"

    @property
    def trail(self) -> str:
        """The trail that records writes."""
        return f"{self.stem}-writes"

    @property
    def monitor_role(self) -> str:
        """The daemon's own role."""
        return f"{self.stem}-monitor"

    @property
    def agent_role(self) -> str:
        """The role that the daemon takes in an account that is not its own."""
        return f"{self.stem}-agent"

    @property
    def topic(self) -> str:
        """The topic of the monitor's alarms."""
        return f"{self.stem}-alarms"

    @property
    def agent_topic(self) -> str:
        """The topic of an agent's alarms, where it has one of its own; it may stand beside the monitor's."""
        return f"{self.stem}-agent-alarms"

    @property
    def table(self) -> str:
        """The ledger's table."""
        return f"{self.stem}-ledger"

    @property
    def batch_rule(self) -> str:
        """The rule for keys of batch deletes whose events name no bucket."""
        return self.trail_rule("batches")

    def native_rule(self, number: int | str) -> str:
        """Return the name of a rule for S3's own events; `*` for any of them."""
        return f"{self.stem}-native-{number}"

    def trail_rule(self, number: int | str) -> str:
        """Return the name of a rule for a trail's events; `*` for any of them."""
        return f"{self.stem}-trail-{number}"

    def failures_alarm(self, bucket: str) -> str:
        """Return the name of a source bucket's own alarm for failures."""
        return f"{self.stem}-failed-{bucket}"

    def table_arn(self, place: Place) -> str:
        """Return the ARN of the ledger's table."""
        return table_arn(place, self.table)

    def queue_arn(self, place: Place) -> str:
        """Return the ARN of the queue of events."""
        return _arn("sqs", place, self.queue)

    def dead_letters_arn(self, place: Place) -> str:
        """Return the ARN of its dead-letter queue."""
        return _arn("sqs", place, self.dead_letters)

    def native_rule_arn(self, place: Place, number: int | str) -> str:
        """Return the ARN of a rule for S3's own events on the default bus; `*` for any of them."""
        return _arn("events", place, f"rule/{self.native_rule(number)}")

    def trail_rule_arn(self, place: Place, number: int | str) -> str:
        """Return the ARN of a rule for a trail's events on the default bus; `*` for any of them."""
        return _arn("events", place, f"rule/{self.trail_rule(number)}")

    def trail_arn(self, place: Place) -> str:
        """Return the ARN of the trail."""
        return _arn("cloudtrail", place, f"trail/{self.trail}")

    def topic_arn(self, place: Place) -> str:
        """Return the ARN of the topic of the monitor's alarms."""
        return _arn("sns", place, self.topic)

    def monitor_role_arn(self, place: Place) -> str:
        """Return the ARN of the daemon's own role."""
        return f"arn:{place.partition}:iam::{place.account}:role/{self.monitor_role}"

    def agent_role_arn(self, place: Place) -> str:
        """Return the ARN of the role that the daemon takes in another account."""
        return f"arn:{place.partition}:iam::{place.account}:role/{self.agent_role}"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One installation of crrmon at AWS: a monitor, and agents wherever there are buckets.

    Raises:
        NameRefusedError: it cannot have that name.
    """

    name: str
    monitor: Place
    """Where the daemon's own things are."""

    def __post_init__(self) -> None:
        """Refuse a name that something could not be called after."""
        if len(self.name) > LONGEST_NAME or not _DEPLOYMENT_NAME.fullmatch(self.name):
            raise NameRefusedError(
                f"a deployment cannot be called {self.name!r}: use at most {LONGEST_NAME} lower-case letters, "
                "digits and single dashes, with a letter first and no dash at the end"
            )

    @property
    def names(self) -> Names:
        """What everything of it is called."""
        return Names(self.name)


def _arn(service: str, place: Place, resource: str) -> str:
    return f"arn:{place.partition}:{service}:{place.region}:{place.account}:{resource}"


def table_arn(place: Place, table: str) -> str:
    """Return the ARN of a table."""
    return _arn("dynamodb", place, f"table/{table}")


def bucket_arn(name: str, partition: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:{partition}:s3:::{name}"
