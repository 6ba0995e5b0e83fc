"""What goes into a served term-document matrix and what comes out."""

from collections.abc import Mapping

from model_builders.contract import Contract, Sample, Tensor

MAX_BATCH_SIZE = 256

CONTRACT = Contract(
    architecture="TermDocumentMatrix",
    max_batch_size=MAX_BATCH_SIZE,
    inputs=(
        Tensor("text", "BYTES", (1,), "A word, a document's name, or any text, in UTF-8."),
        Tensor("text_pair", "BYTES", (1,), "A second one, to be compared with the first.", optional=True),
        Tensor(
            "role",
            "BYTES",
            (1,),
            "What text and text_pair are: word, document or text. Left out or empty: the first "
            "of these that fits.",
            optional=True,
        ),
        Tensor(
            "top_k",
            "INT32",
            (1,),
            "How many neighbours to return, 1 to 1000; 5 when left out.",
            optional=True,
        ),
    ),
    outputs=(
        Tensor("interpreted_as", "BYTES", (1,), "What text was taken for: word, document or text."),
        Tensor(
            "word_vector",
            "FP32",
            ("documents",),
            "The word's row of the matrix; zeros when text was not taken for a word.",
        ),
        Tensor(
            "document_vector",
            "FP32",
            ("terms",),
            "The document's column of the matrix; of a word or a text the column it would have "
            "as a document.",
        ),
        Tensor(
            "nearest_words",
            "BYTES",
            (-1,),
            "For a word, the words most similar to it in word space; else none.",
        ),
        Tensor("nearest_words_similarity", "FP32", (-1,), "Their cosine similarities, highest first."),
        Tensor("nearest_documents", "BYTES", (-1,), "The documents most similar to document_vector."),
        Tensor("nearest_documents_similarity", "FP32", (-1,), "Their cosine similarities, highest first."),
        Tensor(
            "similarity",
            "FP32",
            (1,),
            "Cosine of text and text_pair: of word vectors when both are words, else of document vectors. "
            "Only there when text_pair was given.",
        ),
    ),
)

METRICS: Mapping[str, str] = {
    "documents": "documents, the columns of the matrix",
    "terms": "terms, the rows of the matrix",
    "tokens": "words of all documents, counted or not",
    "coverage": "share of the tokens that are terms of the matrix, 0 to 1",
    "density": "share of the matrix's cells that are not zero, 0 to 1",
    "emptyDocuments": "documents without any term of the matrix",
    "filesPassedOver": "files of the inputs that are neither .tsv nor .jsonl nor .txt",
}

SAMPLE = Sample(model="korean-novels", text="막걸리", outputs=("word_vector", "nearest_words"))

PAGE = """\
A word's vector is its row of the matrix (one number a document), a document's vector is its column (one
number a term). A text that is neither is weighed as the documents were and compared with them.

* **A vocabulary for several corpora.** An input whose source is an `nlpModel` of this architecture gives its
  vocabulary; the other inputs are counted in its words. A position of a document vector then means the same
  word in all these models. `tokenizer` and `caseFolding` have to be the same.
* **Comparing.** Texts are brought to Unicode form NFC, blanks around them are dropped, and words are put in
  lower case when the model was built with `caseFolding: Lower`. Document names are compared as they are.
* **Similarities** are cosines, rounded to six decimals; with a vector of zeros the cosine is 0. The
  question itself is left out of its neighbours; equal similarities keep the order of the model (documents as
  in the input, terms as in the vocabulary or by code point).
* **Several rows in a request** (shape `[n, 1]`): each is answered as if it were alone. Rows with fewer
  neighbours than the longest are filled up with empty names and similarity 0. An optional input is given for
  all rows or for none; an empty `role` counts as left out.
* **A request is answered whole or refused whole**, with HTTP 400 (gRPC `INVALID_ARGUMENT`) and a sentence:
  a `role` of `word` for something that is no word of the model, a `top_k` out of range, bytes that are not
  UTF-8. Other requests of the same batch are answered.
* **Ask for the outputs you need**: a client that names its outputs is not sent the others (`word_vector`
  has a number for every document).
"""
