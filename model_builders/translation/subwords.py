"""The tokenizer of one language: byte-pair encoding of its training texts (Sennrich et al. 2016).

Written as one `tokenizer.json` of the library tokenizers, which is all that serving needs. A token that
begins a word has ▁ before it, so a text comes back from its tokens as it was, but for blanks that were more
than one.
"""

import os
from collections.abc import Iterable

from model_builders.served.translating import Subwords

SPECIAL = ("<PAD>", "<UNK>", "<END>")
"""In the order of served.search: PAD, UNK, END."""


def train_subwords(texts: Iterable[str], vocab_size: int) -> str:
    """The tokenizer as JSON. The same texts give the same."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[1]))
    # NFC: Korean typed on macOS (NFD) is the same text.
    blanks = (normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *blanks])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def fewest_tokens(content: str) -> int:
    """How many tokens the characters alone take: a smaller vocabulary cannot be asked for."""
    return Subwords(content).size
