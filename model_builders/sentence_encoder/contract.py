"""What goes into a served sentence encoder and what comes out."""

from collections.abc import Mapping

from model_builders.contract import Contract, Sample, Tensor

MAX_BATCH_SIZE = 256

CONTRACT = Contract(
    architecture="SentenceEncoder",
    max_batch_size=MAX_BATCH_SIZE,
    inputs=(
        Tensor("text", "BYTES", (1,), "Any text, in UTF-8; it may be empty."),
        Tensor("text_pair", "BYTES", (1,), "A second one, to be compared with the first.", optional=True),
    ),
    outputs=(
        Tensor("vector", "FP32", ("dimensions",), "The vector of text."),
        Tensor(
            "similarity",
            "FP32",
            (1,),
            "Cosine of text and text_pair. Only there when text_pair was given.",
        ),
        Tensor(
            "nearest_candidates",
            "BYTES",
            (-1,),
            "The lines of the input candidates most similar to text, topK of them; none without that input.",
        ),
        Tensor("nearest_candidates_similarity", "FP32", (-1,), "Their cosine similarities, highest first."),
        Tensor("truncated", "BOOL", (1,), "Whether text was longer than the model reads."),
    ),
)

METRICS: Mapping[str, str] = {
    "dimensions": "width of a vector",
    "maxTokens": "tokens of a text that are read, special ones included",
    "parameters": "numbers in the weights",
    "candidates": "different lines of the input candidates; 0 without it",
}

SAMPLE = Sample(
    model="sentences",
    text="How do I reset my password?",
    outputs=("vector", "nearest_candidates"),
)

PAGE = """\
A text becomes the vector that a Transformer encoder of Hugging Face's library gives it. Texts that mean
the same have vectors that point the same way, as well as the weights know.

* **Long texts are cut.** What the model reads ends at `maxTokens` tokens, the special ones at both ends
  counted; the rest has no influence on the vector, and `truncated` says so. Where a text is cut depends on
  the text alone. Split longer documents and send the parts as rows.
* **Similarities** are cosines, rounded to six decimals; equally similar candidates keep the order of
  their lines.
* **Several rows in a request** (shape `[n, 1]`), and requests that Triton puts together: each text is
  answered as if it were alone, to within 1e-5 with 32-bit weights. With 8-bit weights the neighbours in a
  pass have some influence; the declared `export.fidelity` holds for rows alone and together.
* **An optional input** is given for all rows or for none. Empty texts have a vector too.
* **Bytes that are not UTF-8** are refused with HTTP 400 (gRPC `INVALID_ARGUMENT`) and a sentence; other
  requests of the same batch are answered.
* **Ask for the outputs you need**: a client that names `similarity` alone is not sent the vectors.

`status.artifact.metrics` also has `exportMaxDifference` (of the served from the built vectors) and, when
`export.fidelity` is declared, `int8Cosine` (the worst of 8-bit and 32-bit vectors) and `int8Speedup`
(processor time of 32 bits divided by that of 8), measured where it was built.

"""
