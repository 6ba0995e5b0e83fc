"""Who waits for a translation and leaves before it is there."""

from __future__ import annotations

from model_builders.served.search import Asker, Found
from model_builders.served.vectors import Floats


class Impatient(Asker):
    """Leaves behind so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.seen: list[int] = []
        self.told: list[Found] = []

    def wrote(self, word: int, attention: Floats) -> None:
        self.seen.append(word)

    def gone(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def ended(self, found: Found) -> None:
        self.told.append(found)
