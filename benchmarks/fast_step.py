"""What a change of the instances of a loaded model brings, and how soon.

    python -m benchmarks.fast_step --json build/fast_step.json     # two minutes; no cluster, no root

The real agent, Triton and Envoy. The model sleeps for a tenth of a second a request, so that instances add
capacity on any machine. Clients ask at given moments, more often than three instances bear, then less often
than one does; each request on a connection of its own. In each round `server.json` goes from one instance to
three and back.

Then more is asked for than all three bear, so that Triton does not end the change, and a new version comes:
Triton is started anew for it, while everybody waits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measures import write_rows
from tests.nlp_agent.artifacts import make_artifact
from tests.nlp_agent.open_loop import OpenLoop
from tests.nlp_agent.running import RunningAgent, make_wanted, metric, running_agent, wait_until

MODEL, EACH_SECONDS, MANY = "sleeper", 0.1, 3
MUCH, LITTLE, TOO_MUCH = 40.0, 5.0, 60.0
"""Requests a second; an instance bears ten."""
LONG_QUEUE = 400
SECONDS = 5.0
"""For which what is answered is counted, with one and with three."""


@dataclass(frozen=True)
class Row:
    round: int
    borne_by_one: float
    """Requests a second that were answered."""
    borne_by_many: float
    felt_seconds: float
    """From the write of `server.json` until twice as many are answered as one bears, within a second."""
    up_seconds: float
    """Until the agent tells of all instances as at work. What Triton says comes when the queue has ended."""
    down_seconds: float
    """Until it tells of one again, with few requests."""
    requests: int
    failed: int
    cores_each: float
    """Cores that the server keeps busy for each execution, by the agent."""


def play(agent: RunningAgent, digest: str, number: int) -> Row:
    asks = f"sleep {EACH_SECONDS}"
    with OpenLoop(agent, MODEL, asks, MUCH) as much:
        wait_until("requests are answered", lambda: len(much.asked) > 10)
        by_one = borne(much)
        wrote = time.monotonic()
        up = change(agent, digest, MANY)
        by_many = borne(much)
    felt = next(
        step / 10
        for step in range(10**4)
        if much.answered(wrote + step / 10, wrote + step / 10 + 1) >= 2 / EACH_SECONDS
    )
    cores = wait_until("cores are measured", agent.cores_each)
    with OpenLoop(agent, MODEL, asks, LITTLE) as little:
        down = change(agent, digest, 1)
    asked, failed = len(much.asked) + len(little.asked), len(much.failures) + len(little.failures)
    return Row(number, by_one, by_many, felt, up, down, asked, failed, cores)


@dataclass(frozen=True)
class Ended:
    """What became of those who waited when Triton was ended."""

    queue: float
    """Requests that waited or were executed."""
    requests: int
    failed: int
    longest_seconds: float


def end_under_a_queue(agent: RunningAgent, digest: str) -> Ended:
    asks = f"sleep {EACH_SECONDS}"
    with OpenLoop(agent, MODEL, asks, TOO_MUCH) as load:
        wait_until("a queue grows", lambda: load.asked and load.asked[-1].took > 10 * EACH_SECONDS)
        agent.want(make_wanted(MODEL, digest, batch=1, instances=MANY))
        agent.wait_model(MODEL, instances=1, instancesAtWork=MANY)
        wait_until("it is long", lambda: waiting(agent) > LONG_QUEUE)
        queue, before = waiting(agent), agent.children("tritonserver")
        agent.want(make_wanted(MODEL, make_artifact(agent.store, greeting="new "), batch=1, instances=MANY))
        wait_until("Triton is another", lambda: agent.children("tritonserver") not in ([], before))
    return Ended(queue, len(load.asked), len(load.failures), max(one.took for one in load.asked))


def waiting(agent: RunningAgent) -> float:
    return metric(agent, "envoy_http_downstream_rq_active", envoy_http_conn_manager_prefix="http")


def borne(load: OpenLoop) -> float:
    begun = time.monotonic()
    time.sleep(SECONDS)
    return load.answered(begun, begun + SECONDS)


def change(agent: RunningAgent, digest: str, instances: int) -> float:
    """Seconds until the agent tells of as many."""
    begun = time.monotonic()
    agent.want(make_wanted(MODEL, digest, instances=instances))
    agent.wait_model(MODEL, instancesAtWork=instances, state="Serving", serving=digest, reason="")
    return time.monotonic() - begun


def measure(rounds: int) -> list[Row]:
    with serving(batch=8) as (agent, digest):
        return [play(agent, digest, number) for number in range(1, rounds + 1)]


def measure_end() -> Ended:
    with serving(batch=1) as (agent, digest):
        return end_under_a_queue(agent, digest)


@contextmanager
def serving(batch: int) -> Iterator[tuple[RunningAgent, str]]:
    with running_agent(NLP_MEASURE_SECONDS="1") as agent:
        digest = make_artifact(agent.store)
        agent.want(make_wanted(MODEL, digest, batch=batch))
        agent.start()
        agent.wait_ready()
        yield agent, digest


def said(rows: Sequence[Row]) -> str:
    one, many = median(row.borne_by_one for row in rows), median(row.borne_by_many for row in rows)
    felt = median(row.felt_seconds for row in rows)
    up, down = median(row.up_seconds for row in rows), median(row.down_seconds for row in rows)
    cores = median(row.cores_each for row in rows)
    asked, failed = sum(row.requests for row in rows), sum(row.failed for row in rows)
    return (
        f"{one:.1f} requests/s with one instance, {many:.1f} with {MANY}; {felt:.1f} s until it is felt, "
        f"{up:.1f} s until it is told, {down:.1f} s back; {cores:.2f} cores an execution; "
        f"{failed} of {asked} requests failed"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast_step", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be 1 or more")
    rows = measure(options.rounds)
    print(said(rows), flush=True)
    ended = measure_end()
    print(
        f"{ended.queue:.0f} waited when Triton was ended; {ended.failed} of {ended.requests} requests "
        f"failed, the longest took {ended.longest_seconds:.0f} s",
        flush=True,
    )
    write_rows(options.json, [*rows, ended])
    return 0 if not ended.failed and not any(row.failed for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
