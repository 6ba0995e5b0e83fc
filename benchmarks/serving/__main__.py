"""MiniLM, text to vector, or a Transformer, text to translation, at concurrency 1, 8 and 32: our server
beside what people would otherwise use.

    python -m benchmarks.serving --json FILE                   # every server: 25 minutes with 5 rounds
    python -m benchmarks.serving --model transformer --json FILE         # the same of a translator
    python -m benchmarks.serving --layouts --json FILE         # ways to run the model in Triton
    python -m benchmarks.serving --rounds 1 --seconds 1 --json FILE      # does it all run?

All servers are started once and stay up; those that are not asked have nothing to do. The clients are on
the same cores. In a round every server is measured at every concurrency, in another order each round;
reported are medians over the rounds. What the numbers are: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from operator import eq
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measures import quantile, write_json
from benchmarks.serving import translator
from benchmarks.serving.load import Window, ask_each, run_window
from benchmarks.serving.processes import cpu_seconds, machine_cpu_seconds
from benchmarks.serving.servers import (
    SERVERS,
    Given,
    Running,
    Start,
    eager_vectors,
    layouts,
    worst_cosine,
)
from benchmarks.serving.texts import Workload, make_texts
from tests.model_builders.sentence_encoder.minilm import minilm, minilm_folder

CONCURRENCIES = (1, 8, 32)
COMPARED = 64
"""How many texts are compared with the eager vectors."""
WARM_SECONDS = 1.0

Row = dict[str, Any]


def summarise(window: Window) -> Row:
    """The numbers of one window. `look` gave (CPU by program, CPU of us, CPU of the machine)."""
    server_before, own_before, all_before = window.before
    server_after, own_after, all_after = window.after
    programs = {name: server_after[name] - server_before.get(name, 0.0) for name in server_after}
    count = len(window.latencies)
    server, own = sum(programs.values()), own_after - own_before
    cores = os.cpu_count() or 1
    return {
        "requests_per_second": count / window.seconds,
        "p50_ms": quantile(window.latencies, 0.5) * 1000,
        "p99_ms": quantile(window.latencies, 0.99) * 1000,
        "cpu_ms_per_request": per_request(server, count),
        "cpu_ms_by_program": {name: per_request(took, count) for name, took in programs.items()},
        "client_cpu_ms_per_request": per_request(own, count),
        "other_cpu_share": max(0.0, (all_after - all_before - server - own) / (window.seconds * cores)),
        "failures": window.failures,
    }


def per_request(seconds: float, count: int) -> float:
    return seconds * 1000 / count if count else float("nan")


def medians(rows: Sequence[Row]) -> Row:
    """Key by key over the rounds; failures are added up."""
    found: Row = {}
    for key in rows[0]:
        if key == "failures":
            found[key] = sum(row[key] for row in rows)
        elif key == "cpu_ms_by_program":
            programs = sorted({name for row in rows for name in row[key]})
            found[key] = {
                name: round(median(row[key].get(name, 0.0) for row in rows), 3) for name in programs
            }
        else:
            found[key] = round(median(row[key] for row in rows), 3)
    return found


def goals(servers: Mapping[str, Row]) -> Row:
    """What the issue asks for, at concurrency 32 in 32 bits; empty where a row is missing."""
    at32 = {name: row["concurrency"]["32"] for name, row in servers.items() if "concurrency" in row}
    others = {name: row for name, row in at32.items() if not name.startswith("pod_")}
    if "pod_http" not in at32 or len(others) < 3:
        return {}
    if "triton_http" not in at32:
        return goals_without_triton(at32)
    pod = max((at32["pod_http"], at32["pod_grpc"]), key=lambda row: float(row["requests_per_second"]))
    found: Row = {}
    plain = [row["requests_per_second"] for name, row in others.items() if "sentence_transformers" in name]
    if plain:
        found["times_fastapi_sentence_transformers"] = round(pod["requests_per_second"] / max(plain), 2)
    best = max(others, key=lambda name: float(others[name]["requests_per_second"]))
    found["best_other"] = best
    found["times_best_other"] = round(pod["requests_per_second"] / others[best]["requests_per_second"], 3)
    for protocol in ("http", "grpc"):
        ours, bare = at32[f"pod_{protocol}"], at32[f"triton_{protocol}"]
        envoy = ours["cpu_ms_by_program"].get("envoy", 0.0)
        found[f"envoy_cpu_ms_{protocol}"] = envoy
        found[f"cpu_times_triton_without_envoy_{protocol}"] = round(
            (ours["cpu_ms_per_request"] - envoy) / bare["cpu_ms_per_request"], 3
        )
    return found


def goals_without_triton(at32: Mapping[str, Row]) -> Row:
    """Of a translator: our pod, as it comes, against the best of the others, and against itself otherwise."""

    def best(names: Sequence[str]) -> str:
        return max(names, key=lambda name: float(at32[name]["requests_per_second"]))

    pod = at32[best(["pod_http", "pod_grpc"])]["requests_per_second"]
    groups = {"other": [name for name in at32 if not name.startswith("pod_")]}
    for kind in ("batches_by_length", "without_batching"):
        groups[f"pod_{kind}"] = [name for name in at32 if name.startswith(f"pod_{kind}")]
    found: Row = {}
    for group, names in groups.items():
        if names:
            found[f"best_{group}"] = best(names)
            found[f"times_best_{group}"] = round(pod / at32[best(names)]["requests_per_second"], 3)
    return found


def table(servers: Mapping[str, Row]) -> str:
    lines = [
        "| server | "
        + " | ".join(f"c{c} req/s, p50/p99 ms" for c in CONCURRENCIES)
        + " | CPU ms c32 | agrees |",
        "| --- |" + " --- |" * (len(CONCURRENCIES) + 2),
    ]
    for name, row in servers.items():
        if "error" in row:
            lines.append(f"| {name} | {row['error'].splitlines()[0]} |" + " |" * (len(CONCURRENCIES) + 1))
            continue
        cells = []
        for concurrency in CONCURRENCIES:
            one = row["concurrency"][str(concurrency)]
            cells.append(f"{one['requests_per_second']:.0f}, {one['p50_ms']:.0f}/{one['p99_ms']:.0f}")
        last = row["concurrency"]["32"]
        agrees = f"{row['cosine']:.6f}" if "cosine" in row else f"{row['equal']:.0%}"
        lines.append(f"| {name} | {' | '.join(cells)} | {last['cpu_ms_per_request']:.2f} | {agrees} |")
    return "\n".join(lines)


async def measure(
    running: Mapping[str, Running],
    texts: Sequence[str],
    agreement: Callable[[Sequence[Any]], Row],
    rounds: int,
    seconds: float,
) -> dict[str, Row]:
    servers: dict[str, Row] = {}
    requests = {name: [server.request(text) for text in texts] for name, server in running.items()}
    for name, server in running.items():
        answers = await ask_each(server.client(), requests[name][:COMPARED])
        found = [server.answer(answer) for answer in answers]
        servers[name] = {**agreement(found), "rounds": {}}
    order = random.Random(0)
    for number in range(rounds):
        for name in order.sample(sorted(running), len(running)):
            for concurrency in CONCURRENCIES:
                server = running[name]

                def look(leader: int = server.leader) -> tuple[Mapping[str, float], float, float]:
                    own = os.times()
                    return cpu_seconds((leader,)), own.user + own.system, machine_cpu_seconds()

                window = await run_window(
                    server.client(), requests[name], concurrency, WARM_SECONDS, seconds, look
                )
                row = summarise(window)
                servers[name]["rounds"].setdefault(str(concurrency), []).append(row)
                print(
                    f"  round {number + 1} {name} c{concurrency}: {row['requests_per_second']:.1f} req/s, "
                    f"others {row['other_cpu_share']:.0%}",
                    file=sys.stderr,
                    flush=True,
                )
    for row in servers.values():
        row["concurrency"] = {key: medians(rows) for key, rows in row["rounds"].items()}
    return servers


def agreement_with(expected: Sequence[Any]) -> Callable[[Sequence[Any]], Row]:
    """How near the answers to the first texts are to the right ones: vectors, or translations."""
    if isinstance(expected[0], str):
        return lambda found: {"equal": sum(map(eq, found, expected)) / len(expected)}
    return lambda found: {"cosine": worst_cosine(np.stack(found), np.stack(expected))}


def of_minilm(
    options: argparse.Namespace, scratch: Path
) -> tuple[Mapping[str, Start], Given, list[str], Any]:
    """Servers, what they are made from, texts, and the right answers to the first of them."""
    starts: Mapping[str, Start] = layouts() if options.layouts else SERVERS
    texts = make_texts(options.workload)
    given = Given(minilm_folder(), minilm().artifact, scratch)
    return starts, given, texts, eager_vectors(given, texts[:COMPARED])


def of_transformer(
    options: argparse.Namespace, scratch: Path
) -> tuple[Mapping[str, Start], Given, list[str], Any]:
    """The right answers are those of the artifact itself, without a server."""
    del options
    artifact = translator.built().artifact
    given = Given(scratch / "weights", artifact, scratch)
    translator.write_weights(artifact / "1", given.weights)
    texts = translator.make_texts()
    right = translator.right_answers(artifact / "1", texts[:COMPARED], scratch)
    return translator.SERVERS, given, texts, right


def run(options: argparse.Namespace) -> dict[str, Any]:
    errors: dict[str, Row] = {}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nlp-benchmark-")))
        prepare = of_transformer if options.model == "transformer" else of_minilm
        starts, given, texts, expected = prepare(options, scratch)
        if options.servers:
            starts = {name: starts[name] for name in options.servers.split(",")}
        running: dict[str, Running] = {}
        for name, start in starts.items():
            print(f"  starting {name}", file=sys.stderr, flush=True)
            try:
                rows = stack.enter_context(start(given))
            except Exception as error:  # one server that cannot run here must not hide the others
                if not options.skip_failing:
                    raise
                errors[name] = {"error": f"{type(error).__name__}: {error}"}
                continue
            running |= {f"{name}_{protocol}".rstrip("_"): row for protocol, row in rows.items()}
        servers = asyncio.run(
            measure(running, texts, agreement_with(expected), options.rounds, options.seconds)
        )
    return {
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "model": options.model,
        "workload": options.workload,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "servers": servers | errors,
        "goals": goals(servers),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the numbers go")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    parser.add_argument(
        "--model", choices=("minilm", "transformer"), default="minilm", help="what is served (%(default)s)"
    )
    workloads: tuple[Workload, ...] = ("short", "mixed")
    parser.add_argument("--workload", choices=workloads, default="short", help="which texts (%(default)s)")
    parser.add_argument(
        "--layouts", action="store_true", help="compare ways to run Triton instead of servers"
    )
    parser.add_argument("--servers", metavar="NAME,NAME", help="only these")
    parser.add_argument(
        "--skip-failing", action="store_true", help="note a server that does not start, and go on"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the blocks that end the servers
    found = run(options)
    write_json(options.json, found)
    print(table(found["servers"]))
    for name, value in found["goals"].items():
        print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
