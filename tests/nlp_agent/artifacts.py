"""Small artifacts as a builder would leave them in the store, made in milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Counts characters and echoes the text. The greeting tells versions apart; some texts make it
# misbehave on purpose.
MODEL = """
import os
import time
import numpy as np
import triton_python_backend_utils as pb_utils

GREETING = {greeting!r}


class TritonPythonModel:
    def initialize(self, args):
        wrong = {right_only_as!r} not in ("", args["model_name"])
        self.held = [b"x" * 2**20 for _ in range({holds_mebibytes!r})]
        time.sleep({start_seconds!r})
        if {only_first_in!r}:
            try:
                open(os.path.join({only_first_in!r}, "first"), "x").close()
            except FileExistsError:
                time.sleep({later_seconds!r})
                raise RuntimeError("no memory for a second one")
        self.error = 1 if wrong else 0
        if {dies_at_load!r}:
            os.kill(os.getpid(), 9)
        if {ends_triton!r}:
            os.kill(os.getppid(), 9)
            time.sleep(60)
        if {fails_to_start!r}:
            raise RuntimeError("the weights are of another shape")

    def execute(self, requests):
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            rows = [text.decode("utf-8") for text in texts[:, 0]]
            if len(rows) >= {dies_from_rows!r}:
                os._exit(1)
            for row in rows:
                if row.startswith("hold "):
                    self.held = bytearray(os.urandom(4096) * (256 * int(row[5:])))
                if row == "die":
                    os._exit(1)
                if row.startswith("sleep "):
                    time.sleep(float(row[6:]))
            lengths = np.array([[len(row) + self.error] for row in rows], dtype=np.int32)
            halves = np.array([[len(row) / 2] for row in rows], dtype=np.float32)
            echoes = np.array([[(GREETING + row).encode("utf-8")] for row in rows], dtype=np.object_)
            responses.append(pb_utils.InferenceResponse(output_tensors=[
                pb_utils.Tensor("length", lengths),
                pb_utils.Tensor("half", halves),
                pb_utils.Tensor("echo", echoes),
            ]))
        return responses
"""

CONFIG = """
backend: "python"
default_model_filename: "model.py"
max_batch_size: 8
input [{ name: "text" data_type: TYPE_STRING dims: [1] }]
output [
  { name: "length" data_type: TYPE_INT32 dims: [1] },
  { name: "half" data_type: TYPE_FP32 dims: [1] },
  { name: "echo" data_type: TYPE_STRING dims: [1] }
]
instance_group [{ kind: KIND_CPU count: 1 }]
dynamic_batching { }
"""


def make_example(text: str, greeting: str = "", **changed: Any) -> dict[str, Any]:
    outputs = {"length": len(text), "half": len(text) / 2, "echo": greeting + text} | changed
    return {
        "name": f"echo of {text}",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}],
        "outputs": [
            {"name": "length", "datatype": "INT32", "shape": [1, 1], "data": [outputs["length"]]},
            {
                "name": "half",
                "datatype": "FP32",
                "shape": [1, 1],
                "data": [outputs["half"]],
                "absoluteTolerance": 1e-5,
                "relativeTolerance": 1e-5,
            },
            {"name": "echo", "datatype": "BYTES", "shape": [1, 1], "data": [outputs["echo"]]},
        ],
    }


def make_artifact(
    store: Path,
    *,
    greeting: str = "",
    examples: list[dict[str, Any]] | None = None,
    fails_to_start: bool = False,
    ends_triton: bool = False,
    right_only_as: str = "",
    start_seconds: float = 0,
    holds_mebibytes: int = 0,
    dies_from_rows: int = 1000,
    dies_at_load: bool = False,
    only_first_in: str = "",
    later_seconds: float = 0,
    targets: tuple[str, ...] = ("cpu-2.51", "cpu-2.70"),
    config: str = CONFIG,
) -> str:
    """Write an artifact into `store` and give its digest."""
    examples = (
        [make_example("막걸리", greeting), make_example("plain", greeting)] if examples is None else examples
    )
    files = {
        "1/model.py": MODEL.format(
            greeting=greeting,
            fails_to_start=fails_to_start,
            ends_triton=ends_triton,
            right_only_as=right_only_as,
            start_seconds=start_seconds,
            holds_mebibytes=holds_mebibytes,
            dies_from_rows=dies_from_rows,
            dies_at_load=dies_at_load,
            only_first_in=only_first_in,
            later_seconds=later_seconds,
        ),
        "contract.json": json.dumps({"version": 1}),
        "metrics.json": json.dumps({"metrics": {}}),
        "examples.json": json.dumps({"version": 1, "examples": examples}, ensure_ascii=False),
    } | {f"configs/{target}.pbtxt": config for target in targets}
    return write_artifact(store, {path: content.encode() for path, content in files.items()})


def write_artifact(store: Path, files: Mapping[str, bytes]) -> str:
    entries = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(files.items(), key=lambda item: item[0].encode())
    ]
    lines = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in entries)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    folder = store / "artifacts" / digest
    manifest = {"version": 1, "digest": digest, "architecture": "Echo", "key": "0" * 64, "files": entries}
    for path, content in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return digest
