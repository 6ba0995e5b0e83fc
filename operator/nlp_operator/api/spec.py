"""The spec of NLPModel and DevicePool, typed. The schema in crds/ is the original; a test compares the two
field by field.

What the API server accepted a release ago may not fit any more, so every stored object is parsed again
here: `parse_model` and `parse_pool` give the spec or raise `SpecInvalid` with a sentence for every invalid
field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from nlp_operator.api.objects import Obj
from nlp_operator.errors import SpecInvalid

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY_NAME = r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?"
DNS_NAME = f"^{_SUBDOMAIN}$"
MODEL_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
OPTIONAL_DNS_NAME = f"^({_SUBDOMAIN})?$"
KEY = f"^({_SUBDOMAIN}/)?{_KEY_NAME}$"
"""Of a label, an annotation, a taint: what the API server takes in the objects we make of it."""
OPTIONAL_KEY = f"^(({_SUBDOMAIN}/)?{_KEY_NAME})?$"
RESOURCE_NAME = f"^{_SUBDOMAIN}/{_KEY_NAME}$"
LABEL_VALUE = r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_NAME)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=MODEL_NAME)]
PoolName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
SignedDecimal = Annotated[str, StringConstraints(max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Quantity = Annotated[int | Annotated[str, StringConstraints(max_length=32, pattern=QUANTITY)], Field()]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]
LongText = Annotated[str, StringConstraints(max_length=4096)]


class _Part(BaseModel):
    """Unknown fields are dropped, as the API server does: a newer release may have written them."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", strict=True
    )
    cores_only: ClassVar[bool] = False
    """Of an architecture: what it serves computes nothing on another device, so a server there refuses it."""


# --- build ---


