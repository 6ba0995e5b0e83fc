"""The curves over length that the guide shows."""

from __future__ import annotations

import re

import pytest

from benchmarks.builders.curves import curves_of
from benchmarks.builders.places import ROOT
from tools.guide.pictures import standalone

EXACT = {
    "attention": {20: 1.0, 25: 0.9, 30: 0.5},
    "a fixed vector": {20: 0.1, 25: 0.0, 30: 0.0},
}
TRAINING = {
    "16": {"Transformer": 18000.0, "Seq2SeqAttention": 22000.0},
    "256": {"Transformer": 14600.0, "Seq2SeqAttention": 9400.25},
}
DECODING = {
    "16": {"Transformer": 3.06, "Seq2SeqAttention": 1.56},
    "256": {"Transformer": 51.0, "Seq2SeqAttention": 20.4},
}
CURVES = curves_of(EXACT, TRAINING, DECODING)

WRITTEN = re.compile(r">([^<]+)</text>")


def words_of(picture: str) -> set[str]:
    """What is written in it, but for numbers."""
    return {word for word in WRITTEN.findall(picture) if not re.fullmatch(r"[\d.,]+%?", word)}


def test_both_networks_stand_in_one_picture_with_every_number() -> None:
    said = set(WRITTEN.findall(CURVES["attention-at-length"].svg()))
    assert {"20", "25", "30", "100%", "90%", "50%", "10%", "0%", "attention", "a fixed vector"} <= said
    said = set(WRITTEN.findall(CURVES["training-speed"].svg()))
    assert {"18,000", "22,000", "14,600", "9,400", "Transformer", "GRU with attention"} <= said
    assert "tokens a second" in said
    said = set(WRITTEN.findall(CURVES["decoding-speed"].svg()))
    assert {"3.06", "1.56", "51", "20.4", "milliseconds", "words of a text"} <= said


@pytest.mark.parametrize("name", CURVES)
def test_the_kept_picture_is_such_a_curve_and_the_guide_shows_it(name: str) -> None:
    kept = (ROOT / f"docs/{name}.svg").read_text(encoding="utf-8")
    curve = CURVES[name]
    assert words_of(kept) == words_of(standalone(curve.svg(), curve.width, curve.height))
    chapters = [path.read_text(encoding="utf-8") for path in (ROOT / "docs/guide").glob("*.md")]
    assert any(f"(../{name}.svg)" in chapter for chapter in chapters)


def test_attention_is_kept_to_beat_the_vector_at_every_length_from_20_to_30() -> None:
    kept = (ROOT / "docs/attention-at-length.svg").read_text(encoding="utf-8")
    shares = {
        (name, int(length)): int(share)
        for name, length, share in re.findall(r"<title>([^,<]+), (\d+): (\d+)%</title>", kept)
    }
    for length in range(20, 31):
        assert shares["attention", length] - shares["a fixed vector", length] >= 30


def test_the_guide_says_of_training_what_its_picture_shows() -> None:
    kept = (ROOT / "docs/training-speed.svg").read_text(encoding="utf-8")
    speeds = {
        (name, int(length)): float(number.replace(",", ""))
        for name, length, number in re.findall(r"<title>([^,<]+), (\d+): ([\d,]+)</title>", kept)
    }
    ratios = {
        length: speed / speeds["GRU with attention", length]
        for (name, length), speed in speeds.items()
        if name == "Transformer"
    }
    assert sorted(ratios) == [16, 64, 256]
    chapter = (ROOT / "docs/guide/6-transformer.md").read_text(encoding="utf-8")
    said = re.findall(r"([\d.]+) times as many(?: tokens a second)? at (\d+)", chapter)
    assert {int(length): number for number, length in said} == {
        length: f"{ratio:.2f}" for length, ratio in ratios.items()
    }
