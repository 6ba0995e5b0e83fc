"""What the serving benchmark counts and how it reads answers: without a server, but for a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.serving import translator
from benchmarks.serving.__main__ import agreement_with, goals, medians, summarise, table
from benchmarks.serving.load import Failed, HttpClient, Window, run_window
from benchmarks.serving.servers import triton_http_vector, worst_cosine
from benchmarks.serving.texts import COUNT, make_texts
from model_builders.transformer.graph import build_decoder, build_encoder
from model_builders.transformer.parameters import parse_parameters
from tools.translation_samples import diary_data


def test_texts_are_distinct_and_the_same_in_every_run() -> None:
    short, mixed = make_texts("short"), make_texts("mixed")
    assert short == make_texts("short")
    assert len(set(short)) == len(set(mixed)) == COUNT
    assert max(len(text.split()) for text in short) < 20
    assert sum(len(text.split()) > 60 for text in mixed) > COUNT / 12


def test_a_window_becomes_requests_quantiles_and_processor_time() -> None:
    before = ({"envoy": 1.0, "tritonserver": 2.0}, 5.0, 100.0)
    after = ({"envoy": 1.1, "tritonserver": 3.0, "stub": 0.5}, 5.2, 102.0)
    row = summarise(Window(2.0, tuple(n / 1000 for n in range(1, 101)), 0, before, after))
    assert row["requests_per_second"] == 50
    assert (row["p50_ms"], row["p99_ms"]) == (50, 99)
    assert row["cpu_ms_per_request"] == pytest.approx(16.0)
    assert row["cpu_ms_by_program"]["stub"] == pytest.approx(5.0)
    assert row["client_cpu_ms_per_request"] == pytest.approx(2.0)


def test_medians_are_of_each_number_and_failures_are_added() -> None:
    rows = [
        {"requests_per_second": n, "failures": 1, "cpu_ms_by_program": {"envoy": n / 10}} for n in (1, 9, 2)
    ]
    assert medians(rows) == {
        "requests_per_second": 2,
        "failures": 3,
        "cpu_ms_by_program": {"envoy": 0.2},
    }


def make_row(rate: float, cpu: float = 5.0, envoy: float = 0.0) -> dict[str, object]:
    one = {
        "requests_per_second": rate,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "cpu_ms_per_request": cpu,
        "cpu_ms_by_program": {"envoy": envoy},
    }
    return {"concurrency": dict.fromkeys(("1", "8", "32"), one), "cosine": 1.0}


def test_goals_compare_with_the_best_of_the_others_and_take_envoy_out() -> None:
    servers = {
        "fastapi_sentence_transformers_1_worker": make_row(50),
        "fastapi_sentence_transformers_2_workers": make_row(75),
        "triton_http": make_row(290, cpu=6.0),
        "triton_grpc": make_row(280, cpu=6.0),
        "pod_http": make_row(300, cpu=6.3, envoy=0.1),
        "pod_grpc": make_row(295, cpu=6.4, envoy=0.1),
    }
    assert goals(servers) == {
        "times_fastapi_sentence_transformers": 4.0,
        "best_other": "triton_http",
        "times_best_other": 1.034,
        "envoy_cpu_ms_http": 0.1,
        "cpu_times_triton_without_envoy_http": 1.033,
        "envoy_cpu_ms_grpc": 0.1,
        "cpu_times_triton_without_envoy_grpc": 1.05,
    }
    assert "| pod_http | 300, 1/2 |" in table(servers)
    assert goals({"pod_http": make_row(1), "pod_grpc": make_row(1)}) == {}


def test_a_translators_pod_is_compared_with_the_best_of_the_others_and_with_itself_otherwise() -> None:
    servers = {
        "fastapi_torch_1_worker": make_row(40),
        "fastapi_torch_2_workers": make_row(60),
        "fastapi_torch_batcher": make_row(150),
        "pod_http": make_row(300),
        "pod_grpc": make_row(240),
        "pod_batches_by_length_http": make_row(240),
        "pod_without_batching_grpc": make_row(100),
    }
    assert goals(servers) == {
        "best_other": "fastapi_torch_batcher",
        "times_best_other": 2.0,
        "best_pod_batches_by_length": "pod_batches_by_length_http",
        "times_best_pod_batches_by_length": 1.25,
        "best_pod_without_batching": "pod_without_batching_grpc",
        "times_best_pod_without_batching": 3.0,
    }


def test_answers_agree_as_vectors_or_as_texts() -> None:
    assert agreement_with(["가", "나"])(["가", "다"]) == {"equal": 0.5}
    vector = np.array([1.0, 0.0], dtype=np.float32)
    assert agreement_with([vector])([2 * vector]) == {"cosine": 1.0}


def test_texts_to_translate_have_one_to_six_sentences_and_were_not_learnt_from() -> None:
    texts = translator.make_texts()
    assert texts == translator.make_texts()
    assert len(set(texts)) == translator.COUNT
    counts = {text.count(".") for text in texts}
    assert counts == set(range(1, translator.MOST_SENTENCES + 1))
    learnt = {english for _, english in diary_data()["train.tsv"]}
    assert not learnt & {f"{one}." for text in texts for one in text.rstrip(".").split(". ")}


def make_weights(width: int = 4, inner: int = 6) -> dict[str, NDArray[np.float32]]:
    """Of a Transformer of one layer, by the names of its parameters; each number is another one."""
    attention = [
        f"{part}.{kind}" for part in ("query", "key", "value", "output") for kind in ("weight", "bias")
    ]
    norm = ("weight", "bias")
    shapes: dict[str, tuple[int, ...]] = {
        "source_embedding.weight": (7, width),
        "target_embedding.weight": (9, width),
    }
    for side, parts in (("encoder", ("attention",)), ("decoder", ("attention", "source_attention"))):
        for part in parts:
            shapes |= {f"{side}.0.{part}.{one}": (width,) * (1 + one.endswith("weight")) for one in attention}
        for one in ("attention_norm", "feed_forward_norm", *(["source_norm"] if side == "decoder" else [])):
            shapes |= {f"{side}.0.{one}.{kind}": (width,) for kind in norm}
        shapes |= {
            f"{side}.0.feed_forward.0.weight": (inner, width),
            f"{side}.0.feed_forward.0.bias": (inner,),
        }
        shapes |= {
            f"{side}.0.feed_forward.2.weight": (width, inner),
            f"{side}.0.feed_forward.2.bias": (width,),
        }
    choice = np.random.default_rng(1)
    return {name: choice.random(shape, dtype=np.float32) for name, shape in shapes.items()}


def test_the_opponents_weights_are_those_of_the_graphs_under_the_networks_names(tmp_path: Path) -> None:
    shape = {"hiddenDim": 4, "feedForwardDim": 6, "numLayers": 1, "numHeads": 2, "maxTokens": 8}
    parameters, weights = parse_parameters(shape, {}), make_weights()
    places = np.zeros((9, 4), dtype=np.float32)
    for name, build in (("encoder", build_encoder), ("decoder", build_decoder)):
        graph = build(weights, places, parameters)
        (tmp_path / f"{name}.onnx").write_bytes(graph.SerializeToString())
    found = translator.weights_of(tmp_path)
    assert set(found) == set(weights)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_vector_is_read_from_behind_the_json_whatever_its_bytes() -> None:
    head = json.dumps({"outputs": [{"name": "vector", "parameters": {"binary_data_size": 8}}]}).encode()
    vector = np.frombuffer(b"}}{{\xff\x00}}", dtype=np.float32)
    np.testing.assert_array_equal(triton_http_vector(head + vector.tobytes()), vector)


def test_the_worst_cosine_is_that_of_the_worst_text() -> None:
    found = np.array([[1.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    assert worst_cosine(found, np.array([[2.0, 0.0], [1.0, 0.0]], dtype=np.float32)) == pytest.approx(
        0.7071, abs=1e-4
    )


class StandIn:
    """Answers every request of every connection with one status, until they are closed."""

    def __init__(self, status: str) -> None:
        self._status = status
        self._done: list[asyncio.Future[None]] = []
        self.port = 0

    async def __aenter__(self) -> StandIn:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.wait_for(asyncio.gather(*self._done), 10)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.get_running_loop().create_future()
        self._done.append(done)
        head = f"HTTP/1.1 {self._status}\r\nInference-Header-Content-Length: 1\r\nContent-Length: 3\r\n\r\n"
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(head.encode() + b"abc")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        done.set_result(None)


async def test_the_loop_is_closed_and_counts_what_was_answered() -> None:
    async with StandIn("200 OK") as server:
        client = HttpClient(server.port)
        window = await run_window(client, [b"GET / HTTP/1.1\r\n\r\n"], 4, 0.05, 0.2, lambda: None)
    assert len(window.latencies) > 10
    assert window.failures == 0


async def test_an_answer_that_is_no_success_is_a_failure() -> None:
    async with StandIn("503 Service Unavailable") as server:
        client = HttpClient(server.port)
        send = await client.open()
        with pytest.raises(Failed, match="abc"):
            await send(b"GET / HTTP/1.1\r\n\r\n")
        await client.close()
