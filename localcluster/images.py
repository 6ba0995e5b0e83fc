"""Builds the images of `images/` without a docker daemon, from the Dockerfiles that `docker build` takes
too.

An image is named by what goes into it: the Dockerfile, the files it copies, the base. The same inputs
give the same name, and an archive of that name in the cache is not built again. The base is a minimal
Debian made of packages of the mirror apt is configured for; mirrors, certificates and credentials reach a
build as secrets, which leave no trace in its layers.

Everything that mounts something or starts processes runs in mount and process namespaces of its own,
which the kernel takes apart with everything in them when the build ends, however it ends.

    python -m localcluster.images [operator] [builder] [builder-torch] [serving]     # prints name and archive
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import debian, paths
from localcluster.debian import Unpacked
from localcluster.errors import ClusterError, CommandFailed, NotPossible
from localcluster.locks import locked
from localcluster.pip_settings import read_pip_settings
from localcluster.processes import end_group, tied_to_us
from localcluster.progress import Progress

REPOSITORY = Path(__file__).resolve().parent.parent

REGISTRY = "nlp-operator.local"
"""A registry that does not exist: no kubelet can pull these images from anywhere, they are imported."""


@dataclass(frozen=True)
class Target:
    """Where an image comes from: a folder of images/, and a stage of its Dockerfile (empty: the last one)."""

    folder: str
    stage: str


TARGETS: Mapping[str, Target] = {
    "operator": Target("operator", ""),
    "builder": Target("builder", "plain"),
    "builder-torch": Target("builder", "torch"),
    "serving": Target("serving", "local"),
}

USUAL = ("operator", "builder", "serving")
"""What a cluster needs at first. builder-torch, with 0.6 GB to download, is made for those who ask for it."""

SUITE = "bookworm"
"""The Debian whose Python Triton 2.51 has a stub for and numpy 1.26 a wheel (3.11), on newer hosts too."""

BASE_PACKAGES = ("python3", "python3-venv", "libpython3.11", "libgomp1", "ca-certificates")
"""On top of Debian's minimal set. Triton's Python stub needs libpython, ONNX Runtime's and numpy's kin
libgomp.
"""

TORCH_GIGABYTES = 7
"""What the first builder-torch takes: its layers 3.7, its archive 0.8, and in the node's containerd 2.6. A
later one shares most of that.
"""

BASE_RECIPE = "1"
"""Raise it when `_debootstrap` makes something else of the same packages."""

_ARCHIVES_KEPT = 3
"""How many archives of one image stay in the cache: what was used last, and what another process may be
importing.
"""

_STORE_LIMIT_BYTES = 12 * 1024**3
"""Layers of old builds are kept for the next one up to here; a store with one of each image holds about
1.5 GB, and 3.5 GB more with builder-torch.
"""


@dataclass(frozen=True)
class ImageRef:
    """An image that lies in the cache."""

    name: str
    """One of TARGETS."""
    reference: str
    """What a pod writes: nlp-operator.local/<name>:<12 hex digits of the inputs>."""
    archive: Path
    """An OCI archive with zstd layers; `ctr images import` takes it."""


def build_images(names: Sequence[str] = USUAL, progress: Progress | None = None) -> dict[str, ImageRef]:
    """Build what is not in the cache, and say where each image lies.

    A second call with nothing changed reads the inputs and looks for the archives: a few milliseconds.
    Raises NotPossible when this machine cannot build, CommandFailed when a build fails.
    """
    progress = progress or Progress(quiet=True)
    images = {name: image_of(name) for name in names}
    if any(not image.archive.exists() for image in images.values()):
        with locked(_folder() / "build", progress):
            missing = [name for name, image in images.items() if not image.archive.exists()]
            if missing:
                images |= _build(missing, progress)
    for image in images.values():
        image.archive.touch()  # the time of the last use, by which `_drop_old_archives` chooses
    return images


class Beside:
    """Builds images in a process of its own, at low priority, while its owner waits for something else.

    Leaving the `with` block ends it, whatever it is at; so does the end of its owner, even by `kill -9`
    (an apt-get may then still finish its download). It fails in silence: who needs the images calls
    `build_images` afterwards and hears the reason.
    """

    def __init__(self, progress: Progress, names: Sequence[str] = USUAL) -> None:
        self._progress = progress
        self._names = names
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            # What it started is in its group or tied to its life; its scratch files the next build sweeps.
            end_group(self._process)

    def start(self) -> None:
        """Begin, unless everything is there, or this machine cannot build."""
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            return
        if all(image_of(name).archive.exists() for name in self._names):
            return
        self._progress.say("  images: building them meanwhile")
        self._process = subprocess.Popen(
            [*tied_to_us(), "nice", "-n", "10", sys.executable, "-m", "localcluster.images", *self._names],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end it
        )

    def wait(self) -> None:
        """Until it is done, in one line of progress."""
        if self._process is not None:
            with self._progress.step("images: the rest of building them"):
                self._process.wait()


def gigabytes_for(names: Sequence[str]) -> float:
    """What images will take beyond the usual ones (cluster.FIRST_NODE_GIGABYTES) that are not here yet."""
    first = "builder-torch" in names and not any(_folder().glob("builder-torch-*.tar"))
    return TORCH_GIGABYTES if first else 0


def image_of(name: str, repository: Path = REPOSITORY) -> ImageRef:
    """The image as its inputs name it, built or not."""
    if name not in TARGETS:
        raise NotPossible(f"There is no image {name!r}; there are {', '.join(TARGETS)}.")
    dockerfile = _dockerfile(name, repository)
    digest = hashlib.sha256(f"{name} {TARGETS[name].stage} {base_key()}\n".encode())
    digest.update(dockerfile.read_bytes())
    for path in input_files(dockerfile.read_text(encoding="utf-8"), repository):
        executable = "x" if os.access(path, os.X_OK) else "-"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{content} {executable} {path.relative_to(repository)}\n".encode())
    tag = digest.hexdigest()[:12]
    return ImageRef(name, f"{REGISTRY}/{name}:{tag}", _folder() / f"{name}-{tag}.tar")


def _dockerfile(name: str, repository: Path) -> Path:
    return repository / "images" / TARGETS[name].folder / "Dockerfile"


def copied_paths(dockerfile: str) -> list[str]:
    """What a Dockerfile copies out of its build context: the sources of each COPY without --from, sorted."""
    copies = re.findall(r"^COPY[ \t]+(.*)$", dockerfile.replace("\\\n", " "), re.MULTILINE)
    sources: set[str] = set()
    for copy in copies:
        words = copy.split()
        if not any(word.startswith("--from=") for word in words):
            sources.update([word for word in words if not word.startswith("--")][:-1])
    return sorted(sources)


def input_files(dockerfile: str, repository: Path) -> list[Path]:
    """Every file the Dockerfile copies, sorted; caches of Python and hidden files are none."""
    found: list[Path] = []
    for source in copied_paths(dockerfile):
        path = repository / source
        if not path.exists():
            raise NotPossible(f"{path} is missing; the Dockerfile copies {source!r}.")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        found += [file for file in files if not _is_cache(file.relative_to(repository))]
    return sorted(found)


def _is_cache(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def base_key() -> str:
    """Twelve hex digits for the base image: the same packages by the same recipe are the same base."""
    return hashlib.sha256(" ".join((BASE_RECIPE, SUITE, *BASE_PACKAGES)).encode()).hexdigest()[:12]


# ---- the edge: everything below runs programs
# ------------------------------------------------------------------------


def _folder() -> Path:
    return paths.cache_dir() / "images"


def _build(names: Sequence[str], progress: Progress) -> dict[str, ImageRef]:
    images: dict[str, ImageRef] = {}
    tools = _tools(progress)
    base = f"localhost/nlp-operator-base:{base_key()}"
    with tempfile.TemporaryDirectory(dir=_folder(), prefix="work-") as scratch:
        work = Path(scratch)
        store = _Store(work, tools)
        store.sweep()
        if not store.has(base):
            archive = _folder() / f"base-{base_key()}.tar"
            if not archive.exists():
                with progress.step(f"base image: Debian {SUITE} with Python"):
                    _debootstrap(archive, work, tools)
            with progress.step("base image into the build store"):
                store.add_base(base, archive)
        for name in names:
            context = _stage(name, work)
            # Named by the copy that is built: the files may have been edited since they were first read.
            image = images[name] = image_of(name, context)
            if image.archive.exists():
                continue
            with progress.step(f"image {name}: build"):
                store.build(image, context, base)
            with progress.step(f"image {name}: archive"):
                store.export(image)
            _drop_old_archives(name)
    return images


def _stage(name: str, work: Path) -> Path:
    """A build context with the Dockerfile and what it copies, each at its own path, and nothing else."""
    context = work / "context" / name
    dockerfile = _dockerfile(name, REPOSITORY)
    for path in (dockerfile, *input_files(dockerfile.read_text(encoding="utf-8"), REPOSITORY)):
        copy = context / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return context


def _drop_old_archives(name: str) -> None:
    by_use = sorted(_folder().glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in by_use[_ARCHIVES_KEPT:]:
        archive.unlink()


def _tools(progress: Progress) -> Unpacked:
    """buildah and debootstrap, of this machine or out of Debian's packages in the cache."""
    if os.geteuid() != 0:
        raise NotPossible("Building images needs root: the layers hold files of several users.")
    return debian.unpack(("buildah", "debootstrap"), ("buildah", "debootstrap"), progress)


