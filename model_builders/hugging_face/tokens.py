"""The folder's tokenizer in the form in which it is served: a `tokenizer.json` of the library tokenizers.

Of all but Marian it is what transformers makes of the folder, so that texts are split as there. Marian's are
two models of sentencepiece and a vocabulary: transformers reads them with a library of its own, here their
pieces, scores and normalisation go into a Unigram (or BPE) model of tokenizers. Tests compare both.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_builders.errors import Refused
from model_builders.hub_folder import TOKENIZER, check_ids, check_special_tokens, read_json
from model_builders.hugging_face.folder import MARIAN_FILES, VOCABULARY, Folder

TARGET_VOCABULARY = "target_vocab.json"

UNIGRAM, BPE = 1, 2
UNKNOWN, CONTROL = 2, 3
"""Kinds of models and of pieces, as sentencepiece numbers them."""


@dataclass(frozen=True)
class ServedTokenizer:
    content: str
    """tokenizer.json"""
    pad_token_id: int
    has_types: bool
    """It tells the tokens of a second text from those of the first."""


def read_tokenizer(folder: Folder) -> ServedTokenizer:
    """Raises Refused when transformers cannot read it, or it does not fit the model."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import; a build has no network to try
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False
        )
        backend = tokenizer.backend_tokenizer
    except MemoryError:
        raise
    except Exception as error:  # each kind of tokenizer, and the library tokenizers, raises its own
        raise Refused(
            "InputInvalid",
            f"Input {folder.source.name!r}: transformers {transformers.__version__} makes no tokenizer of "
            f"{TOKENIZER} ({type(error).__name__}: {' '.join(str(error).split())[:300]}). {TOKENIZER} is "
            "written by AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        ) from error
    check_ids(backend, folder.config)
    check_special_tokens(backend, "Take a model whose tokenizer adds them.")
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = folder.config.get("pad_token_id") or 0
    return ServedTokenizer(backend.to_str(), int(pad), "token_type_ids" in tokenizer.model_input_names)


def cleans_up(folder: Folder, content: str) -> bool:
    """Whether transformers takes blanks before punctuation away, as tokenizer_config.json may ask it to."""
    import tokenizers

    is_bpe = type(tokenizers.Tokenizer.from_str(content).model).__name__ == "BPE"
    return folder.tokenizer_config.get("clean_up_tokenization_spaces") is True and not is_bpe


@dataclass(frozen=True)
class MarianFiles:
    content: str
    """tokenizer.json, of the source."""
    vocabulary: Mapping[str, Any]
    """What served.writing.Marian is made from, beside the former."""


def read_marian(folder: Folder) -> MarianFiles:
    """Raises Refused."""
    pieces = _pieces(folder, VOCABULARY)
    target = _pieces(folder, TARGET_VOCABULARY) if TARGET_VOCABULARY in folder.source.files else pieces
    special = [_special(folder, name) for name in ("unk_token", "eos_token", "pad_token")]
    missing = [piece for piece in special[:2] if piece not in pieces]
    if missing:
        raise Refused(
            "InputInvalid",
            f"{folder.source.where(VOCABULARY)} has no {missing[0]!r}, which every vocabulary of Marian has.",
        )
    # The decoder may have more rows than there are pieces.
    target = [*target, *[""] * (max(folder.config["vocab_size"], len(target)) - len(target))]
    vocabulary = {"pieces": pieces, "target": target, "special": special}
    return MarianFiles(_from_sentencepiece(folder, MARIAN_FILES[0]), vocabulary)


def _pieces(folder: Folder, name: str) -> list[str]:
    content = read_json(folder.source, name, dict)
    if sorted(content.values(), key=str) != sorted(range(len(content)), key=str) or not content:
        raise Refused(
            "InputInvalid",
            f"{folder.source.where(name)} must give each piece a number, from 0 on, and does not.",
        )
    if name == VOCABULARY and len(content) > folder.config["vocab_size"]:
        raise Refused(
            "InputInvalid",
            f"{folder.source.where(name)} has {len(content):,} pieces, and config.json a vocab_size of "
            f"{folder.config['vocab_size']:,}; the files are of two models.",
        )
    return sorted(content, key=lambda piece: int(content[piece]))


def _special(folder: Folder, name: str) -> str:
    value = folder.tokenizer_config.get(name, {"unk_token": "<unk>", "eos_token": "</s>"}.get(name, "<pad>"))
    return str(value["content"] if isinstance(value, dict) else value)


def _from_sentencepiece(folder: Folder, name: str) -> str:
    """The text of a tokenizer.json that splits as the model of sentencepiece does."""
    from transformers.convert_slow_tokenizer import SpmConverter, import_protobuf

    proto = import_protobuf().ModelProto()
    try:
        proto.ParseFromString((folder.path / name).read_bytes())
    except Exception as error:  # protobuf's own
        raise Refused("InputInvalid", f"{folder.source.where(name)} is no model of sentencepiece.") from error
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE) or not proto.pieces:
        raise Refused(
            "InputInvalid",
            f"{folder.source.where(name)} is a model of sentencepiece that is neither Unigram nor BPE.",
        )
    # Pieces that stand for no characters get a name that no text can have.
    named = [
        (f"\0{place}" if piece.type in (UNKNOWN, CONTROL) else piece.piece, piece.score)
        for place, piece in enumerate(proto.pieces)
    ]
    if proto.trainer_spec.model_type == UNIGRAM:
        tokenizer = SpmConverter.build_tokenizer_from_spm_proto(proto, named)
    else:
        vocabulary = {piece: place for place, (piece, _) in enumerate(named)}
        vocabulary[proto.trainer_spec.unk_piece] = vocabulary.pop(f"\0{proto.trainer_spec.unk_id}")
        tokenizer = SpmConverter.build_tokenizer_from_spm_proto(proto, vocabulary)
    if proto.normalizer_spec.precompiled_charsmap:
        # tokenizers applies that map to what has at most five bytes: Korean of macOS, whose syllables are two
        # or three letters of three bytes, would be unknown. sentencepiece puts it together.
        from tokenizers import normalizers

        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), tokenizer.normalizer])
    return str(tokenizer.to_str())
