"""The native flavour of a translator: Triton's models that stand in a row, and what each takes and gives.

    text, beam_size ─> tokenizer ─> search (ONNX Runtime) ─> detokenizer ─> translation, tokens, …

The files are those of the version folder (served/tokenizer.py, search.onnx, served/detokenizer.py), so each
of the three models is a folder with the same files and another config.pbtxt.
"""

from collections.abc import Iterable
from math import prod

from model_builders.contract import Contract, Datatype, Tensor
from model_builders.served.translating import MAX_BEAM_SIZE
from model_builders.triton import Native, Part

NATIVE = "native"
"""served/native.py: the whole flavour without Triton."""

FILES = (NATIVE, "tokenizer", "detokenizer")
"""Of served/, beside those of Python's flavour."""

MAX_ATTENTION = 1 << 27
"""Numbers of the attention of a batch, every row with the largest beam: half a GiB. The search holds all of
it, where Python's flavour goes through a batch in parts."""


def native_of(contract: Contract, max_tokens: int) -> Native:
    """Of a model with this request contract, whose texts have at most so many tokens."""
    attention = [tensor for tensor in contract.outputs if tensor.name == "attention"]
    heads = prod(size for tensor in attention for size in tensor.shape if isinstance(size, int) and size > 0)
    most = MAX_ATTENTION // (MAX_BEAM_SIZE * heads * max_tokens**2) if attention else contract.max_batch_size
    return Native(_parts(contract, attention), max(1, min(contract.max_batch_size, most)))


def _parts(contract: Contract, attention: list[Tensor]) -> tuple[Part, ...]:
    of = {tensor.name: tensor for tensor in contract.outputs}
    weights = tuple(_tensor("weights", "FP32", tensor.shape) for tensor in attention)
    names = {"token_ids": "ids", "words": "words", "score": "score", "finished": "finished"}
    tokenizer = Part(
        "tokenizer",
        "python",
        "tokenizer.py",
        contract.inputs,
        (
            _tensor("source_ids", "INT64", (-1,)),
            _tensor("source_lengths", "INT64", (1,)),
            _tensor("beam_sizes", "INT32", (1,)),
            of["source_tokens"],
        ),
        _same(tensor.name for tensor in contract.inputs),
        _same(("source_ids", "source_lengths", "beam_sizes", "source_tokens")),
    )
    search = Part(
        "search",
        "onnxruntime",
        "search.onnx",
        (
            _tensor("tokens", "INT64", (-1,)),
            _tensor("lengths", "INT64", (1,)),
            _tensor("beam_size", "INT32", (1,)),
        ),
        (
            of["token_ids"],
            _tensor("words", "INT64", (1,)),
            of["score"],
            of["finished"],
            *attention,
        ),
        {"tokens": "source_ids", "lengths": "source_lengths", "beam_size": "beam_sizes"},
        names | ({"attention": "weights"} if attention else {}),
    )
    taken = ("ids", "words", "source_lengths", *(tensor.name for tensor in weights))
    written = ("translation", "tokens", "token_ids", *(tensor.name for tensor in attention))
    detokenizer = Part(
        "detokenizer",
        "python",
        "detokenizer.py",
        (
            _tensor("ids", "INT32", (-1,)),
            _tensor("words", "INT64", (1,)),
            _tensor("source_lengths", "INT64", (1,)),
            *weights,
        ),
        tuple(of[name] for name in written),
        _same(taken),
        _same(written),
    )
    return tokenizer, search, detokenizer


def _tensor(name: str, datatype: Datatype, shape: tuple[int | str, ...]) -> Tensor:
    return Tensor(name, datatype, shape, "")


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}
