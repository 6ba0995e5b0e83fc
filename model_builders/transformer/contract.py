"""What goes into a served Transformer and what comes out."""

from model_builders.contract import Contract, Sample, Tensor
from model_builders.served.translating import MAX_BEAM_SIZE
from model_builders.translation.contract import INPUTS, MAX_BATCH_SIZE, METRICS, OUTPUTS, STREAMS_AND_CANCEL

__all__ = ["CONTRACT", "METRICS", "PAGE", "SAMPLE"]

ATTENTION = Tensor(
    "attention",
    "FP32",
    ("layers", "heads", -1, -1),
    "Shape [layers, heads, T, S]: how much each head of each decoder layer looked at each source token for "
    "each token of the translation; a row sums to 1.",
)

CONTRACT = Contract("Transformer", MAX_BATCH_SIZE, INPUTS, (*OUTPUTS, ATTENTION))

SAMPLE = Sample(
    model="english-korean", text="I bought the bread yesterday.", outputs=("translation", "attention")
)

PAGE = f"""\
No state is handed from word to word: each word looks at all others at once, with several heads in several
layers, and the translation is written word by word (Vaswani et al. 2017, "Attention is all you need"). The
network is `model_builders/transformer/network.py`, with the paper's sections beside the lines. What was
computed of the words before is kept, so a word costs one pass through the layers.

* **attention** is what the heads of the decoder looked at in the source (the paper's encoder-decoder
  attention); each may look elsewhere. The mean over layers and heads is a matrix like that of
  Seq2SeqAttention. Ask for it only if it is wanted: it is the largest of the outputs.
* **Too long**: a text of more than `maxTokens` tokens is refused with HTTP 400 (gRPC `INVALID_ARGUMENT`) and
  a sentence with both numbers; a translation that reaches `maxTokens` is cut there, and `finished` is false.
* **Unknown characters** are `<UNK>` in `source_tokens`; the text is translated all the same. `<END>` in a
  text is five characters.
* **beam_size** above {MAX_BEAM_SIZE} or below 1, a text without a character, and bytes that are not UTF-8 are
  refused likewise; other requests of the same batch are answered.
{STREAMS_AND_CANCEL}
* **Several rows in a request** (shape `[n, 1]`), and requests that Triton puts together: each text is
  translated as if it were alone. Shorter rows are filled up: `tokens` and `source_tokens` with empty texts,
  `token_ids` and `attention` with zeros.
* **Blanks** are one each in the answer, and texts are brought to Unicode form NFC.
"""
