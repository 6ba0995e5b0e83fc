"""Triton's model repository on disk: one folder a loaded model, made of hard links to the verified copy.

Triton decides by modification times whether a load does anything (an unchanged, loaded model is left alone,
also when its backend is dead), so every placement renews them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from nlp_agent.artifact import MANIFEST

# Not part of the model: Triton never sees these.
NOT_SERVED = (MANIFEST, "configs", "contract.json", "examples.json", "metrics.json", "report.html")
CONFIG = "config.pbtxt"


def candidate_name(name: str) -> str:
    """The temporary name of a version under proof. No NLPModel can be called so: their names have no
    underscore.
    """
    return f"{name}_candidate"


def place(repository: Path, name: str, artifact: Path, config: str) -> Callable[[], None]:
    """Make the folder of a model; what it returns puts the folder back that was there before."""
    folder, fresh, old = repository / name, repository / f".{name}.new", repository / f".{name}.old"
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    for child in sorted(artifact.iterdir()):
        if child.name in NOT_SERVED:
            continue
        if child.is_dir():
            shutil.copytree(child, fresh / child.name, copy_function=_link)
            # A file where Python wants a folder for compiled code: the backend's Python reads no environment
            # that forbids it, and to Triton a changed folder is another version, which it loads anew although
            # nothing but the number of instances has changed.
            (fresh / child.name / "__pycache__").touch()
        else:
            _link(str(child), str(fresh / child.name))
    (fresh / CONFIG).write_text(config, encoding="utf-8")
    renew(fresh)
    existed = folder.exists()
    if existed:
        folder.rename(old)
    fresh.rename(folder)

    def undo() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if existed:
            old.rename(folder)
            renew(folder)

    return undo


def _link(source: str, target: str) -> None:
    os.link(source, target)


def rewrite_config(repository: Path, name: str, config: str) -> Callable[[], None]:
    """Change only `config.pbtxt`: when just the instances differ, Triton adds or ends instances and keeps the
    others.
    """
    path = repository / name / CONFIG
    before = path.read_text(encoding="utf-8")
    _replace(path, config)
    return lambda: _replace(path, before)


def _replace(path: Path, content: str) -> None:
    # The temporary file lies outside the model's folder: one more file in it would count as a change of the
    # model.
    partial = path.parent.parent / f".{path.parent.name}.pbtxt"
    partial.write_text(content, encoding="utf-8")
    partial.rename(path)


def renew(folder: Path) -> None:
    """Give every file the present time, so that the next load starts new backend processes."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path)


def remove(repository: Path, name: str) -> None:
    shutil.rmtree(repository / name, ignore_errors=True)
    shutil.rmtree(repository / f".{name}.old", ignore_errors=True)


def keep(repository: Path, name: str) -> None:
    """The placement is proven: forget what was there before."""
    shutil.rmtree(repository / f".{name}.old", ignore_errors=True)