Tokenizer = Literal["Whitespace", "Words", "KoreanMorphemes"]
CaseFolding = Literal["Preserve", "Lower"]
Column = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^\S+$")]
LearningRate = Annotated[str, StringConstraints(max_length=16, pattern=r"^(0\.[0-9]+|[1-9](\.[0-9]+)?|10)$")]
Dropout = Annotated[str, StringConstraints(max_length=16, pattern=r"^0(\.[0-9]+)?$")]
Vocabulary = list[Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^\S+$")]] | None


class TermDocumentMatrix(_Part):
    weighting: Literal["Count", "TermFrequency", "TfIdf"] = "Count"
    tokenizer: Tokenizer = "Words"
    case_folding: CaseFolding = "Preserve"
    vocabulary: Vocabulary = Field(None, max_length=400)
    min_documents: int = Field(1, ge=1, le=1_000_000)
    max_terms: int = Field(50_000, ge=1, le=1_000_000)


class SentenceEncoder(_Part):
    pooling: Literal["Auto", "Mean", "Cls"] = "Auto"
    max_tokens: int = Field(0, ge=0, le=8192)
    top_k: int = Field(5, ge=1, le=1000)


class OneHot(_Part):
    cores_only = True
    tokenizer: Tokenizer = "Words"
    case_folding: CaseFolding = "Preserve"
    text_column: Column = "text"
    vocabulary: Vocabulary = Field(None, max_length=400)
    min_texts: int = Field(1, ge=1, le=1_000_000)
    max_terms: int = Field(50_000, ge=1, le=1_000_000)
    unknown_words: Literal["Zero", "Refuse"] = "Zero"


class Word2Vec(_Part):
    model: Literal["SkipGram", "Cbow"] = "SkipGram"
    tokenizer: Tokenizer = "Words"
    case_folding: CaseFolding = "Preserve"
    text_column: Column = "text"
    embedding_dim: int = Field(100, ge=2, le=1000)
    window: int = Field(5, ge=1, le=20)
    negative_samples: int = Field(5, ge=1, le=50)
    min_count: int = Field(5, ge=1, le=1_000_000)
    max_terms: int = Field(200_000, ge=2, le=3_000_000)
    subsample_threshold: Annotated[str, StringConstraints(max_length=16, pattern=r"^(0(\.[0-9]+)?|1)$")] = (
        "0.001"
    )
    epochs: int = Field(5, ge=1, le=1000)
    learning_rate: LearningRate = "0.025"
    seed: int = Field(1, ge=0, le=2_147_483_647)
    workers: int = Field(1, ge=1, le=64)


class TextClassifier(_Part):
    embeddings: Literal["Random", "Frozen", "FineTuned"] = "Random"
    tokenizer: Tokenizer = "Words"
    case_folding: CaseFolding = "Preserve"
    text_column: Column = "text"
    label_column: Column = "label"
    embedding_dim: int = Field(100, ge=2, le=1000)
    filters: int = Field(100, ge=1, le=1000)
    dropout: Dropout = "0.5"
    min_count: int = Field(2, ge=1, le=1_000_000)
    max_tokens: int = Field(64, ge=5, le=4096)
    epochs: int = Field(5, ge=1, le=1000)
    batch_size: int = Field(50, ge=1, le=4096)
    learning_rate: LearningRate = "0.001"
    seed: int = Field(1, ge=0, le=2_147_483_647)


class Seq2SeqAttention(_Part):
    attention: Literal["Luong", "Bahdanau", "None"] = "Luong"
    score: Literal["Dot", "General", "Concat"] = "General"
    source_column: Column = "source"
    target_column: Column = "target"
    vocab_size: int = Field(8000, ge=16, le=64_000)
    embedding_dim: int = Field(256, ge=2, le=1024)
    hidden_dim: int = Field(256, ge=2, le=2048, multiple_of=2)
    dropout: Dropout = "0.2"
    max_tokens: int = Field(64, ge=2, le=512)
    epochs: int = Field(10, ge=1, le=1000)
    batch_size: int = Field(64, ge=1, le=4096)
    learning_rate: LearningRate = "0.003"
    seed: int = Field(1, ge=0, le=2_147_483_647)


class Transformer(_Part):
    source_column: Column = "source"
    target_column: Column = "target"
    vocab_size: int = Field(8000, ge=16, le=64_000)
    hidden_dim: int = Field(256, ge=2, le=1024, multiple_of=2)
    feed_forward_dim: int = Field(1024, ge=2, le=4096)
    num_layers: int = Field(3, ge=1, le=12)
    num_heads: int = Field(4, ge=1, le=16)
    dropout: Dropout = "0.1"
    label_smoothing: Dropout = "0.1"
    max_tokens: int = Field(64, ge=2, le=512)
    epochs: int = Field(10, ge=1, le=1000)
    batch_size: int = Field(64, ge=1, le=4096)
    learning_rate: LearningRate = "0.001"
    warm_up: Dropout = "0.1"
    seed: int = Field(1, ge=0, le=2_147_483_647)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden_dim % self.num_heads:
            raise ValueError("hiddenDim must be a multiple of numHeads.")
        return self


class HuggingFace(_Part):
    task: Literal["SequenceClassification", "TokenClassification", "Translation"]
    max_tokens: int = Field(0, ge=0, le=8192)
    long_texts: Literal["Refuse", "Truncate"] = "Refuse"
    prefix: Annotated[str, StringConstraints(max_length=256)] = ""

    @model_validator(mode="after")
    def _only_a_translator_is_told_what_to_do(self) -> Self:
        if self.prefix and self.task != "Translation":
            raise ValueError("prefix is for the task Translation only.")
        return self


class ClaimSource(_Part):
    claim_name: ObjectName
    path: Annotated[str, StringConstraints(max_length=1024)] = ""

    @model_validator(mode="after")
    def _path_stays_inside(self) -> Self:
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(
                f'path is {self.path!r}; it must be relative to the claim\'s root and must not contain "..".'
            )
        return self


class ConfigMapSource(_Part):
    name: ObjectName
    key: Annotated[str, StringConstraints(max_length=253, pattern=r"^[-._a-zA-Z0-9]*$")] = ""

    @model_validator(mode="after")
    def _key_is_a_file_name(self) -> Self:
        if self.key == "." or self.key.startswith(".."):
            raise ValueError(
                f'key is {self.key!r}; it must be the name of an entry, and none is "." or begins with "..".'
            )
        return self


class ModelSource(_Part):
    """The artifact of another NLPModel of the namespace: transfer."""

    name: ModelName


class S3Source(_Part):
    bucket: Annotated[
        str, StringConstraints(min_length=3, max_length=63, pattern=r"^[a-z0-9][-.a-z0-9]*[a-z0-9]$")
    ]
    key: Annotated[str, StringConstraints(max_length=1024)] = ""
    region: Annotated[str, StringConstraints(max_length=64, pattern=r"^([a-z0-9][-a-z0-9]*)?$")] = ""
    endpoint: Annotated[
        str, StringConstraints(max_length=261, pattern=r"^(https?://[-.a-zA-Z0-9]+(:[0-9]{1,5})?/?)?$")
    ] = ""


class HttpsSource(_Part):
    url: Annotated[
        str, StringConstraints(max_length=2048, pattern=r"^https://[-.a-zA-Z0-9]+(:[0-9]{1,5})?/[^\s#]+$")
    ]


class HuggingFaceSource(_Part):
    repository: Annotated[
        str,
        StringConstraints(
            max_length=128, pattern=r"^[a-zA-Z0-9][-._a-zA-Z0-9]*(/[a-zA-Z0-9][-._a-zA-Z0-9]*)?$"
        ),
    ]
    revision: Annotated[str, StringConstraints(max_length=40)]
    include: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] = Field(
        default_factory=list, max_length=32
    )

    @model_validator(mode="after")
    def _revision_is_a_commit(self) -> Self:
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"revision is {self.revision!r}; it must be a whole commit (40 hex digits), because a branch "
                "or tag moves."
            )
        return self


