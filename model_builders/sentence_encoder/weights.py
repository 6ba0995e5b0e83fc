"""Reads what a Hugging Face folder says about itself: JSON files only, no program and no weight is loaded.

config.json                 the Transformer                             needed
model.safetensors           its weights (or several, with an index)     needed
tokenizer.json              how texts become tokens                     needed
modules.json, 1_Pooling/    how tokens become one vector                of sentence-transformers
sentence_bert_config.json   where texts are cut                         of sentence-transformers
"""

from collections.abc import Mapping, Sequence
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
from model_builders.sentence_encoder.parameters import Parameters
from model_builders.source import Source

MODULES = "modules.json"
LIMITS = "sentence_bert_config.json"
NEEDED = (CONFIG, TOKENIZER)


@dataclass(frozen=True)
class Weights:
    folder: Path
    config: Mapping[str, Any]
    pooling: str
    """Mean or Cls."""
    normalize: bool
    """Vectors are brought to length 1."""
    max_tokens: int
    lower_case: bool
    """Texts are put in lower case before the tokenizer sees them (the tokenizer may do so too)."""

    @property
    def dimensions(self) -> int:
        return int(self.config[width_key(self.config)])


def width_key(config: Mapping[str, Any]) -> str:
    """Under which key config.json says how many numbers a vector has."""
    return "dim" if config.get("model_type") == "distilbert" else "hidden_size"


def read_weights(source: Source, parameters: Parameters) -> Weights:
    """Raises Refused with the file and what is wrong in it."""
    check_folder(source, NEEDED)
    config = read_json(source, CONFIG, dict)
    _check_config(source, config)
    modules = read_json(source, MODULES, list) if MODULES in source.files else []
    pooling, normalize = _read_modules(source, modules, config)
    limits = read_json(source, LIMITS, dict) if LIMITS in source.files else {}
    if parameters.pooling != "Auto":
        pooling = parameters.pooling
    return Weights(
        folder=source.folder,
        config=config,
        pooling=pooling,
        normalize=normalize,
        max_tokens=_max_tokens(source, config, limits, parameters),
        lower_case=limits.get("do_lower_case") is True,
    )


def _check_config(source: Source, config: Mapping[str, Any]) -> None:
    check_config(source, config)
    where = source.where(CONFIG)
    if config.get("is_encoder_decoder") or config.get("is_decoder"):
        raise Refused(
            "InputInvalid",
            f"{where} is of a {config['model_type']} that decodes; a sentence encoder is an encoder alone, "
            "such as bert, roberta or mpnet.",
        )
    for name in (width_key(config), "vocab_size"):
        whole(source, CONFIG, config, name)


def _read_modules(source: Source, modules: Sequence[Any], config: Mapping[str, Any]) -> tuple[str, bool]:
    """Pooling and normalisation as sentence-transformers wrote them; Mean and none without its files."""
    pooling, normalize = "Mean", False
    for module in modules:
        if not isinstance(module, Mapping):
            raise Refused("InputInvalid", f"{source.where(MODULES)} is not a list of modules.")
        kind = str(module.get("type", "")).rpartition(".")[2]
        path = str(module.get("path", ""))
        if kind == "Transformer":
            if path:
                raise Refused(
                    "InputInvalid",
                    f"{source.where(MODULES)}: the Transformer lies in {path!r}; it must lie beside "
                    f"{MODULES}, as sentence-transformers writes it since 1.0.",
                )
        elif kind == "Pooling":
            name = f"{path}/{CONFIG}"
            if name not in source.files:
                raise Refused("InputMissing", f"{source.where(MODULES)} names {name}, which is not there.")
            pooling = _read_pooling(source, name, config)
        elif kind == "Normalize":
            normalize = True
        else:
            raise Refused(
                "InputInvalid",
                f"{source.where(MODULES)} has a module {kind or module!r}; built are Transformer, Pooling "
                "and Normalize.",
            )
    return pooling, normalize


def _read_pooling(source: Source, name: str, config: Mapping[str, Any]) -> str:
    content = read_json(source, name, dict)
    key = width_key(config)
    width = content.get("word_embedding_dimension", content.get("embedding_dimension", config[key]))
    if width != config[key]:
        raise Refused(
            "InputInvalid",
            f"{source.where(name)}: the width is {width!r}, and {key} in {CONFIG} is {config[key]}; the "
            "files are of two models.",
        )
    # Up to 5.x one switch for each mode, then one word.
    switches = [key.removeprefix("pooling_mode_") for key in content if key.startswith("pooling_mode_")]
    modes = [key for key in switches if content[f"pooling_mode_{key}"] is True]
    modes = modes or [str(content.get("pooling_mode", "mean"))]
    names = {"mean": "Mean", "mean_tokens": "Mean", "cls": "Cls", "cls_token": "Cls"}
    if len(modes) != 1 or modes[0] not in names:
        raise Refused(
            "InputInvalid",
            f"{source.where(name)} pools by {' and '.join(modes)}; built are mean and cls.",
        )
    return names[modes[0]]


def _max_tokens(
    source: Source, config: Mapping[str, Any], limits: Mapping[str, Any], parameters: Parameters
) -> int:
    """The smallest of what the model has positions for, what the folder says, and what the spec says."""
    positions = positions_of(source, config)
    said = whole(source, LIMITS, limits, "max_seq_length", positions)
    if parameters.max_tokens > positions:
        raise Refused(
            "ParameterInvalid",
            f"spec.build.sentenceEncoder.maxTokens is {parameters.max_tokens}; this model has positions for "
            f"{positions} tokens.",
        )
    return parameters.max_tokens or min(said, positions)
