"""Reads the audit log of the real API server: who wrote what, when, and whether it was taken.

The log is written by the API server, so it is a witness that shares no code and no opinion with the
operator. Every number this project publishes about writes is counted here, by one definition:

**A write** is a request with the verb create, update, patch, delete or deletecollection that the API server
answered with a 2xx code, on any resource or subresource. A server-side apply that changes nothing is a
write too: it costs the API server a whole request. Four things are not counted, because they are heartbeats
or questions, not state:

* Leases (renewed on a clock, whether or not anything happens);
* Events (a log for people; the API server drops them after an hour);
* reviews (`tokenreviews`, `subjectaccessreviews`, ...) and `serviceaccounts/token`: creations that store
  nothing;
* dry runs.

`AuditLog.entries` gives everything, also what is not counted and what was refused, for tests that ask about
that.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Obj = dict[str, Any]

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
"""Verbs of the audit log that change stored objects. A server-side apply has the verb `patch`."""

REVIEW_GROUPS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})


class AuditLogError(Exception):
    """The log cannot be read as what it claims to be, or did not say in time what a test waited for."""


@dataclass(frozen=True)
class Entry:
    """One answered request.

    `received` and `answered` are the API server's own clock, microseconds apart at best. `code` is the HTTP
    status. `request` is the body where the audit policy keeps it (writes), else None.
    """

    audit_id: str
    user: str
    agent: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    received: datetime
    answered: datetime
    query: str = ""
    unauthorized: bool = False
    """Refused for want of a right, by the authorizer's own word. A 403 of admission (a namespace that is
    being deleted, a quota, a policy) is not."""
    request: Obj | None = field(default=None, repr=False, compare=False)
    response: Obj | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """The resource and its subresource as a person writes them: `deployments.apps`,
        `nlpmodels.nlp-operator.io/status`."""
        head = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{head}/{self.subresource}" if self.subresource else head

    @property
    def taken(self) -> bool:
        return 200 <= self.code < 300

    @property
    def dry_run(self) -> bool:
        return "dryRun" in parse_qs(self.query)

    @property
    def counted(self) -> bool:
        """True for a write as the module's definition says."""
        return (
            self.verb in WRITE_VERBS
            and self.taken
            and not self.dry_run
            and self.resource not in ("leases", "events")
            and self.group not in REVIEW_GROUPS
            and (self.resource, self.subresource) != ("serviceaccounts", "token")
        )

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.received:%H:%M:%S.%f} {self.user} {self.verb} {self.kind} {place} -> {self.code}"


def parse_time(text: str) -> datetime:
    """Kubernetes' MicroTime; `fromisoformat` of Python 3.11 takes the Z and any number of decimals up to
    six."""
    return datetime.fromisoformat(text).astimezone(UTC)


def parse_line(line: str) -> Entry | None:
    """One line of the log as an entry; None for a stage that is not an answer, or for a non-resource URL.

    A watch is answered when it ends; only its `ResponseComplete` is read, so it counts once.
    """
    try:
        event = json.loads(line)
    except json.JSONDecodeError as error:
        raise AuditLogError(f"A line of the audit log is not JSON: {line[:120]!r} ({error}).") from error
    if event.get("stage") not in ("ResponseComplete", "Panic"):
        return None
    target = event.get("objectRef")
    if target is None:
        return None
    request = event.get("requestObject")
    response = event.get("responseObject")
    # A creation by generateName has no name in its URL; the answer knows it. So does a plain creation:
    # older servers leave objectRef.name empty there.
    name = target.get("name") or ""
    for body in (response, request):
        if not name and isinstance(body, dict) and body.get("kind") != "Status":
            name = (body.get("metadata") or {}).get("name") or ""
    return Entry(
        audit_id=event["auditID"],
        user=event.get("user", {}).get("username", ""),
        agent=event.get("userAgent", ""),
        verb=event.get("verb", ""),
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=name,
        code=int(event.get("responseStatus", {}).get("code", 0)),
        received=parse_time(event["requestReceivedTimestamp"]),
        answered=parse_time(event["stageTimestamp"]),
        query=urlsplit(event.get("requestURI", "")).query,
        unauthorized=(event.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid",
        request=request if isinstance(request, dict) else None,
        response=response if isinstance(response, dict) else None,
    )


@dataclass(frozen=True)
class Mark:
    """A place in the log: everything written to the file after it is "since the mark"."""

    offset: int
    time: datetime


class AuditLog:
    """The log file of one API server. Reading is incremental: a query after a mark does not read the whole
    file again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> Mark:
        return Mark(offset=self.path.stat().st_size if self.path.exists() else 0, time=datetime.now(UTC))

    def entries(self, since: Mark | None = None, until: Mark | None = None) -> Iterator[Entry]:
        """Entries in the order in which the API server finished them.

        The file's last line is left out while it has no newline: the server is still writing it.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(since.offset if since else 0)
            for line in log:
                if until is not None and log.tell() > until.offset:
                    return
                if not line.endswith(b"\n"):
                    return
                entry = parse_line(line.decode())
                if entry is not None:
                    yield entry

    def writes(
        self,
        since: Mark | None = None,
        until: Mark | None = None,
        *,
        user: str | None = None,
        verb: str | None = None,
        kind: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> list[Entry]:
        """Counted writes (see the module) that match every given filter exactly."""
        return [
            entry
            for entry in self.entries(since, until)
            if entry.counted
            and (user is None or entry.user == user)
            and (verb is None or entry.verb == verb)
            and (kind is None or entry.kind == kind)
            and (namespace is None or entry.namespace == namespace)
            and (name is None or entry.name == name)
        ]

    def wait_for(
        self,
        condition: Callable[[list[Entry]], bool],
        *,
        since: Mark | None = None,
        timeout_seconds: float = 30,
        what: str = "what the test waits for",
    ) -> list[Entry]:
        """All entries since the mark, as soon as `condition` holds of them.

        The API server writes the log in batches by the way (`--audit-log-mode=batch`), or at once; a test
        that reads it right after a request must therefore wait for the entry, never assume it.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            found = list(self.entries(since))
            if condition(found):
                return found
            if time.monotonic() > deadline:
                raise AuditLogError(
                    f"The audit log {self.path.name} did not show {what} within {timeout_seconds:g} s; "
                    f"it has {len(found)} entries since the mark, the last: {found[-1] if found else None}."
                )
            time.sleep(0.05)


def service_account(namespace: str, name: str) -> str:
    """The user name of a ServiceAccount as the API server logs it."""
    return f"system:serviceaccount:{namespace}:{name}"


def count_by_kind(entries: Iterable[Entry]) -> dict[str, int]:
    """`{"create jobs.batch": 2, ...}`, most frequent first: what a failing assertion should print."""
    return dict(Counter(f"{entry.verb} {entry.kind}" for entry in entries).most_common())


def rights_used(entries: Iterable[Entry], user: str) -> frozenset[tuple[str, str, str]]:
    """(verb, group, resource[/subresource]) of every request of a user that was allowed, reads included.

    For the test that subtracts what was used from what was granted.
    """
    return frozenset(
        (
            entry.verb,
            entry.group,
            f"{entry.resource}/{entry.subresource}" if entry.subresource else entry.resource,
        )
        for entry in entries
        if entry.user == user and entry.code != 403
    )
