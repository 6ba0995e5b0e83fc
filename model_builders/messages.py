"""The JSON that goes into a Job and comes out of it (docs/architecture.md, section 3).

Requests are written by the operator, so a request that does not fit is a disagreement between two programs,
not a mistake of the user: it says `BuildFailed` and names the field.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from model_builders import VERSION as RELEASE
from model_builders.errors import JobError, Reason, TryAgain

VERSION = 1
MAX_RESULT_BYTES = 4096
"""The kubelet keeps this much of a termination message and cuts the rest in the middle of a character."""
MAX_METRICS = 5

SHA256 = re.compile(r"[0-9a-f]{64}")
OPTIONAL_SHA256 = re.compile(f"({SHA256.pattern})?")
INPUT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

ARTIFACT = "Artifact"
"""The kind of an input that is another model's artifact."""

SOURCES = ("path", "artifact", "s3", "https", "huggingFace", "oci")

Json = Mapping[str, object]


@dataclass(frozen=True)
class S3Source:
    """The members of a source have the names and meanings of the CRD's (docs/api/nlpmodel.md)."""

    bucket: str
    key: str = ""
    region: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class HttpsSource:
    url: str


@dataclass(frozen=True)
class HuggingFaceSource:
    repository: str
    revision: str
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class OciSource:
    reference: str
    digest: str


NetworkSource = S3Source | HttpsSource | HuggingFaceSource | OciSource


@dataclass(frozen=True)
class InputToFetch:
    name: str
    path: str
    """Where the operator mounted the source; empty for the others."""
    sha256: str
    """What the user pinned the input to; empty when not pinned."""
    artifact: str = ""
    """Digest of another model's artifact, which is in the store already."""
    network: NetworkSource | None = None
    credentials: str = ""
    """The folder in which the input's Secret is mounted; empty without one."""


@dataclass(frozen=True)
class FetchRequest:
    model: str
    deadline_seconds: int
    inputs: tuple[InputToFetch, ...]

    @property
    def names_digests(self) -> bool:
        """Whether a look into the store can spare anything before the inputs are read."""
        return any(one.sha256 or one.artifact for one in self.inputs)


@dataclass(frozen=True)
class InputOfBuild:
    name: str
    sha256: str
    kind: str = ""
    """ARTIFACT for another model's artifact; empty for what a fetch copied into the store."""

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "sha256": self.sha256, **_kind(self.kind)}


@dataclass(frozen=True)
class BuildRequest:
    model: str
    deadline_seconds: int
    key: str
    architecture: str
    parameters: Json
    quality: tuple[Json, ...]
    export: Json
    inputs: tuple[InputOfBuild, ...]
    repair: bool = False
    """Somebody found the artifact of this key damaged: what the store says of it is not believed."""

    @property
    def identity(self) -> str:
        """Whose checkpoints are taken up: another model may be built from the same at the same time, and
        another release trains otherwise."""
        return f"build {RELEASE} {self.model} {self.key}"


@dataclass(frozen=True)
class Recipe:
    """What is built, but for the inputs that it is built from."""

    architecture: str
    parameters: Json
    quality: tuple[Json, ...]
    export: Json

    def key(self, inputs: Sequence[InputOfBuild]) -> str:
        return build_key(self.architecture, self.parameters, self.quality, self.export, inputs)


@dataclass(frozen=True)
class FetchedInput:
    name: str
    sha256: str
    files: int
    bytes: int
    kind: str = ""
    """As in InputOfBuild."""

    def to_json(self) -> dict[str, object]:
        counts = {"files": self.files, "bytes": self.bytes}
        return {"name": self.name, "sha256": self.sha256, **counts, **_kind(self.kind)}


def _kind(kind: str) -> dict[str, object]:
    return {"kind": kind} if kind else {}


@dataclass(frozen=True)
class FetchResult:
    inputs: tuple[FetchedInput, ...]
    message: str
    built: "BuildResult | None" = None
    """What was built of these inputs before and is whole: no build has to find it."""

    def to_json(self) -> dict[str, object]:
        inputs = [i.to_json() for i in self.inputs]
        return telling(
            {"version": VERSION, "ok": True, "inputs": inputs, "message": self.message}, self.built
        )


def telling(fetched: dict[str, object], built: "BuildResult | None") -> dict[str, object]:
    """The result of a fetch, with what was built before; without it where that has no room, for a build finds
    it as well."""
    if built is None:
        return fetched
    whole = {**fetched, "built": built.found()}
    return whole if len(_dumps(whole)) <= MAX_RESULT_BYTES else fetched


