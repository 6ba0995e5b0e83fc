"""containerd in the node's room: its configuration, its images.

Its images and layers lie in the cache, so a cluster that is started again need not import them again; all
else it keeps in the room's /run and ends with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.debian import Unpacked
from localcluster.room import Room

SOCKET = "/run/containerd/containerd.sock"
CNI_CONFIG = "/run/cni"

_MEDIA = "application/vnd.oci.image"


def make_config(*, root: Path, sandbox_image: str, crun: Path, cni_bin: Path) -> str:
    """containerd's TOML."""
    # JSON's strings are TOML's basic strings.
    places = {"root": root, "crun": crun, "cni_bin": cni_bin}
    path = {name: json.dumps(str(value)) for name, value in places.items()}
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = {path["root"]}
state = "/run/containerd"
# What these need is not here, and each would log an error at every start.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{SOCKET}"

[{cri}]
sandbox_image = {json.dumps(sandbox_image)}
# A sandbox of this machine may forbid to lower the score; then no container would start.
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true

[{cri}.cni]
bin_dir = {path["cni_bin"]}
conf_dir = "{CNI_CONFIG}"

[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "crun"

[{cri}.containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.crun.options]
BinaryName = {path["crun"]}
SystemdCgroup = false
"""


class Containerd:
    """The containerd of a room."""

    def __init__(self, room: Room, programs: Unpacked) -> None:
        self._room = room
        self._programs = programs

    def ctr(self, *arguments: str | Path) -> str:
        """Run `ctr` in Kubernetes' namespace."""
        program = self._programs.find("ctr")
        assert program is not None, "containerd's package has ctr"
        return self._room.run(program, "--address", SOCKET, "--namespace", "k8s.io", *arguments)

    def has_image(self, reference: str) -> bool:
        """Whether a pod that names exactly this image would find it."""
        return reference in self.ctr("images", "list", "--quiet").split()

    def import_image(self, archive: Path) -> None:
        """Import an OCI archive under the names written in it, and unpack it so that a pod starts at once."""
        self.ctr("images", "import", archive)

    def remove_containers(self) -> list[str]:
        """Forget the containers of an earlier cluster; their images stay."""
        containers = self.ctr("containers", "list", "--quiet").split()
        if containers:
            self.ctr("containers", "delete", *containers)
        return containers


def write_pause_image(program: Path, archive: Path) -> str:
    """Make the image of a pod's sandbox from one static program; its reference. Nothing to pull."""
    return write_image("pause", {"pause": program.read_bytes()}, ["/pause"], archive)


def write_image(name: str, files: Mapping[str, bytes], entrypoint: Sequence[str], archive: Path) -> str:
    """Make an image that holds just these (executable) files; its reference, named by its content."""
    layer = _tar(files, mode=0o755)
    reference = f"nlp-operator.local/{name}:{hashlib.sha256(layer).hexdigest()[:12]}"
    machine = platform.machine()
    config = _json(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor(f"{_MEDIA}.config.v1+json", config),
            "layers": [_descriptor(f"{_MEDIA}.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor(f"{_MEDIA}.manifest.v1+json", manifest)
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    index = _json({"schemaVersion": 2, "manifests": [{**entry, "annotations": names}]})
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}
    archive.write_bytes(_tar(files, mode=0o644))
    return reference


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    # Owner, time and order are fixed, so that the same program gives the same image.
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}
