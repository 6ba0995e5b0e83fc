"""What a sentence encoder is refused for once its files are read: in this process, or in one with torch."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_builders.errors import Refused
from model_builders.sentence_encoder.builder import SentenceEncoderRecipe
from model_builders.sentence_encoder.export import compare_lossy
from model_builders.sentence_encoder.parameters import Parameters
from model_builders.sentence_encoder.weights import read_weights
from model_builders.source import Source
from tests.model_builders.sentence_encoder.test_weights import BERT, make_source
from tests.model_builders.torch_jobs import ROOT, python_with_torch


@pytest.mark.parametrize(
    "names", [("corpus",), ("candidates",), ("weights", "corpus")], ids=["one", "no weights", "one too many"]
)
def test_inputs_of_other_names_are_refused_with_those_that_are_taken(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    sources = tuple(Source(name, "Folder", tmp_path, ()) for name in names)
    with pytest.raises(Refused) as refused:
        SentenceEncoderRecipe(Parameters()).train(sources)
    assert refused.value.reason == "ParameterInvalid"
    assert refused.value.message == (
        f"spec.build.inputs names {', '.join(names)}; a SentenceEncoder takes weights (a folder of Hugging "
        "Face) and, if wanted, candidates (texts, one a line)."
    )


TRANSFORMER = "sentence_transformers.models.Transformer"


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        pytest.param({}, "modules.json is not a list.", id="an object"),
        pytest.param([TRANSFORMER], "modules.json is not a list of modules.", id="names alone"),
        pytest.param(
            [{"type": TRANSFORMER, "path": "0_Transformer"}],
            "modules.json: the Transformer lies in '0_Transformer'; it must lie beside modules.json",
            id="a Transformer in a folder of its own",
        ),
    ],
)
def test_modules_that_cannot_be_read_are_refused(tmp_path: Path, modules: Any, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        read_weights(make_source(tmp_path, {"modules.json": modules}), Parameters())
    assert refused.value.reason == "InputInvalid"
    assert refused.value.message.startswith(f"Input 'weights': {sentence}")


EAGER = np.array([[1.0, 0.0], [0.0, 2.0]])


@pytest.mark.parametrize(
    ("found", "cosine"),
    [
        pytest.param(np.array([[1.0, 0.0], [2.0, 2.0]]), "0.707107", id="too far"),
        pytest.param(np.array([[1.0, 0.0], [math.nan, 2.0]]), "nan", id="no number"),
    ],
)
def test_eight_bits_that_differ_in_a_fresh_process_are_refused(found: np.ndarray, cosine: str) -> None:
    assert compare_lossy(EAGER, EAGER + 0.01, 0.98) == pytest.approx(0.01)
    with pytest.raises(Refused) as refused:
        compare_lossy(EAGER, found, 0.98)
    assert refused.value.reason == "ExportDiffers"
    assert refused.value.message == (
        f"In a fresh process the 8-bit model keeps a cosine of {cosine} only; at least 0.98 was asked for. "
        "Lower spec.build.export.fidelity.atLeast, or set spec.build.export.precision to Float32."
    )


SCRIPT = """
import json, pathlib, sys
from model_builders.errors import Refused
from model_builders.sentence_encoder.parameters import Parameters
from model_builders.sentence_encoder.weights import read_weights
from model_builders.source import Source

folder = pathlib.Path(sys.argv[1])
files = tuple(sorted(path.name for path in folder.iterdir()))
try:
    weights = read_weights(Source("weights", "Folder", folder, files), Parameters())
    exec(sys.argv[2])
except Refused as refused:
    print(json.dumps([refused.reason, refused.message]))
"""


def refusal(folder: Path, step: str) -> tuple[str, str]:
    """Reason and message of one step of the build, in a process of the environment with torch."""
    done = subprocess.run(
        [str(python_with_torch()), "-W", "ignore", "-c", SCRIPT, str(folder), step],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, "it was not refused"
    reason, message = json.loads(done.stdout)
    return reason, message


def tokenizer(words: Mapping[str, int], unknown: str = "<unk>") -> dict[str, Any]:
    """The JSON of one without a post-processor."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": unknown},
    }


