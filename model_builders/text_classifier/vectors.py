"""The word vectors of another model: the input `vectors`, an artifact of Word2Vec (transfer)."""

import json

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model_builders.artifact import VERSION_FOLDER
from model_builders.errors import Refused
from model_builders.served.words import Settings
from model_builders.source import Source
from model_builders.text_classifier.parameters import WHERE


def read_artifact(source: Source, settings: Settings) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Terms (V) and vectors (V, D). Raises Refused when texts would be cut into other words than there."""
    folder = source.folder / VERSION_FOLDER
    try:
        terms = tuple(json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))
        theirs = Settings.of(json.loads((folder / "settings.json").read_text(encoding="utf-8")))
        constants = onnx.load(str(folder / "model.onnx")).graph.initializer
        vectors = numpy_helper.to_array(next(one for one in constants if one.name == "vectors"))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise Refused(
            "InputInvalid",
            f"Input {source.name!r} is an artifact without vectors that this builder can read ({error}). "
            "Build "
            "that model again with the present release.",
        ) from error
    differing = [
        f"{WHERE}.{name} is {mine}, but the vectors of input {source.name!r} were made with {other}"
        for name, mine, other in (
            ("tokenizer", settings.tokenizer, theirs.tokenizer),
            ("caseFolding", settings.case_folding, theirs.case_folding),
        )
        if mine != other
    ]
    if differing:
        raise Refused("ParameterInvalid", f"{'; '.join(differing)}. Set the same here.")
    return terms, np.asarray(vectors, dtype=np.float32)
