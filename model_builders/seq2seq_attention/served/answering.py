"""From a text to its translation: this file is copied into every artifact.

Everything but the artifact's files is shared with the other translators: translating.py (texts and tokens)
and search.py (the loop over the words).
"""

import json
from pathlib import Path
from typing import Any

from model_builders.served.translating import Answering, OnnxDecoder, Question, read_subwords, tensors
from model_builders.served.vectors import CPU

__all__ = ["Answering", "Question", "load", "tensors"]


def load(folder: Path, threads: int = 1, providers: tuple[Any, ...] = CPU) -> Answering:
    """Answering from the version folder of an artifact."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    source, target = (read_subwords(folder / f"{side}.json") for side in ("source", "target"))
    decoder = OnnxDecoder(folder, threads, providers)
    return Answering(source, target, decoder, settings["maxTokens"])
