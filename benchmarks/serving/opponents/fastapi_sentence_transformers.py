"""The service most people write first: FastAPI around sentence-transformers, a text a request.

    WEIGHTS=folder THREADS=1 uvicorn fastapi_sentence_transformers:app --workers 2

THREADS=0 leaves torch as it comes: a thread a core. A worker encodes one text at a time: FastAPI's
forty threads would stand in each other's way.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

if int(os.environ["THREADS"]):
    torch.set_num_threads(int(os.environ["THREADS"]))
model = SentenceTransformer(os.environ["WEIGHTS"], device="cpu")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = 1
    yield


app = FastAPI(lifespan=lifespan)


class Request(BaseModel):
    text: str


@app.post("/embed")
def embed(request: Request) -> list[float]:
    vector: list[float] = model.encode(request.text, show_progress_bar=False).tolist()
    return vector
