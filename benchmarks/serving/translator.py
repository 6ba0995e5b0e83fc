"""A Transformer, text to translation: our pod beside the same network in plain PyTorch behind FastAPI.

The model is built by the real Job from texts of one to six sentences of the diary of the samples
(tools/translation_samples.py), so that lengths differ as they do in life. The opponents get its weights out
of the artifact's graphs, and its subwords: only the serving differs.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tritonclient.grpc import service_pb2

from benchmarks.serving.load import GrpcClient, HttpClient
from benchmarks.serving.servers import (
    CORES,
    HERE,
    Asking,
    Given,
    Running,
    Start,
    grpc_request,
    post,
    quiet,
    uvicorn,
)
from localcluster.progress import Progress
from localcluster.serving_env import serving_environment
from tests.model_builders.made import Jobs, Ran, request_of_build
from tests.model_builders.torch_jobs import Built, fetch, kept, run_build, with_torch
from tests.nlp_agent.artifacts import write_artifact
from tests.nlp_agent.running import make_wanted, running_agent
from tools.translation_samples import diary_data, table

NAME = "translator"
COUNT = 512
LEARNT = 1500
MOST_SENTENCES = 6
BATCH = 32
PARAMETERS = {
    "hiddenDim": 128,
    "feedForwardDim": 512,
    "numLayers": 2,
    "numHeads": 4,
    "maxTokens": 64,
    "epochs": 8,
    "batchSize": 32,
    "learningRate": "0.002",
}
Weights = Mapping[str, NDArray[Any]]


def joined(pairs: Sequence[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
    """So many different texts of one to six of the sentences, and their translations."""
    choice = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        chosen = [choice.choice(pairs) for _ in range(choice.randint(1, MOST_SENTENCES))]
        found[" ".join(text for _, text in chosen)] = " ".join(text for text, _ in chosen)
    return list(found.items())


def make_texts() -> list[str]:
    """512 distinct texts of 4 to 55 tokens, of sentences that were not learnt from."""
    return [text for text, _ in joined(diary_data()["test.tsv"], COUNT, 20261130)]


@cache
def built() -> Built:
    def make(jobs: Jobs) -> Ran:
        sentences = diary_data()
        train = joined(sentences["train.tsv"], LEARNT, 1)
        test = joined(sentences["test.tsv"], 100, 2)
        files = {"train": "\n".join(table(train)) + "\n", "test": "\n".join(table(test)) + "\n"}
        request = request_of_build(fetch(jobs, **files), "Transformer", PARAMETERS)
        return run_build(with_torch(jobs), request)

    return kept("benchmark-translator", make)


# --- the weights, for who has torch ---


def weights_of(version: Path) -> Weights:
    """By the names of the network's parameters, from the graphs, which have them by the same names."""
    graphs = {
        name: {
            one.name: numpy_helper.to_array(one)
            for one in onnx.load(str(version / f"{name}.onnx")).graph.initializer
        }
        for name in ("encoder", "decoder")
    }
    found: dict[str, NDArray[Any]] = {
        "source_embedding.weight": graphs["encoder"]["vectors"],
        "target_embedding.weight": graphs["decoder"]["vectors"],
    }
    for name, tensor in {**graphs["encoder"], **graphs["decoder"]}.items():
        if name.endswith((".weight", ".bias")):
            # A linear layer's matrix stands in a graph as it is multiplied with, in torch turned round.
            found[name] = np.ascontiguousarray(tensor.T)
    return found


def write_weights(version: Path, folder: Path) -> None:
    """What opponents/fastapi_transformer.py loads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Any] = dict(weights_of(version))
    np.savez(folder / "weights.npz", **weights)
    sizes = [len(weights[f"{side}_embedding.weight"]) for side in ("source", "target")]
    settings = {"parameters": PARAMETERS, "vocabularies": sizes}
    (folder / "network.json").write_text(json.dumps(settings), encoding="utf-8")
    for side in ("source.json", "target.json"):
        shutil.copyfile(version / side, folder / side)


def right_answers(version: Path, texts: Sequence[str], scratch: Path) -> list[str]:
    (scratch / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    serving = serving_environment(Progress())
    command = [str(serving.python), "-m", "benchmarks.builders.ask_translator", str(version)]
    done = subprocess.run(
        [*command, str(scratch / "texts.txt")],
        cwd=HERE.parents[1],
        env=dict(serving.variables),
        capture_output=True,
        check=True,
    )
    return [str(one["translation"]) for one in json.loads(done.stdout)["answers"]]


# --- servers ---


def start_fastapi(workers: int, threads: int, batch: int) -> Start:
    def start(given: Given) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
        variables = {
            "MODEL": str(given.weights),
            "THREADS": str(threads),
            "BATCH": str(batch),
            "PYTHONPATH": str(HERE.parents[1]),
        }
        return uvicorn("fastapi_transformer", workers, variables, given, Asking("/translate", json.loads))

    return start


def http_request(port: int, text: str) -> bytes:
    body = {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}],
        "outputs": [{"name": "translation"}],
    }
    return post(port, f"/v2/models/{NAME}/infer", body)


def http_answer(answer: bytes) -> str:
    return str(json.loads(answer)["outputs"][0]["data"][0])


def grpc_answer(answer: bytes) -> str:
    """Behind the four bytes of its length."""
    return str(service_pb2.ModelInferResponse.FromString(answer).raw_output_contents[0][4:], "utf-8")


BY_LENGTH = (
    "share = max(1, min(MAX_TOKENS_A_PASS // longest, MAX_PAIRS_A_PASS // longest**2) // size)",
    "share = sum(len(sources[row]) >= 0.75 * longest for row in order)",
)
"""A pass has texts of about the same length, in place of as many as memory holds."""


def start_pod(batch: int = BATCH, edit: tuple[str, str] | None = None) -> Start:
    """What a server pod runs; `edit`: a line of translating.py and what stands there instead, to try out."""

    @contextlib.contextmanager
    def start(given: Given) -> Iterator[Mapping[str, Running]]:
        with running_agent(NLP_CANARY_SECONDS="2") as agent:
            agent.want(make_wanted(NAME, _stored(given, agent.store, edit), batch=batch, instances=CORES))
            agent.start()
            agent.wait_ready()
            request = partial(http_request, agent.http)
            yield {
                "http": Running(agent.pid, lambda: HttpClient(agent.http), request, http_answer),
                "grpc": Running(
                    agent.pid,
                    lambda: GrpcClient(agent.grpc, NAME),
                    lambda text: grpc_request(text, NAME, "translation"),
                    grpc_answer,
                ),
            }
            quiet(agent)

    return start


def _stored(given: Given, store: Path, edit: tuple[str, str] | None) -> str:
    files = {
        path.relative_to(given.artifact).as_posix(): path.read_bytes()
        for path in given.artifact.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    if edit is not None:
        code = files["1/translating.py"].decode("utf-8")
        assert code.count(edit[0]) == 1, edit
        files["1/translating.py"] = code.replace(*edit).encode()
    return write_artifact(store, files)


SERVERS: Mapping[str, Start] = {
    "fastapi_torch_1_worker": start_fastapi(1, 0, 1),
    "fastapi_torch_2_workers": start_fastapi(CORES, 1, 1),
    "fastapi_torch_batcher": start_fastapi(1, 0, BATCH),
    "pod": start_pod(),
    "pod_batches_by_length": start_pod(edit=BY_LENGTH),
    "pod_without_batching": start_pod(batch=1),
}
