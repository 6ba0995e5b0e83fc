"""Lays the native flavour of an artifact down as a model repository for a full Triton.

    python -m model_builders.native ARTIFACT NAME REPOSITORY [--target gpu-2.70]

NAME becomes an ensemble with the request contract; its steps are NAME_tokenizer and so on, which no NLPModel
can be called. Each step gets a copy of the files that it needs, so the weights are copied once.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from model_builders.artifact import VERSION_FOLDER
from model_builders.shared_weights import WEIGHTS
from model_builders.triton import ENSEMBLE, FULL_TARGETS

CONFIGS = Path("configs/native")


class NoNativeFlavour(Exception):
    """The artifact has none for this target; the text says what there is."""


def lay_out(artifact: Path, name: str, target: str, repository: Path) -> list[str]:
    """The names of the models that were made in `repository`, the ensemble first.

    Raises NoNativeFlavour, and FileExistsError for a model that is there already.
    """
    configs = {file.stem: _read(file) for file in sorted((artifact / CONFIGS / target).glob("*.pbtxt"))}
    if ENSEMBLE not in configs:
        there = sorted(folder.name for folder in (artifact / CONFIGS).glob("*"))
        raise NoNativeFlavour(
            f"{artifact} has no native flavour for {target!r}; it has {', '.join(there) or 'none at all'}. "
            "Translators that are trained here (Seq2SeqAttention, Transformer) have one for "
            f"{' and '.join(one.name for one in FULL_TARGETS)}."
        )
    names = {part: name if part == ENSEMBLE else f"{name}_{part}" for part in configs}
    for step in configs[ENSEMBLE].ensemble_scheduling.step:
        step.model_name = names[step.model_name]
    for part, config in configs.items():
        version = repository / names[part] / VERSION_FOLDER
        version.mkdir(parents=True)
        for file in _files(artifact / VERSION_FOLDER, config):
            shutil.copyfile(file, version / file.name)
        config.name = names[part]
        text = text_format.MessageToString(config, as_utf8=True)
        (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")
    return [names.pop(ENSEMBLE), *names.values()]


def _files(folder: Path, config: Any) -> Iterator[Path]:
    """Of the version folder, what a model with this configuration reads."""
    if config.backend == "python":
        yield from (file for file in folder.iterdir() if file.suffix in (".py", ".json"))
    elif config.backend:
        yield from (folder / config.default_model_filename, folder / WEIGHTS)


def _read(file: Path) -> Any:
    return text_format.Parse(file.read_text(encoding="utf-8"), pb.ModelConfig())


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model_builders.native",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifact", type=Path, help="a folder of the store, artifacts/<sha256>")
    parser.add_argument("name", help="what the model is called")
    parser.add_argument("repository", type=Path, help="Triton's --model-repository")
    parser.add_argument("--target", default=FULL_TARGETS[-1].name, help="a device and a Triton (%(default)s)")
    asked = parser.parse_args(words)
    try:
        made = lay_out(asked.artifact, asked.name, asked.target, asked.repository)
    except NoNativeFlavour as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FileExistsError as error:
        print(f"error: {error.filename} is there already; remove it, or take another name.", file=sys.stderr)
        return 1
    print("\n".join(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
