"""What the same words would cost as a dense embedding, and why nobody computes with one-hot vectors."""

from model_builders.report import Table

DIMENSIONS = 100
"""Of the embedding they are compared with: what Word2Vec has when nothing is said."""
INDEX_BYTES, NUMBER_BYTES = 8, 4
"""As the answers have them: INT64 and FP32."""


def beside_dense(terms: int, tokens_a_text: float) -> Table:
    one_hot, dense = terms * NUMBER_BYTES, DIMENSIONS * NUMBER_BYTES
    return Table(
        "Beside a dense embedding",
        ("bytes", "indices", "one-hot", "dense"),
        (
            ("a word", (INDEX_BYTES, one_hot, dense)),
            ("a text, in one vector", (round(INDEX_BYTES * tokens_a_text, 1), one_hot, dense)),
            ("the table behind them", (0, 0, terms * dense)),
        ),
        f"A text has {tokens_a_text:,.4g} words on average, the vocabulary {terms:,}. One-hot vectors grow "
        f"with it; dense ones have {DIMENSIONS} numbers. To multiply a word with a layer of as many takes "
        f"{terms * DIMENSIONS:,} multiplications as a one-hot vector, and none as an index: a row is looked "
        "up.",
    )
