"""AWS's signature, version 4, of requests whose body is there before they are sent.

Follows "Signature Version 4" of the IAM user guide and what the S3 API reference says of S3's paths. The SDK's own
signer takes ten times as long, for it makes the day's key, a URL and a map of headers anew for every request.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec
from typing_extensions import override

ALGORITHM = "AWS4-HMAC-SHA256"
OF_NOTHING = hashlib.sha256(b"").hexdigest()
"""The digest of an empty body."""

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
        self._keys: dict[tuple[str, str, str], bytes] = {}

    def signed(self, request: Request, credentials: Credentials, *, at: float) -> bytes:
        """Return a request's bytes, signed.

        Args:
            request: to be sent.
            credentials: of whoever sends it.
            at: seconds since the epoch, by the server's clock; it takes five to fifteen minutes of error.

        Raises:
            ValueError: a header would break out of its line.
        """
        stamp = self._stamped(int(at))
        digest = hashlib.sha256(request.body).hexdigest() if request.body else OF_NOTHING
        headers = [("host", request.host), ("x-amz-date", stamp), *request.headers]
        if self._digest_told:
            headers.append(("x-amz-content-sha256", digest))
        if credentials.token:
            headers.append(("x-amz-security-token", credentials.token))
        headers.sort()
        names = ";".join([name for name, _ in headers])
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in headers])
        canonical = (
            f"{request.method}\n{request.path}\n{request.query}\n{lines}\n{names}\n{digest}"
        )
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(
            self._key(credentials, stamp[:8]),
            f"{ALGORITHM}\n{stamp}\n{scope}\n{hashed}".encode(),
            "sha256",
        ).hex()
        sent = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if sent.count("\n") != len(headers) or sent.count("\r") != len(headers):
            raise ValueError("a line end within a header")
        target = f"{request.path}?{request.query}" if request.query else request.path
        head = (
            f"{request.method} {target} HTTP/1.1\r\n{sent}authorization: {ALGORITHM} "
            f"Credential={credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}\r\n"
            f"{request.unsigned}\r\n"
        )
        return head.encode() + request.body

    def _stamped(self, second: int) -> str:
        if second != self._second:
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
            self._second = second
        return self._stamp

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


def escaped_path(key: str) -> str:
    """Escape a key of S3 into a path, once: its slashes and dots stay as they are."""
    return "/" + quote(key, safe="/~")


def escaped(value: str) -> str:
    """Escape a value of a query."""
    return quote(value, safe="-_.~")
