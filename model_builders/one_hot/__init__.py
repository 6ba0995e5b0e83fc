"""One-hot encoding: a word is the place it has in the vocabulary, a text the set of its words.

    ../texts.py (texts) ──> ../terms.py (the vocabulary) ──> served/ (in Triton)

The simplest number for a symbol, and the largest: a vector as long as the vocabulary with a single one in it.
So answers are indices, and vectors only for whoever asks.
"""
