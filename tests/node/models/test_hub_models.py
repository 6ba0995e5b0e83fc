"""Models of somebody's on a real node: built by Jobs with torch from folders in a claim, and asked through
their Services."""

from __future__ import annotations

import unicodedata

import pytest

from localcluster.cluster import Cluster
from tests.model_builders.hugging_face.folders import folder_of
from tests.node.models.place import Place

pytestmark = pytest.mark.timeout(1800)  # a first build of the image downloads 0.6 GB

BUILD_SECONDS = 900.0
"""Three builds take 60 s of processor time; a loaded machine takes several times that."""

NAMES = unicodedata.normalize("NFD", "김민준은 부산에서 태어났다.")
"""As macOS writes it: a syllable is two or three characters."""


def test_a_classifier_a_tagger_and_a_translator_are_built_from_a_claim_and_answer(
    with_torch: Cluster, place: Place
) -> None:
    files = {
        f"{kind}/{path.name}": path.read_bytes()
        for kind in ("moods", "names", "animals")
        for path in folder_of(kind).iterdir()
    }
    place.make_claim("models", files)
    # The claim was made above, with files in it.
    place.apply(*(one for one in place.sample("from-hugging-face") if one["kind"] != "PersistentVolumeClaim"))
    for model in ("moods", "korean-names", "animals"):
        place.wait_ready(model, seconds=BUILD_SECONDS)

    found = place.ask("영화 정말 훌륭했다.", name="moods")
    assert found["label"].ravel()[0].decode() == "긍정"
    assert float(found["score"].ravel()[0]) > 0.9

    found = place.ask(NAMES, name="korean-names")
    entities = [one.decode() for one in found["entity"].ravel()]
    assert [unicodedata.normalize("NFC", one) for one in entities] == ["김민준", "부산"]
    assert [one.decode() for one in found["entity_label"].ravel()] == ["PER", "LOC"]
    places = zip(found["entity_start"].ravel(), found["entity_end"].ravel(), strict=True)
    assert [NAMES[start:end] for start, end in places] == entities

    found = place.ask("The small dog knows the red horse.", name="animals")
    assert found["translation"].ravel()[0].decode() == "작은 강아지가 빨간 말을 안다."
    assert place.model("animals")["status"]["artifact"]["metrics"]["exactMatch"] == "1"
