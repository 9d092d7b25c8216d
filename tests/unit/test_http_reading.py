"""What is made of an answer's bytes: framed beyond doubt, or refused.

``CRRMON_HTTP_MUTATIONS=1000000 pytest tests/unit/test_http_reading.py -k mutations`` tries more of them by hand, in
half a minute or so; ``CRRMON_HTTP_SEED`` tries others.
"""

import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrmon.adapters.answers import MAX_HEAD_BYTES, MAX_HEADERS
from crrmon.adapters.fast import reading
from crrmon.adapters.fast.reading import (
    MAX_CHUNK_LINE,
    MAX_INFORMATIONAL,
    Answer,
    MalformedAnswerError,
    NotHttpError,
    Reader,
)

MUTATIONS = int(os.environ.get("CRRMON_HTTP_MUTATIONS", "200000"))
SEED = int(os.environ.get("CRRMON_HTTP_SEED", "1"))
MOST = 300
"""Bytes of a body."""

OK = b"HTTP/1.1 200 OK\r\n"

Read = tuple[Answer | str | None, bool]
"""An answer, the name of what refused it, or None for nothing yet; and whether the connection may be used again."""


def read(*pieces: bytes, bodiless: bool = False, ends: bool = False, most: int = MOST) -> Read:
    """Read one answer as a connection does, up to its end."""
    reader = Reader(most_bytes=most)
    reader.expect(bodiless=bodiless)
    try:
        for piece in pieces:
            answer = reader.feed(piece)
            if answer is not None:
                return answer, not reader.closing
        return (reader.end() if ends else None), False
    except (NotHttpError, MalformedAnswerError) as error:
        return type(error).__name__, False


def body(text: bytes, *, bodiless: bool = False, ends: bool = False) -> bytes:
    """Read an answer that is good, and return its body."""
    answer, _ = read(text, bodiless=bodiless, ends=ends)
    assert isinstance(answer, Answer), answer
    return answer.body


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

