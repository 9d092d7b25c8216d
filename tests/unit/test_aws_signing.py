"""Signatures: byte for byte those of AWS's examples, and of the SDK's own signer."""

import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import HTTPClientError
from hypothesis import given
from hypothesis import strategies as st

from crrmon.adapters.fast.signing import (
    MAX_KEYS,
    OF_NOTHING,
    Credentials,
    Request,
    Signer,
    escaped,
    escaped_path,
)

NOON = datetime(2026, 12, 1, 12, 34, 56, tzinfo=UTC).timestamp()
HIS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
"""Of the examples of S3's documentation."""
HERS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
"""Of AWS's suite of tests for signers."""


class Sent:
    """The bytes of a request, taken apart as a server would."""

    def __init__(self, sent: bytes) -> None:
        head, _, self.body = sent.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.method, self.target, version = first.split(" ")
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = {pair[0]: pair[1] for pair in pairs}
        assert len(self.headers) == len(pairs)
        self.authorization = self.headers.pop("authorization")


def signed_by_sdk(
    sent: Sent, signer: type[SigV4Auth], service: str, region: str, whose: Credentials, at: float
) -> str:
    """Have the SDK sign what was sent, and return its Authorization."""
    made = ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
    request: Any = AWSRequest(
        method=sent.method,
        url=f"https://{sent.headers['host']}{sent.target}",
        headers={name: value for name, value in sent.headers.items() if name not in made},
        data=sent.body,
    )
    theirs: Any = signer(
        ReadOnlyCredentials(whose.key_id, whose.secret, whose.token), service, region
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(int(at), UTC)
        )
        theirs.add_auth(request)
    told = {name.lower(): value for name, value in request.headers.items()}
    assert {name: told[name] for name in made if name in sent.headers} == {
        name: sent.headers[name] for name in made if name in sent.headers
    }
    return str(told["authorization"])


# ---- AWS's examples ----

