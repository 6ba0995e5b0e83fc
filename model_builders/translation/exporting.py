"""What of an export is the same for all translators: tokenizers, recorded requests, the comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.contract import Contract, Example, text_column
from model_builders.fresh import compare_fresh
from model_builders.served import write_json
from model_builders.served.translating import GREEDY, Answer, Answering, Question, tensors
from model_builders.translation.corpus import Corpus
from model_builders.translation.measuring import Measured

ASKED = 24
"""Test texts that the export is compared on, the shortest and the longest among them."""

BEAM_SIZE = 4
"""Of the requests that try a beam."""

NEAR_TIE = 1e-4
"""A decision that was won by less may go the other way in another runtime or on another processor."""

COMPARED = ("token_ids", "attention", "score", "finished")


def write_tokenizers(corpus: Corpus, folder: Path, max_tokens: int) -> None:
    (folder / "source.json").write_text(corpus.source_json + "\n", encoding="utf-8")
    (folder / "target.json").write_text(corpus.target_json + "\n", encoding="utf-8")
    write_json(folder / "settings.json", {"maxTokens": max_tokens})


def asked_of(measured: Measured) -> list[Question]:
    """Texts of every length whose translation is no near tie."""
    firm = [
        (len(answer.source_tokens), question)
        for question, answer in zip(measured.asked, measured.answers, strict=True)
        if answer.found.margin >= NEAR_TIE
    ]
    ordered = [question for _, question in sorted(firm, key=lambda one: one[0])]
    if len(ordered) <= ASKED:
        return ordered
    return [ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, ASKED)]


def check(folder: Path, eager: Answering, measured: Measured) -> float:
    """Each text alone, all of them as one batch, and some by a beam; the largest difference.

    Raises Refused (`ExportDiffers`). Of token ids, which are whole numbers, none is allowed.
    """
    questions = asked_of(measured)
    beams = _firm(
        eager, [Question(question.text, BEAM_SIZE) for question in questions[:: max(1, ASKED // 6)]]
    )
    batches = [[question] for question in (*questions, *beams)]
    batches += [batch for batch in (questions, [*questions, *beams]) if batch]
    if not batches:
        return 0.0
    return compare_fresh(folder, batches, COMPARED, lambda batch: tensors(batch, eager.answer(batch)))


def _firm(eager: Answering, questions: Sequence[Question]) -> list[Question]:
    answers = eager.answer(list(questions)) if questions else []
    return [
        question
        for question, answer in zip(questions, answers, strict=True)
        if answer.found.margin >= NEAR_TIE
    ]


def record(eager: Answering, measured: Measured, contract: Contract) -> tuple[Example, ...]:
    """Requests with the answers that must come back. Of a model whose every decision is a near tie there are
    but the tokens of a source."""
    questions = asked_of(measured) or list(measured.asked[:1])
    first, last = questions[0], questions[-1]
    batches = {
        "a sentence": [first],
        "a beam": [Question(last.text, BEAM_SIZE)],
        "a batch of two": [first, last],
    }
    declared = {tensor.name for tensor in contract.outputs}
    recorded = []
    for name, batch in batches.items():
        answers = eager.answer(batch)
        outputs = tensors(batch, answers, declared)
        if not all(map(_is_firm, answers)):
            outputs = {"source_tokens": outputs["source_tokens"]}
        recorded.append(Example(name, _inputs(batch), outputs))
    return tuple(recorded)


def _is_firm(answer: Answer) -> bool:
    return answer.found.margin >= NEAR_TIE


def _inputs(batch: Sequence[Question]) -> dict[str, NDArray[Any]]:
    inputs = {"text": text_column([question.text for question in batch])}
    if any(question.beam_size != GREEDY for question in batch):
        inputs["beam_size"] = np.array([[question.beam_size] for question in batch], dtype=np.int32)
    return inputs
