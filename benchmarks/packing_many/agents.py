"""Agents that measure what each model of the mixture takes. A process of its own; see `tests.faults.agents`.

python -m benchmarks.packing_many.agents --kubeconfig FILE
"""

from __future__ import annotations

from benchmarks.packing_many.mixture import NODES, mixed, number_of
from tests.faults.agents import main
from tests.faults.plain_api import Obj

MIB = 2**20
SERVER = {"agentBytes": 50 * MIB, "envoyBytes": 40 * MIB, "tritonBaseBytes": 26 * MIB}


def measured(report: Obj, pod: Obj) -> Obj:
    """The report of a pod with memory in it, of devices where its pool has such."""
    on_devices = bool(NODES[pod["labels"]["nlp-operator.io/pool"]].devices)
    models = [{**one, "memory": memory_of(one["name"], on_devices)} for one in report["models"]]
    return {**report, "memory": SERVER, "models": models}


def memory_of(model: str, on_devices: bool) -> Obj:
    takes = mixed(number_of(model)).takes_mebibytes * MIB
    if on_devices:
        return {"privateBytes": 60 * MIB, "devices": [{"uuid": "GPU-0", "bytes": takes}]}
    return {"privateBytes": takes}


if __name__ == "__main__":
    main(measured)
