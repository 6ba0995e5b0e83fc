"""What the builders of translators share, from two columns of text to the pictures of the report.

    pairs.py ─> subwords.py ─> corpus.py (tokens) ─> training.py (an architecture's network)
                                                                 └─> measuring.py ─> exporting.py, report.py

The search over translations is in `model_builders/served/search.py`, for it is served too.
"""
