"""`nlpctl infer` against agent, Envoy and Triton as in a server pod, with an artifact of the real builder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster.demo.questions import MODEL, QUESTIONS, faults, value_in
from nlpctl.__main__ import main
from tests.model_builders.made import DOCUMENT_EXAMPLE, build_artifact, make_novels
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    built = build_artifact(tmp_path_factory.mktemp("build"), make_novels(), DOCUMENT_EXAMPLE)
    with running_agent() as agent:
        shutil.copytree(built, agent.store / "artifacts" / built.name)
        agent.want(make_wanted(MODEL, built.name))
        agent.start()
        agent.wait_ready()
        yield agent


class Asked:
    def __init__(self, server: RunningAgent, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.capsys = capsys

    def __call__(self, *words: str, protocol: str = "http", model: str = MODEL) -> tuple[int, str, str]:
        port = self.server.grpc if protocol == "grpc" else self.server.http
        code: Any = 0
        try:
            main(["infer", model, *words, "--protocol", protocol, "--address", f"127.0.0.1:{port}"])
        except SystemExit as ended:
            code = ended.code
        out, err = self.capsys.readouterr()
        return int(code or 0), out, err


@pytest.fixture
def infer(server: RunningAgent, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(server, capsys)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_example_of_the_study_note_comes_out_exactly(infer: Asked, protocol: str) -> None:
    answers = {}
    for question in QUESTIONS:
        code, out, err = infer(*question.words, "--json", protocol=protocol)
        assert code == 0, err
        answers[question.name] = value_in(json.loads(out), question)
    assert faults(answers) == []


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_answer_is_a_table_a_person_can_read(infer: Asked, protocol: str) -> None:
    code, out, err = infer("막걸리", "--top-k", "2", protocol=protocol)
    assert code == 0, err
    lines = [line.rstrip() for line in out.splitlines()]
    assert "interpreted as   word" in lines
    assert "word vector      [0, 1, 0, 0]" in lines
    assert "1  선술집                  1" in lines
    assert "answered in" in lines[-1]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(("소주", "--role", "word"), "소주", id="a word the model does not know"),
        pytest.param(("기차", "--top-k", "100000"), "top_k", id="a number out of range"),
    ],
)
def test_a_refused_request_is_told_in_the_models_own_words(
    infer: Asked, words: tuple[str, ...], sentence: str, protocol: str
) -> None:
    code, out, err = infer(*words, protocol=protocol)
    assert (code, out) == (5, "")
    assert err.startswith(f"nlpctl: {MODEL} refused the request: ")
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_model_that_is_not_there_is_not_ready(infer: Asked, protocol: str) -> None:
    code, _, err = infer("x", protocol=protocol, model="nobody")
    assert (code, "nobody is not served at 127.0.0.1" in err) == (1, True), err


def test_an_input_the_model_does_not_take_is_refused_with_those_it_takes(infer: Asked) -> None:
    code, _, err = infer("기차", "--input", "temperature=1")
    assert (code, err) == (
        2,
        "nlpctl: This model has no input 'temperature'; it takes text, text_pair, role, top_k.\n",
    )
