"""Seq2Seq with attention: a GRU reads, a GRU writes and looks back at each word (Luong 2015, Bahdanau 2015).

    translation/ (pairs, training) ──> network.py (torch) ──> graph.py (ONNX) ──> served/

torch is imported where it is used: contracts and parameters are read without it.
"""
