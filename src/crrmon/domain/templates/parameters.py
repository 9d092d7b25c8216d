"""What all templates have: the deployment's name as a parameter, and where a stack stands as CloudFormation tells it."""

from typing import Final

from crrmon.domain.deployment.names import DEPLOYMENT_NAME, LONGEST_NAME, Names
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates.intrinsics import ACCOUNT, PARTITION, REGION
from crrmon.domain.templates.template import Parameter

HERE: Final = Place(
    account=f"${{{ACCOUNT}}}", region=f"${{{REGION}}}", partition=f"${{{PARTITION}}}"
)
"""Where the stack stands, for texts that `sub` fills in."""

NAMES: Final = Names("${Deployment}")
"""What everything is called, for texts that `sub` fills in."""

DEPLOYMENT: Final = Parameter(
    description=f"Name of the deployment, at most {LONGEST_NAME} characters: all names begin with it.",
    default="crrmon",
    # No function counts characters, so the pattern does: by looking ahead.
    pattern=rf"^(?=.{{1,{LONGEST_NAME}}}$){DEPLOYMENT_NAME}$",
    constraint="must be lower-case letters, digits and single dashes, with a letter first and no dash at the end",
)

KEY_ARN = r"^$|^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$"
KEY_CONSTRAINT = "must be the ARN of a key, not of an alias, or empty"
BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
"""A value of a list of buckets."""
