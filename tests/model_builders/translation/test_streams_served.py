"""Translators that stream, in a server: agent, Envoy and the real Triton, over gRPC."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from nlpctl.__main__ import main
from tests.model_builders.asking import Asked, Streamed, asking, streaming, texts
from tests.model_builders.translation.samples import sample
from tests.model_builders.translation.test_streaming import assert_same, joined
from tests.nlp_agent.artifacts import make_artifact, write_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, wait_until

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]  # the first time, torch is downloaded

SENTENCES = {
    "korean-english": ["어제 그녀는 빵을 기억했다.", "나는 책을 샀다.", "너는 漢字를 보았다."],
    "english-korean": ["She remembered the bread yesterday.", "I bought the book.", "You saw 漢字."],
}
SERVED = {"korean-english": "live-english", "english-korean": "live-korean"}
"""Each sample under its own name, and under another name as one that streams: of one artifact."""

ENDLESS, LIVE_ENDLESS, LONGEST = "endless", "live-endless", 100_000
CUT, SHORTEST = "live-cut", 12
IN_PAIRS = "endless-in-pairs"

NEVER_ENDING = """
import os


class Endless:
    def __init__(self, decoder):
        self._decoder = decoder

    def begin(self, tokens, lengths):
        endless = (tokens == 1).any(axis=1)
        if endless.any():
            with open(os.environ["TMPDIR"] + "/begun", "a") as begun:
                begun.write("x")
        return {**self._decoder.begin(tokens, lengths), "endless": endless}

    def step(self, words, state):
        step = self._decoder.step(words, {k: v for k, v in state.items() if k != "endless"})
        step.log_probabilities[state["endless"], 2] = -1e9
        return type(step)(step.log_probabilities, step.attention, {**step.state, "endless": state["endless"]})


_load = load


def load(*given):
    found = _load(*given)
    found._decoder = Endless(found._decoder)
    return found
