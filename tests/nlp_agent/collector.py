"""A collector of OpenTelemetry spans, as far as a test needs one: OTLP over HTTP, read without its schema."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fields = list[tuple[int, int | bytes]]


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    attributes: dict[str, str]
    resource: dict[str, str]


@dataclass
class Collector:
    url: str = ""
    spans: list[Span] = field(default_factory=list)

    def of(self, service: str, trace: str) -> list[Span]:
        return [
            one for one in self.spans if (one.resource.get("service.name"), one.trace) == (service, trace)
        ]


def read(message: bytes) -> Fields:
    """The fields of a protobuf message: numbers and bytes; fixed-width ones as bytes."""
    found: Fields = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            found.append((tag >> 3, value))
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, at = _varint(message, at)
        found.append((tag >> 3, message[at : at + length]))
        at += length
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _all(fields: Fields, number: int) -> list[bytes]:
    return [value for found, value in fields if found == number and isinstance(value, bytes)]


def _one(fields: Fields, number: int) -> bytes:
    return next(iter(_all(fields, number)), b"")


def _attributes(pairs: Sequence[bytes]) -> dict[str, str]:
    """Those that are strings: KeyValue{key = 1, value = 2}, AnyValue{string_value = 1}."""
    read_pairs = [read(pair) for pair in pairs]
    return {_one(pair, 1).decode(): _one(read(_one(pair, 2)), 1).decode() for pair in read_pairs}


def spans_of(request: bytes) -> Iterator[Span]:
    """Of an ExportTraceServiceRequest (opentelemetry-proto 1.0, trace.proto)."""
    for resource_spans in map(read, _all(read(request), 1)):
        resource = _attributes(_all(read(_one(resource_spans, 1)), 1))
        for scope_spans in map(read, _all(resource_spans, 2)):
            for span in map(read, _all(scope_spans, 2)):
                yield Span(
                    _one(span, 1).hex(),
                    _one(span, 2).hex(),
                    _one(span, 4).hex(),
                    _one(span, 5).decode(),
                    _attributes(_all(span, 9)),
                    resource,
                )


def spans_of_json(request: bytes) -> Iterator[Span]:
    """The same in JSON, where identifiers are in hexadecimal digits."""
    for resource_spans in json.loads(request)["resourceSpans"]:
        resource = _strings(resource_spans["resource"].get("attributes", ()))
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                yield Span(
                    span["traceId"],
                    span["spanId"],
                    span.get("parentSpanId", ""),
                    span["name"],
                    _strings(span.get("attributes", ())),
                    resource,
                )


def _strings(pairs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {pair["key"]: pair["value"].get("stringValue", "") for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b"".join(self.chunks())
            reads = {"application/x-protobuf": spans_of, "application/json": spans_of_json}
            known = reads.get(self.headers["content-type"]) if self.path == "/v1/traces" else None
            if known is not None:
                found.spans += known(body)
            self.send_response(200 if known is not None else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def chunks(self) -> Iterator[bytes]:
            """Envoy does not say how long it is, Triton does."""
            if "content-length" in self.headers:
                yield self.rfile.read(int(self.headers["content-length"]))
                return
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
