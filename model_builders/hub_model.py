"""Loads a model of the transformers library from a folder. Imported only where there is torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model_builders.errors import Refused
from model_builders.hub_folder import CONFIG


def load_model(kind: str, folder: Path, config: Mapping[str, Any], unused: tuple[str, ...] = ()) -> Any:
    """In 32 bits, ready to answer. `kind` is a class of transformers, such as AutoModel.

    Weights whose names begin with one of `unused` may be missing: transformers makes them anew. Raises
    Refused for weights that are not those of the configuration.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import; a build has no network to try
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, loaded = getattr(transformers, kind).from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",  # plain matrix products: the same maths in torch and in ONNX
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except MemoryError:
        raise
    except Exception as error:  # each kind of model, and safetensors, raises its own
        raise Refused(
            "InputInvalid",
            f"Input 'weights' cannot be loaded by transformers {transformers.__version__} "
            f"({type(error).__name__}: {_first_paragraph(error)}). Take {CONFIG} and the safetensors from "
            "one folder that this transformers can read.",
        ) from error
    missing = sorted(name for name in loaded["missing_keys"] if not name.startswith(unused))
    if missing:
        raise Refused(
            "InputInvalid",
            f"Input 'weights': the safetensors hold no {missing[0]!r}"
            + (f" and {len(missing) - 1} more that" if len(missing) > 1 else ", which")
            + f" a {config['model_type']} of this configuration has.",
        )
    others = sorted(one for one in loaded["mismatched_keys"] if not one[0].startswith(unused))
    if others:
        name, found, wanted = others[0]
        raise Refused(
            "InputInvalid",
            f"Input 'weights': {name!r} has the shape {tuple(found)} in the safetensors and "
            f"{tuple(wanted)} by {CONFIG}; the files are of two models.",
        )
    return model.eval().requires_grad_(False)


def _first_paragraph(error: Exception) -> str:
    """What transformers says first; behind it come hints for who runs it himself."""
    words = " ".join(str(error).strip().partition("\n\n")[0].split())
    return words if len(words) <= 300 else words[:300] + "…"
