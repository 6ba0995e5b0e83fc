"""`nlpctl report`: from an agent, and through a cluster to one. Both are HTTP servers of this machine; only
the browser and the port-forward's tunnel are replaced, and the tunnel not where the cluster refuses it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
import pytest
import yaml

from nlpctl import pages
from nlpctl.__main__ import main
from nlpctl.forward import Forward
from tests.nlpctl.site import site

PAGE = "<!doctype html><p>아들 - 딸 + 소녀 = 소년</p>\n".encode()
MODEL = "korean-words"
REPORT = f"/v1/models/{MODEL}/report"

OBJECTS = "/apis/nlp-operator.io/v1alpha1/namespaces/demo/nlpmodels"
SERVICE = f"/api/v1/namespaces/demo/services/{MODEL}"
PODS = "/api/v1/namespaces/demo/pods"
BUILDING = {"type": "Ready", "status": "Unknown", "reason": "Building", "message": "The build Job runs."}

Answers = dict[str, tuple[int, bytes]]


@contextlib.contextmanager
def pages_at(answers: Answers) -> Iterator[tuple[str, list[str]]]:
    """A server that answers these paths: its address, and what it was asked."""
    asked: list[str] = []

    def answer(path: str) -> tuple[int, bytes]:
        asked.append(path)
        return answers.get(path.partition("?")[0], (404, b"{}"))

    with site(answer) as address:
        yield address, asked


@pytest.fixture
def agent() -> Iterator[str]:
    gone = b"There is no model 'poems' here.\n"
    with pages_at({REPORT: (200, PAGE), "/v1/models/poems/report": (404, gone)}) as (address, _):
        yield address


def pod(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def cluster_of(*pods: dict[str, Any]) -> Answers:
    model = {
        "metadata": {"namespace": "demo", "name": MODEL, "generation": 1},
        "status": {"observedGeneration": 1, "conditions": [BUILDING]},
    }
    objects: Mapping[str, Any] = {
        f"{OBJECTS}/{MODEL}": model,
        OBJECTS: {"items": [model]},
        SERVICE: {"spec": {"selector": {"nlp-operator.io/server": "words-1"}}},
        PODS: {"items": list(pods)},
    }
    return {path: (200, json.dumps(one).encode()) for path, one in objects.items()}


READY = cluster_of(pod("words-b", "True"), pod("words-a", "False"), pod("words-c", "True"))


class Terminal:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.capsys = capsys

    def name(self, api: str) -> None:
        """The kubeconfig now leads to the API server at `api`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://{api}"}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "demo"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code: Any = 0
        try:
            main(["--kubeconfig", str(self.kubeconfig), "report", *words])
        except SystemExit as ended:
            code = ended.code
        out, err = self.capsys.readouterr()
        return int(code or 0), out, err


@pytest.fixture
def nlpctl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("localcluster.paths.runtime_dir", lambda: tmp_path / "runtime")
    return Terminal(tmp_path, capsys)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to show."""
    shown: list[str] = []
    monkeypatch.setattr(click, "launch", shown.append)
    return shown


@pytest.fixture
def forwards(agent: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Every port-forward leads to the agent; where they were asked for."""
    wanted: list[tuple[str, str, int]] = []

    @contextlib.contextmanager
    def forwarded(_api: object, namespace: str, name: str, port: int) -> Iterator[Forward]:
        wanted.append((namespace, name, port))
        yield Forward(agent)

    monkeypatch.setattr(pages, "forwarded", forwarded)
    return wanted


def test_the_report_is_saved_under_the_models_name(
    nlpctl: Terminal, agent: str, tmp_path: Path, opened: list[str]
) -> None:
    assert nlpctl(MODEL, "--address", agent) == (0, f"{tmp_path}/{MODEL}.html\n", "")
    assert (tmp_path / f"{MODEL}.html").read_bytes() == PAGE
    assert opened == []


