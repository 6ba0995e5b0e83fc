"""Word2Vec: a vector for each word, such that words of like company are near each other.

    corpus.py (texts as numbers) ──> training.py (skip-gram or CBOW, torch) ──> run.py (until it is done) ──┐
    vectors_file.py (vectors that somebody trained) ────────────────────────────────────────────────────────┤
                         analogies.py (how good they are) <── graph.py (as ONNX) ──> served/ (in Triton) <──┘

torch is imported where it is used: contracts and parameters are read, and vectors are imported, without it.
"""
