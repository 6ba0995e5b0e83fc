"""What goes into served word vectors and what comes out."""

from collections.abc import Mapping

from model_builders.contract import Contract, Sample, Tensor
from model_builders.word2vec.served.answering import MAX_WORDS

MAX_BATCH_SIZE = 256

CONTRACT = Contract(
    architecture="Word2Vec",
    max_batch_size=MAX_BATCH_SIZE,
    inputs=(
        Tensor("text", "BYTES", (1,), "A word, in UTF-8; the first of the positive words.", optional=True),
        Tensor("text_pair", "BYTES", (1,), "A word, to be compared with the first.", optional=True),
        Tensor("positive", "BYTES", (-1,), "Words whose vectors are added.", optional=True),
        Tensor("negative", "BYTES", (-1,), "Words whose vectors are subtracted.", optional=True),
        Tensor(
            "top_k",
            "INT32",
            (1,),
            "How many neighbours to return, 1 to 1000; 5 when left out.",
            optional=True,
        ),
    ),
    outputs=(
        Tensor(
            "vector",
            "FP32",
            ("dimensions",),
            "The vector of the word; of several words, the sum of their unit vectors at length 1.",
        ),
        Tensor("nearest_words", "BYTES", (-1,), "The words most similar to it; none of the question."),
        Tensor("nearest_words_similarity", "FP32", (-1,), "Their cosine similarities, highest first."),
        Tensor("similarity", "FP32", (1,), "Cosine with text_pair. Only there when text_pair was given."),
    ),
)

METRICS: Mapping[str, str] = {
    "analogyTop1": "share of the answered questions of the input analogies whose answer is the nearest",
    "analogyTop5": "the same, among the first five",
    "analogyQuestions": "questions that were answered: all their words are in the vocabulary",
    "analogyCoverage": "share of the questions that were answered, 0 to 1",
    "analogySemanticTop1": "analogyTop1 of the sections whose names do not begin with gram",
    "analogySyntacticTop1": "analogyTop1 of the sections whose names begin with gram",
    "terms": "words that have a vector",
    "dimensions": "width of a vector",
    "loss": "mean loss of a pair in the last epoch, with its negatives; not of imported vectors",
    "tokens": "words of the corpus that were trained, rare ones left out; not of imported vectors",
    "coverage": "share of the corpus's words that have a vector, 0 to 1; not of imported vectors",
    "filesPassedOver": "files of the corpus that are neither .tsv nor .jsonl nor .txt",
}

SAMPLE = Sample(model="korean-words", text="아들", outputs=("vector", "nearest_words"))

PAGE = f"""\
A word has the vector that training on its company gave it. Words of like company are near each other, and
differences of vectors have a meaning: 아들 - 딸 + 소녀 is near 소년.

* **A word**: `text`. Its vector, its neighbours, and with `text_pair` how similar the two are.
* **An analogy**: `positive` and `negative`, or `text` with them: `{{"text": "아들", "negative": "딸",
  "positive": "소녀"}}`. Each word counts with its vector at length 1 (3CosAdd of Mikolov et al. 2013, what
  gensim's `most_similar` does); the words of the question are no answers to it. At most {MAX_WORDS} words.
* **A word that has no vector**: the request is refused with HTTP 400 (gRPC `INVALID_ARGUMENT`) and a
  sentence that names it; other requests of the same batch are answered. So is a word that is positive and
  negative at once, a `top_k` out of range, and bytes that are not UTF-8.
* **Comparing.** Words are brought to Unicode form NFC, blanks around them are dropped, and they are put in
  lower case when the model was built with `caseFolding: Lower`. With `tokenizer: KoreanMorphemes` a word is
  a morpheme: 기차, not 기차를.
* **Similarities** are cosines, rounded to six decimals; equal ones keep the order of the vocabulary, the
  most frequent word first.
* **Several rows in a request** (shape `[n, 1]`, of `positive` and `negative` `[n, m]`): each is answered
  as if it were alone; empty words fill up a row and mean nothing. Every input is given for all rows or for
  none.
* **Ask for the outputs you need**: a client that names `nearest_words` alone is not sent the vectors.

Of a build that trains, `status.artifact.metrics` also has `wordsPerSecond` (by the clock) and
`wordsPerCpuSecond` (of all workers together), measured where it was built.
"""
