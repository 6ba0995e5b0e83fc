"""Trains a tiny model of each kind that HuggingFace builds, and writes its folder as transformers does.

    python -m tests.model_builders.hugging_face.train_folders KIND FOLDER

KIND is moods (BERT, two labels), names (BERT, labels of tokens), animals (Marian, English to Korean) or
digits (T5). A program for an environment with torch and sentencepiece; folders.py calls it. Seconds of
training each: not random weights, so that what they say can be right or wrong.
"""

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.model_builders.hugging_face.rows import (
    DIGITS,
    MOODS,
    PREFIX,
    animal_pairs,
    digit_pairs,
    mood_texts,
    name_texts,
)

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train(model: Any, batches: Callable[[int], dict[str, Any]], steps: int, rate: float) -> None:
    """`batches(step)` are the arguments of the model, labels among them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batches(step)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    print(f"loss {loss.item():.4f}")


def drawn(rows: Sequence[Any], step: int, size: int = 32) -> list[Any]:
    return random.Random(step).sample(list(rows), size)


def padded(rows: Sequence[Sequence[int]], with_: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[with_] * (longest - len(row))] for row in rows])


def word_pieces(texts: Sequence[str], vocab_size: int, normalizer: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def moods(folder: Path) -> None:
    rows = mood_texts()
    learnt = rows[: len(rows) * 3 // 4]
    vocabulary = word_pieces(
        [text for text, _ in learnt], 200, normalizers.BertNormalizer(lowercase=False)
    ).get_vocab()
    tokenizer = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=False, model_max_length=48)
    labels = sorted(MOODS)
    config = transformers.BertConfig(
        **SMALL,
        vocab_size=len(vocabulary),
        max_position_embeddings=48,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    model = transformers.BertForSequenceClassification(config)

    def batch(step: int) -> dict[str, Any]:
        some = drawn(learnt, step)
        given = tokenizer([text for text, _ in some], padding=True, return_tensors="pt")
        return {**given, "labels": torch.tensor([labels.index(label) for _, label in some])}

    train(model, batch, 120, 2e-3)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def names(folder: Path) -> None:
    rows = list(name_texts(800))
    texts = ["".join(part for part, _ in row) for row in rows]
    # A piece for each syllable: a name begins and ends within a word. NFC: Korean of macOS is the same.
    characters = sorted({character for text in texts for character in text if not character.isspace()})
    pieces = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    tokenizer = word_pieces([], 5, normalizers.NFC())
    tokenizer.model = models.WordPiece(
        {piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    config = transformers.BertConfig(
        **SMALL,
        vocab_size=len(pieces),
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    model = transformers.BertForTokenClassification(config)

    def labelled(row: list[tuple[str, str]]) -> list[int]:
        """Of the pieces, which are characters: -100 of the special ones."""
        found = []
        for part, kind in row:
            for place, character in enumerate(part):
                if not character.isspace():
                    name = "O" if kind == "O" else f"{'I' if place else 'B'}-{kind}"
                    found.append(labels.index(name))
        return [-100, *found, -100]

    def batch(step: int) -> dict[str, Any]:
        some = drawn(rows, step)
        given = fast(["".join(part for part, _ in row) for row in some], padding=True, return_tensors="pt")
        return {**given, "labels": padded([labelled(row) for row in some], -100)}

    train(model, batch, 150, 2e-3)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)


def animals(folder: Path) -> None:
    import sentencepiece

    pairs = animal_pairs()
    learnt = pairs[: len(pairs) * 3 // 4]
    folder.mkdir(parents=True, exist_ok=True)
    for side, name in enumerate(("source", "target")):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([pair[side] for pair in learnt[:600]]),
            model_prefix=str(folder / name),
            vocab_size=(60, 80)[side],
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc",  # as the Marian models of the hub have it
            minloglevel=2,
        )
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
        (folder / f"{name}.vocab").unlink()
    pieces = ["</s>", "<unk>"]
    for name in ("source", "target"):
        read = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        pieces += [read.id_to_piece(place) for place in range(read.get_piece_size())]
    pieces = [*dict.fromkeys(piece for piece in pieces if piece != "<s>"), "<pad>"]
    vocabulary = folder / "pieces.json"
    vocabulary.write_text(json.dumps({piece: place for place, piece in enumerate(pieces)}), "utf-8")
    tokenizer = transformers.MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(vocabulary), model_max_length=64
    )
    pad = pieces.index("<pad>")
    config = transformers.MarianConfig(
        vocab_size=len(pieces),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=64,
        scale_embedding=True,
        dropout=0.0,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=0,
        bos_token_id=0,
    )
    model = transformers.MarianMTModel(config)

    def batch(step: int) -> dict[str, Any]:
        some = drawn(learnt, step)
        given = tokenizer([source for source, _ in some], padding=True, return_tensors="pt")
        labels = tokenizer(text_target=[target for _, target in some])["input_ids"]
        return {**given, "labels": padded(labels, -100)}

    train(model, batch, 600, 2e-3)
    model.generation_config.update(
        num_beams=4,
        bad_words_ids=[[pad]],
        forced_eos_token_id=0,
        eos_token_id=0,
        max_length=64,
        early_stopping=True,
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    vocabulary.unlink()


def digits(folder: Path) -> None:
    pairs = digit_pairs()
    learnt = pairs[: len(pairs) * 3 // 4]
    characters = ["▁", *map(str, range(10)), *DIGITS, "읽", "기", ":"]
    words = [*(f"▁{one}" for one in range(10)), *(f"▁{one}" for one in DIGITS), "▁읽기:"]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((word, -2.0) for word in words)]
    scores += [(character, -6.0) for character in characters]
    tokenizer = transformers.T5Tokenizer(vocab=scores, extra_ids=0, model_max_length=64)
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_heads=4,
        num_layers=2,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    model = transformers.T5ForConditionalGeneration(config)

    def batch(step: int) -> dict[str, Any]:
        some = drawn(learnt, step)
        given = tokenizer([PREFIX + source for source, _ in some], padding=True, return_tensors="pt")
        labels = tokenizer([target for _, target in some])["input_ids"]
        return {**given, "labels": padded(labels, -100)}

    train(model, batch, 800, 4e-3)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


KINDS = {"moods": moods, "names": names, "animals": animals, "digits": digits}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    KINDS[sys.argv[1]](Path(sys.argv[2]))