class _Store:
    """Our own image store of buildah, apart from the machine's, with its configuration in a scratch
    folder.
    """

    def __init__(self, work: Path, tools: Unpacked) -> None:
        self._work = work
        # The run root is new each time: mounts that it remembers died with the namespace they were made in.
        self._driver = _storage_driver(work)
        self._root = _folder() / f"store-{self._driver}"
        places = ["--root", str(self._root), "--runroot", str(work / "run")]
        self._buildah = [
            *_with_libraries(tools, work / "ld.so.cache"),
            *("buildah", *places, "--storage-driver", self._driver),
        ]
        # This machine's policy and registries are for its own images; we pull nothing at all.
        self._policy = _write(work / "policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self._environment = {
            **tools.environment(),
            "CONTAINERS_STORAGE_CONF": str(
                _write(work / "storage.conf", f'[storage]\ndriver = "{self._driver}"\n')
            ),
            "CONTAINERS_REGISTRIES_CONF": str(_write(work / "registries.conf", "")),
            "CONTAINERS_CONF": str(_write(work / "containers.conf", "")),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(work),
        }

    def has(self, reference: str) -> bool:
        try:
            self._run("inspect", "--type", "image", reference)
        except CommandFailed:
            return False
        return True

    def add_base(self, reference: str, archive: Path) -> None:
        container = self._run("from", "scratch").strip()
        self._run("add", "--quiet", container, str(archive), "/")
        self._run("config", "--cmd", "python3", "--env", "LANG=C.UTF-8", container)
        policy = ["--signature-policy", str(self._policy)]
        self._run("commit", "--quiet", "--rm", "--timestamp", "0", *policy, container, reference)

    def build(self, image: ImageRef, context: Path, base: str) -> None:
        """Build the image; layers of earlier builds are taken again where their inputs are the same."""
        dockerfile = _dockerfile(image.name, context)
        stage = TARGETS[image.name].stage
        target = ["--target", stage] if stage else []
        self._run(
            *("bud", "--layers", "--pull-never", "--isolation", "chroot", "--network", "host"),
            *("--signature-policy", str(self._policy), "--build-arg", f"BASE_IMAGE={base}"),
            *self._secrets(),
            *("--file", str(dockerfile), "--tag", image.reference, *target, str(context)),
        )

    def export(self, image: ImageRef) -> None:
        # zstd 1 is the shortest way into containerd. Serving, seconds to write and to import: gzip 13 and 3,
        # zstd 7 and 2 (206 MB), uncompressed 4 and 9 (600 MB).
        compression = ["--compression-format", "zstd", "--compression-level", "1"]
        part = self._work / image.archive.name
        policy = ["--signature-policy", str(self._policy)]
        destination = f"oci-archive:{part}:{image.reference}"
        self._run("push", "--quiet", *compression, *policy, image.reference, destination)
        part.rename(image.archive)

    def sweep(self) -> None:
        """Remove what killed builds left, and start anew when old layers have grown past the limit."""
        for left in _folder().glob("work-*"):
            if left != self._work:
                shutil.rmtree(left, ignore_errors=True)
        layers = self._root / f"{self._driver}-layers/layers.json"
        if layers.exists():
            sizes = [layer.get("diff-size", 0) for layer in json.loads(layers.read_text(encoding="utf-8"))]
            if sum(sizes) > _STORE_LIMIT_BYTES:
                shutil.rmtree(self._root)
        self._run("rm", "--all")

    def _secrets(self) -> list[str]:
        """Where packages come from on this machine, for the build alone."""
        settings = read_pip_settings()
        inside = "/run/secrets/certificates.pem"
        pip_conf = _write(self._work / "pip.conf", settings.as_file(inside))
        secrets = ["--secret", f"id=pip-conf,src={pip_conf}"]
        if settings.certificates:
            secrets += ["--secret", f"id=certificates,src={settings.certificates}"]
        return secrets

    def _run(self, *arguments: str) -> str:
        return _run_apart([*self._buildah, *arguments], self._environment)


