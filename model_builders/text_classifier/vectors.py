"""The word vectors of another model: the input `vectors`, an artifact of Word2Vec (transfer)."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model_builders.artifact import VERSION_FOLDER
from model_builders.artifact_inputs import check_settings, read_vocabulary, unreadable
from model_builders.served.words import Settings
from model_builders.source import Source
from model_builders.text_classifier.parameters import WHERE


def read_artifact(source: Source, settings: Settings) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Terms (V) and vectors (V, D). Raises Refused when texts would be cut into other words than there."""
    terms, theirs = read_vocabulary(source)
    try:
        constants = onnx.load(str(source.folder / VERSION_FOLDER / "model.onnx")).graph.initializer
        vectors = numpy_helper.to_array(next(one for one in constants if one.name == "vectors"))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise unreadable(source, "vectors", error) from error
    check_settings(WHERE, settings, source, theirs, "vectors were")
    return terms, np.asarray(vectors, dtype=np.float32)
