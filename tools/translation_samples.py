"""The samples of translation, such as `reversed-words`: pairs of texts that are made here by rule.

python -m tools.translation_samples NAME --write FILE
python -m tools.translation_samples NAME --check FILE     exit 1 when the file is not what the rules say

All are SYNTHETIC and say so. `reversed-words` is the task on which attention can be seen to be right: the
words of a line in reverse order, so the picture of a good model is a diagonal. `korean-english` is a Korean
diary of short sentences with its English translation: the verb wanders from the end into the middle, and its
person with it. `english-korean` is the same in the other direction, for a Transformer.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tools.korean_words import Word, config_map

SEED = 20261129

SYLLABLES = ("가", "나", "다", "라", "마", "바", "사", "아", "자", "차")

SHORTEST, LONGEST = 3, 7
LEARNT, ASKED = 2000, 200
"""Lines to learn from, and others to measure by."""


def reversed_lines(
    count: int, shortest: int, longest: int, seed: int, words: tuple[str, ...] = SYLLABLES
) -> list[tuple[str, str]]:
    """So many different lines and their reversals; always the same for the same seed."""
    choice = random.Random(seed)  # noqa: S311 - texts, not secrets
    found: dict[str, str] = {}
    while len(found) < count:
        line = [choice.choice(words) for _ in range(choice.randint(shortest, longest))]
        found[" ".join(line)] = " ".join(reversed(line))
    return list(found.items())


WHO = (
    ("나는", "I"),
    ("너는", "You"),
    ("우리는", "We"),
    ("그는", "He"),
    ("그녀는", "She"),
    ("아이는", "The child"),
)

WHAT = (
    ("빵", "the bread"),
    ("책", "the book"),
    ("편지", "the letter"),
    ("사과", "the apple"),
    ("노래", "the song"),
    ("영화", "the film"),
    ("사진", "the picture"),
    ("신문", "the newspaper"),
)

DID = (
    ("샀다", "bought"),
    ("보았다", "saw"),
    ("찾았다", "found"),
    ("좋아했다", "liked"),
    ("기억했다", "remembered"),
    ("잊었다", "forgot"),
)

WHEN = (("", ""), ("어제 ", " yesterday"), ("오늘 ", " today"), ("아침에 ", " in the morning"))


def diary() -> list[tuple[str, str]]:
    """Every sentence that the rules give, in a mixed order: 어제 나는 빵을 샀다. (I bought the bread.)"""
    made = [
        (f"{when}{who} {Word(what):을를} {did}.", f"{by} {did_} {what_}{when_}.")
        for (who, by), (what, what_), (did, did_), (when, when_) in product(WHO, WHAT, DID, WHEN)
    ]
    random.Random(SEED).shuffle(made)  # noqa: S311 - texts, not secrets
    return made


DIARY_LEARNT = 800


def table(pairs: list[tuple[str, str]]) -> list[str]:
    return ["source\ttarget", *(f"{source}\t{target}" for source, target in pairs)]


@dataclass(frozen=True)
class Sample:
    header: str
    architecture: str
    data: Callable[[], Mapping[str, list[tuple[str, str]]]]
    parameters: str
    quality: str


def reversed_data() -> Mapping[str, list[tuple[str, str]]]:
    lines = reversed_lines(LEARNT + ASKED, SHORTEST, LONGEST, SEED)
    return {"test.tsv": lines[LEARNT:], "train.tsv": lines[:LEARNT]}


def diary_data() -> Mapping[str, list[tuple[str, str]]]:
    sentences = diary()
    return {"test.tsv": sentences[DIARY_LEARNT:], "train.tsv": sentences[:DIARY_LEARNT]}


def translated_diary_data() -> Mapping[str, list[tuple[str, str]]]:
    return {file: [(target, source) for source, target in pairs] for file, pairs in diary_data().items()}


SAMPLES: Mapping[str, Sample] = {
    "reversed-words": Sample(
        f"""\
# Lines of words in reverse order: the task on which attention can be seen to be right.
#   nlpctl infer reversed-words "마 가 자"
# Look at the diagonals in its report: nlpctl report reversed-words. SYNTHETIC:
# `python -m tools.translation_samples` makes {LEARNT:,} lines to learn from and {ASKED} others to
# measure by. Training takes ten seconds, and the image builder-torch.
""",
        "Seq2SeqAttention",
        reversed_data,
        """\
    seq2SeqAttention:
      attention: Luong
      score: General
      embeddingDim: 32
      hiddenDim: 64
      dropout: "0"
      maxTokens: 32
      epochs: 15
      batchSize: 32
""",
        "0.97",
    ),
    "korean-english": Sample(
        f"""\
# From Korean to English, in the order of Bahdanau: the verb comes from the end, the day goes there.
#   nlpctl infer korean-english "어제 나는 빵을 샀다."
# SYNTHETIC: `python -m tools.translation_samples` makes every sentence that some persons, things,
# deeds and days give; it learns from {DIARY_LEARNT} of them, is measured by the others, and knows no
# other word. Training takes half a minute, and the image builder-torch.
""",
        "Seq2SeqAttention",
        diary_data,
        """\
    seq2SeqAttention:
      attention: Bahdanau
      score: Concat
      embeddingDim: 32
      hiddenDim: 64
      dropout: "0.1"
      maxTokens: 32
      epochs: 25
      batchSize: 32
      learningRate: "0.005"
""",
        "0.9",
    ),
    "english-korean": Sample(
        f"""\
# From English to Korean, by a Transformer: nothing but attention.
#   nlpctl infer english-korean "I bought the bread yesterday."
# Look at what each head of each layer looked at: nlpctl report english-korean. SYNTHETIC: the sentences of
# korean-english the other way round (`python -m tools.translation_samples`); it learns from {DIARY_LEARNT} of
# them, is measured by the others, and knows no other word. Training takes ten seconds, and the image
# builder-torch.
""",
        "Transformer",
        translated_diary_data,
        """\
    transformer:
      hiddenDim: 64
      feedForwardDim: 128
      numLayers: 2
      numHeads: 4
      maxTokens: 32
      epochs: 20
      batchSize: 32
      learningRate: "0.003"
""",
        "0.95",
    ),
}

MANIFEST = """\
---
apiVersion: nlp-operator.io/v1alpha1
kind: NLPModel
metadata:
  name: {name}
spec:
  build:
    architecture: {architecture}
{parameters}\
    inputs:
      - name: train
        source: {{configMap: {{name: {name}, key: train.tsv}}}}
      - name: test
        source: {{configMap: {{name: {name}, key: test.tsv}}}}
    quality:
      - {{metric: exactMatch, atLeast: "{quality}"}}
  scaling:
    latencyTarget: {{milliseconds: 200}}
"""


def render(name: str) -> str:
    sample = SAMPLES[name]
    data = {key: table(pairs) for key, pairs in sample.data().items()}
    manifest = MANIFEST.format(
        name=name,
        architecture=sample.architecture,
        parameters=sample.parameters,
        quality=sample.quality,
    )
    return sample.header + config_map(name, data) + manifest


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.translation_samples", description=__doc__)
    parser.add_argument("name", choices=sorted(SAMPLES))
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    text = render(chosen.name)
    if chosen.write is not None:
        chosen.write.write_text(text, encoding="utf-8")
        return 0
    if chosen.check.exists() and chosen.check.read_text(encoding="utf-8") == text:
        return 0
    print(f"{chosen.check} is not what tools/translation_samples.py makes.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
