"""What `make check` looks at beside lint and types: generated files, sizes, and words that must not appear.

python -m tools.check            say every finding, exit 1 when there is one
python -m tools.check --write    write the generated documents again first
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

GENERATED: tuple[tuple[str, Sequence[str]], ...] = (
    ("docs/api/inference.md", ("-m", "model_builders", "contracts")),
    ("docs/api/nlpmodel.md", ("-m", "tools.api_reference")),
    ("manifests/samples/korean-words.yaml", ("-m", "tools.korean_words")),
    ("manifests/samples/korean-people.yaml", ("-m", "tools.korean_words", "--people")),
    ("manifests/samples/reversed-words.yaml", ("-m", "tools.translation_samples", "reversed-words")),
    ("manifests/samples/korean-english.yaml", ("-m", "tools.translation_samples", "korean-english")),
    ("manifests/samples/english-korean.yaml", ("-m", "tools.translation_samples", "english-korean")),
    ("manifests/monitoring", ("-m", "tools.monitoring")),
    ("charts/nlp-operator", ("-m", "tools.helm_chart")),
)
"""Each document (or folder of them) with its command, that writes it (`--write FILE`) or holds it (`--check
FILE`)."""

FORBIDDEN_IN_OPERATOR = re.compile(
    r"\b(kwok|pytest|unittest|emulator|emulated|localcluster|under test)\b", re.IGNORECASE
)
"""The shipped programs have no branch for a test, and so no word of one."""

ADDRESSES = re.compile(r"https?://")
CRD_LIMIT_BYTES = 64 * 1024
"""A quarter of what `kubectl apply` can keep in its annotation (256 KiB)."""


def tracked(*under: str) -> list[Path]:
    """Files of the repository below these folders, also those not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *under],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str], files: Sequence[Path]) -> Iterator[str]:
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def stale_documents() -> Iterator[str]:
    for document, command in GENERATED:
        ran = subprocess.run(
            [sys.executable, *command, "--check", document],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            reason = ran.stderr.strip()
            yield f"{document} is not what the code says; write it again with `make generate`. {reason}"


def words_of_tests_in_the_operator() -> Iterator[str]:
    for line in lines_matching(
        FORBIDDEN_IN_OPERATOR,
        tracked("operator/nlp_operator", "operator/nlp_activator", "operator/nlp_agent"),
    ):
        yield f"The shipped program speaks of tests or of the local cluster: {line}"


def addresses_in_lock_files() -> Iterator[str]:
    locks = [
        path for path in tracked("constraints", "localcluster/go") if path.suffix in (".txt", ".mod", ".sum")
    ]
    for line in lines_matching(ADDRESSES, locks):
        yield f"A lock file holds an address: {line}"


FOLDERS_OF_EVERY_MACHINE = {
    "/", "/home", "/mnt", "/opt", "/srv", "/tmp", "/usr", "/usr/local", "/usr/src", "/var", "/var/tmp",  # noqa: S108
}  # fmt: skip


def paths_of_this_machine() -> Iterator[str]:
    # The folder above may be one that every machine has: a clone in /tmp or /opt is as good as any.
    folders = {str(ROOT), str(ROOT.parent), str(Path.home())} - FOLDERS_OF_EVERY_MACHINE
    starts = "|".join(re.escape(folder + "/") for folder in sorted(folders))
    pattern = re.compile(rf"(?<![\w}}/.])(?:{starts})")  # not in the middle of another path
    for line in lines_matching(pattern, tracked()):
        yield f"A path of this machine: {line}"


def shadowed_standard_library() -> Iterator[str]:
    if (ROOT / "operator/__init__.py").exists():
        yield "operator/__init__.py exists: it shadows the standard library's module `operator`. Remove it."


def large_crds() -> Iterator[str]:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        size = path.stat().st_size
        if size >= CRD_LIMIT_BYTES:
            yield f"{path.relative_to(ROOT)} has {size} bytes; it must stay under {CRD_LIMIT_BYTES}."


CHECKS = (
    stale_documents,
    words_of_tests_in_the_operator,
    addresses_in_lock_files,
    paths_of_this_machine,
    shadowed_standard_library,
    large_crds,
)


def write_documents() -> None:
    for document, command in GENERATED:
        subprocess.run([sys.executable, *command, "--write", document], cwd=ROOT, check=True)


def main(words: Sequence[str]) -> int:
    if list(words) == ["--write"]:
        write_documents()
    elif words:
        print(__doc__, file=sys.stderr)
        return 2
    findings = [finding for check in CHECKS for finding in check()]
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{len(CHECKS)} checks, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