class OciSource(_Part):
    reference: Annotated[
        str,
        StringConstraints(
            max_length=512, pattern=r"^[-.a-zA-Z0-9]+(:[0-9]{1,5})?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)+$"
        ),
    ]
    digest: Annotated[str, StringConstraints(max_length=71)]

    @model_validator(mode="after")
    def _digest_is_one(self) -> Self:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", self.digest):
            raise ValueError(
                f"digest is {self.digest!r}; it must be sha256: and 64 hex digits, those of the manifest, "
                "because a tag moves."
            )
        return self


class Source(_Part):
    persistent_volume_claim: ClaimSource | None = None
    config_map: ConfigMapSource | None = None
    s3: S3Source | None = None
    https: HttpsSource | None = None
    hugging_face: HuggingFaceSource | None = None
    oci: OciSource | None = None
    nlp_model: ModelSource | None = None

    @property
    def from_network(self) -> bool:
        return any(one is not None for one in (self.s3, self.https, self.hugging_face, self.oci))

    @property
    def mounted(self) -> bool:
        return self.persistent_volume_claim is not None or self.config_map is not None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            members = [to_camel(name) for name in type(self).model_fields]
            raise ValueError(f"Exactly one of {', '.join(members[:-1])} and {members[-1]} must be set.")
        return self


class Input(_Part):
    name: Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=DNS_LABEL)]
    source: Source
    sha256: Annotated[str, StringConstraints(max_length=64, pattern=r"^([0-9a-f]{64})?$")] = ""
    secret_name: Annotated[str, StringConstraints(max_length=253, pattern=OPTIONAL_DNS_NAME)] = ""

    @model_validator(mode="after")
    def _bytes_are_pinned_where_nothing_else_does(self) -> Self:
        if self.source.https is not None and not self.sha256:
            raise ValueError("sha256 must be set for an https source: a web server may give something else.")
        s3 = self.source.s3
        if s3 is not None and s3.endpoint.startswith("http://") and not self.sha256:
            raise ValueError("sha256 must be set when the endpoint of an s3 source is http://, without TLS.")
        if self.secret_name and not self.source.from_network:
            raise ValueError("secretName is used only by s3, https, huggingFace and oci; remove it.")
        return self


class QualityBound(_Part):
    metric: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-zA-Z][a-zA-Z0-9]*$")]
    at_least: SignedDecimal | None = None
    at_most: SignedDecimal | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("Exactly one of atLeast and atMost must be set.")
        return self


class Fidelity(_Part):
    metric: Literal["cosine"]
    at_least: Annotated[str, StringConstraints(max_length=16, pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$")]


class Export(_Part):
    precision: Literal["Auto", "Float32", "Int8"] = "Auto"
    fidelity: Fidelity | None = None

    @model_validator(mode="after")
    def _lossy_only_within_a_fidelity(self) -> Self:
        if self.precision == "Int8" and self.fidelity is None:
            raise ValueError("fidelity must be set when precision is Int8.")
        return self


class Resources(_Part):
    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=3)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=3)

    @model_validator(mode="after")
    def _no_devices(self) -> Self:
        refused = sorted((set(self.requests) | set(self.limits)) - {"cpu", "memory", "ephemeral-storage"})
        if refused:
            raise ValueError(
                f"{', '.join(refused)} cannot be set here; only cpu, memory and ephemeral-storage can."
            )
        return self


