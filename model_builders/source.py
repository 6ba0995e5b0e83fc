"""An input as a builder sees it: verified, complete, in the store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Source:
    name: str
    """The input's name in the spec."""
    kind: Literal["File", "Folder", "Artifact"]
    folder: Path
    files: tuple[str, ...]
    """Relative paths in `folder`, ordered by their bytes."""
    architecture: str = ""
    """What an artifact is an artifact of."""

    def where(self, relative: str, line: int | None = None) -> str:
        """How a message names a place: `Input 'corpus': novels.tsv, line 3`."""
        place = f"Input {self.name!r}: {relative}"
        return place if line is None else f"{place}, line {line}"
