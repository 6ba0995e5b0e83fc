"""The vectors as an ONNX graph: sums of words and their similarity with all others, without torch.

    words, signs (N, K) ──Gather, sum──> combined (N, D) ──Gemm──> similarities (N, V)
    words[:, 0] ─────────Gather────────> first (N, D)

The file holds the vectors once, as they were trained; their lengths divide what is computed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from model_builders.graphs import TINY, make_model


def build_graph(vectors: NDArray[np.float32]) -> ModelProto:
    """Shapes: vectors (V, D); see the picture above. N and K are free. Raises onnx's ValidationError."""
    terms, dimensions = vectors.shape
    inverse = inverse_norms(vectors)
    constants: dict[str, NDArray[Any]] = {
        "vectors": vectors,  # (V, D)
        "inverse_column": inverse[:, np.newaxis],  # (V, 1)
        "inverse_row": inverse[np.newaxis, :],  # (1, V)
        "zero": np.array(0, dtype=np.int64),
        "words_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([2], dtype=np.int64),
        "tiny": np.array(TINY, dtype=np.float32),
        "lowest": np.array(-1, dtype=np.float32),
        "highest": np.array(1, dtype=np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["vectors", "words"], ["of_words"], axis=0),  # (N, K, D)
        node("Gather", ["inverse_column", "words"], ["inverse_of_words"], axis=0),  # (N, K, 1)
        node("Unsqueeze", ["signs", "last_axis"], ["signs_turned"]),  # (N, K, 1)
        node("Mul", ["inverse_of_words", "signs_turned"], ["shares"]),  # (N, K, 1)
        node("Mul", ["of_words", "shares"], ["parts"]),  # (N, K, D)
        node("ReduceSum", ["parts", "words_axis"], ["sum"], keepdims=0),  # (N, D)
        node("ReduceL2", ["sum"], ["length"], axes=[1], keepdims=1),  # (N, 1)
        node("Max", ["length", "tiny"], ["divisor"]),  # (N, 1)
        node("Div", ["sum", "divisor"], ["combined"]),  # (N, D)
        node("Gemm", ["combined", "vectors"], ["products"], transB=1),  # (N, V)
        node("Mul", ["products", "inverse_row"], ["cosines"]),  # (N, V)
        node("Clip", ["cosines", "lowest", "highest"], ["similarities"]),  # (N, V)
        node("Gather", ["words", "zero"], ["first_words"], axis=1),  # (N,)
        node("Gather", ["vectors", "first_words"], ["first"], axis=0),  # (N, D)
    ]
    return make_model(
        "word_vectors",
        nodes,
        [
            helper.make_tensor_value_info("words", TensorProto.INT64, ["N", "K"]),
            helper.make_tensor_value_info("signs", TensorProto.FLOAT, ["N", "K"]),
        ],
        [
            helper.make_tensor_value_info("first", TensorProto.FLOAT, ["N", dimensions]),
            helper.make_tensor_value_info("combined", TensorProto.FLOAT, ["N", dimensions]),
            helper.make_tensor_value_info("similarities", TensorProto.FLOAT, ["N", terms]),
        ],
        constants,
    )


def inverse_norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 over the length of each vector, 0 of a zero vector. Shapes: (V, D) -> (V,)."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    inverse: NDArray[np.float64] = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse.astype(np.float32)
