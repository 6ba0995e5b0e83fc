"""An artifact held against transformers itself, which reads the folder that it was built from.

python -m tests.model_builders.hugging_face.in_transformers NAME FOLDER VERSION_FOLDER

Run where torch and sentencepiece are; prints what was found as JSON. The artifact answers by its own code.
"""

from __future__ import annotations

import copy
import importlib
import json
import random
import sys
import unicodedata
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from model_builders.hugging_face.networks import Decoder, Encoder, TorchDecoder
from model_builders.hugging_face.rules import rules_of
from model_builders.hugging_face.served.generating import generate
from model_builders.sentence_encoder.samples import SENTENCES
from tests.model_builders.hugging_face.rows import (
    PREFIX,
    animal_pairs,
    digit_pairs,
    mood_texts,
    name_texts,
)

SIZES = (1, 2, 7)
"""Of batches."""

NEAR_TIE = 1e-4

LONGEST = 64
"""Tokens that the models read."""


def served(version: Path) -> Any:
    sys.dont_write_bytecode = True  # an artifact with one file more is damaged
    sys.path.insert(0, str(version))  # as Triton has it: the files of the folder import each other
    return importlib.import_module("answering")


def ask(version: Path, questions: Sequence[dict[str, Any]], size: int) -> list[Any]:
    """In batches of that size."""
    answering = served(version)
    loaded = answering.load(version)
    asked = [answering.Question(**one) for one in questions]
    return [
        answer
        for begin in range(0, len(asked), size)
        for answer in loaded.answer(asked[begin : begin + size])
    ]


def moods(folder: Path, version: Path) -> dict[str, Any]:
    """The largest difference of a probability from the pipeline's, over batches of every size."""
    texts = [*(text for text, _ in mood_texts()[:40]), *SENTENCES]
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None)
    given = pipeline(texts, batch_size=1, truncation=True)
    wanted = [{one["label"]: one["score"] for one in found} for found in given]
    worst = 0.0
    for size in SIZES:
        for answer, right in zip(ask(version, [{"text": text} for text in texts], size), wanted, strict=True):
            for label, probability in zip(answer.labels, answer.probabilities, strict=True):
                worst = max(worst, abs(float(probability) - right[label]))
    return {"texts": len(texts), "difference": worst}


