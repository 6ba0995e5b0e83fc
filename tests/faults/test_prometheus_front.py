"""The server that makes a Prometheus answer wrongly, in front of one that answers rightly."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.prometheus_front import BY_MODEL, WHOLE, PrometheusFront, front
from tests.nlp_operator.signals.test_prometheus import canned

SCRAPED = "timestamp(envoy_server_live)"
ROWS = [
    {"metric": {"pod": "novels-server-1-abc", "namespace": "demo"}, "value": [1000.0, "990"]},
    {"metric": {"pod": "poems-server-1-abc", "namespace": "demo"}, "value": [1000.0, "991"]},
]


@pytest.fixture
def asked() -> Iterator[PrometheusFront]:
    with canned() as upstream, front(upstream.url) as server:
        upstream.say = lambda query: ROWS
        yield server


def ask(server: PrometheusFront) -> tuple[int, bytes]:
    host = urllib.parse.urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("POST", f"/api/v1/query?{urllib.parse.urlencode({'query': SCRAPED})}", b"")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def rows(server: PrometheusFront) -> list[dict[str, Any]]:
    status, body = ask(server)
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return found


def test_right_answers_pass_and_are_counted(asked: PrometheusFront) -> None:
    assert rows(asked) == ROWS
    assert asked.queries == 1


@pytest.mark.parametrize(
    ("fault", "value"),
    [("NaN", "NaN"), ("old timestamps", "390.0"), ("future timestamps", "1590.0"), ("no series", None)],
)
def test_a_fault_of_one_model_leaves_the_others_right(
    asked: PrometheusFront, fault: str, value: str | None
) -> None:
    asked.by_model = {"novels": BY_MODEL[fault]}
    found = {row["metric"]["pod"]: row["value"][1] for row in rows(asked)}
    assert found.pop("poems-server-1-abc") == "991"
    assert found == ({} if value is None else {"novels-server-1-abc": value})


def test_whole_answers_are_wrong_until_they_are_right_again(asked: PrometheusFront) -> None:
    asked.whole = WHOLE["HTML"]
    assert ask(asked)[1].startswith(b"<html>")
    asked.whole = WHOLE["error 503"]
    assert ask(asked)[0] == 503
    asked.whole = WHOLE["empty answer"]
    assert rows(asked) == []
    asked.whole = WHOLE["half an answer"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask(asked)[1])
    asked.whole = WHOLE["connection closed"]
    with pytest.raises(http.client.RemoteDisconnected):
        ask(asked)
    asked.whole = lambda answer: answer
    assert rows(asked) == ROWS


def test_a_prometheus_that_is_away_answers_nothing() -> None:
    with front("http://127.0.0.1:1") as server, pytest.raises(http.client.RemoteDisconnected):
        ask(server)
