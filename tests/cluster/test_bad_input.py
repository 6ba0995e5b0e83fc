"""What the API server refuses by the schema: nothing is stored, and kubectl prints the sentence.

The rows of docs/bad-input.md that end at `kubectl apply`. The sentence is compared as kubectl prints it,
since that is what a user reads; a change that makes it worse fails here.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from localcluster.control_plane import ControlPlane
from localcluster.errors import CommandFailed

MODELS = "/apis/nlp-operator.io/v1alpha1/namespaces/{}/nlpmodels"


def make_model(namespace: str, name: str = "novels") -> dict[str, Any]:
    return {
        "apiVersion": "nlp-operator.io/v1alpha1",
        "kind": "NLPModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "build": {
                "architecture": "TermDocumentMatrix",
                "termDocumentMatrix": {},
                "inputs": [{"name": "corpus", "source": {"configMap": {"name": "corpus"}}}],
            }
        },
    }


def changed(model: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field set; a path step that is a number is an index. None takes the field out."""
    result = copy.deepcopy(model)
    *parents, last = path.split(".")
    place: Any = result
    for step in parents:
        place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


REFUSED = [
    pytest.param(
        "spec.build.architecture",
        "Perceptron",
        'spec.build.architecture: Unsupported value: "Perceptron": supported values: '
        '"TermDocumentMatrix", "SentenceEncoder", "OneHot", "Word2Vec", "TextClassifier", '
        '"Seq2SeqAttention", "Transformer", "HuggingFace"',
        id="an unknown architecture",
    ),
    pytest.param(
        "spec.build.oneHot",
        {},
        "spec.build: Invalid value: spec.build.oneHot must be set (it may be {}) when the architecture is "
        "OneHot, and only then.",
        id="two members set",
    ),
    pytest.param(
        "spec.build.termDocumentMatrix",
        None,
        "spec.build: Invalid value: spec.build.termDocumentMatrix must be set (it may be {}) when the "
        "architecture is TermDocumentMatrix, and only then.",
        id="no member set",
    ),
    pytest.param(
        "spec.build.inputs.0.source.persistentVolumeClaim",
        {"claimName": "datasets"},
        "Exactly one of source.persistentVolumeClaim, configMap, s3, https, huggingFace, oci and nlpModel "
        "must be set.",
        id="two sources set",
    ),
    pytest.param(
        "spec.serving.maxBatchSize",
        -4,
        "spec.serving.maxBatchSize: Invalid value: -4: spec.serving.maxBatchSize in body should be greater "
        "than or equal to 1",
        id="a bound violated",
    ),
    pytest.param(
        "spec.scaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "spec.scaling.maxReplicas must not be below spec.scaling.minReplicas.",
        id="a maximum below its minimum",
    ),
    pytest.param(
        "spec.replicas",
        3,
        "spec.replicas is used only when spec.scaling.mode is External; set the mode to External (to scale "
        "by hand, by an HPA or by KEDA), or remove spec.replicas and set spec.scaling.minReplicas.",
        id="replicas without external scaling",
    ),
    pytest.param(
        "spec.build.quality",
        [{"metric": "documents", "atLeast": "many"}],
        "spec.build.quality[0].atLeast",
        id="a floor that is no number",
    ),
    pytest.param(
        "spec.build.quality",
        [{"metric": "documents"}],
        "Exactly one of atLeast and atMost must be set; use two items to bound a metric on both sides.",
        id="a floor without a bound",
    ),
    pytest.param(
        "spec.build.inputs.0.sha256",
        "abc",
        "spec.build.inputs[0].sha256",
        id="a pin that is no sha256",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"persistentVolumeClaim": {"claimName": "datasets", "path": "../secrets"}},
        'path must be relative to the claim\'s root and must not contain "..".',
        id="a path out of its claim",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"https": {"url": "https://data.example/novels.tsv"}},
        "sha256 must be set for an https source, because a web server may give something else the next time.",
        id="a web file without a pin",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"https": {"url": "http://data.example/novels.tsv"}},
        "spec.build.inputs[0].source.https.url",
        id="a web file without TLS",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"s3": {"bucket": "corpora", "endpoint": "http://minio.demo:9000"}},
        "sha256 must be set when the endpoint of an s3 source is http://, because nothing else tells whose "
        "bytes they are.",
        id="a bucket without TLS and pin",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"huggingFace": {"repository": "novels/encoder", "revision": "main"}},
        "revision must be a whole commit (40 hex digits), because a branch or tag moves.",
        id="a branch of a model repository",
    ),
    pytest.param(
        "spec.build.inputs.0.source",
        {"oci": {"reference": "registry.example/novels", "digest": "latest"}},
        "digest must be sha256: and 64 hex digits, those of the manifest, because a tag moves.",
        id="a tag of an artifact",
    ),
    pytest.param(
        "spec.build.inputs.0.secretName",
        "keys",
        "secretName is used only by the sources s3, https, huggingFace and oci; remove it.",
        id="a Secret for nothing",
    ),
    pytest.param(
        "spec.serving.pod.resources",
        {"limits": {"nvidia.com/gpu": "1"}},
        "Only cpu, memory and ephemeral-storage can be set here; devices such as nvidia.com/gpu come from "
        "the DevicePool.",
        id="a device taken past the pool",
    ),
    pytest.param(
        "spec.serving.pod.labels",
        {"team": "not a valid value!"},
        'spec.serving.pod.labels.team: Invalid value: "not a valid value!": spec.serving.pod.labels.team in '
        "body should match '^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$'",
        id="a label with a value that no label has",
    ),
    pytest.param(
        "spec.serving.pod.labels",
        {"my team": "nlp"},
        "Every key must be a name of at most 63 letters, digits, dashes, dots and underscores that "
        "starts and ends with a letter or digit; before it may stand a DNS name and a slash, as in "
        "example.com/team.",
        id="a label with a key that no label has",
    ),
    pytest.param(
        "spec.serving.pod.annotations",
        {"a/b/c": "d"},
        "Every key must be a name of at most 63 letters",
        id="an annotation with a key that none has",
    ),
    pytest.param(
        "spec.serving.service.annotations",
        {"a..b/c": "d"},
        "Every key must be a name of at most 63 letters",
        id="an annotation of the Service with a key that none has",
    ),
    pytest.param(
        "spec.serving.pod.topologySpreadConstraints",
        [{"topologyKey": "not a key"}],
        "spec.serving.pod.topologySpreadConstraints[0].topologyKey",
        id="a topology that no label names",
    ),
    pytest.param(
        "spec.serving.pod.topologySpreadConstraints",
        [{"topologyKey": "zone"}, {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "Two constraints must not have the same topologyKey and whenUnsatisfiable.",
        id="a constraint twice",
    ),
    pytest.param(
        "spec.serving.pod.serviceAccountName",
        "a..b",
        "spec.serving.pod.serviceAccountName",
        id="an account that no ServiceAccount is named",
    ),
    pytest.param(
        "spec.build.inputs.0.source.configMap.key",
        "..novels.tsv",
        'key must be the name of an entry; none is "." or begins with "..".',
        id="a key that no ConfigMap has",
    ),
    pytest.param(
        "metadata.name",
        "a" * 41,
        "metadata.name must have at most 40 characters, start with a letter, and hold only lower-case "
        "letters, digits and inner dashes: the model's Service has this name and its other objects begin "
        "with it.",
        id="a name too long",
    ),
    pytest.param(
        "metadata.name",
        "7-novels",
        "metadata.name must have at most 40 characters, start with a letter",
        id="a name that no Service can have",
    ),
]


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED)
def test_the_api_server_refuses_it_with_a_sentence(
    control_plane: ControlPlane, namespace: str, path: str, value: object, sentence: str
) -> None:
    with pytest.raises(CommandFailed) as refused:
        control_plane.apply(changed(make_model(namespace), path, value))

    assert sentence in " ".join(refused.value.output.split())
    assert control_plane.api.get(MODELS.format(namespace))["items"] == []


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        pytest.param(
            {"selector": {"a b": "c"}}, "Every key must be a name of at most 63 letters", id="a key"
        ),
        pytest.param({"selector": {"a": "b c"}}, "spec.nodes.selector.a", id="a value"),
        pytest.param({"tolerations": [{"key": "a b"}]}, "spec.nodes.tolerations[0].key", id="a taint's key"),
        pytest.param({"tolerations": [{}]}, "operator must be Exists where key is empty.", id="no key"),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "l4"}]},
            "value must be empty where operator is Exists.",
            id="a value that nobody reads",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "value": "l4", "tolerationSeconds": 5}]},
            "tolerationSeconds is for the effect NoExecute only.",
            id="seconds of another effect",
        ),
    ],
)
def test_a_pool_with_nodes_that_no_pod_could_ask_for_is_refused(
    control_plane: ControlPlane, nodes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CommandFailed) as refused:
        control_plane.apply(
            {
                "apiVersion": "nlp-operator.io/v1alpha1",
                "kind": "DevicePool",
                "metadata": {"name": "odd"},
                "spec": {
                    "nodes": nodes,
                    "device": {"type": "Cpu", "cpu": {"cores": 1}},
                    "memoryMebibytes": 1024,
                    "maxDevices": 1,
                },
            }
        )

    assert sentence in " ".join(refused.value.output.split())


