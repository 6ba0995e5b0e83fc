"""The demo where no real pod can run: API server and operator are real, nodes are kwok's.

Jobs and servers are then only objects, so the demo shows what the operator decides and writes, and says
what did not run. No answer is asked for, because there is nobody who could give one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localcluster.cluster import Cluster
from localcluster.demo.commands import ROOT, DemoFailed, until
from localcluster.demo.flow import CALM, OPERATOR, OPERATOR_NAMESPACE, Demo
from localcluster.ports import Ports
from localcluster.processes import plain_environment

DID_NOT_RUN = (
    "images",
    "fetch and build Jobs",
    "Triton",
    "questions and answers",
)


def partial(demo: Demo, access: Cluster) -> list[str]:
    """What can be shown here; the parts that did not run."""
    commands, progress = demo.commands, demo.progress
    with progress.step("operator's rights and CRDs applied with kubectl"):
        commands.kubectl("apply", "-k", ROOT / "manifests" / "default")
        # There is no node on which its pod could run: it runs as a process, with the rights of its account.
        commands.kubectl("scale", "-n", OPERATOR_NAMESPACE, f"deployment/{OPERATOR}", "--replicas=0")
    access.add_kwok_nodes(1)
    with operator_process(access) as alive:
        with progress.step("sample applied, operator made its fetch Job"):
            demo.apply_sample(CALM)
            until(
                "the operator made a fetch Job",
                60,
                lambda: alive() and bool(commands.read("-n", CALM, "jobs")["items"]),
            )
        for line in commands.kubectl("get", "-n", CALM, "nlp,jobs").splitlines():
            progress.say(f"      {line}")
    progress.say(f"Did not run, for want of a real node: {', '.join(DID_NOT_RUN)}.")
    for reason in access.node_reasons:
        progress.say(f"  - {reason}")
    if not access.started_here:
        progress.say(
            "  - The cluster ran already. `make cluster-down` ends it; the demo then starts its own."
        )
    return list(DID_NOT_RUN)


@contextmanager
def operator_process(access: Cluster) -> Iterator[Callable[[], bool]]:
    """The operator as a process of this machine; gives a check that raises when it has ended."""
    log = access.folder / "operator.log"
    ports = Ports()
    command = [sys.executable, "-m", "nlp_operator", "--listen-address", "127.0.0.1"]
    command += ["--health-port", str(ports.take()), "--metrics-port", str(ports.take())]
    command += ["--kubeconfig", str(access.kubeconfig_for(f"{OPERATOR_NAMESPACE}/{OPERATOR}"))]
    # No pod runs here, so it does not matter that nobody has these images.
    command += ["--builder-image", "builder:none", "--serving-image", "serving:none"]
    command += ["--identity", "demo", "--lease-namespace", OPERATOR_NAMESPACE]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT / "operator", env=plain_environment(), stdout=sink, stderr=sink
        )

    def alive() -> bool:
        if process.poll() is not None:
            raise DemoFailed(f"The operator ended with code {process.returncode}: {log.read_text()[-2000:]}")
        return True

    try:
        yield alive
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ports.release()
