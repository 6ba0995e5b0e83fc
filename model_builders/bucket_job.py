"""`pull` and `push`: the first and the last container of a build whose store is a bucket (handover.py);
`keep`, which runs beside it and sends its checkpoints; and `store`, which runs beside a fetch.

They alone have the store's credentials, and they run no code that an input could have a say in: they move
files and compare digests.
"""

import logging
import os
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_builders.bucket_store import ARTIFACT as ARTIFACTS
from model_builders.bucket_store import SOURCE as SOURCES
from model_builders.bucket_store import BucketStore, Kind
from model_builders.digests import FileDigest
from model_builders.errors import EXIT_DONE, EXIT_REFUSED, JobError, Refused, Terminated, TryAgain
from model_builders.fetch import in_words
from model_builders.handover import (
    WORKER,
    Held,
    Outcome,
    open_partial,
    read_outcome,
    read_own,
    wait_for_end,
    write_held,
    write_outcome,
)
from model_builders.messages import (
    ARTIFACT,
    BuildRequest,
    BuildResult,
    FetchRequest,
    InputOfBuild,
    Recipe,
    inputs_fetched,
    telling,
)
from model_builders.store import Damaged, Store, partial_key

logger = logging.getLogger(__name__)

KEEP_SECONDS = 5.0
"""Between two looks for checkpoints; a training writes one in 20 seconds, or at the end of an epoch."""


def store_fetched(
    request: FetchRequest, bucket: BucketStore, scratch: Store, recipe: Recipe | None = None
) -> Outcome:
    """All that is to be done for a fetch with the store's credentials, while it runs and after it."""
    scratch.prepare()
    if request.names_digests:
        tell_held(request, bucket, scratch)
        bucket.sweep(time.time())
    wait_for_end(scratch.root, WORKER)
    return push_fetched(request, bucket, scratch, recipe)


def tell_held(request: FetchRequest, bucket: BucketStore, scratch: Store) -> None:
    """Say which of the inputs whose digest is known the bucket has."""
    sources: dict[str, tuple[int, int]] = {}
    artifacts: dict[str, tuple[FileDigest, ...]] = {}
    for wanted in request.inputs:
        if wanted.artifact:
            files = _files(bucket, ARTIFACTS, wanted.artifact)
            if files is not None:
                artifacts[wanted.artifact] = files
        elif wanted.sha256:
            files = _files(bucket, SOURCES, wanted.sha256)
            if files is not None:
                sources[wanted.sha256] = (len(files), sum(file.size for file in files))
    write_held(scratch.root, Held(sources, artifacts))
    found = len(sources) + len(artifacts)
    logger.info("%s of %s inputs are in the store already", found, len(request.inputs))


def pull_for_build(request: BuildRequest, bucket: BucketStore, scratch: Store) -> str:
    """Find an earlier result, or bring what the build needs; returns a sentence.

    An input that the bucket does not have is left to the build to complain of.
    """
    scratch.prepare()
    bucket.sweep(time.time())
    earlier = _find_earlier(request.key, bucket, repair=request.repair)
    if earlier is not None:
        write_outcome(scratch.root, Outcome(EXIT_DONE, earlier.to_json()))
        return f"Already built as {earlier.digest}."
    for wanted in request.inputs:
        _bring(wanted, bucket, scratch)
    found = bucket.bring_partial(partial_key(request.identity), scratch)
    also = f", and {found} checkpoints of an earlier pod" if found else ""
    return f"{len(request.inputs)} inputs are brought{also}."


