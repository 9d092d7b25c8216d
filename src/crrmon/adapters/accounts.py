"""Whose credentials a bucket is looked at with: those of its account's role, of a profile, or the daemon's own."""

import fnmatch
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crrmon.adapters.account_way import AccountError, KnownAccount, Way, is_news, of_a_store
from crrmon.adapters.aws import AwsSession
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters

if TYPE_CHECKING:  # the stubs are there for development only
    pass

ANY = "*"
"""The id of the account that stands for all that are not named."""

MAX_ACCOUNTS = 1000
"""Owners come out of messages: nonsense there must not fill the memory."""

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


class UnknownSiteError(AccountError):
    """A bucket of this name is at several sites, and nobody knows which is meant; or at one that no account names."""


class TooManyAccountsError(AccountError):
    """One more account was named than there can reasonably be."""


class Accounts:
    """Tells how each bucket is reached.

    Args:
        aws: makes the clients.
        accounts: those of the configuration; buckets of all others are looked at with the daemon's own credentials.
        clock: spaces attempts that fail.
        meters: counts them.
    """

    def __init__(
        self, aws: AwsSession, accounts: Sequence[KnownAccount], *, clock: Clock, meters: Meters
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._meters = meters
        self._patterns = [
            (pattern, account) for account in accounts for pattern in account.buckets
        ] + [(pattern, account) for account in accounts for pattern in account.request_payer]
        self._by_id = {account.id: account for account in accounts}
        self._by_site: dict[str | None, KnownAccount] = {
            account.site: account for account in accounts if account.site
        }
        self._ways: dict[str, Way] = {}
        logging.getLogger("aiobotocore.credentials").addFilter(is_news)

    def way(self, bucket: str, owner: str | None) -> Way:
        """Return how a bucket is reached.

        Args:
            bucket: its name, which decides where neither account nor site is named.
            owner: the account or the site that it belongs to, where known.

        Raises:
            TooManyAccountsError: there are more accounts than there can reasonably be.
            UnknownSiteError: it is at several sites, or at another one than those known.
        """
        return self._way(*self._chosen(bucket, owner))

    def named(self, account: str) -> Way:
        """Return how the buckets of an account of the configuration are reached, by its id."""
        return self._way(account, self._by_id[account])

    def way_from(
        self, source: str, source_owner: str | None, bucket: str, owner: str | None
    ) -> Way:
        """Return how a destination is reached. One that has its source's name is at another site.

        Args:
            source: bucket of the source.
            source_owner: the account or the site that it belongs to, where known.
            bucket: of the destination.
            owner: the account that it belongs to, where a rule names it.

        Raises:
            TooManyAccountsError: there are more accounts than there can reasonably be.
            UnknownSiteError: nobody can tell at which site it is.
        """
        if bucket != source or owner is not None:
            return self.way(bucket, owner)
        own, _ = self._chosen(source, source_owner)
        others = [one for one in self._having(bucket) if one.id != own]
        if len(others) != 1:
            raise UnknownSiteError(
                f"bucket {bucket} replicates to a bucket of the same name, and {len(others)} other accounts have one: "
                "configure an account with that bucket (accounts[].buckets) for the other site only, and for no third one"
            )
        return self._way(others[0].id, others[0])

    def elsewhere(self, bucket: str) -> bool:
        """Return whether a bucket is in a store with an endpoint of its own, as far as its name tells."""
        return any(map(of_a_store, self._having(bucket)))

    def sites(self, bucket: str) -> tuple[str | None, ...]:
        """
        Return all owners by which a bucket is reached that accounts have under its name: None where one way serves all.
        """
        if not self._by_site:
            return (None,)
        sites = [one.site for one in self._having(bucket) if one.site]
        return tuple(sites) if len(sites) > 1 else (None,)

    def _way(self, name: str, account: KnownAccount | None) -> Way:
        way = self._ways.get(name)
        if way is None:
            if len(self._ways) >= MAX_ACCOUNTS:
                raise TooManyAccountsError(
                    f"account {name}: there are already {len(self._ways)} accounts; check the owners in the messages"
                )
            way = Way(name, account, aws=self._aws, clock=self._clock, meters=self._meters)
            self._ways[name] = way
        return way

    def _chosen(self, bucket: str, owner: str | None) -> tuple[str, KnownAccount | None]:
        if owner is not None and _ACCOUNT_ID.fullmatch(owner):
            account = self._by_id.get(owner) or self._by_id.get(ANY)
            return (owner, account) if account else ("", None)
        account = self._by_site.get(owner) or self._by_name(bucket, owner)
        return (account.id, account) if account else ("", None)

    def _by_name(self, bucket: str, site: str | None) -> KnownAccount | None:
        """Return the account to whose patterns a bucket belongs, the first of several; None where there is none.

        Raises:
            UnknownSiteError: its name does not tell which bucket is meant.
        """
        having = self._having(bucket)
        if site is not None and having:
            having = [account for account in having if account.site is None]
            if not having:
                raise UnknownSiteError(
                    f"bucket {bucket}: its event comes from site {site}, which no account has as accounts[].site"
                )
        sites = [account.site for account in having if account.site]
        if len(sites) > 1 and having[0].site:
            raise UnknownSiteError(
                f"bucket {bucket} is at {len(sites)} sites, and nothing says which is meant"
            )
        return having[0] if having else None

    def _having(self, bucket: str) -> list[KnownAccount]:
        """Return the accounts to whose patterns a bucket belongs, in their order, each once."""
        fitting = {
            account.id: account
            for pattern, account in self._patterns
            if fnmatch.fnmatchcase(bucket, pattern)
        }
        return list(fitting.values())
