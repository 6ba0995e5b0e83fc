"""Each server that is measured: how it is started, asked, and read.

All of them run the same weights, on loopback, in environments of their own with pinned packages.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.serving.load import Client, Failed, GrpcClient, HttpClient
from localcluster.environments import Recipe, environment, stub_cuda
from localcluster.ports import Ports
from localcluster.progress import Progress
from localcluster.serving_env import serving_environment
from nlp_agent.model_config import write_model_config
from nlp_agent.server_config import Spec
from nlpctl.local.processes import end_session
from tests.nlp_agent.running import (
    RunningAgent,
    make_wanted,
    running_agent,
)

HERE = Path(__file__).resolve().parent
MODEL = "sentences"
CORES = os.cpu_count() or 1
START_SECONDS = 300.0
"""torch takes half a minute to load on a machine that is busy."""

FASTAPI = Recipe(
    "benchmark-fastapi",
    "FastAPI, sentence-transformers and torch",
    ("benchmarks/serving/fastapi.txt",),
    650,
    2000,
    stub_cuda,
)
INFINITY = Recipe(
    "benchmark-infinity", "infinity-emb and torch", ("benchmarks/serving/infinity.txt",), 650, 2000, stub_cuda
)

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    leader: int
    """Its session holds all its processes."""
    client: Callable[[], Client]
    request: Callable[[str], bytes]
    answer: Callable[[bytes], Any]
    """What it says, read from the bytes that came: a vector, or a translation."""


@dataclass(frozen=True)
class Given:
    """What every server is made from."""

    weights: Path
    """The model as the opponents load it."""
    artifact: Path
    """The artifact's folder, in 32 bits."""
    scratch: Path


Start = Callable[[Given], contextlib.AbstractContextManager[Mapping[str, Running]]]
"""Starts one server; gives a row for each protocol it is asked over."""


# --- requests and answers ---


def post(port: int, path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def embed_vector(answer: bytes) -> Vector:
    return np.array(json.loads(answer), dtype=np.float32)


def infinity_request(port: int) -> Callable[[str], bytes]:
    return lambda text: post(port, "/embeddings", {"model": MODEL, "input": [text]})


def infinity_vector(answer: bytes) -> Vector:
    return np.array(json.loads(answer)["data"][0]["embedding"], dtype=np.float32)


def triton_http_request(port: int) -> Callable[[str], bytes]:
    """JSON in, the vector as bytes behind the JSON out: what Triton's own clients send."""

    def make(text: str) -> bytes:
        body = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}],
            "outputs": [{"name": "vector", "parameters": {"binary_data": True}}],
        }
        return post(port, f"/v2/models/{MODEL}/infer", body)

    return make


def triton_http_vector(answer: bytes) -> Vector:
    # The JSON comes first, its end says where the bytes begin; Latin-1 makes a character of every byte.
    _, end = json.JSONDecoder().raw_decode(answer.decode("latin-1"))
    return np.frombuffer(answer[end:], dtype=np.float32)


def triton_grpc_request(text: str) -> bytes:
    return grpc_request(text, MODEL, "vector")


def grpc_request(text: str, model: str, output: str) -> bytes:
    tensor = triton_grpc.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
    request = service_pb2.ModelInferRequest(
        model_name=model,
        inputs=[tensor._get_tensor()],
        outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=output)],
        raw_input_contents=[tensor._get_content()],
    )
    made: bytes = request.SerializeToString()
    return made


def triton_grpc_vector(answer: bytes) -> Vector:
    content = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents[0]
    return np.frombuffer(content, dtype=np.float32)


# --- servers ---


