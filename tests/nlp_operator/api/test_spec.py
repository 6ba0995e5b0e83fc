from __future__ import annotations

from typing import Any

import pytest

from nlp_operator.api.spec import parse_model, parse_pool
from nlp_operator.errors import SpecInvalid
from tests.nlp_operator.making import (
    make_classifier,
    make_encoder,
    make_hugging_face,
    make_model,
    make_outside,
    make_pool,
    make_transformer,
    make_translator,
    make_words,
)


def problems(model: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(SpecInvalid) as caught:
        parse_model(model)
    return caught.value.problems


CLAIM = {"persistentVolumeClaim": {"claimName": "datasets"}}
ONE_SOURCE = (
    "spec.build.inputs[0].source: Exactly one of persistentVolumeClaim, configMap, s3, https, huggingFace, "
    "oci and nlpModel must be set."
)


KEYS = (
    "a key is a name of at most 63 letters, digits, dashes, dots and underscores, and before it may stand a "
    "DNS name and a slash."
)


def with_source(source: Any) -> dict[str, Any]:
    return make_model(build_extra={"inputs": [{"name": "corpus", "source": source}]})


def named(name: str) -> dict[str, Any]:
    return {"name": name, "source": {"configMap": {"name": "words"}}}


CLASSIFIER_TAKES = (
    "A TextClassifier takes the inputs train (needed) and test, and vectors exactly when its embeddings are "
    "Frozen or FineTuned."
)

OURS = (
    "TermDocumentMatrix, SentenceEncoder, OneHot, Word2Vec, TextClassifier, Seq2SeqAttention, Transformer, "
    "HuggingFace"
)

TRANSLATOR_TAKES = "Seq2SeqAttention takes the inputs train (needed) and test."


INVALID = [
    pytest.param(
        make_translator(named("train"), named("pairs")), f"spec.build: {TRANSLATOR_TAKES}", id="others"
    ),
    pytest.param(
        make_translator(named("test")), f"spec.build: {TRANSLATOR_TAKES}", id="nothing to learn from"
    ),
    pytest.param(
        make_translator(named("train"), hiddenDim=255),
        "spec.build.seq2SeqAttention.hiddenDim is 255: input should be a multiple of 2.",
        id="a state that cannot be halved",
    ),
    pytest.param(
        make_transformer(named("train"), named("pairs")),
        "spec.build: Transformer takes the inputs train (needed) and test.",
        id="others for a Transformer",
    ),
    pytest.param(
        make_transformer(named("train"), hiddenDim=250),
        "spec.build.transformer: hiddenDim must be a multiple of numHeads.",
        id="heads that cannot share",
    ),
    pytest.param(
        make_hugging_face("Translation", named("weights"), named("train")),
        "spec.build: HuggingFace takes the inputs weights (needed) and test.",
        id="texts for a model that is trained",
    ),
    pytest.param(
        make_hugging_face("TokenClassification", named("weights"), prefix="say: "),
        "spec.build.huggingFace: prefix is for the task Translation only.",
        id="a prefix that nobody reads",
    ),
    pytest.param(
        make_model(build_extra={"architecture": "Perceptron"}),
        f"spec.build: perceptron must be set: the architecture is Perceptron, which is none of {OURS}.",
        id="unknown architecture",
    ),
    pytest.param(
        make_outside(build_extra={"ngramProfiles": None}),
        f"spec.build: ngramProfiles must be set: the architecture is NgramProfiles, which is none of {OURS}.",
        id="an architecture from outside without its member",
    ),
    pytest.param(
        make_outside(build_extra={"oneHot": {}}),
        "spec.build: oneHot must be set exactly when the architecture is OneHot.",
        id="an architecture from outside with a member of ours",
    ),
    pytest.param(
        make_outside(build_extra={"architecture": "ngramProfiles"}),
        "spec.build.architecture is 'ngramProfiles': string should match pattern '^[A-Z][A-Za-z0-9]*$'.",
        id="an architecture in lower case",
    ),
    pytest.param(
        make_outside(build_extra={"export": {"fidelity": {"metric": "cosine", "atLeast": "0.98"}}}),
        "spec.build: export.precision Int8 and export.fidelity are for a SentenceEncoder only.",
        id="a fidelity of an architecture from outside",
    ),
    pytest.param(
        make_model(build_extra={"export": {"precision": "Int8"}}),
        "spec.build.export: fidelity must be set when precision is Int8.",
        id="lossy without a fidelity",
    ),
    pytest.param(
        make_model(build_extra={"export": {"fidelity": {"metric": "cosine", "atLeast": "0.98"}}}),
        "spec.build: export.precision Int8 and export.fidelity are for a SentenceEncoder only.",
        id="a fidelity of what loses nothing",
    ),
    pytest.param(
        make_encoder(
            build_extra={"inputs": [{"name": "corpus", "source": {"configMap": {"name": "novels"}}}]}
        ),
        "spec.build: A SentenceEncoder takes the inputs weights (needed) and candidates.",
        id="an encoder without weights",
    ),
    pytest.param(
        make_words(build_extra={"inputs": [named("corpus"), named("vectors")]}),
        "spec.build: Word2Vec takes the input corpus or vectors, and analogies if wanted.",
        id="word vectors of two kinds",
    ),
    pytest.param(
        make_words(build_extra={"inputs": [named("corpus"), named("texts")]}),
        "spec.build: Word2Vec takes the input corpus or vectors, and analogies if wanted.",
        id="word vectors of something else",
    ),
    pytest.param(
        make_words(build_extra={"quality": [{"metric": "analogyTop1", "atLeast": "0.25"}]}),
        "spec.build: quality has a bound on analogies, and there is no input analogies.",
        id="a bound on analogies without any",
    ),
    pytest.param(
        make_words(build_extra={"word2Vec": {"learningRate": "11"}}),
        "spec.build.word2Vec.learningRate is '11': string should match pattern "
        "'^(0\\.[0-9]+|[1-9](\\.[0-9]+)?|10)$'.",
        id="a learning rate above its bound",
    ),
    pytest.param(
        make_classifier("Frozen", named("train")),
        "spec.build: " + CLASSIFIER_TAKES,
        id="a classifier without the vectors it needs",
    ),
    pytest.param(
        make_classifier("Random", named("train"), named("vectors")),
        "spec.build: " + CLASSIFIER_TAKES,
        id="a classifier with vectors it does not need",
    ),
    pytest.param(
        make_classifier("Random", named("test")),
        "spec.build: " + CLASSIFIER_TAKES,
        id="a classifier without texts",
    ),
    pytest.param(
        make_model(build_extra={"oneHot": {}}),
        "spec.build: oneHot must be set exactly when the architecture is OneHot.",
        id="two members set",
    ),
    pytest.param(
        make_model(build_extra={"termDocumentMatrix": None}),
        "spec.build: termDocumentMatrix must be set exactly when the architecture is TermDocumentMatrix.",
        id="no member set",
    ),
    pytest.param(
        make_model(serving={"maxBatchSize": -4}),
        "spec.serving.maxBatchSize is -4: input should be greater than or equal to 1.",
        id="below a bound",
    ),
    pytest.param(
        make_model(suspend="yes"), "spec.suspend is 'yes': input should be a valid boolean.", id="wrong type"
    ),
    pytest.param(
        make_model(replicas=3),
        "spec: replicas is used only when scaling.mode is External; remove it or change the mode.",
        id="replicas without external",
    ),
    pytest.param(
        make_model(placement={"minPools": 2}, serving={"isolation": "Shared"}),
        "spec: placement.minPools is 2; it is of Dedicated models: a Shared one has all its replicas in one "
        "pool.",
        id="a shared model spread over pools",
    ),
    pytest.param(
        make_model(scaling={"minReplicas": 3, "maxReplicas": 2}),
        "spec.scaling: maxReplicas is 2; it must not be below minReplicas (3).",
        id="bounds the wrong way round",
    ),
    pytest.param(
        with_source({}),
        ONE_SOURCE,
        id="no source",
    ),
    pytest.param(
        with_source({**CLAIM, "configMap": {"name": "x"}}),
        ONE_SOURCE,
        id="two sources",
    ),
    pytest.param(
        with_source({"persistentVolumeClaim": {"claimName": "datasets", "path": "a/../../b"}}),
        "spec.build.inputs[0].source.persistentVolumeClaim: path is 'a/../../b'; it must be relative to the "
        'claim\'s root and must not contain "..".',
        id="path out of the claim",
    ),
    pytest.param(
        with_source({"persistentVolumeClaim": {}}),
        "spec.build.inputs[0].source.persistentVolumeClaim.claimName is missing.",
        id="missing field",
    ),
    pytest.param(
        make_model(build_extra={"quality": [{"metric": "documents"}]}),
        "spec.build.quality[0]: Exactly one of atLeast and atMost must be set.",
        id="a bound without a bound",
    ),
    pytest.param(
        make_model(serving={"pod": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}),
        "spec.serving.pod.resources: nvidia.com/gpu cannot be set here; only cpu, memory and "
        "ephemeral-storage can.",
        id="a device asked for by the user",
    ),
    pytest.param(
        make_model(serving={"pod": {"env": [{"name": "NLP_STORE"}]}}),
        "spec.serving.pod.env[0]: name is 'NLP_STORE'; names that start with NLP_ belong to the operator.",
        id="a variable of ours",
    ),
    pytest.param(
        make_model(serving={"pod": {"labels": {"nlp-operator.io/model": "other"}}}),
        "spec.serving.pod: labels has nlp-operator.io/model; keys that start with nlp-operator.io/ or "
        "app.kubernetes.io/ belong to the operator.",
        id="a label of ours",
    ),
    pytest.param(
        make_model(serving={"pod": {"labels": {"team": "not a valid value!"}}}),
        "spec.serving.pod.labels.team is 'not a valid value!': string should match pattern "
        "'^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$'.",
        id="a label with a value that no label has",
    ),
    pytest.param(
        make_model(serving={"pod": {"labels": {"my team": "nlp"}}}),
        f"spec.serving.pod: labels has 'my team'; {KEYS}",
        id="a label with a key that no label has",
    ),
    pytest.param(
        make_model(serving={"pod": {"annotations": {"a/b/c": ""}}}),
        f"spec.serving.pod: annotations has 'a/b/c'; {KEYS}",
        id="an annotation of the pods",
    ),
    pytest.param(
        make_model(serving={"service": {"annotations": {"-a": ""}}}),
        f"spec.serving.service: annotations has '-a'; {KEYS}",
        id="an annotation of the Service",
    ),
    pytest.param(
        make_model(serving={"pod": {"topologySpreadConstraints": [{"topologyKey": "zone"}] * 2}}),
        "spec.serving.pod: Two topologySpreadConstraints have the same topologyKey and whenUnsatisfiable.",
        id="a constraint twice",
    ),
    pytest.param(
        with_source({"configMap": {"name": "novels", "key": "..novels.tsv"}}),
        "spec.build.inputs[0].source.configMap: key is '..novels.tsv'; it must be the name of an entry, and "
        'none is "." or begins with "..".',
        id="a key that no ConfigMap has",
    ),
]


@pytest.mark.parametrize(("model", "sentence"), INVALID)
def test_invalid_field_is_told_in_a_sentence(model: dict[str, Any], sentence: str) -> None:
    assert problems(model) == (sentence,)


def test_all_invalid_fields_are_told_at_once() -> None:
    model = make_model(serving={"maxBatchSize": -4, "isolation": "Alone"}, scaling={"priority": -1})
    found = problems(model)
    assert [sentence.split(" is ")[0] for sentence in found] == [
        "spec.serving.isolation",
        "spec.serving.maxBatchSize",
        "spec.scaling.priority",
    ]


@pytest.mark.parametrize("spec", [None, [], "text", 3, {}], ids=["null", "list", "text", "number", "empty"])
def test_spec_of_another_shape_is_invalid_and_no_crash(spec: Any) -> None:
    assert problems({**make_model(), "spec": spec})


def test_defaults_of_the_schema_hold_without_the_server() -> None:
    spec = parse_model(make_model())
    assert spec.serving.max_batch_size == 32
    assert spec.scaling.mode == "Automatic"
    assert spec.build.pod.deadline_seconds == 3600
    assert spec.build.parameters.model_dump(by_alias=True, exclude_none=True) == {
        "weighting": "Count",
        "tokenizer": "Words",
        "caseFolding": "Preserve",
        "vocabulary": ["기차"],
        "minDocuments": 1,
        "maxTerms": 50_000,
    }


def test_parameters_of_an_architecture_from_outside_are_passed_on_as_they_are() -> None:
    spec = parse_model(make_outside(build_extra={"ngramProfiles": {"longest": 3, "of": [{"a": "b"}]}}))
    assert spec.build.parameters.model_dump(by_alias=True, exclude_none=True) == {
        "longest": 3,
        "of": [{"a": "b"}],
    }


def test_null_is_a_field_that_is_not_set() -> None:
    assert (
        parse_model(make_model(serving=None, scaling={"latencyTarget": None})).scaling.latency_target is None
    )


def test_unknown_field_of_a_newer_release_is_dropped() -> None:
    assert parse_model(make_model(rollout={"bakeSeconds": 60})).rollout.allow_disruption is False


@pytest.mark.parametrize(
    ("cores", "millicores"),
    [
        pytest.param(2, 2000, id="integer"),
        pytest.param("500m", 500, id="milli"),
        pytest.param("1.5", 1500, id="decimal"),
    ],
)
def test_cores_are_read_as_a_quantity(cores: Any, millicores: int) -> None:
    pool = parse_pool(make_pool(device={"type": "Cpu", "cpu": {"cores": cores}}))
    assert pool.device.cpu is not None
    assert pool.device.cpu.millicores == millicores


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        pytest.param(
            {"type": "Cpu", "cpu": {"cores": "0"}},
            "spec.device.cpu: cores is '0'; it must be more than 0.",
            id="no cores",
        ),
        pytest.param(
            {"type": "ExtendedResource"},
            "spec.device: extendedResource must be set exactly when the type is ExtendedResource.",
            id="member missing",
        ),
        pytest.param(
            {"type": "ExtendedResource", "extendedResource": {"name": "gpu"}},
            "spec.device.extendedResource.name is 'gpu': string should match pattern "
            r"'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"
            r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$'.",
            id="no domain",
        ),
    ],
)
def test_invalid_device_is_told_in_a_sentence(device: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_pool(make_pool(device=device))
    assert caught.value.problems == (sentence,)


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        pytest.param({"selector": {"a b": "c"}}, f"spec.nodes: selector has 'a b'; {KEYS}", id="selector"),
        pytest.param(
            {"tolerations": [{}]},
            "spec.nodes.tolerations[0]: operator must be Exists where key is empty.",
            id="no key",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "l4"}]},
            "spec.nodes.tolerations[0]: value is 'l4'; it must be empty where operator is Exists.",
            id="a value that nobody reads",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "value": "l4", "tolerationSeconds": 5}]},
            "spec.nodes.tolerations[0]: tolerationSeconds is for the effect NoExecute only.",
            id="seconds of another effect",
        ),
    ],
)
def test_invalid_nodes_of_a_pool_are_told_in_a_sentence(nodes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_pool(make_pool(nodes=nodes))
    assert caught.value.problems == (sentence,)
