"""Writes docs/api/inference.md, the request contract of every architecture, from the builders themselves."""

import json

from model_builders.architecture import Architecture
from model_builders.architectures import ARCHITECTURES
from model_builders.contract import Contract, Sample, Tensor

HEADER = """\
# The request contract

Which tensors each architecture takes and gives. The same over HTTP and gRPC, which both speak the KServe v2
protocol (`/v2/models/MODEL/infer`); every shape below has the batch dimension before it. A `*` is a length
that differs from answer to answer. The numbers of one built model stand in its artifact, in `contract.json`.

This page is written by `python -m model_builders contracts --write docs/api/inference.md`; `make check` fails
when it is out of date.
"""


def render() -> str:
    """The page of our own architectures."""
    return "\n".join([HEADER, *(section(ARCHITECTURES[name]) for name in sorted(ARCHITECTURES))])


def section(architecture: Architecture) -> str:
    contract = architecture.contract
    return "\n".join(
        [
            f"## {architecture.name}",
            "",
            architecture.page,
            f"At most {contract.max_batch_size} rows a request.",
            "",
            "### Inputs",
            "",
            "| tensor | type | shape | needed | what |",
            "| --- | --- | --- | --- | --- |",
            *(f"{_row(t)} {'no' if t.optional else 'yes'} | {t.description} |" for t in contract.inputs),
            "",
            "### Outputs",
            "",
            "| tensor | type | shape | what |",
            "| --- | --- | --- | --- |",
            *(f"{_row(t)} {t.description} |" for t in contract.outputs),
            "",
            "### Metrics for `spec.build.quality`",
            "",
            "| metric | what |",
            "| --- | --- |",
            *(f"| `{name}` | {text} |" for name, text in architecture.metrics.items()),
            "",
            "### Examples",
            "",
            _http_example(contract, architecture.sample),
            _grpc_example(contract, architecture.sample),
        ]
    )


def _row(tensor: Tensor) -> str:
    shape = ", ".join("*" if size == -1 else str(size) for size in tensor.shape)
    return f"| `{tensor.name}` | {tensor.datatype} | [{shape}] |"


def _http_example(contract: Contract, sample: Sample) -> str:
    first = contract.inputs[0]
    body = {
        "inputs": [{"name": first.name, "datatype": first.datatype, "shape": [1, 1], "data": [sample.text]}],
        "outputs": [{"name": name} for name in sample.outputs],
    }
    text = json.dumps(body, ensure_ascii=False)
    short = json.dumps({first.name: sample.text}, ensure_ascii=False)
    return f"""\
HTTP, with the model's Service as host:

```bash
curl http://{sample.model}.demo:8000/v2/models/{sample.model}/infer -d '{text}'
```

One row and every output, without spelling out tensors (Triton's own extension of the protocol):

```bash
curl http://{sample.model}.demo:8000/v2/models/{sample.model}/generate -d '{short}'
```
"""


def _grpc_example(contract: Contract, sample: Sample) -> str:
    first = contract.inputs[0].name
    outputs = ", ".join(f'InferRequestedOutput("{name}")' for name in sample.outputs)
    return f"""\
gRPC, in Python with `tritonclient`:

```python
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

client = InferenceServerClient("{sample.model}.demo:8001")
{first} = InferInput("{first}", [1, 1], "BYTES")
{first}.set_data_from_numpy(np.array([["{sample.text}".encode()]], dtype=object))
answer = client.infer("{sample.model}", [{first}], outputs=[{outputs}])
print(answer.as_numpy("{sample.outputs[0]}"))
```
"""
