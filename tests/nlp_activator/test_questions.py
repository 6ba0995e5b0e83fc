"""What is asked without needing a pod, and what is said to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from nlp_activator import http2, questions
from nlp_activator.http2 import Asked
from nlp_activator.questions import NOT_FOUND, OK, UNIMPLEMENTED, Known, Question, Unfinished
from tests.nlp_activator.scene import MODEL, SERVER

KNOWN = Known(SERVER, MODEL)
SERVICE = questions.SERVICE


def line(method: str, path: str, more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: novels\r\n{more}\r\n".encode()


@pytest.mark.parametrize(
    ("method", "path", "question"),
    [
        ("GET", "/v2/health/live", Question("Ready")),
        ("GET", "/v2/health/ready?verbose=1", Question("Ready")),
        ("GET", "/v2", Question("Server")),
        ("GET", "/v2/models/novels", Question("Model", "novels")),
        ("GET", "/v2/models/novels/ready", Question("ModelReady", "novels")),
        ("GET", "/v2/models/novels/versions/7", Question("Model", "novels", "7")),
        ("GET", "/v2/models/novels/versions/7/ready", Question("ModelReady", "novels", "7")),
        ("GET", "/v2/models/novels2/ready", Question("Nothing")),
        ("GET", "/v2/models/novels/config", Question("Nothing")),
        ("GET", "/metrics", Question("Nothing")),
        ("HEAD", "/v2/health/ready", Question("Nothing")),
        ("POST", "/v2/repository/index", Question("Nothing")),
        ("POST", "/v2/models/novels/infer", None),
        ("POST", "/v2/models/novels/versions/1/generate", None),
        ("POST", "/v2/models/novels/generate_stream", None),
        ("GET", "http://novels/v2/health/ready", Question("Ready")),
        ("GET", "HTTP://novels:8000/v2/models/novels?x=/y", Question("Model", "novels")),
        ("GET", "http://novels", Question("Nothing")),
        ("POST", "http://novels/v2/repository/index", Question("Nothing")),
        ("POST", "http://novels/v2/models/novels/infer", None),
        ("GET", "/v2//health/./live/x/..", Question("Nothing")),
        ("GET", "/v2//health/./live", Question("Ready")),
        ("GET", "/../v2/x/%2e%2E/health\\read%79", Question("Ready")),
        ("GET", "/v2/models/novel%73", Question("Model", "novels")),
        ("GET", "/~x", Question("Nothing")),
        ("GET", "/a%20b", Question("Nothing")),
        ("GET", "/v2%2Fhealth%2fready", Question("RefusedPath")),
        ("GET", "/v2?x#y", Question("RefusedPath")),
        ("GET", "/v2?x=%2Fy", Question("Server")),
        ("OPTIONS", "*", Question("Asterisk")),
        ("GET", "*", Question("Unreadable")),
        ("GET", "v2", Question("Unreadable")),
        ("GET", "/v2?a b", Question("Unreadable")),
        ("GET", "/Ã", Question("Unreadable")),
        ("CONNECT", "novels:80", Question("Unreadable")),
        # What Envoy makes simpler before it looks.
        ("POST", "/v2//models/novels/infer", None),
        ("POST", "/v2/x/../models/novels/infer", None),
        ("POST", "/v2/models/novel%73/infer", None),
    ],
)
def test_http_questions_are_known_by_their_first_line(
    method: str, path: str, question: Question | None
) -> None:
    assert questions.over_http(line(method, path), "novels") == question


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", ""])
@pytest.mark.parametrize("asks", ["GET /v2/health/ready", "HEAD /v2", "POST /v2/models/novels/infer"])
def test_other_versions_of_http_get_what_envoy_says_and_wake_nobody(asks: str, version: str) -> None:
    said = f"{asks} {version}".strip().encode() + b"\r\n\r\n"
    answer = questions.told_over_http(said, "novels", Known())
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")


@pytest.mark.parametrize(
    "said", [b"GET", b"GET /v2/health/rea", b"GET /v2 HTTP/1.1\r\nHost: x\r\n", b"POST /v2"]
)
def test_the_rest_of_a_question_is_waited_for(said: bytes) -> None:
    with pytest.raises(Unfinished):
        questions.over_http(said, "novels")


def test_a_head_that_does_not_end_goes_to_a_pod() -> None:
    assert questions.over_http(b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 9000, "novels") is None


def test_what_no_pod_has_said_only_a_pod_can_say() -> None:
    nothing = Known()
    for question in (
        Question("Server"),
        Question("Model", "novels"),
        Question("ModelReady", "novels", "1"),
    ):
        assert questions.answer_over_http(question, nothing) is None
        assert questions.answer_over_grpc(question, nothing, "novels") is None


def message(request: Message) -> bytes:
    body = request.SerializeToString()
    return b"\0" + len(body).to_bytes(4) + body


def asked(method: str, request: Message, ended: bool = True) -> Asked:
    headers = {":method": "POST", ":path": SERVICE + method}
    return Asked(1, headers, message(request), ended)


@pytest.mark.parametrize(
    ("method", "request_", "question"),
    [
        ("ServerLive", pb.ServerLiveRequest(), Question("Ready")),
        ("ServerReady", pb.ServerReadyRequest(), Question("Ready")),
        ("ServerMetadata", pb.ServerMetadataRequest(), Question("Server")),
        ("ModelReady", pb.ModelReadyRequest(name="novels"), Question("ModelReady", "novels")),
        (
            "ModelMetadata",
            pb.ModelMetadataRequest(name="novels", version="1"),
            Question("Model", "novels", "1"),
        ),
        ("ModelConfig", pb.ModelConfigRequest(name="novels"), Question("Nothing")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="novels"), Question("Nothing")),
        ("RepositoryIndex", pb.RepositoryIndexRequest(), Question("Nothing")),
    ],
)
def test_grpc_questions_are_known_by_their_method_and_message(
    method: str, request_: Message, question: Question
) -> None:
    assert questions.over_grpc(asked(method, request_)) == question


def test_a_message_that_is_compressed_or_cut_goes_to_a_pod() -> None:
    whole = asked("ModelReady", pb.ModelReadyRequest(name="novels"))
    whole.body = b"\1" + whole.body[1:]
    assert questions.over_grpc(whole) is None
    whole.body = b"\0" + whole.body[1:-1]
    assert questions.over_grpc(whole) is None
    with pytest.raises(Unfinished):
        questions.over_grpc(asked("ModelReady", pb.ModelReadyRequest(name="novels"), ended=False))


def parsed(kind: type[Message], question: Question) -> dict[str, Any]:
    answer = questions.answer_over_grpc(question, KNOWN, "novels")
    assert answer is not None
    assert answer.status == OK
    found: dict[str, Any] = MessageToDict(kind.FromString(answer.body), preserving_proto_field_name=True)
    return found


def test_metadata_over_grpc_is_what_it_is_over_http() -> None:
    assert parsed(pb.ServerMetadataResponse, Question("Server")) == SERVER
    # Shapes are 64 bits wide, which JSON of protobuf writes as text.
    found = parsed(pb.ModelMetadataResponse, Question("Model", "novels"))
    for tensor in (*found["inputs"], *found["outputs"]):
        tensor["shape"] = [int(size) for size in tensor["shape"]]
    assert found == MODEL
    answer = questions.answer_over_http(Question("Model", "novels", "1"), KNOWN)
    assert answer is not None
    assert json.loads(answer.body) == MODEL


def test_of_a_version_that_is_not_served_nothing_good_is_said() -> None:
    asked = (Question("Model", "novels", "7"), Question("ModelReady", "novels", "7"))
    over_http = [questions.answer_over_http(one, KNOWN) for one in asked]
    assert [one.status for one in over_http if one] == [404, 400]
    over_grpc = questions.answer_over_grpc(asked[0], KNOWN, "novels")
    assert over_grpc is not None
    assert (over_grpc.status, over_grpc.message) == (
        NOT_FOUND,
        "Request for unknown model: 'novels' version 7 is not found",
    )
    assert parsed(pb.ModelReadyResponse, Question("ModelReady", "novels", "7")) == {}
    assert parsed(pb.ModelReadyResponse, Question("ModelReady", "novels", "01")) == {"ready": True}
    assert parsed(pb.ModelReadyResponse, Question("ModelReady", "words")) == {}


def test_methods_that_pods_do_not_have_are_unimplemented() -> None:
    answer = questions.answer_over_grpc(Question("Nothing"), KNOWN, "novels")
    assert answer is not None
    assert answer.status == UNIMPLEMENTED


@given(st.binary(max_size=60))
def test_whatever_is_said_is_answered_passed_on_or_waited_for(rubbish: bytes) -> None:
    for told, said in (
        (questions.told_over_http, rubbish),
        (questions.told_over_http, b"GET " + rubbish),
        (questions.told_over_grpc, http2.PREFACE + rubbish),
        (questions.told_over_grpc, http2.PREFACE + frame(1, 4, 1, rubbish) + frame(0, 1, 1, rubbish)),
    ):
        try:
            answer = told(said, "novels", KNOWN)
        except Unfinished:
            continue
        assert answer is None or answer


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload
