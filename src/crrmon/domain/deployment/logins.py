"""As whom each account is asked."""

import msgspec


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How one account is reached: by a role, by a profile, by both, or by the credentials at hand."""

    name: str
    """Of the account, as the configuration has it; empty for that of the credentials at hand."""
    role_arn: str | None = None
    """Role to assume there."""
    external_id: str | None = None
    """External id that the role's trust policy requires."""
    profile: str | None = None
    """Profile in the SDK's shared files whose credentials are used, or assume the role."""
    region: str | None = None
    """Where to ask what is of no region; None for the default one."""
