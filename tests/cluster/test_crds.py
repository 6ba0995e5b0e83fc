# ruff: noqa: E501 - a table reads best with a row a line
"""The CRDs and the objects we write, before a real API server."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.api import ApiRefused
from localcluster.control_plane import ControlPlane
from tests.nlp_operator.making import (
    World,
    make_classifier,
    make_encoder,
    make_gpu_pool,
    make_hugging_face,
    make_model,
    make_pool,
    make_transformer,
    make_translator,
    make_words,
)

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"
MODELS = "/apis/nlp-operator.io/v1alpha1/namespaces/{}/nlpmodels"
POOLS = "/apis/nlp-operator.io/v1alpha1/devicepools"
STRICTLY = "?dryRun=All&fieldValidation=Strict"

Object = dict[str, Any]


def as_applied(manifest: Object) -> Object:
    """Without what only the server sets."""
    bare = copy.deepcopy(manifest)
    bare.pop("status", None)
    for field in ("uid", "generation", "creationTimestamp"):
        bare["metadata"].pop(field, None)
    return bare


def model(change: Callable[[Object], object], name: str = "korean-novels") -> Object:
    made = as_applied(make_model(name))
    change(made["spec"])
    return made


TRAIN = {"name": "train", "source": {"configMap": {"name": "people"}}}


def words(change: Callable[[Object], object]) -> Object:
    made = as_applied(make_words())
    change(made["spec"])
    return made


def encoder(change: Callable[[Object], object]) -> Object:
    made = as_applied(make_encoder())
    change(made["spec"])
    return made


REFUSED_MODELS = [
    pytest.param(model(lambda spec: spec["build"].update(architecture="Perceptron")), 'Unsupported value: "Perceptron": supported values: "TermDocumentMatrix", "SentenceEncoder", "OneHot", "Word2Vec", "TextClassifier", "Seq2SeqAttention", "Transformer", "HuggingFace"', id="unknown architecture"),
    pytest.param(model(lambda spec: spec["build"].update(export={"precision": "Int8"})), "spec.build.export.fidelity must be set when the precision is Int8", id="lossy without a fidelity"),
    pytest.param(model(lambda spec: spec["build"].update(export={"fidelity": {"metric": "cosine", "atLeast": "0.98"}})), "the precision Int8 and fidelity are offered for the architecture SentenceEncoder only", id="a fidelity of what loses nothing"),
    pytest.param(encoder(lambda spec: spec["build"]["inputs"][0].update(name="corpus")), "A SentenceEncoder takes the inputs weights", id="an encoder without weights"),
    pytest.param(encoder(lambda spec: spec["build"].update(export={"precision": "Int8", "fidelity": {"metric": "cosine", "atLeast": "1.5"}})), "spec.build.export.fidelity.atLeast in body should match", id="a fidelity above one"),
    pytest.param(words(lambda spec: spec["build"]["inputs"].append({**spec["build"]["inputs"][0], "name": "vectors"})), "Word2Vec takes the input corpus (texts to train on) or vectors", id="word vectors of two kinds"),
    pytest.param(words(lambda spec: spec["build"]["inputs"][0].update(name="texts")), "Word2Vec takes the input corpus (texts to train on) or vectors", id="word vectors of something else"),
    pytest.param(words(lambda spec: spec["build"].update(quality=[{"metric": "analogyTop1", "atLeast": "0.25"}])), "spec.build.quality has a bound on analogies; name the input analogies", id="a bound on analogies without any"),
    pytest.param(as_applied(make_classifier("Frozen", TRAIN)), "A TextClassifier takes the inputs train", id="a classifier without the vectors it needs"),
    pytest.param(as_applied(make_classifier("Random", TRAIN, {**TRAIN, "name": "vectors"})), "A TextClassifier takes the inputs train", id="a classifier with vectors it does not need"),
    pytest.param(as_applied(make_translator(TRAIN, {**TRAIN, "name": "pairs"})), "Seq2SeqAttention takes the inputs train (pairs of texts; needed) and test", id="a translator with something else"),
    pytest.param(as_applied(make_translator({**TRAIN, "name": "test"})), "Seq2SeqAttention takes the inputs train (pairs of texts; needed) and test", id="a translator without pairs"),
    pytest.param(as_applied(make_translator(TRAIN, hiddenDim=255)), "spec.build.seq2SeqAttention.hiddenDim in body should be a multiple of 2", id="a state that cannot be halved"),
    pytest.param(as_applied(make_transformer({**TRAIN, "name": "pairs"})), "Transformer takes the inputs train (pairs of texts; needed) and test", id="a Transformer without pairs"),
    pytest.param(as_applied(make_transformer(TRAIN, hiddenDim=250)), "spec.build.transformer.hiddenDim must be a multiple of numHeads.", id="heads that cannot share"),
    pytest.param(as_applied(make_transformer(TRAIN, numLayers=13)), "spec.build.transformer.numLayers in body should be less than or equal to 12", id="too many layers"),
    pytest.param(as_applied(make_hugging_face("Translation", {**TRAIN, "name": "weights"}, TRAIN)), "HuggingFace takes the inputs weights (a folder; needed) and test", id="texts for a model that is trained"),
    pytest.param(as_applied(make_hugging_face("Summarization", {**TRAIN, "name": "weights"})), 'spec.build.huggingFace.task: Unsupported value: "Summarization"', id="a task that is not served"),
    pytest.param(as_applied(make_hugging_face("TokenClassification", {**TRAIN, "name": "weights"}, prefix="say: ")), "spec.build.huggingFace.prefix is for the task Translation only.", id="a prefix that nobody reads"),
    pytest.param(words(lambda spec: spec["build"].update(word2Vec={"learningRate": "11"})), "spec.build.word2Vec.learningRate in body should match", id="a learning rate above its bound"),
    pytest.param(model(lambda spec: spec["build"].update(oneHot={})), "spec.build.oneHot must be set (it may be {}) when the architecture is OneHot, and only then.", id="two members set"),
    pytest.param(model(lambda spec: spec["build"].pop("termDocumentMatrix")), "spec.build.termDocumentMatrix must be set (it may be {}) when the architecture is TermDocumentMatrix, and only then.", id="no member set"),
    pytest.param(model(lambda spec: None, "m" * 41), "metadata.name must have at most 40 characters", id="name too long"),
    pytest.param(model(lambda spec: None, "9lives"), "metadata.name must have at most 40 characters, start with a letter", id="name starts with a digit"),
    pytest.param(model(lambda spec: spec.update(serving={"maxBatchSize": -4})), "spec.serving.maxBatchSize in body should be greater than or equal to 1", id="a bound violated"),
    pytest.param(model(lambda spec: spec.update(replicas=3)), "spec.replicas is used only when spec.scaling.mode is External", id="replicas without external"),
    pytest.param(model(lambda spec: spec.update(placement={"minPools": 2}, serving={"isolation": "Shared"})), "spec.placement.minPools is of Dedicated models; a Shared one has all its replicas in one pool.", id="a shared model spread over pools"),
    pytest.param(model(lambda spec: spec.update(scaling={"minReplicas": 3, "maxReplicas": 2})), "spec.scaling.maxReplicas must not be below spec.scaling.minReplicas.", id="bounds the wrong way round"),
    pytest.param(model(lambda spec: spec.update(serving={"pod": {"resources": {"limits": {"nvidia.com/gpu": 1}}}})), "devices such as nvidia.com/gpu come from the DevicePool.", id="a device asked for"),
    pytest.param(model(lambda spec: spec.update(serving={"pod": {"labels": {"nlp-operator.io/model": "x"}}})), "belong to the operator.", id="a label of ours"),
    pytest.param(model(lambda spec: spec.update(serving={"pod": {"env": [{"name": "NLP_STORE"}]}})), "Environment variables whose names start with NLP_ belong to the operator.", id="a variable of ours"),
    pytest.param(model(lambda spec: spec["build"]["inputs"][0].update(source={})), "Exactly one of source.persistentVolumeClaim, configMap, s3, https, huggingFace, oci and nlpModel must be set.", id="no source"),
    pytest.param(model(lambda spec: spec["build"]["inputs"][0]["source"].update(persistentVolumeClaim={"claimName": "x"})), "Exactly one of source.persistentVolumeClaim, configMap, s3, https, huggingFace, oci and nlpModel must be set.", id="two sources"),
    pytest.param(model(lambda spec: spec["build"]["inputs"][0].update(source={"persistentVolumeClaim": {"claimName": "x", "path": "a/../b"}})), 'path must be relative to the claim\'s root and must not contain "..".', id="path out of the claim"),
    pytest.param(model(lambda spec: spec["build"].update(quality=[{"metric": "documents"}])), "Exactly one of atLeast and atMost must be set", id="a bound without a bound"),
    pytest.param(model(lambda spec: spec.update(suspend="yes")), "must be of type boolean", id="wrong type"),
    pytest.param(model(lambda spec: spec.update(suspended=True)), 'unknown field "spec.suspended"', id="misspelt field"),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "sentence"), REFUSED_MODELS)
def test_model_is_refused_with_a_sentence(
    control_plane: ControlPlane, namespace: str, manifest: Object, sentence: str
) -> None:
    manifest["metadata"]["namespace"] = namespace
    with pytest.raises(ApiRefused) as refused:
        control_plane.api.post(MODELS.format(namespace) + STRICTLY, manifest)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"device": {"type": "Cpu", "cpu": {"cores": "0"}}}, "cores must be more than 0.", id="no cores"),
        pytest.param({"device": {"type": "Cpu", "cpu": {"cores": 0}}}, "cores must be more than 0.", id="no cores, as a number"),
        pytest.param({"device": {"type": "ExtendedResource"}}, "spec.device.extendedResource must be set when spec.device.type is ExtendedResource", id="member missing"),
        pytest.param({"memoryMebibytes": 1}, "must be 0 or at least 64", id="hardly any memory"),
        pytest.param({"memoryMebibytes": 0}, "when spec.device.type is Cpu", id="cores without memory"),
    ],
)  # fmt: skip
def test_pool_is_refused_with_a_sentence(control_plane: ControlPlane, change: Object, sentence: str) -> None:
    with pytest.raises(ApiRefused) as refused:
        control_plane.api.post(POOLS + STRICTLY, as_applied(make_pool("refused", **change)))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("file", sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.yaml")))
def test_sample_is_accepted_strictly(control_plane: ControlPlane, namespace: str, file: str) -> None:
    accepted = 0
    for manifest in yaml.safe_load_all((SAMPLES / file).read_text(encoding="utf-8")):
        if manifest["kind"] == "NLPModel":
            manifest["metadata"]["namespace"] = namespace
            control_plane.api.post(MODELS.format(namespace) + STRICTLY, manifest)
            accepted += 1
        if manifest["kind"] == "DevicePool":
            manifest["metadata"]["name"] += "-of-a-test"
            control_plane.api.post(POOLS + STRICTLY, manifest)
            accepted += 1
    assert accepted


PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "/api/v1/namespaces/{}/services",
}


@pytest.mark.parametrize("pool", [make_pool("cpu"), make_gpu_pool("l4")], ids=["cpu", "gpu"])
def test_every_object_we_write_is_accepted_as_it_is(
    control_plane: ControlPlane, namespace: str, pool: Object
) -> None:
    """Strictly, so that a field of a wrong name is refused; in a namespace that enforces Pod Security restricted."""
    world = World(make_model(scaling={"minReplicas": 2}), pools=[pool]).up()
    assert world.store is not None
    written = [world.store, *world.objects.values()]
    assert {one["kind"] for one in written} == set(PATHS)
    for one in written:
        manifest = as_applied(one)
        manifest["metadata"] |= {"namespace": namespace}
        control_plane.api.post(PATHS[one["kind"]].format(namespace) + STRICTLY, manifest)


def test_status_we_write_is_kept_whole(control_plane: ControlPlane, namespace: str) -> None:
    """The schema prunes what it does not know; nothing of a Ready model's status may go that way."""
    world = World(make_model()).up()
    path = MODELS.format(namespace)
    manifest = as_applied(world.model)
    manifest["metadata"]["namespace"] = namespace
    control_plane.api.post(path, manifest)
    kept = control_plane.api.patch(f"{path}/korean-novels/status", {"status": world.model["status"]})
    assert kept["status"] == world.model["status"]


