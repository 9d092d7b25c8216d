"""What senders of events show to be let in."""

import base64

import pytest

from crrmon.domain.authorization import TOKEN, authorized

SECRET = "s3cr3t-and-long-enough"  # noqa: S105 - of these tests


def basic(user: str, password: str) -> str:
    """Write what a client makes of a user and a password in a URL."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {SECRET}",
        f"bearer {SECRET}",
        f"Bearer  {SECRET} ",
        SECRET,
        basic("crrmon", SECRET),
        basic("", SECRET),
        basic("crrmon", SECRET).replace("Basic", "basic"),
    ],
)
def test_m8_what_minio_and_ceph_send_is_known(header: str) -> None:
    """M8: a bearer token, the token as it is given, and a user and the token in the address."""
    assert authorized(header, SECRET)


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET.upper()}",
        f"Digest {SECRET}",
        basic(SECRET, ""),
        basic(SECRET, "other"),
        f"Basic {SECRET}",
        "Basic !!!!",
        "Basic /w==",
        "Bearer \udcff",
        "Bearer gr\u00fc\u00df",
    ],
)
def test_m8_anything_else_is_not(header: str) -> None:
    """M8: whatever strangers send is no token, and no error."""
    assert not authorized(header, SECRET)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (SECRET, True),
        ("x" * 16, True),
        ("x" * 15, False),
        ("x" * 16 + " y", False),
        ("", False),
        ("\u00e4" * 16, False),
    ],
)
def test_m8_what_may_be_a_token(text: str, is_one: bool) -> None:  # noqa: FBT001 - a table
    """M8: no blanks, for MinIO would send what is before them as a scheme, or nothing at all; and long enough."""
    assert bool(TOKEN.fullmatch(text)) is is_one
