"""What can go wrong in a Job, by what should happen next.

    JobError
    ├── Refused      the user has to change something: exit 10, never retried
    └── TryAgain     something around the Job failed: exit 1, retried by Kubernetes at most twice
    Terminated       SIGTERM: exit 143, retried (or not counted at all, when the pod was evicted)
    MemoryError      Python's own: exit 137, as when the kernel ends the Job; never retried

Every JobError carries the `reason` and the `message` that the user reads in the NLPModel's conditions. Other
exceptions are bugs: they become `BuildFailed`, with the traceback in the log, and are retried.
"""

from typing import Literal

Reason = Literal[
    "InputMissing",
    "InputEmpty",
    "InputUnreadable",
    "InputEncoding",
    "InputInvalid",
    "InputRefused",
    "InputForbidden",
    "InputUnreachable",
    "NetworkRefused",
    "CredentialsInvalid",
    "HashMismatch",
    "InputTooLarge",
    "StoreFull",
    "StoreUnwritable",
    "StoreRefused",
    "StoreUnreachable",
    "ScratchFull",
    "ParameterInvalid",
    "TrainingDiverged",
    "QualityBelowFloor",
    "ExportDiffers",
    "ExportUnproven",
    "BuildOutOfMemory",
    "BuildFailed",
]

EXIT_DONE = 0
EXIT_TRY_AGAIN = 1
EXIT_REFUSED = 10
EXIT_KILLED = 137
EXIT_TERMINATED = 143


class JobError(Exception):
    """A failure that the user reads about: `reason` is one word, `message` one or two sentences."""

    exit_code = EXIT_TRY_AGAIN

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class Refused(JobError):
    """The same Job would fail again: only a change by the user helps."""

    exit_code = EXIT_REFUSED


class TryAgain(JobError):
    """The same Job may well succeed: a disk that stalled, an input that changed while it was read."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no `except Exception` on the way swallows it."""
