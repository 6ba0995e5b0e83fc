"""The demo itself, step by step. Each step is timed; a step that fails ends the demo with its reason."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from localcluster.demo.commands import ROOT, Asker, Commands, DemoFailed, until
from localcluster.demo.load import Load
from localcluster.demo.questions import (
    ANALOGY,
    ANALOGY_ANSWER,
    ANALOGY_WORDS,
    MODEL,
    QUESTIONS,
    WORDS,
    Question,
    faults,
    nearest_in,
    value_in,
)
from localcluster.demo.storm import Storm, kill
from localcluster.demo.witness import KINDS, differences, jobs_created, object_set
from localcluster.errors import ClusterError
from localcluster.progress import Progress

CALM, STORMY = "demo", "demo-kills"
"""Namespaces of the two runs."""

AGAIN = f"{MODEL}-again"
"""A second model of the same spec: its artifact is in the store already."""

OPERATOR_NAMESPACE, OPERATOR = "nlp-system", "nlp-operator"
HTTP_PORT = 8000
"""Of a model's Service."""
OPERATOR_IMAGE = "nlp-operator/operator"
"""The name in manifests/operator, which the overlay replaces."""

SHARING, ALONE = ("menus", "stops", "weather"), "menus-alone"
"""Of manifests/samples/mixed-pools/models.yaml: three that share a server, and one that does not."""

CALM_RATE, BUSY_RATE = 2.0, 24.0
"""Requests a second before the step and after it. Each is `LOAD_ROWS` long texts: a replica needs some 60 ms
for it, so it bears 16 of them, and whoever asks needs little of the machine."""
LOAD_TEXT = " ".join(["기차", "막걸리", "눈", "선술집"] * 4000)
LOAD_ROWS = 16
GROWN_SECONDS = 180.0
"""More than a second replica ever took to be ready (11 s)."""

STAYS = (
    f"ConfigMap/{MODEL}",
    f"ConfigMap/{WORDS}",
    "ConfigMap/mixed-pools",
    "PersistentVolumeClaim/nlp-store",
)
"""What a deleted model leaves: the user's own input, and the store, which belongs to the namespace."""

READY_SECONDS = 600
"""More than a training, a build and a start ever took here (30 s; at a load of 20 four minutes)."""

CACHED_SECONDS = 15.0
"""The promise: from apply to Ready when the artifact is in the store."""

LEAST_KILLS = 3
"""With fewer, the run with kills would prove little; it goes on until there were that many."""


