"""The serving environment without a container: the same Triton, Envoy and packages as in the local image.

Tests of the agent and `nlpctl serve` use it. What is installed is named by constraints/serving.txt (the
agent's and the models' packages) and constraints/serving-local.txt (Triton and Envoy).

    python -m localcluster.serving_env      # prints the environment as shell exports: eval "$(...)"
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from localcluster.environments import KOREAN, Recipe, environment
from localcluster.errors import ClusterError, NotPossible
from localcluster.progress import Progress

NEWEST_PYTHON = (3, 12)
"""The last one for which there are wheels of numpy 1.26 (`constraints/serving.txt`)."""

TRITON_VERSION = "2.51.0"
"""What the tritonserver in nvidia-pytriton 0.7.0 calls itself; the same fact stands in
images/serving/Dockerfile.
"""


@dataclass(frozen=True)
class ServingEnvironment:
    """A folder with everything a server needs, and the variables by which the agent finds it."""

    root: Path
    variables: Mapping[str, str]
    """NLP_TRITON_BINARY, _BACKENDS and _VERSION, NLP_ENVOY_BINARY; LD_LIBRARY_PATH, PATH and the like."""

    @property
    def python(self) -> Path:
        """The interpreter that has the agent's packages; the agent itself comes with PYTHONPATH."""
        return self.root / "bin/python3"


def serving_environment(progress: Progress | None = None, *, gpus: bool = False) -> ServingEnvironment:
    """Make the environment if it is not in the cache, and say where things are.

    With `gpus` it has the GPU build of ONNX Runtime, as the image of production. The libraries of CUDA 13 and
    cuDNN 9 are the machine's, where the loader finds them without LD_LIBRARY_PATH.

    A few seconds from uv's cache, a minute with a cold one (about 130 MB to download); 0.05 s when it is
    there.

    Raises NotPossible when this machine cannot have it, CommandFailed when the packages cannot be
    installed.
    """
    library = _python_library()
    root = environment(SERVING_GPU if gpus else SERVING, progress or Progress(quiet=True))
    return ServingEnvironment(root, _variables(root, library))


def check_machine() -> None:
    """Raises NotPossible when Triton cannot run here, before anything is downloaded for it."""
    _python_library()


def _give_stub(root: Path) -> None:
    """Put the Python backend's stub for this Python where Triton looks for it."""
    triton = _triton(root)
    stub = triton / f"python_backend_stubs/{_minor()}/triton_python_backend_stub"
    if not stub.exists():
        offered = ", ".join(sorted((path.name for path in stub.parent.parent.iterdir()), key=_as_numbers))
        raise NotPossible(
            f"Triton {TRITON_VERSION} has no Python backend for Python {_minor()}; it has one for {offered}. "
            "Make the project's environment with one of these."
        )
    shutil.copy(stub, triton / "backends/python/triton_python_backend_stub")


SERVING = Recipe(
    "serving",
    "Triton, Envoy and the models' packages",
    ("constraints/serving.txt", "constraints/serving-local.txt"),
    230,
    680,
    _give_stub,
    archives=(KOREAN,),
)

SERVING_GPU = replace(
    SERVING,
    name="serving-gpu",
    constraints=("constraints/serving-gpu.txt", "constraints/serving-local.txt"),
    download_megabytes=470,
    disk_megabytes=1040,
)


def _variables(root: Path, library: Path) -> dict[str, str]:
    triton = _triton(root)
    packages = triton.parent.parent
    # The Python backend's stub embeds the interpreter it finds as `python3` on PATH, and with it that
    # venv's packages.
    path = [str(root / "bin"), os.environ.get("PATH", os.defpath)]
    return {
        "NLP_TRITON_BINARY": str(triton / "bin/tritonserver"),
        "NLP_TRITON_BACKENDS": str(triton / "backends"),
        "NLP_TRITON_VERSION": TRITON_VERSION,
        "NLP_ENVOY_BINARY": str(packages / "envoy/_bin/envoy"),
        "LD_LIBRARY_PATH": str(library),
        "PATH": ":".join(path),
        # ONNX Runtime from 1.29 on reports model names and hashes to its maker unless told not to.
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _triton(root: Path) -> Path:
    return root / f"lib/python{_minor()}/site-packages/pytriton/tritonserver"


def _minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _python_library() -> Path:
    """The folder of this interpreter's own libpython.

    It must come first in LD_LIBRARY_PATH: with the distribution's libpython of another patch release the
    stub starts and dies at `import ssl` (undefined symbol `_PyModule_Add`).
    """
    machine = (platform.system(), platform.machine())
    if machine != ("Linux", "x86_64"):
        raise NotPossible(
            f"The wheel of Triton {TRITON_VERSION} is for Linux on x86_64; this is {' on '.join(machine)}."
        )
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise NotPossible(
            f"The models' packages are for Python {'.'.join(map(str, NEWEST_PYTHON))} at most (Triton "
            f"{TRITON_VERSION} needs numpy 1.26); this is {_minor()}. Make the environment with an older one."
        )
    name = f"libpython{_minor()}.so.1.0"
    library = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    for folder in (library, library / multiarch):
        if (folder / name).exists():
            return folder
    raise NotPossible(
        f"{name} is neither in {library} nor in {library / multiarch}, and Triton's Python backend needs it. "
        f"On Debian and Ubuntu: apt-get install libpython{_minor()}."
    )


def main() -> int:
    try:
        found = serving_environment(Progress())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in found.variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
