"""Classifiers, taggers and translators that somebody trained with Hugging Face's transformers library.

    folder.py (what the folder says) ──> networks.py (torch) ──> ONNX ──> served/ (in Triton, without torch)

labels.py builds what gives labels, to a text or to each of its tokens; translator.py what writes texts, as
`generate` of transformers does. torch and transformers are imported where they are used: contracts and
parameters are read without them.
"""
