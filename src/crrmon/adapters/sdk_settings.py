"""What AWS's SDK is told by variables and by its shared files, and what is wrong with that.

The SDK itself finds out when it is first used, or only when a service refuses what it sent, and then says little: that
a header is none, that no credentials were found. Here each fault comes with the name of the variable, or the profile
and the file, that it stands in, and with what to do. Nobody is asked anything, and no secret is shown.
"""

import configparser
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
from botocore.configloader import load_config, raw_config_parse
from botocore.exceptions import ConfigParseError

from crrmon.domain.redaction import harmless, shown

Check = Callable[[str], str]
"""Says what is wrong with a value, and what to do; the empty string where nothing is."""


class SdkSettingsError(Exception):
    """The SDK cannot be used as it is set up; the text says why and what to do, a line for each fault."""


def forget_blanks(environment: MutableMapping[str, str]) -> None:
    """Take the SDK's variables out that have no value: templates leave them behind, and the SDK takes some for a value."""
    blank = [
        name
        for name, value in environment.items()
        if name.startswith("AWS_") and not value.strip()
    ]
    for name in blank:
        del environment[name]


def faults(
    environment: Mapping[str, str], *, profile: str | None = None, attended: bool = False
) -> list[str]:
    """Return what is wrong with how the SDK is set up.

    Args:
        environment: the variables; those that are blank must be gone.
        profile: whose credentials are to be used, instead of those that the variables name.
        attended: whether somebody is there to enter a code.

    Returns:
        A line for each fault, beginning with what is at fault; nothing where all is well.
    """
    shared = _Shared.read(environment)
    found = [*_of_variables(environment, profile), *shared.faults]
    # What cannot be read has profiles that nobody knows of.
    if shared.faults:
        return found
    return [*found, *_of_profile(environment, shared, profile, attended=attended)]


# ---- values ----


def _key(value: str) -> str:
    odd = re.search(r"[\x00-\x1f\x7f]|^ | $", value)
    if odd is None:
        return ""
    what = {"\n": "a line feed", "\r": "a carriage return", "\t": "a tab", " ": "a space"}
    return (
        f"it contains {what.get(odd[0], 'a control character')}, which no key does: write it again without it; "
        "for a Secret use printf %s, because echo adds a line feed"
    )


def _region(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9-]{1,63}", value):
        return ""
    return f"{shown(value)} is not a region: use AWS's name, such as eu-west-1"


def _url(value: str) -> str:
    if re.match(r"https?://[^\s/?#]", value):
        return ""
    return f"{shown(value)} is not an address: start it with http:// or https://"


def _number(value: str) -> str:
    if value.isascii() and value.strip().isdigit():
        return ""
    return f"{shown(value)} is not a whole number: correct or remove it"


def _one_of(*allowed: str) -> Check:
    def check(value: str) -> str:
        return (
            ""
            if value.lower() in allowed
            else f"{shown(value)} is not one of {', '.join(allowed)}"
        )

    return check


def _role(value: str) -> str:
    if re.fullmatch(r"arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/\S+", value):
        return ""
    return f"{shown(value)} is not a role: use the form arn:aws:iam::ACCOUNT:role/NAME"


def _named(path: str) -> str:
    """Return what may be shown of a path: in its place may stand the token itself."""
    return harmless(path) if path[:1] in "/~." else "the file that it should name"


def _token_file(value: str) -> str:
    try:
        held = Path(value).read_bytes()
    except (OSError, ValueError) as error:
        return _unreadable(value, error, "the token")
    return "" if held.strip() else f"{_named(value)} is empty: it must contain a token"


def _certificates(value: str) -> str:
    try:
        with Path(value).open("rb"):
            ssl.create_default_context(cafile=value)
    except ssl.SSLError:
        return f"{_named(value)} contains no certificates: they must be in PEM format"
    except (OSError, ValueError) as error:
        return _unreadable(value, error, "certificates")
    return ""


