"""Where at AWS something stands."""

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A region of an account."""

    account: str
    """Twelve digits."""
    region: str
    partition: str = "aws"
    """What ARNs there begin with after `arn:`; `aws-cn` in China, `aws-us-gov` in GovCloud."""
