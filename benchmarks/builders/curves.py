"""Curves over the length of texts, from real runs: what attention is for, and how fast translators are.

    python -m benchmarks.builders.curves docs

Writes three pictures into the folder, and prints their numbers as JSON. Takes some minutes; no data set.

attention-at-length.svg  lines of 20 to 30 words that come back reversed: with attention, with a fixed vector
training-speed.svg       training tokens a second of a Transformer and of a GRU with attention, of as many
                         parameters
decoding-speed.svg       milliseconds that the same two take to translate one text

They are drawn as a translator's report draws its own (`LengthCurve`). What differs from machine to machine,
as the two speeds do, stands in no report: an artifact is the same bytes wherever it is built.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.builders.places import Place, run_in
from benchmarks.builders.sentences import LENGTHS, SEQ2SEQ, TRANSFORMER, build_long
from localcluster.environments import TORCH_BUILDER
from model_builders.translation.drawing import LengthCurve
from tools.guide.pictures import exact_by_length, standalone

Values = Mapping[str, Mapping[int, float]]
"""By the name of a curve and the length."""

ATTENTION = {"Luong": "attention", "None": "a fixed vector"}
NETWORKS = {TRANSFORMER: "Transformer", SEQ2SEQ: "GRU with attention"}
WORDS = "words of a text"


def main(words: Sequence[str] | None = None) -> int:
    (folder,) = map(Path, sys.argv[1:] if words is None else words)
    with tempfile.TemporaryDirectory(prefix="nlp-curves-") as store:
        place = Place(Path(store))
        exact = {
            said: exact_by_length(build_long(place, attention)[0].artifact)
            for attention, said in ATTENTION.items()
        }
    training, decoding = (
        run_in(TORCH_BUILDER, "-m", f"benchmarks.builders.{program}", *map(str, LENGTHS))
        for program in ("training_speed", "decoding_speed")
    )
    curves = curves_of(exact, training["tokensPerSecond"], decoding["milliseconds"])
    for name, curve in curves.items():
        (folder / f"{name}.svg").write_text(
            standalone(curve.svg(), curve.width, curve.height), encoding="utf-8"
        )
    print(json.dumps({name: curve.to_json()["series"] for name, curve in curves.items()}, indent=2))
    return 0


def curves_of(
    exact: Values, training: Mapping[str, Any], decoding: Mapping[str, Any]
) -> Mapping[str, LengthCurve]:
    """By the names of their files. Speeds are by length and network, as their programs print them."""
    return {
        "attention-at-length": LengthCurve(
            "Length",
            exact,
            caption="Lines of 20 to 30 words that come back reversed.",
            across="words of a line",
        ),
        "training-speed": LengthCurve(
            "Training", by_network(training), "tokens a second", "Training, on one core.", WORDS
        ),
        "decoding-speed": LengthCurve(
            "Decoding",
            by_network(decoding),
            "milliseconds",
            "One text, read and written, on one core.",
            WORDS,
        ),
    }


def by_network(found: Mapping[str, Mapping[str, float]]) -> Values:
    return {
        said: {int(length): round(one[name], 2) for length, one in found.items()}
        for name, said in NETWORKS.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
