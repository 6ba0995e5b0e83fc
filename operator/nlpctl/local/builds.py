"""Fetches and builds models on this machine, by the requests the operator would write into their Jobs."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.environments import BUILDER, TORCH_BUILDER, Recipe, code_path, environment
from localcluster.progress import Progress
from nlp_operator.api import names
from nlp_operator.api.conditions import BUILT
from nlp_operator.api.objects import Obj, text
from nlp_operator.planning.artifact import parse_built, parse_fetched
from nlp_operator.planning.dependencies import resolve, sources_of
from nlp_operator.resources.jobs import FetchedInput, build_request, fetch_request
from nlp_operator.resources.manifests import canonical_json
from nlpctl.errors import BuildFailed
from nlpctl.local.inputs import Given, local_request, without_credentials
from nlpctl.local.manifests import Manifests, Model
from nlpctl.local.processes import end_session, start

LAST_LINES = 15
"""How much of a builder's log stands in the message when it ended without a result."""

ENDING_SECONDS = 30
"""From SIGTERM to SIGKILL, as in a Job's pod: time to leave nothing half written."""


@dataclass(frozen=True)
class Bound:
    """A bound of spec.build.quality beside what was measured."""

    metric: str
    measured: str
    bound: str
    """`at least 4` or `at most 0.5`."""


@dataclass(frozen=True)
class Built:
    model: Model
    inputs: tuple[FetchedInput, ...]
    key: str
    digest: str
    bytes: int
    metrics: Mapping[str, float]
    """All of them, as the artifact keeps them."""
    bounds: tuple[Bound, ...]
    cached: bool
    """The store had it already."""
    message: str
    fetch_seconds: float
    build_seconds: float


@dataclass(frozen=True)
class Pythons:
    """Interpreters that have the packages of a model's Jobs, as their images have them."""

    fetch: Path
    build: Path


def builder_environments(models: Sequence[Model], progress: Progress) -> dict[str, Pythons]:
    """By model; what the cache does not hold is installed. Raises ClusterError."""

    def python(recipe: Recipe) -> Path:
        return environment(recipe, progress) / "bin/python3"

    return {
        model.name: Pythons(
            python(BUILDER),
            python(
                TORCH_BUILDER if model.spec.build.architecture in names.ARCHITECTURES_WITH_TORCH else BUILDER
            ),
        )
        for model in models
    }


def build_models(
    manifests: Manifests, given: Given, store: Path, pythons: Mapping[str, Pythons], progress: Progress
) -> list[Built]:
    """Build every model, those that others take from first. Raises BuildFailed."""
    built: dict[str, Built] = {}
    for model in in_order(manifests.models):
        built[model.name] = _build(model, manifests, given, store, pythons[model.name], built, progress)
    return [built[model.name] for model in manifests.models]


def in_order(models: Sequence[Model]) -> list[Model]:
    """Each model after those whose artifacts are its inputs. Raises BuildFailed for a ring of them."""
    by_name = {model.name: model for model in models}
    objects = {model.name: model.obj for model in models}
    ordered: dict[str, Model] = {}

    def visit(model: Model) -> None:
        found = resolve(model.obj, model.spec.build, (), "", objects).violation
        if found is not None and found.reason == "DependencyCycle":
            raise BuildFailed(found.reason, found.message)
        for needed in sources_of(model.obj):
            if needed not in ordered:
                visit(by_name[needed])
        ordered[model.name] = model

    for model in models:
        visit(model)
    return list(ordered.values())


