"""Tiny models of every kind, trained once, as folders of Hugging Face's form; and their artifacts.

Both are kept in the cache, under a hash of all they are made from.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from localcluster import paths
from localcluster.environments import TORCH_BUILDER, root_of, unpack_wheels
from localcluster.locks import locked
from localcluster.progress import Progress
from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, Ran, request_of_build
from tests.model_builders.torch_jobs import ROOT, WHERE, Built, kept, python_with_torch, run_build, with_torch

Kind = Literal["moods", "names", "animals", "digits"]

PARAMETERS: Mapping[Kind, Mapping[str, Any]] = {
    "moods": {"task": "SequenceClassification", "longTexts": "Truncate"},
    "names": {"task": "TokenClassification"},
    "animals": {"task": "Translation"},
    "digits": {"task": "Translation", "prefix": "읽기: "},
}

PROGRAM = "tests.model_builders.hugging_face.train_folders"
MADE_OF = tuple(Path(__file__).with_name(name) for name in ("rows.py", "train_folders.py"))
SENTENCEPIECE = "constraints/sentencepiece.txt"


@cache
def sentencepiece() -> Path:
    """A folder for PYTHONPATH: what transformers reads Marian's tokenizer with."""
    return _once("sentencepiece", "", lambda folder: unpack_wheels(SENTENCEPIECE, folder))


@cache
def folder_of(kind: Kind) -> Path:
    """As transformers wrote it."""

    def train(folder: Path) -> None:
        environment = {"PYTHONPATH": f"{WHERE}:{sentencepiece()}", "PYTHONWARNINGS": "ignore"}
        command = [str(python_with_torch()), "-m", PROGRAM, kind, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    text = "".join(path.read_text(encoding="utf-8") for path in MADE_OF)
    return _once(f"hub-{kind}", text + root_of(TORCH_BUILDER).name, train)


def _once(name: str, made_of: str, make: Any) -> Path:
    pins = (ROOT / SENTENCEPIECE).read_text(encoding="utf-8")
    digest = hashlib.sha256((made_of + pins).encode()).hexdigest()[:12]
    folder = paths.cache_dir() / "test-models" / f"{name}-{digest}"
    with locked(folder, Progress()):
        if not folder.exists():
            draft = folder.with_name(f"{folder.name}-draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            make(draft)
            draft.rename(folder)
    return folder


def build(
    jobs: Jobs,
    inputs: Mapping[str, Path],
    parameters: Mapping[str, Any],
    quality: tuple[Mapping[str, str], ...] = (),
) -> Ran:
    """Fetch and build with both Jobs. The fetch must not fail."""
    wanted = []
    for name, path in inputs.items():
        volume = jobs.volumes / name
        if not volume.exists():
            volume.parent.mkdir(parents=True, exist_ok=True)
            volume.symlink_to(path)
        wanted.append({"name": name, "path": str(volume)})
    fetched = jobs.fetch(*wanted)
    assert fetched.code == 0, fetched.log
    found = [InputOfBuild(one["name"], one["sha256"]) for one in fetched.result["inputs"]]
    request = request_of_build(found, "HuggingFace", parameters, quality)
    # Warnings of torch and transformers about themselves are theirs.
    return run_build(with_torch(jobs), request, warnings="default")


@cache
def built(kind: Kind) -> Built:
    """The artifact of the folder."""
    weights = folder_of(kind)
    name = f"hub-{kind}-{weights.name[-12:]}"
    return kept(name, lambda jobs: build(jobs, {"weights": weights}, PARAMETERS[kind]))