def pairs(folder: Path, version: Path) -> dict[str, Any]:
    """Two texts at once: the second has types of its own."""
    first = [text for text, _ in mood_texts()[:8]]
    second = [text for text, _ in mood_texts()[8:16]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        given = tokenizer(first, second, padding=True, return_tensors="pt")
        wanted = model(**given).logits.softmax(-1).numpy()
    questions = [{"text": a, "text_pair": b} for a, b in zip(first, second, strict=True)]
    found = np.stack([answer.probabilities for answer in ask(version, questions, 8)])
    alone = np.stack([answer.probabilities for answer in ask(version, [{"text": one} for one in first], 8)])
    return {
        "difference": float(np.abs(found - wanted).max()),
        "influence": float(np.abs(found - alone).max()),
    }


def names(folder: Path, version: Path) -> dict[str, Any]:
    """Entities of the pipeline, places, labels and scores: of Korean in both normal forms, and of others.

    The pipeline has a syllable that is written in letters (NFD) end behind its first letter. So of such texts
    it is asked the same in syllables, and entities are compared as texts.
    """
    own = ["".join(part for part, _ in row) for row in name_texts(40)]
    composed = [f"🎸 {own[0]}", f"  {own[1]}\n\n{own[2]}", own[3].replace(" ", "\u3000"), *SENTENCES]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [*own, *(unicodedata.normalize("NFD", text) for text in own[:20]), *composed]
    texts = [text for text in texts if text.strip() and len(tokenizer(text)["input_ids"]) <= LONGEST]
    pipeline = transformers.pipeline("token-classification", str(folder), aggregation_strategy="simple")
    asked = [unicodedata.normalize("NFC", text) for text in texts]
    wanted = [pipeline(text) for text in asked]
    worst, places, others = 0.0, 0, []
    for size in SIZES:
        answers = ask(version, [{"text": text} for text in texts], size)
        for text, whole, answer, right in zip(texts, asked, answers, wanted, strict=True):
            named = [
                (unicodedata.normalize("NFC", text[one.start : one.end]), one.label)
                for one in answer.entities
            ]
            expected = [(whole[one["start"] : one["end"]], one["entity_group"]) for one in right]
            stands = [(one.start, one.end) for one in answer.entities]
            if named != expected or (
                text == whole and stands != [(one["start"], one["end"]) for one in right]
            ):
                others.append({"text": text, "found": str(answer.entities), "wanted": str(right)})
                continue
            places += len(named)
            for one, given in zip(answer.entities, right, strict=True):
                worst = max(worst, abs(one.score - float(given["score"])))
    return {"texts": len(texts), "places": places, "difference": worst, "others": others[:3]}


def translator(folder: Path, version: Path, texts: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """Tokens of sources, ids by greedy and by beams, texts: as the tokenizer and `generate` have them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    texts = [text for text in texts if len(tokenizer(prefix + text)["input_ids"]) <= LONGEST]
    limit = 24
    count, unfirm, others = 0, 0, []
    for size, beam in product((1, 7), (1, 2, 4)):
        questions = [{"text": text, "beam_size": beam, "max_tokens": limit} for text in texts]
        answers = ask(version, questions, size)
        for begin in range(0, len(texts), size):
            some = [prefix + text for text in texts[begin : begin + size]]
            given = tokenizer(some, padding=True, return_tensors="pt")
            wanted = model.generate(**given, num_beams=beam, do_sample=False, max_new_tokens=limit)
            for row, answer in enumerate(answers[begin : begin + size]):
                if answer.found.margin < NEAR_TIE:
                    unfirm += 1
                    continue
                ids = wanted[row, 1:].tolist()
                end = model.config.eos_token_id
                ids = ids[: ids.index(end)] if end in ids else ids
                text = tokenizer.decode(ids, skip_special_tokens=True)
                source = given["input_ids"][row][given["attention_mask"][row].bool()].tolist()
                pieces = tokenizer.convert_ids_to_tokens(source)
                if (list(answer.found.words), answer.translation, list(answer.source_tokens)) != (
                    [one for one in ids if one != model.config.pad_token_id],
                    text,
                    pieces,
                ):
                    others.append({"text": some[row], "found": str(answer), "wanted": [ids, text, pieces]})
                count += 1
    return {"compared": count, "unfirm": unfirm, "others": others[:2], "differ": len(others)}


def animals(folder: Path, version: Path) -> dict[str, Any]:
    own = [source for source, _ in animal_pairs()[-16:]]
    hard = ["The 漢字 cat sees 🎸.", "  The   red cat sees\tthe old dog. "]
    hard += ["ｔｈｅ ｂｉｇ ｃａｔ", ">>kor<< The red cat."]
    return translator(folder, version, [*own, *hard, *(text for text in SENTENCES if text.strip())])


def digits(folder: Path, version: Path) -> dict[str, Any]:
    own = [source for source, _ in digit_pairs()[-16:]]
    short = [text for text in SENTENCES if text.strip()]
    return translator(folder, version, [*own, *short, "3 三 4", "1  2\n3"], PREFIX)


def marian_tokens(folder: Path, version: Path) -> dict[str, Any]:
    """Texts that nobody would write: mixtures of scripts, blanks, marks, pieces and forms of Unicode."""
    choice = random.Random(7)
    parts = ["the", "The", " ", "  ", "\t", "\n", "▁", "cat", "ﬁ", "½", "Ａ", "가", "\u1100\u1161", "한국"]
    parts += ["é", "e\u0301", ">>", "<<", ".", ",", "🎸", "漢", "ß", "İ", "s", "\u200b", "\u00a0", "olds"]
    texts = ["".join(choice.choices(parts, k=choice.randint(1, 12))) for _ in range(2000)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    subwords = served(version).load(version)._subwords
    others = []
    for text, found in zip(texts, subwords.encode(texts), strict=True):
        wanted = tokenizer(text)["input_ids"]
        if found != wanted:
            others.append([text, found, wanted])
    return {"texts": len(texts), "differ": len(others), "others": others[:5]}


def rules(folder: Path, version: Path) -> dict[str, Any]:
    """The search against `generate` under every rule that is served, of a model that is undecided."""
    del version
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    model.requires_grad_(False)
    torch.manual_seed(11)
    for weights in model.parameters():  # undecided: what is most probable changes from step to step
        weights.data += 0.15 * torch.randn_like(weights)
    limit = 14
    ids = torch.randint(3, model.config.vocab_size - 2, (6, 9))
    lengths = np.array([9, 4, 7, 1, 9, 3])
    mask = (torch.arange(9) < torch.from_numpy(lengths).unsqueeze(1)).to(torch.int64)
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    ids = torch.where(mask.bool(), ids, pad)
    compared, unfirm, lengths_seen, others = 0, 0, set(), []
    for beam, penalty, early, forced in product(
        (1, 2, 5), (0.0, 0.6, 2.0), (False, True, "never"), (None, end)
    ):
        settings = copy.deepcopy(model.generation_config)
        settings.update(
            num_beams=beam,
            length_penalty=penalty,
            early_stopping=early,
            forced_eos_token_id=forced,
            bad_words_ids=[[pad]],
            max_length=limit + 1,
        )
        model.generation_config = settings  # what is None in one is taken from the other
        found_rules = rules_of(settings)
        decoder = TorchDecoder(Encoder(model, found_rules.start), Decoder(model, model.config.d_model))
        found = generate(decoder, ids.numpy(), lengths, found_rules, beam, limit)
        wanted = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            return_dict_in_generate=True,
            output_scores=True,
        )
        for row, one in enumerate(found):
            given = wanted.sequences[row, 1:].tolist()
            given = given[: given.index(end)] if end in given else given
            given = [word for word in given if word != pad]
            if one.margin < NEAR_TIE:
                unfirm += 1
                continue
            compared += 1
            lengths_seen.add(len(given))
            scores = wanted.get("sequences_scores")
            apart = 0.0 if scores is None else abs(float(scores[row]) - one.score)
            if list(one.words) != given or apart > 1e-4:
                others.append([beam, penalty, early, forced, row, list(one.words), given, apart])
    return {
        "compared": compared,
        "unfirm": unfirm,
        "lengths": len(lengths_seen),
        "differ": len(others),
        "others": others[:5],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3])), ensure_ascii=False))
