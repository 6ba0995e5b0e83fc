"""A real sentence encoder on a real node: built by a Job with torch from weights in a claim, and asked
through its Service."""

from __future__ import annotations

import pytest

from localcluster.cluster import Cluster
from tests.faults.prober import GrpcAsk, HttpAsk, text
from tests.model_builders.sentence_encoder.minilm import minilm_folder
from tests.node.models.place import Place

pytestmark = pytest.mark.timeout(1200)  # a first build of the image downloads 0.6 GB

MODEL = "sentences"
BUILD_SECONDS = 600.0
"""A build takes 40 s of processor time; a loaded machine takes several times that."""


def test_minilm_is_built_from_a_claim_and_answers_through_its_service(
    with_torch: Cluster, place: Place
) -> None:
    weights = minilm_folder()
    files = {path: path.read_bytes() for path in weights.rglob("*") if path.is_file()}
    place.make_claim("models", {f"minilm/{path.relative_to(weights)}": data for path, data in files.items()})
    # The claim was made above, with files in it.
    place.apply(*(one for one in place.sample("sentences") if one["kind"] != "PersistentVolumeClaim"))
    place.wait_ready(MODEL, seconds=BUILD_SECONDS)

    metrics = place.model(MODEL)["status"]["artifact"]["metrics"]
    assert metrics["dimensions"] == "384"
    assert float(metrics["int8Cosine"]) > 0.95
    assert float(metrics["int8Speedup"]) > 0
    pair = {"text": text("A man is playing the guitar.")}
    for other, lowest, highest in (
        ("Someone plays an instrument.", 0.58, 0.68),
        ("Stocks fell sharply on Monday.", -0.20, 0.10),
    ):
        asks = (
            HttpAsk(place.address(8000, MODEL), MODEL, pair | {"text_pair": text(other)}),
            GrpcAsk(place.address(8001, MODEL), MODEL, pair | {"text_pair": text(other)}, authority=MODEL),
        )
        for ask in asks:
            answer = ask()
            ask.close()
            assert lowest <= float(answer["similarity"].ravel()[0]) <= highest
            assert answer["vector"].shape == (1, 384)
    nearest = place.ask("I forgot my password", name=MODEL)["nearest_candidates"]
    assert nearest.ravel()[0].decode() == "How do I change my password?"
