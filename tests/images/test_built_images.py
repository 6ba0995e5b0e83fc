"""The real images, built here, started by a real containerd as pods start them: not root, root read-only."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcluster import debian
from localcluster.containerd import make_config
from localcluster.debian import Unpacked
from localcluster.errors import NotPossible
from localcluster.images import TARGETS, ImageRef, build_images
from localcluster.node import DEBIAN_PACKAGES, DEBIAN_PROGRAMS
from localcluster.ports import Ports
from localcluster.progress import Progress
from tests.nlp_agent.artifacts import make_artifact

pytestmark = [pytest.mark.node, pytest.mark.timeout(1200)]  # a first build downloads Debian and Triton

PATIENCE_SECONDS = 60.0


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"Not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def built() -> dict[str, ImageRef]:
    try:
        return build_images(tuple(TARGETS), Progress())
    except NotPossible as reason:
        pytest.skip(str(reason))


@dataclass
class Containers:
    """A containerd of its own, in namespaces that end with it."""

    folder: Path
    programs: Unpacked

    def ctr(self, *arguments: str) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        program = self.programs.find("ctr")
        assert program is not None
        return [str(program), "--address", str(self.folder / "socket"), "--namespace", "k8s.io", *arguments]

    def run_command(self, reference: str, name: str, *options: str) -> list[str]:
        """As the image's user, the root read-only, no capability beyond what an ordinary user has."""
        # A control group of its own would outlive the containerd that made it.
        own = ("--cgroup", "", "--read-only")
        return self.command("run", "--rm", *own, *options, reference, name)

    def run(self, reference: str, *words: str) -> str:
        command = self.run_command(reference, f"run-{time.monotonic_ns()}")
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def containers(built: dict[str, ImageRef]) -> Iterator[Containers]:
    programs = debian.unpack(DEBIAN_PACKAGES, DEBIAN_PROGRAMS, Progress())
    containerd, crun = programs.find("containerd"), programs.find("crun")
    assert containerd is not None
    assert crun is not None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text = make_config(root=folder / "root", sandbox_image="none", crun=crun, cni_bin=folder)
        # Only the part that pods do not need here differs from the node's containerd.
        text = re.sub(r"(?m)^address = .*$", f"address = {json.dumps(str(folder / 'socket'))}", text)
        text = re.sub(r"(?m)^state = .*$", f"state = {json.dumps(str(folder / 'state'))}", text)
        text = text.replace("disabled_plugins = [", 'disabled_plugins = [\n  "io.containerd.grpc.v1.cri",')
        (folder / "config.toml").write_text(text)
        apart = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*apart, str(containerd), "--config", str(folder / "config.toml")],
                env={**os.environ, **programs.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            found = Containers(folder, programs)
            wait_until("containerd listens", (folder / "socket").exists)
            for image in built.values():
                found.ctr("images", "import", str(image.archive))
            yield found
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def test_a_second_build_with_nothing_changed_takes_under_a_second() -> None:
    built = build_images()
    progress = Progress(quiet=True)
    started = time.monotonic()
    assert build_images(progress=progress) == built
    assert time.monotonic() - started < 1.0
    assert progress.steps == []


def test_a_build_leaves_no_mount_behind(built: dict[str, ImageRef]) -> None:
    folder = str(built["operator"].archive.parent)
    assert folder not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("name", TARGETS)
def test_containerd_knows_the_image_by_the_name_a_pod_writes(
    built: dict[str, ImageRef], containers: Containers, name: str
) -> None:
    assert built[name].reference in containers.ctr("images", "list", "--quiet").split()


@pytest.mark.parametrize(
    ("name", "uid", "modules", "absent"),
    [
        pytest.param(
            "operator",
            "65532",
            "kopf kubernetes nlp_operator nlp_activator",
            "torch numpy nlp_agent",
            id="operator",
        ),
        pytest.param(
            "builder", "1000", "onnx onnxruntime model_builders", "torch kubernetes kopf", id="builder"
        ),
        pytest.param(
            "serving", "1000", "onnxruntime tokenizers nlp_agent", "kubernetes nlp_operator", id="serving"
        ),
    ],
)
def test_an_image_holds_its_own_packages_and_no_others(
    built: dict[str, ImageRef], containers: Containers, name: str, uid: str, modules: str, absent: str
) -> None:
    program = (
        "import getpass, importlib.util, os, sys\n"
        "for name in sys.argv[1].split(): __import__(name)\n"
        "found = [name for name in sys.argv[2].split() if importlib.util.find_spec(name)]\n"
        "print(os.getuid(), getpass.getuser(), found)"
    )
    answer = containers.run(built[name].reference, "python3", "-c", program, modules, absent)
    assert answer.strip() == f"{uid} nlp []"


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_tells_nothing_of_the_machine_that_built_it(
    built: dict[str, ImageRef], containers: Containers, name: str
) -> None:
    mirrors = {
        line.split("/")[2]
        for line in subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        if "://" in line
    }
    assert mirrors
    patterns = [word for host in sorted(mirrors) for word in ("-e", host)]
    script = 'test ! -e /run/secrets && ! grep -rIlsF "$@" /etc /var /opt/app /run && cat /etc/resolv.conf'
    # The list of packages names their home pages, for which some mirrors are called.
    script = script.replace("/var", "/var/log /var/cache /var/lib/apt")
    answer = containers.run(
        built[name].reference, "sh", "-c", f"{script} 2>/dev/null || true", "sh", *patterns
    )
    assert answer == ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_program_finds_its_byte_code_made(
    built: dict[str, ImageRef], containers: Containers, name: str
) -> None:
    # Files of torch that are for newer Pythons only cannot be compiled by this one.
    script = """
import importlib.util, pathlib
sources = [path for root in ("/opt/app", "/opt/nlp/lib") for path in pathlib.Path(root).rglob("*.py")]
assert sources
for path in sources:
    if "/py31" not in str(path) and not pathlib.Path(importlib.util.cache_from_source(str(path))).exists():
        print(path)
"""
    assert containers.run(built[name].reference, "python3", "-c", script) == ""


def test_the_builder_image_describes_its_architectures(
    built: dict[str, ImageRef], containers: Containers
) -> None:
    answer = containers.run(built["builder"].reference, "python3", "-m", "model_builders", "contracts")
    assert "TermDocumentMatrix" in answer


def test_the_operator_image_starts_the_operator(built: dict[str, ImageRef], containers: Containers) -> None:
    answer = containers.run(built["operator"].reference, "python3", "-m", "nlp_operator", "--help")
    assert "NLP_OPERATOR_" in answer


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()  # ctr hands signals on to the container's process 1
        process.wait(PATIENCE_SECONDS)


def answers_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def post(url: str, body: Mapping[str, object]) -> dict[str, object]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_the_serving_image_answers_with_a_model_out_of_the_store(
    built: dict[str, ImageRef], containers: Containers, tmp_path: Path
) -> None:
    """Agent, Triton and Envoy of the image, as in a pod; the ports are others, for tests side by side."""
    store, config = tmp_path / "store", tmp_path / "etc"
    config.mkdir()
    digest = make_artifact(store)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    model = {"name": "echo", "digest": digest, "maxBatchSize": 8, "instances": 1}
    place = {"server": "s", "namespace": "n", "pool": "cpu", "device": "cpu", "devices": 1}
    (config / "server.json").write_text(json.dumps({"version": 1, **place, "models": [model]}))
    ports = Ports()
    http_port, grpc, metrics, agent = (ports.take() for _ in range(4))
    settings = {
        "NLP_SERVER_CONFIG": "/etc/nlp/server.json",
        "NLP_STORE": "/store",
        "NLP_WORK": "/work",
        "NLP_LISTEN_ADDRESS": "127.0.0.1",
        "NLP_HTTP_PORT": str(http_port),
        "NLP_GRPC_PORT": str(grpc),
        "NLP_METRICS_PORT": str(metrics),
        "NLP_AGENT_PORT": str(agent),
        "NLP_DRAIN_DELAY_SECONDS": "0.1",
    }
    options = ["--net-host"]
    for target in ("/work", "/tmp"):  # the emptyDirs of a server's pod
        options += ["--mount", f"type=tmpfs,src=tmpfs,dst={target},options=mode=1777"]
    for source, target in ((store, "/store"), (config, "/etc/nlp")):
        options += ["--mount", f"type=bind,src={source},dst={target},options=rbind:ro"]
    for name, value in settings.items():
        options += ["--env", f"{name}={value}"]
    log = tmp_path / "log"
    with started(containers.run_command(built["serving"].reference, "serving", *options), log) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            return answers_ok(f"http://127.0.0.1:{agent}/readyz")

        wait_until("the server is ready", ready)
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["막걸리"]}]}
        answer = post(f"http://127.0.0.1:{http_port}/v2/models/echo/infer", body)
        outputs = answer["outputs"]
        assert isinstance(outputs, list)
        assert {output["name"]: output["data"] for output in outputs}["echo"] == ["막걸리"]
    assert process.returncode == 0, log.read_text()[-3000:]
