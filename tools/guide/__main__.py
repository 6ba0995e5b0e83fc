"""Run the guide's chapters and write what comes out into docs/guide.

python -m tools.guide                every chapter: some minutes, and the builders with torch
python -m tools.guide 1-one-hot      only those
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tools.guide.chapter import CHAPTERS, GUIDE, QUICK, Chapter, read_chapter
from tools.guide.pictures import PICTURES
from tools.guide.running import reader


def follow(chapter: Chapter) -> tuple[Chapter, Mapping[str, str]]:
    """The chapter with what its commands give now, and its pictures by the names of their files."""
    with reader(torch=chapter.name not in QUICK) as one:
        filled = chapter.with_manifests().with_answers(one.run)
        drawn = [draw(one) for draw in PICTURES[chapter.name]]
        return filled, dict(zip(chapter.pictures, drawn, strict=True))


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in CHAPTERS]
    if unknown:
        print(f"There is no chapter {unknown[0]!r}; there are {', '.join(CHAPTERS)}.", file=sys.stderr)
        return 2
    for name in names or CHAPTERS:
        chapter, pictures = follow(read_chapter(name))
        chapter.path.write_text(chapter.text, encoding="utf-8")
        for file, picture in pictures.items():
            (GUIDE / file).write_text(picture, encoding="utf-8")
        print(f"{chapter.path.name}: {len(chapter.commands)} commands, {', '.join(pictures)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