S3_AT = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLES_OF_S3 = {
    "GET Object": (
        Request(
            method="GET",
            host="examplebucket.s3.amazonaws.com",
            path="/test.txt",
            headers=(("range", "bytes=0-9"),),
        ),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "PUT Object": (
        Request(
            method="PUT",
            host="examplebucket.s3.amazonaws.com",
            path=escaped_path("test$file.text"),
            headers=(
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ),
            body=b"Welcome to Amazon S3.",
        ),
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "GET Bucket lifecycle": (
        Request(method="GET", host="examplebucket.s3.amazonaws.com", path="/", query="lifecycle="),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "GET Bucket": (
        Request(
            method="GET",
            host="examplebucket.s3.amazonaws.com",
            path="/",
            query="max-keys=2&prefix=J",
        ),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize(("request_", "signature"), EXAMPLES_OF_S3.values(), ids=EXAMPLES_OF_S3)
def test_the_examples_of_s3(request_: Request, signature: str) -> None:
    """Of "Signature Calculations for the Authorization Header" in S3's API reference."""
    sent = Sent(Signer("s3", "us-east-1").signed(request_, HIS, at=S3_AT))
    assert sent.authorization.startswith(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
    )
    assert sent.authorization.endswith(f", Signature={signature}")


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
def test_the_suite_of_aws(method: str, signature: str) -> None:
    """Its plainest cases, get-vanilla and post-vanilla: a service that is told no digest."""
    plain = Request(method=method, host="example.amazonaws.com", path="/")
    sent = Sent(Signer("service", "us-east-1").signed(plain, HERS, at=1_440_938_160))
    assert sent.authorization == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )


# ---- the SDK's signer ----

ODD_KEYS = (
    *(
        "k",
        "a/b",
        "/k",
        "//k",
        "k/",
        "a//b",
        ".",
        "..",
        "../../k",
        "a/./b/../c",
        "a+b",
        "a b",
        "~",
    ),
    *(
        "a?b",
        "a#b",
        "a%20b",
        "%",
        "a&b=c",
        "a;b",
        "*",
        "'",
        '"',
        "\\",
        "[",
        "é",
        "日本",
        "😀",
        "\u2028",
    ),
    *("\r\n", "\0", "\x7f", "\x85", "\t", " ", "\xa0", "x: y\r\n\r\n", "?versionId=x", "e\u0301"),
)
keys = st.sampled_from(ODD_KEYS) | st.text(
    st.sampled_from("ab/.+~?#%&= \0\r\né日😀") | st.characters(exclude_categories=["Cs"]),
    min_size=1,
    max_size=60,
)
versions = (
    st.none()
    | st.sampled_from(
        ["", "null", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo"]
    )
    | keys
)
tokens = (
    st.none()
    | st.just("FwoGZXIvYXdzE" + 12_000 * "x/+=")
    | st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1)
)
secrets = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=60
)
regions = st.sampled_from(["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "a"])
hosts = st.sampled_from(
    [
        "b.s3.eu-west-1.amazonaws.com",
        "localhost:9000",
        "[::1]:9000",
        "10.0.0.1",
        "s3.amazonaws.com",
    ]
)
moments = st.floats(946_684_800, 4_102_444_799)


@given(
    method=st.sampled_from(["HEAD", "GET"]),
    host=hosts,
    base=st.sampled_from(["", "/bucket", "/base/my.bucket"]),
    key=keys,
    version=versions,
    region=regions,
    whose=st.builds(Credentials, secrets, secrets, tokens),
    at=moments,
    owner=st.booleans(),
    payer=st.booleans(),
)
def test_s3_is_signed_as_the_sdk_signs(
    method: str,
    host: str,
    base: str,
    key: str,
    version: str | None,
    region: str,
    whose: Credentials,
    at: float,
    *,
    owner: bool,
    payer: bool,
) -> None:
    """Whatever is asked for, on whosever behalf, at whatever time: what goes over the wire, signed by the SDK."""
    headers: tuple[tuple[str, str], ...] = (("x-minio-source-proxy-request", "false"),)
    if method == "GET":
        headers += (("range", "bytes=0-0"),)
    if owner:
        headers += (("x-amz-expected-bucket-owner", "111122223333"),)
    if payer:
        headers += (("x-amz-request-payer", "requester"),)
    request = Request(
        method=method,
        host=host,
        path=f"{base}{escaped_path(key)}",
        query="" if version is None else f"versionId={escaped(version)}",
        headers=headers,
    )
    sent = Sent(Signer("s3", region).signed(request, whose, at=at))
    assert sent.headers["x-amz-content-sha256"] == OF_NOTHING
    assert set(sent.headers) >= {name for name, _ in headers}
    assert sent.authorization == signed_by_sdk(sent, S3SigV4Auth, "s3", region, whose, at)


@given(
    service=st.sampled_from(["sqs", "dynamodb"]),
    region=regions,
    whose=st.builds(Credentials, secrets, secrets, tokens),
    at=moments,
    body=st.binary(max_size=300),
    target=st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])),
)
def test_json_is_signed_as_the_sdk_signs(
    service: str, region: str, whose: Credentials, at: float, body: bytes, target: str
) -> None:
    """With its body, whose digest is not told; spaces within a header count once."""
    request = Request(
        method="POST",
        host=f"{service}.{region}.amazonaws.com",
        path="/",
        headers=(("content-type", "application/x-amz-json-1.0"), ("x-amz-target", f"A {target}b")),
        body=body,
    )
    sent = Sent(Signer(service, region).signed(request, whose, at=at))
    assert sent.body == body
    assert "x-amz-content-sha256" not in sent.headers
    assert sent.authorization == signed_by_sdk(sent, SigV4Auth, service, region, whose, at)


@given(key=keys, version=keys)
def test_a_key_stays_within_its_place(key: str, version: str) -> None:
    """It is one word of the request's first line, whatever it holds."""
    request = Request(
        method="HEAD", host="h", path=escaped_path(key), query=f"versionId={escaped(version)}"
    )
    sent = Sent(Signer("s3", "eu-west-1").signed(request, HIS, at=NOON))
    assert sent.target == f"{escaped_path(key)}?versionId={escaped(version)}"
    assert sent.target.isascii()
    assert sent.target.isprintable()
    assert not set(' #"<>') & set(sent.target)
    assert sent.target.count("?") == 1


def test_one_signer_through_days_and_credentials() -> None:
    """A key is made of the day and of the credentials, and not kept for another one."""
    signer = Signer("s3", "eu-west-1")
    request = Request(method="HEAD", host="b.s3.eu-west-1.amazonaws.com", path="/k")
    midnight = datetime(2026, 12, 2, tzinfo=UTC).timestamp()
    renewed = Credentials(HIS.key_id, HERS.secret, "t")
    for at in (midnight - 0.001, midnight, midnight - 1, midnight + 86_400, NOON, NOON + 0.9):
        for whose in (HIS, HERS, renewed, HIS):
            sent = Sent(signer.signed(request, whose, at=at))
            assert sent.authorization == signed_by_sdk(
                sent, S3SigV4Auth, "s3", "eu-west-1", whose, at
            ), (at, whose.key_id)


def test_the_keys_of_days_do_not_grow() -> None:
    """However often credentials change."""
    signer = Signer("s3", "eu-west-1")
    request = Request(method="HEAD", host="h", path="/k")
    for number in range(3 * MAX_KEYS):
        signer.signed(request, Credentials("id", f"secret-{number}", None), at=NOON)
        assert len(signer._keys) <= MAX_KEYS


def with_header(value: str) -> Request:
    """Make a request of which a header's value is another's word."""
    return Request(method="HEAD", host="h", path="/k", headers=(("x-a", value),))


PLAIN = with_header("")
INJECTED = {
    "a header": (with_header("b\r\nx-c: d"), HIS),
    "a header with a line feed": (with_header("b\nx-c: d"), HIS),
    "a header with a carriage return": (with_header("b\rx-c: d"), HIS),
    "a header and both ways": (with_header("b\n\rx-c: d"), HIS),
    "the end of a header": (with_header("b\r\n"), HIS),
    "the host": (Request(method="HEAD", host="h\r\nx-c: d", path="/k"), HIS),
    "the path": (Request(method="HEAD", host="h", path="/k HTTP/1.1\r\nx-c: d\r\n"), HIS),
    "the query": (Request(method="HEAD", host="h", path="/k", query="a\nb"), HIS),
    "the token": (PLAIN, Credentials("id", "secret-word", "token-word\n")),
    "the key's id": (PLAIN, Credentials("id-word\n", "secret-word", None)),
    "the key's id, whole": (PLAIN, Credentials("id-word\r\nx-c: d", "secret-word", None)),
}


@pytest.mark.parametrize(("request_", "whose"), INJECTED.values(), ids=INJECTED)
def test_what_would_break_out_of_its_line_is_not_sent(
    request_: Request, whose: Credentials
) -> None:
    """The SDK's client raises the same; nothing of it is in the error, for it may be a secret."""
    with pytest.raises(HTTPClientError) as raised:
        Signer("s3", "eu-west-1").signed(request_, whose, at=NOON)
    told = "".join(traceback.format_exception(raised.value))
    for word in ("x-c", "token-word", "secret-word", "id-word"):
        assert word not in f"{told.partition('Error: ')[2]}"
        assert word not in f"{raised.value!r} {raised.value.kwargs}"


def test_credentials_do_not_show_themselves() -> None:
    """In no way that a log or a traceback would take."""
    whose = Credentials("id-word", "secret-word", "token-word")
    told = f"{whose} {whose!r} {[whose]} {(whose, 1)} %s" % whose
    assert "word" not in told


def test_a_key_that_no_text_can_hold() -> None:
    """Lone surrogates are nothing that S3 could have a name for."""
    with pytest.raises(UnicodeEncodeError):
        escaped_path("\ud800")
