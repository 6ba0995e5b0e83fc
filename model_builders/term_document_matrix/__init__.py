"""Term-document matrix: rows are words, columns are documents.

The simplest embedding. A document is the vector of the words it holds, a word is the vector of the documents
that hold it, and both can be compared by the cosine of the angle between them.

    ../corpus.py (texts) ──> matrix.py (counts, weights) ──> graph.py (the same as ONNX) ──> served/
"""
