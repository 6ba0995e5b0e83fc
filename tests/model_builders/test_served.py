"""A built artifact in a real Triton, over HTTP and gRPC: the agent's part (name, batch size) is done by hand
here."""

import json
import shutil
import unicodedata
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from tests.model_builders.bare_triton import bare_triton
from tests.model_builders.made import COUNTS, DOCUMENT_EXAMPLE, WORDS, build_artifact, make_novels

pytestmark = pytest.mark.triton

WORDY = "document\ttext\n" + "".join(
    f"document {d}\t{' '.join(f'word{(d * k * k) % 97}' for k in range(1, 40))}\n" for d in range(30)
)


@dataclass(frozen=True)
class Server:
    http: str
    grpc: str
    artifacts: Mapping[str, Path]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("triton")
    artifacts = {}
    for name, corpus, parameters in (
        ("novels", make_novels(), DOCUMENT_EXAMPLE),
        ("wordy", WORDY, {"weighting": "TfIdf"}),
    ):
        (root / name).mkdir()
        artifacts[name] = build_artifact(root / name, corpus, parameters)
        model = root / "repository" / name
        shutil.copytree(artifacts[name] / "1", model / "1")
        config = (artifacts[name] / "configs/cpu-2.51.pbtxt").read_text(encoding="utf-8")
        (model / "config.pbtxt").write_text(f'name: "{name}"\n{config}', encoding="utf-8")
    with bare_triton(root / "repository") as triton:
        yield Server(triton.http, triton.grpc, artifacts)


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """Sends one request and returns every output that came back."""
    module = httpclient if request.param == "http" else grpcclient
    with module.InferenceServerClient(getattr(server, request.param)) as client:

        def send(model: str, outputs: Sequence[str] = (), **columns: Sequence[Any]) -> dict[str, Any]:
            inputs = []
            for name, values in columns.items():
                array: np.ndarray[Any, Any]
                if name == "top_k":
                    array, datatype = np.array(values, dtype=np.int32).reshape(-1, 1), "INT32"
                else:
                    encoded = [v if isinstance(v, bytes) else str(v).encode() for v in values]
                    array, datatype = np.array(encoded, dtype=np.object_).reshape(-1, 1), "BYTES"
                tensor = module.InferInput(name, list(array.shape), datatype)
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            wanted = [module.InferRequestedOutput(name) for name in outputs] or None
            answer = client.infer(model, inputs, outputs=wanted)
            response = answer.get_response()
            given = response["outputs"] if isinstance(response, dict) else response.outputs
            names = [o["name"] if isinstance(o, dict) else o.name for o in given]
            return {name: answer.as_numpy(name) for name in names}

        yield send


def strings(tensor: Any) -> list[str]:
    return [value.decode() for value in tensor.reshape(-1)]


def test_document_example_comes_out_exactly(ask: Any) -> None:
    document = ask("novels", text=["운수 좋은 날"])
    assert strings(document["interpreted_as"]) == ["document"]
    assert document["document_vector"].tolist() == [[2, 1, 1]]
    assert document["word_vector"].tolist() == [[0, 0, 0, 0]]
    word = ask("novels", text=["막걸리"])
    assert strings(word["interpreted_as"]) == ["word"]
    assert word["word_vector"].tolist() == [[0, 1, 0, 0]]
    assert strings(word["nearest_words"]) == ["선술집", "기차"]
    assert ask("novels", text=["기차"])["word_vector"].tolist() == [[0, 2, 10, 7]]


def test_similarity_of_two_words_is_taken_in_word_space(ask: Any) -> None:
    answer = ask("novels", text=["막걸리", "막걸리"], text_pair=["선술집", "기차"])
    assert answer["similarity"][0, 0] == 1.0
    assert answer["similarity"][1, 0] == pytest.approx(2 / np.sqrt(153), abs=1e-6)


def test_novels_that_share_words_are_near(ask: Any) -> None:
    answer = ask("novels", text=["사랑 손님과 어머니", "운수 좋은 날"], text_pair=["삼포 가는 길"] * 2)
    assert answer["similarity"][0, 0] == 1.0 > answer["similarity"][1, 0]
    near = ask("novels", text=["사랑 손님과 어머니"], top_k=[2])
    assert strings(near["nearest_documents"]) == ["삼포 가는 길", "운수 좋은 날"]


def test_text_is_folded_in_as_a_document_would_be(ask: Any) -> None:
    answer = ask("novels", text=["선술집 앞 기차 그리고 기차"], top_k=[1])
    assert strings(answer["interpreted_as"]) == ["text"]
    assert answer["document_vector"].tolist() == [[2, 0, 1]]
    assert strings(answer["nearest_documents"]) == ["운수 좋은 날"]
    assert answer["nearest_words"].shape == (1, 0)


