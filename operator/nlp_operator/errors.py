"""Every error of the operator, as one tree.

    OperatorError                 something kept a pass from finishing
    ├── Waits                     only the user (or another object) can help: no retry until something changes
    │   ├── SpecInvalid           a stored object this release cannot read
    │   ├── NameTaken             an object of a name we want exists and is not ours
    │   ├── AdmissionRefused      the API server refuses the object (422; 403 by quota, Pod Security, policy)
    │   ├── NamespaceTerminating  the namespace is being deleted, and the model with it
    │   └── Forbidden             our ServiceAccount lacks a right
    ├── NotFound                  404; the caller knows what that means
    └── TryAgain                  the next try may go through: back-off
        ├── Conflict              409: the object changed under us, or another writer was quicker
        │   └── AlreadyExists     409 on create
        ├── Leaving               an object of a former model of that name, or a deleted one, is not gone yet
        ├── Throttled             429, with the seconds the server asked for
        └── Unreachable           5xx, timeouts, broken connections

A class for every thing a caller does differently, and no more. Each carries the condition reason it becomes.
Only the engine turns them into outcomes.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Something kept a pass from finishing; `reason` is what the condition says, `str(error)` its message."""

    reason = "Error"


class Waits(OperatorError):
    """Trying again changes nothing until the user or another object does."""

    reason = "Waiting"


class SpecInvalid(Waits):
    """A stored object does not have the shape of this release (an older schema, say).

    `problems` holds one sentence for every invalid field.
    """

    reason = "SpecInvalid"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class NameTaken(Waits):
    """An object of a name we want exists and belongs to somebody else; it is never adopted."""

    reason = "NameTaken"


class AdmissionRefused(Waits):
    """The API server refuses the object: validation, quota, Pod Security, a policy."""

    reason = "AdmissionRefused"


class Forbidden(Waits):
    """Our ServiceAccount lacks a right."""

    reason = "Forbidden"


class NamespaceTerminating(Waits):
    """Nothing can be created any more, and nothing needs to be: the model goes with its namespace."""

    reason = "NamespaceTerminating"


class NotFound(OperatorError):
    """404: no such object (or the kind is not installed)."""

    reason = "NotFound"


class TryAgain(OperatorError):
    """The next try may go through."""

    reason = "TryAgain"


class Conflict(TryAgain):
    """409: the object changed under us."""

    reason = "Conflict"


class AlreadyExists(Conflict):
    """409 on create: somebody has an object of this name."""

    reason = "AlreadyExists"


class Leaving(TryAgain):
    """An object that has the name we want is on its way out: deleted, or owned by a model that is gone."""

    reason = "Leaving"


class Throttled(TryAgain):
    """429. `seconds` is the server's Retry-After, `None` when it gave none."""

    reason = "Throttled"

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Unreachable(TryAgain):
    """The API server answers 5xx, not in time, or not at all."""

    reason = "ApiServerUnreachable"