class SecretName(_Part):
    name: ObjectName


class BuildPod(_Part):
    resources: Resources | None = None
    deadline_seconds: int = Field(3600, ge=10, le=604_800)
    image_pull_secrets: list[SecretName] = Field(default_factory=list, max_length=8)
    service_account_name: Annotated[str, StringConstraints(max_length=253, pattern=OPTIONAL_DNS_NAME)] = ""


class Outside(_Part):
    """Parameters of an architecture that is not ours: the schema's entry and its builder check them
    (docs/extending.md)."""

    model_config = ConfigDict(extra="allow")


class Build(_Part):
    model_config = ConfigDict(extra="allow")  # one of the rest is the member of an architecture from outside

    architecture: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    term_document_matrix: TermDocumentMatrix | None = None
    sentence_encoder: SentenceEncoder | None = None
    one_hot: OneHot | None = None
    word2_vec: Word2Vec | None = None
    text_classifier: TextClassifier | None = None
    seq2_seq_attention: Seq2SeqAttention | None = None
    transformer: Transformer | None = None
    hugging_face: HuggingFace | None = None
    inputs: list[Input] = Field(min_length=1, max_length=8)
    quality: list[QualityBound] = Field(default_factory=list, max_length=16)
    export: Export = Export()
    trigger: Annotated[str, StringConstraints(max_length=256)] = ""
    pod: BuildPod = BuildPod()

    @model_validator(mode="after")
    def _exactly_the_member_of_that_name(self) -> Self:
        if self.architecture not in self._members and self._outside is None:
            raise ValueError(
                f"{to_camel_name(self.architecture)} must be set: the architecture is {self.architecture}, "
                f"which is none of {', '.join(self._members)}."
            )
        for architecture, member in self._members.items():
            if (member is not None) != (architecture == self.architecture):
                raise ValueError(
                    f"{to_camel_name(architecture)} must be set exactly when the architecture is "
                    f"{architecture}."
                )
        names = [one.name for one in self.inputs]
        if len(set(names)) != len(names):
            raise ValueError("Two inputs have the same name.")
        return self

    @model_validator(mode="after")
    def _what_only_a_sentence_encoder_has(self) -> Self:
        names = {one.name for one in self.inputs}
        if self.architecture == "SentenceEncoder":
            if "weights" not in names or names - {"weights", "candidates"}:
                raise ValueError("A SentenceEncoder takes the inputs weights (needed) and candidates.")
        elif self.export.precision == "Int8" or self.export.fidelity is not None:
            raise ValueError("export.precision Int8 and export.fidelity are for a SentenceEncoder only.")
        return self

    @model_validator(mode="after")
    def _what_word_vectors_are_made_of(self) -> Self:
        if self.architecture != "Word2Vec":
            return self
        names = {one.name for one in self.inputs}
        if names - {"corpus", "vectors", "analogies"} or ("corpus" in names) == ("vectors" in names):
            raise ValueError("Word2Vec takes the input corpus or vectors, and analogies if wanted.")
        if "analogies" not in names and any(one.metric.startswith("analogy") for one in self.quality):
            raise ValueError("quality has a bound on analogies, and there is no input analogies.")
        return self

    @model_validator(mode="after")
    def _what_a_text_classifier_learns_from(self) -> Self:
        if self.text_classifier is None:
            return self
        names = {one.name for one in self.inputs}
        transfers = self.text_classifier.embeddings != "Random"
        if "train" not in names or names - {"train", "test", "vectors"} or transfers != ("vectors" in names):
            raise ValueError(
                "A TextClassifier takes the inputs train (needed) and test, and vectors exactly when its "
                "embeddings are Frozen or FineTuned."
            )
        return self

    @model_validator(mode="after")
    def _what_a_translator_learns_from(self) -> Self:
        names = {one.name for one in self.inputs}
        learns = self.seq2_seq_attention or self.transformer
        if learns is not None and ("train" not in names or names - {"train", "test"}):
            raise ValueError(f"{self.architecture} takes the inputs train (needed) and test.")
        return self

    @model_validator(mode="after")
    def _what_is_taken_from_a_folder(self) -> Self:
        names = {one.name for one in self.inputs}
        if self.hugging_face is not None and ("weights" not in names or names - {"weights", "test"}):
            raise ValueError("HuggingFace takes the inputs weights (needed) and test.")
        return self

    @property
    def _members(self) -> dict[str, _Part | None]:
        return {
            "TermDocumentMatrix": self.term_document_matrix,
            "SentenceEncoder": self.sentence_encoder,
            "OneHot": self.one_hot,
            "Word2Vec": self.word2_vec,
            "TextClassifier": self.text_classifier,
            "Seq2SeqAttention": self.seq2_seq_attention,
            "Transformer": self.transformer,
            "HuggingFace": self.hugging_face,
        }

    @property
    def _outside(self) -> Outside | None:
        """The member of an architecture that is not ours, as it was given."""
        member = (self.model_extra or {}).get(to_camel_name(self.architecture))
        return Outside.model_validate(member) if isinstance(member, dict) else None

    @property
    def parameters(self) -> _Part:
        """The member the architecture names."""
        member = self._members.get(self.architecture) or self._outside
        assert member is not None, "validated above"
        return member


