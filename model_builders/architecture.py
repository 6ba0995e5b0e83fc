"""What an architecture has to offer so that the build Job can run it.

    Architecture ──prepare──> Recipe ──train──> Model ──export, check_export──> done
      may raise: ParameterInvalid      InputInvalid …   ExportDiffers

The two lines above are the whole life of a build; quality is compared between train and export.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model_builders.checkpoints import Checkpoints
from model_builders.contract import Contract, Example, Sample, StreamExample
from model_builders.errors import Refused
from model_builders.messages import Json
from model_builders.report import Section
from model_builders.source import Source
from model_builders.triton import Native


@dataclass(frozen=True)
class Exported:
    contract: Contract
    examples: tuple[Example, ...]
    """Recorded from the model as it was before the export."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Numbers that differ from machine to machine, such as speeds: in the result, never in the artifact."""
    note: str = ""
    """How it was exported, in a sentence, where there was a choice."""
    report: tuple[Section, ...] = ()
    """What report.html shows beside quality, inputs and parameters."""
    streams: tuple[StreamExample, ...] = ()
    """Of a model that can answer token by token (docs/decisions/0084-streaming.md)."""
    native: Native | None = None
    """Of a model that a full Triton can run without Python's backend for what computes."""


def need(packages: Sequence[str], what: str) -> None:
    """Raises Refused where the builder that runs lacks one of them; `what` they are for follows "which"."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Refused(
            "BuildFailed",
            f"This builder has no {' and no '.join(missing)}, which {what}. Run the image builder-torch "
            "(docs/images.md).",
        )


class Model(Protocol):
    @property
    def metrics(self) -> Mapping[str, float]:
        """Every measured number. The first five are shown in the NLPModel's status."""

    @property
    def summary(self) -> str:
        """What was built, in one sentence."""

    def export(self, folder: Path) -> Exported:
        """Write Triton's version folder, free of pickle."""

    def check_export(self, folder: Path) -> float:
        """Load the written files in a fresh process and compare; return the largest difference found.

        Raises Refused (`ExportDiffers`).
        """


class Recipe(Protocol):
    def train(self, sources: tuple[Source, ...], checkpoints: Checkpoints) -> Model:
        """Raises Refused for inputs that cannot be used. What takes long goes on from its checkpoints."""


class Architecture(Protocol):
    name: str
    """As in `spec.build.architecture`."""
    contract: Contract
    """With names for the lengths that depend on the data."""
    takes_artifacts_of: frozenset[str]
    """Architectures whose artifacts can be an input; the others are refused before `train`."""
    metrics: Mapping[str, str]
    """Every metric that may stand in `spec.build.quality`, with what it says."""
    page: str
    """What the request contract's page says about this architecture beside its tensors, in Markdown."""
    sample: Sample

    def prepare(self, parameters: Json, export: Json) -> Recipe:
        """Raises Refused (`ParameterInvalid`) naming every parameter that does not fit."""
