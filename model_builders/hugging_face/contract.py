"""What goes into a served model of each task and what comes out."""

from collections.abc import Mapping
from dataclasses import replace

from model_builders.contract import Contract, Sample, Tensor
from model_builders.hugging_face.parameters import Task
from model_builders.served.translating import MAX_BEAM_SIZE
from model_builders.translation.contract import HOW_MANY, STREAMS_AND_CANCEL

NAME = "HuggingFace"
MAX_BATCH_SIZE = 64

TEXT = Tensor("text", "BYTES", (1,), "Any text, in UTF-8.")
TRUNCATED = Tensor(
    "truncated",
    "BOOL",
    (1,),
    "Whether text was longer than the model reads, and cut (`longTexts: Truncate`).",
)


def _pieces(name: str, what: str, label: str, score: str) -> tuple[Tensor, ...]:
    return (
        Tensor(name, "BYTES", (-1,), what),
        Tensor(f"{name}_label", "BYTES", (-1,), label),
        Tensor(f"{name}_score", "FP32", (-1,), score),
        Tensor(
            f"{name}_start", "INT32", (-1,), "Where each begins in text, in characters (Unicode code points)."
        ),
        Tensor(f"{name}_end", "INT32", (-1,), "Where each ends: the place behind its last character."),
    )


INPUTS: Mapping[Task, tuple[Tensor, ...]] = {
    "SequenceClassification": (
        TEXT,
        Tensor(
            "text_pair",
            "BYTES",
            (1,),
            "A second text, for models that compare two (is one the answer to the other?).",
            optional=True,
        ),
    ),
    "TokenClassification": (TEXT,),
    "Translation": (
        TEXT,
        Tensor(
            "beam_size",
            "INT32",
            (1,),
            f"How many translations are followed side by side, 1 (greedy) to {MAX_BEAM_SIZE}; left out or 0: "
            "num_beams of the folder's generation_config.json, else 1.",
            optional=True,
        ),
        Tensor(
            "max_tokens",
            "INT32",
            (1,),
            "How many tokens a translation has at most, its end counted; left out or 0: maxTokens.",
            optional=True,
        ),
    ),
}

OUTPUTS: Mapping[Task, tuple[Tensor, ...]] = {
    "SequenceClassification": (
        Tensor("label", "BYTES", (1,), "The most probable label."),
        Tensor("score", "FP32", (1,), "Its probability."),
        Tensor("probabilities", "FP32", ("labels",), "Of every label, in the order of labels."),
        Tensor("labels", "BYTES", ("labels",), "All labels, as config.json has them; the same in every row."),
        TRUNCATED,
    ),
    "TokenClassification": (
        *_pieces(
            "token",
            "The characters of each token, S of them; those of no character (special tokens) are left out.",
            "The most probable label of each token.",
            "Its probability.",
        ),
        *_pieces(
            "entity",
            "Tokens of one label that follow each other, as one; what is labelled O is none.",
            "The label of each, without B- and I-.",
            "The mean of its tokens' scores.",
        ),
        TRUNCATED,
    ),
    "Translation": (
        Tensor("translation", "BYTES", (1,), "The translation."),
        Tensor("tokens", "BYTES", (-1,), "Its tokens, as the folder's tokenizer writes them."),
        Tensor(
            "token_ids",
            "INT32",
            (-1,),
            "Their numbers in the vocabulary: those of generate, without start and end.",
        ),
        Tensor("source_tokens", "BYTES", (-1,), "The tokens of text, prefix and end with them."),
        Tensor(
            "score",
            "FP32",
            (1,),
            "Logarithm of its probability, divided by its length to the power of length_penalty.",
        ),
        Tensor(
            "finished",
            "BOOL",
            (1,),
            "False where the translation reached the limit of tokens, and was cut or ended there.",
        ),
        TRUNCATED,
    ),
}


def contract_of(task: Task) -> Contract:
    """Of the models of one task."""
    return Contract(NAME, MAX_BATCH_SIZE, INPUTS[task], OUTPUTS[task])


