"""What is asked of a model that sleeps and needs no pod: whether it is there, and what it is.

Monitors and clients ask that again and again, and it is no load. A model that it woke would fall asleep under
it, and start and end for ever. So the activator says what a pod would say, word for word where it can: Envoy
passes few paths (docs/serving.md), and each of them but inference has its answer here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from nlp_activator import http2

Json = Mapping[str, Any]

HEAD_END = b"\r\n\r\n"
LONGEST_HEAD = 8192
"""Bytes; a longer one goes to a pod."""
SERVICE = "/inference.GRPCInferenceService/"
INFERENCE = (f"{SERVICE}ModelInfer", f"{SERVICE}ModelStreamInfer")
ASKS_READY = ("/grpc.health.v1.Health/Check", f"{SERVICE}ServerLive", f"{SERVICE}ServerReady")
SERVER_METADATA, MODEL_READY = f"{SERVICE}ServerMetadata", f"{SERVICE}ModelReady"
ANSWERED = (*ASKS_READY, SERVER_METADATA, MODEL_READY, f"{SERVICE}ModelMetadata")
OK, INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED = 0, 3, 5, 12
"""Of gRPC."""
NO_PATH, NO_METHOD = "No such path or model on this server.", "No such method on this server."
"""Envoy's words (nlp_agent/envoy_config.py)."""
NO_INTEGER = "version should be an integral value > 0"
TRUE = b"\x08\x01"
"""`ready`, `live` and SERVING alike: field 1 of each message is 1."""

