"""What models from Hugging Face folders are held to: transformers itself, on tiny models that were trained.

Needs no data set. What is compared, and with what, is the program that the tests run too.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.builders.gates import Gate, Row, row_of
from benchmarks.builders.places import ROOT, Built, Data, Place
from localcluster.environments import TORCH_BUILDER, environment
from localcluster.progress import Progress
from tests.model_builders.hugging_face.folders import PARAMETERS, Kind, folder_of, sentencepiece

NAME = "HuggingFace"
LABELS, TRANSLATORS = "hub-labels", "hub-translators"
TRANSFORMERS = "transformers"

TOLERANCE = 1e-5

LEAST_TEXTS, LEAST_ENTITIES = 61, 400
"""Compared by the pipelines of labels."""
LEAST_TRANSLATIONS = 151
"""Compared by each model, whatever the size of beam and batch."""
LEAST_FIRM = 5 / 6
"""Of the translations: the others are near ties, and compared with nothing."""


def labels_gate(data: Data, place: Place) -> Iterator[Row]:
    """Of texts: probabilities. Of tokens: entities where the pipeline has them, and their scores."""
    del data
    kind: Kind
    for kind in ("moods", "names"):
        yield from rows_of_labels(*judged(place, kind))


def rows_of_labels(built: Built, found: Mapping[str, Any]) -> Iterator[Row]:
    """Of what in_transformers found: that all is equal, and that there was enough of it."""
    what, least = ("entities", LEAST_ENTITIES) if "places" in found else ("probabilities", LEAST_TEXTS)
    equal = found["difference"] <= TOLERANCE and not found.get("others")
    yield row_of(built, LABELS, NAME, f"{what}Equal", 1.0, float(equal), TRANSFORMERS, 1.0)
    compared = found.get("places", found["texts"])
    yield row_of(built, LABELS, NAME, f"{what}Compared", least, compared, TRANSFORMERS, None)


def translators_gate(data: Data, place: Place) -> Iterator[Row]:
    """Marian and T5: ids of `generate`, greedy and by beams, in batches."""
    del data
    kind: Kind
    for kind, model in (("animals", "marian"), ("digits", "t5")):
        yield from rows_of_translator(model, *judged(place, kind))


def rows_of_translator(model: str, built: Built, found: Mapping[str, Any]) -> Iterator[Row]:
    """Of what in_transformers found: that all is equal, and that there was enough of it."""
    compared, unfirm = found["compared"], found["unfirm"]
    right = (compared - found["differ"]) / max(compared, 1)
    firm = compared / max(compared + unfirm, 1)
    for metric, floor, measured, of_oracle in (
        ("AsGenerate", 1.0, right, 1.0),
        ("Compared", LEAST_TRANSLATIONS, compared, None),
        ("Firm", LEAST_FIRM, firm, None),
    ):
        yield row_of(built, TRANSLATORS, NAME, f"{model}{metric}", floor, measured, TRANSFORMERS, of_oracle)


def judged(place: Place, kind: Kind) -> tuple[Built, dict[str, Any]]:
    """The artifact of a tiny model, and how it compares."""
    folder = folder_of(kind)
    built = place.build(NAME, PARAMETERS[kind], {}, folders={"weights": folder})
    python = environment(TORCH_BUILDER, Progress()) / "bin/python3"
    module = "tests.model_builders.hugging_face.in_transformers"
    command = [str(python), "-m", module, kind, str(folder), str(built.artifact / "1")]
    where = f"{ROOT}:{ROOT / 'operator'}:{sentencepiece()}"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: {module} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return built, found


HUGGING_FACE = (
    Gate(LABELS, NAME, labels_gate),
    Gate(TRANSLATORS, NAME, translators_gate),
)
