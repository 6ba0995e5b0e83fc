"""What of an export is the same for all translators: tokenizers, recorded requests, the comparison."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_builders.contract import Contract, Example, StreamExample, text_column
from model_builders.fresh import ANSWERING, ask_fresh, compare
from model_builders.near_ties import firm_ones, is_firm, told_if_few
from model_builders.served import write_json
from model_builders.served.streaming import responses_to
from model_builders.served.translating import GREEDY, Answering, Question, tensors
from model_builders.translation.corpus import Corpus
from model_builders.translation.measuring import Measured
from model_builders.translation.native import NATIVE

logger = logging.getLogger(__name__)

ASKED = 24
"""Test texts that the export is compared on, the shortest and the longest among them."""

BEAM_SIZE = 4
"""Of the requests that try a beam."""

MOST_NUMBERS = 200_000
"""Of an output of a recorded answer: 2 MB of examples.json. The attention of a deep network at a long text
would be gigabytes of it (layers times heads times both lengths)."""

COMPARED = ("token_ids", "attention", "score", "finished")


def write_tokenizers(corpus: Corpus, folder: Path, max_tokens: int) -> None:
    (folder / "source.json").write_text(corpus.source_json + "\n", encoding="utf-8")
    (folder / "target.json").write_text(corpus.target_json + "\n", encoding="utf-8")
    write_json(folder / "settings.json", {"maxTokens": max_tokens})


def asked_of(measured: Measured) -> list[Question]:
    """Texts of every length whose translation is no near tie.

    Raises Refused (`ExportUnproven`) where there is none.
    """
    firm = firm_ones(measured.asked, measured.answers)
    ordered = [question for question, _ in sorted(firm, key=lambda one: len(one[1].source_tokens))]
    if len(ordered) <= ASKED:
        return ordered
    return [ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, ASKED)]


def note_of(measured: Measured) -> str:
    """What a user should know of the comparison, in a sentence; mostly nothing."""
    return told_if_few(len(asked_of(measured)), min(ASKED, len(measured.asked)))


def check(folder: Path, eager: Answering, measured: Measured, contract: Contract, native_size: int) -> float:
    """Each text alone, all of them as one batch, and some by a beam, in both flavours; the largest
    difference.

    `native_size` is the native flavour's largest batch. Raises Refused (`ExportDiffers`). Of token ids, which
    are whole numbers, none is allowed.
    """
    questions = asked_of(measured)
    wide = [Question(question.text, BEAM_SIZE) for question in questions[:: max(1, ASKED // 6)]]
    beams = [question for question, answer in zip(wide, eager.answer(wide), strict=True) if is_firm(answer)]
    logger.info("comparing translations of %d texts, and of %d by a beam", len(questions), len(beams))
    all_of_them = [*questions, *beams]
    alone = [[question] for question in all_of_them]
    flavours = {
        ANSWERING: [*alone, questions, all_of_them],
        NATIVE: [
            *alone,
            *(all_of_them[begin : begin + native_size] for begin in range(0, len(all_of_them), native_size)),
        ],
    }
    names = [tensor.name for tensor in contract.outputs if tensor.name in COMPARED]

    @cache  # both flavours are asked most batches
    def wanted(batch: tuple[Question, ...]) -> dict[str, NDArray[Any]]:
        return tensors(list(batch), eager.answer(list(batch)))

    largest = 0.0
    for module, batches in flavours.items():
        for batch, found in zip(batches, ask_fresh(folder, batches, module), strict=True):
            largest = max(largest, compare(names, wanted(tuple(batch)), found))
    return largest


def record(eager: Answering, measured: Measured, contract: Contract) -> tuple[Example, ...]:
    """Requests with the answers that must come back; of a near tie but the tokens of the source, and of a
    text that is too long for it no attention."""
    questions = recordable(measured)
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
        if not all(map(is_firm, answers)):
            outputs = {"source_tokens": outputs["source_tokens"]}
        (bounded,) = _bounded([outputs])
        recorded.append(Example(name, _inputs(batch), bounded))
    return tuple(recorded)


def record_streams(eager: Answering, measured: Measured, contract: Contract) -> tuple[StreamExample, ...]:
    """The shortest and the longest of the recorded sentences, token by token."""
    declared = {tensor.name for tensor in contract.outputs}
    asked = recordable(measured)
    chosen = {"a short stream": asked[:1], "a long stream": asked[1:][-1:]}
    return tuple(
        StreamExample(name, _inputs([question]), _bounded(responses_to(eager, question, declared)))
        for name, questions in chosen.items()
        for question in questions
    )


def recordable(measured: Measured) -> list[Question]:
    """Of the texts that the export is compared on those of which two rows are few enough numbers; where none
    is, the one of the fewest."""
    asked = asked_of(measured)
    answers = dict(zip(measured.asked, measured.answers, strict=True))
    numbers = {question: answers[question].found.attention.size for question in asked}
    few = [question for question in asked if 2 * numbers[question] <= MOST_NUMBERS]
    return few or [min(asked, key=numbers.__getitem__)]


def _bounded(responses: Sequence[Mapping[str, NDArray[Any]]]) -> list[dict[str, NDArray[Any]]]:
    """Without outputs that have too many numbers in all of them together."""
    numbers = Counter[str]()
    for response in responses:
        numbers.update({name: tensor.size for name, tensor in response.items()})
    return [
        {name: tensor for name, tensor in response.items() if numbers[name] <= MOST_NUMBERS}
        for response in responses
    ]


def _inputs(batch: Sequence[Question]) -> dict[str, NDArray[Any]]:
    inputs = {"text": text_column([question.text for question in batch])}
    if any(question.beam_size != GREEDY for question in batch):
        inputs["beam_size"] = np.array([[question.beam_size] for question in batch], dtype=np.int32)
    return inputs
