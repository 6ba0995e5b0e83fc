"""The store in a bucket: the layout of the one in a volume, and no rename (docs/store.md).

What stands for the rename is the manifest: it is written last, so a folder without one is not there, however
much of it lies in the bucket already. Who writes the same thing again sends what is missing only. A marker in
tmp/ names the folder that is being written and says until when; when it has expired and there is still no
manifest, the next Job removes what was left.

A reader here believes listings: an object is whole or absent, and its size is in the list. Bytes are hashed
where they are used: when a build takes an input, and when an agent takes an artifact.
"""

import hashlib
import json
import logging
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from model_builders.digests import FileDigest
from model_builders.errors import JobError, Refused, TryAgain
from model_builders.fetch import in_words
from model_builders.handover import PARTIAL_NAME, read_own, scratch_full
from model_builders.messages import SHA256, Json
from model_builders.store import (
    DATA,
    MANIFEST,
    SWEEP_GRACE_SECONDS,
    Damaged,
    Store,
    check_digest,
    expired,
    files_in,
    parse_manifest,
    verify_files,
)
from nlp_bucket.address import Address, AddressInvalid, address_in
from nlp_bucket.bucket import Absent, Bucket, BucketError, Changed, Denied

logger = logging.getLogger(__name__)

T = TypeVar("T")

LARGEST_MANIFEST = 64 * 1024 * 1024
"""Of a source of 100,000 files with long names; an artifact has a few kB."""
LARGEST_RESULT = 1024 * 1024
PATIENCE_SECONDS = 300.0
"""How long each request is tried again: a server that restarts costs no Job."""
AT_ONCE = 4
"""Files on their way at the same time. Large ones go in four parts each, so memory is at most 256 MiB."""

_FOLDER = re.compile(f"(sources|artifacts)/{SHA256.pattern}")


@dataclass(frozen=True)
class Kind:
    """Where the files of a folder lie that a manifest describes."""

    folder: str
    below: str


SOURCE = Kind("sources", DATA)
ARTIFACT = Kind("artifacts", "")


