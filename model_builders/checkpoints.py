"""How far a long training is, kept where the next pod of the same Job finds it.

    tmp/partial-<expires>-<identity>/<name>.npz        arrays, and the facts about them as JSON

A checkpoint is written beside the one before and renamed over it; one that cannot be read counts as none. A
store that cannot take it does not fail the training: it says so, and goes on. What is kept goes with the end
of the build, and a day after its deadline in any case (docs/store.md).
"""

import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.messages import Json
from model_builders.store import remove

logger = logging.getLogger(__name__)

FACTS = "facts"


@dataclass(frozen=True)
class Checkpoint:
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]


@dataclass
class Checkpoints:
    """Those of one build. `make` gives its folder, and makes it."""

    make: Callable[[], Path] | None = None
    _folder: Path | None = None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]], facts: Json) -> None:
        if self.make is None:
            return
        try:
            folder = self._open()
            draft = folder / f"{name}.draft"
            with draft.open("wb") as stream:
                text = np.frombuffer(json.dumps(facts).encode("utf-8"), dtype=np.uint8)
                np.savez(stream, allow_pickle=False, **arrays, **{FACTS: text})
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(folder / f"{name}.npz")
        except OSError as error:
            logger.warning("no checkpoint could be written; the training goes on: %s", error.strerror)

    def load(self, name: str) -> Checkpoint | None:
        """None when there is none, or none that can be read."""
        if self.make is None:
            return None
        path = self._open() / f"{name}.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                arrays = {key: content[key] for key in content.files}
            facts = json.loads(arrays.pop(FACTS).tobytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            logger.warning("the checkpoint %s cannot be read, and counts as none: %s", path.name, error)
            return None
        return Checkpoint(arrays, facts)

    def forget(self) -> None:
        if self._folder is not None:
            remove(self._folder)
            self._folder = None

    def _open(self) -> Path:
        assert self.make is not None, "asked before"
        if self._folder is None:
            self._folder = self.make()
        return self._folder
