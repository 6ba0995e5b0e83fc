"""The native flavour of real artifacts: its files against its configuration, its answers against those of
Python's flavour, and its ensemble in the real Triton, with a stand-in for the backend that is not in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpcclient
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from model_builders.native import lay_out, main
from model_builders.triton import FULL_TARGETS
from tests.model_builders.bare_triton import BareTriton, bare_triton
from tests.model_builders.seq2seq_attention.test_seq2seq_job import without_attention
from tests.model_builders.torch_jobs import Built, run_in_torch
from tests.model_builders.translation.samples import sample

pytestmark = pytest.mark.timeout(900)  # the first time, torch is downloaded

ARTIFACTS: dict[str, Callable[[], Built]] = {
    "english-korean": lambda: sample("english-korean"),
    "korean-english": lambda: sample("korean-english"),
    "no-attention": without_attention,
}
TARGET = "cpu-2.70"

NUMPY = {
    "tensor(int64)": pb.TYPE_INT64,
    "tensor(int32)": pb.TYPE_INT32,
    "tensor(float)": pb.TYPE_FP32,
    "tensor(bool)": pb.TYPE_BOOL,
}

STAND_IN = Path(__file__).parent / "onnxruntime_stand_in.py"
"""Runs a graph with ONNX Runtime in Triton's Python backend."""


@pytest.fixture(params=ARTIFACTS)
def built(request: pytest.FixtureRequest) -> Built:
    return ARTIFACTS[request.param]()


def config_of(built: Built, target: str, part: str) -> Any:
    text = (built.artifact / f"configs/native/{target}/{part}.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.jobs
@pytest.mark.parametrize("target", FULL_TARGETS, ids=lambda target: target.name)
def test_what_is_declared_of_the_search_is_what_onnxruntime_reads_of_it(built: Built, target: Any) -> None:
    """As Triton's backend compares both: names, types, and shapes with the batch before them."""
    config = config_of(built, target.name, "search")
    file = built.artifact / "1" / config.default_model_filename
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for declared, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert {one.name for one in declared} == {one.name for one in found}
        read = {one.name: one for one in found}
        for one in declared:
            assert NUMPY[read[one.name].type] == one.data_type
            shape = [size if isinstance(size, int) else -1 for size in read[one.name].shape]
            assert shape == [-1, *one.dims]


@pytest.mark.jobs
def test_weights_are_in_the_artifact_once(built: Built) -> None:
    sizes = {path.name: path.stat().st_size for path in (built.artifact / "1").iterdir()}
    graphs = sum(size for name, size in sizes.items() if name.endswith(".onnx"))
    assert graphs < 200_000
    learnt = float(built.result["metrics"].get("parameters", 0))
    all_metrics = json.loads((built.artifact / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    learnt = learnt or float(all_metrics["parameters"])
    assert sizes["weights.bin"] < 1.2 * 4 * learnt + 100_000


@pytest.mark.jobs
def test_an_artifact_without_a_native_flavour_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = without_attention()
    assert main([str(built.artifact), "plain", str(tmp_path), "--target", "cpu-2.51"]) == 1
    assert "no native flavour for 'cpu-2.51'; it has cpu-2.70, gpu-2.70." in capsys.readouterr().err
    assert main([str(built.artifact), "plain", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [
        "plain",
        "plain_detokenizer",
        "plain_search",
        "plain_tokenizer",
    ]
    assert main([str(built.artifact), "plain", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareTriton]:
    """All of them, as they are laid down for Triton 2.70: of the search alone the backend is another."""
    repository = tmp_path_factory.mktemp("native") / "repository"
    for name, make in ARTIFACTS.items():
        lay_out(make().artifact, name, TARGET, repository)
        folder = repository / f"{name}_search"
        config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), pb.ModelConfig())
        config.backend, config.default_model_filename = "python", STAND_IN.name
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
        shutil.copy(STAND_IN, folder / "1")
    with bare_triton(repository) as running:
        yield running


@pytest.fixture
def client(triton: BareTriton) -> Iterator[grpcclient.InferenceServerClient]:
    with grpcclient.InferenceServerClient(triton.grpc) as one:
        yield one


def examples_of(name: str) -> list[dict[str, Any]]:
    content = (ARTIFACTS[name]().artifact / "examples.json").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(content)["examples"]
    return found


def ask(client: Any, model: str, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    inputs = []
    for one in tensors:
        data = [text.encode() if isinstance(text, str) else text for text in one["data"]]
        array = np.array(data, dtype=triton_to_np_dtype(one["datatype"])).reshape(one["shape"])
        inputs.append(grpcclient.InferInput(one["name"], one["shape"], one["datatype"]))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(model, inputs)
    return {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}


def hold(wanted: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> None:
    for one in wanted:
        found = given[one["name"]]
        assert list(found.shape) == one["shape"]
        flat = found.reshape(-1).tolist()
        if one["datatype"] == "FP32":
            assert flat == pytest.approx(one["data"], abs=1e-5, rel=1e-5)
        else:
            assert [v.decode() if isinstance(v, bytes) else v for v in flat] == one["data"]


@pytest.mark.triton
@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_ensemble_answers_the_recorded_requests_as_recorded(
    client: grpcclient.InferenceServerClient, name: str
) -> None:
    """A sentence, a beam, a batch of two; each alone, then all at a time, which Triton may put together."""
    examples = examples_of(name)
    for example in examples:
        hold(example["outputs"], ask(client, name, example["inputs"]))
    many = examples * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda example: ask(client, name, example["inputs"]), many))
    for example, given in zip(many, answers, strict=True):
        hold(example["outputs"], given)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("text", "beam", "words"),
    [
        pytest.param("", None, "text is empty; there is nothing to translate.", id="no text"),
        pytest.param("I read.", 1000, "beam_size is 1000; it must be between 1", id="a beam of a thousand"),
        pytest.param("word " * 500, None, "tokens; this model reads at most", id="too long"),
        pytest.param(b"\xff\xfe", None, "text is not UTF-8", id="no UTF-8"),
    ],
)
def test_bad_requests_are_refused_in_the_same_words(
    client: grpcclient.InferenceServerClient, text: str | bytes, beam: int | None, words: str
) -> None:
    tensors: list[dict[str, Any]] = [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}]
    if beam is not None:
        tensors.append({"name": "beam_size", "datatype": "INT32", "shape": [1, 1], "data": [beam]})
    with pytest.raises(InferenceServerException) as error:
        ask(client, "english-korean", tensors)
    assert words in str(error.value)
    assert "INVALID_ARGUMENT" in str(error.value)


@pytest.mark.jobs
def test_a_build_ends_only_when_both_flavours_answer_as_the_model_did() -> None:
    """Each in a fresh process: words, scores and attention. A flavour with a defect is refused."""
    found = run_in_torch(
        "tests.model_builders.translation.checking", str(sample("english-korean").artifact / "1")
    )
    assert found.pop("as it was built") == "holds"
    assert list(found) == ["native: token_ids", "native: score", "native: attention", "answering: token_ids"]
    for what, said in found.items():
        name = what.partition(": ")[2]
        assert said.startswith(f"ExportDiffers: The exported model's {name} differs from the built one's"), (
            what
        )
