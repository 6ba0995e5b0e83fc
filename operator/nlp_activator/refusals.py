"""What a client is told whose model does not come in time: over HTTP 503, over gRPC UNAVAILABLE."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from nlp_activator import http2
from nlp_activator.view import Model

RETRY_SECONDS = 10
"""What a client is asked to wait: a model that was woken is on its way."""

Reason = Literal["NotReady", "Untold", "TooMany"]


@dataclass(frozen=True)
class Refusal:
    reason: Reason
    message: str


def not_ready(model: Model, seconds: float) -> Refusal:
    return Refusal(
        "NotReady",
        f"Model {model} slept and was woken, and no pod of it was ready within {seconds:g} s. Try again in "
        f"{RETRY_SECONDS} s; if it stays so, `{_describe(model)}` says what keeps it.",
    )


def untold(model: Model, trouble: str) -> Refusal:
    return Refusal(
        "Untold",
        f"Model {model} sleeps and could not be woken: {trouble} Try again in {RETRY_SECONDS} s.",
    )


def too_many(model: Model, most: int) -> Refusal:
    return Refusal(
        "TooMany",
        f"Model {model} sleeps or is starting, and {most} connections wait for sleeping models already, "
        f"which is the most. Try again in {RETRY_SECONDS} s.",
    )


def _describe(model: Model) -> str:
    return f"kubectl -n {model.namespace} describe nlpmodel {model.name}"


def over_http(refusal: Refusal) -> bytes:
    body = json.dumps({"error": refusal.message}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Retry-After: {RETRY_SECONDS}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def over_grpc(refusal: Refusal, asked: bytes) -> bytes:
    """`asked`: what the client has sent, the preface first."""
    return http2.refusal(http2.requests(asked), refusal.message, 1000 * RETRY_SECONDS)