def to_camel_name(architecture: str) -> str:
    """`TermDocumentMatrix` is set in the member `termDocumentMatrix`."""
    return architecture[0].lower() + architecture[1:]


# --- serving ---


class EnvVar(_Part):
    name: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: LongText = ""

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        if self.name.startswith("NLP_"):
            raise ValueError(f"name is {self.name!r}; names that start with NLP_ belong to the operator.")
        return self


class TopologySpread(_Part):
    max_skew: int = Field(1, ge=1, le=1000)
    topology_key: Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=KEY)]
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = "ScheduleAnyway"


OUR_LABELS = ("nlp-operator.io/", "app.kubernetes.io/")
OUR_ANNOTATIONS = ("nlp-operator.io/",)


def _refuse_odd(field: str, keys: Iterable[str]) -> None:
    odd = sorted(key for key in keys if not re.fullmatch(KEY, key))
    if odd:
        raise ValueError(
            f"{field} has {', '.join(map(repr, odd))}; a key is a name of at most 63 letters, digits, "
            "dashes, dots and underscores, and before it may stand a DNS name and a slash."
        )


def _refuse_ours(field: str, keys: Iterable[str], ours: tuple[str, ...]) -> None:
    taken = sorted(key for key in keys if key.startswith(ours))
    if taken:
        raise ValueError(
            f"{field} has {', '.join(taken)}; keys that start with {' or '.join(ours)} belong to "
            "the operator."
        )


class ServerPod(_Part):
    resources: Resources | None = None
    env: list[EnvVar] = Field(default_factory=list, max_length=32)
    labels: dict[str, LabelValue] = Field(default_factory=dict, max_length=16)
    annotations: dict[str, LongText] = Field(default_factory=dict, max_length=16)
    image_pull_secrets: list[SecretName] = Field(default_factory=list, max_length=8)
    service_account_name: Annotated[str, StringConstraints(max_length=253, pattern=OPTIONAL_DNS_NAME)] = ""
    topology_spread_constraints: list[TopologySpread] = Field(default_factory=list, max_length=4)

    @model_validator(mode="after")
    def _keys_are_the_users(self) -> Self:
        _refuse_odd("labels", self.labels)
        _refuse_odd("annotations", self.annotations)
        _refuse_ours("labels", self.labels, OUR_LABELS)
        _refuse_ours("annotations", self.annotations, OUR_ANNOTATIONS)
        return self

    @model_validator(mode="after")
    def _spread_once_in_each_way(self) -> Self:
        ways = [(one.topology_key, one.when_unsatisfiable) for one in self.topology_spread_constraints]
        if len(set(ways)) != len(ways):
            raise ValueError("Two topologySpreadConstraints have the same topologyKey and whenUnsatisfiable.")
        return self


class ServiceShape(_Part):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    annotations: dict[str, LongText] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _keys_are_the_users(self) -> Self:
        _refuse_odd("annotations", self.annotations)
        _refuse_ours("annotations", self.annotations, OUR_ANNOTATIONS)
        return self


