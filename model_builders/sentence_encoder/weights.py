"""Reads what a Hugging Face folder says about itself: JSON files only, no program and no weight is loaded.

    config.json                 the Transformer                             needed
    model.safetensors           its weights (or several, with an index)     needed
    tokenizer.json              how texts become tokens                     needed
    modules.json, 1_Pooling/    how tokens become one vector                of sentence-transformers
    sentence_bert_config.json   where texts are cut                         of sentence-transformers

Files that can hold a program are refused (trust.py refused them when they were fetched; a store may be older
than that, and this is the second lock).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model_builders.errors import Refused
from model_builders.sentence_encoder.parameters import Parameters
from model_builders.source import Source
from model_builders.trust import WHY_NOT, what_is

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
MODULES = "modules.json"
LIMITS = "sentence_bert_config.json"
NEEDED = (CONFIG, TOKENIZER)

SAID_BY_NOBODY = 512
"""Tokens, where no file says where texts are cut: what BERT reads."""


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
    if source.kind != "Folder":
        raise Refused(
            "InputInvalid",
            f"Input {source.name!r} is a {source.kind.lower()}; it must be a folder of Hugging Face's form, "
            f"with {', '.join((*NEEDED, WEIGHTS[0]))}.",
        )
    refuse_programs(source)
    _check_complete(source)
    config = _read(source, CONFIG, dict)
    _check_config(source, config)
    modules = _read(source, MODULES, list) if MODULES in source.files else []
    pooling, normalize = _read_modules(source, modules, config)
    limits = _read(source, LIMITS, dict) if LIMITS in source.files else {}
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


def refuse_programs(source: Source) -> None:
    """Raises Refused (`InputRefused`) for files that run code when they are loaded."""
    for name in source.files:
        why = WHY_NOT.get(PurePosixPath(name).suffix.lower())
        if why:
            raise Refused("InputRefused", f"{source.where(name)} {why}.")


def _check_complete(source: Source) -> None:
    missing = [name for name in NEEDED if name not in source.files]
    if not any(name in source.files for name in WEIGHTS):
        missing.append(WEIGHTS[0])
    if not missing:
        for name in source.files:
            if name in NEEDED or name.endswith(".safetensors"):
                _check_pulled(source, name)
        return
    listed = ", ".join(source.files[:8]) + (
        f" and {len(source.files) - 8} more" if len(source.files) > 8 else ""
    )
    hint = ""
    if TOKENIZER in missing:
        hint = (
            f" {TOKENIZER} is written by AutoTokenizer.from_pretrained(...).save_pretrained(folder) of "
            "transformers."
        )
    raise Refused(
        "InputMissing",
        f"Input {source.name!r} has no {' and no '.join(missing)}; it holds {listed}.{hint}",
    )


def _check_pulled(source: Source, name: str) -> None:
    """A clone that was made without Git LFS looks whole and holds no weights."""
    with (source.folder / name).open("rb") as stream:
        found = what_is(stream.read(64))
    if "Git LFS" in found:
        raise Refused(
            "InputInvalid",
            f"{source.where(name)} is {found}. Run 'git lfs pull' in the clone that it was copied from, and "
            "copy it again.",
        )


def _check_config(source: Source, config: Mapping[str, Any]) -> None:
    where = source.where(CONFIG)
    if "auto_map" in config:
        raise Refused(
            "InputRefused",
            f"{where} has an auto_map: this model needs Python code of its own, which is never run. Take a "
            "model whose model_type is part of transformers.",
        )
    if not isinstance(config.get("model_type"), str):
        raise Refused("InputInvalid", f"{where} has no model_type.")
    if config.get("is_encoder_decoder") or config.get("is_decoder"):
        raise Refused(
            "InputInvalid",
            f"{where} is of a {config['model_type']} that decodes; a sentence encoder is an encoder alone, "
            "such as bert, roberta or mpnet.",
        )
    for name in (width_key(config), "vocab_size"):
        _whole(source, CONFIG, config, name)


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
    content = _read(source, name, dict)
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
    positions = _whole(source, CONFIG, config, "max_position_embeddings", SAID_BY_NOBODY)
    if config["model_type"] in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        # Their positions begin behind the padding's.
        positions -= _whole(source, CONFIG, config, "pad_token_id", 0) + 1
    said = _whole(source, LIMITS, limits, "max_seq_length", positions)
    if parameters.max_tokens > positions:
        raise Refused(
            "ParameterInvalid",
            f"spec.build.sentenceEncoder.maxTokens is {parameters.max_tokens}; this model has positions for "
            f"{positions} tokens.",
        )
    return parameters.max_tokens or min(said, positions)


def _whole(
    source: Source, file: str, content: Mapping[str, Any], name: str, default: int | None = None
) -> int:
    """A whole number of a file. Raises Refused when it is none, or missing (or null) without a default."""
    value = content.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Refused(
            "InputInvalid", f"{source.where(file)}: {name} is {value!r}; it must be a whole number."
        )
    return value


def _read(source: Source, name: str, kind: type[Any]) -> Any:
    try:
        content = json.loads((source.folder / name).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Refused("InputEncoding", f"{source.where(name)} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Refused(
            "InputInvalid", f"{source.where(name, error.lineno)} is not JSON: {error.msg}."
        ) from error
    if not isinstance(content, kind):
        what = "an object" if kind is dict else "a list"
        raise Refused("InputInvalid", f"{source.where(name)} is not {what}.")
    return content
