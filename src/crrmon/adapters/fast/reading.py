"""Answers of HTTP/1.1, read from bytes as they come in (RFC 9112).

Strict where leniency would let one answer be taken for another: anything that is not plainly framed ends the
connection. What is read belongs to strangers, so all of it is bounded.
"""

import re

import msgspec

from crrmon.adapters.answers import MAX_HEAD_BYTES, MAX_HEADERS

MAX_CHUNK_LINE = 1024
"""Of the line before a chunk, with whatever extensions it has."""

MAX_INFORMATIONAL = 16
"""Answers of 1xx before the real one."""

_LOWEST_FINAL, _SWITCHING = 200, 101
_BODILESS = frozenset({204, 304})
_STATUS = re.compile(r"[1-9][0-9]{2}(?: |\Z)")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,30}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?")
_START = b"HTTP/1.1 "


class NotHttpError(OSError):
    """Whoever answered speaks another protocol."""


class MalformedAnswerError(Exception):
    """An answer in HTTP that cannot be read; the text says why, and holds nothing of it."""


class Answer(msgspec.Struct, frozen=True):
    """An answer."""

    status: int
    headers: dict[str, str]
    """By names in lower case; values of one name are joined by commas."""
    body: bytes


class Reader:
    """Reads the answers of one connection, one after the other.

    Args:
        most_bytes: of a body.
    """

    __slots__ = (
        "_at_end",
        "_bodiless",
        "_body",
        "_buffer",
        "_chunked",
        "_headers",
        "_informed",
        "_left",
        "_most",
        "_scanned",
        "_status",
        "_unused",
        "began",
        "closing",
    )

    def __init__(self, *, most_bytes: int) -> None:
        self._most = most_bytes
        self._buffer = bytearray()
        self.closing = False
        """Whether the connection cannot be used again."""
        self._unused = False
        self.expect(bodiless=False)

    def expect(self, *, bodiless: bool) -> None:
        """Get ready for the answer to the next request.

        Args:
            bodiless: whether the request is a HEAD, whose answer has the length of a body and no body.
        """
        self._bodiless = bodiless
        self.began = False
        """Whether anything of it has come."""
        if self._unused:
            return
        self._unused = True
        """Whether the state below is that of the beginning."""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._left: int | None = None
        self._chunked = False
        self._at_end = False
        self._body = bytearray()
        self._informed = 0
        self._scanned = 0

    def feed(self, data: bytes) -> Answer | None:
        """Take in what came; return the answer when it is complete.

        Raises:
            NotHttpError, MalformedAnswerError: it cannot be read.
        """
        self.began = True
        if self._bodiless and self._unused and (answer := self._whole(data)) is not None:
            return answer
        self._unused = False
        self._buffer += data
        while not self._status:
            if not self._take_head():
                return None
        if self._chunked:
            return self._take_chunks()
        if self._at_end:
            self._bound(len(self._buffer))
            return None
        assert self._left is not None  # noqa: S101 - for the type checker: it is framed
        if len(self._buffer) < self._left:
            return None
        self._take(self._left)
        return self._done()

    def _whole(self, data: bytes) -> Answer | None:
        """Return an answer without a body where that is all that came, as after nearly every HEAD."""
        if not data.startswith(_START) or data.find(b"\r\n\r\n") != len(data) - 4:
            return None
        if len(data) > MAX_HEAD_BYTES:
            return None
        status, headers = read_head(data[:-4])
        if status < _LOWEST_FINAL:
            return None
        self._check(headers)
        return Answer(status, headers, b"")

    def end(self) -> Answer | None:
        """Take in that the connection has ended; return the answer if that completes it.

        Raises:
            MalformedAnswerError: it was cut short.
        """
        if self._status and self._at_end:
            self._take(len(self._buffer))
            return self._done()
        if self.began:
            raise MalformedAnswerError("cut short")
        return None

    # ---- the head ----

    def _take_head(self) -> bool:
        """Take a head out of what came; return whether there was a whole one."""
        buffer = self._buffer
        if not buffer.startswith(_START) and not _START.startswith(bytes(buffer)):
            raise NotHttpError("no HTTP/1.1")
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if (
            len(buffer) - 3 if end < 0 else end
        ) > MAX_HEAD_BYTES:  # a part of its end may be there
            raise MalformedAnswerError("headers too long")
        if end < 0:
            self._scanned = max(len(buffer) - 3, 0)
            return False
        status, headers = read_head(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._scanned = 0
        if status < _LOWEST_FINAL:
            self._informed += 1
            if status == _SWITCHING or self._informed > MAX_INFORMATIONAL:
                raise MalformedAnswerError("an answer that was not asked for")
            return bool(buffer)
        self._status, self._headers = status, headers
        self._frame()
        return True

    def _check(self, headers: dict[str, str]) -> None:
        """Find out whether the connection can be used again, and whether the length is one."""
        if "connection" in headers:
            tokens = headers["connection"].lower().replace(" ", "").split(",")
            if "close" in tokens:
                self.closing = True
        length = headers.get("content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise MalformedAnswerError("a length that is none")

    def _frame(self) -> None:
        """Find out where the body ends."""
        headers = self._headers
        self._check(headers)
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if self._bodiless or self._status in _BODILESS:
            self._left = 0
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise MalformedAnswerError("a body framed twice, or in an unknown way")
            self._chunked = True
        elif length is not None:
            self._left = int(length)
            self._bound(self._left)
        else:
            self._at_end = self.closing = True

    # ---- the body ----

    def _take_chunks(self) -> Answer | None:
        while True:
            if self._left is None:
                line = self._line()
                if line is None:
                    return None
                told = _CHUNK.fullmatch(line)
                if told is None:
                    raise MalformedAnswerError("a chunk that is none")
                self._left = int(told[1], 16)
                self._bound(len(self._body) + self._left)
            if self._left == 0:
                return self._take_end()
            if len(self._buffer) < self._left + 2:
                return None
            self._take(self._left)
            if self._buffer[:2] != b"\r\n":
                raise MalformedAnswerError("a chunk that does not end where it should")
            del self._buffer[:2]
            self._left = None

    def _take_end(self) -> Answer | None:
        line = self._line()
        if line:  # trailers are for those who ask for them
            raise MalformedAnswerError("trailers that were not asked for")
        return None if line is None else self._done()

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE + 2)
        if end < 0:
            if len(self._buffer) > MAX_CHUNK_LINE + 1:  # the first half of its end may be there
                raise MalformedAnswerError("a line too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _take(self, length: int) -> None:
        """Take bytes of the body out of what came."""
        if length:
            self._body += self._buffer[:length]
            del self._buffer[:length]

    def _bound(self, length: int) -> None:
        if length > self._most:
            raise MalformedAnswerError("a body too long")

    def _done(self) -> Answer:
        if self._buffer:  # of no answer: whatever follows could be taken for the next one
            self.closing = True
        return Answer(self._status, self._headers, bytes(self._body))


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the status and the headers of an answer.

    Args:
        head: its lines, without the empty one that ends them.

    Raises:
        NotHttpError, MalformedAnswerError: it cannot be read.
    """
    try:
        text = head.decode()
    except UnicodeDecodeError:
        # Users give S3 headers in whatever encoding they have: line by line, so that one spoils no other.
        text = "\r\n".join(map(_read_line, head.split(b"\r\n")))
    lines = text.split("\r\n")
    if not text.count("\n") == text.count("\r") == len(lines) - 1 or "\0" in text:
        raise MalformedAnswerError("a line end within a line")
    if len(lines) > MAX_HEADERS + 1:
        raise MalformedAnswerError("too many headers")
    first = lines[0]
    status = first[9:12]
    if not _STATUS.match(first, 9):
        raise NotHttpError("no status")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        raw, colon, value = line.partition(":")
        name = _names.get(raw) or _name(raw)
        if not colon:
            raise MalformedAnswerError("a header without a value")
        value = value.strip(" \t")
        if name in headers:
            if name == "content-length" and headers[name] != value:
                raise MalformedAnswerError("two lengths")
            if name != "content-length":
                value = f"{headers[name]}, {value}"
        headers[name] = value
    return int(status), headers


def _read_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


_names: dict[str, str] = {}
"""Names of headers as they were sent, and in lower case: those that were seen already."""

_MOST_NAMES, _LONGEST_NAME = 512, 64

_OF_USERS = "x-amz-meta-"
"""How names begin that users choose: they would leave no room for those that every answer has."""


def _name(raw: str) -> str:
    if not _TOKEN.fullmatch(raw):
        raise MalformedAnswerError("a header without a name")
    name = raw.lower()
    bounded = len(_names) < _MOST_NAMES and len(raw) < _LONGEST_NAME
    if bounded and not name.startswith(_OF_USERS):
        _names[raw] = name
    return name