class Serving(_Part):
    isolation: Literal["Dedicated", "Shared"] = "Dedicated"
    max_batch_size: int = Field(32, ge=1, le=4096)
    responses: Literal["Whole", "Streamed"] = "Whole"
    memory_mebibytes: int = Field(0, ge=0, le=16_777_216)
    devices_per_replica: int = Field(1, ge=1, le=16)
    pod: ServerPod = ServerPod()
    service: ServiceShape = ServiceShape()


class PlacementWish(_Part):
    pool_names: list[PoolName] = Field(default_factory=list, max_length=16)
    spot_percent: int = Field(100, ge=0, le=100)
    min_pools: int = Field(1, ge=1, le=16)


class LatencyTarget(_Part):
    quantile: Annotated[str, StringConstraints(max_length=8, pattern=r"^0\.[0-9]{1,5}$")] = "0.95"
    milliseconds: int = Field(ge=1, le=600_000)


class Scaling(_Part):
    mode: Literal["Automatic", "Advisory", "External"] = "Automatic"
    min_replicas: int = Field(1, ge=0, le=1000)
    max_replicas: int | None = Field(None, ge=1, le=1000)
    latency_target: LatencyTarget | None = None
    priority: int = Field(100, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(
                f"maxReplicas is {self.max_replicas}; it must not be below minReplicas ({self.min_replicas})."
            )
        return self

    @property
    def highest(self) -> int:
        """Replicas that it may have; without `maxReplicas` nothing allows more than `minReplicas`."""
        return self.lowest if self.max_replicas is None else self.max_replicas

    @property
    def lowest(self) -> int:
        """Replicas of a model that is awake: `minReplicas` 0 says that it may sleep (planning/sleep.py)."""
        return max(self.min_replicas, 1)


class Rollout(_Part):
    bake_seconds: int = Field(60, ge=0, le=86400)
    allow_disruption: bool = False


class ModelSpec(_Part):
    build: Build
    serving: Serving = Serving()
    placement: PlacementWish = PlacementWish()
    scaling: Scaling = Scaling()
    replicas: int = Field(1, ge=0, le=1000)
    rollout: Rollout = Rollout()
    suspend: bool = False

    @model_validator(mode="after")
    def _replicas_only_with_external(self) -> Self:
        if self.replicas != 1 and self.scaling.mode != "External":
            raise ValueError(
                "replicas is used only when scaling.mode is External; remove it or change the mode."
            )
        return self

    @model_validator(mode="after")
    def _spread_only_with_dedicated(self) -> Self:
        if self.placement.min_pools != 1 and self.serving.isolation != "Dedicated":
            raise ValueError(
                f"placement.minPools is {self.placement.min_pools}; it is of Dedicated models: a Shared one "
                "has all its replicas in one pool."
            )
        return self


# --- pools ---


class Toleration(_Part):
    key: Annotated[str, StringConstraints(max_length=317, pattern=OPTIONAL_KEY)] = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = Field(None, ge=0, le=31_536_000)

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError("operator must be Exists where key is empty.")
        if self.value and self.operator == "Exists":
            raise ValueError(f"value is {self.value!r}; it must be empty where operator is Exists.")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds is for the effect NoExecute only.")
        return self


class PoolNodes(_Part):
    selector: dict[str, LabelValue] = Field(default_factory=dict, max_length=16)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    runtime_class_name: Annotated[str, StringConstraints(max_length=253, pattern=OPTIONAL_DNS_NAME)] = ""

    @model_validator(mode="after")
    def _keys_can_be_labels(self) -> Self:
        _refuse_odd("selector", self.selector)
        return self


class CpuDevice(_Part):
    cores: Annotated[
        int | Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]+(\.[0-9]{1,3}|m)?$")], Field()
    ]

    @model_validator(mode="after")
    def _more_than_nothing(self) -> Self:
        if self.millicores <= 0:
            raise ValueError(f"cores is {self.cores!r}; it must be more than 0.")
        return self

    @property
    def millicores(self) -> int:
        text = str(self.cores)
        return int(text[:-1]) if text.endswith("m") else int(Decimal(text) * 1000)


class ExtendedResource(_Part):
    name: Annotated[
        str,
        StringConstraints(
            min_length=3,
            max_length=253,
            pattern=RESOURCE_NAME,
        ),
    ]


