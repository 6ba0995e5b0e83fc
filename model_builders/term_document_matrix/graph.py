"""The matrix as an ONNX graph: every question of a batch in one run, without torch.

    term_counts (N, V) ──weigh──┐
    document_index (N) ──Gather─┴─Where─> document_vectors (N, V) ──cosine─> document_similarities (N, D)
    word_index (N) ──────Gather─────────> word_vectors (N, D) ──────cosine─> word_similarities (N, V)

An index of V (or D) means "none": the file holds the matrix once, with a row and a column of zeros after the
last, and an index of "none" finds those.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from model_builders.graphs import TINY, make_model
from model_builders.term_document_matrix.matrix import TermDocumentMatrix


def build_graph(matrix: TermDocumentMatrix) -> ModelProto:
    """Shapes: see the picture above.

    The batch size N is free.

    Weights are 32-bit floats, similarities 64-bit ones. Raises onnx's ValidationError.
    """
    weights = matrix.weights
    terms, documents = weights.shape
    constants: dict[str, NDArray[Any]] = {
        "padded": np.pad(weights, ((0, 1), (0, 1))).astype(np.float32),  # (V + 1, D + 1)
        "row_norms": np.linalg.norm(weights, axis=1)[np.newaxis, :],  # (1, V)
        "column_norms": np.linalg.norm(weights, axis=0)[np.newaxis, :],  # (1, D)
        "no_document": np.array(documents, dtype=np.int64),
        "start": np.array([0], dtype=np.int64),
        "past_terms": np.array([terms], dtype=np.int64),
        "past_documents": np.array([documents], dtype=np.int64),
        "rows_axis": np.array([0], dtype=np.int64),
        "columns_axis": np.array([1], dtype=np.int64),
        "one": np.array(1, dtype=np.float32),
        "lowest": np.array(-1, dtype=np.float64),
        "highest": np.array(1, dtype=np.float64),
        "tiny": np.array(TINY, dtype=np.float64),
        "idf": matrix.idf[np.newaxis, :].astype(np.float32),  # (1, V)
    }
    node = helper.make_node
    if matrix.weighting == "Count":
        weigh = [node("Identity", ["term_counts"], ["folded"])]
    else:
        weigh = [
            node("Max", ["text_length", "one"], ["at_least_one"]),
            node("Div", ["term_counts", "at_least_one"], ["frequencies"]),
            node("Mul", ["frequencies", "idf"], ["folded"])
            if matrix.weighting == "TfIdf"
            else node("Identity", ["frequencies"], ["folded"]),
        ]
    nodes = [
        *weigh,  # (N, V)
        node("Slice", ["padded", "start", "past_documents", "columns_axis"], ["rows"]),  # (V + 1, D)
        node("Slice", ["rows", "start", "past_terms", "rows_axis"], ["word_rows"]),  # (V, D)
        node("Gather", ["rows", "word_index"], ["word_vectors"], axis=0),  # (N, D)
        node("Slice", ["padded", "start", "past_terms", "rows_axis"], ["columns_turned"]),  # (V, D + 1)
        node("Transpose", ["columns_turned"], ["columns"], perm=[1, 0]),  # (D + 1, V)
        node("Slice", ["columns", "start", "past_documents", "rows_axis"], ["document_columns"]),  # (D, V)
        node("Gather", ["columns", "document_index"], ["known"], axis=0),  # (N, V)
        node("Less", ["document_index", "no_document"], ["is_known_flat"]),  # (N,)
        node("Unsqueeze", ["is_known_flat", "columns_axis"], ["is_known"]),  # (N, 1)
        node("Where", ["is_known", "known", "folded"], ["document_vectors"]),  # (N, V)
        *_cosine("word_vectors", "word_rows", "row_norms", "word_similarities"),  # (N, V)
        *_cosine("document_vectors", "document_columns", "column_norms", "document_similarities"),  # (N, D)
    ]
    return make_model(
        "term_document_matrix",
        nodes,
        [
            helper.make_tensor_value_info("term_counts", TensorProto.FLOAT, ["N", terms]),
            helper.make_tensor_value_info("text_length", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("word_index", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("document_index", TensorProto.INT64, ["N"]),
        ],
        [
            helper.make_tensor_value_info("word_vectors", TensorProto.FLOAT, ["N", documents]),
            helper.make_tensor_value_info("document_vectors", TensorProto.FLOAT, ["N", terms]),
            helper.make_tensor_value_info("word_similarities", TensorProto.DOUBLE, ["N", terms]),
            helper.make_tensor_value_info("document_similarities", TensorProto.DOUBLE, ["N", documents]),
        ],
        constants,
    )


def _cosine(vectors: str, others: str, norms_of_others: str, result: str) -> list[Any]:
    """Cosine of each vector with each of the others, 0 with a zero vector, between -1 and 1.

    Shapes: (N, K), (M, K) -> (N, M). In 64-bit floats: over 50,000 terms the sums of 32-bit products were off
    by 2e-5, and differed between batch sizes.
    """
    node, own = helper.make_node, f"{result}__"
    return [
        node("Transpose", [others], [own + "turned"], perm=[1, 0]),  # (K, M)
        node("Cast", [own + "turned"], [own + "others"], to=TensorProto.DOUBLE),  # (K, M)
        node("Cast", [vectors], [own + "vectors"], to=TensorProto.DOUBLE),  # (N, K)
        node("MatMul", [own + "vectors", own + "others"], [own + "products"]),  # (N, M)
        node("ReduceL2", [own + "vectors"], [own + "norms"], axes=[1], keepdims=1),  # (N, 1)
        node("Mul", [own + "norms", norms_of_others], [own + "norm_products"]),  # (N, M)
        node("Max", [own + "norm_products", "tiny"], [own + "divisors"]),  # (N, M)
        node("Div", [own + "products", own + "divisors"], [own + "cosines"]),  # (N, M)
        node("Clip", [own + "cosines", "lowest", "highest"], [result]),  # (N, M)
    ]
