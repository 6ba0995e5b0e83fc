"""What a machine looks like after the cluster: as before. However `up` ended, and whatever ran in it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from localcluster import cgroups, debian, paths
from localcluster import cluster as local
from localcluster.cluster import UpOptions
from localcluster.containerd import write_image
from localcluster.errors import NotPossible
from localcluster.node import DEBIAN_PACKAGES, DEBIAN_PROGRAMS
from localcluster.processes import Processes
from localcluster.progress import Progress
from localcluster.room import find_room

pytestmark = pytest.mark.node

ROOT = Path(__file__).parent.parent.parent

SYSCTLS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""What a kubelet, kube-proxy or a CNI plugin is known to set."""


def look_at_the_machine() -> Mapping[str, object]:
    """Everything a node could leave behind that is not a file of ours or a process."""
    programs = debian.unpack(DEBIAN_PACKAGES, DEBIAN_PROGRAMS)
    environment = {**os.environ, **programs.environment()}
    hierarchies = [root for root, _ in cgroups.parse_mounts(Path("/proc/self/mounts").read_text())]
    return {
        # A mount's number and peer group change from look to look; what is mounted where does not.
        "mounts": sorted(
            line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        "links": re.findall(r"^\d+: ([^:@]+)", _output(["ip", "link"], environment), re.MULTILINE),
        "addresses": _output(["ip", "-brief", "address"], environment),
        "routes": _output(["ip", "route", "show", "table", "all"], environment),
        "rules": _output(["ip", "rule"], environment),
        "nftables": _output(["nft", "list", "ruleset"], environment),
        "control groups": [str(path) for root in hierarchies for path in root.glob("nlp-operator*")]
        + [str(path) for root in hierarchies for path in root.glob("**/kubepods*")],
        "sysctls": {name: _read(Path("/proc/sys") / name) for name in SYSCTLS},
        "network namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "folders": [str(path) for path in map(Path, _HARD_CODED) if path.exists()],
    }


_HARD_CODED = (
    "/run/containerd",
    "/run/crun",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
)
"""Places that a kubelet or containerd cannot be talked out of."""


def _output(argv: list[str], environment: Mapping[str, str]) -> str:
    return subprocess.run(argv, env=dict(environment), capture_output=True, text=True, check=True).stdout


def _read(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def processes_with(word: str) -> list[str]:
    """Command lines of processes that mention `word`, this one apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in line and path.parent.name != str(os.getpid()):
                found.append(line[:200])
    return found


def processes_in_room(namespace: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/pid"):
        with contextlib.suppress(OSError):
            if str(path.readlink()) == namespace:
                found.append(path.parent.parent.name)
    return found


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of our own, by whose name every process of this cluster can be told."""
    if local.find() is not None:
        pytest.fail(
            "A cluster is running; these tests start their own. Run `python -m localcluster down` first."
        )
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path / "nlp-operator/cluster"
    local.down(Progress(quiet=True))


def test_machine_is_as_before_after_pods_ran(state: Path, tmp_path: Path) -> None:
    before = look_at_the_machine()
    cluster = local.up(UpOptions(yes=True), Progress(quiet=True))
    room = find_room(cluster.processes)
    assert room is not None
    namespace = str(Path(f"/proc/{room.init.pid}/ns/pid").readlink())
    busybox = debian.unpack(["busybox-static"], ["busybox"]).find("busybox")
    assert busybox is not None
    image = write_image(
        "toolbox", {"bin/sh": busybox.read_bytes()}, ["/bin/sh", "-c"], tmp_path / "image.tar"
    )
    cluster.containerd.import_image(tmp_path / "image.tar")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "busy", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "busy"}},
            "template": {
                "metadata": {"labels": {"app": "busy"}},
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "image": image,
                            "args": ["sleep 1000"],
                            "resources": {"limits": {"memory": "32Mi"}},
                            "volumeMounts": [
                                {"name": "store", "mountPath": "/store"},
                                {"name": "shm", "mountPath": "/dev/shm"},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "store", "persistentVolumeClaim": {"claimName": "store"}},
                        {"name": "shm", "emptyDir": {"medium": "Memory"}},
                    ],
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "busy", "namespace": "default"},
        "spec": {"selector": {"app": "busy"}, "ports": [{"port": 80}]},
    }
    cluster.apply(claim, deployment, service)
    cluster.kubectl("rollout", "status", "deployment/busy", "--timeout=90s")
    assert len(processes_in_room(namespace)) > 6
    assert look_at_the_machine() != before

    assert local.down(Progress(quiet=True))
    assert look_at_the_machine() == before
    assert processes_in_room(namespace) == []
    assert processes_with(str(state)) == []
    assert not state.exists()
    assert not local.down(Progress(quiet=True))


# A step's name is printed when it is done, so the signal meets the step after it.
STEPS = {
    "namespaces": "make the node's namespaces",
    "control plane": "start etcd, API server, controllers, scheduler, kwok",
    "containerd": "start containerd",
    "kubelet": "start kubelet, kube-proxy and CoreDNS",
}


UP = ("localcluster", "up", "--yes")
DEMO = ("localcluster.demo", "--yes")