def test_it_is_opened_where_it_was_saved(
    nlpctl: Terminal, agent: str, tmp_path: Path, opened: list[str]
) -> None:
    code, out, _ = nlpctl(MODEL, "--address", agent, "--open", "-o", "낱말 지도.html")
    path = tmp_path / "낱말 지도.html"
    assert (code, out) == (0, f"{path}\n")
    assert path.read_bytes() == PAGE
    assert opened == [path.as_uri()]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        pytest.param(("poems",), 1, "There is no model 'poems' here.", id="no such report"),
        pytest.param(
            (MODEL, "-o", "none/here.html"), 2, "none/here.html cannot be written: No", id="no folder"
        ),
    ],
)
def test_nothing_is_opened_that_was_not_saved(
    nlpctl: Terminal, agent: str, opened: list[str], words: tuple[str, ...], code: int, sentence: str
) -> None:
    ended, out, err = nlpctl(*words, "--address", agent, "--open")
    assert (ended, out, opened) == (code, "", [])
    assert sentence in err


def test_an_agent_that_does_not_answer_is_said(nlpctl: Terminal) -> None:
    with pages_at({}) as (address, _):
        pass
    code, _, err = nlpctl(MODEL, "--address", address)
    assert code == 3
    assert f"The agent at {address} does not answer: " in err


def test_through_a_cluster_it_comes_from_the_first_ready_pod(
    nlpctl: Terminal, forwards: list[tuple[str, str, int]], tmp_path: Path, opened: list[str]
) -> None:
    with pages_at(READY) as (api, asked):
        nlpctl.name(api)
        assert nlpctl(MODEL, "--open") == (0, f"{tmp_path}/{MODEL}.html\n", "")
    assert forwards == [("demo", "words-b", 8003)]
    assert f"{PODS}?labelSelector=nlp-operator.io/server=words-1" in [unquote(path) for path in asked]
    assert (tmp_path / f"{MODEL}.html").read_bytes() == PAGE
    assert opened == [(tmp_path / f"{MODEL}.html").as_uri()]


@pytest.mark.parametrize(
    ("model", "answers", "code", "sentence"),
    [
        pytest.param(
            MODEL,
            cluster_of(pod("words-a", "False")),
            1,
            f"No server of this model is ready. demo/{MODEL} is on its way (Building). The build Job runs.",
            id="no pod is ready",
        ),
        pytest.param(
            MODEL,
            {path: answer for path, answer in READY.items() if path != SERVICE},
            1,
            f"The model has no Service yet. demo/{MODEL} is on its way (Building).",
            id="no Service",
        ),
        pytest.param(
            "poems",
            READY,
            4,
            f"There is no NLPModel 'poems' in namespace 'demo'. It has: {MODEL}.",
            id="no such model",
        ),
    ],
)
def test_why_a_cluster_has_none_is_said(
    nlpctl: Terminal, tmp_path: Path, model: str, answers: Answers, code: int, sentence: str
) -> None:
    with pages_at(answers) as (api, _):
        nlpctl.name(api)
        ended, out, err = nlpctl(model)
    assert (ended, out) == (code, "")
    assert sentence in err
    assert not (tmp_path / f"{model}.html").exists()


def test_a_port_forward_that_the_cluster_refuses_is_told_with_the_right_it_needs(nlpctl: Terminal) -> None:
    """Without the right, through the real forward."""
    forbidden = (403, b'{"kind": "Status", "message": "forbidden"}')
    with pages_at({**READY, f"{PODS}/words-b/portforward": forbidden}) as (api, asked):
        nlpctl.name(api)
        code, _, err = nlpctl(MODEL)
    assert code == 3
    assert "The port-forward to port 8003 of pod demo/words-b failed: " in err
    assert err.endswith("It needs the right to create pods/portforward.\n")
    assert f"{PODS}/words-b/portforward?ports=8003" in asked
