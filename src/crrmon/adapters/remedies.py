"""What to do about errors of AWS, in words for people."""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from botocore.exceptions import (
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    UnknownCredentialError,
)

from crrmon.adapters.aws import MAX_S3_CLIENTS
from crrmon.adapters.border import (
    THROTTLED_CODES,
    NoAnswerError,
    TooManyClientsError,
    UnaskedError,
    UnsignedAnswerError,
    code_of,
    status_of,
)
from crrmon.adapters.sdk_settings import faults

SET_REGION = "set aws.region, AWS_REGION, or region in the profile"

SETTINGS_ERRORS = (
    ConfigParseError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    ProfileNotFound,
    UnknownCredentialError,
)
"""What the SDK raises for how it is set up; their texts hold names and no secrets."""

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "403"}
)
CREDENTIALS_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""What is wrong with whoever asks, whatever they ask for."""
CREDENTIALS_REMEDY = "check the daemon's credentials and the machine's clock"
_TAKING_A_ROLE = ("AssumeRole", "AssumeRoleWithWebIdentity")
_ROLE_REMEDY = "check AWS_ROLE_ARN (or role_arn of the profile), and whether the role's trust policy lets the daemon assume it"


def explain(
    error: Exception,
    *,
    permission: str,
    advice: Mapping[str, str] = MappingProxyType({}),
    whom: str = "the daemon's role",
    address: str = "aws.endpoint_url",
) -> str:
    """Say why an AWS call failed and what to do about it.

    Args:
        error: what it raised.
        permission: the IAM action to grant, in case it was denied, and on what.
        advice: what to do about certain error codes.
        whom: to grant it to.
        address: the setting that says where the service is.

    Returns:
        The code with AWS's own sentence, or the error's class, and the remedy. Never a URL: it may hold a key.
    """
    if isinstance(error, NoAnswerError):
        error = error.met
    if not isinstance(error, ClientError):
        return f"{type(error).__name__}; {_remedy(error, address)}"
    code = code_of(error)
    sentence = str(error.response.get("Error", {}).get("Message", ""))[:300]
    said = f"{code} ({sentence})" if sentence else code
    remedy = advice.get(code) or _remedy_of_code(error, f"grant {permission} to {whom}")
    return f"{said}; {remedy}" if remedy else said


def _remedy_of_code(error: ClientError, grant: str) -> str:
    code = code_of(error)
    refused = status_of(error) // 100 == 4 and code not in CREDENTIALS_CODES | THROTTLED_CODES  # noqa: PLR2004 - 4xx
    if refused and error.operation_name in _TAKING_A_ROLE:
        return f"{error.operation_name} was refused: {_ROLE_REMEDY}"
    if code in _DENIED:
        return grant
    if code in CREDENTIALS_CODES:
        return CREDENTIALS_REMEDY
    return "AWS is throttling and asks for fewer calls" if code in THROTTLED_CODES else ""


_REMEDIES: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], str]] = (
    (
        (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError),
        "check the daemon's credentials: its role, or the AWS_* variables",
    ),
    (NoRegionError, f"no region is known: {SET_REGION}"),
    (InvalidRegionError, f"{{error}} To correct it, {SET_REGION}"),
    (SETTINGS_ERRORS, "{error} Correct this in the AWS_* variables or the SDK's shared files"),
    (
        SSLError,
        (
            "the certificate of the server that answered is not trusted: check {address}; if a proxy intercepts TLS, set "
            "AWS_CA_BUNDLE to its certificates"
        ),
    ),
    (
        TooManyClientsError,
        (
            f"one daemon handles at most {MAX_S3_CLIENTS} pairs of account and region: check the accounts and "
            "regions in the messages, or use several daemons, each with its own queues"
        ),
    ),
    (
        UnsignedAnswerError,
        "something other than AWS answered, such as a proxy: check the network and {address}",
    ),
    (Exception, "check the network, the region and {address}"),
)


def _remedy(error: Exception, address: str) -> str:
    # What is wrong with the settings shows in many forms, as no credentials or a header that is none, but not in these.
    if not _of_the_network(error) and (found := faults(os.environ)):
        return "; ".join(found)
    return next(remedy for kind, remedy in _REMEDIES if isinstance(error, kind)).format(
        error=error, address=address
    )


def _of_the_network(error: Exception) -> bool:
    """Return whether somebody was asked who did not answer, or not as a service does."""
    # The class above all of these stands for whatever the SDK did not expect.
    asked = isinstance(error, HTTPClientError) and type(error) is not HTTPClientError
    return asked or isinstance(error, TimeoutError | UnsignedAnswerError | UnaskedError)