def test_scale_subresource_reads_and_writes_replicas(control_plane: ControlPlane, namespace: str) -> None:
    world = World(make_model(scaling={"mode": "External"}, replicas=1)).up()
    path = MODELS.format(namespace)
    manifest = as_applied(world.model)
    manifest["metadata"]["namespace"] = namespace
    control_plane.api.post(path, manifest)
    control_plane.api.patch(f"{path}/korean-novels/status", {"status": world.model["status"]})
    control_plane.api.patch(f"{path}/korean-novels/scale", {"spec": {"replicas": 3}})
    scale = control_plane.api.get(f"{path}/korean-novels/scale")
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {
        "replicas": 1,
        "selector": "app.kubernetes.io/component=server,nlp-operator.io/model=korean-novels",
    }
    assert control_plane.api.get(f"{path}/korean-novels")["spec"]["replicas"] == 3


def test_kubectl_takes_the_short_name_for_models_alone(control_plane: ControlPlane, namespace: str) -> None:
    """A category of the same word would make `get nlp NAME` an error and `delete nlp --all` delete pools."""
    manifest = as_applied(make_model("korean-novels"))
    manifest["metadata"]["namespace"] = namespace
    control_plane.api.post(MODELS.format(namespace), manifest)
    columns = (
        control_plane.kubectl("get", "-n", namespace, "nlp", "korean-novels").splitlines()[0].split("  ")
    )
    assert [column.strip() for column in columns if column.strip()] == [
        "NAME", "READY", "REASON", "REPLICAS", "POOL", "TARGET MS", "AGE",
    ]  # fmt: skip
    deleted = control_plane.kubectl("delete", "-n", namespace, "nlp", "--all", "--wait=false")
    assert deleted.split() == [
        "nlpmodel.nlp-operator.io",
        '"korean-novels"',
        "deleted",
        "from",
        namespace,
        "namespace",
    ]