@pytest.mark.parametrize(
    ("content", "start", "end"),
    [
        pytest.param(
            {"version": "1.0"},
            "tokenizer.json cannot be read by tokenizers 0.",
            " tokenizer.json is written by AutoTokenizer.from_pretrained(...).save_pretrained(folder) of "
            "transformers.",
            id="no tokenizer",
        ),
        pytest.param(
            tokenizer({"<unk>": 0, "기차": 100}),
            "tokenizer.json has a token with the id 100, and config.json a vocab_size of 100;",
            " the files are of two models.",
            id="of another model",
        ),
        pytest.param(
            tokenizer({"<unk>": 0, "기차": 99}),
            "tokenizer.json adds no special tokens, so an empty text would have none at all.",
            " Take an encoder whose tokenizer adds them, as those of bert, roberta and mpnet do.",
            id="no special tokens",
        ),
        pytest.param(tokenizer({}), "tokenizer.json adds no special tokens", "mpnet do.", id="no word"),
    ],
)
@pytest.mark.jobs
@pytest.mark.timeout(900)
def test_tokenizer_that_cannot_be_served_is_refused(
    tmp_path: Path, content: dict[str, Any], start: str, end: str
) -> None:
    make_source(tmp_path / "weights", {"tokenizer.json": content})
    step = (
        "from model_builders.sentence_encoder.tokens import write_tokenizer\n"
        "write_tokenizer(weights, folder.parent / 'served.json')"
    )
    reason, message = refusal(tmp_path / "weights", step)
    assert reason == "InputInvalid"
    assert message.startswith(f"Input 'weights': {start}"), message
    assert message.endswith(end), message
    assert not (tmp_path / "served.json").exists()


@pytest.mark.parametrize(
    ("config", "weights", "sentence"),
    [
        pytest.param({**BERT, "model_type": "nobodys"}, b"", "`nobodys`", id="a kind nobody knows"),
        pytest.param(BERT, b"\x10" + bytes(7) + b"{", "SafetensorError", id="weights cut off"),
    ],
)
@pytest.mark.jobs
@pytest.mark.timeout(900)
def test_weights_that_transformers_cannot_load_are_refused_in_its_words(
    tmp_path: Path, config: dict[str, Any], weights: bytes, sentence: str
) -> None:
    files = {"config.json": {**config, "num_attention_heads": 2}, "model.safetensors": weights}
    make_source(tmp_path, files)
    step = "from model_builders.sentence_encoder.encoder import load_encoder\nload_encoder(weights)"
    reason, message = refusal(tmp_path, step)
    assert reason == "InputInvalid"
    assert message.startswith("Input 'weights' cannot be loaded by transformers "), message
    assert sentence in message
    assert message.endswith(
        "). Take config.json and the safetensors from one folder that this transformers can read."
    )
    assert "\n" not in message


SAVED = """
import transformers, safetensors.torch
config = transformers.BertConfig.from_pretrained(folder)
config.intermediate_size = 48
model = transformers.BertModel(config)
safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
from model_builders.sentence_encoder.encoder import load_encoder
load_encoder(weights)
"""


@pytest.mark.jobs
@pytest.mark.timeout(900)
def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    make_source(tmp_path, {"config.json": {**BERT, **sizes}})
    assert refusal(tmp_path, SAVED) == (
        "InputInvalid",
        "Input 'weights': 'encoder.layer.0.intermediate.dense.bias' has the shape (48,) in the safetensors "
        "and (64,) by config.json; the files are of two models.",
    )


@pytest.mark.jobs
@pytest.mark.timeout(900)
def test_weights_that_do_not_fit_into_one_file_are_refused_with_their_size(tmp_path: Path) -> None:
    make_source(tmp_path)
    step = (
        "import torch\n"
        "from model_builders import onnx_export\n"
        "from model_builders.sentence_encoder.export import export_onnx\n"
        "onnx_export.MAX_BYTES = 4_000\n"
        "export_onnx(torch.nn.Linear(100, 11, bias=False), folder / 'model.onnx')"
    )
    assert refusal(tmp_path, step) == (
        "InputTooLarge",
        "Input 'weights': the weights take 4,400 bytes in 32 bits; at most 4,000 are exported. Take a "
        "smaller model.",
    )
    assert not (tmp_path / "model.onnx").exists()
