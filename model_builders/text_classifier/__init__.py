"""Text classifier: a convolutional network over word vectors, its own or those of another model (transfer).

    examples.py (texts with labels) ──┐
    vectors.py (a Word2Vec artifact) ─┴─> network.py (torch) ──> run.py ──> graph.py (ONNX) ──> served/

torch is imported where it is used: contracts and parameters are read without it.
"""
