"""Namespaces in which a node lives: its mounts, its network, its processes.

The node's kubelet and containerd change a machine in a hundred places: mounts, links, nftables, sysctls,
daemons that outlive their parents. Instead of undoing that, they are given namespaces of their own and
process 1 of those namespaces is ours: when it ends, the kernel ends every process in there and takes mounts
and links apart. A `kill -9` at any moment can therefore leave no more than cgroups and files, which `down`
removes.

    host:  etcd, API server, controllers, CoreDNS            room:  containerd, kubelet, kube-proxy, pods
                                     link .1 ────────────── .2
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.errors import CommandFailed, StartFailed
from localcluster.processes import Identity, Processes, end, plain_environment

NAME = "room"
HOSTNAME = "nlp-node"
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--fork")
"""Words of unshare."""

_HELD_SYSCTLS: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet wants of the kernel, and would set for the whole machine. It finds these values in files
mounted over the real ones, has nothing to change, and the machine keeps its own."""


def entry_script(*, folder: Path, kept: Sequence[Path], init: Path) -> str:
    """The shell script that arranges the mounts of a new room and becomes its process 1.

    /run is fresh memory; /var/lib and /var/log are folders of the cluster; `kept` are folders that must stay
    what they are, also when they lie below one of those.
    """
    masked = {"/var/lib": folder / "var-lib", "/var/log": folder / "var-log"}
    hidden = [path for path in kept if any(path.is_relative_to(m) for m in (*masked, "/run"))]
    lines = ["set -e", "mount --make-rshared /"]
    lines += [f"exec {number}<{shlex.quote(str(path))}" for number, path in enumerate(hidden, start=3)]
    lines += [f"mount --bind {shlex.quote(str(source))} {target}" for target, source in masked.items()]
    lines += ["mount -t tmpfs -o mode=755 room-run /run"]
    for number, path in enumerate(hidden, start=3):
        target = shlex.quote(str(path))
        # The folder itself is hidden by now; the open descriptor still leads to it.
        lines += [
            f"mkdir -p {target}",
            f"mount -c --bind /proc/self/fd/{number} {target}",
            f"exec {number}<&-",
        ]
    for name, value in _HELD_SYSCTLS.items():
        file = f"/run/held/{name}"
        lines += [
            f"if [ -e /proc/sys/{name} ]; then mkdir -p {Path(file).parent}; echo {value} >{file};"
            f" mount --bind {file} /proc/sys/{name}; fi"
        ]
    # Where version 1 carries the controllers, a second hierarchy beside it makes crun 1.8 refuse to start
    # anything ("cgroups in hybrid mode not supported"). In here it is not needed.
    lines += ["if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"]
    lines += [f"hostname {HOSTNAME}", "touch /run/room-ready", f"exec {shlex.quote(str(init))}"]
    return "\n".join(lines)


class Room:
    """A running set of namespaces. Made by `make_room`, found again by `find_room`."""

    def __init__(self, processes: Processes, init: Identity) -> None:
        self._processes = processes
        self.init = init

    @property
    def inside(self) -> list[str]:
        """The prefix of a command that is to run in the room."""
        return ["nsenter", "--target", str(self.init.pid), "--mount", "--uts", "--net", "--pid", "--"]

    def run(self, *argv: str | Path, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run a command in the room to its end; its output. Raises CommandFailed."""
        command = [*self.inside, *map(str, argv)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=dict(env) if env is not None else plain_environment(),
        )
        if done.returncode != 0:
            raise CommandFailed([str(word) for word in argv], done.returncode, done.stderr or done.stdout)
        return done.stdout

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        self._processes.start(name, argv, env, inside=self.inside)

    def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """End one program of the room. What is recorded is nsenter; the program is its only child."""
        recorded = self._processes.running().get(name)
        for child in recorded.children() if recorded else []:
            end(child, grace_seconds)
        self._processes.stop(name, grace_seconds)


def make_room(processes: Processes, folder: Path, kept: Sequence[Path], init: Path) -> Room:
    """Make namespaces. Raises StartFailed with the reason where the kernel or a sandbox refuses."""
    for name in ("var-lib", "var-log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    script = entry_script(folder=folder, kept=kept, init=init)
    # unshare stays outside as the parent; if it is killed, --kill-child takes process 1 along.
    argv = [
        *("unshare", *NAMESPACES, "--kill-child=SIGKILL"),
        *("--propagation", "private", "--mount-proc", "/bin/sh", "-c", script),
    ]
    processes.start(NAME, argv)
    processes.wait_until(NAME, lambda: _is_set_up(processes), 10, "did not set its mounts up")
    room = find_room(processes)
    if room is None:
        raise StartFailed(f"The namespaces ended at once. {processes.log_tail(NAME)}")
    return room


def find_room(processes: Processes) -> Room | None:
    """The room of a running cluster; None when there is none."""
    outside = processes.running().get(NAME)
    children = outside.children() if outside else []
    return Room(processes, children[0]) if children else None


def end_room(processes: Processes) -> None:
    """End the room with everything in it, and return when the kernel has ended every process in there."""
    outside = processes.running().get(NAME)
    for child in outside.children() if outside else []:
        end(child, grace_seconds=0)
    processes.stop(NAME, grace_seconds=0)


def _is_set_up(processes: Processes) -> bool:
    room = find_room(processes)
    # Not through nsenter: the mounts of another process are visible below its root.
    return room is not None and Path(f"/proc/{room.init.pid}/root/run/room-ready").exists()


def wait_for(what: str, check: object, seconds: float) -> None:
    """Look every 100 ms until `check()`; StartFailed with `what` when time runs out."""
    assert callable(check)
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise StartFailed(f"{what}, within {seconds:.0f} s.")
        time.sleep(0.1)
