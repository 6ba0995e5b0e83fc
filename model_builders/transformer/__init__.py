"""The Transformer: attention and nothing that recurs (Vaswani et al. 2017, "Attention is all you need").

    translation/ (pairs, training) ──> network.py (torch) ──> graph.py (ONNX) ──> served/

torch is imported where it is used: contracts and parameters are read without it.
"""
