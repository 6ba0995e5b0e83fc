# ruff: noqa: E501 - a table reads best with a row a line
"""What a Hugging Face folder may hold, what is read of it, and what is refused in which words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model_builders.errors import Refused
from model_builders.sentence_encoder.candidates import MAX_CANDIDATES, read_candidates
from model_builders.sentence_encoder.parameters import Parameters, parse_parameters
from model_builders.sentence_encoder.samples import SENTENCES, sample_texts
from model_builders.sentence_encoder.weights import Weights, read_weights
from model_builders.source import Source

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
CLS: dict[str, Any] = {
    "word_embedding_dimension": 32,
    "pooling_mode_cls_token": True,
    "pooling_mode_mean_tokens": False,
}
MEAN: dict[str, Any] = {
    "word_embedding_dimension": 32,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
}


def make_source(folder: Path, files: Mapping[str, Any] | None = None, without: str = "") -> Source:
    content: dict[str, Any] = {
        "config.json": BERT,
        "model.safetensors": "",
        "tokenizer.json": {},
        **(files or {}),
    }
    content.pop(without, None)
    for name, value in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return Source("weights", "Folder", folder, tuple(sorted(content)))


def read(folder: Path, parameters: Parameters | None = None, **files: Any) -> Weights:
    named = {name.replace("__", "/").replace("_json", ".json"): value for name, value in files.items()}
    return read_weights(make_source(folder, named), parameters or Parameters())


def test_a_bare_folder_is_pooled_by_the_mean_and_not_normalised(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.pooling, found.normalize, found.max_tokens, found.dimensions) == ("Mean", False, 512, 32)


def test_the_width_of_a_distilbert_stands_under_its_own_name(tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "dim": 32, "vocab_size": 100, "max_position_embeddings": 512}
    files = {"config.json": config, "modules.json": MODULES[:2], "1_Pooling/config.json": MEAN}
    found = read_weights(make_source(tmp_path, files), Parameters())
    assert (found.pooling, found.dimensions) == ("Mean", 32)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        pytest.param(MEAN, "Mean", id="mean by switches"),
        pytest.param(CLS, "Cls", id="cls by switches"),
        pytest.param({"embedding_dimension": 32, "pooling_mode": "cls"}, "Cls", id="cls in one word"),
        pytest.param({"embedding_dimension": 32, "pooling_mode": "mean"}, "Mean", id="mean in one word"),
    ],
)
def test_what_sentence_transformers_wrote_is_obeyed(tmp_path: Path, pooling: Any, expected: str) -> None:
    limits = {"max_seq_length": 128, "do_lower_case": True}
    files = {"modules.json": MODULES, "1_Pooling/config.json": pooling, "sentence_bert_config.json": limits}
    found = read_weights(make_source(tmp_path, files), Parameters())
    assert (found.pooling, found.normalize, found.max_tokens) == (expected, True, 128)
    assert found.lower_case


def test_the_spec_overrules_pooling_and_limit(tmp_path: Path) -> None:
    files = {"modules.json": MODULES, "1_Pooling/config.json": MEAN}
    found = read_weights(make_source(tmp_path, files), Parameters(pooling="Cls", max_tokens=64))
    assert (found.pooling, found.max_tokens) == ("Cls", 64)


def test_positions_of_roberta_begin_behind_its_padding(tmp_path: Path) -> None:
    config = {**BERT, "model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert read_weights(make_source(tmp_path, {"config.json": config}), Parameters()).max_tokens == 512


REFUSED = [
    pytest.param({"pytorch_model.bin": b"\x80\x02"}, "InputRefused", "Input 'weights': pytorch_model.bin may hold a pickle, which runs code when it is loaded. Leave it out, or convert weights to safetensors.", id="a pickle beside the safetensors"),
    pytest.param({"old/weights.pt": b""}, "InputRefused", "Leave it out, or convert weights to safetensors.", id="a pickle in a folder"),
    pytest.param({"modeling_custom.py": ""}, "InputRefused", "Input 'weights': modeling_custom.py is code. A model's code is the builder's, never the repository's.", id="a program"),
    pytest.param({"config.json": {**BERT, "auto_map": {"AutoModel": "modeling_custom.Model"}}}, "InputRefused", "Input 'weights': config.json has an auto_map: this model needs Python code of its own, which is never run.", id="auto_map"),
    pytest.param({"config.json": "{"}, "InputInvalid", "Input 'weights': config.json, line 1 is not JSON: ", id="no JSON"),
    pytest.param({"config.json": []}, "InputInvalid", "Input 'weights': config.json is not an object.", id="a list"),
    pytest.param({"config.json": b"\xff"}, "InputEncoding", "Input 'weights': config.json is not UTF-8.", id="no UTF-8"),
    pytest.param({"config.json": {"hidden_size": 3}}, "InputInvalid", "Input 'weights': config.json has no model_type.", id="no model type"),
    pytest.param({"config.json": {**BERT, "model_type": "t5", "is_encoder_decoder": True}}, "InputInvalid", "config.json is of a t5 that decodes; a sentence encoder is an encoder alone", id="an encoder-decoder"),
    pytest.param({"config.json": {**BERT, "hidden_size": "32"}}, "InputInvalid", "config.json: hidden_size is '32'; it must be a whole number.", id="a number as text"),
    pytest.param({"sentence_bert_config.json": {"max_seq_length": "all"}}, "InputInvalid", "sentence_bert_config.json: max_seq_length is 'all'; it must be a whole number.", id="a limit as text"),
    pytest.param({"modules.json": [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]}, "InputInvalid", "modules.json has a module 'Dense'; built are Transformer, Pooling and Normalize.", id="a module that is not built"),
    pytest.param({"modules.json": MODULES}, "InputMissing", "modules.json names 1_Pooling/config.json, which is not there.", id="pooling without its file"),
    pytest.param({"modules.json": MODULES, "1_Pooling/config.json": MEAN | {"pooling_mode_cls_token": True}}, "InputInvalid", "pools by cls_token and mean_tokens; built are mean and cls.", id="two poolings"),
    pytest.param({"modules.json": MODULES, "1_Pooling/config.json": {"pooling_mode": "lasttoken"}}, "InputInvalid", "pools by lasttoken; built are mean and cls.", id="a pooling that is not built"),
    pytest.param({"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"}, "InputInvalid", "Input 'weights': model.safetensors is a pointer of Git LFS, which stands for the file. Run 'git lfs pull' in the clone", id="a clone without Git LFS"),
    pytest.param({"modules.json": MODULES, "1_Pooling/config.json": MEAN | {"word_embedding_dimension": 384}}, "InputInvalid", "the width is 384, and hidden_size in config.json is 32; the files are of two models.", id="files of two models"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "reason", "sentence"), REFUSED)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, files: dict[str, Any], reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        read_weights(make_source(tmp_path, files), Parameters())
    assert refused.value.reason == reason
    assert sentence in refused.value.message
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_what_is_missing_is_named_with_what_is_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused) as refused:
        read_weights(make_source(tmp_path, {"vocab.txt": "x"}, without=name), Parameters())
    assert refused.value.reason == "InputMissing"
    assert refused.value.message.startswith(f"Input 'weights' has no {name}; it holds ")
    assert "vocab.txt" in refused.value.message


def test_a_single_file_is_no_folder(tmp_path: Path) -> None:
    source = Source("weights", "File", tmp_path, ("model.safetensors",))
    with pytest.raises(Refused, match="Input 'weights' is a file; it must be a folder"):
        read_weights(source, Parameters())


def test_a_limit_beyond_the_models_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="maxTokens is 600; this model has positions for 512 tokens"):
        read(tmp_path, Parameters(max_tokens=600))


PARAMETERS = [
    pytest.param({"pooling": "Max", "topK": 0}, {}, ["pooling is 'Max'; it must be one of Auto, Mean, Cls", "topK is 0; it must be a whole number, 1 to 1,000"], id="two at once"),
    pytest.param({"maxTokens": True}, {}, ["maxTokens is True; it must be a whole number"], id="no number"),
    pytest.param({"dimensions": 3}, {}, ["spec.build.sentenceEncoder.dimensions is not known; there are pooling, maxTokens, topK"], id="an unknown one"),
    pytest.param({}, {"precision": "Int8"}, ["precision is Int8 and spec.build.export.fidelity is not set"], id="lossy without a fidelity"),
    pytest.param({}, {"fidelity": {"metric": "bleu", "atLeast": "0.9"}}, ["fidelity.metric is 'bleu'; measured is cosine"], id="another metric"),
    pytest.param({}, {"fidelity": {"metric": "cosine", "atLeast": "1.1"}}, ["fidelity.atLeast is '1.1'; it must be a decimal from 0 to 1"], id="above one"),
    pytest.param({}, {"fidelity": {"metric": "cosine"}}, ["fidelity.atLeast is None"], id="no bound"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "export", "sentences"), PARAMETERS)
def test_a_parameter_that_does_not_fit_is_told(
    parameters: dict[str, Any], export: dict[str, Any], sentences: list[str]
) -> None:
    with pytest.raises(Refused) as refused:
        parse_parameters(parameters, export)
    assert refused.value.reason == "ParameterInvalid"
    for sentence in sentences:
        assert sentence in refused.value.message


def test_parameters_are_taken_as_given() -> None:
    given = parse_parameters(
        {"pooling": "Cls", "maxTokens": 64, "topK": 9},
        {"precision": "Int8", "fidelity": {"metric": "cosine", "atLeast": "0.98"}},
    )
    assert given == Parameters("Cls", 64, 9, "Int8", 0.98)


# --- candidates ---


def read_lines(folder: Path, content: bytes) -> list[str]:
    (folder / "faq.txt").write_bytes(content)
    return read_candidates(Source("candidates", "File", folder, ("faq.txt",)))


def test_candidates_are_the_lines_with_a_text_each_once_in_order(tmp_path: Path) -> None:
    content = "\ufeffb\r\n\r\na \n  \nb\n비밀번호\u2028분실\n".encode()
    assert read_lines(tmp_path, content) == ["b", "a", "비밀번호\u2028분실"]


def test_candidates_without_a_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no line with a text in it"):
        read_lines(tmp_path, b"\n \n")


def test_candidates_in_another_encoding_are_told_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"Input 'candidates': faq.txt, line 2 is not UTF-8: its byte 1 \(byte 4"
    ):
        read_lines(tmp_path, b"ok\n" + "비".encode("cp949"))


def test_too_many_candidates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has more than 10,000 different lines"):
        read_lines(tmp_path, "\n".join(map(str, range(MAX_CANDIDATES + 1))).encode())


# --- what the export is compared on ---


def test_samples_hold_hard_texts_candidates_and_one_that_is_cut() -> None:
    texts = sample_texts(256, [f"candidate {n}" for n in range(1000)])
    assert {"", "🎸 🎻 🎹", "candidate 0"} <= set(texts)
    assert len(texts) == 2 * len(SENTENCES) + 4
    assert max(len(text.split()) for text in texts) > 256
    assert texts == sample_texts(256, [f"candidate {n}" for n in range(1000)])
