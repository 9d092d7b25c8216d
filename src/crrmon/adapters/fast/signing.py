"""AWS's signature, version 4, of requests whose body is there before they are sent.

Follows "Signature Version 4" of the IAM user guide and what the S3 API reference says of S3's paths. The SDK's own
signer takes ten times as long, for it makes the day's key, a URL and a map of headers anew for every request.
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec
from botocore.exceptions import HTTPClientError
from typing_extensions import override

ALGORITHM = "AWS4-HMAC-SHA256"
OF_NOTHING = hashlib.sha256(b"").hexdigest()
"""The digest of an empty body."""

MAX_HEADS = 1024
"""Of one second: as many buckets, or bodies, as are asked about in it."""

MAX_KEYS = 64
"""Days' keys that are kept: one for each pair of credentials in use, and a few of those before."""


class Credentials(msgspec.Struct, frozen=True):
    """What a request is signed with; shows itself without its secrets."""

    key_id: str
    secret: str
    token: str | None

    @override
    def __repr__(self) -> str:
        return "Credentials(…)"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is to be sent, without its signature."""

    method: str
    host: str
    """As the Host header has it: with the port where that is not the scheme's own."""
    path: str
    """Escaped, as it goes over the wire."""
    query: str = ""
    """Escaped; at most one pair, for more would have to be sorted."""
    headers: tuple[tuple[str, str], ...] = ()
    """Signed ones beside those of the signature itself; names in lower case."""
    unsigned: str = ""
    """Further lines of the head, each with its line end: what proxies may change on the way."""
    body: bytes = b""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """What requests of one second to one host have in common."""

    canonical: str
    mac: hmac.HMAC
    """Of what is signed, but for the digest of the request."""
    sent: str
    """Lines, up to the signature."""
    ends: int
    """Of lines, with that of the signature."""


class Signer:
    """Signs for one service in one region.

    Args:
        service: by its name in signatures, as ``s3``.
        region: by its name in signatures.
    """

    def __init__(self, service: str, region: str) -> None:
        self._service = service
        self._region = region
        # Of S3, all requests tell the digest of their body; other services take it from the signature.
        self._digest_told = service == "s3"
        self._second = -1
        self._stamp = ""
        self._heads: dict[tuple[object, ...], _Head] = {}
        """Of this second: nearly all requests of a second differ in nothing but what they ask for."""
        self._keys: dict[tuple[str, str, str], bytes] = {}

    def signed(self, request: Request, credentials: Credentials, *, at: float) -> bytes:
        """Return a request's bytes, signed.

        Args:
            request: to be sent.
            credentials: of whoever sends it.
            at: seconds since the epoch, by the server's clock; it takes five to fifteen minutes of error.

        Raises:
            HTTPClientError: something would break out of its line.
        """
        if int(at) != self._second:
            self._second = int(at)
            self._stamp = datetime.fromtimestamp(self._second, UTC).strftime("%Y%m%dT%H%M%SZ")
            self._heads.clear()
        digest = hashlib.sha256(request.body).hexdigest() if request.body else OF_NOTHING
        head = self._head(request, credentials, digest)
        canonical = f"{request.method}\n{request.path}\n{request.query}\n{head.canonical}{digest}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        mac = head.mac.copy()
        mac.update(hashed.encode())
        signature = mac.hexdigest()
        target = f"{request.path}?{request.query}" if request.query else request.path
        text = (
            f"{request.method} {target} HTTP/1.1\r\n{head.sent}{signature}\r\n"
            f"{request.unsigned}\r\n"
        )
        # There are those line ends that were written here, and no others.
        ends = head.ends + 2 + request.unsigned.count("\n")
        if not text.count("\r") == text.count("\n") == ends:
            # As the SDK's client puts it. Without the header: it may be a secret.
            raise HTTPClientError(error=ValueError("a line end within a header"))
        return text.encode() + request.body

    def _head(self, request: Request, credentials: Credentials, digest: str) -> "_Head":
        known = (
            request.host,
            request.headers,
            credentials.key_id,
            credentials.secret,
            credentials.token or "",
            digest if self._digest_told else "",
        )
        head = self._heads.get(known)
        if head is None:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            head = self._heads[known] = self._made(request, credentials, digest)
        return head

    def _made(self, request: Request, credentials: Credentials, digest: str) -> "_Head":
        headers = [("host", request.host), ("x-amz-date", self._stamp), *request.headers]
        if self._digest_told:
            headers.append(("x-amz-content-sha256", digest))
        if credentials.token:
            headers.append(("x-amz-security-token", credentials.token))
        headers.sort()
        names = ";".join([name for name, _ in headers])
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in headers])
        sent = "".join([f"{name}: {value}\r\n" for name, value in headers])
        scope = f"{self._stamp[:8]}/{self._region}/{self._service}/aws4_request"
        stated = f"{ALGORITHM}\n{self._stamp}\n{scope}\n"
        return _Head(
            canonical=f"{lines}\n{names}\n",
            mac=hmac.new(self._key(credentials, self._stamp[:8]), stated.encode(), "sha256"),
            sent=f"{sent}authorization: {ALGORITHM} Credential={credentials.key_id}/{scope}, "
            f"SignedHeaders={names}, Signature=",
            ends=len(headers) + 1,
        )

    def _key(self, credentials: Credentials, day: str) -> bytes:
        """Return the key of a day."""
        known = (day, credentials.key_id, credentials.secret)
        key = self._keys.get(known)
        if key is None:
            if len(self._keys) >= MAX_KEYS:
                self._keys.clear()
            key = f"AWS4{credentials.secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._keys[known] = key
        return key


_TO_ESCAPE_IN_PATHS = re.compile(r"[^A-Za-z0-9_.~/-]")
_TO_ESCAPE_IN_QUERIES = re.compile(r"[^A-Za-z0-9_.~-]")
_ESCAPES = {chr(code): f"%{code:02X}" for code in range(128)}


def escaped_path(key: str) -> str:
    """Escape a key of S3 into a path, once: its slashes and dots stay as they are.

    Raises:
        UnicodeEncodeError: it is none that UTF-8 has.
    """
    if not key.isascii():
        return "/" + quote(key, safe="/~")
    return "/" + _TO_ESCAPE_IN_PATHS.sub(_escape, key)


def escaped(value: str) -> str:
    """Escape a value of a query; as `escaped_path`."""
    if not value.isascii():
        return quote(value, safe="~")
    return _TO_ESCAPE_IN_QUERIES.sub(_escape, value)


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES[found[0]]
