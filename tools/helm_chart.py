"""The Helm chart's templates from the kustomize bases, so that both install the same.

    python -m tools.helm_chart --write charts/nlp-operator
    python -m tools.helm_chart --check charts/nlp-operator     exit 1 when it is not what the manifests say

A manifest becomes a template by putting template words into its text: comments and order stay. What is put in
is said here once for each manifest. A manifest in which a word is not found any more, or a default in
values.yaml that is not the manifest's, is an error that names both. Chart.yaml, values.yaml, NOTES.txt and
_helpers.tpl are written by hand; values.schema.json takes the operator's settings from its code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "{{- /* From %s by tools/helm_chart.py: change it there, then `make generate`. */ -}}\n"
NAME = '{{ include "nlp-operator.fullname" $ }}'
IMAGE_SETTINGS = {
    "builder": "NLP_OPERATOR_BUILDER_IMAGE",
    "torchBuilder": "NLP_OPERATOR_TORCH_BUILDER_IMAGE",
    "serving": "NLP_OPERATOR_SERVING_IMAGE",
}
"""Which member of `images` is which setting."""
NOT_SETTINGS = frozenset(
    {
        "builder_image",
        "torch_builder_image",
        "serving_image",
        "image_pull_policy",
        "namespaces",
        "kubeconfig",
        "identity",
        "lease_namespace",
        "health_port",
        "metrics_port",
        "listen_address",
        "activator",
    }
)
"""Settings that have a value of their own in the chart, or that the Deployment decides."""

Values = Mapping[str, Any]
Change = Callable[[str, "Manifest"], str]


class Differs(Exception):
    """Manifest and chart do not fit together. The message names both and what to do."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    path: str
    """Relative to the repository."""
    values: Values
    """The chart's values.yaml."""

    def fail(self, why: str) -> Differs:
        return Differs(f"{self.path} {why}")


# --- changes of a text ---


def bind(key: str, value: str, default: Any = None) -> Change:
    """The key (with all that is indented below it) gets the chart's value, whose default must be the same."""

    def change(text: str, manifest: Manifest) -> str:
        found = list(re.finditer(rf"^( *)((?:- )?){key}:.*\n(?:\1 +.*\n)*", text, re.MULTILINE))
        if len(found) != 1:
            raise manifest.fail(
                f"has the key {key!r} {len(found)} times, once is needed for the value {value}."
            )
        indent, dash, block = *found[0].group(1, 2), found[0].group(0)
        (held,) = _first(yaml.safe_load(textwrap.dedent(block))).values()
        expected = held if default is None else default
        chosen = at(manifest.values, value)
        if chosen != expected:
            raise manifest.fail(
                f"says {expected!r} for {key!r}, but {value} in the chart's values.yaml is {chosen!r}. "
                "Make them the same."
            )
        return text.replace(block, f"{indent}{dash}{key}:{_shown(held, value, len(indent))}\n")

    return change


def _first(loaded: Any) -> dict[str, Any]:
    item: dict[str, Any] = loaded[0] if isinstance(loaded, list) else loaded
    return item


def _shown(held: Any, value: str, indent: int) -> str:
    if isinstance(held, dict | list):
        return f" {{{{- toYaml $.Values.{value} | nindent {indent + 2} }}}}"
    return f" {{{{ $.Values.{value}{' | quote' if isinstance(held, str) else ''} }}}}"


def insert(after: str, lines: str) -> Change:
    """Lines after the one that is `after`, which must stand there once; both with their indentation."""

    def change(text: str, manifest: Manifest) -> str:
        if text.count(f"\n{after}\n") != 1:
            raise manifest.fail(f"has the line {after!r} {text.count(after)} times; the chart needs it once.")
        return text.replace(f"\n{after}\n", f"\n{after}\n{lines}\n")

    return change


def optional(key: str, value: str, indent: int) -> str:
    """A key that is there only when its value is."""
    space = " " * indent
    return (
        f"{space}{{{{- with $.Values.{value} }}}}\n"
        f"{space}{key}: {{{{- toYaml . | nindent {indent + 2} }}}}\n"
        f"{space}{{{{- end }}}}"
    )