@dataclass(frozen=True)
class BuildResult:
    """`metrics` holds the few the user sees in the status, as decimal strings."""

    key: str
    digest: str
    bytes: int
    metrics: Mapping[str, str]
    message: str

    @classmethod
    def of(cls, key: str, content: Json) -> "BuildResult | None":
        """An earlier result as it was kept; None when it is none of a good build."""
        digest, size, metrics = content.get("digest"), content.get("bytes"), content.get("metrics")
        good = content.get("ok") is True and isinstance(digest, str) and SHA256.fullmatch(digest)
        if not good or not isinstance(size, int) or not isinstance(metrics, dict):
            return None
        return cls(key, str(digest), size, metrics, str(content.get("message", "")))

    def found(self) -> dict[str, object]:
        """As a fetch tells of it."""
        metrics = dict(list(self.metrics.items())[:MAX_METRICS])
        return {"key": self.key, "digest": self.digest, "bytes": self.bytes, "metrics": metrics}

    def to_json(self) -> dict[str, object]:
        return {"version": VERSION, "ok": True, **self.found(), "message": self.message}


def success(message: str) -> dict[str, object]:
    return {"version": VERSION, "ok": True, "message": message}


def failure(reason: Reason, message: str) -> dict[str, object]:
    return {"version": VERSION, "ok": False, "reason": reason, "message": message}


