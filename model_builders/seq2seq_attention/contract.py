"""What goes into a served sequence-to-sequence model and what comes out."""

from dataclasses import replace

from model_builders.contract import Contract, Sample, Tensor
from model_builders.served.translating import MAX_BEAM_SIZE
from model_builders.translation.contract import INPUTS, MAX_BATCH_SIZE, METRICS, OUTPUTS, STREAMS_AND_CANCEL

__all__ = ["CONTRACT", "METRICS", "PAGE", "SAMPLE", "contract_of"]

ATTENTION = Tensor(
    "attention",
    "FP32",
    (-1, -1),
    "Shape [T, S]: how much each source token counted for each token of the translation; a row sums to 1. "
    "Not of "
    "a model built with attention: None.",
)

CONTRACT = Contract("Seq2SeqAttention", MAX_BATCH_SIZE, INPUTS, (*OUTPUTS, ATTENTION))


def contract_of(attention: str) -> Contract:
    """Of one built model: without attention there is no matrix."""
    return replace(CONTRACT, outputs=OUTPUTS) if attention == "None" else CONTRACT


SAMPLE = Sample(model="korean-english", text="나는 빵을 먹었다.", outputs=("translation", "attention"))

PAGE = f"""\
A GRU reads the source, another writes the translation word by word, and at each word it looks at what was
read (`attention: Luong`: Luong, Pham and Manning 2015; `Bahdanau`: Bahdanau, Cho and Bengio 2015). With
`attention: None` it has the last state of the reader alone, which is why long sentences fail.

The decoder's steps, as in `model_builders/seq2seq_attention/network.py`: (1) the word before, at first
`<END>`, and the hidden state before; (2) the RNN gives a new hidden state h, its output is not used; (3)
scores of all encoder states, softmax, context C; (4) C and h concatenated; (5) a feed-forward layer; (6) the
most probable word; (7) again from 1, until it is `<END>`. In Bahdanau's order step 3 comes before step 2, by
the state before.

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
