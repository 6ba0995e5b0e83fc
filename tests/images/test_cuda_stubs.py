"""Stand-ins for missing libraries are loaded by the real loader, and end the process when they are called."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the stubs are for x86-64")


def load_module() -> ModuleType:
    path = ROOT / "images/builder/cuda_stubs.py"
    spec = importlib.util.spec_from_file_location("cuda_stubs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cuda_stubs"] = module
    spec.loader.exec_module(module)
    return module


stubs = load_module()
SYMBOLS = [
    ("cublasCreate_v2", "libcublas.so.13"),
    ("cublasDestroy_v2", "libcublas.so.13"),
    ("cublasPlain", ""),
]


def test_a_stub_holds_what_it_was_written_with(tmp_path: Path) -> None:
    stubs.write_stub(tmp_path / "libcublas.so.13", SYMBOLS)
    ctypes.CDLL(str(tmp_path / "libcublas.so.13"), mode=os.RTLD_NOW)  # the loader finds nothing wrong


def test_a_library_without_symbols_is_loaded_too(tmp_path: Path) -> None:
    stubs.write_stub(tmp_path / "libcurand.so.10", [])
    ctypes.CDLL(str(tmp_path / "libcurand.so.10"), mode=os.RTLD_NOW)


def test_a_call_ends_the_process(tmp_path: Path) -> None:
    stubs.write_stub(tmp_path / "libcublas.so.13", SYMBOLS)
    code = f"import ctypes; ctypes.CDLL({str(tmp_path / 'libcublas.so.13')!r}).cublasPlain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGILL


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc makes the library that needs the other one")
def test_a_library_that_wants_versions_is_satisfied_by_stubs_of_its_needs(tmp_path: Path) -> None:
    """The real loader resolves every symbol of a compiled library at once, as Python does at an import."""
    (tmp_path / "torch/lib").mkdir(parents=True)
    (tmp_path / "nvidia/cu13/lib").mkdir(parents=True)
    real, folder = tmp_path / "real", tmp_path / "torch/lib"
    real.mkdir()
    (real / "versions").write_text("libcublas.so.13 { global: cublas*; local: *; };")
    (real / "blas.c").write_text(
        "int cublasCreate_v2(void) { return 0; } int cublasDestroy_v2(void) { return 0; }"
    )
    library = real / "libcublas.so.13"
    shared = ["gcc", "-shared", "-fPIC", "-nostdlib", "-o"]
    script = f"-Wl,--version-script={real / 'versions'}"
    subprocess.run(
        [*shared, str(library), str(real / "blas.c"), "-Wl,-soname,libcublas.so.13", script], check=True
    )
    (real / "user.c").write_text(
        "int cublasCreate_v2(void); int cublasDestroy_v2(void); int cuFileOpen(void);"
        "int use(void) { return cublasCreate_v2() + cublasDestroy_v2() + cuFileOpen(); }"
        "int seven(void) { return 7; }"
    )
    (real / "file.c").write_text("int cuFileOpen(void) { return 0; }")
    file = real / "libcufile.so.0"
    subprocess.run([*shared, str(file), str(real / "file.c"), "-Wl,-soname,libcufile.so.0"], check=True)
    user = folder / "libtorch_cuda.so"
    subprocess.run(
        [*shared, str(user), str(real / "user.c"), str(library), str(file), "-Wl,-rpath,$ORIGIN"], check=True
    )
    with pytest.raises(OSError, match=r"libcu(blas|file)"):
        ctypes.CDLL(str(user), mode=os.RTLD_NOW)

    stubs.main(tmp_path)

    assert stubs.read_library(folder / "libcublas.so.13").needed == []
    assert ctypes.CDLL(str(user), mode=os.RTLD_NOW).seven() == 7


def test_the_driver_is_never_stood_in_for() -> None:
    """Where libcuda.so.1 is found, PyTorch believes that there is a GPU."""
    library = stubs.Library(needed=["libcuda.so.1", "libcublas.so.13", "libc.so.6"])
    assert set(stubs.stubs_for({"libtorch_cuda.so": library})) == {"libcublas.so.13"}


@pytest.mark.parametrize(
    ("symbol", "library"),
    [
        pytest.param("cublasLtCreate", "libcublasLt.so.13", id="the longer name"),
        pytest.param("cublasCreate_v2", "libcublas.so.13", id="the shorter name"),
        pytest.param("cuFileHandleRegister", "libcufile.so.0", id="in another case"),
        pytest.param("nvshmem_malloc", "libnvshmem_host.so.3", id="a name with an underscore"),
    ],
)
def test_a_symbol_without_a_version_goes_to_the_library_it_is_named_for(symbol: str, library: str) -> None:
    needed = ["libcublas.so.13", "libcublasLt.so.13", "libcufile.so.0", "libnvshmem_host.so.3"]
    found = stubs.stubs_for({"a.so": stubs.Library(needed=needed, undefined=[((symbol, ""), "")])})
    assert [name for name, symbols in found.items() if (symbol, "") in symbols] == [library]


def test_symbols_that_others_define_are_nobody_elses() -> None:
    libraries = {
        "a.so": stubs.Library(needed=["libcublas.so.13"], undefined=[(("cublasCreate", ""), "")]),
        "b.so": stubs.Library(defined={"cublasCreate"}),
    }
    assert stubs.stubs_for(libraries) == {"libcublas.so.13": []}


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "libx.so"
    path.write_bytes(b"INPUT(libm.so)" * 8)
    with pytest.raises(ValueError, match="is no shared library for x86-64"):
        stubs.read_library(path)
