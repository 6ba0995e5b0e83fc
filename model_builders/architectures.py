"""Every architecture that can be built, by its name in `spec.build.architecture`.

Ours are named here. Others are folders of the package `nlp_architectures`, wherever on Python's path they lie
(docs/extending.md): NgramProfiles is `nlp_architectures/ngram_profiles/`, and the module `builder` in it
holds ARCHITECTURE. A folder is told by its name alone and imported when a build asks for it, so one that is
broken stops no other model.
"""

import importlib
import logging
import pkgutil
from collections.abc import Mapping

from model_builders import OUTSIDE
from model_builders.architecture import Architecture
from model_builders.errors import Refused
from model_builders.hugging_face.builder import HuggingFaceArchitecture
from model_builders.one_hot.builder import OneHotArchitecture
from model_builders.sentence_encoder.builder import SentenceEncoderArchitecture
from model_builders.seq2seq_attention.builder import Seq2SeqAttentionArchitecture
from model_builders.term_document_matrix.builder import TermDocumentMatrixArchitecture
from model_builders.text_classifier.builder import TextClassifierArchitecture
from model_builders.transformer.builder import TransformerArchitecture
from model_builders.word2vec.builder import Word2VecArchitecture

logger = logging.getLogger(__name__)

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        HuggingFaceArchitecture(),
        OneHotArchitecture(),
        SentenceEncoderArchitecture(),
        Seq2SeqAttentionArchitecture(),
        TermDocumentMatrixArchitecture(),
        TextClassifierArchitecture(),
        TransformerArchitecture(),
        Word2VecArchitecture(),
    )
}
"""Ours."""


def find_architecture(name: str) -> Architecture:
    """Raises Refused. What is ours is never replaced by a folder of the same name."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    modules = modules_outside()
    if name not in modules:
        raise Refused(
            "ParameterInvalid",
            f"spec.build.architecture is {name!r}; this builder builds "
            f"{', '.join(sorted({*ARCHITECTURES, *modules}))}.",
        )
    return _load(name, modules[name])


def modules_outside() -> dict[str, str]:
    """The module of each architecture that is not ours, by the name that its folder gives it."""
    try:
        package = importlib.import_module(OUTSIDE)
    except ModuleNotFoundError:
        return {}
    folders = [found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg]
    return {name_of(folder): f"{OUTSIDE}.{folder}.builder" for folder in folders}


def name_of(folder: str) -> str:
    """`ngram_profiles` is NgramProfiles."""
    return "".join(part[:1].upper() + part[1:] for part in folder.split("_"))


def _load(name: str, module: str) -> Architecture:
    try:
        architecture: Architecture = importlib.import_module(module).ARCHITECTURE
    except MemoryError:
        raise
    except Exception as error:  # Whatever the code of others raises.
        logger.exception("%s cannot be loaded", module)
        raise Refused(
            "BuildFailed",
            f"The architecture {name} is {module} in this builder's image, which cannot be loaded: "
            f"{type(error).__name__}: {error}.",
        ) from error
    if not name == architecture.name == architecture.contract.architecture:
        raise Refused(
            "BuildFailed",
            f"{module} builds {architecture.name!r}, with a contract of "
            f"{architecture.contract.architecture!r}; by its folder it is {name!r}, and all three must be "
            "one name.",
        )
    return architecture