def _build(
    model: Model,
    manifests: Manifests,
    given: Given,
    store: Path,
    pythons: Pythons,
    built: Mapping[str, Built],
    progress: Progress,
) -> Built:
    inputs = resolve(model.obj, model.spec.build, (), "", {one: as_built(built[one]) for one in built})
    if inputs.violation is not None:
        raise BuildFailed(inputs.violation.reason, inputs.violation.message)
    build = inputs.build
    for sentence in without_credentials(model, given):
        progress.say(f"  {sentence}")
    with tempfile.TemporaryDirectory(prefix="nlp-inputs-") as volumes:
        request = local_request(fetch_request(model.obj, build), model, manifests, given, Path(volumes))
        started = time.monotonic()
        with progress.step(f"{model.name}: fetch {', '.join(one.name for one in build.inputs)}"):
            result = run_job("fetch", request, pythons.fetch, store, {"NLP_INPUTS": volumes}, progress)
        fetch_seconds = time.monotonic() - started
    fetched = parse_fetched(result)
    if fetched is None:
        raise BuildFailed("BuildFailed", f"The fetch gave no result that this release can read: {result}")
    request = build_request(model.obj, build, fetched)
    cached = _has_artifact(store, request["key"])
    started = time.monotonic()
    with progress.step(f"{model.name}: {'find the artifact' if cached else f'build {build.architecture}'}"):
        result = run_job("build", request, pythons.build, store, {}, progress)
    parsed = parse_built(result, request["key"])
    if parsed is None:
        raise BuildFailed("BuildFailed", f"The build gave no result that this release can read: {result}")
    metrics = json.loads((store / "artifacts" / parsed["digest"] / "metrics.json").read_text())["metrics"]
    return Built(
        model,
        fetched,
        request["key"],
        parsed["digest"],
        parsed["bytes"],
        metrics,
        bounds_of(request["quality"], metrics),
        cached,
        text(result, "message"),
        fetch_seconds,
        time.monotonic() - started,
    )


def as_built(one: Built) -> Obj:
    """A model as the API server would show it once it is built: what models that take from it look at."""
    status = {
        "artifact": {"digest": one.digest},
        "conditions": [{"type": BUILT, "status": "True", "observedGeneration": 1}],
    }
    metadata = {**one.model.obj["metadata"], "generation": 1}
    return {**one.model.obj, "metadata": metadata, "status": status}


def _has_artifact(store: Path, key: str) -> bool:
    try:
        earlier = json.loads((store / "results" / f"{key}.json").read_text())
        return bool(earlier["ok"]) and (store / "artifacts" / earlier["digest"] / "manifest.json").exists()
    except (OSError, ValueError, KeyError):
        return False


def bounds_of(quality: Sequence[Mapping[str, str]], metrics: Mapping[str, float]) -> tuple[Bound, ...]:
    words = {"atLeast": "at least", "atMost": "at most"}
    return tuple(
        Bound(
            one["metric"],
            f"{metrics[one['metric']]:.6g}" if one["metric"] in metrics else "",
            next(f"{words[key]} {one[key]}" for key in words if key in one),
        )
        for one in quality
    )


def run_job(
    command: str, request: Obj, python: Path, store: Path, variables: Mapping[str, str], progress: Progress
) -> Obj:
    """Run a Job's program to its end; its result. What it logs is shown as it comes.

    Raises BuildFailed with the reason and the message that would stand in the condition Built.
    """
    with tempfile.TemporaryDirectory(prefix="nlp-job-") as folder:
        answer = Path(folder, "result.json")
        process = start(
            python,
            "model_builders",
            [command],
            {
                "PYTHONPATH": str(code_path("model_builders", "nlp_bucket")),
                "NLP_REQUEST": canonical_json(request),
                "NLP_STORE": str(store),
                "NLP_TERMINATION_LOG": str(answer),
                "ORT_DISABLE_TELEMETRY": "1",
                **variables,
            },
            network=command == "fetch",
            stderr=subprocess.PIPE,
        )
        lines = _follow(process, progress)
        content = answer.read_text(encoding="utf-8") if answer.exists() else ""
    result: Obj = json.loads(content) if content else {}
    if process.returncode == 0 and result.get("ok") is True:
        return result
    if text(result, "reason"):
        raise BuildFailed(text(result, "reason"), text(result, "message"))
    last = "\n".join(lines[-LAST_LINES:])
    raise BuildFailed("BuildFailed", f"The {command} ended with exit code {process.returncode}:\n{last}")


def _follow(process: subprocess.Popen[bytes], progress: Progress) -> list[str]:
    """Show a Job's log until it ends; its lines. When we are interrupted it is ended first, in order."""
    lines = []
    try:
        assert process.stderr is not None
        for raw in process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            lines.append(line)
            _, level, said = ("", "", line) if line.count(" ") < 2 else line.split(" ", 2)
            if level in ("INFO", "WARNING"):
                progress.say(f"    {said}")
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            end_session(process)
        raise
    finally:
        if process.stderr is not None:
            process.stderr.close()
    return lines