WHOLE = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello"),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
    "the same length twice": (
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "chunks": (CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 200, b"hello!"),
    "chunks in capitals": (CHUNKED + b"A\r\n0123456789\r\n00\r\n\r\n", 200, b"0123456789"),
    "chunks with extensions": (
        CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0 ; x\r\n\r\n',
        200,
        b"hello",
    ),
    "coding in capitals": (
        OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        200,
        b"ok",
    ),
    "continue before": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        200,
        b"x",
    ),
    "hints before": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        200,
        b"x",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 204, b""),
    "304 with a coding": (b"HTTP/1.1 304 -\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b""),
    "no reason": (b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "an empty reason": (b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", 503, b""),
    "no class that there is": (b"HTTP/1.1 999 -\r\nContent-Length: 0\r\n\r\n", 999, b""),
}


@pytest.mark.parametrize(("text", "status", "told"), WHOLE.values(), ids=WHOLE)
def test_an_answer_is_read(text: bytes, status: int, told: bytes) -> None:
    """With its status and its body, and the connection may be used again."""
    answer, again = read(text)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, again) == (status, told, True)


HEADS = {
    "length": OK + b"Content-Length: 123456789012345\r\n\r\n",
    "chunks": b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both": b"HTTP/1.1 404 -\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "neither": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("text", HEADS.values(), ids=HEADS)
def test_a_head_has_no_body(text: bytes) -> None:
    """Whatever its headers say of one; a length may be larger than any body that would be read."""
    answer, again = read(text, bodiless=True)
    assert isinstance(answer, Answer)
    assert (answer.body, again) == (b"", True)


CLOSING = {
    "asked to": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", False),
    "asked to, among others": (
        OK + b"Connection: x , CLOSE\r\nContent-Length: 2\r\n\r\nok",
        False,
    ),
    "asked to, after others": (
        OK + b"Connection: keep-alive\r\nConnection:\tclose\r\nContent-Length: 2\r\n\r\nok",
        False,
    ),
    "until the end": (OK + b"\r\nok", True),
    "something follows": (OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200", False),
    "a line end follows": (OK + b"Content-Length: 2\r\n\r\nok\r\n", False),
}


@pytest.mark.parametrize(("text", "ends"), CLOSING.values(), ids=CLOSING)
def test_a_connection_that_cannot_be_used_again(text: bytes, *, ends: bool) -> None:
    """Is known from the answer, which is as good as any."""
    answer, again = read(text, ends=ends)
    assert isinstance(answer, Answer)
    assert (answer.body, again) == (b"ok", False)


def head_of(length: int) -> bytes:
    """Make a head of some length, without the empty line."""
    start = OK + b"Content-Length: 0\r\nx: "
    return start + (length - len(start)) * b"y"


ODD = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two lengths in one": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length in words": OK + b"Content-Length: five\r\n\r\nhello",
    "an empty length": OK + b"Content-Length:\r\n\r\nhello",
    "a length in digits of others": OK + "Content-Length: \u0665\r\n\r\nhello".encode(),
    "a length with an underscore": OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    "an endless length": OK + b"Content-Length: " + 5000 * b"9" + b"\r\n\r\n",
    "too long": OK + b"Content-Length: 301\r\n\r\n",
    "length and chunks": OK
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding that is none": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded header": OK + b"x: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a folded first header": OK + b" x: a\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"Content-Length 0\r\n\r\n",
    "no name": OK + b": 0\r\n\r\n",
    "a name of no token": OK + "Contént-Length: 0\r\n\r\n".encode(),
    "a bare line feed": OK + b"x: a\nContent-Length: 0\r\n\r\n",
    "a bare line feed before": b"HTTP/1.1 200 OK\nx: a\r\nContent-Length: 0\r\n\r\n",
    "a bare carriage return": OK + b"x: a\rContent-Length: 0\r\n\r\n",
    "a NUL": OK + b"x: a\0\r\nContent-Length: 0\r\n\r\n",
    "many headers": OK + MAX_HEADERS * b"x-y: z\r\n" + b"Content-Length: 0\r\n\r\n",
    "10,000 headers": OK + 10_000 * b"x: y\r\n" + b"Content-Length: 0\r\n\r\n",
    "a head too long": head_of(MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    "a head without end": head_of(MAX_HEAD_BYTES + 4),
    "another protocol at last": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "nothing but hints": (MAX_INFORMATIONAL + 1) * b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a chunk without a length": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-1\r\n\r\n",
    "a chunk with a prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk too long": CHUNKED + b"12d\r\n",
    "a chunk too long by others": CHUNKED + b"c8\r\n" + 200 * b"x" + b"\r\n65\r\n",
    "a chunk of very many": CHUNKED + 16 * b"f" + b"\r\n",
    "a chunk that does not end": CHUNKED + b"5\r\nhello0\r\n\r\n",
    "a chunk that ends by a line feed": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "a line feed in an extension": CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a carriage return in an extension": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a NUL in an extension": CHUNKED + b"5;\0\r\nhello\r\n0\r\n\r\n",
    "an extension too long": CHUNKED + b"5;" + MAX_CHUNK_LINE * b"a" + b"\r\nhello\r\n0\r\n\r\n",
    "an extension without end": CHUNKED + b"5;" + MAX_CHUNK_LINE * b"a",
    "trailers": CHUNKED + b"2\r\nok\r\n0\r\nx-a: b\r\nx-c:\r\n\r\n",
    "the next answer for a trailer": CHUNKED + b"0\r\nHTTP/1.1 200 OK\r\n\r\n",
    "a trailer without end": CHUNKED + b"0\r\n" + (MAX_CHUNK_LINE + 2) * b"x",
    "a body without end": OK + b"\r\n" + (MOST + 1) * b"x",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_answer_whose_framing_is_in_doubt(text: bytes) -> None:
    """Is none, however much of it has come."""
    assert read(text)[0] == "MalformedAnswerError"


OTHERS = {
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a page": b"<!doctype html>\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "small letters": b"http/1.1 200 OK\r\n\r\n",
    "a line end before": b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below all": b"HTTP/1.1 099 -\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of no class": b"HTTP/1.1 000 -\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status in digits of others": "HTTP/1.1 \u0662\u0660\u0660 OK\r\nContent-Length: 0\r\n\r\n".encode(),
    "a status after two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "two answers' starts": b"HTTP/1.1 100 Continue\r\n\r\nhello",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_is_no_http(text: bytes) -> None:
    """Is told apart from an answer that is malformed: nobody there speaks S3's protocol."""
    assert read(text)[0] == "NotHttpError"


LIMITS = {
    "a head": head_of(MAX_HEAD_BYTES) + b"\r\n\r\n",
    "headers": OK + (MAX_HEADERS - 1) * b"x: y\r\n" + b"Content-Length: 0\r\n\r\n",
    "hints": MAX_INFORMATIONAL * b"HTTP/1.1 103 -\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "a body": OK + b"Content-Length: 300\r\n\r\n" + MOST * b"x",
    "chunks": CHUNKED + 3 * (b"64\r\n" + 100 * b"x" + b"\r\n") + b"0\r\n\r\n",
    "an extension": CHUNKED + b"1;" + (MAX_CHUNK_LINE - 2) * b"a" + b"\r\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("text", LIMITS.values(), ids=LIMITS)
def test_as_much_as_is_allowed(text: bytes) -> None:
    """Is read, however it comes: in one piece, byte by byte, and cut anywhere near the end of a line."""
    whole, again = read(text)
    assert isinstance(whole, Answer)
    assert again
    assert read(*(text[place : place + 1] for place in range(len(text)))) == (whole, True)
    for end in [match.end() for match in re.finditer(rb"\r\n", text)][-8:]:
        for cut in range(end - 3, min(end + 2, len(text))):
            assert read(text[:cut], text[cut:]) == (whole, True)


def test_headers_are_told_by_small_names() -> None:
    """Values of one name are joined, spaces around them left out, and bytes of any encoding are read."""
    answer, _ = read(
        OK + b"X-Amz-Version-Id:\t v1 \r\nx-a: 1\r\nX-A: 2\r\nx-amz-meta-caf\x65: caf\xe9\r\n"
        b"x-amz-meta-u: \xc3\xa9\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(answer, Answer)
    assert answer.headers == {
        "x-amz-version-id": "v1",
        "x-a": "1, 2",
        "x-amz-meta-cafe": "café",
        "x-amz-meta-u": "é",
        "content-length": "0",
    }


def test_names_that_users_choose_are_not_remembered() -> None:
    """However they are written: they would take the place of those that every answer has."""
    names = b"".join(b"X-Amz-Meta-%d: v\r\nx-amz-meta-%d: w\r\n" % (n, n) for n in range(600))
    answer, _ = read(OK + names + b"x-seen-first-here: y\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(answer, Answer)
    assert answer.headers["x-amz-meta-7"] == "v, w"
    assert reading._names["x-seen-first-here"] == "x-seen-first-here"
    assert not [name for name in reading._names if name.lower().startswith("x-amz-meta-")]


@pytest.mark.parametrize("text", [text for text, *_ in WHOLE.values()], ids=WHOLE)
def test_an_answer_that_is_cut_short(text: bytes) -> None:
    """Is none, wherever that is; before its first byte, nothing has come at all."""
    for length in range(1, len(text)):
        whole, _ = read(text[:length], ends=True)
        assert whole == "MalformedAnswerError", text[:length]
    assert read(ends=True) == (None, False)


def test_one_answer_after_the_other() -> None:
    """Each is its own: nothing of the one before is left in it."""
    reader = Reader(most_bytes=MOST)
    first = reader.feed(b"HTTP/1.1 404 -\r\nx-a: b\r\nContent-Length: 2\r\n\r\nno")
    reader.expect(bodiless=True)
    assert not reader.began
    second = reader.feed(OK + b"Content-Length: 9\r\n\r\n")
    reader.expect(bodiless=False)
    third = reader.feed(CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
    assert first == Answer(404, {"x-a": "b", "content-length": "2"}, b"no")
    assert second == Answer(200, {"content-length": "9"}, b"")
    assert third == Answer(200, {"transfer-encoding": "chunked"}, b"ok")
    assert not reader.closing


TEXTS = (
    [text for text, *_ in WHOLE.values()]
    + [*HEADS.values(), *OTHERS.values()]
    + [text for text, _ in CLOSING.values()]
    + [text for text in ODD.values() if len(text) < 500]
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_pieces_do_not_matter(data: st.DataObject) -> None:
    """What is read is the same, however the network cuts the bytes."""
    text = data.draw(st.sampled_from(TEXTS))
    bodiless, ends = data.draw(st.booleans()), data.draw(st.booleans())
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cut, _ = read(*pieces, bodiless=bodiless, ends=ends)
    whole, _ = read(text, bodiless=bodiless, ends=ends)
    assert cut == whole


def plainly_framed(text: bytes, *, bodiless: bool) -> bytes | None:
    """Return the body of an answer without hints before it, by the letter of RFC 9112; None where that leaves a doubt.

    Written as differently as can be from what it tests: whole, by lines, with no state.
    """
    head, empty, rest = text.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    if not empty or not re.fullmatch(rb"HTTP/1\.1 [1-9]\d\d( [^\r\n\0]*)?", status):
        return None
    told = [
        re.fullmatch(rb"([!#-'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*", line)
        for line in lines
    ]
    headers = [(one[1].lower(), one[2]) for one in told if one]
    lengths = {value for name, value in headers if name == b"content-length"}
    odd = [length for length in lengths if not re.fullmatch(rb"[0-9]+", length)]
    if None in told or odd or len(lengths) > 1:
        return None
    if bodiless or status[9:12] in (b"204", b"304"):
        return b""
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings:
        return chunks(rest) if codings == [b"chunked"] and not lengths else None
    length = int(lengths.pop()) if lengths else len(rest)  # until the end
    return rest[:length] if len(rest) >= length else None


def chunks(rest: bytes) -> bytes | None:
    """Put chunks together."""
    whole = b""
    while chunk := re.match(rb"([0-9A-Fa-f]+)[ \t]*(;[^\r\n\0]*)?\r\n", rest):
        length, rest = int(chunk[1], 16), rest[chunk.end() :]
        if length == 0:
            return whole if rest.startswith(b"\r\n") else None
        if rest[length : length + 2] != b"\r\n":
            return None
        whole, rest = whole + rest[:length], rest[length + 2 :]
    return None


PARTS = (
    *(b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"5", b"f", b"\xff"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Connection: close\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 OK\r\n"),
    *(
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"x: y\r\n",
        b"\r\n\r\n",
        b"-",
        b"chunked",
    ),
)


def mutated(rng: random.Random) -> bytes:
    """Make an answer, and change it in a few places."""
    text = bytearray(rng.choice(TEXTS))
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(text) + 1)
        match rng.randrange(4):
            case 0:
                text[place:place] = rng.choice(PARTS)
            case 1:
                del text[place : place + rng.randrange(1, 6)]
            case 2:
                text[place : place + 1] = rng.choice(PARTS)
            case _:
                text[place : place + 1] = bytes([rng.randrange(256)])
    return bytes(text)


def test_mutations() -> None:
    """Nothing that comes leads to anything but an answer framed beyond doubt, or one of two refusals."""
    rng = random.Random(SEED)
    answered = 0
    for _ in range(MUTATIONS):
        text = mutated(rng)
        bodiless = rng.random() < 0.3
        cut = rng.randrange(len(text) + 1)
        told, again = read(text[:cut], text[cut:], bodiless=bodiless, ends=True)
        if not isinstance(told, Answer):
            continue
        answered += 1
        rest = text
        while re.match(rb"HTTP/1\.1 1\d\d(?: |\r)", rest):
            rest = rest.partition(b"\r\n\r\n")[2]
        assert told.body == plainly_framed(rest, bodiless=bodiless), text
        if again:
            head = rest.partition(b"\r\n\r\n")[0]
            assert not re.search(rb"(?i)\nconnection:[ \t]*close[ \t]*(\r|\Z)", head), text
    assert answered > MUTATIONS / 20
