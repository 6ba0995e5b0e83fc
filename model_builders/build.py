"""The build Job: from inputs in the store to an artifact in the store, or to a sentence that says why not.

The order is the promise: nothing is trained with parameters that cannot work, nothing is exported below its
quality floor, nothing is published whose written files answer otherwise than the model did. The artifact's
rename and then its result are the last two acts.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from model_builders.architecture import Architecture
from model_builders.architectures import find_architecture
from model_builders.artifact import VERSION_FOLDER, write_artifact
from model_builders.checkpoints import Checkpoints
from model_builders.digests import FileDigest
from model_builders.errors import JobError, Refused
from model_builders.fetch import find_built, in_words, verify_artifact
from model_builders.messages import ARTIFACT, BuildRequest, BuildResult, InputOfBuild, Json, failure_of
from model_builders.progress import progress
from model_builders.quality import as_text, check_metric_names, check_quality
from model_builders.source import Source
from model_builders.store import DATA, Damaged, Store, read_manifest, verify, verify_source

logger = logging.getLogger(__name__)


def build(request: BuildRequest, store: Store) -> BuildResult:
    """Build, or find what was built before.

    Raises JobError; then results/<key>.json holds the failure and what was measured.
    """
    store.prepare()
    store.sweep(time.time())
    earlier = find_built(request.key, store)
    if earlier is not None:
        logger.info("already built as %s", earlier.digest)
        return earlier
    checkpoints = Checkpoints(lambda: _partial(request, store))
    with store.staging("build", time.time(), request.deadline_seconds) as staging:
        measured: dict[str, float] = {}
        try:
            result = _build(request, store, staging, checkpoints, measured)
        except JobError as error:
            if isinstance(error, Refused):  # the same build would end in the same way
                checkpoints.forget()
            _keep_failure(request, error, measured, store, staging)
            raise
        checkpoints.forget()
        store.write_result(request.key, {**result.to_json(), "allMetrics": _as_texts(measured)}, staging)
        return result


def _partial(request: BuildRequest, store: Store) -> Path:
    return store.partial(request.identity, time.time(), request.deadline_seconds)


def _build(
    request: BuildRequest, store: Store, staging: Path, checkpoints: Checkpoints, measured: dict[str, float]
) -> BuildResult:
    architecture = find_architecture(request.architecture)
    recipe = architecture.prepare(request.parameters, request.export)
    check_metric_names(request.quality, architecture.metrics)
    sources = tuple(_open(i, store) for i in request.inputs)
    _check_artifacts(sources, architecture)

    model = recipe.train(sources, checkpoints)
    metrics = dict(model.metrics)
    measured.update(metrics)
    logger.info("%s", model.summary)
    check_quality(request.quality, metrics)
    progress.info("writing the artifact, and comparing it with the model")

    folder = staging / "artifact"
    with store.writing():
        (folder / VERSION_FOLDER).mkdir(parents=True)
        exported = model.export(folder / VERSION_FOLDER)
        digest, size = write_artifact(folder, request, exported, metrics, model.summary, architecture.metrics)
    measured.update(exported.measured)
    difference = model.check_export(folder / VERSION_FOLDER)
    # Not in the artifact: this number may differ in its last digit from one processor to another, the
    # artifact must not.
    measured["exportMaxDifference"] = difference
    logger.info("the exported model answers as the built one does; largest difference %.1e", difference)

    final = store.artifact(digest)
    if final.exists():
        try:
            verify(final, total=digest)
        except Damaged as damage:
            logger.warning("artifact %s in the store is damaged, writing it again: %s", digest, damage)
            store.put_aside(final, staging)
    if not final.exists():
        store.publish(folder, final)
    shown = {name: as_text(value) for name, value in {**exported.measured, **measured}.items()}
    sentences = (model.summary, exported.note, f"Its artifact has {in_words(size)}.")
    return BuildResult(request.key, digest, size, shown, " ".join(filter(None, sentences)))


def _open(wanted: InputOfBuild, store: Store) -> Source:
    opened = _open_artifact if wanted.kind == ARTIFACT else _open_source
    return opened(wanted.name, wanted.sha256, store)


def _open_artifact(name: str, digest: str, store: Store) -> Source:
    files = verify_artifact(name, digest, store)
    folder = store.artifact(digest)
    architecture = str(read_manifest(folder).get("architecture"))
    logger.info("input %s: artifact of %s, %s, verified", name, architecture, in_words(_size(files)))
    return Source(name, "Artifact", folder, tuple(file.path for file in files), architecture)


def _check_artifacts(sources: tuple[Source, ...], architecture: Architecture) -> None:
    taken = architecture.takes_artifacts_of
    for source in sources:
        if source.kind == "Artifact" and source.architecture not in taken:
            allowed = f"artifacts of {', '.join(sorted(taken))}" if taken else "no artifact of another model"
            raise Refused(
                "InputInvalid",
                f"Input {source.name!r} is an artifact of {source.architecture}; {architecture.name} takes "
                f"{allowed}.",
            )


def _open_source(name: str, sha256: str, store: Store) -> Source:
    folder = store.source(sha256)
    if not folder.is_dir():
        raise Refused(
            "InputMissing",
            f"Input {name!r}: {sha256} is not in the store any more. Set spec.build.trigger to "
            f"a new value to fetch it again.",
        )
    try:
        files = verify_source(store, sha256)
        kind = read_manifest(folder).get("kind")
    except Damaged as damage:
        raise Refused(
            "HashMismatch",
            f"Input {name!r}: what the store holds as {sha256} is damaged: {damage}. "
            "Set spec.build.trigger to a new value to fetch it again.",
        ) from damage
    logger.info("input %s: %s, verified", name, in_words(_size(files)))
    return Source(
        name, "File" if kind == "File" else "Folder", folder / DATA, tuple(file.path for file in files)
    )


def _size(files: Sequence[FileDigest]) -> int:
    return sum(file.size for file in files)


def _keep_failure(
    request: BuildRequest, error: JobError, measured: dict[str, float], store: Store, staging: Path
) -> None:
    """Leave the whole result of a failed build.

    A store that cannot take it must not hide why the build failed.
    """
    content: Json = {**failure_of(error), "key": request.key, "allMetrics": _as_texts(measured)}
    try:
        store.write_result(request.key, content, staging)
    except JobError as second:
        logger.warning("the result could not be kept in the store: %s", second.message)


def _as_texts(metrics: dict[str, float]) -> dict[str, str]:
    return {
        name: as_text(value) if value == 0 or abs(value) >= 1e-6 else f"{value:.1e}"
        for name, value in metrics.items()
    }
