"""Python environments beside our own, in the cache: for the server's packages, and for the builders'.

What is in one is named by files in constraints/, by hash, the same that its image is made from: what is
built or served on a laptop is built and served by the very packages that would do it in a cluster. What the
user's own environment holds is never used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths
from localcluster.errors import CommandFailed, NotPossible
from localcluster.locks import locked
from localcluster.pip_settings import read_pip_settings
from localcluster.processes import run_whole
from localcluster.progress import Progress

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of, and what it costs once."""

    name: str
    what: str
    """What is in it, for the user."""
    constraints: tuple[str, ...]
    """Files of the repository that pin what is in it."""
    download_megabytes: int
    disk_megabytes: int
    finish: Callable[[Path], None] | None = None
    """What is left to do in the folder once the packages are there."""
    archives: tuple[str, ...] = ()
    """Further such files, of source archives, which setuptools among the others makes packages of."""

    @property
    def pins(self) -> tuple[str, ...]:
        return (*self.constraints, *self.archives)


KOREAN = "constraints/korean.txt"
"""The dictionary of the tokenizer KoreanMorphemes."""

BUILDER = Recipe(
    "builder",
    "the builders' packages (onnx, onnxruntime, kiwipiepy)",
    ("constraints/builder.txt",),
    175,
    430,
    archives=(KOREAN,),
)


def shipped(file: str) -> Path:
    """A file of the repository: beside the code when we are installed, else in the checkout."""
    installed = _HERE / "shipped" / Path(file).name
    return installed if installed.exists() else _HERE.parent / file


def stub_cuda(root: Path) -> None:
    """Let torch be imported without NVIDIA's libraries; `images/builder/cuda_stubs.py` says how and why."""
    packages = next(root.glob("lib/python3*/site-packages"))
    _run([str(root / "bin/python3"), str(shipped("images/builder/cuda_stubs.py")), str(packages)])


TORCH_BUILDER = Recipe(
    "builder-torch",
    "the builders' packages with torch",
    ("constraints/builder-torch.txt",),
    700,
    2060,
    stub_cuda,
    archives=(KOREAN,),
)


def root_of(recipe: Recipe) -> Path:
    """Where the environment lies, or will: a name made of the pins, the interpreter, and this recipe."""
    digest = hashlib.sha256(f"1 {sys.version} {Path(sys.base_prefix).resolve()}".encode())
    for name in recipe.pins:
        digest.update(shipped(name).read_bytes())
    return paths.cache_dir() / f"{recipe.name}-{digest.hexdigest()[:12]}"


def environment(recipe: Recipe, progress: Progress) -> Path:
    """The folder of the environment, `bin/python3` in it; made first when the cache does not hold it.

    What will be downloaded, and how much disk that takes, is said first. Raises NotPossible when there is not
    enough disk, CommandFailed when the packages cannot be installed.
    """
    root = root_of(recipe)
    ready = root / "ready"
    if not ready.exists():
        with locked(root, progress):
            if not ready.exists():
                _announce(recipe, progress)
                with progress.step(f"install {recipe.what}"):
                    _install(root, recipe)
                    if recipe.finish is not None:
                        recipe.finish(root)
                ready.touch()
    return root


def _announce(recipe: Recipe, progress: Progress) -> None:
    cache = paths.cache_dir()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e6
    if free < recipe.disk_megabytes:
        raise NotPossible(
            f"{free:,.0f} MB of disk are free for {cache}; {recipe.what} take {recipe.disk_megabytes:,} MB. "
            "Free some, or point XDG_CACHE_HOME at a larger disk."
        )
    progress.say(
        f"  once: {recipe.what}, about {recipe.download_megabytes:,} MB to download, "
        f"{recipe.disk_megabytes:,} MB of disk in {cache} ({free / 1000:,.0f} GB free)"
    )


def _install(root: Path, recipe: Recipe) -> None:
    # A venv without `ready` was interrupted. It cannot be made elsewhere and renamed: it knows its path.
    shutil.rmtree(root, ignore_errors=True)
    uv = _find_uv()
    base = getattr(sys, "_base_executable", sys.executable)
    _run([uv, "venv", "--quiet", "--no-project", "--python", base, str(root)])
    install = [uv, "pip", "install", "--quiet", "--python", str(root / "bin/python3"), "--compile-bytecode"]
    install += ["--no-deps", "--require-hashes"]
    _run([*install, "--only-binary", ":all:", *_requirements(recipe.constraints)])
    if recipe.archives:
        # Without isolation: uv would fetch a setuptools of its own choice, and no hash would say which.
        _run([*install, "--no-build-isolation", *_requirements(recipe.archives)])


def _requirements(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--requirements", str(shipped(name)))]


def _find_uv() -> str:
    try:
        from uv import find_uv_bin
    except ImportError as error:
        raise NotPossible(
            "The installer uv is missing from this environment: pip install 'nlp-operator[cli]'."
        ) from error
    return str(find_uv_bin())


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    # Variables that were set for uv itself win over what was meant for pip.
    environment = read_pip_settings().for_uv() | environment
    done = run_whole(command, env=environment)
    if done.returncode != 0:
        raise CommandFailed(command, done.returncode, done.stderr)


def unpack_wheels(constraints: str, target: Path) -> None:
    """What a file of constraints/ pins, by hash, unpacked into a folder; nothing is installed.

    Raises CommandFailed when it cannot be had.
    """
    install = [_find_uv(), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target)]
    pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    _run([*install, *pinned, "--requirements", str(shipped(constraints))])


def code_path(*packages: str) -> Path:
    """A folder that holds these of our own packages and nothing else, to go into PYTHONPATH.

    The folder in which they really lie may be a site-packages, whose other packages would then shadow those
    of the environment. Raises NotPossible when one is not installed.
    """
    sources = {package: _source_of(package) for package in packages}
    name = hashlib.sha256("\0".join(map(str, sources.values())).encode()).hexdigest()[:12]
    folder = paths.cache_dir() / f"code-{name}"
    if not folder.exists():
        # Made beside and renamed: two processes may come here at once, and neither may see half of it.
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".code-"))
        for package, source in sources.items():
            (draft / package).symlink_to(source)
        try:
            draft.rename(folder)
        except OSError:  # the other was first
            shutil.rmtree(draft)
    return folder


def _source_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise NotPossible(f"The package {package} is not installed here; nlp-operator is not whole.")
    return Path(found.submodule_search_locations[0]).resolve()
