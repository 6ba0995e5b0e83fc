"""Trains word vectors with gensim, in an environment of its own: the oracle that Word2Vec is held to.

    python gensim_word2vec.py CORPUS VECTORS PARAMETERS

CORPUS has a text a line, words between blanks; VECTORS is written in word2vec's binary form; PARAMETERS is
the JSON of gensim's own. Prints the CPU seconds of the training and the words it went through, as JSON.
"""

import json
import logging
import sys
import time

import gensim


def main(corpus: str, vectors: str, parameters: str) -> None:
    logging.basicConfig(level=logging.INFO)
    model = gensim.models.Word2Vec(**json.loads(parameters))
    model.build_vocab(corpus_file=corpus)
    began, clock = time.process_time(), time.monotonic()
    words = model.corpus_total_words
    model.train(corpus_file=corpus, total_words=words, epochs=model.epochs)
    spent = {"cpuSeconds": time.process_time() - began, "seconds": time.monotonic() - clock}
    model.wv.save_word2vec_format(vectors, binary=True)
    print(json.dumps({**spent, "words": words * model.epochs, "gensim": gensim.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