def test_korean_typed_in_nfd_is_the_same_word(ask: Any) -> None:
    answer = ask("novels", text=[unicodedata.normalize("NFD", "막걸리")])
    assert answer["word_vector"].tolist() == [[0, 1, 0, 0]]


def test_similarity_is_absent_without_a_pair_and_outputs_can_be_chosen(ask: Any) -> None:
    assert set(ask("novels", text=["기차"])) == {
        "interpreted_as",
        "word_vector",
        "document_vector",
        "nearest_words",
        "nearest_words_similarity",
        "nearest_documents",
        "nearest_documents_similarity",
    }
    assert set(ask("novels", ["nearest_words", "word_vector"], text=["기차"])) == {
        "nearest_words",
        "word_vector",
    }


def test_batch_row_equals_single_row(ask: Any) -> None:
    texts = ["word1", "document 3", "word5 word7 word7 unknown", "", "word16", "document 29"]
    batch = ask("wordy", text=texts, top_k=[3, 5, 2, 4, 1, 7])
    for row, (text, top_k) in enumerate(zip(texts, [3, 5, 2, 4, 1, 7], strict=True)):
        single = ask("wordy", text=[text], top_k=[top_k])
        for name, tensor in single.items():
            width = tensor.shape[1]
            if tensor.dtype == np.object_:
                assert strings(batch[name][row, :width]) == strings(tensor)
                assert not any(strings(batch[name][row, width:]))
            else:
                np.testing.assert_allclose(batch[name][row, :width], tensor[0], rtol=1e-5, atol=1e-5)
                assert not batch[name][row, width:].any() or name.endswith("_vector")


@pytest.mark.parametrize("model", ["novels", "wordy"])
def test_recorded_examples_come_back(ask: Any, server: Server, model: str) -> None:
    examples = json.loads((server.artifacts[model] / "examples.json").read_text(encoding="utf-8"))["examples"]
    assert len(examples) == 6
    for example in examples:
        answer = ask(model, **{tensor["name"]: tensor["data"] for tensor in example["inputs"]})
        for expected in example["outputs"]:
            found = answer[expected["name"]]
            assert list(found.shape) == expected["shape"]
            if expected["datatype"] == "BYTES":
                assert strings(found) == expected["data"]
            else:
                np.testing.assert_allclose(
                    found.reshape(-1),
                    expected["data"],
                    expected["relativeTolerance"],
                    expected["absoluteTolerance"],
                )


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        pytest.param(
            {"text": ["포도"], "role": ["word"]}, "'포도' is not one of the 3 words", id="no such word"
        ),
        pytest.param(
            {"text": ["포도"], "role": ["document"]},
            "not the name of one of the 4 documents",
            id="no such document",
        ),
        pytest.param(
            {"text": ["포도"], "role": ["novel"]}, "must be one of word, document, text", id="no such role"
        ),
        pytest.param(
            {"text": ["기차"], "top_k": [0]},
            "top_k is 0; it must be between 1 and 1000",
            id="top_k too small",
        ),
        pytest.param({"text": [b"\xff\xfe"]}, "text is not UTF-8: byte 0 is 0xff", id="not UTF-8"),
    ],
)
def test_bad_request_gets_a_sentence(ask: Any, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        ask("novels", **columns)
    assert ask("novels", text=["막걸리"])["word_vector"].tolist() == [[0, 1, 0, 0]]


def test_one_bad_request_does_not_fail_its_batch(server: Server) -> None:
    """Many requests at once, so that Triton batches good and bad ones, with and without optional inputs."""

    def one(index: int) -> str:
        bad, paired = index % 3 == 0, index % 2 == 0
        with grpcclient.InferenceServerClient(server.grpc) as client:
            columns = {"text": WORDS[index % 3]} | ({"text_pair": "기차"} if paired else {})
            columns |= {"role": "novel"} if bad else {}
            inputs = []
            for name, value in columns.items():
                tensor = grpcclient.InferInput(name, [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[value.encode()]], dtype=np.object_))
                inputs.append(tensor)
            try:
                answer = client.infer("novels", inputs)
            except InferenceServerException as error:
                return "refused" if "role is 'novel'" in str(error) else str(error)
            expected = [float(count) for count in COUNTS[WORDS[index % 3]]]
            assert answer.as_numpy("word_vector").tolist() == [expected]
            assert (answer.as_numpy("similarity") is not None) == paired
            return "answered"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(120)))
    assert answers == ["refused" if index % 3 == 0 else "answered" for index in range(120)]


def test_generate_answers_a_plain_json_object(server: Server) -> None:
    """Triton's shorthand for one row: no tensors to spell out, which is what one wants at a terminal."""
    request = urllib.request.Request(
        f"http://{server.http}/v2/models/novels/generate", json.dumps({"text": "막걸리", "top_k": 1}).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert (answer["interpreted_as"], answer["word_vector"], answer["nearest_words"]) == (
        "word",
        [0.0, 1.0, 0.0, 0.0],
        "선술집",
    )
