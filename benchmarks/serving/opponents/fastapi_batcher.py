"""What people write next: FastAPI with a micro-batcher of its own around ONNX Runtime, in one process.

    MODEL=folder of a version THREADS=2 uvicorn fastapi_batcher:app

The same exported model and tokenizer as in our artifact, so that only the serving differs.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

MAX_BATCH = 32
FOLDER = Path(os.environ["MODEL"])

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(
    str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"]
)
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
tokenizer.enable_padding()
waiting: asyncio.Queue[tuple[str, asyncio.Future[list[float]]]] = asyncio.Queue()


def encode(texts: list[str]) -> list[list[float]]:
    encoded = tokenizer.encode_batch(texts)
    ids = np.array([one.ids for one in encoded], dtype=np.int64)
    mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
    vectors: list[list[float]] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0].tolist()
    return vectors


async def work() -> None:
    """Whatever waits when the last batch is done is the next one."""
    while True:
        batch = [await waiting.get()]
        while len(batch) < MAX_BATCH and not waiting.empty():
            batch.append(waiting.get_nowait())
        vectors = await asyncio.to_thread(encode, [text for text, _ in batch])
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    worker = asyncio.create_task(work())
    yield
    worker.cancel()


app = FastAPI(lifespan=lifespan)


class Request(BaseModel):
    text: str


@app.post("/embed")
async def embed(request: Request) -> list[float]:
    future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
    await waiting.put((request.text, future))
    return await future