def only_if(condition: str, kind: str = "") -> Change:
    """The manifest, or its document of this kind, only when a condition holds."""

    def change(text: str, manifest: Manifest) -> str:
        documents = text.split("---\n")
        chosen = [
            number for number, one in enumerate(documents) if not kind or f"\nkind: {kind}\n" in f"\n{one}"
        ]
        if len(chosen) != (1 if kind else len(documents)):
            raise manifest.fail(f"has {len(chosen)} documents of kind {kind}; the chart needs one.")
        for number in chosen:
            documents[number] = f"{{{{- if {condition} }}}}\n{documents[number]}{{{{- end }}}}\n"
        return "---\n".join(documents)

    return change


def for_each_namespace(text: str, manifest: Manifest) -> str:
    """`---` between the documents, which repeat for each namespace that is served."""
    line = "  namespace: default\n"
    if text.count(line) != len(text.split("---\n")):
        raise manifest.fail("has not one line 'namespace: default' a document, which the chart replaces.")
    text = text.replace(line, "  namespace: {{ $namespace }}\n")
    return f"{{{{- range $namespace := $.Values.namespaces }}}}\n---\n{text}{{{{- end }}}}\n"


def kept(text: str, manifest: Manifest) -> str:
    """A definition that stays when the chart is uninstalled: with it all of its objects would be deleted."""
    found = re.findall(r"^metadata:\n  name: .*\n", text, re.MULTILINE)
    if len(found) != 1 or "{{" in text:
        raise manifest.fail("must begin its metadata with a name, once, and hold no template words.")
    return text.replace(found[0], found[0] + "  annotations: {helm.sh/resource-policy: keep}\n")


def named(text: str, manifest: Manifest) -> str:
    """Our names begin with the release's; the namespace is the release's."""
    text = re.sub(
        r"^(\s*(?:- )?(?:name|serviceAccountName): )nlp-operator(-[a-z-]+)?$",
        rf"\g<1>{NAME}\g<2>",
        text,
        flags=re.MULTILINE,
    )
    text = text.replace("{name: nlp-operator-settings}", f"{{name: {NAME}-settings}}")
    return re.sub(r"^( +namespace: )nlp-system$", r"\1{{ $.Release.Namespace }}", text, flags=re.MULTILINE)


def replaced(old: str, new: str) -> Change:
    """Text that must stand there once."""

    def change(text: str, manifest: Manifest) -> str:
        if text.count(old) != 1:
            raise manifest.fail(f"has {old!r} {text.count(old)} times; the chart replaces it once.")
        return text.replace(old, new)

    return change


# --- the templates ---


WITH_ACTIVATOR = "$.Values.activator.enabled"
ITS_NAMESPACES = """\
            {{- with $.Values.namespaces }}
            - {name: NLP_ACTIVATOR_NAMESPACES, value: {{ join "," . | quote }}}
            {{- end }}"""


ROLLED_BY_SETTINGS = """\
      annotations:
        # kustomize names the ConfigMap by its content; here this rolls the operator when it changes.
        checksum/settings: {{ include (print $.Template.BasePath "/settings.yaml") $ | sha256sum }}"""


def operator_image() -> str:
    """The image as kustomize writes it."""
    (image,) = read("manifests/operator/kustomization.yaml")["images"]
    return f"{image['name']}:{image['newTag']}"