_BEGINS = re.compile(rb"[A-Z]{1,16}(?: |$)")
_LINE = re.compile(rb"([A-Z]+) +([!-~]+)(?: +HTTP/([0-9]\.[0-9]))? *\r\n")
_ABSOLUTE = re.compile(r"(?i:https?)://[^/?]+")
_AS_SAID = re.compile(r"(/[A-Za-z0-9._-]+)*/?")
"""A path that Envoy takes as it is; others it makes simpler, or refuses."""
_REFUSED = re.compile("%(2f|5c|00)", re.IGNORECASE)
_UNRESERVED = re.compile("%(2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)


@dataclass(frozen=True)
class Known:
    """What pods have said; `None`: not to this process."""

    server: Json | None = None
    """Answer to GET /v2."""
    model: Json | None = None
    """Answer to GET /v2/models/M."""


What = Literal[
    "Ready",
    "ModelReady",
    "Server",
    "Model",
    "Nothing",
    "Garbled",
    "OtherVersion",
    "Unreadable",
    "RefusedPath",
    "Asterisk",
]


class Question(NamedTuple):
    what: What
    """Nothing: there is no such path at a pod. Garbled: it is no HTTP at all. OtherVersion: it is HTTP, but
    not 1.1. Unreadable: its first line cannot be read. RefusedPath: Envoy takes no such path. Asterisk: it is
    about no path."""
    model: str = ""
    version: str = ""


class Unfinished(Exception):
    """More of what is asked has yet to come."""


class HttpAnswer(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str = "application/json"


class GrpcAnswer(NamedTuple):
    body: bytes = b""
    status: int = OK
    message: str = ""


# --- all together, as bytes; None: only a pod can tell. Unfinished, when that cannot be said yet ---


def told_over_http(said: bytes, model: str, known: Known) -> bytes | None:
    """`said`: by a client of HTTP/1.1 at the model's port for it."""
    question = over_http(said, model)
    answer = answer_over_http(question, known) if question else None
    return http_bytes(answer, head_only=said.startswith(b"HEAD ")) if answer else None


def told_over_grpc(said: bytes, model: str, known: Known) -> bytes | None:
    """`said`: by a client of HTTP/2 at the model's port for gRPC, the preface first. The connection ends with
    the answers: what is asked next may be for a pod, which has to see it from its beginning. Clients of gRPC
    make a new one by themselves, and ask there what this one did not take."""
    try:
        asked = [one for one in http2.asked(said) if not one.left]
    except ValueError:
        return None
    if any(one.headers.get(":path") in INFERENCE for one in asked):
        return None
    answers = {}
    for one in asked:
        question = over_grpc(one)
        answer = answer_over_grpc(question, known, model) if question else None
        if answer is None:
            return None
        answers[one.stream] = answer
    if not answers:
        raise Unfinished
    return http2.answers(answers)


# --- what is asked ---


def over_http(said: bytes, model: str) -> Question | None:
    """Inference is known by its first line."""
    if not _BEGINS.match(said):
        return Question("Garbled")
    head, ended, _ = said.partition(HEAD_END)
    if len(head) > LONGEST_HEAD:
        return None
    if not ended and (b"\r\n" not in said or said.startswith(b"GET ")):
        raise Unfinished
    found = _LINE.match(said)
    if found is None:
        # An inference by a line that Envoy can read after all would be lost.
        return None if said.startswith(b"POST ") else Question("Unreadable")
    method, target = found[1].decode(), found[2].decode()
    if found[3] != b"1.1":
        return Question("OtherVersion")
    if target == "*":
        return Question("Asterisk" if method == "OPTIONS" else "Unreadable")
    path = _path(target)
    if path is None:
        return Question("Unreadable")
    if not _AS_SAID.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        if method == "POST":
            return None
        path = _simpler(path)
    if method != "POST" and ("#" in target or _REFUSED.search(path)):
        return Question("RefusedPath")
    of_model = re.fullmatch(rf"/v2/models/{re.escape(model)}(?:/versions/([0-9]+))?(/\w+)?", path)
    if method == "POST" and of_model and of_model[2] in ("/infer", "/generate", "/generate_stream"):
        return None
    if method == "GET":
        if path in ("/v2/health/live", "/v2/health/ready"):
            return Question("Ready")
        if path == "/v2":
            return Question("Server")
        if of_model and of_model[2] in (None, "/ready"):
            return Question("ModelReady" if of_model[2] else "Model", model, of_model[1] or "")
    return Question("Nothing")


def _path(target: str) -> str | None:
    """`None`: it has none."""
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            return None
        target = target[absolute.end() :]
    return target.partition("?")[0]


def _simpler(path: str) -> str:
    """As Envoy makes it before it looks (nlp_agent/envoy_config.py)."""
    path = _UNRESERVED.sub(lambda found: chr(int(found[1], 16)), path).replace("\\", "/")
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    if parts[-1:] in (["."], [".."]):
        kept.append("")
    return re.sub("/+", "/", "/" + "/".join(kept))


def over_grpc(asked: http2.Asked) -> Question | None:
    """Of anything but inference."""
    path = asked.headers.get(":path")
    if path is None:
        raise Unfinished
    if path not in ANSWERED:
        return Question("Nothing")
    if not asked.ended:
        raise Unfinished
    if path in ASKS_READY:
        return Question("Ready")
    if path == SERVER_METADATA:
        return Question("Server")
    try:
        fields = dict(_strings(_message(asked.body)))
    except ValueError:
        return None
    return Question("ModelReady" if path == MODEL_READY else "Model", fields.get(1, ""), fields.get(2, ""))


def _message(body: bytes) -> bytes:
    """Raises ValueError for what is compressed or not one whole message."""
    length = int.from_bytes(body[1:5])
    if len(body) != 5 + length or body[0]:
        raise ValueError("not one plain message")
    return body[5:]


def _strings(message: bytes) -> Iterator[tuple[int, str]]:
    """Fields with their numbers, of a message that has strings only; else ValueError."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        length, at = _number(message, at)
        if key & 7 != 2 or at + length > len(message):
            raise ValueError("not a string")
        yield key >> 3, message[at : at + length].decode()
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while at < len(message) and shift < 64:
        value |= (message[at] & 127) << shift
        if not message[at] & 128:
            return value, at + 1
        at, shift = at + 1, shift + 7
    raise ValueError("a number that does not end")


# --- what a pod would say ---

_OF_ENVOY: Mapping[What, HttpAnswer] = {
    "OtherVersion": HttpAnswer(426, b"Upgrade Required", "text/plain"),
    "Unreadable": HttpAnswer(400, b"Bad Request", "text/plain"),
    "RefusedPath": HttpAnswer(400, content_type=""),
    "Asterisk": HttpAnswer(404, content_type=""),
}


def answer_over_http(question: Question, known: Known) -> HttpAnswer | None:
    """`None`: only a pod can tell."""
    if question.what == "Ready" or (question.what == "ModelReady" and not question.version):
        return HttpAnswer(200, content_type="text/plain")
    if question.what == "Nothing":
        return _error(404, NO_PATH)
    if question.what in _OF_ENVOY:
        return _OF_ENVOY[question.what]
    if question.what == "Garbled":
        return _error(400, "This is neither HTTP/1.1 nor HTTP/2; there is no TLS at this port.")
    if question.what == "Server":
        return None if known.server is None else _json(200, known.server)
    if known.model is None:
        return None
    version, there = _version(question, known.model)
    if question.what == "ModelReady":
        return (
            HttpAnswer(200, content_type="text/plain")
            if there
            else _error(400, "Model version not ready")._replace(content_type="text/plain")
        )
    if not there:
        return _error(404, _unknown(question, version))
    return _json(200, _of_version(known.model, version))


def answer_over_grpc(question: Question, known: Known, model: str) -> GrpcAnswer | None:
    """`None`: only a pod can tell. `model`: the one that sleeps."""
    if question.what == "Ready":
        return GrpcAnswer(TRUE)
    if question.what == "Nothing":
        return GrpcAnswer(b"", UNIMPLEMENTED, json.dumps({"error": NO_METHOD}))
    if question.what == "Server":
        return None if known.server is None else GrpcAnswer(_server_metadata(known.server))
    if question.version and not re.fullmatch("[0-9]{1,18}", question.version):
        return GrpcAnswer(b"", INVALID_ARGUMENT, f"{question.version!r} is no version: {NO_INTEGER}")
    if question.model != model:
        version, there = question.version, False
    elif question.what == "ModelReady" and not question.version:
        return GrpcAnswer(TRUE)
    elif known.model is None:
        return None
    else:
        version, there = _version(question, known.model)
    if question.what == "ModelReady":
        return GrpcAnswer(TRUE if there else b"")
    if not there or known.model is None:
        return GrpcAnswer(b"", NOT_FOUND, _unknown(question, version))
    return GrpcAnswer(_model_metadata(_of_version(known.model, version)))


def _version(question: Question, model: Json) -> tuple[str, bool]:
    """As Triton reads it, and whether it is served; none means the newest."""
    version = str(int(question.version)) if question.version else ""
    return version, not version or version in model.get("versions", ())


def _of_version(model: Json, version: str) -> Json:
    return {**model, "versions": [version]} if version else model


def _unknown(question: Question, version: str) -> str:
    of_version = f" version {version}" if version else ""
    return f"Request for unknown model: '{question.model}'{of_version} is not found"


def _json(status: int, body: Json) -> HttpAnswer:
    return HttpAnswer(status, json.dumps(body, separators=(",", ":")).encode())


def _error(status: int, message: str) -> HttpAnswer:
    return _json(status, {"error": message})


# --- the messages (inference.GRPCInferenceService) ---


def _server_metadata(server: Json) -> bytes:
    return b"".join(
        [
            _text(1, server.get("name", "")),
            _text(2, server.get("version", "")),
            *(_text(3, one) for one in server.get("extensions", ())),
        ]
    )


def _model_metadata(model: Json) -> bytes:
    return b"".join(
        [
            _text(1, model.get("name", "")),
            *(_text(2, one) for one in model.get("versions", ())),
            _text(3, model.get("platform", "")),
            *(_field(4, _tensor(one)) for one in model.get("inputs", ())),
            *(_field(5, _tensor(one)) for one in model.get("outputs", ())),
        ]
    )


def _tensor(tensor: Json) -> bytes:
    shape = b"".join(_varint(size % (1 << 64)) for size in tensor.get("shape", ()))
    return (
        _text(1, tensor.get("name", ""))
        + _text(2, tensor.get("datatype", ""))
        + (_field(3, shape) if shape else b"")
    )


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode()) if value else b""


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = []
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def http_bytes(answer: HttpAnswer, head_only: bool = False) -> bytes:
    """Whose word it is stands in `Server`, which a pod does not say."""
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        + (f"Content-Type: {answer.content_type}\r\n" if answer.content_type else "")
        + f"Content-Length: {len(answer.body)}\r\n"
        "Server: nlp-activator\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else answer.body)


NO_GRPC = http_bytes(_error(404, NO_METHOD))
"""To HTTP/1.1 at the port of gRPC."""