@contextlib.contextmanager
def begun(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A command of ours as a process of its own."""
    with subprocess.Popen(
        # A shell makes its background jobs, and so perhaps this test, deaf to Ctrl-C; a terminal does not.
        ["env", "--default-signal=INT", sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@contextlib.contextmanager
def up_until(step: str, command: Sequence[str] = UP) -> Iterator[subprocess.Popen[str]]:
    """A command that has said the step's name."""
    with begun(command) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if step in line:
                break
        else:
            pytest.fail(f"It never said {step!r}, but:\n{''.join(said)}")
        yield process


def end_with(number: signal.Signals, process: subprocess.Popen[str]) -> None:
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(timeout=60) == 130, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("step", ["namespaces", "control plane", "containerd", "kubelet"])
def test_interrupted_up_undoes_what_it_began(state: Path, step: str, number: signal.Signals) -> None:
    before = look_at_the_machine()
    with up_until(STEPS[step]) as process:
        end_with(number, process)
    assert look_at_the_machine() == before
    assert processes_with(str(state)) == []
    assert not state.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("making", ["programs", "packages"])
def test_interrupted_making_ends_all_that_makes_and_leaves_no_half_of_anything(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, making: str, number: signal.Signals
) -> None:
    before = look_at_the_machine()
    programs = paths.cache_dir() / "bin"
    cache = tmp_path / "cache"
    (cache / "nlp-operator").mkdir(parents=True)
    if making == "packages":
        (cache / "nlp-operator/bin").symlink_to(programs)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        with begun(UP) as process:
            deadline = time.monotonic() + 120
            while not processes_with(str(cache)):  # a compiler's or apt's, which are told where to write
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            end_with(number, process)
    assert processes_with(str(cache)) == []
    folder = cache / "nlp-operator" / ("bin" if making == "programs" else "debian")
    made = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in made if path.suffix != ".lock" and path.parts[0] != "lists"] == []
    assert look_at_the_machine() == before
    assert not state.exists()


@pytest.mark.parametrize("step", [STEPS["kubelet"], "images in the node's containerd", "operator installed"])
def test_interrupted_demo_takes_everything_away(state: Path, step: str) -> None:
    before = look_at_the_machine()
    with up_until(step, DEMO) as process:
        end_with(signal.SIGINT, process)
    assert look_at_the_machine() == before
    assert processes_with(str(state)) == []
    assert not state.exists()


@pytest.mark.parametrize("step", ["namespaces", "control plane", "containerd", "kubelet"])
def test_down_ends_what_a_killed_up_began(state: Path, step: str) -> None:
    before = look_at_the_machine()
    with up_until(STEPS[step]) as process:
        process.kill()
        process.wait(timeout=10)
    assert Processes(state).running()
    assert not local.status().running
    assert local.down(Progress(quiet=True))
    assert look_at_the_machine() == before
    assert processes_with(str(state)) == []
    assert not state.exists()


def test_up_after_a_killed_up_starts_a_whole_cluster(state: Path) -> None:
    with up_until(STEPS["containerd"]) as process:
        process.kill()
        process.wait(timeout=10)
    cluster = local.up(UpOptions(yes=True), Progress(quiet=True))
    assert local.status().running
    assert "nlp-node" in cluster.kubectl("get", "nodes")
    # And a second one finds it as it is.
    assert local.up(UpOptions(yes=True), Progress(quiet=True)).url == cluster.url


def test_link_of_a_cluster_that_cannot_be_seen_is_told_and_left_alone(state: Path) -> None:
    programs = debian.unpack(DEBIAN_PACKAGES, DEBIAN_PROGRAMS)
    environment = {**os.environ, **programs.environment()}
    _output(["ip", "link", "add", "nlp-node0", "type", "veth", "peer", "name", "nlp-other"], environment)
    try:
        with pytest.raises(NotPossible, match="another cluster with a node runs here"):
            local.up(UpOptions(yes=True), Progress(quiet=True))
        assert "nlp-other" in _output(["ip", "link"], environment)
        assert not state.exists()
    finally:
        _output(["ip", "link", "delete", "nlp-node0"], environment)


def test_up_asks_first_and_changes_nothing_when_nobody_answers(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("YES", "CI"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "localcluster", "up"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make namespaces" in done.stderr
    assert "Set YES=1" in done.stderr
    assert not state.exists()


def test_cluster_without_a_node_says_why_and_runs_pods_of_kwok(state: Path) -> None:
    cluster = local.up(UpOptions(yes=True, api_only=True, kwok_nodes=2), Progress(quiet=True))
    assert not cluster.has_node
    assert not local.status().node
    cluster.kubectl("wait", "node/kwok-0", "node/kwok-1", "--for=condition=Ready", "--timeout=30s")
    cluster.kubectl("create", "job", "work", "--image=none")
    cluster.kubectl("wait", "job/work", "--for=condition=Complete", "--timeout=30s")

    # Asked again, it gives what is missing and says what it cannot give.
    said = io.StringIO()
    again = local.up(UpOptions(yes=True, kwok_nodes=3), Progress(stream=said))
    again.kubectl("wait", "node/kwok-2", "--for=condition=Ready", "--timeout=30s")
    assert again.node_reasons == ["It was asked for without one."]
    assert "started without a real node" in said.getvalue()


def test_second_cluster_with_a_node_is_refused_and_the_first_stays(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = local.up(UpOptions(yes=True), Progress(quiet=True))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "second"))
    with pytest.raises(NotPossible, match=re.escape(f"XDG_STATE_HOME={tmp_path} ")):
        local.up(UpOptions(yes=True), Progress(quiet=True))
    assert not local.down(Progress(quiet=True))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert local.status().running
    assert "nlp-node" in first.kubectl("get", "nodes")