def templates() -> dict[str, tuple[str, tuple[Change, ...]]]:
    """File in templates/: the manifest it comes from, and what is done to it."""
    return {
        "service-account.yaml": (
            "manifests/operator/service-account.yaml",
            (
                insert(
                    "    app.kubernetes.io/name: nlp-operator",
                    optional("annotations", "serviceAccount.annotations", 2),
                ),
            ),
        ),
        "role.yaml": (
            "manifests/operator/role.yaml",
            (only_if("not $.Values.namespaces", "ClusterRoleBinding"),),
        ),
        "cluster-role.yaml": ("manifests/namespaced/cluster-role.yaml", (only_if("$.Values.namespaces"),)),
        "served-namespaces.yaml": ("manifests/namespaced/serve-namespace.yaml", (for_each_namespace,)),
        "lease-role.yaml": ("manifests/operator/lease-role.yaml", ()),
        "user-roles.yaml": ("manifests/operator/user-roles.yaml", ()),
        "deployment.yaml": (
            "manifests/operator/deployment.yaml",
            (
                bind("replicas", "replicas"),
                bind("image", "images.operator", default=operator_image()),
                bind("imagePullPolicy", "imagePullPolicy"),
                bind("resources", "resources"),
                insert("        app.kubernetes.io/name: nlp-operator", ROLLED_BY_SETTINGS),
                insert(
                    "      enableServiceLinks: false",
                    "\n".join(
                        optional(key, key, 6) for key in ("imagePullSecrets", "nodeSelector", "tolerations")
                    ),
                ),
            ),
        ),
        **activator_templates(),
        "metrics-service.yaml": (
            "manifests/monitoring/metrics-service.yaml",
            (only_if("$.Values.metrics.service"),),
        ),
        "service-monitor.yaml": (
            "manifests/monitoring/service-monitor.yaml",
            (only_if("$.Values.metrics.serviceMonitor"),),
        ),
        "activator-service-monitor.yaml": (
            "manifests/monitoring/activator-service-monitor.yaml",
            (only_if("and $.Values.activator.enabled $.Values.metrics.serviceMonitor"),),
        ),
        **{
            f"crd-{path.stem}.yaml": (f"crds/{path.name}", (kept, only_if("$.Values.crds.install")))
            for path in sorted((ROOT / "crds").glob("nlp*.yaml")) + sorted((ROOT / "crds").glob("dev*.yaml"))
        },
    }


def activator_templates() -> dict[str, tuple[str, tuple[Change, ...]]]:
    """Of the component that lets models sleep."""
    folder, its_name = "manifests/activator", f"[{NAME}-activator]"
    everywhere = only_if("not $.Values.namespaces", "ClusterRoleBinding")
    of_its_name = replaced("[nlp-operator-activator]", its_name)
    image, pull_policy = (
        bind("image", "images.operator", default=operator_image()),
        bind("imagePullPolicy", "imagePullPolicy"),
    )
    env = "            - {name: NLP_ACTIVATOR_CONFIG_MAP, value: nlp-operator-activator}"
    deployment = (
        image,
        pull_policy,
        bind("replicas", "activator.replicas"),
        bind("resources", "activator.resources"),
        insert(env, ITS_NAMESPACES),
        replaced("value: nlp-operator-activator}", f"value: {NAME}-activator}}"),
        insert(
            "      enableServiceLinks: false",
            "\n".join(optional(key, key, 6) for key in ("imagePullSecrets", "nodeSelector", "tolerations")),
        ),
    )
    changes: dict[str, tuple[Change, ...]] = {
        "role": (of_its_name, everywhere),
        "operator-role": (of_its_name, everywhere),
        "deployment": deployment,
    }
    files = (
        "service-account",
        "role",
        "operator-role",
        "wakes",
        "service",
        "deployment",
        "disruption-budget",
    )
    return {
        f"activator-{file}.yaml": (f"{folder}/{file}.yaml", (*changes.get(file, ()), only_if(WITH_ACTIVATOR)))
        for file in files
    } | {
        "activator-namespaces.yaml": (
            "manifests/namespaced/let-namespace-sleep.yaml",
            (only_if(WITH_ACTIVATOR), for_each_namespace),
        )
    }


def settings_template(values: Values) -> str:
    """settings.env as a ConfigMap: images from `images`, the rest from `settings`."""
    path = "manifests/operator/settings.env"
    given = settings_of_the_base(path)
    members = {variable: f"images.{member}" for member, variable in IMAGE_SETTINGS.items()}
    for variable, value in given.items():
        where = members.get(variable, f"settings.{camel(variable.removeprefix('NLP_OPERATOR_').lower())}")
        if at(values, where) != value:
            raise Manifest(path, values).fail(
                f"sets {variable} to {value!r}, but {where} in the chart's values.yaml is "
                f"{at(values, where)!r}. Make them the same."
            )
    images = "".join(
        f"  {{{{- with $.Values.{where} }}}}\n  {variable}: {{{{ . | quote }}}}\n  {{{{- end }}}}\n"
        for variable, where in members.items()
    )
    return (
        GENERATED % path
        + f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {NAME}-settings\n"
        + "  namespace: {{ $.Release.Namespace }}\ndata:\n"
        + images
        + OTHER_SETTINGS
    )


