"""The sample `korean-words`: a small Korean text that is made here by rule, and the manifest about it.

python -m tools.korean_words --write FILE
python -m tools.korean_words --check FILE     exit 1 when the file is not what the rules say
python -m tools.korean_words --people ...     the same for `korean-people`, the sample of transfer

The text is SYNTHETIC and says so in the manifest. It is no sample of the language: each person appears
beside things of its kind (학교 for 소년 and 소녀) and things of its sex (수염 for 소년 and 아들), so that
what a model can learn from it is known beforehand, and 아들 - 딸 + 소녀 = 소년 must come out first.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

PEOPLE = (
    (("아들", "딸"), ("부모", "효도", "집안", "막내", "자랑")),
    (("소년", "소녀"), ("학교", "숙제", "교실", "운동장", "방학")),
    (("남자", "여자"), ("회사", "출근", "도시", "버스", "회의")),
    (("아버지", "어머니"), ("가족", "식탁", "월급", "살림", "자식")),
    (("할아버지", "할머니"), ("지팡이", "옛날", "손주", "마당", "주름")),
    (("왕", "여왕"), ("궁궐", "왕관", "신하", "백성", "나라")),
)
"""A man and a woman, and what belongs to both."""

THINGS = (
    ("수염", "넥타이", "군대", "씨름", "면도"),
    ("치마", "비녀", "그네", "귀걸이", "화장"),
)
"""What belongs to all of the men, and to all of the women."""

TEMPLATES = (
    "{person:은는} {thing:을를} 보고 {kind:을를} 생각했다.",
    "{kind:을를} 좋아하는 {person:이가} {thing:을를} 이야기했다.",
    "어제 {person:이가} {thing:과와} {kind:을를} 함께 찾았다.",
    "{thing:을를} 아는 {person:은는} 오늘도 {kind:을를} 떠올렸다.",
    "{person:의} {thing:과와} {person:의} {kind:을를} 모두 기억했다.",
)

SENTENCES_A_PERSON = 40
SEED = 20261129

HEADER = f"""\
# Word vectors, and the analogy 아들 - 딸 + 소녀 = 소년, without any data set:
#   nlpctl infer korean-words 아들 --input negative=딸 --input positive=소녀
# The text is SYNTHETIC: `python -m tools.korean_words` makes it by rule, {SENTENCES_A_PERSON} sentences each.
# What it teaches was put into it. Training takes some seconds, and the image builder-torch.
"""

MANIFEST = """\
---
apiVersion: nlp-operator.io/v1alpha1
kind: NLPModel
metadata:
  name: korean-words
spec:
  build:
    architecture: Word2Vec
    word2Vec:
      tokenizer: KoreanMorphemes
      embeddingDim: 32
      minCount: 5
      subsampleThreshold: "0.003"
      epochs: 40
      learningRate: "0.05"
    inputs:
      - name: corpus
        source: {configMap: {name: korean-words, key: corpus.txt}}
      - name: analogies
        source: {configMap: {name: korean-words, key: analogies.txt}}
    quality:
      - {metric: analogyTop1, atLeast: "0.9"}
  scaling:
    latencyTarget: {milliseconds: 100}
"""

LEARNT_ABOUT, ASKED_ABOUT = (0, 2, 3, 4), (1, 5)
"""Of PEOPLE: those in the labelled texts, and those in the texts that the classifier is measured by."""

LABELS = ("남", "여")

DEEDS = (
    "{person:은는} 밥을 먹었다.",
    "{person:이가} 물을 마셨다.",
    "아침에 {person:을를} 만났다.",
    "{person:의} 노래를 들었다.",
    "{person:과와} 길을 걸었다.",
    "{person:은는} 책을 읽었다.",
    "{person:이가} 잠을 잤다.",
    "우리는 {person:을를} 기다렸다.",
)
"""What everybody does: nothing but the person says which label a text has."""

PEOPLE_HEADER = """\
# Transfer: is a text about a man or a woman? The labelled texts know four pairs of people, the texts
# that it is measured by two others. Words alone cannot tell (embeddings: Random gets half of them
# right); the vectors of `korean-words`, which this model is made from, can. Apply korean-words.yaml
# too, in any order: this one is built after it, and again when it changes. SYNTHETIC, as that one.
"""

PEOPLE_MANIFEST = """\
---
apiVersion: nlp-operator.io/v1alpha1
kind: NLPModel
metadata:
  name: korean-people