@dataclass(frozen=True)
class BucketStore:
    """Every method raises Refused (`StoreRefused`) and TryAgain (`StoreUnreachable`)."""

    bucket: Bucket

    def files(self, kind: Kind, digest: str) -> tuple[FileDigest, ...] | None:
        """What a folder holds, from its manifest and a listing; None when it is not there.

        Raises Damaged when something the manifest lists is missing or has another size.
        """
        found = self._manifest(kind, digest)
        if found is None:
            return None
        files, _ = found
        lacking = self._lacking(kind, digest, files)
        if lacking:
            raise Damaged(f"{lacking[0].path!r} is missing or has another size than its manifest says")
        return files

    def bring(self, kind: Kind, digest: str, scratch: Store) -> bool:
        """Download a folder, every byte verified; False when there is none.

        What does not verify is taken out of the bucket with its manifest, so that the next Job that has the
        thing sends it again. Raises Damaged, and Refused (`ScratchFull`) before anything is written.
        """
        found = self._manifest(kind, digest)
        if found is None:
            return False
        files, manifest = found
        _check_room(scratch.root, files)
        final = scratch.root / kind.folder / digest
        with scratch.staging("pull", time.time(), 0) as staging:
            folder = staging / digest

            def bring_one(file: FileDigest) -> str:
                path = folder / kind.below / file.path
                with scratch.writing():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as target:
                        return self._damage(kind, digest, file, target.write)

            with scratch.writing():
                folder.mkdir()
                (folder / kind.below).mkdir(exist_ok=True)
            damages = [damage for damage in self._each(bring_one, files) if damage]
            if damages:
                raise Damaged(damages[0])
            with scratch.writing():
                (folder / MANIFEST).write_bytes(manifest)
            scratch.publish(folder, final)
        return True

    def check(self, kind: Kind, digest: str) -> bool:
        """Whether a folder is here and whole, every byte of it; what is damaged is taken out."""
        try:
            found = self._manifest(kind, digest)
        except Damaged as damage:
            logger.warning("%s/%s in the store is damaged: %s", kind.folder, digest, damage)
            return False
        if found is None:
            return False
        damages = self._each(lambda file: self._damage(kind, digest, file, lambda part: None), found[0])
        for one in filter(None, damages):
            logger.warning("%s/%s in the store is damaged: %s", kind.folder, digest, one)
        return not any(damages)

    def send(self, kind: Kind, digest: str, scratch: Store, deadline_seconds: int) -> None:
        """Upload a folder of the scratch store, the manifest last. What is there already is not sent again.

        Who wrote the folder may still run, and change it: the manifest is read once, and of what it lists
        only those bytes are sent that have the sha256 in it. Raises TryAgain when the folder in scratch is
        not whole.
        """
        folder = scratch.root / kind.folder / digest
        try:
            content = read_own(folder, MANIFEST, LARGEST_MANIFEST)
            if content is None:
                raise Damaged(f"it has no {MANIFEST}")
            manifest = parse_manifest(content)
            files = verify_files(folder, files_in(manifest), kind.below)
            check_digest(manifest, files, digest)
        except Damaged as damage:
            raise TryAgain("BuildFailed", f"{folder} is damaged before it is stored: {damage}.") from damage
        with _damage_is_absence():
            if self.files(kind, digest) is not None:
                logger.info("%s/%s is in the store already", kind.folder, digest)
                return
        with self._marked(f"{kind.folder}/{digest}", deadline_seconds):
            self._send_files(kind, digest, folder, files)
            # A sweeper may have begun before our marker was there.
            lacking = self._lacking(kind, digest, files)
            self._send_files(kind, digest, folder, lacking)
            with self._explained():
                self.bucket.write(f"{kind.folder}/{digest}/{MANIFEST}", content)
        logger.info("stored as %s/%s", kind.folder, digest)

    def read_result(self, key: str) -> Mapping[str, object] | None:
        """An earlier result, or None; one that cannot be read counts as none, since a build replaces it."""
        try:
            with self._explained():
                content = json.loads(self.bucket.read(f"results/{key}.json", LARGEST_RESULT))
        except (Absent, ValueError):
            return None
        return cast(Json, content) if isinstance(content, dict) else None

    def write_result(self, key: str, content: bytes) -> None:
        with self._explained():
            self.bucket.write(f"results/{key}.json", content)

    def bring_partial(self, key: str, scratch: Store) -> int:
        """Download the checkpoints that an earlier pod of a build sent; how many there are.

        Of each name the newest. Where the scratch volume has no room for them the build begins anew.
        """
        found = self._partial(key)
        newest = {path.rpartition("/")[2]: path for path in sorted(found)}
        if sum(found[path] for path in newest.values()) > shutil.disk_usage(scratch.root).free:
            return 0
        for name, path in newest.items():
            target = scratch.tmp / max(found).partition("/")[0] / name
            with self._explained(), scratch.writing():
                target.parent.mkdir(exist_ok=True)
                with target.open("wb") as stream:
                    for part in self.bucket.parts(f"tmp/{path}", found[path]):
                        stream.write(part)
        return len(newest)

    def send_partial(self, path: str, content: Path) -> None:
        with self._explained():
            self.bucket.write(f"tmp/{path}", content)

    def forget_partial(self, key: str, but: Collection[str] = ()) -> None:
        gone = [f"tmp/{path}" for path in self._partial(key) if path not in but]
        with self._explained():
            self.bucket.delete(gone)

    def _partial(self, key: str) -> dict[str, int]:
        """The checkpoints of a build: the bytes of each by its path in tmp/."""
        with self._explained():
            there = self.bucket.list("tmp")
        matches = {path: PARTIAL_NAME.fullmatch(path) for path in there}
        return {path: there[path] for path, match in matches.items() if match and match["key"] == key}

    def sweep(self, now: float) -> list[str]:
        """Remove what killed Jobs left half sent, once their time is over; the folders that went."""
        with self._explained():
            there = self.bucket.list("tmp")
            old = expired(sorted({path.partition("/")[0] for path in there if "/" in path}), now)
            self.bucket.delete([f"tmp/{path}" for path in there if path.partition("/")[0] in old])
            markers = {name: self._target(name) for name in there if "/" not in name}
        over = set(expired(sorted(markers), now))
        in_use = {target for name, target in markers.items() if name not in over}
        swept = []
        for name in sorted(over):
            folder = markers[name]
            if _FOLDER.fullmatch(folder) and folder not in in_use:
                with self._explained():
                    there = self.bucket.list(folder)
                    if there and MANIFEST not in there:
                        logger.info("removing %s, left by a Job that was killed", folder)
                        self.bucket.delete([f"{folder}/{path}" for path in there])
                        swept.append(folder)
            with self._explained():
                self.bucket.delete([f"tmp/{name}"])
        return swept

    def _target(self, marker: str) -> str:
        try:
            return self.bucket.read(f"tmp/{marker}", 1024).decode("utf-8", "replace").strip()
        except Absent:  # another Job has just removed it
            return ""

    def _manifest(self, kind: Kind, digest: str) -> tuple[tuple[FileDigest, ...], bytes] | None:
        try:
            with self._explained():
                content = self.bucket.read(f"{kind.folder}/{digest}/{MANIFEST}", LARGEST_MANIFEST)
        except Absent:
            return None
        except ValueError as error:
            raise Damaged(str(error)) from error
        manifest = parse_manifest(content)
        files = files_in(manifest)
        check_digest(manifest, files, digest)
        return tuple(files), content

    def _lacking(self, kind: Kind, digest: str, files: Sequence[FileDigest]) -> list[FileDigest]:
        """Those that are missing in the bucket or have another size there."""
        with self._explained():
            there = self.bucket.list(f"{kind.folder}/{digest}")
        below = f"{kind.below}/" if kind.below else ""
        return [
            file for file in files if below + file.path not in there or there[below + file.path] != file.size
        ]

    def _send_files(self, kind: Kind, digest: str, folder: Path, files: Sequence[FileDigest]) -> None:
        if not files:
            return
        lacking = {file.path for file in self._lacking(kind, digest, files)}

        def send_one(file: FileDigest) -> int:
            key = _key(kind, digest, file)
            with self._explained():
                if file.path not in lacking and self.bucket.sha256_of(key) == file.sha256:
                    return 0
                try:
                    self.bucket.write(key, folder / kind.below / file.path, file.sha256)
                except Changed as changed:
                    text = f"{str(folder)!r} was changed while it was sent: {file.path!r}. {changed}"
                    raise TryAgain("BuildFailed", text) from changed
            return file.size

        sent = sum(self._each(send_one, files))
        logger.info("sent %s of %s", in_words(sent), in_words(sum(file.size for file in files)))

    def _damage(self, kind: Kind, digest: str, file: FileDigest, take: Callable[[bytes], object]) -> str:
        """Read every byte of an object; what is wrong with it, empty for nothing.

        A damaged one is taken out, and the manifest too: the folder then counts as not there, and the next
        Job that has the thing sends what is missing of it. All of a folder is looked at before anybody says
        so, or the next Job would find the next damage.
        """
        key, sha256, size = _key(kind, digest, file), hashlib.sha256(), 0
        try:
            with self._explained():
                for part in self.bucket.parts(key, file.size):
                    sha256.update(part)
                    size += len(part)
                    take(part)
        except Absent:
            found = "is missing"
        else:
            if (size, sha256.hexdigest()) == (file.size, file.sha256):
                return ""
            found = f"has {size:,} bytes and the sha256 {sha256.hexdigest()}"
        with self._explained():
            self.bucket.delete([f"{kind.folder}/{digest}/{MANIFEST}", key])
        return f"{file.path!r} {found}, its manifest says {file.size:,} and {file.sha256}"

    def _each(self, act: Callable[[FileDigest], T], files: Sequence[FileDigest]) -> list[T]:
        """Several at once; the first failure ends it."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(act, file) for file in files]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    @contextmanager
    def _marked(self, folder: str, deadline_seconds: int) -> Iterator[None]:
        expires = int(time.time()) + deadline_seconds + SWEEP_GRACE_SECONDS
        marker = f"tmp/push-{expires}-{secrets.token_hex(8)}"
        with self._explained():
            self.bucket.write(marker, f"{folder}\n".encode())
        yield
        with self._explained():
            self.bucket.delete([marker])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what the bucket says into what the user reads; Absent is for the caller."""
        try:
            yield
        except Absent:
            raise
        except BucketError as error:
            raise explain(error, self.bucket.address) from error


