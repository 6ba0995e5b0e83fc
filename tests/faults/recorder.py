"""Records every version of every object: the second witness, beside the audit log.

A poll sees states; a lie between two polls goes unseen ("Ready was True for 80 ms while nothing served"). A
watch from a known resourceVersion sees every version the API server stored, so a claim about *every* moment
can be checked. The recorder is a witness and therefore fails loudly instead of guessing: when versions are
lost, every later question raises `RecordingGap`.

An API server that was started anew knows no history and refuses to go on from an older version (410 Gone),
but etcd still has it until the next compaction (five minutes by default). The recorder then reads the missing
versions from there, revision by revision, so that restarts, which are what fault tests do, leave no gap.

One thread a kind. Questions may be asked from any thread while it records.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlencode

from tests.faults.plain_api import CHILDREN, GRANDCHILDREN, OURS, ApiError, Obj, PlainApi, Resource

Found = TypeVar("Found")

EVERYTHING = (*OURS, *CHILDREN, *GRANDCHILDREN)

RECONNECT_SECONDS = 0.2
"""Pause before a watch is opened again; short, so that an API server that is back is seen back at once."""

SILENCE_SECONDS = 150.0
"""The API server sends a bookmark about once a minute; a stream silent for longer is dead and is opened
again."""

MOST_REVISIONS_REREAD = 5000
"""One list each. A restarted API server makes some hundred; more than this is a gap, not a minute of
lists."""


class RecordingGap(Exception):
    """Some versions were not seen; nothing that this recording says about "every version" would be true."""


class _HistoryGone(Exception):
    """The API server does not know the versions after the last one seen; etcd may."""


@dataclass(frozen=True)
class Version:
    """One stored version of one object.

    `event` is LISTED (it was there at the start), ADDED, MODIFIED or DELETED (`object` is then its last
    state). `seen` is `time.monotonic()` of the recorder: good for durations, not for order; order is
    `number`.
    """

    event: str
    kind: str
    namespace: str
    name: str
    uid: str
    number: int
    seen: float
    object: Obj

    @property
    def generation(self) -> int:
        return int(self.object["metadata"].get("generation", 0))

    @property
    def deleted(self) -> bool:
        return self.event == "DELETED"

    def condition(self, condition_type: str) -> Obj | None:
        for condition in (self.object.get("status") or {}).get("conditions") or []:
            if condition["type"] == condition_type:
                return dict(condition)
        return None

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place} version {self.number} ({self.event}, generation {self.generation})"


@dataclass(frozen=True)
class Transition:
    """A condition's status or reason changed: `status` and `reason` are None while the condition is
    absent."""

    version: Version
    status: str | None
    reason: str | None
    message: str | None


def make_version(event: str, resource: Resource, body: Obj, seen: float) -> Version:
    metadata = body["metadata"]
    body.setdefault("kind", resource.kind)
    body.setdefault("apiVersion", resource.api_version)
    metadata.pop("managedFields", None)  # half of every object; who wrote what is the audit log's to say
    return Version(
        event=event,
        kind=resource.kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        number=int(metadata["resourceVersion"]),
        seen=seen,
        object=body,
    )


class Recorder:
    """Use as a context manager; inside it, everything is recorded from the state at entry on."""

    def __init__(
        self,
        kubeconfig: Path,
        resources: Sequence[Resource] = EVERYTHING,
        *,
        namespace: str = "",
        since: int | None = None,
    ) -> None:
        """Without a namespace: all of them. Cluster-scoped kinds are recorded whole either way.

        Recording starts with what exists at entry, or, without listing, after the resourceVersion `since`.
        """
        self._api = PlainApi(kubeconfig, agent="nlp-operator-recorder")
        self._resources = tuple(resources)
        self._namespace = namespace
        self._since = since
        self._changed = threading.Condition()
        self._versions: dict[str, list[Version]] = {resource.kind: [] for resource in resources}
        self._latest: dict[tuple[str, str, str], Version] = {}
        self._count = 0
        self._failure: Exception | None = None
        self._reached: dict[str, int] = {}
        self._stopping = threading.Event()
        self._streams: dict[str, socket.socket] = {}
        self._threads: list[threading.Thread] = []

    # -- life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        with self._api:
            starts = [self._start(resource) for resource in self._resources]
        for resource, start in zip(self._resources, starts, strict=True):
            thread = threading.Thread(
                target=self._watch, args=(resource, start), name=f"recorder of {resource.plural}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the watches. What was recorded can still be asked; a gap still raises."""
        self._stopping.set()
        with self._changed:
            streams = list(self._streams.values())
        for stream in streams:
            # Wakes the thread that reads it; closing alone would not.
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _path(self, resource: Resource) -> str:
        return resource.path(self._namespace if resource.namespaced else "")

    def _start(self, resource: Resource) -> int:
        """The resourceVersion to watch from, after taking what exists at it."""
        if self._since is not None:
            return self._since
        body = self._list(resource)
        seen = time.monotonic()
        start = int(body["metadata"]["resourceVersion"])
        self._take(resource, start, [make_version("LISTED", resource, item, seen) for item in body["items"]])
        return start

    def _list(self, resource: Resource) -> Obj:
        deadline = time.monotonic() + 30
        while True:
            try:
                return self._api.request("GET", self._path(resource))
            except ApiError as error:
                # A server that has just learned of a CRD says for a moment that its "storage is
                # (re)initializing".
                if error.code != 429 or time.monotonic() > deadline:
                    raise RecordingGap(
                        f"Listing {resource.plural} gave {error.code}: {error.message}"
                    ) from error
            time.sleep(RECONNECT_SECONDS)

    def _watch(self, resource: Resource, start: int) -> None:
        """Runs in a thread of its own until `stop`, or until versions were lost."""
        self._reached[resource.kind] = start
        while not self._stopping.is_set():
            connection = self._api.connect(SILENCE_SECONDS)
            try:
                try:
                    self._follow(connection, resource)
                except _HistoryGone:
                    self._reread(resource)
            except RecordingGap as gap:
                with self._changed:
                    self._failure = self._failure or gap
                    self._changed.notify_all()
                return
            except (OSError, http.client.HTTPException, ApiError):
                pass  # the API server went away; the next watch goes on where this one ended
            finally:
                with self._changed:
                    self._streams.pop(resource.kind, None)
                connection.close()
            self._stopping.wait(RECONNECT_SECONDS)

    def _follow(self, connection: http.client.HTTPConnection, resource: Resource) -> None:
        """Take events from one watch until it ends."""
        reached = self._reached[resource.kind]
        query = urlencode({"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": reached})
        connection.request("GET", f"{self._path(resource)}?{query}", headers=self._api.headers())
        with self._changed:
            assert isinstance(connection.sock, socket.socket)
            self._streams[resource.kind] = connection.sock
        if self._stopping.is_set():  # `stop` may have looked just before the stream was there
            return
        with connection.getresponse() as answer:
            if answer.status == 410:
                raise _HistoryGone
            while answer.status == 200 and (line := answer.readline()):
                self._take_line(resource, line)

    def _reread(self, resource: Resource) -> None:
        """Take every version after the last one seen from etcd's history: a list at each revision."""
        path = self._path(resource)
        with self._api:
            goal = int(self._api.request("GET", path, query={"limit": "1"})["metadata"]["resourceVersion"])
            reached = self._reached[resource.kind]
            if goal - reached > MOST_REVISIONS_REREAD:
                raise RecordingGap(f"{goal - reached} revisions of {resource.plural} are too many to reread.")
            before = {(v.namespace, v.name): v for v in self.latest(resource.kind)}
            for revision in range(reached + 1, goal + 1):
                query = {"resourceVersion": str(revision), "resourceVersionMatch": "Exact"}
                try:
                    items = self._api.request("GET", path, query=query)["items"]
                except ApiError as error:
                    if error.code != 410:  # not gone: the server is busy or away, so try again from here
                        raise
                    raise RecordingGap(
                        f"Revision {revision} of {resource.plural} is gone: {error.message}"
                    ) from error
                before = self._take_revision(resource, revision, before, items)

    def _take_revision(
        self, resource: Resource, revision: int, before: dict[tuple[str, str], Version], items: list[Obj]
    ) -> dict[tuple[str, str], Version]:
        """Take what is new in the list at a revision against the state before it; the state after it."""
        seen = time.monotonic()
        listed = [make_version("MODIFIED", resource, item, seen) for item in items]
        after = {(version.namespace, version.name): version for version in listed}
        changed = []
        for key, version in after.items():
            if key not in before:
                changed.append(replace(version, event="ADDED"))
            elif before[key].number != version.number:
                changed.append(version)
        changed += [
            replace(version, event="DELETED", number=revision, seen=seen)
            for key, version in before.items()
            if key not in after
        ]
        self._take(resource, revision, changed)
        return after

    def _take_line(self, resource: Resource, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError as error:  # the server died in the middle of a line, or of a letter
            raise http.client.IncompleteRead(line) from error
        body = event["object"]
        if event["type"] == "ERROR":
            # Also a server that is shutting down ends its watches so; only "Gone" says that versions are
            # lost.
            if body.get("code") == 410:
                raise _HistoryGone
            raise http.client.HTTPException(str(body.get("message")))
        reached = int(body["metadata"]["resourceVersion"])
        bookmark = event["type"] == "BOOKMARK"
        versions = [] if bookmark else [make_version(event["type"], resource, body, time.monotonic())]
        self._take(resource, reached, versions)

    def _take(self, resource: Resource, reached: int, versions: list[Version]) -> None:
        with self._changed:
            for version in versions:
                self._versions[version.kind].append(version)
                key = (version.kind, version.namespace, version.name)
                if version.deleted:
                    self._latest.pop(key, None)
                else:
                    self._latest[key] = version
            self._count += len(versions)
            self._reached[resource.kind] = reached
            self._changed.notify_all()

    def _check(self) -> None:
        if self._failure is not None:
            raise RecordingGap(f"The recording is not complete: {self._failure}") from self._failure

    # -- questions -----------------------------------------------------------------------------------------

    def versions(
        self,
        kind: str | None = None,
        name: str | None = None,
        namespace: str | None = None,
        *,
        since: int = 0,
    ) -> list[Version]:
        """Versions that match, in the order in which the API server stored them, from a resourceVersion
        (exclusive)."""
        self._check()
        with self._changed:
            kinds = list(self._versions.values()) if kind is None else [self._versions[kind]]
            found = [
                version
                for versions in kinds
                for version in versions
                if version.number > since
                and (name is None or version.name == name)
                and (namespace is None or version.namespace == namespace)
            ]
        return sorted(found, key=lambda version: version.number)

    def latest(self, kind: str | None = None, namespace: str | None = None) -> list[Version]:
        """The newest version of everything that exists now."""
        self._check()
        with self._changed:
            return [
                version
                for version in self._latest.values()
                if (kind is None or version.kind == kind)
                and (namespace is None or version.namespace == namespace)
            ]

    def now(self, kind: str, name: str, namespace: str = "") -> Version | None:
        """The newest version of one object; None when it does not exist (any more)."""
        self._check()
        with self._changed:
            return self._latest.get((kind, namespace, name))

    def transitions(self, kind: str, name: str, namespace: str, condition_type: str) -> list[Transition]:
        """Each change of a condition's status or reason, oldest first, its absence included."""
        found: list[Transition] = []
        for version in self.versions(kind, name, namespace):
            condition = version.condition(condition_type) or {}
            status, reason = condition.get("status"), condition.get("reason")
            if not found or (found[-1].status, found[-1].reason) != (status, reason):
                found.append(Transition(version, status, reason, condition.get("message")))
        return found

    def mark(self) -> int:
        """The newest resourceVersion recorded: pass it as `since`."""
        self._check()
        with self._changed:
            return max((v.number for versions in self._versions.values() for v in versions[-1:]), default=0)

    def wait_for(
        self,
        ask: Callable[[Recorder], Found | None],
        *,
        timeout_seconds: float = 30,
        what: str = "what the test waits for",
    ) -> Found:
        """The first answer of `ask` that is neither None, False nor empty. Asked again after each new
        version.

        No polling: the test goes on the moment the version arrives, and a recording that has a gap raises
        at once.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._changed:
                count = self._count
            answer = ask(self)
            if answer:
                return answer
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                if self._count == count and self._failure is None:
                    self._changed.wait(min(left, 1.0))
        raise TimeoutError(f"The recorder did not see {what} within {timeout_seconds:g} s.")

    def wait_until_reached(self, number: int, kind: str, *, timeout_seconds: float = 30) -> None:
        """Until the watch of `kind` has delivered everything up to the resourceVersion `number`.

        For "and nothing happened": without this, an empty answer may only mean that the recorder is behind.
        Pass the version of a write that the test itself made to an object of that kind.
        """
        self.wait_for(
            lambda recorder: recorder._reached.get(kind, 0) >= number,
            timeout_seconds=timeout_seconds,
            what=f"version {number} of {kind}",
        )