@dataclass
class Demo:
    commands: Commands
    progress: Progress
    answers: dict[str, Any] = field(default_factory=dict)
    """By question; filled as the demo goes, so that a demo that fails half-way reports what it has."""
    facts: dict[str, Any] = field(default_factory=dict)

    # The steps, in the order a reader would try them.

    def install(self, images: dict[str, str]) -> None:
        """`images`: reference of each image: operator, builder, serving, and builder-torch where words are
        trained."""
        with self.progress.step("operator installed with kubectl, ready"):
            with overlay(images) as folder:
                self.commands.kubectl("apply", "-k", folder)
            self.commands.kubectl(
                "rollout", "status", "-n", OPERATOR_NAMESPACE, f"deployment/{OPERATOR}", "--timeout=120s"
            )

    def apply_sample(self, namespace: str) -> None:
        self.commands.kubectl("apply", "-f", "-", stdin=json.dumps(namespace_object(namespace)))
        samples = Path("manifests", "samples")
        for name in ("cpu-pool.yaml", "korean-novels.yaml"):
            self.commands.kubectl("apply", "-n", namespace, "-f", ROOT / samples / name)

    def wait_ready(self, namespace: str, model: str = MODEL) -> None:
        try:
            self.commands.kubectl(
                "wait",
                "-n",
                namespace,
                "--for=condition=Ready",
                f"nlp/{model}",
                f"--timeout={READY_SECONDS}s",
            )
        except ClusterError as error:
            raise DemoFailed(f"{error}\n{self.diagnosis(namespace, model)}") from error

    def ask(
        self, namespace: str, protocol: str, questions: Sequence[Question] = QUESTIONS
    ) -> dict[str, list[float]]:
        """Questions over one protocol, asserted."""
        answers = {}
        for question in questions:
            reply = self.commands.infer(namespace, MODEL, question.words, protocol)
            answers[question.name] = value_in(reply, question)
            self.progress.say(f"      {question.name}: {show(answers[question.name])}")
        wrong = faults(answers, questions)
        if wrong:
            raise DemoFailed(" ".join(wrong))
        return answers

    def run_calm(self) -> None:
        with self.progress.step("sample applied: fetched, built, served, Ready"):
            self.apply_sample(CALM)
            self.wait_ready(CALM)
        with self.progress.step("questions answered over HTTP"):
            self.answers.update(self.ask(CALM, "http"))
        with self.progress.step("questions answered over gRPC"):
            # Each costs the start of a program, and the rest of the way is the same: three of them will do.
            for name, answer in self.ask(CALM, "grpc", QUESTIONS[:3]).items():
                if answer != self.answers[name]:
                    raise DemoFailed(f"The {name} is {answer} over gRPC, {self.answers[name]} over HTTP.")

    def apply_cached(self) -> None:
        name = "apply to Ready with the artifact in the store"
        with self.progress.step(name):
            manifest = (ROOT / "manifests" / "samples" / "korean-novels.yaml").read_text(encoding="utf-8")
            model = next(d for d in yaml.safe_load_all(manifest) if d["kind"] == "NLPModel")
            model["metadata"]["name"] = AGAIN
            self.commands.kubectl("apply", "-n", CALM, "-f", "-", stdin=json.dumps(model))
            self.wait_ready(CALM, AGAIN)
        seconds = self.progress.steps[-1].seconds
        self.facts["cachedApplyToReadySeconds"] = round(seconds, 1)
        if seconds > CACHED_SECONDS:
            self.progress.say(f"      slower than the promised {CACHED_SECONDS:.0f} s: is this machine busy?")

    def run_words(self) -> None:
        """Word vectors, trained in the cluster on a text that a program made, and what they know."""
        with self.progress.step("word vectors of a synthetic text: trained, Ready"):
            sample = ROOT / "manifests" / "samples" / f"{WORDS}.yaml"
            self.commands.kubectl("apply", "-n", CALM, "-f", sample)
            self.wait_ready(CALM, WORDS)
        with self.progress.step("an analogy answered"):
            found = nearest_in(self.commands.infer(CALM, WORDS, ANALOGY_WORDS, "http"))
            self.answers[ANALOGY] = found
            self.progress.say(f"      {ANALOGY} = {found}")
            if found != ANALOGY_ANSWER:
                raise DemoFailed(f"{ANALOGY} is {found!r}; it must be {ANALOGY_ANSWER!r}.")

    def run_mixed(self) -> None:
        """Models that share a server, and one that does not."""
        with self.progress.step("three models in one server, one in its own: Ready"):
            self.commands.kubectl("delete", "-n", CALM, f"nlp/{AGAIN}", f"nlp/{WORDS}")
            sample = ROOT / "manifests" / "samples" / "mixed-pools" / "models.yaml"
            self.commands.kubectl("apply", "-n", CALM, "-f", sample)
            for model in (*SHARING, ALONE):
                self.wait_ready(CALM, model)
            self.show(self.commands.nlpctl("pools"))
            servers = {model: self.servers_of(model) for model in (*SHARING, ALONE)}
            self.facts["servers"] = {model: list(found) for model, found in servers.items()}
            (shared, *others) = {servers[model] for model in SHARING}
            if others or len(shared) != 1 or servers[ALONE] == shared:
                raise DemoFailed(f"{', '.join(SHARING)} must share a server without {ALONE}: {servers}.")

    def answer_load(self) -> None:
        """A step of the load, answered with a second replica, and explained."""
        with self.progress.step(f"load x {BUSY_RATE / CALM_RATE:g}: a second replica, and why"):
            self.commands.kubectl("delete", "-n", CALM, f"nlp/{ALONE}")
            scaling = {"maxReplicas": 2, "latencyTarget": {"milliseconds": 500}}
            patch = json.dumps({"spec": {"scaling": scaling}})
            self.commands.kubectl("patch", "-n", CALM, f"nlp/{MODEL}", "--type=merge", "-p", patch)
            address = (self.commands.read("-n", CALM, f"service/{MODEL}")["spec"]["clusterIP"], HTTP_PORT)
            texts = [LOAD_TEXT] * LOAD_ROWS
            with Load(address, MODEL, texts, ("interpreted_as",), CALM_RATE) as load:
                self.commands.kubectl(
                    "wait",
                    "-n",
                    CALM,
                    "--for=condition=SignalsAvailable",
                    f"nlp/{MODEL}",
                    "--timeout=120s",
                )
                self.progress.say(f"  {BUSY_RATE:g} requests a second in place of {CALM_RATE:g}")
                load.rate, begun = BUSY_RATE, time.monotonic()
                until("two replicas are ready", GROWN_SECONDS, lambda: self.ready_replicas() >= 2)
                self.facts["secondReplicaAfterSeconds"] = round(time.monotonic() - begun, 1)
            self.progress.say(
                f"      ready after {self.facts['secondReplicaAfterSeconds']:g} s; "
                f"{load.answered} answers, {len(load.refused)} refused"
            )
            self.show(self.commands.nlpctl("why", MODEL, "-n", CALM))
            if load.refused:
                raise DemoFailed(f"Requests were refused while the model grew: {load.refused[0]}")

    def show(self, output: str) -> None:
        for line in output.rstrip().splitlines():
            self.progress.say(f"      {line}".rstrip())

    def servers_of(self, model: str) -> tuple[str, ...]:
        servers = self.commands.read("-n", CALM, f"nlp/{model}")["status"]["servers"]
        return tuple(one["name"] for one in servers)

    def ready_replicas(self) -> int:
        selector = f"nlp-operator.io/model={MODEL}"
        found = self.commands.read("-n", CALM, "deployments", "-l", selector)["items"]
        return sum(one["status"].get("readyReplicas", 0) for one in found)

    def kill_operator_once(self) -> None:
        with self.progress.step("operator killed and back, answers kept coming"):
            question = QUESTIONS[1]
            with Asker(lambda: self.commands.infer(CALM, MODEL, question.words, "http", quiet=True)) as asker:
                before = self.operator_starts()
                hit = kill(self.operator_containers())
                self.progress.say(
                    f"  killed the operator's process ({hit} process{'es' if hit != 1 else ''})"
                )
                until("the operator's container runs again", 60, lambda: self.operator_starts() > before)
                self.rollout_done()
                # Proof that it works again, and not only runs: it takes notice of an edit.
                edit = '{"spec":{"scaling":{"latencyTarget":{"milliseconds":600}}}}'
                self.commands.kubectl("patch", "-n", CALM, f"nlp/{MODEL}", "--type=merge", "-p", edit)
                generation = self.commands.read("-n", CALM, f"nlp/{MODEL}")["metadata"]["generation"]
                self.commands.kubectl(
                    "wait",
                    "-n",
                    CALM,
                    f"nlp/{MODEL}",
                    f"--for=jsonpath={{.status.observedGeneration}}={generation}",
                    "--timeout=60s",
                )
                since = asker.answered
                until("the model answered since", 60, lambda: asker.answered > since or bool(asker.refused))
            self.progress.say(f"      {asker.answered} answers meanwhile, {len(asker.refused)} refused")
            if asker.refused or not asker.answered:
                raise DemoFailed(
                    f"The model stopped answering while the operator was away: {asker.refused[:1]}"
                )

    def run_stormy(self, every_seconds: float, seed: int) -> None:
        """The same run while the operator is killed again and again: same answers, objects and builds."""
        self.progress.say(
            f"  killing the operator about every {every_seconds:g} s, seed {seed} (SEED={seed} repeats it)"
        )
        with Storm(self.operator_containers, seed, every_seconds) as storm:
            with self.progress.step(f"sample applied and Ready, operator killed every {every_seconds:g} s"):
                self.apply_sample(STORMY)
                self.wait_ready(STORMY)
            with self.progress.step("the same questions meanwhile"):
                stormy = self.ask(STORMY, "http")
                until(
                    f"the operator was killed {LEAST_KILLS} times",
                    60 + 3 * every_seconds * LEAST_KILLS,
                    lambda: storm.kills >= LEAST_KILLS or storm.error is not None,
                )
        if storm.error is not None:
            raise DemoFailed(f"The killing ended early: {storm.error}") from storm.error
        self.progress.say(f"      {storm.kills} kills")
        with self.progress.step("same answers, same objects, same builds"):
            self.rollout_done()
            if stormy != self.answers:
                raise DemoFailed(f"Other answers with kills: {stormy} instead of {self.answers}.")
            self.compare_objects()
            builds = {namespace: self.jobs(namespace) for namespace in (CALM, STORMY)}
            self.facts |= {
                "kills": storm.kills,
                "seed": seed,
                "killEverySeconds": every_seconds,
                "jobs": builds,
            }
            if builds[STORMY] != builds[CALM]:
                raise DemoFailed(f"Jobs with kills: {builds[STORMY]}; without: {builds[CALM]}.")
            self.progress.say(f"      Jobs in both runs: {builds[CALM]}")

    def compare_objects(self) -> None:
        calm = self.objects(CALM)
        try:
            until("both runs left the same objects", 30, lambda: self.objects(STORMY) == calm, 1.0)
        except DemoFailed as error:
            raise DemoFailed(" ".join(differences(calm, self.objects(STORMY)))) from error
        self.facts["objects"] = list(calm)
        self.progress.say(f"      {len(calm)} objects in both")

    def delete_everything(self) -> None:
        """Delete the models, see that nothing of them is left, and take the namespaces away."""
        with self.progress.step("models deleted, nothing of them left"):
            for namespace in self.namespaces():
                self.commands.kubectl("delete", "-n", namespace, "nlp", "--all", "--wait=false")
            for namespace in self.namespaces():
                until(f"only {' and '.join(STAYS)} are left", 120, partial(self.nothing_left, namespace))
            for namespace in self.namespaces():
                self.commands.kubectl("delete", "namespace", namespace, "--wait=false")

    def nothing_left(self, namespace: str) -> bool:
        items = self.commands.read("-n", namespace, ",".join((*KINDS, "pods")))["items"]
        return set(object_set(items)) <= set(STAYS)

    # What is read from the cluster.

    def namespaces(self) -> list[str]:
        there = {item["metadata"]["name"] for item in self.commands.read("namespaces")["items"]}
        return [name for name in (CALM, STORMY) if name in there]

    def operator_pods(self) -> list[Any]:
        selector = f"app.kubernetes.io/name={OPERATOR}"
        items: list[Any] = self.commands.read("-n", OPERATOR_NAMESPACE, "pods", "-l", selector)["items"]
        return items

    def operator_containers(self) -> set[str]:
        statuses = [s for pod in self.operator_pods() for s in pod["status"].get("containerStatuses", [])]
        return {
            s["containerID"].rpartition("/")[2]
            for s in statuses
            if s.get("containerID") and "running" in s["state"]
        }

    def operator_starts(self) -> int:
        """How often the operator's containers were started anew, counting those that run."""
        statuses = [s for pod in self.operator_pods() for s in pod["status"].get("containerStatuses", [])]
        return sum(s["restartCount"] for s in statuses if "running" in s["state"])

    def rollout_done(self) -> None:
        self.commands.kubectl(
            "rollout",
            "status",
            "-n",
            OPERATOR_NAMESPACE,
            f"deployment/{OPERATOR}",
            "--timeout=120s",
            quiet=True,
        )

    def objects(self, namespace: str) -> tuple[str, ...]:
        items = self.commands.read("-n", namespace, ",".join(KINDS))["items"]
        return object_set(item for item in items if not item["metadata"]["name"].startswith(AGAIN))

    def jobs(self, namespace: str) -> dict[str, int]:
        with self.commands.access.audit_log.open(encoding="utf-8") as lines:
            return jobs_created(lines, namespace, MODEL)

    def diagnosis(self, namespace: str, model: str) -> str:
        """What a person would look at next, in one text."""
        parts = []
        for words in (
            ("get", "-n", namespace, "nlp,jobs,pods,services,events"),
            ("get", "-n", namespace, f"nlp/{model}", "-o", "yaml"),
            ("logs", "-n", OPERATOR_NAMESPACE, f"deployment/{OPERATOR}", "--tail=40"),
        ):
            try:
                parts.append(f"$ kubectl {' '.join(words)}\n{self.commands.kubectl(*words, quiet=True)}")
            except ClusterError as error:
                parts.append(str(error))
        return "\n".join(parts)