def open_bucket(environment: Mapping[str, str]) -> BucketStore:
    """Raises Refused (`StoreRefused`) when the environment or the credentials say no."""
    try:
        address = address_in(environment)
    except AddressInvalid as error:
        raise Refused("StoreRefused", f"{error} It comes from the operator's settings.") from error
    if address is None:
        raise Refused(
            "StoreRefused", f"NLP_STORE is {environment.get('NLP_STORE')!r}; it must be s3://bucket."
        )
    try:
        return BucketStore(Bucket(address, PATIENCE_SECONDS))
    except BucketError as error:
        raise explain(error, address) from error


def explain(error: BucketError, address: Address) -> JobError:
    text = f"The store {address}: {error}"
    if isinstance(error, Denied):
        return Refused("StoreRefused", f"{text} Ask your administrator, who set the store.")
    return TryAgain("StoreUnreachable", f"{text} It was tried for several minutes.")


@contextmanager
def _damage_is_absence() -> Iterator[None]:
    try:
        yield
    except Damaged as damage:
        logger.warning("what the store holds is damaged and is sent again: %s", damage)


def _key(kind: Kind, digest: str, file: FileDigest) -> str:
    return "/".join(part for part in (kind.folder, digest, kind.below, file.path) if part)


def _check_room(scratch: Path, files: Sequence[FileDigest]) -> None:
    needed, free = sum(file.size for file in files), shutil.disk_usage(scratch).free
    if needed > free:
        raise scratch_full(scratch, needed)
