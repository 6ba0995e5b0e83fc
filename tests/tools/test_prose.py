"""Sentences in the source are wrapped, not broken: joining and splitting lines by machine leaves stubs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "operator/nlp_operator").rglob("*.py"))
EARLY = 80
"""A line that ends before this column although the next word would have fitted is broken, not wrapped."""
DRAWN = re.compile(r"[─│┐┘└├<>]")


def broken_docstrings(source: str) -> Iterator[int]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if not isinstance(node.value.value, str):
            continue
        for number in range(node.lineno, node.end_lineno or node.lineno):
            line, following = lines[number - 1], lines[number].strip()
            if not re.match(r"[\w`(]", following) or not re.search(r"[\w`,)]$", line) or DRAWN.search(line):
                continue
            if len(line) + 1 + len(following.split()[0]) < EARLY:
                yield number


def stub_literals(source: str) -> Iterator[int]:
    """A piece of a few letters on a line of its own, amid a sentence."""
    lines = source.splitlines()
    for number, line in enumerate(lines[:-1], 1):
        if re.fullmatch(r'\s*f?"[^"]{1,16} "', line) and re.match(r'\s*f?"', lines[number]):
            yield number


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_is_broken(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [*broken_docstrings(source), *stub_literals(source)] == []


def test_broken_sentences_are_found() -> None:
    docstring = 'def f():\n    """A long line, to its end, that\n    breaks\n    here, early."""\n'
    assert list(broken_docstrings(docstring)) == [2, 3]
    assert list(stub_literals('x = (\n    "one and "\n    "another; "\n    "more."\n)\n')) == [2, 3]
