"""The fetch Job: copy every input into the store under the digest of its bytes.

A mounted input is read twice when it is new and once when the store already has it. The first reading
decides, so that an unchanged input writes nothing and a pinned one is refused before a byte is copied; the
second proves that the bytes did not change in between. One from the network is read once, into a folder that
outlives the Job (download.py), and not at all when the store has what it is pinned to.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_builders.digests import CHUNK_BYTES, FileDigest, digest_of_folder
from model_builders.errors import Refused
from model_builders.inputs import Input, changed_while_read, find_input, in_quotes
from model_builders.messages import (
    ARTIFACT,
    BuildResult,
    FetchedInput,
    FetchRequest,
    FetchResult,
    InputOfBuild,
    InputToFetch,
    Recipe,
)
from model_builders.sources import open_remote
from model_builders.sources.network import Network, guarded
from model_builders.store import DATA, MANIFEST, Damaged, Store, remove, verify
from model_builders.trust import FileCheck, Trust, check_name, check_zip, is_zip

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0

OF_THE_BYTES = frozenset(
    {
        "HashMismatch",
        "InputEmpty",
        "InputInvalid",
        "InputRefused",
        "InputTooLarge",
        "ScratchFull",
        "StoreFull",
    }
)
"""Refusals after which what was fetched is of no use. After others, a token that expired, the next Job goes
on."""


@dataclass(frozen=True)
class Reach:
    """How far a fetch may go on the network, as the administrator says."""

    networks: tuple[Network, ...] = ()
    """Private, loopback and link-local networks that sources may lie in."""
    redirect_hosts: tuple[str, ...] = ()
    """Hosts that a source's own host may send us on to."""


def fetch(
    request: FetchRequest,
    store: Store,
    volumes: Path,
    max_bytes: int,
    reach: Reach = Reach(),
    recipe: Recipe | None = None,
) -> FetchResult:
    """Bring all inputs into the store. `recipe`: what is to be built of them, to look whether it was.

    Raises JobError; inputs that were complete by then stay, and are found the next time.
    """
    store.prepare()
    store.sweep(time.time())
    fetched = []
    with store.staging("fetch", time.time(), request.deadline_seconds) as staging:
        for wanted in request.inputs:
            if wanted.artifact:
                fetched.append(_find_artifact(wanted, store))
                continue
            if wanted.network is not None:
                fetched.append(_fetch_from_network(request, wanted, store, staging, max_bytes, reach))
                continue
            found = find_input(wanted.name, wanted.path, volumes, max_bytes)
            logger.info("input %s: %s files, %s", wanted.name, len(found.entries), in_words(found.bytes))
            fetched.append(_fetch_one(wanted, found, store, staging))
    files, size = sum(f.files for f in fetched), sum(f.bytes for f in fetched)
    noun = "file" if files == 1 else "files"
    said = f"Fetched {files:,} {noun}, {in_words(size)}."
    built = None
    if recipe is not None:
        inputs = [InputOfBuild(one.name, one.sha256, one.kind) for one in fetched]
        built = find_built(recipe.key(inputs), store)
    if built is not None:
        logger.info("what is to be built of it is in the store already: artifact %s", built.digest)
    return FetchResult(tuple(fetched), said, built)


def find_built(key: str, store: Store) -> BuildResult | None:
    """The result of an earlier build of this key whose artifact is whole."""
    earlier = BuildResult.of(key, store.read_result(key) or {})
    if earlier is None:
        return None
    try:
        verify(store.artifact(earlier.digest), total=earlier.digest)
    except Damaged as damage:
        logger.warning("the artifact of the earlier build is damaged, building again: %s", damage)
        return None
    return earlier


def _fetch_one(wanted: InputToFetch, found: Input, store: Store, staging: Path) -> FetchedInput:
    _check_trust(found)
    files = _read(found, lambda index: None)
    digest = digest_of(found, files)
    if wanted.sha256 and digest != wanted.sha256:
        raise _not_the_pinned(wanted, found.shown, digest)
    result = FetchedInput(wanted.name, digest, len(files), sum(file.size for file in files))
    if store.holds_source(digest, staging):
        logger.info("input %s: already in the store as %s", wanted.name, digest)
        return result

    folder = staging / wanted.name
    with store.writing():
        folder.mkdir()
        (folder / DATA).mkdir()
    copied = _read(found, lambda index: folder / DATA / found.entries[index].path, store)
    if copied != files:
        changed = next((new.path for old, new in zip(files, copied, strict=True) if old != new), found.shown)
        raise changed_while_read(wanted.name, changed)
    _publish(wanted.name, found.kind, digest, copied, folder, store)
    return result


def _fetch_from_network(
    request: FetchRequest, wanted: InputToFetch, store: Store, staging: Path, max_bytes: int, reach: Reach
) -> FetchedInput:
    from model_builders.download import SOURCE, Download  # HTTP takes longer to load than all else

    name = wanted.name
    if wanted.sha256 and store.holds_source(wanted.sha256, staging):
        return _found(name, wanted.sha256, store)
    folder = store.partial(identity_of(request.model, wanted), time.time(), request.deadline_seconds)
    try:
        with guarded(reach.networks):
            remote = open_remote(wanted, reach.redirect_hosts)
            download = Download(name, remote, folder, store, max_bytes)
            if download.finished and store.holds_source(download.finished, staging):
                return _found(name, download.finished, store)
            files = download.run()
        if not any(file.size for file in files):
            raise Refused("InputEmpty", f"Input {name!r}: {remote.shown} holds not a byte to build from.")
        digest = files[0].sha256 if remote.kind == "File" else digest_of_folder(files)
        if wanted.sha256 and digest != wanted.sha256:
            raise _not_the_pinned(wanted, remote.shown, digest)
    except Refused as refused:
        if refused.reason in OF_THE_BYTES:
            remove(folder)
        raise
    if not store.holds_source(digest, staging):
        _publish(name, remote.kind, digest, files, folder / SOURCE, store)
    download.finish(digest)
    return FetchedInput(name, digest, len(files), sum(file.size for file in files))


