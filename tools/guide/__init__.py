"""docs/guide: from one-hot to transfer learning. The prose is written by hand; manifests, answers and
pictures are put into it from real runs.

    chapter.py (a page and its blocks) ──> running.py (its commands) ──> pictures.py (what they drew on)
"""
