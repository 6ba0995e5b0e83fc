"""Triton's Python backend: tensors in, tensors out; everything else is in answering.py beside it.

Runs with the standard library, numpy, onnxruntime and tokenizers alone. The interpreter that Triton embeds
has the C locale, so every text is decoded and encoded by name.
"""

from model_builders.served.translator import TranslatorModel
from model_builders.transformer.served.answering import load


class TritonPythonModel(TranslatorModel):
    load = staticmethod(load)
