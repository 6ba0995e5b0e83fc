"""A Transformer in plain PyTorch behind FastAPI: the same network, weights and subwords as in our artifact,
greedy with a cache, a text a request.

    MODEL=folder THREADS=1 BATCH=1 uvicorn fastapi_transformer:app --workers 2

THREADS=0 leaves torch as it comes: a thread a core. A worker translates one text at a time: between torch's
short calls a thread needs the interpreter, and FastAPI's forty threads would stand in each other's way. With
BATCH above 1 what waits when a batch is done is the next one, filled up to its longest text; sentences that
have ended leave it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import torch
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer
from torch import Tensor

from model_builders.served.search import END, NEVER
from model_builders.transformer.network import Memory, Transformer
from model_builders.transformer.parameters import parse_parameters

FOLDER = Path(os.environ["MODEL"])
BATCH = int(os.environ["BATCH"])
if int(os.environ["THREADS"]):
    torch.set_num_threads(int(os.environ["THREADS"]))

settings = json.loads((FOLDER / "network.json").read_text(encoding="utf-8"))
parameters = parse_parameters(settings["parameters"], {})
network = Transformer(*settings["vocabularies"], parameters)
with np.load(FOLDER / "weights.npz") as weights:
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
network.eval()
source, target = (Tokenizer.from_file(str(FOLDER / f"{side}.json")) for side in ("source", "target"))


@torch.inference_mode()
def translate(texts: list[str]) -> list[str]:
    ids = [one.ids for one in source.encode_batch(texts)]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
    memory = network.encode(tokens, lengths)
    rows = torch.arange(len(texts))
    words = torch.full((len(texts),), END)
    written: list[list[int]] = [[] for _ in texts]
    for _ in range(parameters.max_tokens):
        decoded = network.decode(words.unsqueeze(1), memory, look=False)
        logits = decoded.logits[:, 0]
        logits[:, list(NEVER)] = -torch.inf
        words, memory = logits.argmax(dim=-1), decoded.memory
        going = words != END
        if not going.all():
            rows, words, memory = rows[going], words[going], _kept(memory, going)
        for row, word in zip(rows.tolist(), words.tolist(), strict=True):
            written[row].append(word)
        if not len(rows):
            break
    return [target.decode(row) for row in written]


def _kept(memory: Memory, going: Tensor) -> Memory:
    return Memory(**{name: tensor[going] for name, tensor in vars(memory).items()})


waiting: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()


async def work() -> None:
    while True:
        batch = [await waiting.get()]
        while len(batch) < BATCH and not waiting.empty():
            batch.append(waiting.get_nowait())
        translations = await asyncio.to_thread(translate, [text for text, _ in batch])
        for (_, future), translation in zip(batch, translations, strict=True):
            future.set_result(translation)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = 1
    worker = asyncio.create_task(work())
    yield
    worker.cancel()


app = FastAPI(lifespan=lifespan)


class Request(BaseModel):
    text: str


if BATCH > 1:

    @app.post("/translate")
    async def translate_in_a_batch(request: Request) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await waiting.put((request.text, future))
        return await future

else:

    @app.post("/translate")
    def translate_one(request: Request) -> str:
        return translate([request.text])[0]
