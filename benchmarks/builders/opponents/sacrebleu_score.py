"""Scores translations with sacrebleu, in an environment of its own.

    python sacrebleu_score.py TRANSLATIONS REFERENCES

Both files have a text a line, the same number of lines. Prints BLEU and chrF, 0 to 100, with sacrebleu's
signatures, as JSON.
"""

import json
import sys
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF


def main(translations: str, references: str) -> None:
    found, wanted = (
        Path(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for file in (translations, references)
    )
    if len(found) != len(wanted):
        raise SystemExit(f"{translations} has {len(found)} lines, {references} has {len(wanted)}.")
    scores = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        scores[name] = metric.corpus_score(found, [wanted]).score
        scores[f"{name}Signature"] = str(metric.get_signature())
    print(json.dumps({**scores, "sacrebleu": sacrebleu.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
