"""Writes the files around Triton's version folder (docs/architecture.md, section 4).

The manifest comes last.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from model_builders import VERSION
from model_builders.architecture import Exported
from model_builders.contract import Contract
from model_builders.digests import FileDigest, digest_of_folder, digests_in
from model_builders.messages import BuildRequest
from model_builders.report import render
from model_builders.store import MANIFEST
from model_builders.triton import FULL_TARGETS, TARGETS, Native, config_for, native_configs

VERSION_FOLDER = "1"
REPORT = "report.html"


def write_artifact(
    folder: Path,
    request: BuildRequest,
    exported: Exported,
    metrics: Mapping[str, float],
    summary: str,
    what: Mapping[str, str],
) -> tuple[str, int]:
    """Complete an artifact whose version folder is written; return its digest and size in bytes.

    `summary` is a sentence about the model, `what` says what each metric is.

    The digest covers every file but the manifest, so that a newer builder that makes the same files makes the
    same artifact.
    """
    for target in TARGETS:
        path = folder / "configs" / f"{target.name}.pbtxt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(config_for(exported.contract, target), encoding="utf-8")
    if exported.native is not None:
        _write_native(folder / "configs/native", exported.contract, exported.native)
    recorded: dict[str, object] = {
        "version": 1,
        "examples": [example.to_json(exported.contract) for example in exported.examples],
    }
    if exported.streams:
        recorded["streams"] = [example.to_json(exported.contract) for example in exported.streams]
    _write(folder / "contract.json", exported.contract.to_json())
    _write(folder / "examples.json", recorded)
    drawings = [section.to_json() for section in exported.report]
    # In one line: a map has hundreds of numbers, which nobody reads one below the other.
    _write(folder / "metrics.json", {"metrics": dict(metrics), "drawings": drawings}, indent=None)
    page = render(request, summary, metrics, what, exported.report)
    (folder / REPORT).write_text(page, encoding="utf-8")
    files = digests_in(folder)
    digest = digest_of_folder(files)
    _write(folder / MANIFEST, _manifest(request, digest, files))
    return digest, sum(file.size for file in files)


def _write_native(folder: Path, contract: Contract, native: Native) -> None:
    for target in FULL_TARGETS:
        (folder / target.name).mkdir(parents=True)
        for name, text in native_configs(contract, native, target).items():
            (folder / target.name / f"{name}.pbtxt").write_text(text, encoding="utf-8")


def _manifest(request: BuildRequest, digest: str, files: list[FileDigest]) -> dict[str, object]:
    return {
        "version": 1,
        "digest": digest,
        "architecture": request.architecture,
        "key": request.key,
        "builder": {"version": VERSION},
        "files": [file.to_json() for file in files],
        "inputs": [i.to_json() for i in request.inputs],
    }


def _write(path: Path, content: Mapping[str, object], indent: int | None = 1) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
