"""The sample in a server: agent, Envoy and the real Triton, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tritonclient.utils import InferenceServerException

from tests.model_builders.asking import Asked, asking, serving
from tests.model_builders.made import make_jobs
from tests.model_builders.one_hot.test_build import TERMS, build_sample
from tests.nlp_agent.running import RunningAgent

pytestmark = pytest.mark.triton

MODEL = "word-places"
PLACES = {term: place for place, term in enumerate(sorted(TERMS))}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    artifact = build_sample(make_jobs(tmp_path_factory.mktemp("sample")))
    with serving(MODEL, artifact, batch=32) as agent:
        yield agent


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[Asked]:
    with asking(server, request.param, MODEL) as asked:
        yield asked


def test_the_agent_proved_it_by_its_examples(server: RunningAgent) -> None:
    found = server.model(MODEL)
    assert (found["state"], found["examples"]) == ("Serving", 5)


def test_indices_come_by_default_and_vectors_when_asked_for(ask: Asked) -> None:
    given = ask(text=["다음 기차", "막걸리"])
    assert given.keys() == {"indices", "tokens"}
    assert given["indices"].tolist() == [[PLACES["다음"], PLACES["기차"]], [PLACES["막걸리"], -1]]
    assert given["tokens"].tolist() == [[2], [1]]
    given = ask(text=["다음 소년"], encoding=["OneHot"])
    assert given["one_hot"].shape == (1, 2, 10)
    assert given["one_hot"][0, 0].tolist() == [float(place == PLACES["다음"]) for place in range(10)]
    assert not given["one_hot"][0, 1].any()
    given = ask(text=["기차 기차 역"], encoding=["MultiHot"], outputs=["multi_hot"])
    assert given.keys() == {"multi_hot"}
    assert given["multi_hot"][0].nonzero()[0].tolist() == sorted((PLACES["기차"], PLACES["역"]))


def test_bad_request_gets_a_sentence(ask: Asked) -> None:
    with pytest.raises(InferenceServerException, match="encoding is 'Dense'; it must be one of Indices"):
        ask(text=["기차"], encoding=["Dense"])
    assert ask(text=["기차"])["indices"].tolist() == [[PLACES["기차"]]]
