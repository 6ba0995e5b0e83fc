"""A page of the guide: prose, and blocks that say what real runs gave.

| block | is filled in with |
| --- | --- |
| a yaml block below `<!-- NLPModel of FILE -->` | the NLPModel of that file, as it stands there |
| a console block | after each line `$ COMMAND` what the command printed |

Of what is printed those words are left out that differ from machine to machine or from release to release:
digests, paths, sizes and milliseconds (`steady`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/guide"
CHAPTERS = (
    "1-one-hot",
    "2-term-document-matrix",
    "3-word2vec",
    "4-transfer",
    "5-attention",
    "6-transformer",
)
"""In the order in which the ideas came."""
QUICK = CHAPTERS[:2]
"""Without torch."""

_MANIFEST = re.compile(
    r"(?<=<!-- NLPModel of )(\S+)( -->\n\n```yaml\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL
)
_CONSOLE = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]+\]\(([^\s/]+)\)")
"""Beside the page. Those of docs/ are drawn by benchmarks."""
PROMPT = "$ "


@dataclass(frozen=True)
class Chapter:
    name: str
    text: str

    @property
    def path(self) -> Path:
        return GUIDE / f"{self.name}.md"

    @property
    def samples(self) -> list[str]:
        """The files whose NLPModels it shows."""
        return [found[1] for found in _MANIFEST.finditer(self.text)]

    @property
    def commands(self) -> list[list[str]]:
        """As words, without `nlpctl` and what is said after `#`."""
        return [words_of(line) for block in _CONSOLE.findall(self.text) for line in _asked(block)]

    @property
    def pictures(self) -> list[str]:
        """The names of their files, beside the page, in the order in which they stand there."""
        return [str(found) for found in _PICTURE.findall(self.text)]

    def with_manifests(self) -> Chapter:
        def fill(found: re.Match[str]) -> str:
            return f"{found[1]}{found[2]}{model_of(ROOT / found[1])}"

        return Chapter(self.name, _MANIFEST.sub(fill, self.text))

    def with_answers(self, run: Callable[[list[str]], str]) -> Chapter:
        """`run` gives what a command prints; nothing of one that goes on."""

        def fill(found: re.Match[str]) -> str:
            return "".join(f"{line}\n{steady(run(words_of(line)))}" for line in _asked(found[1]))

        return Chapter(self.name, _CONSOLE.sub(fill, self.text))


def read_chapter(name: str) -> Chapter:
    return Chapter(name, (GUIDE / f"{name}.md").read_text(encoding="utf-8"))


def model_of(file: Path) -> str:
    """The document of a file that is an NLPModel, byte for byte."""
    documents = file.read_text(encoding="utf-8").split("---\n")
    (found,) = [one for one in documents if "\nkind: NLPModel\n" in one]
    return found


def words_of(line: str) -> list[str]:
    program, *words = shlex.split(line.removeprefix(PROMPT), comments=True)
    if program != "nlpctl":
        raise ValueError(f"{line!r} is no command of nlpctl; the guide runs no other.")
    return words


def _asked(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.startswith(PROMPT)]


def steady(printed: str) -> str:
    """What a command prints, without what differs elsewhere."""
    text = printed.replace(" was built before. ", " is built. ")
    text = re.sub(r" Its artifact has [\d.]+ \w+\.", "", text)
    text = re.sub(
        r" answered in [\d.]+ ms over (\w+) \(.*\)$", r" answered over \1", text, flags=re.MULTILINE
    )
    left_out = re.compile(r"(artifact|in) +\S+\s*$")
    lines = [line.rstrip() for line in text.splitlines() if not left_out.match(line)]
    return "".join(f"{line}\n" for line in lines)