def _with_libraries(tools: Unpacked, index: Path) -> list[str]:
    """What starts a program so that all it starts find the libraries of unpacked packages.

    For each RUN buildah starts itself again without its environment, and so without LD_LIBRARY_PATH: the
    loader's own index has to name them. It is laid over the machine's in the mount namespace of the build.
    """
    folders = tools.library_folders()
    if not folders:
        return []
    _run_apart(["ldconfig", "-X", "-C", str(index), *folders], tools.environment())
    return ["sh", "-c", 'mount --bind "$0" /etc/ld.so.cache && exec "$@"', str(index)]


def _storage_driver(work: Path) -> str:
    """overlay where this file system carries it, else vfs, which copies (inside many containers)."""
    folders = [work / "overlay-try" / name for name in ("lower", "upper", "work", "merged")]
    for folder in folders:
        folder.mkdir(parents=True)
    lower, upper, scratch, merged = folders
    options = f"lowerdir={lower},upperdir={upper},workdir={scratch}"
    try:
        _run_apart(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], {})
    except CommandFailed:
        return "vfs"
    return "overlay"


def _debootstrap(archive: Path, work: Path, tools: Unpacked) -> None:
    """Make the base image's file system as a tar file, without a word of where its packages came from."""
    root = work / "base"
    packages = ",".join(BASE_PACKAGES)
    options = ["--variant=minbase", f"--include={packages}"]
    environment = {**tools.environment(), **_apt_proxies()}
    scripts = tools.root / "usr/share/debootstrap"
    if scripts.is_dir():
        environment["DEBOOTSTRAP_DIR"] = str(scripts)
    _run_apart(["debootstrap", *options, SUITE, str(root), _debian_mirror()], environment)
    for pattern in _NOT_IN_THE_BASE:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in (root / "usr/share/doc").rglob("*"):
        if path.is_file() and path.name != "copyright":
            path.unlink()
    part = work / archive.name
    reproducible = ["--sort=name", "--mtime=@0", "--numeric-owner"]
    _run_apart(["tar", "--create", *reproducible, "--file", str(part), "--directory", str(root), "."], {})
    part.rename(archive)