class Device(_Part):
    type: Literal["Cpu", "ExtendedResource"]
    cpu: CpuDevice | None = None
    extended_resource: ExtendedResource | None = None

    @model_validator(mode="after")
    def _exactly_the_member_of_that_name(self) -> Self:
        for kind, member in (("Cpu", self.cpu), ("ExtendedResource", self.extended_resource)):
            if (member is not None) != (kind == self.type):
                raise ValueError(f"{to_camel_name(kind)} must be set exactly when the type is {kind}.")
        return self


class PoolNamespace(_Part):
    name: PoolName
    max_devices: int | None = Field(None, ge=0, le=100_000)
    highest_priority: int | None = Field(None, ge=0, le=1_000_000)


class PoolSpec(_Part):
    nodes: PoolNodes = PoolNodes()
    device: Device
    memory_mebibytes: int = Field(0, ge=0, le=16_777_216)
    """0: not said, and not known from the nodes yet."""
    sharing: Literal["Exclusive", "TimeSlicing", "MPS", "MIG"] = "Exclusive"
    price_per_hour: Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")] = "0"
    max_devices: int = Field(ge=0, le=100_000)
    provisioning: Literal["Static", "OnDemand"] = "Static"
    provision_timeout_seconds: int = Field(900, ge=10, le=86_400)
    spot: Literal["Never", "Always", "Mixed"] = "Never"
    namespaces: list[PoolNamespace] = Field(default_factory=list, max_length=128)

    @model_validator(mode="after")
    def _memory_is_said_where_no_node_can(self) -> Self:
        if 0 < self.memory_mebibytes < 64:
            raise ValueError("memoryMebibytes must be 0 or at least 64.")
        if self.device.cpu is not None and not self.memory_mebibytes:
            raise ValueError("memoryMebibytes is missing, and no node can say it of a slot of cores.")
        return self


# --- parsing ---


T = TypeVar("T", bound=BaseModel)


def parse_model(model: Obj) -> ModelSpec:
    """Raises SpecInvalid with a sentence for every invalid field."""
    return _parse(ModelSpec, model)


def parse_pool(pool: Obj) -> PoolSpec:
    """With the memory that its nodes say, where the spec says none. Raises SpecInvalid with a sentence for
    every invalid field."""
    spec = _parse(PoolSpec, pool)
    status = pool.get("status")
    found = status.get("memoryMebibytes") if isinstance(status, dict) else None
    if spec.memory_mebibytes or not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        return spec
    return spec.model_copy(update={"memory_mebibytes": found})


SPECS_KEPT = 4096
"""Parsed specs that are remembered, by their text; some 6 kB each. A pass over an unchanged model then parses
nothing, which was a quarter of it."""


def _parse(shape: type[T], obj: Obj) -> T:
    try:
        # The members of a spec are frozen, and nobody changes the lists in them: one may be shared.
        return cast(T, _parsed(shape, json.dumps(obj.get("spec"))))
    except ValidationError as error:
        problems = tuple(dict.fromkeys(_sentence(detail) for detail in error.errors(include_url=False)))
        raise SpecInvalid(problems) from error


@lru_cache(maxsize=SPECS_KEPT)
def _parsed(shape: type[BaseModel], text: str) -> BaseModel:
    return shape.model_validate(_without_nulls(json.loads(text)))


def _without_nulls(value: Any) -> Any:
    """A null is a field that is not set, as in Kubernetes."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _sentence(detail: ErrorDetails) -> str:
    """`spec.serving.maxBatchSize is -4: input should be greater than or equal to 1.`"""
    where = _path(detail["loc"])
    if detail["type"] == "value_error":  # one of our own rules, already a sentence
        return f"{where}: {detail['ctx']['error']}"
    if detail["type"] == "missing":
        return f"{where} is missing."
    found = detail["input"]
    shown = repr(found) if isinstance(found, str | int | float | bool) else f"a {type(found).__name__}"
    return f"{where} is {shown[:80]}: {detail['msg'][0].lower()}{detail['msg'][1:]}."


def _path(location: tuple[int | str, ...]) -> str:
    """`("build", "inputs", 0, "name")` is `spec.build.inputs[0].name`."""
    # The members of "integer or string" come as steps of their own.
    steps = [
        step for step in location if step not in ("int", "str") and not str(step).startswith("constrained-")
    ]
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
