"""The little of HTTP/2 that is read and written."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from nlp_activator import http2
from nlp_activator.http2 import PREFACE


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS, ACK = frame(4, 0, 0, bytes(6)), frame(4, 1, 0)
REQUEST = frame(1, 4, 1, b"headers")


@pytest.mark.parametrize(
    ("data", "like"),
    [(b"", True), (b"P", True), (b"PRI", True), (PREFACE + b"more", True), (b"POST /", False), (b"G", False)],
)
def test_the_beginning_is_told_from_http_1(data: bytes, like: bool) -> None:
    assert http2.begins_like_http2(data) is like


def test_the_acknowledgement_alone_is_taken_out_and_requests_are_counted() -> None:
    data = PREFACE + SETTINGS + frame(8, 0, 0, bytes(4)) + ACK + REQUEST + frame(0, 1, 1, b"data")
    found = http2.acknowledgement(data)
    assert found is not None
    assert http2.without(data, found) == data.replace(ACK, b"", 1)
    assert http2.requests(data) == [1]
    assert http2.acknowledgement(PREFACE + SETTINGS) is None


@given(st.binary(max_size=200), st.integers(0, 60))
def test_frames_are_whole_and_follow_each_other_whatever_is_behind(rubbish: bytes, cut: int) -> None:
    data = PREFACE + SETTINGS + ACK + REQUEST
    found = list(http2.frames((data + rubbish)[: len(data) + cut]))
    assert found[0].start == len(PREFACE)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert [one.kind for one in found[:3]] == [4, 4, 1]
    assert list(http2.frames(data[:-1]))[-1].kind == 4, "the last frame is not whole"


@given(st.integers(0, 5000))
def test_lengths_are_as_in_hpack(count: int) -> None:
    """RFC 7541, section 5.1: decoded as it says."""
    raw = http2._length(count)
    value, shift = raw[0], 0
    for byte in raw[1:]:
        value += (byte & 127) << shift
        shift += 7
    assert value == count


def encoded(encoder: Encoder, *headers: tuple[str, str], huffman: bool = True) -> bytes:
    return encoder.encode(headers, huffman)


def test_what_is_asked_is_read_over_several_frames_with_padding_and_a_table_that_grows() -> None:
    encoder = Encoder()
    first = encoded(encoder, (":method", "POST"), (":path", "/one"), ("user-agent", "a client"))
    second = encoded(encoder, (":method", "POST"), (":path", "/two"), ("user-agent", "a client"))
    assert len(second) < len(first), "the second leans on the table of the first"
    data = (
        PREFACE
        + SETTINGS
        + frame(1, 0x20, 1, bytes(5) + first[:4])  # priority, and no end of the headers
        + frame(9, 0x4, 1, first[4:])
        + frame(1, 0x4 | 0x8, 3, b"\2" + second + bytes(2))
        + frame(0, 0, 1, b"mes")
        + frame(0, 0x1 | 0x8, 1, b"\3" + b"sage" + bytes(3))
        + frame(3, 0, 3, bytes(4))
    )
    one, two = http2.asked(data)
    assert (one.headers[":path"], one.body, one.ended, one.left) == ("/one", b"message", True, False)
    assert (two.headers[":path"], two.ended, two.left) == ("/two", False, True)
    assert http2.asked(data[: data.index(frame(9, 0x4, 1, first[4:]))])[0].headers == {}


def test_headers_that_cannot_be_read_are_told_so() -> None:
    with pytest.raises(ValueError, match="a block of headers"):
        http2.asked(PREFACE + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"))
