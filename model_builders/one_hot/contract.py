"""What goes into a served one-hot encoding and what comes out."""

from collections.abc import Mapping

from model_builders.contract import Contract, Sample, Tensor
from model_builders.one_hot.served.answering import MAX_CELLS

MAX_BATCH_SIZE = 256

CONTRACT = Contract(
    architecture="OneHot",
    max_batch_size=MAX_BATCH_SIZE,
    inputs=(
        Tensor("text", "BYTES", (1,), "A word or a text, in UTF-8."),
        Tensor(
            "encoding",
            "BYTES",
            (1,),
            "Indices (when left out or empty), OneHot (also a vector for each token) or MultiHot (also one "
            "for the text). The same for all rows.",
            optional=True,
        ),
    ),
    outputs=(
        Tensor(
            "indices",
            "INT64",
            (-1,),
            "The place of each token of text in the vocabulary, from 0; -1 for a token that is not in it.",
        ),
        Tensor("tokens", "INT32", (1,), "How many tokens text has; indices behind them fill up the row."),
        Tensor(
            "one_hot",
            "FP32",
            (-1, "terms"),
            "Of each token, 1 at its place and 0 elsewhere; zeros for an unknown one. Only with OneHot.",
        ),
        Tensor(
            "multi_hot",
            "FP32",
            ("terms",),
            "1 at the place of every term that text holds, however often. Only with MultiHot.",
        ),
    ),
)

METRICS: Mapping[str, str] = {
    "terms": "terms of the vocabulary, the length of a vector",
    "texts": "texts it was made from",
    "tokens": "words of all texts",
    "coverage": "share of the tokens that are terms of the vocabulary, 0 to 1",
    "tokensPerText": "tokens of a text, on average: the indices that stand for a vector of terms numbers",
    "filesPassedOver": "files of the inputs that are neither .tsv nor .jsonl nor .txt",
}

SAMPLE = Sample(model="word-places", text="기차", outputs=("indices", "tokens"))

PAGE = f"""\
A word is the place it has in the vocabulary. Terms stand in order of code points, as in scikit-learn's
`CountVectorizer`, or in the order of `vocabulary`.

* **Indices, unless asked for more.** A one-hot vector says in as many numbers as there are terms what an
  index says in one. `encoding` asks for vectors; rows times tokens times terms of a request must be at most
  {MAX_CELLS:,}.
* **Words that are not in the vocabulary**: with `unknownWords: Zero` the index is -1 and the vector zero;
  with `Refuse` the request is refused and names the word.
* **Comparing.** Texts are brought to Unicode form NFC, and put in lower case when the model was built with
  `caseFolding: Lower`.
* **Several rows in a request** (shape `[n, 1]`): each is answered as if it were alone. Rows with fewer tokens
  than the longest are filled up with -1, vectors with zeros; `tokens` says where a row ends.
* **A request is answered whole or refused whole**, with HTTP 400 (gRPC `INVALID_ARGUMENT`) and a sentence.
  Other requests of the same batch are answered.
"""