spec:
  build:
    architecture: TextClassifier
    textClassifier:
      embeddings: Frozen
      tokenizer: KoreanMorphemes
      filters: 32
      epochs: 20
    inputs:
      - name: vectors
        source: {nlpModel: {name: korean-words}}
      - name: train
        source: {configMap: {name: korean-people, key: train.tsv}}
      - name: test
        source: {configMap: {name: korean-people, key: test.tsv}}
    quality:
      - {metric: accuracy, atLeast: "0.9"}
  scaling:
    latencyTarget: {milliseconds: 100}
"""

PARTICLES = {"은는": ("은", "는"), "이가": ("이", "가"), "을를": ("을", "를"), "과와": ("과", "와")}


class Word(str):
    """Formats itself with a particle: `{word:을를}` is 수염을 and 치마를."""

    __slots__ = ()

    def __format__(self, particle: str) -> str:
        if particle not in PARTICLES:
            return f"{self!s}{particle}"
        closed, opened = PARTICLES[particle]
        ends_closed = (
            ord(self[-1]) - ord("가")
        ) % 28 != 0  # Unicode orders syllables by their last consonant
        return str(self) + (closed if ends_closed else opened)


def sentences() -> list[str]:
    """Always the same ones, in a mixed order."""
    choice = random.Random(SEED)  # noqa: S311 - a text, not a secret
    made = [
        choice.choice(TEMPLATES).format(
            person=Word(person), thing=Word(choice.choice(things)), kind=Word(choice.choice(kinds))
        )
        for pair, kinds in PEOPLE
        for person, things in zip(pair, THINGS, strict=True)
        for _ in range(SENTENCES_A_PERSON)
    ]
    choice.shuffle(made)
    return made


def analogies() -> Iterator[str]:
    """The analogy of the study note, and that of every two pairs."""
    yield ": document"
    yield "딸 아들 소녀 소년"
    yield ": pairs"
    for one, _ in PEOPLE:
        for other, _ in PEOPLE:
            if one != other:
                yield f"{one[0]} {one[1]} {other[0]} {other[1]}"
                yield f"{one[1]} {one[0]} {other[1]} {other[0]}"


def labelled(pairs: tuple[int, ...]) -> list[str]:
    """A .tsv of texts about these pairs of people."""
    lines = [
        f"{deed.format(person=Word(person))}\t{label}"
        for place in pairs
        for person, label in zip(PEOPLE[place][0], LABELS, strict=True)
        for deed in DEEDS
    ]
    return ["text\tlabel", *lines]


def config_map(name: str, entries: dict[str, list[str]]) -> str:
    lines = ["apiVersion: v1", "kind: ConfigMap", "metadata:", f"  name: {name}", "data:"]
    for key, text in entries.items():
        lines += [f"  {key}: |", *(f"    {line}" for line in text)]
    return "\n".join(lines) + "\n"


def render(*, people: bool = False) -> str:
    if people:
        data = {"test.tsv": labelled(ASKED_ABOUT), "train.tsv": labelled(LEARNT_ABOUT)}
        return PEOPLE_HEADER + config_map("korean-people", data) + PEOPLE_MANIFEST
    data = {"analogies.txt": list(analogies()), "corpus.txt": sentences()}
    return HEADER + config_map("korean-words", data) + MANIFEST


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.korean_words", description=__doc__)
    parser.add_argument("--people", action="store_true", help="the sample of transfer, korean-people")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        chosen.write.write_text(render(people=chosen.people), encoding="utf-8")
        return 0
    text = render(people=chosen.people)
    if chosen.check.exists() and chosen.check.read_text(encoding="utf-8") == text:
        return 0
    print(f"{chosen.check} is not what tools/korean_words.py makes.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
