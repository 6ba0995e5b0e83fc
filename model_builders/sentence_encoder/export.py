"""Writes the encoder as ONNX, and again with 8-bit weights: the same weights give the same bytes."""

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model_builders.errors import Refused
from model_builders.onnx_export import export_graph, forget_where_it_came_from
from model_builders.quality import as_text
from model_builders.sentence_encoder.served.answering import OnnxEncoder
from model_builders.served.vectors import Floats

logger = logging.getLogger(__name__)


def export_onnx(encoder: Any, path: Path) -> None:
    """Write `encoder` (torch) with free batch and length. Raises Refused (`InputTooLarge`)."""
    import torch

    # Two and three are no special sizes; one would be taken for "always one".
    input_ids = torch.ones((2, 3), dtype=torch.int64)
    free = {0: "batch", 1: "tokens"}
    inputs = {"input_ids": (input_ids, free), "attention_mask": (torch.ones_like(input_ids), free)}
    export_graph(encoder, inputs, ["sentence_embedding"], path)


def quantize(source: Path, target: Path) -> None:
    """Write `source` with the weights of its matrix products in 8 bits, a scale for each column.

    Activations are brought to 8 bits at run time. Weights are unsigned: on processors without VNNI sums of
    signed products overflow and are cut (measured on MiniLM: worst cosine 0.964 instead of 0.980).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises to preprocess through the root logger, which is ours
    try:
        # Its scratch files go beside the target: the store is writable, /tmp may be small.
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            written = Path(scratch) / "model.onnx"
            quantize_dynamic(
                source,
                written,
                per_channel=True,
                weight_type=QuantType.QUInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
            )
            model = onnx.load(written)
    finally:
        root.setLevel(level)
    forget_where_it_came_from(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


SPEED_ROUNDS = 7
SPEED_SHAPES = ((8, 16), (1, 16), (4, 64))
"""Rows and tokens of the passes that are timed: what short questions and paragraphs make."""


def measure_speedup(slow: Path, fast: Path, vocab_size: int) -> float:
    """How many times less processor time `fast` takes.

    One thread, in turns, the least of several rounds each: what others do on the machine cancels out.
    """
    encoders = [OnnxEncoder(path) for path in (slow, fast)]
    choice = np.random.default_rng(0)
    total = [0.0, 0.0]
    for shape in SPEED_SHAPES:
        input_ids = choice.integers(0, vocab_size, shape, dtype=np.int64)
        mask = np.ones_like(input_ids)
        least = [float("inf")] * 2
        for _ in range(SPEED_ROUNDS):
            for which, encoder in enumerate(encoders):
                started = time.thread_time()
                encoder(input_ids, mask)
                least[which] = min(least[which], time.thread_time() - started)
        total = [before + now for before, now in zip(total, least, strict=True)]
    return total[0] / total[1]


def compare_lossy(eager: Floats, found: Floats, at_least: float) -> float:
    """The largest difference of 8-bit vectors from the eager ones.

    Raises Refused (`ExportDiffers`) when their worst cosine is below the fidelity that was asked for.
    """
    cosine = worst_cosine(eager, found)
    if not cosine >= at_least:
        raise Refused(
            "ExportDiffers",
            f"In a fresh process the 8-bit model keeps a cosine of {as_text(cosine)} only; at least "
            f"{as_text(at_least)} was asked for. Lower spec.build.export.fidelity.atLeast, or set "
            "spec.build.export.precision to Float32.",
        )
    return float(np.max(np.abs(eager - found)))


def worst_cosine(vectors: Floats, others: Floats) -> float:
    """The smallest cosine of a row with the row of the same place."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    return float(np.min(np.sum(vectors * others, axis=1) / norms))
