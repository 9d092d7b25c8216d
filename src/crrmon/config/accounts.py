"""How AWS is reached, and the accounts and S3-compatible stores that are reached in a way of their own."""

import itertools
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from crrmon.config.addresses import Address
from crrmon.config.section import Region, Section, held, no_repetition
from crrmon.domain.bucket_patterns import overlap
from crrmon.domain.objects import BUCKET_NAME, SITE
from crrmon.domain.queue_address import is_of_aws

BucketName = Annotated[str, Field(pattern=f"^{BUCKET_NAME}$")]


BucketPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,255}$")]


def _quoted(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("must be in quotes, because YAML reads it as a number")  # noqa: TRY004 - pydantic's protocol
    return value


class Aws(Section):
    """How AWS is reached. Credentials come from the SDK's usual places, never from here."""

    region: Region | None = None
    """Default region; if unset, the SDK's own (AWS_REGION, profile)."""
    endpoint_url: Address | None = None
    """Send every AWS call here instead; for emulators. S3-compatible stores belong in `accounts`."""
    client: Literal["auto", "fast", "sdk"] = "auto"
    """What makes the calls of every object: crrmon's own client (fast) or AWS's SDK. auto takes the fast one for AWS's
    plain endpoints and the SDK for all others; docs/aws-client.md says more.
    """


class Account(Section):
    """One account whose buckets need credentials other than the daemon's own, or one S3-compatible store."""

    id: Annotated[
        str,
        Field(pattern=r"^([0-9]{12}|\*|[A-Za-z][A-Za-z0-9._-]{0,63})$"),
        BeforeValidator(_quoted),
    ]
    """The account's twelve digits, in quotes; "*" for every account that is not named; any short name for an
    S3-compatible store.
    """
    role_arn: (
        Annotated[
            str,
            Field(
                pattern=r"^arn:aws[a-z0-9-]*:iam::([0-9]{12}|\{account\}):role/[A-Za-z0-9_+=,.@/-]+$"
            ),
        ]
        | None
    ) = None
    """Role to assume there; {account} in it stands for the account's id. Without one, the daemon's own credentials are
    used.
    """
    external_id: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]+$", min_length=2, max_length=1224)]
        | None
    ) = None
    """External id that the role's trust policy requires."""
    profile: Annotated[str, Field(min_length=1)] | None = None
    """
    Profile in the SDK's shared files (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE) whose credentials are used there,
    or assume the role; for a store's own access key, or another partition.
    """
    endpoint_url: Address | None = None
    """Address of an S3-compatible store, for S3 requests only."""
    path_style: bool = True
    """Whether the store expects the bucket in the URL path (MinIO, Ceph); otherwise in the host name."""
    region: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")] | None = None
    """
    Region of buckets whose events name none, and of the STS that is called; with `endpoint_url` the region of all its
    buckets. Default: `aws.region`.
    """
    site: Annotated[str, Field(pattern=f"^{SITE}$")] | None = None
    """Which site of a store this is, if several have buckets of the same names: its deployment id, as in its events
    (x-minio-deployment-id; `mc admin info ALIAS --json` shows it).
    """
    buckets: tuple[BucketPattern, ...] = ()
    """Patterns (acme-*) of the buckets that belong to it, for events that name no account: S3's notifications, and all
    events of an S3-compatible store.
    """
    request_payer: tuple[BucketPattern, ...] = ()
    """
    Patterns of its Requester Pays buckets that are not the daemon's own: S3 answers 403 to requests that do not agree to
    pay. If an event names no account, they also count as patterns of its buckets.
    """
    reports_status: bool = True
    """
    Whether HEAD reports the replication status of sources. If not, an object's arrival is learned from the replica's own
    event, and from looks at the destination where those are allowed.
    """

    @model_validator(mode="after")
    def _consistent(self) -> "Account":
        numbered, catch_all = self.id.isdecimal(), self.id == "*"
        placeholder = "{account}" in (self.role_arn or "")
        rules = (
            (not catch_all or placeholder, 'id "*" needs a role_arn that contains {account}'),
            (
                not catch_all or not (self.buckets or self.endpoint_url),
                'id "*" stands for many accounts, so it takes no buckets and no endpoint_url',
            ),
            (
                numbered or catch_all or self.buckets or self.request_payer,
                "an id other than twelve digits appears in no event: set buckets",
            ),
            (
                numbered or catch_all or not placeholder,
                "{account} in role_arn needs an id of twelve digits",
            ),
            (not self.external_id or self.role_arn, "external_id needs a role_arn"),
            (self.path_style or self.endpoint_url, "path_style needs an endpoint_url"),
            (
                self.reports_status or self.endpoint_url,
                "AWS reports the status; reports_status needs an endpoint_url",
            ),
            (
                not (self.request_payer and self.endpoint_url) or is_of_aws(self.endpoint_url),
                "request_payer is for AWS S3 only: remove it, or the endpoint_url of another store",
            ),
            (not self.site or self.endpoint_url, "site needs an endpoint_url"),
        )
        return held(self, rules)


def no_contradiction(accounts: tuple[Account, ...]) -> tuple[Account, ...]:
    """Refuse accounts of the same name, and accounts that claim the same bucket."""
    ids = [account.id for account in accounts]
    sites = [account.site for account in accounts if account.site]
    paid = [pattern for account in accounts for pattern in account.request_payer]
    for names in (ids, sites, paid, *(account.buckets for account in accounts)):
        no_repetition(tuple(names))
    for account, other in itertools.combinations(accounts, 2):
        _no_shared_bucket(account, other)
    return accounts


def _no_shared_bucket(one: Account, two: Account) -> None:
    """
    Refuse two accounts that have buckets of one name, unless events tell which is meant. Where one of them is AWS, names
    are told apart by the order in the file, as long as they are not the same.
    """
    if one.site and two.site:
        return
    stores = one.endpoint_url and two.endpoint_url
    for here, there in itertools.product(one.buckets, two.buckets):
        if here == there or (stores and overlap(here, there)):
            raise ValueError(
                f"a bucket that matches both {here} of {one.id} and {there} of {two.id} would be looked for at {one.id}"
                " only; give both an accounts[].site, the deployment id in their events, or patterns that do not overlap"
            )
