"""What goes into a served text classifier and what comes out."""

from collections.abc import Mapping

from model_builders.contract import Contract, Sample, Tensor

MAX_BATCH_SIZE = 256

CONTRACT = Contract(
    architecture="TextClassifier",
    max_batch_size=MAX_BATCH_SIZE,
    inputs=(Tensor("text", "BYTES", (1,), "Any text, in UTF-8; it may be empty."),),
    outputs=(
        Tensor("label", "BYTES", (1,), "The most probable label."),
        Tensor("score", "FP32", (1,), "Its probability."),
        Tensor(
            "probabilities", "FP32", ("labels",), "Of every label, in the order of labels; they sum to 1."
        ),
        Tensor("labels", "BYTES", ("labels",), "All labels, in order of code points; the same in every row."),
    ),
)

METRICS: Mapping[str, str] = {
    "accuracy": "share of the test texts with the right label, 0 to 1",
    "macroF1": "F1 of each label on the test texts, on average",
    "accuracyAfterFirstEpoch": "accuracy after the first epoch: how fast it learns",
    "trainTexts": "texts it was trained on",
    "testTexts": "texts it was measured on",
    "labels": "different labels",
    "terms": "words that have a vector",
    "coverage": "share of the training texts' words that have a vector, 0 to 1",
    "loss": "mean loss of a training text in the last epoch",
}

SAMPLE = Sample(model="korean-people", text="소년은 밥을 먹었다.", outputs=("label", "score"))

PAGE = """\
A text has the label that a convolutional network over its words' vectors gives it (Kim 2014). The vectors
are random at first (`embeddings: Random`), or those of a Word2Vec model that the input `vectors` names, as
they are (`Frozen`) or learnt on (`FineTuned`): transfer.

* **Long texts are cut** at `maxTokens` words. Words without a vector are all alike, and so is a text without
  a word.
* **Several rows in a request** (shape `[n, 1]`), and requests that Triton puts together: each text is
  answered as if it were alone, to within 1e-5.
* **Probabilities** are those of the network, not calibrated.
* **Bytes that are not UTF-8** are refused with HTTP 400 (gRPC `INVALID_ARGUMENT`) and a sentence; other
  requests of the same batch are answered.
"""
