"""As much of HTTP/2 as it takes to hold a gRPC client, to see what it asks, and to answer or refuse it itself
(RFC 9113, RFC 7541).

A client asks nothing before it was sent the server's SETTINGS. So the activator sends them, empty: every
value is the default. The pod sends its own when it is there, which HTTP/2 allows at any time; but it must not
get the client's acknowledgement of ours, which it would take for a fault. That one frame is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from hpack import Decoder, HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
UNAVAILABLE = "14"
_HEAD = 9
_LONGEST = 16384
"""Bytes in a frame, unless the other end allows more."""


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    start: int
    end: int
    """Where it is in the bytes."""


@dataclass
class Asked:
    """A request, as far as it has come."""

    stream: int
    headers: dict[str, str] = field(default_factory=dict)
    """Empty while they are not whole."""
    body: bytes = b""
    ended: bool = False
    left: bool = False
    """The client does not want it any more."""


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


def asked(data: bytes) -> list[Asked]:
    """The requests that were begun. ValueError: something in them cannot be read."""
    decoder, found = Decoder(), dict[int, Asked]()
    block, of = b"", 0  # of headers, until they are whole
    for frame in frames(data):
        payload = data[frame.start + _HEAD : frame.end]
        one = found.setdefault(frame.stream, Asked(frame.stream))
        if frame.kind in (HEADERS, CONTINUATION):
            if frame.kind == HEADERS:
                block, of = _without_padding(frame, payload), frame.stream
                one.ended = bool(frame.flags & END_STREAM)
            elif frame.stream == of:
                block += payload
            if frame.flags & END_HEADERS:
                try:
                    decoded = decoder.decode(block, raw=True)
                except HPACKError as error:
                    raise ValueError(f"a block of headers: {error}") from error
                one.headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in decoded}
        elif frame.kind == DATA:
            one.body += _without_padding(frame, payload)
            one.ended = bool(frame.flags & END_STREAM)
        elif frame.kind == RST_STREAM:
            one.left = True
    return [found[stream] for stream in requests(data)]


def _without_padding(frame: Frame, payload: bytes) -> bytes:
    start = end = 0
    if frame.flags & PADDED:
        start, end = 1, payload[0] if payload else 0
    if frame.kind == HEADERS and frame.flags & PRIORITY:
        start += 5
    return payload[start : len(payload) - end]


def answers(given: Mapping[int, tuple[bytes, int, str]]) -> bytes:
    """By stream a message, a status of gRPC and what it says; and the end of the connection."""
    parts = []
    for stream, (body, status, message) in given.items():
        end = _literal("grpc-status", str(status))
        if message:
            end += _literal("grpc-message", _quoted(message))
        head = _status_200() + _literal("content-type", "application/grpc")
        if status:
            parts.append(_frame(HEADERS, END_STREAM | END_HEADERS, stream, head + end))
            continue
        whole = b"\0" + len(body).to_bytes(4) + body
        parts += [
            _frame(HEADERS, END_HEADERS, stream, head),
            *(_frame(DATA, 0, stream, whole[at : at + _LONGEST]) for at in range(0, len(whole), _LONGEST)),
            _frame(HEADERS, END_STREAM | END_HEADERS, stream, end),
        ]
    return b"".join([*parts, _goaway(max(given, default=0))])


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
            ("grpc-message", _quoted(message)),
            ("grpc-retry-pushback-ms", str(retry_milliseconds)),
        )
    )
    answers = [_frame(HEADERS, END_STREAM | END_HEADERS, stream, block) for stream in streams]
    return b"".join([*answers, _goaway(max(streams, default=0))])


def _goaway(last: int) -> bytes:
    """Streams after the last were not taken: a client may ask them anew."""
    return _frame(GOAWAY, 0, 0, last.to_bytes(4) + bytes(4))


def _quoted(message: str) -> str:
    return quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")


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
