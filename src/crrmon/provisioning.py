"""What provisions, put together from the settings, for commands that people run."""

import os
from collections.abc import Callable, Collection

from crrmon.adapters.provisioning.clients import Clients
from crrmon.adapters.provisioning.surveys import AwsBucketSurvey
from crrmon.adapters.sdk_settings import SdkSettingsError, faults, forget_blanks
from crrmon.config import Settings
from crrmon.domain.deployment.discovery import Discovery
from crrmon.domain.deployment.logins import Login
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.bucket_survey import OWN_ACCOUNT
from crrmon.services.deployment.discoverer import Discoverer, Progress

ANY_ACCOUNT = "*"
"""The id of the accounts that the configuration does not name: they cannot be searched, as nobody lists them."""


def check_sdk() -> None:
    """Make sure that AWS's SDK can be used as it is set up, as far as that can be known without asking anybody.

    Its variables without a value are taken out of the environment: they count as not set.

    Raises:
        SdkSettingsError: it cannot.
    """
    forget_blanks(os.environ)
    if found := faults(os.environ, attended=True):
        raise SdkSettingsError("\n".join(found))


def clients_of(settings: Settings) -> Clients:
    """Open the way to the accounts of AWS that the settings name, and to that of the credentials at hand."""
    logins = [
        Login(
            name=account.id,
            role_arn=(account.role_arn or "").replace("{account}", account.id) or None,
            external_id=account.external_id,
            profile=account.profile,
            region=account.region,
        )
        for account in settings.accounts
        if account.id != ANY_ACCOUNT
        and (account.endpoint_url is None or is_of_aws(account.endpoint_url))
    ]
    return Clients(
        [Login(name=OWN_ACCOUNT), *logins],
        endpoint_url=settings.aws.endpoint_url,
        default_region=settings.aws.region,
    )


async def discover(
    settings: Settings,
    *,
    told: Callable[[Progress], None],
    exclude_regions: Collection[str] = (),
) -> Discovery:
    """Find all buckets of all accounts that replicate, and what tells of them today.

    Args:
        settings: name the accounts.
        told: how far it is, whenever that changes.
        exclude_regions: the regions that are left out.
    """
    with clients_of(settings) as clients:
        survey = AwsBucketSurvey(clients)
        return await Discoverer(survey, told=told, exclude_regions=exclude_regions).run()
