"""The service most people write first: FastAPI around sentence-transformers, a text a request.

    WEIGHTS=folder THREADS=1 uvicorn fastapi_sentence_transformers:app --workers 2

THREADS=0 leaves torch as it comes: a thread a core.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

if int(os.environ["THREADS"]):
    torch.set_num_threads(int(os.environ["THREADS"]))
model = SentenceTransformer(os.environ["WEIGHTS"], device="cpu")
app = FastAPI()


class Request(BaseModel):
    text: str


@app.post("/embed")
def embed(request: Request) -> list[float]:
    vector: list[float] = model.encode(request.text, show_progress_bar=False).tolist()
    return vector
