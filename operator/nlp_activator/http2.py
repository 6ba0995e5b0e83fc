"""As much of HTTP/2 as it takes to hold a gRPC client and, if need be, to refuse it (RFC 9113, RFC 7541).

A client asks nothing before it was sent the server's SETTINGS. So the activator sends them, empty: every
value is the default. The pod sends its own when it is there, which HTTP/2 allows at any time; but it must not
get the client's acknowledgement of ours, which it would take for a fault. That one frame is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, GOAWAY = 1, 4, 7
ACK, END_STREAM, END_HEADERS = 0x1, 0x1, 0x4
UNAVAILABLE = "14"
_HEAD = 9


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    start: int
    end: int
    """Where it is in the bytes."""


def begins_like_http2(data: bytes) -> bool:
    """Whether it is the preface, or so far could be."""
    return data[: len(PREFACE)] == PREFACE[: len(data)]


def frames(data: bytes) -> Iterator[Frame]:
    """The whole ones behind the preface."""
    start = len(PREFACE)
    while start + _HEAD <= len(data):
        length = int.from_bytes(data[start : start + 3])
        end = start + _HEAD + length
        if end > len(data):
            return
        stream = int.from_bytes(data[start + 5 : start + 9]) & 0x7FFFFFFF
        yield Frame(data[start + 3], data[start + 4], stream, start, end)
        start = end


def acknowledgement(data: bytes) -> Frame | None:
    """The first acknowledgement of SETTINGS."""
    return next((one for one in frames(data) if one.kind == SETTINGS and one.flags & ACK), None)


def without(data: bytes, frame: Frame) -> bytes:
    return data[: frame.start] + data[frame.end :]


def requests(data: bytes) -> list[int]:
    """The streams that were begun: each is a request."""
    return sorted({one.stream for one in frames(data) if one.kind == HEADERS})


def settings() -> bytes:
    return _frame(SETTINGS, 0, 0, b"")


def refusal(streams: list[int], message: str, retry_milliseconds: int) -> bytes:
    """UNAVAILABLE for each of them, and the end of the connection. `retry_milliseconds`: when to try again,
    for clients with a retry policy."""
    block = _status_200() + b"".join(
        _literal(key, value)
        for key, value in (
            ("content-type", "application/grpc"),
            ("grpc-status", UNAVAILABLE),
            ("grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")),
            ("grpc-retry-pushback-ms", str(retry_milliseconds)),
        )
    )
    answers = [_frame(HEADERS, END_STREAM | END_HEADERS, stream, block) for stream in streams]
    last = max(streams, default=0)
    return b"".join([*answers, _frame(GOAWAY, 0, 0, last.to_bytes(4) + bytes(4))])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _status_200() -> bytes:
    """Entry 8 of the static table."""
    return bytes([0x80 | 8])


def _literal(key: str, value: str) -> bytes:
    """A header that no table remembers, letters as they are."""
    return b"\0" + _string(key) + _string(value)


def _string(value: str) -> bytes:
    raw = value.encode("ascii")
    return _length(len(raw)) + raw


def _length(count: int) -> bytes:
    """An integer behind one bit (RFC 7541, section 5.1)."""
    if count < 127:
        return bytes([count])
    found, rest = [127], count - 127
    while rest >= 128:
        found.append(rest % 128 | 128)
        rest //= 128
    return bytes([*found, rest])
