"""What the agent says of GPUs, held against a real one: `make check-gpu`, for machines that have one.

    python -m benchmarks.gpu --json build/gpu.json

Written on machines without a GPU and not run on one yet, so that whoever has one can see in a minute what the
documents leave open (operator/nlp_agent/devices.py): whether the driver names processes by the numbers that
they have here, whether a model on the CPU is refused, and whether memory comes back.

Two small models are served by the real Triton and agent. One takes memory on its device through the driver's
own interface, by ctypes, so no framework is needed; the other never opens the driver. Then a model of our
builders is, whose graph ONNX Runtime computes, from the packages of the image of production: it needs CUDA 13
and cuDNN 9 where the loader finds them. Ends with 0 when all is as the agent says, with 1 when something is
not, and with 7 where this machine has no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localcluster.serving_env import TRITON_VERSION
from nlp_agent.device_check import why_too_few
from nlp_agent.devices import Device, Devices
from nlp_agent.errors import DevicesUnknown
from tests.model_builders.made import make_jobs, request_of_build
from tests.model_builders.torch_jobs import fetch
from tests.nlp_agent.artifacts import CONFIG, make_example, write_artifact
from tests.nlp_agent.running import RunningAgent, make_wanted, running_agent, wait_until

NO_GPU = 7
"""As `nlpctl cluster up` where this machine cannot do it."""
MEBIBYTE = 1024 * 1024
TAKEN = 256 * MEBIBYTE
"""What the model that computes takes on its device."""
ROOM = 64 * MEBIBYTE
"""How far memory in use may be from what it was: the driver keeps a little for itself. A guess."""

ANSWER = '''
import ctypes
import numpy as np
import triton_python_backend_utils as pb_utils


def check(code):
    if code:
        raise RuntimeError(f"The driver of the GPU says {{code}}.")


class TritonPythonModel:
    def initialize(self, args):
        self.memory = None
        if not {computes!r}:
            return
        self.driver = ctypes.CDLL("libcuda.so.1")
        device, self.context, self.memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        check(self.driver.cuInit(0))
        check(self.driver.cuDeviceGet(ctypes.byref(device), int(args["model_instance_device_id"])))
        check(self.driver.cuDevicePrimaryCtxRetain(ctypes.byref(self.context), device))
        check(self.driver.cuCtxSetCurrent(self.context))
        check(self.driver.cuMemAlloc_v2(ctypes.byref(self.memory), ctypes.c_size_t({taken!r})))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
        rows = [text.decode("utf-8") for text in texts[:, 0]]
        return pb_utils.InferenceResponse(output_tensors=[
            pb_utils.Tensor("length", np.array([[self.length(row)] for row in rows], dtype=np.int32)),
            pb_utils.Tensor("half", np.array([[len(row) / 2] for row in rows], dtype=np.float32)),
            pb_utils.Tensor("echo", np.array([[row.encode("utf-8")] for row in rows], dtype=np.object_)),
        ])

    def length(self, row):
        """By way of the device: its memory is filled with the number, and a byte of it read."""
        if self.memory is None:
            return len(row)
        found = ctypes.c_ubyte()
        check(self.driver.cuCtxSetCurrent(self.context))
        check(self.driver.cuMemsetD8_v2(self.memory, ctypes.c_ubyte(len(row)), ctypes.c_size_t({taken!r})))
        check(self.driver.cuMemcpyDtoH_v2(ctypes.byref(found), self.memory, ctypes.c_size_t(1)))
        return found.value

    def finalize(self):
        if self.memory is not None:
            self.driver.cuMemFree_v2(self.memory)
'''


VECTORS = "왕 1 0 0\n소녀 0 1 0\n소년 0 0.8 0.6\n"
"""Of three words."""
OURS = TRITON_VERSION.rpartition(".")[0]


@dataclass(frozen=True)
class Finding:
    what: str
    holds: bool
    said: str


def make_model(store: Path, *, computes: bool) -> str:
    """Write the artifact into `store` and give its digest."""
    config = CONFIG.replace("KIND_CPU", "KIND_GPU")
    examples = {"version": 1, "examples": [make_example("막걸리"), make_example("plain")]}
    files = {
        "1/model.py": ANSWER.format(computes=computes, taken=TAKEN),
        "examples.json": json.dumps(examples, ensure_ascii=False),
        f"configs/gpu-{OURS}.pbtxt": config,
    }
    return write_artifact(store, {path: content.encode() for path, content in files.items()})


def make_graph(folder: Path, store: Path) -> str:
    """Build word vectors by the real Jobs, write them into `store` and give their digest.

    Builders' artifacts are for the GPUs of the full Triton. Its configuration has nothing that ours would
    not take, so ours is given the same.
    """
    jobs = make_jobs(folder)
    ran = jobs.run("build", request_of_build(fetch(jobs, vectors=VECTORS), "Word2Vec"))
    if ran.code != 0:
        raise RuntimeError(f"The Job that builds the model ended with {ran.code}.\n{ran.log}")
    artifact = jobs.store / "artifacts" / str(ran.result["digest"])
    files = {
        str(path.relative_to(artifact)): path.read_bytes() for path in artifact.rglob("*") if path.is_file()
    }
    files.pop("manifest.json")
    files[f"configs/gpu-{OURS}.pbtxt"] = files["configs/gpu-2.70.pbtxt"]
    return write_artifact(store, files)


# -- what follows from the agent's reports, pure -------------------------------------------------------------


def judge_models(computing: dict[str, Any], pretending: dict[str, Any], devices: int) -> list[Finding]:
    """Of two models on a server of so many devices, one of which computes on each of them."""
    held = computing["memory"]["devices"]
    enough = [one for one in held if one["bytes"] >= TAKEN]
    estimated = any(one["estimated"] for one in held)
    return [
        Finding(
            "a model that computes on the GPU serves",
            computing["state"] == "Serving",
            computing["message"] or f"{computing['memory']['processes']} processes",
        ),
        Finding(
            "a model that does not is refused",
            (pretending["state"], pretending["reason"]) == ("Quarantined", "RunsOnCpu"),
            pretending["message"] or f"it is {pretending['state']}",
        ),
        Finding(
            f"its memory is seen on {devices} of the devices",
            len(enough) >= devices,
            ", ".join(f"{one['uuid']}: {one['bytes'] / MEBIBYTE:.0f} MiB" for one in held) or "nowhere",
        ),
        Finding(
            "the driver names processes by the numbers they have here",
            True,  # a fact, whichever way it is
            ("no: what models hold is estimated" if estimated else "yes") if held else "nothing was held",
        ),
    ]


def judge_graph(report: dict[str, Any]) -> Finding:
    return Finding(
        "a graph of our builders computes there and serves",
        report["state"] == "Serving",
        report["message"] or "by ONNX Runtime",
    )


def judge_unload(before: Sequence[Device], after: Sequence[Device]) -> Finding:
    left = {device.uuid: device.used - was.used for was, device in zip(before, after, strict=True)}
    return Finding(
        "memory comes back after an unload",
        all(number <= ROOM for number in left.values()),
        ", ".join(f"{uuid}: {number / MEBIBYTE:+.0f} MiB" for uuid, number in left.items()),
    )


def tell_profile(profile: dict[str, Any] | None) -> Finding:
    batches = profile["batches"] if profile else []
    said = ", ".join(
        f"{one['rows']} rows {one['medianSeconds'] * 1e3:.2f} ms, {one['rowsPerSecond']:,.0f} rows/s"
        for one in batches
        if one["inFlight"] == 1
    )
    return Finding("its profile was measured", bool(batches), said or "there is none")


# -- the run -------------------------------------------------------------------------------------------------


def run(devices: Sequence[Device]) -> list[Finding]:
    findings: list[Finding] = []
    for count in range(1, min(len(devices), 2) + 1):
        with running_agent(NLP_MEASURE_SECONDS="0.5", NLP_FIRST_RETRY_SECONDS="300") as agent:
            findings += check_server(agent, count)
    with running_agent(NLP_MEASURE_SECONDS="0.5", NLP_FIRST_RETRY_SECONDS="300") as agent:
        findings.append(check_graph(agent))
    return findings


def check_graph(agent: RunningAgent, device: str = "gpu") -> Finding:
    """The agent asks it the questions that it was built with, before it serves."""
    agent.gpus = True
    (folder := agent.root / "jobs").mkdir()
    agent.want(make_wanted("vectors", make_graph(folder, agent.store)), device=device)
    agent.start()
    wait_until("it is decided", lambda: decided(agent.model("vectors")))
    return judge_graph(agent.model("vectors"))


def check_server(agent: RunningAgent, count: int) -> list[Finding]:
    looking = Devices(os.environ.get("NVIDIA_VISIBLE_DEVICES", ""))
    before = looking.look()
    computes = make_wanted("computes", make_model(agent.store, computes=True), profile=True)
    pretends = make_wanted("pretends", make_model(agent.store, computes=False))
    agent.want(computes, pretends, device="gpu", devices=count)
    agent.start()
    names = ("computes", "pretends")
    wait_until("both are decided", lambda: all(decided(agent.model(name)) for name in names))
    if agent.model("computes")["state"] == "Serving":
        agent.wait_ready()
        wait_until("its memory is measured", lambda: agent.model("computes")["memory"]["devices"])
    found = judge_models(agent.model("computes"), agent.model("pretends"), count)
    found.append(tell_profile(agent.model("computes")["profile"]))
    agent.want(device="gpu", devices=count)
    wait_until("both are gone", lambda: agent.children("triton_python_backend_stub") == [])
    return [*found, judge_unload(before, looking.look())]


def decided(model: dict[str, Any]) -> bool:
    return model.get("state") in ("Serving", "Quarantined")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the findings are written, too")
    options = parser.parse_args(arguments)
    try:
        devices = Devices(os.environ.get("NVIDIA_VISIBLE_DEVICES", "")).look()
        fault = why_too_few(devices, 1)
    except DevicesUnknown as unknown:
        fault = str(unknown)
    if fault:
        print(f"This machine has no GPU to check. {fault}", file=sys.stderr)
        return NO_GPU
    findings = run(devices)
    for one in findings:
        print(f"{'ok' if one.holds else 'NOT':4} {one.what}: {one.said}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "devices": [asdict(one) for one in devices],
            "findings": [asdict(one) for one in findings],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one.holds for one in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
