"""Splits texts into morphemes, in the builders' environment, by the code that builds and serves.

    python -m benchmarks.builders.split_korean TEXTS WORDS

A text a line; in WORDS its morphemes, with blanks between them. Prints the CPU seconds as JSON.
"""

import json
import sys
import time
from pathlib import Path

from model_builders.served.words import Settings, tokenize_all
from model_builders.terms import cores


def main(texts: str, words: str) -> None:
    began = time.process_time()
    lines = [line for line in Path(texts).read_text(encoding="utf-8").split("\n") if line.strip()]
    settings = Settings("KoreanMorphemes", "Preserve")
    with Path(words).open("w", encoding="utf-8") as stream:
        for tokens in tokenize_all(lines, settings, threads=cores()):
            stream.write(" ".join(tokens) + "\n")
    print(json.dumps({"cpuSeconds": time.process_time() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
