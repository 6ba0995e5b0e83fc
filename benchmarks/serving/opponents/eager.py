"""The vectors that sentence-transformers itself gives: `python eager.py WEIGHTS OUT.npy < texts.json`."""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from sentence_transformers import SentenceTransformer

texts = json.load(sys.stdin)
model = SentenceTransformer(sys.argv[1], device="cpu")
# One at a time: no padding, nothing shared.
np.save(sys.argv[2], np.stack([model.encode(text, show_progress_bar=False) for text in texts]))