"""


def endless_artifact(store: Path, in_pairs: bool = False, longest: int = LONGEST) -> str:
    """The sample that writes English. A text with a character nobody has seen it translates for ever:
    what stops it is its client or, after minutes, its limit. `in_pairs`: a request waits for another that
    is answered with it."""
    folder = sample("korean-english").artifact
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    del files["manifest.json"]
    files["1/answering.py"] += NEVER_ENDING.encode()
    files["1/settings.json"] = json.dumps({"maxTokens": longest}).encode()
    if in_pairs:
        for path in [path for path in files if path.startswith("configs/cpu-")]:
            text = files[path].decode()
            assert "dynamic_batching {\n}" in text
            waits = "dynamic_batching { max_queue_delay_microseconds: 20000000 }"
            files[path] = text.replace("dynamic_batching {\n}", waits).encode()
        recorded = json.loads(files["examples.json"])
        pairs = [one for one in recorded["examples"] if one["name"] == "a batch of two"]
        files["examples.json"] = json.dumps({**recorded, "examples": pairs}).encode()
    return write_artifact(store, files)


FOREVER, SHORT = "나는 漢 샀다.", "나는 책을 샀다."


@pytest.fixture(scope="module")
def server() -> Iterator[RunningAgent]:
    # Its own questions would wait and be counted with those of the tests; it has proven the models by then.
    with running_agent(NLP_CANARY_SECONDS="3600") as agent:
        wanted = []
        for name, live in SERVED.items():
            artifact = sample(name).artifact
            shutil.copytree(artifact, agent.store / "artifacts" / artifact.name)
            wanted.append(make_wanted(name, artifact.name))
            wanted.append(make_wanted(live, artifact.name, responses="Streamed"))
        endless = endless_artifact(agent.store)
        wanted.append(make_wanted(ENDLESS, endless))
        wanted.append(make_wanted(LIVE_ENDLESS, endless, responses="Streamed"))
        wanted.append(make_wanted(CUT, endless_artifact(agent.store, longest=SHORTEST), responses="Streamed"))
        wanted.append(make_wanted(IN_PAIRS, endless_artifact(agent.store, in_pairs=True), batch=2))
        agent.want(*wanted)
        agent.start()
        agent.wait_ready()
        yield agent


@pytest.fixture(params=SERVED)
def both(request: pytest.FixtureRequest, server: RunningAgent) -> Iterator[tuple[Asked, Streamed, list[str]]]:
    name = request.param
    with asking(server, "grpc", name) as asked, streaming(server, SERVED[name]) as streamed:
        yield asked, streamed, SENTENCES[name]


@pytest.fixture
def live(server: RunningAgent) -> Iterator[Streamed]:
    with streaming(server, "live-english") as streamed:
        yield streamed


def counted(server: RunningAgent, name: str, model: str, **labels: str) -> float:
    """A number of Triton's, as the pod's page has it."""
    _, page = server.get("/metrics", server.metrics)
    wanted = {"model": model, "version": "1", **labels}
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(wanted.items()))
    (value,) = re.findall(rf"^{name}{{{inside}}} (\S+)$", page, re.MULTILINE)
    return float(value)


def pieces(responses: list[dict[str, Any]]) -> list[str]:
    return [one["translation"][0, 0].decode() for one in responses]


@pytest.mark.parametrize("name", SERVED.values())
def test_the_agent_proved_each_response_of_the_recorded_streams(server: RunningAgent, name: str) -> None:
    found = server.model(name)
    assert (found["state"], found["examples"]) == ("Serving", 2)


def test_a_stream_joined_is_the_answer_of_who_waits(both: tuple[Asked, Streamed, list[str]]) -> None:
    ask, stream, sentences = both
    for text in sentences:
        whole, responses = ask(text=[text]), stream.all(text)
        assert len(responses) == whole["tokens"].shape[1] + 1
        assert_same(joined(responses), whole)


def test_the_text_comes_piece_by_piece_in_korean(server: RunningAgent) -> None:
    with streaming(server, "live-korean") as stream:
        found = pieces(stream.all("She remembered the bread yesterday."))
    assert found == ["어제", " 그녀는", " 빵을", " 기억했다", ".", ""]


def test_a_beam_streams_what_it_found_at_its_end(both: tuple[Asked, Streamed, list[str]]) -> None:
    ask, stream, (text, *_) = both
    whole = ask(text=[text], beam_size=[4])
    responses = stream.all(text, beam_size=4)
    assert "".join(pieces(responses)) == texts(whole["translation"])[0]
    np.testing.assert_allclose(responses[-1]["score"], whole["score"], atol=1e-5)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"beam_size": 1000}, "beam_size is 1000; it must be between 1 (greedy) and 16.", id="wide"
        ),
        pytest.param({"text": ""}, "text is empty; there is nothing to translate.", id="empty"),
        pytest.param(
            {"text": "나는 빵을 샀다. " * 100},
            "text has 400 tokens; this model reads at most 32. Ask sentence by sentence.",
            id="long",
        ),
        pytest.param({"text": b"\xba\xf1"}, "text is not UTF-8: byte 0 is 0xba", id="no text"),
        pytest.param(
            {"rows": 2},
            "text has 2 rows; this model streams, and a stream is of one text. Send a request for each.",
            id="two rows",
        ),
    ],
)
def test_a_bad_request_ends_its_stream_with_a_sentence(
    live: Streamed, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        live.all(**{"text": SHORT, **given})
    assert sentence in str(refused.value)
    assert "".join(pieces(live.all(SHORT))) == "I bought the book."


def test_who_asks_a_streaming_model_for_the_whole_is_told(server: RunningAgent) -> None:
    for protocol in ("grpc", "http"):
        with asking(server, protocol, "live-english") as ask, pytest.raises(InferenceServerException) as told:
            ask(text=[SHORT])
        assert "decoupled" in str(told.value)


def test_decoding_stops_when_the_client_cancels_its_stream(server: RunningAgent) -> None:
    written, left = (
        counted(server, name, LIVE_ENDLESS)
        for name in ("nlp_tokens_written_total", "nlp_requests_cancelled_total")
    )
    with streaming(server, LIVE_ENDLESS) as stream:
        stream.begin(FOREVER)
        assert [stream.next()[1] for _ in range(3)] == [False, False, False]
        stream.cancel()
        # There is one instance: it answers again because it has stopped, long before its limit.
        assert pieces(stream.all(SHORT)) == ["I", " bought", " the", " book", ".", ""]
    wait_until(
        "the stream is counted as cancelled",
        lambda: counted(server, "nlp_requests_cancelled_total", LIVE_ENDLESS) == left + 1,
    )
    assert 3 <= counted(server, "nlp_tokens_written_total", LIVE_ENDLESS) - written < LONGEST / 4


def test_a_stream_that_is_cancelled_leaves_those_beside_it_alone(server: RunningAgent) -> None:
    with streaming(server, LIVE_ENDLESS) as first, streaming(server, LIVE_ENDLESS) as second:
        first.begin(FOREVER)
        first.next()
        second.begin(SHORT)  # waits until the instance is free
        first.cancel()
        assert second.next()[0]["translation"][0, 0] == b"I"


class Waiting:
    """A client of whole answers."""

    def __init__(self, client: grpcclient.InferenceServerClient, text: str, model: str = ENDLESS) -> None:
        tensor = grpcclient.InferInput("text", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
        self._arrived: Queue[Any] = Queue()
        self._context = client.async_infer(
            model, [tensor], lambda result, error: self._arrived.put((result, error))
        )

    def cancel(self) -> str:
        """The status that the client then has."""
        self._context.cancel()
        _, error = self._arrived.get(timeout=60)
        return str(error.status())

    def answer(self) -> str:
        result, error = self._arrived.get(timeout=60)
        assert error is None, error
        return texts(result.as_numpy("translation"))[0]


def begun(server: RunningAgent) -> int:
    """How often a pass with an endless text in it has begun, for whomever."""
    path = server.work / "tmp" / "begun"
    return len(path.read_text()) if path.exists() else 0


def waiting(server: RunningAgent) -> float:
    return counted(server, "nv_inference_pending_request_count", IN_PAIRS)


def test_decoding_stops_when_the_client_of_a_whole_answer_cancels(server: RunningAgent) -> None:
    written, left = (
        counted(server, name, ENDLESS)
        for name in ("nlp_tokens_written_total", "nlp_requests_cancelled_total")
    )
    before = begun(server)
    with asking(server, "grpc", ENDLESS) as ask:
        held = Waiting(ask.client, FOREVER)
        wait_until("it is being translated", lambda: begun(server) == before + 1)
        beside = Waiting(ask.client, SHORT)
        assert held.cancel() == "StatusCode.CANCELLED"
        assert beside.answer() == "I bought the book."
    wait_until(
        "the request is counted as cancelled",
        lambda: counted(server, "nlp_requests_cancelled_total", ENDLESS) == left + 1,
    )
    assert counted(server, "nlp_tokens_written_total", ENDLESS) - written < LONGEST / 4


def test_a_cancelled_request_leaves_the_others_of_its_batch_alone(server: RunningAgent) -> None:
    executed, before = counted(server, "nv_inference_exec_count", IN_PAIRS), begun(server)
    with asking(server, "grpc", IN_PAIRS) as ask:
        second, third = Waiting(ask.client, FOREVER, IN_PAIRS), Waiting(ask.client, SHORT, IN_PAIRS)
        wait_until("both are being translated", lambda: begun(server) == before + 1)
        assert second.cancel() == "StatusCode.CANCELLED"
        assert third.answer() == "I bought the book."
    assert counted(server, "nv_inference_exec_count", IN_PAIRS) == executed + 1


def test_a_request_that_is_cancelled_before_its_turn_is_counted_by_triton(server: RunningAgent) -> None:
    def cancelled() -> float:
        return counted(server, "nv_inference_request_failure", IN_PAIRS, reason="CANCELED")

    before = cancelled()
    with asking(server, "grpc", IN_PAIRS) as ask:
        alone = Waiting(ask.client, SHORT, IN_PAIRS)
        wait_until("it waits for another", lambda: waiting(server) == 1)
        assert alone.cancel() == "StatusCode.CANCELLED"
    wait_until("it is counted", lambda: cancelled() == before + 1)


def nlpctl(*words: str) -> int:
    try:
        main(["infer", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_nlpctl_prints_a_stream_in_korean(server: RunningAgent, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--stream", "--address", f"127.0.0.1:{server.grpc}")
    assert nlpctl("live-korean", "She remembered the bread yesterday.", *where) == 0
    text, told = capsys.readouterr().out.splitlines()
    assert text == "어제 그녀는 빵을 기억했다."
    assert told.startswith("live-korean gave 6 responses in ")
    assert nlpctl("live-korean", "I bought the book.", *where, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "".join(one["outputs"]["translation"]["data"][0] for one in lines) == "나는 책을 샀다."
    assert lines[-1]["outputs"]["finished"]["data"] == [True]
    # A model that answers whole has but one response.
    assert nlpctl("english-korean", "I bought the book.", *where) == 0
    assert capsys.readouterr().out.startswith("나는 책을 샀다.\nenglish-korean gave 1 response in ")


def test_nlpctl_says_that_a_stream_was_cut(server: RunningAgent, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--stream", "--address", f"127.0.0.1:{server.grpc}")
    assert nlpctl(CUT, FOREVER, *where) == 0
    _, cut, told = capsys.readouterr().out.splitlines()
    assert cut.startswith("It is cut here: the model came to the most tokens that it writes")
    assert told.startswith(f"{CUT} gave {SHORTEST + 1} responses in ")
    assert nlpctl(CUT, FOREVER, *where, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["outputs"]["finished"]["data"] == [False]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        pytest.param(
            (),
            5,
            "live-korean answers token by token (responses: Streamed); ask it with --stream.",
            id="whole",
        ),
        pytest.param(
            ("--stream", "--protocol", "http"), 2, "--stream goes over gRPC; leave --protocol out", id="http"
        ),
        pytest.param(
            ("--stream", "--input", "beam_size=1000"), 5, "beam_size is 1000; it must be between", id="wide"
        ),
    ],
)
def test_nlpctl_says_what_a_stream_needs(
    server: RunningAgent, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, sentence: str
) -> None:
    port = server.grpc if words else server.http
    assert nlpctl("live-korean", "I bought the book.", "--address", f"127.0.0.1:{port}", *words) == code
    assert sentence in capsys.readouterr().err


def test_envoy_counts_streams_by_the_service_that_was_called(server: RunningAgent, live: Streamed) -> None:
    def streams() -> float:
        _, page = server.get("/metrics", server.metrics)
        found = re.findall(
            r'^envoy_vhost_route_upstream_rq_total{[^}]*envoy_route="live-english"[^}]*} (\d+)$',
            page,
            re.MULTILINE,
        )
        return sum(map(float, found))

    before = streams()
    live.all(SHORT)
    wait_until("one more is counted", lambda: streams() == before + 1)


def test_a_model_that_cannot_stream_is_refused_with_a_sentence_and_its_neighbours_serve(
    server: RunningAgent,
) -> None:
    with running_agent() as agent:
        echo = make_artifact(agent.store)
        agent.want(make_wanted("echo", echo), make_wanted("live-echo", echo, responses="Streamed"))
        agent.start()
        agent.wait_ready()
        found = agent.wait_model("live-echo", state="Quarantined")
        assert found["reason"] == "TargetMissing"
        assert "the artifact has no recorded stream" in found["message"]
        assert agent.model("echo")["state"] == "Serving"
        # The way back, without another artifact.
        agent.want(make_wanted("echo", echo), make_wanted("live-echo", echo))
        agent.wait_model("live-echo", state="Serving")


def test_a_model_that_serves_becomes_one_that_streams_and_back() -> None:
    artifact = sample("korean-english").artifact
    with running_agent() as agent:
        shutil.copytree(artifact, agent.store / "artifacts" / artifact.name)
        agent.want(make_wanted("english", artifact.name))
        agent.start()
        agent.wait_ready()
        agent.wait_model("english", examples=3)
        agent.want(make_wanted("english", artifact.name, responses="Streamed"))
        agent.wait_model("english", examples=2)
        with streaming(agent, "english") as stream:
            assert "".join(pieces(stream.all(SHORT))) == "I bought the book."
        agent.want(make_wanted("english", artifact.name))
        agent.wait_model("english", examples=3)
        with asking(agent, "http", "english") as ask:
            assert texts(ask(text=[SHORT])["translation"]) == ["I bought the book."]
        # Without batching it is asked what it then takes: of three recorded requests one is a batch of two.
        agent.want(make_wanted("english", artifact.name, batch=1))
        agent.wait_model("english", examples=2)
        with asking(agent, "http", "english") as ask:
            assert texts(ask(text=[SHORT])["translation"]) == ["I bought the book."]
