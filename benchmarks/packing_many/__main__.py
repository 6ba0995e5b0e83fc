"""Hundreds of models, Dedicated and Shared, over pools of MIG slices, L4s, shared T4s and cores: on a real
API server, with the shipped operator unchanged.

    python -m benchmarks.packing_many --models 300 --json build/packing_many.json        # ten minutes

Real and not real as in `benchmarks.control_plane`; the agents measure what each model of the mixture takes
(`mixture.py`), and of those that share one in fourteen takes twice what it declares. What must hold at every
moment is held against every version that the API server stored (`witness.py`) and against its audit log. Exit
code 1 when something did not, or anything was written at rest or by a restart.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.control_plane import (
    OPERATOR,
    Benchmark,
    agents,
    describe_machine,
    install,
    is_ready,
    make_namespace,
    say,
    start_cluster,
)
from benchmarks.measures import bucket_quantile, buckets_of, quantile, rows_of, table, write_json
from benchmarks.network import in_own_namespace
from benchmarks.operator_process import OperatorProcess, total
from benchmarks.packing_many.mixture import (
    CROWD,
    NODES,
    TAINT,
    limits_of_namespaces,
    make_pools,
    manifest,
    mixed,
    share_of,
    slots,
    teams,
)
from benchmarks.packing_many.witness import Name, Rules, Seen, pool_of, watched
from localcluster.control_plane import ControlPlane
from tests.faults.audit import count_by_kind
from tests.faults.invariants import i5_only_own_objects, i6_status_never_lies
from tests.faults.plain_api import CHILDREN, DEVICE_POOL, NLP_MODEL, NODE, POD, PlainApi
from tests.faults.recorder import Recorder

TIGHT = "t4-shared"
"""The pool that loses devices and a node: it is full."""
FEWER = 3
"""Devices by which its budget is lowered; of a few models half of what it holds, for a node with some is to
go after that."""
PHASE_SECONDS = 1200.0
UNLOAD_SECONDS = "5"
"""Moves end with the phase they belong to, and not ten minutes later."""

Row = dict[str, Any]


class Many(Benchmark):
    """One phase after the other; each is watched whole, from before it until nothing is written any more."""

    def __init__(self, cluster: ControlPlane, models: int) -> None:
        super().__init__(cluster, models, 0.0)
        self.operator = OperatorProcess(
            cluster.kubeconfig_for("nlp-system/nlp-operator"),
            cluster.folder / "operator.log",
            unload_after_seconds=UNLOAD_SECONDS,
        )
        self.there = {(one.namespace, one.name): one for one in map(mixed, range(models))}
        self.known = dict(self.there)
        """Those that are gone, too."""
        pools = make_pools(models)
        self.slots = slots()
        self.limits = {one["metadata"]["name"]: one["spec"]["maxDevices"] for one in pools}
        self.of_namespaces = limits_of_namespaces(pools)
        self.rows: dict[str, Row] = {}

    def phases(self) -> None:
        self.operator.start()
        try:
            self.operator.wait_until_steady(0)
            self._processes = {"nlp-operator": self.operator.pid}
            self.watch("create", self.create_all)
            self.quiet()
            self.watch("change", self.change)
            self.watch("budget", self.lower)
            self.watch("node", self.lose_node)
            self.start_again()
        finally:
            self.operator.end()

    # --- what happens ---

    def create_all(self) -> set[Name]:
        for one in self.there.values():
            self.api.create(NLP_MODEL, manifest(one), one.namespace)
        return set(self.there)

    def change(self) -> set[Name]:
        """One model in a hundred: one wants a replica more, one is new, one goes."""
        touched = set()
        several = max(1, self.models // 300)
        shared = [one for one in self.there.values() if one.shared and one.namespace != CROWD]
        for number in range(several):
            grown, gone = shared[number], shared[-1 - number]
            new = replace(mixed(self.models + number), name=f"model-{self.models + number}")
            self.api.patch(
                NLP_MODEL,
                grown.name,
                {"spec": {"scaling": {"minReplicas": grown.replicas + 1}}},
                grown.namespace,
            )
            self.api.delete(NLP_MODEL, gone.name, gone.namespace)
            self.api.create(NLP_MODEL, manifest(new), new.namespace)
            del self.there[gone.namespace, gone.name]
            self.there[new.namespace, new.name] = self.known[new.namespace, new.name] = new
            touched |= {(one.namespace, one.name) for one in (grown, gone, new)}
        return touched

    def lower(self) -> set[Name]:
        """Below what runs."""
        held = sum(pool_of(pod) == TIGHT for pod in self.server_pods())
        left = held - min(FEWER, held // 2)
        self.api.patch(DEVICE_POOL, TIGHT, {"spec": {"maxDevices": left}})
        self.limits_after = {**self.limits, TIGHT: left}
        return set()

    def lose_node(self) -> set[Name]:
        self.lost = next(
            pod["spec"]["nodeName"]
            for pod in self.server_pods()
            if pod["spec"].get("nodeName", "").startswith(TIGHT)
        )
        self.api.delete(NODE, self.lost)
        return set()

    def quiet(self) -> None:
        mark, used = self.audit.mark(), self.operator.cpu_seconds()
        say("idle")
        time.sleep(60)
        self.rows["idle"] = {
            "writesIn60Seconds": len(written := self.writes(mark)),
            "written": [str(one) for one in written[:5]],
            "cores": (self.operator.cpu_seconds() - used) / 60,
            "rssMegabytes": self.operator.memory_megabytes()[0],
        }

    def start_again(self) -> None:
        say("restart")
        seconds, writes = self._restart(signal.SIGTERM)
        self.rows["restart"] = {
            "seconds": seconds,
            "writes": len(writes),
            "written": [str(one) for one in writes[:5]],
            "rssMegabytes": self.operator.memory_megabytes()[0],
        }

    # --- how it is watched ---

    def watch(self, name: str, act: Callable[[], set[Name]]) -> None:
        mark, page = self.audit.mark(), self.operator.metrics()
        self.limits_after, self.lost = self.limits, ""
        with Recorder(self.cluster.kubeconfig, (NLP_MODEL, *CHILDREN, POD)) as recorder:
            before = self.places()
            with self._phase(name):
                began = time.monotonic()
                touched = act()
                self.wait_until(lambda: self.done(recorder), name)
                took = time.monotonic() - began
                self._wait_until_quiet()
            rules = Rules(self.declared(), self.slots, self.limits, self.of_namespaces)
            seen = watched(recorder.versions(), rules)
            writes = self.writes(mark)
            wrongs = [
                *seen.wrongs,
                *i5_only_own_objects(writes, recorder, OPERATOR),
                *i6_status_never_lies(recorder),
            ]
            times = self.times_to_ready(recorder) if name == "create" else {}
        self.limits = self.limits_after
        after = self.places()
        wrongs += self.wrong_at_the_end(seen)
        moved = [one for one in before.keys() & after.keys() - touched if before[one] != after[one]]
        self.rows[name] = {
            "seconds": took,
            **times,
            "wrongs": len(wrongs),
            "firstWrongs": wrongs[:5],
            "atTheirLimit": sum(seen.held_by[one] == most for one, most in self.of_namespaces.items()),
            "moved": len(moved),
            "untouchedThatLeftReady": len(seen.left_ready.keys() - touched),
            "writes": len(writes),
            "writesByKind": count_by_kind(writes),
            "writesMostOfOneObject": max(
                Counter((one.kind, one.namespace, one.name) for one in writes).values(), default=0
            ),
            **self.inside(page, self.operator.metrics()),
            "cpuSeconds": self.results.cpu_seconds[name]["nlp-operator"],
            "load": self.results.load_average[name],
            "rssMegabytes": self.operator.memory_megabytes()[0],
            "rssMostMegabytes": self.operator.memory_megabytes()[1],
        }
        print(json.dumps({name: self.rows[name]}), file=sys.stderr, flush=True)

    def wait_until(self, done: Callable[[], str], name: str) -> None:
        deadline = time.monotonic() + PHASE_SECONDS
        while missing := done():
            self.operator.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: not within {PHASE_SECONDS:g} s: {missing}")
            time.sleep(0.5)

    def done(self, recorder: Recorder) -> str:
        """What is not so yet; empty: nothing."""
        models = [one for one in recorder.latest("NLPModel") if not one.deleted]
        waiting = [str(one) for one in models if not is_ready(one)]
        if len(models) != len(self.there) or waiting:
            return f"{len(models)} of {len(self.there)} models, not Ready {waiting[:3]} ({len(waiting)})"
        pods = [one.object for one in recorder.latest("Pod") if pool_of(one.object)]
        held = Counter(pool_of(pod) for pod in pods)
        over = {pool: count for pool, count in held.items() if count > self.limits_after[pool]}
        on_lost = sum(pod["spec"].get("nodeName") == self.lost for pod in pods) if self.lost else 0
        return f"too many in {over}, {on_lost} pods on {self.lost}" if over or on_lost else ""

    @staticmethod
    def times_to_ready(recorder: Recorder) -> Row:
        created, ready = Benchmark._moments(recorder)
        took = [ready[one] - created[one] for one in created]
        return {"toReadyP50Seconds": quantile(took, 0.5), "toReadyP99Seconds": quantile(took, 0.99)}

    def wrong_at_the_end(self, seen: Seen) -> list[str]:
        """By what models take in truth, once that has been measured."""
        found = []
        for (namespace, server), models in seen.listed.items():
            pool = self.pool_of_server.get((namespace, server))
            used = sum(self.known[namespace, one].takes_mebibytes for one in models)
            if pool is not None and used > self.slots[pool]:
                found.append(f"{namespace}/{server} on {pool}: its models take {used} MiB.")
        found += [
            f"Pool {pool} has {count} pods of {self.limits[pool]}."
            for pool, count in seen.held.items()
            if count > self.limits[pool]
        ]
        return found

    def places(self) -> Mapping[Name, object]:
        """Where each model runs: its servers and their replicas."""
        self.api.close()  # the API server ends connections on which nothing was asked for a while
        models = self.api.list(NLP_MODEL)
        self.pool_of_server = {
            (one["metadata"]["namespace"], server["name"]): server["pool"]
            for one in models
            for server in (one.get("status") or {}).get("servers", [])
        }
        return {
            (one["metadata"]["namespace"], one["metadata"]["name"]): [
                (server["name"], server["pool"], server["replicas"])
                for server in (one.get("status") or {}).get("servers", [])
            ]
            for one in models
        }

    def server_pods(self) -> list[Any]:
        return self.api.list(POD, labels="app.kubernetes.io/component=server")

    def declared(self) -> dict[Name, int]:
        return {where: one.declared_mebibytes for where, one in self.known.items()}

    @staticmethod
    def inside(before: str, after: str) -> Row:
        """What the operator says of itself."""

        def milliseconds(metric: str, q: float, *labels: str) -> float:
            return 1000 * bucket_quantile(
                buckets_of(before, metric, *labels), buckets_of(after, metric, *labels), q
            )

        def grown(metric: str, *labels: str) -> float:
            return total(after, metric, *labels) - (total(before, metric, *labels) or 0.0)

        plan, work = "nlp_operator_plan_seconds", "nlp_operator_reconcile_seconds"
        plans = grown(f"{plan}_count")
        return {
            "plans": int(plans),
            "planMeanMilliseconds": 1000 * grown(f"{plan}_sum") / max(plans, 1),
            "planP99Milliseconds": milliseconds(plan, 0.99),
            "modelPasses": int(grown(f"{work}_count", 'kind="NLPModel"')),
            "modelPassP99Milliseconds": milliseconds(work, 0.99, 'kind="NLPModel"'),
            "serverPasses": int(grown(f"{work}_count", 'kind="Server"')),
            "serverPassP99Milliseconds": milliseconds(work, 0.99, 'kind="Server"'),
            "queueWaitP99Milliseconds": milliseconds("nlp_operator_queue_wait_seconds", 0.99),
            "loopLagMostMilliseconds": 1000 * total(after, "nlp_operator_loop_lag_seconds"),
        }


def prepare(cluster: ControlPlane, api: PlainApi, models: int) -> None:
    install(cluster)
    for pool in make_pools(models):
        name = pool["metadata"]["name"]
        node = NODES[name]
        cluster.add_kwok_nodes(
            share_of(node.count, models),
            prefix=name,
            labels=node.labels,
            capacity=node.devices,
            taints=[TAINT] if node.devices else [],
        )
        api.create(DEVICE_POOL, pool)
    for place in (CROWD, *teams()):
        make_namespace(api, place)


def measure(options: argparse.Namespace) -> dict[str, Row]:
    machine = describe_machine()
    with start_cluster() as cluster:
        say("preparing")
        with PlainApi(cluster.kubeconfig) as api:
            prepare(cluster, api, options.models)
        benchmark = Many(cluster, options.models)
        try:
            with agents(cluster.kubeconfig, "benchmarks.packing_many.agents"):
                benchmark.phases()
        except BaseException:
            print(benchmark.operator.tail(), file=sys.stderr)
            raise
        finally:
            benchmark.api.close()
            benchmark.keep_logs(options.keep_logs)
    return {"machine": machine, **benchmark.rows}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing_many",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", type=int, default=300, help="how many NLPModels (default 300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--keep-logs", type=Path, help="copy the operator's log and the audit log there")
    options = parser.parse_args()
    if not in_own_namespace("benchmarks.packing_many", sys.argv[1:]):
        return 2
    found = measure(options)
    print(table([("what", "measured"), *rows_of(found)]))
    write_json(options.json, found)
    failed = failures(found)
    for sentence in failed:
        print(sentence, file=sys.stderr)
    return int(bool(failed))


def failures(found: Mapping[str, Row]) -> list[str]:
    """What was found that must not be, a sentence each."""
    sentences = [
        f"{phase}: {row['wrongs']} wrong, such as {row['firstWrongs'][0]}"
        for phase, row in found.items()
        if row.get("wrongs")
    ]
    if written := found["idle"]["writesIn60Seconds"]:
        sentences.append(f"idle: {written} writes in 60 s; there must be none.")
    if written := found["restart"]["writes"]:
        sentences.append(f"restart: {written} writes; there must be none.")
    return sentences


if __name__ == "__main__":
    sys.exit(main())
