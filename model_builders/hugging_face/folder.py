"""What the folder says of the model, held against the task: JSON files only, no weight is loaded.

| task | `architectures` of config.json | tokenizer |
| --- | --- | --- |
| SequenceClassification | one that ends in ForSequenceClassification | tokenizer.json |
| TokenClassification | one that ends in ForTokenClassification | tokenizer.json |
| Translation | MarianMTModel | source.spm, target.spm, vocab.json |
| Translation | T5ForConditionalGeneration, MT5ForConditionalGeneration | tokenizer.json |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_builders.errors import Refused
from model_builders.hub_folder import (
    CONFIG,
    TOKENIZER,
    check_config,
    check_folder,
    positions_of,
    read_json,
    whole,
)
from model_builders.hugging_face.parameters import WHERE, Parameters
from model_builders.source import Source

TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY = "vocab.json"
MARIAN_FILES = ("source.spm", "target.spm", VOCABULARY)

TRANSLATORS = {
    "MarianMTModel": "marian",
    "T5ForConditionalGeneration": "t5",
    "MT5ForConditionalGeneration": "mt5",
}
"""The model_type of each that is built."""

RELATIVE = ("t5", "mt5")
"""They know how far tokens are apart, and not where they are: there is no last position."""


@dataclass(frozen=True)
class Folder:
    source: Source
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    architecture: str
    """A class of transformers."""
    max_tokens: int

    @property
    def path(self) -> Path:
        return self.source.folder

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])


def read_folder(source: Source, parameters: Parameters) -> Folder:
    """Raises Refused with the file and what is wrong in it."""
    # Weights and the configuration first: what the tokenizer must be depends on the latter.
    check_folder(source, (CONFIG,))
    config = read_json(source, CONFIG, dict)
    check_config(source, config)
    architecture = _architecture(source, config, parameters)
    check_folder(source, (CONFIG, *(MARIAN_FILES if architecture == "MarianMTModel" else (TOKENIZER,))))
    whole(source, CONFIG, config, "vocab_size")
    _check_labels(source, config, parameters)
    has_more = TOKENIZER_CONFIG in source.files
    tokenizer_config = read_json(source, TOKENIZER_CONFIG, dict) if has_more else {}
    _check_plain(source, tokenizer_config)
    limit = _max_tokens(source, config, tokenizer_config, parameters)
    return Folder(source, config, tokenizer_config, architecture, limit)


def _architecture(source: Source, config: Mapping[str, Any], parameters: Parameters) -> str:
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and len(named) == 1 else ""
    if parameters.task == "Translation":
        fits = TRANSLATORS.get(name) == config["model_type"]
        wanted = "one of " + ", ".join(TRANSLATORS)
    else:
        fits = name.endswith(f"For{parameters.task}") and not config.get("is_encoder_decoder")
        wanted = f"an encoder whose name ends in For{parameters.task}, with the labels it was trained on"
    if not fits:
        raise Refused(
            "InputInvalid",
            f"{source.where(CONFIG)} has the architectures {named!r} and the model_type "
            f"{config['model_type']!r}; the task {parameters.task} takes {wanted}.",
        )
    return name


def _check_labels(source: Source, config: Mapping[str, Any], parameters: Parameters) -> None:
    if parameters.task == "Translation":
        return
    labels = config.get("id2label", {})
    fits = isinstance(labels, dict) and sorted(labels) == sorted(map(str, range(len(labels))))
    if not fits or not all(isinstance(label, str) and label for label in labels.values()):
        raise Refused(
            "InputInvalid",
            f"{source.where(CONFIG)}: id2label is {labels!r}; it must give a name to each of the numbers "
            "from 0 on.",
        )
    if config.get("problem_type") == "regression":
        raise Refused(
            "InputInvalid",
            f"{source.where(CONFIG)} has the problem_type regression, whose answers are no probabilities; "
            "built are single_label_classification and multi_label_classification.",
        )


def _check_plain(source: Source, tokenizer_config: Mapping[str, Any]) -> None:
    if "auto_map" in tokenizer_config:
        raise Refused(
            "InputRefused",
            f"{source.where(TOKENIZER_CONFIG)} has an auto_map: this tokenizer needs Python code of its own, "
            "which is never run.",
        )


def _max_tokens(
    source: Source, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], parameters: Parameters
) -> int:
    """What the spec says, else the smaller of what the model has positions for and what the folder says."""
    positions = positions_of(source, config)
    if parameters.max_tokens > positions and config["model_type"] not in RELATIVE:
        raise Refused(
            "ParameterInvalid",
            f"{WHERE}.maxTokens is {parameters.max_tokens}; this model has positions for {positions} tokens.",
        )
    said = tokenizer_config.get("model_max_length")
    # transformers writes a number of thirty digits where there is no limit.
    limit = int(said) if isinstance(said, int | float) and 0 < said < positions else positions
    return parameters.max_tokens or limit