def namespace_object(name: str) -> dict[str, Any]:
    """A namespace that admits only pods of the strictest Pod Security level."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@contextmanager
def overlay(images: dict[str, str], base: str = "default") -> Iterator[Path]:
    """A kustomization over manifests/<base> that uses images of this machine instead of published ones."""
    with tempfile.TemporaryDirectory(prefix="nlp-demo-") as folder:
        content = kustomization(os.path.relpath(ROOT / "manifests" / base, folder), images)
        # JSON, which is YAML too: PyYAML leaves a tag such as 12e45678 unquoted, and Go reads a number.
        Path(folder, "kustomization.yaml").write_text(json.dumps(content), encoding="utf-8")
        yield Path(folder)


def kustomization(base: str, images: dict[str, str]) -> dict[str, Any]:
    name, _, tag = images["operator"].rpartition(":")
    settings = [
        f"NLP_OPERATOR_BUILDER_IMAGE={images['builder']}",
        f"NLP_OPERATOR_TORCH_BUILDER_IMAGE={images.get('builder-torch', '')}",
        f"NLP_OPERATOR_SERVING_IMAGE={images['serving']}",
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [{"name": OPERATOR_IMAGE, "newName": name, "newTag": tag}],
        "configMapGenerator": [
            {
                "name": "nlp-operator-settings",
                "namespace": OPERATOR_NAMESPACE,
                "behavior": "merge",
                "literals": settings,
            }
        ],
    }


def show(values: list[float]) -> str:
    numbers = [f"{value:g}" if value == round(value) else f"{value:.4f}" for value in values]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