@dataclass
class Keeper:
    """Sends the checkpoints of a build as they come, for the next pod of the same Job."""

    key: str
    bucket: BucketStore
    scratch: Path
    sent: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """What each file was when it was sent: another file has another of these."""

    def run(self) -> str:
        """Until SIGTERM, which comes when the last container has ended. Never fails: a build whose
        checkpoints cannot be sent is a build all the same."""
        try:
            while True:
                began = time.monotonic()
                try:
                    self.look()
                except FileNotFoundError:
                    logger.debug("a checkpoint went while it was looked at: the build goes on, or has ended")
                except (JobError, OSError) as error:
                    logger.warning("the checkpoints cannot be sent, for now: %s", error)
                # At most half of the time is spent with sending.
                time.sleep(max(KEEP_SECONDS, time.monotonic() - began))
        except Terminated:
            return f"{len(self.sent)} checkpoints were kept."

    def look(self) -> None:
        before = dict(self.sent)
        with closing(open_partial(self.scratch, self.key)) as files:
            for path, descriptor in files:
                status = os.fstat(descriptor)
                now = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self.sent.get(path) != now:
                    self.bucket.send_partial(path, Path(f"/proc/self/fd/{descriptor}"))
                    self.sent[path] = now
                    logger.info("sent %s, %s", path, in_words(status.st_size))
        self.sent = {
            path: status for path, status in self.sent.items() if (self.scratch / "tmp" / path).exists()
        }
        if self.sent != before:  # of an earlier pod, or of a build that has ended
            self.bucket.forget_partial(self.key, but=self.sent)


def push_fetched(
    request: FetchRequest, bucket: BucketStore, scratch: Store, recipe: Recipe | None = None
) -> Outcome:
    """Send every source that is complete, also when another failed. `recipe`: what is to be built of them, to
    look whether it was. What the container that fetched says of that counts for nothing."""
    outcome = _outcome(scratch)
    folder = scratch.root / "sources"
    for path in sorted(folder.iterdir()):
        bucket.send(SOURCES, path.name, scratch, request.deadline_seconds)
    inputs, built = inputs_fetched(outcome.result), None
    if recipe is not None and inputs:
        built = _find_earlier(recipe.key(inputs), bucket)
    fetched = {name: told for name, told in outcome.result.items() if name != "built"}
    return replace(outcome, result=telling(fetched, built))


def push_built(request: BuildRequest, bucket: BucketStore, scratch: Store) -> Outcome:
    """Send the artifact, then the whole result, also that of a failed build."""
    outcome = _outcome(scratch)
    digest = outcome.result.get("digest")
    if outcome.exit_code == EXIT_DONE and isinstance(digest, str) and scratch.artifact(digest).is_dir():
        bucket.send(ARTIFACTS, digest, scratch, request.deadline_seconds)
    whole = read_own(scratch.root, f"results/{request.key}.json")
    if whole is not None:
        bucket.write_result(request.key, whole)
    if outcome.exit_code in (EXIT_DONE, EXIT_REFUSED):  # else the next try goes on from them
        bucket.forget_partial(partial_key(request.identity))
    return outcome


def _find_earlier(key: str, bucket: BucketStore, *, repair: bool = False) -> BuildResult | None:
    """The result of an earlier build of the same key whose artifact is in the bucket.

    Its bytes are read only when somebody found them damaged: otherwise its size says enough.
    """
    earlier = BuildResult.of(key, bucket.read_result(key) or {})
    if earlier is None:
        return None
    if repair:
        whole = bucket.check(ARTIFACTS, earlier.digest)
    else:
        whole = _files(bucket, ARTIFACTS, earlier.digest) is not None
    if not whole:
        logger.warning("the artifact of the earlier build is not whole, building again: %s", earlier.digest)
    return earlier if whole else None


def _files(bucket: BucketStore, kind: Kind, digest: str) -> tuple[FileDigest, ...] | None:
    try:
        return bucket.files(kind, digest)
    except Damaged as damage:
        logger.warning("%s/%s in the store is damaged: %s", kind.folder, digest, damage)
        return None


def _bring(wanted: InputOfBuild, bucket: BucketStore, scratch: Store) -> None:
    kind = ARTIFACTS if wanted.kind == ARTIFACT else SOURCES
    try:
        if bucket.bring(kind, wanted.sha256, scratch):
            logger.info("input %s: %s/%s is here, verified", wanted.name, kind.folder, wanted.sha256)
    except Damaged as damage:
        again = (
            "Restart a server of the model it belongs to, which makes the operator build it again."
            if kind is ARTIFACTS
            else "Set spec.build.trigger to a new value to fetch it again."
        )
        raise Refused(
            "HashMismatch",
            f"Input {wanted.name!r}: what the store holds as {wanted.sha256} is damaged: {damage}. {again}",
        ) from damage


def _outcome(scratch: Store) -> Outcome:
    outcome = read_outcome(scratch.root)
    if outcome is None:
        raise TryAgain("BuildFailed", "The container that does the work left no result.")
    return outcome
