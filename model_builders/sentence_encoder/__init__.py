"""Sentence encoder: the vector that a trained Transformer gives a text, from Hugging Face files.

    weights.py (what the folder says) ──> encoder.py (torch) ──> export.py (ONNX, perhaps in 8 bits)
                                                                    └──> served/ (in Triton, without torch)

torch and transformers are imported where they are used: contracts and parameters are read without them.
"""
