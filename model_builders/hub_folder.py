"""A folder of Hugging Face's form, as far as no program and no weight has to be loaded to read it.

    config.json                 which model it is, and its sizes
    model.safetensors           its weights (or several, with an index)
    tokenizer.json              how texts become tokens

Files that can hold a program are refused (trust.py refused them when they were fetched; a store may be older
than that, and this is the second lock).
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from model_builders.errors import Refused
from model_builders.source import Source
from model_builders.trust import WHY_NOT, what_is

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

SAID_BY_NOBODY = 512
"""Tokens, where no file says where texts are cut: what BERT reads."""


def check_folder(source: Source, needed: tuple[str, ...]) -> None:
    """Raises Refused when it is no folder, holds programs, or lacks weights or one of the `needed` files."""
    if source.kind != "Folder":
        raise Refused(
            "InputInvalid",
            f"Input {source.name!r} is a {source.kind.lower()}; it must be a folder of Hugging Face's form, "
            f"with {', '.join((*needed, WEIGHTS[0]))}.",
        )
    refuse_programs(source)
    _check_complete(source, needed)


def refuse_programs(source: Source) -> None:
    """Raises Refused (`InputRefused`) for files that run code when they are loaded."""
    for name in source.files:
        why = WHY_NOT.get(PurePosixPath(name).suffix.lower())
        if why:
            raise Refused("InputRefused", f"{source.where(name)} {why}.")


def _check_complete(source: Source, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in source.files]
    if not any(name in source.files for name in WEIGHTS):
        missing.append(WEIGHTS[0])
    if not missing:
        for name in source.files:
            if name in needed or name.endswith(".safetensors"):
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


def check_config(source: Source, config: Mapping[str, Any]) -> None:
    """Raises Refused for a model that needs Python code of its own, or does not say what it is."""
    where = source.where(CONFIG)
    if "auto_map" in config:
        raise Refused(
            "InputRefused",
            f"{where} has an auto_map: this model needs Python code of its own, which is never run. Take a "
            "model whose model_type is part of transformers.",
        )
    if not isinstance(config.get("model_type"), str):
        raise Refused("InputInvalid", f"{where} has no model_type.")


def positions_of(source: Source, config: Mapping[str, Any]) -> int:
    """How many tokens the model has positions for."""
    positions = whole(source, CONFIG, config, "max_position_embeddings", SAID_BY_NOBODY)
    if config["model_type"] in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        # Their positions begin behind the padding's.
        positions -= whole(source, CONFIG, config, "pad_token_id", 0) + 1
    return positions


def whole(
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


def read_json(source: Source, name: str, kind: type[Any]) -> Any:
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


def check_ids(tokenizer: Any, config: Mapping[str, Any]) -> None:
    """Raises Refused when a Tokenizer of tokenizers gives ids that the model has no vector for."""
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= config["vocab_size"]:
        raise Refused(
            "InputInvalid",
            f"Input 'weights': {TOKENIZER} has a token with the id {largest}, and config.json a vocab_size "
            f"of {config['vocab_size']}; the files are of two models.",
        )


def check_special_tokens(tokenizer: Any, advice: str) -> None:
    """Raises Refused when a Tokenizer of tokenizers has nothing to give for an empty text."""
    if not tokenizer.encode("").ids:
        raise Refused(
            "InputInvalid",
            f"Input 'weights': {TOKENIZER} adds no special tokens, so an empty text would have none at all. "
            f"{advice}",
        )
