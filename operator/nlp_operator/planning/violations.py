"""Why something is not as the user wants it, in the words the user gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    reason: str
    """One PascalCase word: the reason of the condition."""
    message: str
    """Whole sentences: where, what was found, what is allowed, what to do."""
    stalled: bool = True
    """True: nothing gets better until the user or another object does something. False: the operator is at
    it."""
