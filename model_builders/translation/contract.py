"""What goes into every served translator and what comes out of it."""

from collections.abc import Mapping

from model_builders.contract import Tensor
from model_builders.served.translating import GREEDY, MAX_BEAM_SIZE
from model_builders.translation.measuring import MOST_MEASURED

MAX_BATCH_SIZE = 64

INPUTS = (
    Tensor("text", "BYTES", (1,), "A sentence to translate, in UTF-8."),
    Tensor(
        "beam_size",
        "INT32",
        (1,),
        f"How many translations are followed side by side, {GREEDY} to {MAX_BEAM_SIZE}; {GREEDY} is "
        "greedy, as "
        "when left out.",
        optional=True,
    ),
)

OUTPUTS = (
    Tensor("translation", "BYTES", (1,), "The translation."),
    Tensor("tokens", "BYTES", (-1,), "Its tokens, T of them; one that begins a word has ▁ before it."),
    Tensor("token_ids", "INT32", (-1,), "Their numbers in the target vocabulary."),
    Tensor(
        "source_tokens",
        "BYTES",
        (-1,),
        "The tokens of text, S of them; <UNK> is a character that no training text had.",
    ),
    Tensor(
        "score",
        "FP32",
        (1,),
        "Logarithm of the translation's probability, the mean of a token and the end.",
    ),
    Tensor(
        "finished",
        "BOOL",
        (1,),
        "False where the translation reached the limit of tokens before its end, and was cut there.",
    ),
)

HOW_MANY = f"Of more than {MOST_MEASURED:,} different texts only so many at most are asked, spread over all"

METRICS: Mapping[str, str] = {
    "exactMatch": "share of the test texts whose greedy translation is, to the character, one of the "
    f"test's. {HOW_MANY}",
    "tokenAccuracy": "share of the test tokens that are the most probable ones behind the right words "
    "before them",
    "testLoss": "mean loss of a test token behind the right words before it, in natural logarithms",
    "trainPairs": "pairs it was trained on",
    "testPairs": "pairs to measure it by",
    "finished": "share of the translations of exactMatch that came to their end",
    "pairsLeftOut": "pairs of both inputs that have a side of more than maxTokens tokens, which are not used",
    "sourceTokens": "tokens of the source vocabulary",
    "targetTokens": "tokens of the target vocabulary",
    "unknownInTest": "share of the test sources' tokens that are unknown characters",
    "parameters": "numbers that were learnt",
    "loss": "mean loss of a training token in the last epoch",
}

STREAMS_AND_CANCEL = """\
* **Token by token**: a translator with `spec.serving.responses: Streamed` answers over gRPC alone
  (`ModelStreamInfer`), one text a request. Each response has what one token adds: its characters in
  `translation` (perhaps none), one of `tokens` and of `token_ids`, its row of `attention` where there is one;
  the last has the rest of the text and the other outputs. Joined they are the whole answer. A beam gives all
  of them at its end.
* **Cancelled** over gRPC, streamed or not: the text is translated no further; the others of its batch are."""