def settings_of_the_base(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


OTHER_SETTINGS = """\
  {{- if $.Values.activator.enabled }}
  NLP_OPERATOR_ACTIVATOR: {{ include "nlp-operator.fullname" $ }}-activator
  {{- end }}
  {{- with $.Values.namespaces }}
  NLP_OPERATOR_NAMESPACES: {{ join "," . | quote }}
  {{- end }}
  {{- if ne $.Values.imagePullPolicy "IfNotPresent" }}
  NLP_OPERATOR_IMAGE_PULL_POLICY: {{ $.Values.imagePullPolicy | quote }}
  {{- end }}
  {{- range $key, $value := $.Values.settings }}
  NLP_OPERATOR_{{ $key | snakecase | upper }}: {{ $value | quote }}
  {{- end }}
"""


def schema(values: Values) -> dict[str, Any]:
    """What may be set. The templates say in sentences what a schema cannot."""

    def members(of: Mapping[str, Any], **shapes: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {key: shapes[key] for key in of},
        }

    text, flag = {"type": "string"}, {"type": "boolean"}
    some = {"type": "string", "minLength": 1}
    quantities = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    resources = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": quantities, "limits": quantities},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart nlp-operator",
    } | members(
        values,
        images=members(values["images"], **dict.fromkeys(values["images"], some) | {"torchBuilder": text}),
        imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        imagePullSecrets={
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": some},
            },
        },
        replicas={"type": "integer", "minimum": 0},
        namespaces={"type": "array", "items": some, "uniqueItems": True},
        settings=members(dict(settings()), **{key: text | {"description": doc} for key, doc in settings()}),
        serviceAccount=members(
            values["serviceAccount"], annotations={"type": "object", "additionalProperties": text}
        ),
        resources=resources,
        activator=members(
            values["activator"],
            enabled=flag,
            replicas={"type": "integer", "minimum": 1},
            resources=resources,
        ),
        nodeSelector={"type": "object", "additionalProperties": text},
        tolerations={"type": "array", "items": {"type": "object"}},
        crds=members(values["crds"], install=flag),
        metrics=members(values["metrics"], service=flag, serviceMonitor=flag),
    )


def settings() -> Iterator[tuple[str, str]]:
    """(name in values.yaml, description) of the settings that have no value of their own."""
    from nlp_operator.settings import Settings

    for one in dataclasses.fields(Settings):
        if one.name not in NOT_SETTINGS:
            yield camel(one.name), one.metadata["doc"]


def render() -> dict[str, str]:
    """Every generated file of the chart, by its path in it. Raises Differs."""
    values = read("charts/nlp-operator/values.yaml")
    files = {"templates/settings.yaml": settings_template(values)}
    for name, (path, changes) in templates().items():
        text = (ROOT / path).read_text(encoding="utf-8")
        manifest = Manifest(path, values)
        for change in (named, *changes) if not path.startswith("crds/") else changes:
            text = change(text, manifest)
        files[f"templates/{name}"] = GENERATED % path + text
    files["values.schema.json"] = json.dumps(schema(values), indent=2) + "\n"
    return files


# --- small things ---


def read(path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return loaded


def at(values: Values, path: str) -> Any:
    """The value at `images.operator`; `None` where there is none."""
    here: Any = values
    for part in path.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def camel(snake: str) -> str:
    first, *rest = snake.split("_")
    return first + "".join(part.capitalize() for part in rest)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.helm_chart", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="CHART")
    action.add_argument("--check", type=Path, metavar="CHART")
    chosen = parser.parse_args(arguments)
    try:
        files = render()
    except Differs as error:
        print(error, file=sys.stderr)
        return 1
    if chosen.write is not None:
        for path, text in files.items():
            (chosen.write / path).write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in files.items() if not is_text(chosen.check / path, text)]
    if stale:
        print(f"{', '.join(stale)} in {chosen.check} is not what the manifests say.", file=sys.stderr)
    return 1 if stale else 0


def is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