def encode_result(result: Json) -> bytes:
    """The result as JSON of at most MAX_RESULT_BYTES.

    A longer message is cut at a character and ends in an ellipsis.
    """
    encoded = _dumps(result)
    message = str(result.get("message", ""))
    while len(encoded) > MAX_RESULT_BYTES and message:
        # A character takes between 1 and 12 bytes here (a control character escaped by JSON is the worst), so
        # step by step.
        message = message[: max(0, len(message) - max(1, (len(encoded) - MAX_RESULT_BYTES) // 4))]
        encoded = _dumps({**result, "message": message.rstrip() + "…"})
    return encoded


def build_key(
    architecture: str, parameters: Json, quality: Sequence[Json], export: Json, inputs: Sequence[InputOfBuild]
) -> str:
    """What makes two builds the same build: sha256 of the canonical JSON of everything that goes in.

    Canonical: keys sorted, no blanks, UTF-8. The operator computes the same from the spec.
    """
    content = {
        "architecture": architecture,
        "parameters": parameters,
        "quality": list(quality),
        "export": export,
        "inputs": [i.to_json() for i in inputs],
    }
    return hashlib.sha256(_dumps(content)).hexdigest()


def _dumps(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


@dataclass
class _Fields:
    """Reads the fields of one JSON object and collects what is wrong with them, to report all at once."""

    where: str
    content: Json
    problems: list[str] = field(default_factory=list)

    def text(self, name: str, default: str | None = None, pattern: re.Pattern[str] | None = None) -> str:
        value = self.content.get(name, default)
        if not isinstance(value, str):
            self.problems.append(f"{self.where}{name} is {value!r}; it must be a string")
            return ""
        if pattern and not pattern.fullmatch(value):
            self.problems.append(f"{self.where}{name} is {value!r}; it must match {pattern.pattern}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.content.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.problems.append(f"{self.where}{name} is {value!r}; it must be a list of strings")
            return ()
        return tuple(value)

    def source(self) -> str:
        """Which of the members that say where an input is there is."""
        given = [kind for kind in SOURCES if kind in self.content]
        if len(given) != 1:
            self.problems.append(
                f"{self.where}source is {given}; exactly one of {', '.join(SOURCES)} must be set"
            )
        return given[0] if given else "path"

    def seconds(self, name: str) -> int:
        value = self.content.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problems.append(f"{self.where}{name} is {value!r}; it must be a whole number of at least 1")
            return 1
        return value

    def member(self, name: str) -> Json:
        value = self.content.get(name, {})
        if not isinstance(value, Mapping):
            self.problems.append(f"{self.where}{name} is {value!r}; it must be an object")
            return {}
        return cast(Json, value)

    def members(self, name: str) -> list["_Fields"]:
        value = self.content.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.problems.append(f"{self.where}{name} is {value!r}; it must be a list of objects")
            return []
        items = enumerate(cast(list[Json], value))
        return [_Fields(f"{self.where}{name}[{index}].", item, self.problems) for index, item in items]


def parse_fetch_request(text: str) -> FetchRequest:
    """Raises TryAgain (`BuildFailed`) naming every field that does not fit."""
    fields = _request(text)
    inputs = tuple(
        InputToFetch(
            name=item.text("name", pattern=INPUT_NAME),
            path=item.text("path", None if item.source() == "path" else ""),
            sha256=item.text("sha256", "", OPTIONAL_SHA256),
            artifact=item.text("artifact", "", OPTIONAL_SHA256),
            network=_network(item),
            credentials=item.text("credentials", ""),
        )
        for item in fields.members("inputs")
    )
    _check_inputs(fields, [i.name for i in inputs])
    request = FetchRequest(fields.text("model"), fields.seconds("deadlineSeconds"), inputs)
    _raise_problems(fields)
    return request


def _network(item: _Fields) -> NetworkSource | None:
    kind = item.source()
    if kind in ("path", "artifact"):
        return None
    fields = _Fields(f"{item.where}{kind}.", item.member(kind), item.problems)
    match kind:
        case "s3":
            return S3Source(
                fields.text("bucket"),
                fields.text("key", ""),
                fields.text("region", ""),
                fields.text("endpoint", "", re.compile("(https?://[^/]+/?)?")),
            )
        case "https":
            return HttpsSource(fields.text("url", pattern=re.compile(r"https://[^/@\s]+/\S*")))
        case "huggingFace":
            revision = fields.text("revision", pattern=re.compile("[0-9a-f]{40}"))
            return HuggingFaceSource(fields.text("repository"), revision, fields.texts("include"))
        case _:
            reference = fields.text("reference", pattern=re.compile(r"[^/@\s]+/[^@\s]+"))
            return OciSource(reference, fields.text("digest", pattern=re.compile("sha256:[0-9a-f]{64}")))


def parse_build_request(text: str) -> BuildRequest:
    """Raises TryAgain (`BuildFailed`) naming every field that does not fit, or when the key is not that of
    the content."""
    fields = _request(text)
    inputs = _inputs_of_build(fields)
    request = BuildRequest(
        model=fields.text("model"),
        deadline_seconds=fields.seconds("deadlineSeconds"),
        key=fields.text("key", pattern=SHA256),
        architecture=fields.text("architecture"),
        parameters=fields.member("parameters"),
        quality=tuple(item.content for item in fields.members("quality")),
        export=fields.member("export"),
        inputs=inputs,
        repair=fields.content.get("repair") is True,
    )
    _raise_problems(fields)
    expected = build_key(
        request.architecture, request.parameters, request.quality, request.export, request.inputs
    )
    if request.key != expected:
        # Storing a result under a key that is not its own would hand it to another model.
        raise TryAgain(
            "BuildFailed",
            f"The build request's key is {request.key}, but its content has the key {expected}. "
            "Operator and builder are of releases that do not fit together; install both from "
            "the same release.",
        )
    return request


def _inputs_of_build(fields: _Fields) -> tuple[InputOfBuild, ...]:
    inputs = tuple(
        InputOfBuild(
            item.text("name", pattern=INPUT_NAME),
            item.text("sha256", pattern=SHA256),
            item.text("kind", "", re.compile(f"({ARTIFACT})?")),
        )
        for item in fields.members("inputs")
    )
    _check_inputs(fields, [i.name for i in inputs])
    return inputs


def inputs_fetched(result: Json) -> tuple[InputOfBuild, ...]:
    """What a build would take of the result of a fetch; nothing where that is none of a good one."""
    fields = _Fields("", result)
    inputs = _inputs_of_build(fields)
    return inputs if result.get("ok") is True and not fields.problems else ()


def parse_recipe(text: str) -> Recipe:
    """What a fetch is told of the build that follows. Raises TryAgain as the requests do."""
    fields = _request(text, "NLP_RECIPE")
    recipe = Recipe(
        fields.text("architecture"),
        fields.member("parameters"),
        tuple(item.content for item in fields.members("quality")),
        fields.member("export"),
    )
    _raise_problems(fields)
    return recipe


def _request(text: str, variable: str = "NLP_REQUEST") -> _Fields:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise TryAgain("BuildFailed", f"The Job's request in {variable} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise TryAgain(
            "BuildFailed", f"The Job's request in {variable} is {content!r}; it must be an object."
        )
    fields = _Fields("", content)
    if content.get("version") != VERSION:
        fields.problems.append(f"version is {content.get('version')!r}; this builder reads version {VERSION}")
    return fields


def _check_inputs(fields: _Fields, names: list[str]) -> None:
    if not names:
        fields.problems.append("inputs is empty; at least one is needed")
    for name in sorted({name for name in names if names.count(name) > 1}):
        fields.problems.append(f"inputs holds the name {name!r} twice; names must differ")


def _raise_problems(fields: _Fields) -> None:
    if fields.problems:
        raise TryAgain("BuildFailed", f"The Job's request does not fit: {'; '.join(fields.problems)}.")


def failure_of(error: JobError) -> dict[str, object]:
    return failure(error.reason, error.message)
