"""From a text to its translation: this file is copied into every artifact.

Everything but the artifact's files is shared with the other translators: translating.py (texts and tokens)
and search.py (the loop over the words).
"""

from model_builders.served.translating import Answering, Question, load, tensors

__all__ = ["Answering", "Question", "load", "tensors"]