def _union(parts: Mapping[Task, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Each tensor once, with the tasks that have it."""
    first: dict[str, Tensor] = {}
    tasks: dict[str, list[str]] = {}
    for task, group in parts.items():
        for tensor in group:
            first.setdefault(tensor.name, tensor)
            tasks.setdefault(tensor.name, []).append(task)
    return tuple(
        replace(tensor, description=_described(tensor, tasks[name], len(parts)))
        for name, tensor in first.items()
    )


def _described(tensor: Tensor, tasks: list[str], of_all: int) -> str:
    if tensor.name == "score":
        return SCORE
    return tensor.description if len(tasks) == of_all else f"{' and '.join(tasks)}: {tensor.description}"


SCORE = (
    "SequenceClassification: the label's probability. Translation: logarithm of its probability, divided by "
    "its length to the power of length_penalty."
)

CONTRACT = Contract(NAME, MAX_BATCH_SIZE, _union(INPUTS), _union(OUTPUTS))
"""Of all tasks; an artifact has its own task's."""

METRICS: Mapping[str, str] = {
    "accuracy": "SequenceClassification with an input test: share of its texts with the right label, 0 to 1",
    "macroF1": "SequenceClassification with an input test: F1 of each label, on average",
    "exactMatch": "Translation with an input test: share of its texts whose translation is, to the "
    f"character, one of the test's. {HOW_MANY}",
    "maxTokens": "tokens of a text that are read, special ones included",
    "labels": "labels the model knows; not of the task Translation",
    "parameters": "numbers in the weights",
}

SAMPLE = Sample(model="korean-names", text="김민준은 부산에서 태어났다.", outputs=("entity", "entity_label"))

PAGE = f"""\
A model that somebody trained with Hugging Face's transformers library, from its folder. What a request gives
depends on the task.

| task | `architectures` in config.json | a request gives |
| --- | --- | --- |
| SequenceClassification | an encoder's, `...ForSequenceClassification` | a label |
| TokenClassification | an encoder's, `...ForTokenClassification` | labels of tokens, and entities |
| Translation | MarianMTModel, T5ForConditionalGeneration, MT5ForConditionalGeneration | a text |

Answers are those of transformers itself: labels and offsets those of its pipelines
(`aggregation_strategy="simple"`), `token_ids` those of `generate`, numbers to within 1e-5.

* **Too long**: a text of more than `maxTokens` tokens is refused with HTTP 400 (gRPC `INVALID_ARGUMENT`) and
  a sentence with both numbers. With `longTexts: Truncate` it is cut there, and `truncated` says so.
* **Probabilities** are a softmax, or one sigmoid for each label where the model has one label or its
  `problem_type` is multi_label_classification.
* **Offsets** count Unicode code points of the text as it was sent, as Python and SQL do: 각 is one as a
  syllable (NFC) and three as letters (NFD), which stay together; the pipeline has the first letter alone.
  JavaScript counts an emoji twice, and so may be ahead.
* **generation_config.json** is obeyed: num_beams, length_penalty, early_stopping, bad_words_ids (of one
  token), forced_eos_token_id. A folder that asks for more (sampling, repetition_penalty, ...) is refused when
  it is built.
* **Unknown characters** become what the folder's tokenizer makes of them; `source_tokens` shows it. The name
  of a special token (`[SEP]`) in a text is that token, as in transformers; of Marian it is its characters.
* **beam_size** above {MAX_BEAM_SIZE}, a text to translate without a character, and bytes that are not UTF-8
  are refused likewise; other requests of the same batch are answered.
{STREAMS_AND_CANCEL}
* **Several rows in a request** (shape `[n, 1]`), and requests that Triton puts together: each text is
  answered as if it were alone. Shorter rows are filled up, with empty texts and zeros. An optional input is
  given for all rows or for none.

**Which outputs a model has** stands before each below; those of all tasks have no name before them.
"""
