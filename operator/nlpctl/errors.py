"""What can go wrong for the person at the terminal, and the exit code each failure becomes.

    NlpctlError
    ├── NotReady            1   the answer is no: not ready, nothing serves
    ├── WrongUse            2   the command line asks for something that does not exist
    │   └── ManifestInvalid     a manifest that the API server or the operator would refuse
    ├── ClusterUnreachable  3   no kubeconfig, no answer, or credentials refused
    ├── NotFound            4   no such model, no such namespace, operator not installed
    ├── RequestRefused      5   the model was reached and refused the request
    ├── BuildFailed         6   inputs could not be fetched, or the model not be built, as the message says
    └── NotPossible         7   this machine cannot do it: disk, platform, packages, a port in use

Exit codes are part of the interface (scripts and `make demo` read them): a change is a breaking change. 0
is "done" or "yes", 130 an interrupt.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INTERRUPTED = 130
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h


class NlpctlError(Exception):
    """A failure that is told in one sentence; `str(error)` is what the user reads."""

    exit_code = 1
    kind = "Failed"


class NotReady(NlpctlError):
    """The question was understood, and the answer is no."""

    exit_code = 1
    kind = "NotReady"


class WrongUse(NlpctlError):
    """The command line asks for something that this model or this version does not have."""

    exit_code = 2
    kind = "WrongUse"


class ManifestInvalid(WrongUse):
    """A manifest that would be refused; a line for everything that is wrong with it."""

    kind = "ManifestInvalid"


class ClusterUnreachable(NlpctlError):
    """The Kubernetes API cannot be reached, or does not accept who we are."""

    exit_code = 3
    kind = "ClusterUnreachable"


class NotFound(NlpctlError):
    """The object, or its kind, does not exist in the cluster."""

    exit_code = 4
    kind = "NotFound"


class RequestRefused(NlpctlError):
    """The model answered, with an error."""

    exit_code = 5
    kind = "RequestRefused"


class BuildFailed(NlpctlError):
    """A fetch or a build said no; `kind` is the reason that stands in the condition Built in a cluster."""

    exit_code = 6

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.kind = reason


class NotPossible(NlpctlError):
    """This machine cannot build or serve; nothing of the model is at fault."""

    exit_code = 7
    kind = "NotPossible"
