"""What the artifacts of all architectures share, and how it gets there with what is an architecture's own.

An artifact's version folder is flat and knows nothing of this package. So the files that run there import
each other here by their full names, for mypy, tests and the builder's own use of them, and the copies by
their bare ones (docs/decisions/0050-one-copy-of-served-code.md):

    from model_builders.served.vectors import nearest    ──copied──>    from vectors import nearest

Which shared files an architecture needs is read off its imports: an artifact holds those and no others. An
architecture from outside (docs/extending.md) is read in the same way.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from model_builders import OUTSIDE

SHARED = Path(__file__).parent

_PACKAGES = f"(?:model_builders|{OUTSIDE})"
_IMPORT = re.compile(rf"^(\s*)from {_PACKAGES}\.(?:\w+\.)?served\.(\w+) import ", re.MULTILINE)
_OTHER = re.compile(rf"^\s*(?:from|import) ({_PACKAGES}\b[\w.]*)", re.MULTILINE)


def copy_served(own: ModuleType, folder: Path, more: Sequence[str] = ()) -> None:
    """Copy model.py and answering.py of an architecture's `served/`, `more` of it or of what is shared, and
    all they import, into a version folder.

    Raises ValueError when one of them imports something of the builders' that no artifact has.
    """
    for name, text in sorted(served_files(Path(own.__path__[0]), more).items()):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """A file that answering.py reads from its version folder."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def served_files(own: Path, more: Sequence[str] = ()) -> dict[str, str]:
    """The text of each file as it stands in an artifact, by its name without `.py`."""
    found: dict[str, str] = {}
    wanted = ["model", "answering", *more]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        source = own / f"{name}.py"
        text = (source if source.exists() else SHARED / f"{name}.py").read_text(encoding="utf-8")
        wanted += [match[2] for match in _IMPORT.finditer(text)]
        found[name] = _IMPORT.sub(r"\1from \2 import ", text)
        left = _OTHER.search(found[name])
        if left:
            raise ValueError(
                f"{source} imports {left[1]}, which is not in an artifact; served code imports files of a "
                "folder served/ only."
            )
    return found