_NOT_IN_THE_BASE = (
    # Facts about this machine: its mirror, its name, its name servers.
    *(
        "etc/apt/sources.list",
        "etc/apt/sources.list.d/*",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/machine-id",
    ),
    *("var/log/*.log", "var/log/apt/*", "debootstrap"),
    # What nobody reads in a container.
    *("var/cache/apt/*", "var/cache/debconf/*-old", "var/lib/apt/lists/*", "var/lib/dpkg/*-old"),
    *("usr/share/info/*", "usr/share/lintian/*", "usr/share/locale/*", "usr/share/man/*"),
)


def _debian_mirror() -> str:
    """The mirror of Debian's main archive that apt is configured for."""
    release = platform.freedesktop_os_release()
    wanted = [release.get("VERSION_CODENAME", ""), "main"]
    fields = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    for line in _run_apart(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], {}
    ).splitlines():
        words = line.split()
        if words[:2] == wanted and release.get("ID") == "debian":
            return words[2]
    raise NotPossible(
        "The local images are made of Debian's packages, and apt is configured for no mirror of Debian here "
        f"(this is {release.get('PRETTY_NAME', 'an unknown system')}). With docker they can be built on "
        "any machine; docs/images.md says how."
    )


def _apt_proxies() -> dict[str, str]:
    """apt's proxies as the variables that debootstrap's downloader reads."""
    proxies: dict[str, str] = {}
    for scheme in ("http", "https"):
        key = f"Acquire::{scheme}::Proxy"
        value = _run_apart(["apt-config", "--format", "%v", "dump", key], {}).strip()
        if value and value != "DIRECT":
            proxies[f"{scheme}_proxy"] = value
    return proxies


def _run_apart(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program to its end in mount and process namespaces of its own; give its standard output.

    Nothing it mounts is seen outside, and nothing it started outlives it, nor us: the kernel kills the
    first process of the namespace when we die, and with it all the others. Raises CommandFailed.
    """
    apart = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = subprocess.Popen(
        [*tied_to_us(), *apart, *command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us alone, and we end it
    )
    with _ended(process):
        output, errors = process.communicate()
    if process.returncode != 0:
        tail = "\n".join((output + errors).strip().splitlines()[-25:])
        raise CommandFailed(command, process.returncode, tail)
    return output


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process when what waits for it is interrupted."""
    try:
        yield
    except BaseException:
        end_group(process)
        raise


def _write(path: Path, content: str) -> Path:
    """A file that only we can read: it may hold credentials."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(content)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m localcluster.images",
        description="Build the images of the local cluster whose inputs changed; print name and archive.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(TARGETS)}; by default {', '.join(USUAL)}"
    )
    names = parser.parse_args().names or USUAL
    try:
        images = build_images(names, Progress())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for image in images.values():
        print(f"{image.reference}\t{image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
