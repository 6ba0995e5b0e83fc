"""What can go wrong here, as callers tell it apart.

ClusterError
├── NotPossible      this machine or this user cannot do it; nothing was changed
├── NotAgreed        nobody said yes; nothing was changed
├── BuildFailed      a program could not be compiled or fetched
├── StartFailed      a process did not become ready; the message ends with the last lines of its log
└── CommandFailed    a command we ran to its end said no
"""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Anything the local cluster could not do. The message is for the user."""


class NotPossible(ClusterError):
    """This machine or this user cannot do it. Nothing was changed."""


class NotAgreed(ClusterError):
    """Nobody said yes to what would be installed and changed. Nothing was changed."""


class BuildFailed(ClusterError):
    """A program could not be compiled or fetched."""


class StartFailed(ClusterError):
    """A process did not become ready in time, or ended at once."""


class CommandFailed(ClusterError):
    """A command ended with another code than 0."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        super().__init__(f"`{' '.join(argv)}` ended with code {code}: {output.strip() or '(no output)'}")
