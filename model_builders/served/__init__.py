"""What the artifacts of all architectures share, and how it gets there with what is an architecture's own."""

import shutil
from pathlib import Path
from types import ModuleType


def copy_served(own: ModuleType, folder: Path) -> None:
    """Copy `served/` of an architecture, and backend.py, into a version folder."""
    sources = [Path(own.__path__[0]) / "model.py", Path(own.__path__[0]) / "answering.py"]
    for source in (*sources, Path(__file__).parent / "backend.py"):
        shutil.copyfile(source, folder / source.name)
