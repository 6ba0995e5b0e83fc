"""Asks the artifact of a translator, in the builders' environment, by the code in the artifact.

    python -m benchmarks.builders.ask_translator VERSION_FOLDER TEXTS

A text a line. Prints as JSON, for each: its translation, how many tokens it has, and at which of them was
looked most for each word of the translation.
"""

import importlib
import json
import sys
from pathlib import Path


def main(folder: str, texts: str) -> None:
    sys.path.insert(0, folder)  # as Triton has it: the files of the folder import each other
    answering = importlib.import_module("answering")
    lines = Path(texts).read_text(encoding="utf-8").rstrip("\n").split("\n")
    answers = answering.load(Path(folder)).answer([answering.Question(line) for line in lines])
    found = [
        {
            "translation": answer.translation,
            "tokens": len(answer.source_tokens),
            "looked": answer.found.attention.argmax(axis=-1).tolist() if answer.found.attention.size else [],
        }
        for answer in answers
    ]
    print(json.dumps({"answers": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