def test_every_invalid_field_is_told_at_once(control_plane: ControlPlane, namespace: str) -> None:
    model = changed(make_model(namespace), "spec.serving.maxBatchSize", -4)
    model = changed(model, "spec.build.architecture", "Perceptron")

    with pytest.raises(CommandFailed) as refused:
        control_plane.apply(model)

    assert "spec.serving.maxBatchSize" in refused.value.output
    assert "spec.build.architecture" in refused.value.output


def test_an_unknown_field_is_told_and_not_stored(control_plane: ControlPlane, namespace: str) -> None:
    """A typo such as `maxBatchsize` would otherwise be dropped silently, and the default used."""
    model = changed(make_model(namespace), "spec.serving.maxBatchsize", 8)

    with pytest.raises(CommandFailed) as refused:
        control_plane.apply(model)

    # Said by the server, or by kubectl while it does not know yet that the server can.
    by_server = 'unknown field "spec.serving.maxBatchsize"'
    by_kubectl = 'NLPModel.spec.serving): unknown field "maxBatchsize"'
    assert by_server in refused.value.output or by_kubectl in refused.value.output


def test_the_longest_name_is_taken(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply(make_model(namespace, "a" * 40))

    (stored,) = control_plane.api.get(MODELS.format(namespace))["items"]
    assert stored["metadata"]["name"] == "a" * 40


def test_a_model_that_serves_is_not_changed_by_a_refused_edit(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.apply(make_model(namespace))
    before = control_plane.api.get(f"{MODELS.format(namespace)}/novels")

    with pytest.raises(CommandFailed):
        control_plane.apply(changed(make_model(namespace), "spec.serving.maxBatchSize", -1))

    after = control_plane.api.get(f"{MODELS.format(namespace)}/novels")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