def _unreadable(value: str, error: Exception, wanted: str) -> str:
    why = error.strerror if isinstance(error, OSError) else "no path"
    return f"{_named(value)} cannot be read ({why}): mount {wanted} there, or remove the setting"


_KEY_ID, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_TOKEN_FILE, _ROLE = "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"

_CREDENTIALS: Mapping[str, Check] = {
    _KEY_ID: _key,
    _SECRET: _key,
    "AWS_SESSION_TOKEN": _key,
    "AWS_SECURITY_TOKEN": _key,
}
_IDENTITY: Mapping[str, Check] = {
    _TOKEN_FILE: _token_file,
    _ROLE: _role,
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": _token_file,
}
_SERVICES = ("S3", "SQS", "CLOUDWATCH", "DYNAMODB", "STS")
_SETTINGS: Mapping[str, Check] = {
    "AWS_REGION": _region,
    "AWS_DEFAULT_REGION": _region,
    "AWS_ENDPOINT_URL": _url,
    **{f"AWS_ENDPOINT_URL_{service}": _url for service in _SERVICES},
    "AWS_CA_BUNDLE": _certificates,
    "AWS_MAX_ATTEMPTS": _number,
    "AWS_METADATA_SERVICE_TIMEOUT": _number,
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": _number,
    "AWS_RETRY_MODE": _one_of("legacy", "standard", "adaptive"),
    "AWS_STS_REGIONAL_ENDPOINTS": _one_of("regional", "legacy"),
}
_OF_A_PROFILE: Mapping[str, Check] = {
    "region": _region,
    "endpoint_url": _url,
    "ca_bundle": _certificates,
    "max_attempts": _number,
    "metadata_service_timeout": _number,
    "metadata_service_num_attempts": _number,
    "retry_mode": _SETTINGS["AWS_RETRY_MODE"],
    "sts_regional_endpoints": _SETTINGS["AWS_STS_REGIONAL_ENDPOINTS"],
}
_ROLE_OF_A_PROFILE: Mapping[str, Check] = {
    "role_arn": _role,
    "web_identity_token_file": _token_file,
    "credential_source": _one_of("ec2instancemetadata", "ecscontainer", "environment"),
}


def _checked(
    values: Mapping[str, Any], checks: Mapping[str, Check], where: str = ""
) -> Iterator[str]:
    for name, check in checks.items():
        if name in values and (wrong := check(str(values[name]))):
            yield f"{where}{name}: {wrong}"


# ---- variables ----


def _of_variables(environment: Mapping[str, str], profile: str | None) -> Iterator[str]:
    yield from _checked(environment, _SETTINGS)
    if profile is not None:  # it has credentials of its own
        return
    yield from _checked(environment, _CREDENTIALS)
    given = [name for name in (_KEY_ID, _SECRET) if name in environment]
    if len(given) == 1:
        missing = _SECRET if given == [_KEY_ID] else _KEY_ID
        yield f"{missing}: it is not set, but {given[0]} is: set both, or neither if there is a role"
    if not given:  # keys go before
        yield from _checked(environment, _IDENTITY)


# ---- shared files ----


