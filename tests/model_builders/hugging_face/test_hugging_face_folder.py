# ruff: noqa: E501 - a table reads best with a row a line
"""What a folder may hold for each task, and what is refused in which words: no weight is loaded here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_builders.errors import Refused
from model_builders.hugging_face.builder import HuggingFaceRecipe
from model_builders.hugging_face.folder import Folder, read_folder
from model_builders.hugging_face.parameters import Parameters, Task, parse_parameters
from model_builders.hugging_face.rules import NEUTRAL, rules_of
from model_builders.source import Source
from tests.model_builders.sentence_encoder.test_weights import BERT, make_source

LABELS = {"id2label": {"0": "부정", "1": "긍정"}}
MOODS = {**BERT, **LABELS, "architectures": ["BertForSequenceClassification"]}
NAMES = {**BERT, **LABELS, "architectures": ["BertForTokenClassification"]}
MARIAN = {
    "model_type": "marian",
    "architectures": ["MarianMTModel"],
    "is_encoder_decoder": True,
    "vocab_size": 60,
    "max_position_embeddings": 512,
}
T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "is_encoder_decoder": True,
    "vocab_size": 60,
}
PIECES = {"source.spm": b"\x0a", "target.spm": b"\x0a", "vocab.json": {"</s>": 0, "<unk>": 1}}


def read(
    folder: Path,
    task: Task,
    config: dict[str, Any],
    files: dict[str, Any] | None = None,
    without: str = "",
    **given: Any,
) -> Folder:
    source = make_source(folder, {"config.json": config, **(files or {})}, without)
    return read_folder(source, Parameters(task, **given))


@pytest.mark.parametrize(
    ("task", "config", "files", "limit"),
    [
        pytest.param("SequenceClassification", MOODS, {}, 512, id="a classifier"),
        pytest.param(
            "TokenClassification",
            NAMES,
            {"tokenizer_config.json": {"model_max_length": 128}},
            128,
            id="a shorter tokenizer",
        ),
        pytest.param(
            "TokenClassification",
            NAMES,
            {"tokenizer_config.json": {"model_max_length": 1e30}},
            512,
            id="a tokenizer without a limit",
        ),
        pytest.param(
            "TokenClassification",
            {**NAMES, "model_type": "roberta", "pad_token_id": 1},
            {},
            510,
            id="positions behind the padding",
        ),
        pytest.param("Translation", MARIAN, PIECES, 512, id="Marian"),
        pytest.param("Translation", T5, {}, 512, id="T5"),
    ],
)
def test_a_folder_says_how_many_tokens_are_read(
    tmp_path: Path, task: Task, config: dict[str, Any], files: dict[str, Any], limit: int
) -> None:
    assert read(tmp_path, task, config, files).max_tokens == limit


def test_the_spec_may_read_less_and_of_relative_positions_more(tmp_path: Path) -> None:
    assert read(tmp_path / "less", "SequenceClassification", MOODS, max_tokens=100).max_tokens == 100
    assert read(tmp_path / "more", "Translation", T5, max_tokens=2000).max_tokens == 2000
    with pytest.raises(
        Refused, match=r"spec.build.huggingFace.maxTokens is 600; this model has positions for 512 tokens."
    ):
        read(tmp_path / "beyond", "SequenceClassification", MOODS, max_tokens=600)


@pytest.mark.parametrize(
    ("task", "config", "files", "without", "reason", "sentence"),
    [
        pytest.param(
            "SequenceClassification",
            NAMES,
            {},
            "",
            "InputInvalid",
            "config.json has the architectures ['BertForTokenClassification'] and the model_type 'bert'; the task SequenceClassification takes an encoder whose name ends in ForSequenceClassification",
            id="another task",
        ),
        pytest.param(
            "SequenceClassification",
            BERT,
            {},
            "",
            "InputInvalid",
            "has the architectures None",
            id="no architecture",
        ),
        pytest.param(
            "Translation",
            MOODS,
            {},
            "",
            "InputInvalid",
            "the task Translation takes one of MarianMTModel, T5ForConditionalGeneration, MT5ForConditionalGeneration.",
            id="a classifier to translate",
        ),
        pytest.param(
            "Translation",
            {**T5, "model_type": "marian"},
            PIECES,
            "",
            "InputInvalid",
            "and the model_type 'marian'",
            id="a name of another kind",
        ),
        pytest.param(
            "Translation",
            {**MARIAN, "architectures": ["BartForConditionalGeneration"]},
            PIECES,
            "",
            "InputInvalid",
            "['BartForConditionalGeneration']",
            id="a translator that is not built",
        ),
        pytest.param(
            "Translation",
            MARIAN,
            {"source.spm": b"\x0a", "vocab.json": {}},
            "",
            "InputMissing",
            "Input 'weights' has no target.spm; it holds config.json, model.safetensors, source.spm, tokenizer.json, vocab.json.",
            id="no target pieces",
        ),
        pytest.param(
            "TokenClassification",
            NAMES,
            {},
            "tokenizer.json",
            "InputMissing",
            "Input 'weights' has no tokenizer.json; it holds config.json, model.safetensors. tokenizer.json is written by",
            id="no tokenizer",
        ),
        pytest.param(
            "TokenClassification",
            NAMES,
            {},
            "model.safetensors",
            "InputMissing",
            "Input 'weights' has no model.safetensors",
            id="no weights",
        ),
        pytest.param(
            "TokenClassification",
            NAMES,
            {"pytorch_model.bin": b"PK"},
            "model.safetensors",
            "InputRefused",
            "Input 'weights': pytorch_model.bin",
            id="weights as a pickle",
        ),
        pytest.param(
            "TokenClassification",
            {**NAMES, "auto_map": {}},
            {},
            "",
            "InputRefused",
            "config.json has an auto_map",
            id="code of its own",
        ),
        pytest.param(
            "TokenClassification",
            NAMES,
            {"tokenizer_config.json": {"auto_map": {}}},
            "",
            "InputRefused",
            "tokenizer_config.json has an auto_map: this tokenizer needs Python code",
            id="a tokenizer with code of its own",
        ),
        pytest.param(
            "TokenClassification",
            {**NAMES, "id2label": {"0": "O", "2": "PER"}},
            {},
            "",
            "InputInvalid",
            "it must give a name to each of the numbers from 0 on.",
            id="labels with a gap",
        ),
        pytest.param(
            "SequenceClassification",
            {**MOODS, "problem_type": "regression"},
            {},
            "",
            "InputInvalid",
            "config.json has the problem_type regression, whose answers are no probabilities",
            id="numbers and no labels",
        ),
        pytest.param(
            "SequenceClassification",
            {**MOODS, "vocab_size": "many"},
            {},
            "",
            "InputInvalid",
            "config.json: vocab_size is 'many'; it must be a whole number.",
            id="no vocabulary",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_what_is_wrong(
    tmp_path: Path,
    task: Task,
    config: dict[str, Any],
    files: dict[str, Any],
    without: str,
    reason: str,
    sentence: str,
) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, task, config, files, without)
    assert refused.value.reason == reason
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {},
            "spec.build.huggingFace.task is ''; it must be one of SequenceClassification, TokenClassification, Translation",
            id="no task",
        ),
        pytest.param({"task": "Summarization"}, "task is 'Summarization'", id="a task that is not served"),
        pytest.param(
            {"task": "Translation", "maxTokens": 9000},
            "maxTokens is 9000; it must be a whole number, 0 to 8,192",
            id="too many tokens",
        ),
        pytest.param(
            {"task": "Translation", "longTexts": "Forget"},
            "longTexts is 'Forget'; it must be one of Refuse, Truncate",
            id="neither",
        ),
        pytest.param(
            {"task": "Translation", "prefix": "a" * 257},
            "it must be a text of at most 256 characters",
            id="a novel as a prefix",
        ),
        pytest.param(
            {"task": "TokenClassification", "prefix": "say: "},
            "prefix is set; only the task Translation puts one before its texts",
            id="a prefix that nobody reads",
        ),
        pytest.param(
            {"task": "Translation", "beams": 4},
            "beams is not known; there are task, maxTokens, longTexts, prefix",
            id="an unknown field",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_parameters(given, {})
    assert refused.value.reason == "ParameterInvalid"
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    "names", [("corpus",), ("test",), ("weights", "corpus")], ids=["one", "no weights", "one too many"]
)
def test_inputs_of_other_names_are_refused_with_those_that_are_taken(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    sources = tuple(Source(name, "Folder", tmp_path, ()) for name in names)
    with pytest.raises(
        Refused, match=r"HuggingFace takes weights \(a folder of Hugging Face\) and, if wanted, test"
    ):
        HuggingFaceRecipe(Parameters("Translation")).train(sources)


def generation(**given: Any) -> SimpleNamespace:
    """As transformers has it, with nothing out of the ordinary."""
    plain = {
        "num_beams": 1,
        "eos_token_id": 0,
        "decoder_start_token_id": 59,
        "forced_eos_token_id": None,
        "bad_words_ids": None,
        "length_penalty": None,
        "early_stopping": None,
    }
    return SimpleNamespace(**{**dict.fromkeys(NEUTRAL), **plain, **given})


def test_a_folders_settings_become_rules() -> None:
    found = rules_of(
        generation(
            num_beams=6,
            eos_token_id=[0, 7],
            forced_eos_token_id=0,
            bad_words_ids=[[59], [0]],
            length_penalty=0.6,
            early_stopping=True,
        )
    )
    assert (found.start, found.ends, found.never, found.forced_end) == (59, (0, 7), (59,), 0)
    assert (found.length_penalty, found.early_stopping, found.beam_size) == (0.6, True, 6)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"do_sample": True, "repetition_penalty": 1.2},
            "asks for do_sample: True, repetition_penalty: 1.2, which is not served.",
            id="sampling",
        ),
        pytest.param({"no_repeat_ngram_size": 3}, "asks for no_repeat_ngram_size: 3", id="no phrase twice"),
        pytest.param({"bad_words_ids": [[5, 6]]}, "has bad_words_ids of several tokens", id="a phrase never"),
        pytest.param(
            {"num_beams": 1000}, "has num_beams: 1000; at most 16 are served.", id="a thousand beams"
        ),
        pytest.param({"eos_token_id": None}, "has no eos_token_id or no decoder_start_token_id", id="no end"),
    ],
)
def test_settings_that_are_not_served_are_refused_and_not_passed_over(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        rules_of(generation(**given))
    assert refused.value.reason == "InputInvalid"
    assert sentence in refused.value.message