@contextlib.contextmanager
def process(
    command: Sequence[str], environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, all of which ends with the block."""
    with log.open("wb") as stream:
        started = subprocess.Popen(
            list(command),
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        end_session(started)


def answers(port: int, path: str, body: object) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_for_answer(port: int, path: str, body: object, started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(port, path, body):
        if started.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"The server did not come up:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


@dataclass(frozen=True)
class Asking:
    """How a FastAPI app is asked."""

    path: str
    answer: Callable[[bytes], Any]

    def request(self, port: int) -> Callable[[str], bytes]:
        return lambda text: post(port, self.path, {"text": text})


EMBEDDING = Asking("/embed", embed_vector)


def uvicorn(
    app: str, workers: int, variables: Mapping[str, str], given: Given, asking: Asking = EMBEDDING
) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
    @contextlib.contextmanager
    def start() -> Iterator[Mapping[str, Running]]:
        port = Ports().take()
        log = given.scratch / f"{app}-{workers}.log"
        python = environment(FASTAPI, Progress()) / "bin/python3"
        command = [str(python), "-m", "uvicorn", f"{app}:app", "--app-dir", str(HERE / "opponents")]
        command += [
            "--port",
            str(port),
            "--workers",
            str(workers),
            "--log-level",
            "warning",
            "--no-access-log",
        ]
        with process(command, variables, log) as started:
            wait_for_answer(port, asking.path, {"text": "ready?"}, started, log)
            running = Running(started.pid, lambda: HttpClient(port), asking.request(port), asking.answer)
            yield {"": running}

    return start()


def start_fastapi_1(given: Given) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
    variables = {"WEIGHTS": str(given.weights), "THREADS": "0"}
    return uvicorn("fastapi_sentence_transformers", 1, variables, given)


def start_fastapi_2(given: Given) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
    variables = {"WEIGHTS": str(given.weights), "THREADS": "1"}
    return uvicorn("fastapi_sentence_transformers", 2, variables, given)


def start_batcher(given: Given) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
    variables = {"MODEL": str(given.artifact / "1"), "THREADS": str(CORES)}
    return uvicorn("fastapi_batcher", 1, variables, given)


@contextlib.contextmanager
def start_infinity(given: Given) -> Iterator[Mapping[str, Running]]:
    port = Ports().take()
    log = given.scratch / "infinity.log"
    root = environment(INFINITY, Progress())
    command = [str(root / "bin/infinity_emb"), "v2", "--model-id", str(given.weights), "--port", str(port)]
    command += [
        "--served-model-name",
        MODEL,
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--no-bettertransformer",
    ]
    command += ["--host", "127.0.0.1", "--batch-size", "32", "--no-model-warmup", "--dtype", "float32"]
    variables = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with process(command, variables, log) as started:
        wait_for_answer(port, "/embeddings", {"model": MODEL, "input": ["ready?"]}, started, log)
        running = Running(started.pid, lambda: HttpClient(port), infinity_request(port), infinity_vector)
        yield {"": running}


@dataclass(frozen=True)
class Layout:
    """How Triton runs the model: our default is an instance a core, each with one thread."""

    instances: int = CORES
    threads: int = 1
    edit: tuple[str, str] | None = None
    """A line of answering.py and what stands there instead, to try out."""


def start_triton(
    given: Given, layout: Layout | None = None
) -> contextlib.AbstractContextManager[Mapping[str, Running]]:
    """Triton alone, with the artifact's own version folder and configuration."""
    return _triton(given, layout or Layout())


@contextlib.contextmanager
def _triton(given: Given, layout: Layout) -> Iterator[Mapping[str, Running]]:
    root = given.scratch / f"repository-{time.monotonic_ns()}"
    folder = root / MODEL
    shutil.copytree(given.artifact / "1", folder / "1")
    if layout.edit is not None:
        code = (folder / "1/answering.py").read_text(encoding="utf-8")
        assert code.count(layout.edit[0]) == 1, layout.edit
        (folder / "1/answering.py").write_text(code.replace(*layout.edit), encoding="utf-8")
    built = (given.artifact / "configs/cpu-2.51.pbtxt").read_text(encoding="utf-8")
    spec = Spec(MODEL, given.artifact.name, 32, layout.instances)
    config = write_model_config(built, spec, MODEL, "cpu", 1)
    threads = f'string_value: "{layout.threads}"'
    (folder / "config.pbtxt").write_text(config.replace('string_value: "1"', threads), encoding="utf-8")
    ports = Ports()
    http_port, grpc_port, metrics_port = (ports.take() for _ in range(3))
    log = root / "triton.log"
    variables = serving_environment(Progress()).variables
    command = [variables["NLP_TRITON_BINARY"], f"--model-repository={root}"]
    command += [f"--backend-directory={variables['NLP_TRITON_BACKENDS']}", "--disable-auto-complete-config"]
    for name, port in (("http", http_port), ("grpc", grpc_port), ("metrics", metrics_port)):
        command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    command += [f"--backend-config=python,shm-region-prefix-name=benchmark_{os.getpid()}_{http_port}"]
    with process(command, variables, log) as started:
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["ready?"]}]}
        wait_for_answer(http_port, f"/v2/models/{MODEL}/infer", body, started, log)
        yield {
            "http": Running(
                started.pid, lambda: HttpClient(http_port), triton_http_request(http_port), triton_http_vector
            ),
            "grpc": Running(
                started.pid, lambda: GrpcClient(grpc_port, MODEL), triton_grpc_request, triton_grpc_vector
            ),
        }
    for left in Path("/dev/shm").glob(f"benchmark_{os.getpid()}_{http_port}*"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def start_pod(given: Given) -> Iterator[Mapping[str, Running]]:
    """What a server pod runs: the agent, Envoy and Triton, with the agent's own settings."""
    with running_agent(NLP_CANARY_SECONDS="2") as agent:
        shutil.copytree(given.artifact, agent.store / "artifacts" / given.artifact.name)
        agent.want(make_wanted(MODEL, given.artifact.name, batch=32, instances=CORES))
        agent.start()
        agent.wait_ready()
        yield {
            "http": Running(
                agent.pid, lambda: HttpClient(agent.http), triton_http_request(agent.http), triton_http_vector
            ),
            "grpc": Running(
                agent.pid, lambda: GrpcClient(agent.grpc, MODEL), triton_grpc_request, triton_grpc_vector
            ),
        }
        quiet(agent)


def quiet(agent: RunningAgent) -> None:
    """Its log is for failures; a benchmark's output is its table."""
    agent.log.unlink(missing_ok=True)


SERVERS: Mapping[str, Start] = {
    "fastapi_sentence_transformers_1_worker": start_fastapi_1,
    "fastapi_sentence_transformers_2_workers": start_fastapi_2,
    "fastapi_batcher_onnxruntime": start_batcher,
    "infinity": start_infinity,
    "triton": start_triton,
    "pod": start_pod,
}


def layouts() -> Mapping[str, Start]:
    """Ways to run the same model in Triton, to be compared with our default."""

    def with_layout(layout: Layout) -> Start:
        return lambda given: start_triton(given, layout)

    one_pass = ("PADDING_SHARE = 0.15", "PADDING_SHARE = 1.0")
    return {
        "default": with_layout(Layout()),
        "all_lengths_in_one_pass": with_layout(Layout(edit=one_pass)),
        "passes_of_at_most_512_tokens": with_layout(
            Layout(edit=("MAX_TOKENS_A_PASS = 4096", "MAX_TOKENS_A_PASS = 512"))
        ),
        f"1_instance_{CORES}_threads": with_layout(Layout(1, CORES)),
        f"{CORES}_instances_{CORES}_threads": with_layout(Layout(CORES, CORES)),
        f"{CORES + 1}_instances": with_layout(Layout(CORES + 1, 1)),
    }


def worst_cosine(found: Vector, expected: Vector) -> float:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(np.min(np.sum(found * expected, axis=1) / norms))


def eager_vectors(given: Given, texts: Sequence[str]) -> Any:
    """As sentence-transformers itself gives them, each text alone."""
    out = given.scratch / "eager.npy"
    python = environment(FASTAPI, Progress()) / "bin/python3"
    command = [str(python), str(HERE / "opponents/eager.py"), str(given.weights), str(out)]
    subprocess.run(command, input=json.dumps(list(texts)).encode(), check=True, capture_output=True)
    return np.load(out, allow_pickle=False)