class _Shared(msgspec.Struct, frozen=True):
    """What the shared files hold."""

    profiles: Mapping[str, Mapping[str, Any]]
    """By their names."""
    files: tuple[str, ...]
    """What the files are called, for people."""
    faults: tuple[str, ...]
    """Why a file that is there cannot be read."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "_Shared":
        """Read both, as the SDK does."""
        profiles: dict[str, dict[str, Any]] = {}
        files, wrong = [], []
        for variable, usual, reader in _FILES:
            path = os.path.expanduser(os.path.expandvars(environment.get(variable, usual)))  # noqa: PTH111 - as the SDK
            there = os.path.isfile(path)  # noqa: PTH113 - as the SDK
            files.append(path if there else f"{path} (which does not exist)")
            if not there:
                continue
            try:
                with Path(path).open(
                    "rb"
                ):  # the SDK takes one that it must not read for an empty one
                    for name, values in reader(path).items():
                        profiles.setdefault(name, {}).update(values)
            except OSError as error:
                wrong.append(
                    f"{variable}: {path} cannot be read ({error.strerror}): give crrmon read access"
                )
            except ConfigParseError as error:
                wrong.append(
                    f"{variable}: {path} is not a valid shared file of the SDK: {_line_of(error)}"
                )
        return cls(profiles, tuple(files), tuple(wrong))


def _profiles_of_config(path: str) -> dict[str, dict[str, Any]]:
    profiles: dict[str, dict[str, Any]] = load_config(path)["profiles"]
    return profiles


def _profiles_of_credentials(path: str) -> dict[str, dict[str, Any]]:
    profiles: dict[str, dict[str, Any]] = raw_config_parse(path)
    return profiles


_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config", _profiles_of_config),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", _profiles_of_credentials),
)


def _line_of(error: ConfigParseError) -> str:
    """Say which line of a file cannot be read; its text may be a secret."""
    met: object = error.kwargs["error"]  # type: ignore[typeddict-item] # its stubs leave it out
    match met:
        case configparser.MissingSectionHeaderError(lineno=line):
            return f"line {line} is not below a [profile NAME]"
        case configparser.ParsingError(errors=[(line, _), *_]):
            return f"line {line} is not NAME = VALUE"
        case configparser.DuplicateSectionError(lineno=line):
            return f"line {line} starts a profile that already exists"
        case configparser.DuplicateOptionError(lineno=line):
            return f"line {line} sets something that is already set in its profile"
        case UnicodeDecodeError(start=byte):
            return f"byte {byte} is not UTF-8"
        case _:
            return "lines indented below a setting must be NAME = VALUE"


# ---- a profile ----


def _of_profile(
    environment: Mapping[str, str], shared: _Shared, profile: str | None, *, attended: bool
) -> Iterator[str]:
    names = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")
    variable = next((one for one in names if one in environment), None)
    asked = profile or (environment[variable] if variable else None)
    if asked is not None and asked not in shared.profiles:
        where = f"{variable}: there is no profile {shown(asked)}"
        if profile is not None:
            where = f"profile {profile}: there is no such profile"
        yield f"{where} in {' or '.join(shared.files)}: correct the name, or mount the file"
        return
    name = asked or "default"
    values = shared.profiles.get(name, {})
    where = f"profile {name} of {' and '.join(shared.files)}: "
    yield from _checked(values, _OF_A_PROFILE, where)
    if profile is None and _KEY_ID in environment:  # the variables' own credentials go before
        return
    if (
        profile is None
        and _TOKEN_FILE in environment
        and not (_ROLE in environment or "role_arn" in values)
    ):
        yield f"{_ROLE}: it is not set, but {_TOKEN_FILE} is: set it to the role that the token is for"
    if "role_arn" in values or "web_identity_token_file" in values:
        yield from _checked(values, _ROLE_OF_A_PROFILE, where)
        yield from (where + wrong for wrong in _of_role(values, shared, environment))
        if "mfa_serial" in values and not attended:
            yield f"{where}mfa_serial: a daemon cannot enter a code: use a profile without it"
    pair = [one for one in ("aws_access_key_id", "aws_secret_access_key") if values.get(one)]
    if len(pair) == 1:
        yield f"{where}{pair[0]} is set without the other half of the key: set both"


def _of_role(
    values: Mapping[str, Any], shared: _Shared, environment: Mapping[str, str]
) -> Iterator[str]:
    """Say what is wrong with a profile that assumes a role."""
    sources = [one for one in ("source_profile", "credential_source") if one in values]
    if "role_arn" not in values and _ROLE not in environment:
        yield "web_identity_token_file is set, but role_arn is missing"
    elif "web_identity_token_file" not in values and len(sources) != 1:
        yield "role_arn needs one of source_profile, credential_source and web_identity_token_file"
    source = values.get("source_profile")
    if source is not None and source not in shared.profiles:
        yield f"source_profile: there is no profile {shown(source)}: correct the name"
