"""Takes a model of Hugging Face's form for one task, exports it and checks it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from model_builders.architecture import Model, need
from model_builders.checkpoints import Checkpoints
from model_builders.errors import Refused
from model_builders.hugging_face.contract import CONTRACT, METRICS, NAME, PAGE, SAMPLE
from model_builders.hugging_face.folder import Folder, read_folder
from model_builders.hugging_face.labels import build_labels
from model_builders.hugging_face.parameters import Parameters, parse_parameters
from model_builders.hugging_face.translator import build_translator
from model_builders.messages import Json
from model_builders.source import Source

logger = logging.getLogger(__name__)

WEIGHTS, TEST = "weights", "test"


class HuggingFaceArchitecture:
    name = NAME
    contract = CONTRACT
    takes_artifacts_of: frozenset[str] = frozenset()
    metrics = METRICS
    page = PAGE
    sample = SAMPLE

    def prepare(self, parameters: Json, export: Json) -> "HuggingFaceRecipe":
        parsed = parse_parameters(parameters, export)
        need(("torch", "transformers"), f"a {NAME} model is built with")
        return HuggingFaceRecipe(parsed)


@dataclass(frozen=True)
class HuggingFaceRecipe:
    parameters: Parameters

    def train(self, sources: tuple[Source, ...], checkpoints: Checkpoints | None = None) -> Model:
        """Nothing is trained: the weights are somebody's."""
        by_name = {source.name: source for source in sources}
        if set(by_name) - {WEIGHTS, TEST} or WEIGHTS not in by_name:
            raise Refused(
                "ParameterInvalid",
                f"spec.build.inputs names {', '.join(by_name)}; {NAME} takes {WEIGHTS} (a folder of Hugging "
                f"Face) and, if wanted, {TEST} (texts with labels, or with translations, to measure it by).",
            )
        folder = read_folder(by_name[WEIGHTS], self.parameters)
        return build(folder, by_name, self.parameters)


def build(folder: Folder, inputs: Mapping[str, Source], parameters: Parameters) -> Model:
    # Imported here and not above: it takes seconds, and the contracts' page does without.
    import torch

    # The same bits whatever the pod's cores: sums over several threads may be in another order.
    torch.set_num_threads(1)
    logger.info("loading a %s with torch %s", folder.architecture, torch.__version__)
    if parameters.task == "Translation":
        return build_translator(folder, inputs.get(TEST), parameters)
    return build_labels(folder, inputs.get(TEST), parameters)