def _found(name: str, digest: str, store: Store) -> FetchedInput:
    logger.info("input %s: already in the store as %s", name, digest)
    files, size = store.extent_of_source(digest)
    return FetchedInput(name, digest, files, size)


def identity_of(model: str, wanted: InputToFetch) -> str:
    """Names what may be continued: the same input of the same model. Two models never write one folder."""
    return f"{model} {wanted.name} {wanted.sha256} {wanted.network!r}"


def _publish(
    name: str, kind: str, digest: str, files: Sequence[FileDigest], folder: Path, store: Store
) -> None:
    """`folder` holds the files below data/; it gets its manifest and its final name."""
    listed = [file.to_json() for file in files]
    manifest = {"version": 1, "kind": kind, "sha256": digest, "files": listed}
    with store.writing():
        (folder / MANIFEST).write_text(
            json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
    if not store.publish(folder, store.source(digest)):
        logger.info("input %s: another Job stored it at the same time", name)
    logger.info("input %s: stored as %s", name, digest)


def _not_the_pinned(wanted: InputToFetch, shown: str, digest: str) -> Refused:
    return Refused(
        "HashMismatch",
        f"Input {wanted.name!r}: {in_quotes(shown)} has the sha256 {digest}, but the spec pins "
        f"{wanted.sha256}. Put back the data that was pinned, or change the pin.",
    )


def _find_artifact(wanted: InputToFetch, store: Store) -> FetchedInput:
    """Check that another model's artifact is in the store, whole; there is nothing to copy."""
    if wanted.sha256 not in ("", wanted.artifact):
        raise Refused(
            "HashMismatch",
            f"Input {wanted.name!r} is the artifact {wanted.artifact}, but the spec pins {wanted.sha256}. "
            "Change the pin, or take it away.",
        )
    files = verify_artifact(wanted.name, wanted.artifact, store)
    size = sum(file.size for file in files)
    logger.info("input %s: artifact %s, %s, verified", wanted.name, wanted.artifact, in_words(size))
    return FetchedInput(wanted.name, wanted.artifact, len(files), size, ARTIFACT)


def verify_artifact(name: str, digest: str, store: Store) -> tuple[FileDigest, ...]:
    """Check that the artifact an input stands for is what its name says. Raises Refused."""
    try:
        return store.verify_artifact(digest)
    except FileNotFoundError as error:
        raise Refused(
            "InputMissing",
            f"Input {name!r}: the artifact {digest} is not in the store any more. Restart a server of the "
            "model it belongs to, which makes the operator build it again, or change that model's spec.",
        ) from error
    except Damaged as damage:
        raise Refused(
            "HashMismatch",
            f"Input {name!r}: what the store holds as artifact {digest} is damaged: {damage}. Restart a "
            "server of the model it belongs to, which makes the operator build it again.",
        ) from damage


def digest_of(found: Input, files: list[FileDigest]) -> str:
    return files[0].sha256 if found.kind == "File" else digest_of_folder(files)


def _check_trust(found: Input) -> None:
    """Refuse, before the bytes are read, what may not lie in a model's folder, and zip files with pickles."""
    for index, entry in enumerate(found.entries):
        check_name(found.name, entry.path, Trust.NO_CODE, found.is_model)
        with found.open(index) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            if is_zip(stream.read(4)):
                check_zip(found.name, found.shown_path(index), stream)


def _read(found: Input, target: Callable[[int], Path | None], store: Store | None = None) -> list[FileDigest]:
    """Read every byte of an input; write each file to `target(index)` where that gives a path."""
    done, said = 0, time.monotonic()
    files = []
    for index, entry in enumerate(found.entries):
        sha256, size = hashlib.sha256(), 0
        path = target(index)
        check = FileCheck(found.name, entry.path, Trust.NO_CODE, found.is_model)
        with found.open(index) as descriptor, _Copy(path, store) as copy:
            before = os.fstat(descriptor)
            while chunk := _read_chunk(descriptor, found, index):
                sha256.update(chunk)
                check.feed(chunk)
                size += len(chunk)
                copy.write(chunk)
                if time.monotonic() - said > PROGRESS_SECONDS:
                    said = time.monotonic()
                    verb = "copied" if path else "read"
                    logger.info(
                        "input %s: %s %s of %s",
                        found.name,
                        verb,
                        in_words(done + size),
                        in_words(found.bytes),
                    )
            after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (
            after.st_size,
            after.st_mtime_ns,
        ) or size != after.st_size:
            raise changed_while_read(found.name, found.shown_path(index))
        check.close()
        done += size
        files.append(FileDigest(entry.path, size, sha256.hexdigest()))
    return files


def _read_chunk(descriptor: int, found: Input, index: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError as error:
        raise found.explain(error, index) from error


class _Copy:
    """The file being written, or nothing at all.

    Errors of its file system are the store's, not the input's.
    """

    def __init__(self, path: Path | None, store: Store | None) -> None:
        self._path = path
        self._store = store
        self._descriptor: int | None = None

    def __enter__(self) -> "_Copy":
        if self._path is not None and self._store is not None:
            with self._store.writing():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(
                    self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
                )
        return self

    def write(self, chunk: bytes) -> None:
        if self._descriptor is None or self._store is None:
            return
        with self._store.writing():
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def in_words(size: int) -> str:
    """Bytes as a user reads them: `1.2 kB`."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
