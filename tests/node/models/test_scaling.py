"""A step of load on a model that sleeps for a fixed time, so that replicas add capacity whatever the machine
has: real kubelet, Triton, Envoy, and the operator that asks the pods. Two minutes; before a release."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import pytest

from localcluster.cluster import Cluster
from tests.faults.plain_api import Obj
from tests.nlp_agent.artifacts import make_artifact
from tests.node.models.place import MODEL, Place, until

pytestmark = pytest.mark.release

SLEEPS = "sleeper"
SERVICE_SECONDS = 0.1
"""A replica bears ten requests a second."""
QUIET, BUSY = 3.0, 16.0
TARGET_SECONDS = 1.0
OPERATOR = ("-n", "nlp-system", "deployment/nlp-operator")


@pytest.fixture
def measuring(installed: Cluster) -> Iterator[None]:
    """The operator measures by asking pods, as if an administrator had set it."""

    def restart(setting: str) -> None:
        installed.kubectl("set", "env", *OPERATOR, setting)
        installed.kubectl("rollout", "status", *OPERATOR, "--timeout=120s")

    restart("NLP_OPERATOR_SIGNALS=Scrape")
    yield
    restart("NLP_OPERATOR_SIGNALS-")


def put_sleeper(place: Place) -> Obj:
    """Builds the sample, and leaves in the store an artifact that sleeps as the result of that build: whoever
    asks for the same build gets it. Gives what `apply` takes."""
    place.apply_sample()
    place.wait_for("Built", "True")
    store = place.cluster.volume(place.namespace, "nlp-store")
    (file,) = (store / "results").iterdir()
    result = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(result | {"digest": make_artifact(store)}), encoding="utf-8")
    place.kubectl("delete", f"nlp/{MODEL}")
    (model,) = (one for one in place.sample(MODEL) if one["kind"] == "NLPModel")
    model["metadata"]["name"] = SLEEPS
    target = {"quantile": "0.95", "milliseconds": int(1000 * TARGET_SECONDS)}
    model["spec"]["scaling"] = {"minReplicas": 1, "maxReplicas": 4, "latencyTarget": target}
    return model


class Load:
    """Requests at even intervals, whatever becomes of those before; each on a connection of its own, so that
    every pod behind the Service gets its share."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.partition(":")
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [f"sleep {SERVICE_SECONDS}"]}
        body = json.dumps({"inputs": [tensor]}).encode()
        head = f"POST /v2/models/{SLEEPS}/infer HTTP/1.1\r\nHost: {SLEEPS}\r\nConnection: close\r\n"
        self._request = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.took: list[tuple[float, float]] = []
        """When each answer came, and after how long."""
        self.failures: list[str] = []

    async def _ask(self) -> None:
        begun = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(self._host, int(self._port))
            writer.write(self._request)
            answer = await reader.read()
            writer.close()
        except OSError as error:
            self.failures.append(str(error))
            return
        if b" 200 " not in answer[:20]:
            self.failures.append(answer[:200].decode(errors="replace"))
        now = time.monotonic()
        self.took.append((now, now - begun))

    async def offer(self, rate: float, ended: asyncio.Event) -> None:
        asked: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not ended.is_set():
            due += 1 / rate
            await asyncio.sleep(due - time.monotonic())
            asked.add(asyncio.create_task(self._ask()))
        await asyncio.gather(*asked)

    def lately(self, seconds: float = 10.0) -> list[float]:
        """Sorted."""
        return sorted(took for at, took in self.took if at > time.monotonic() - seconds)


def late(load: Load, rate: float) -> bool | None:
    """Whether one in twenty of the last ten seconds was; `None` while too few were answered."""
    took = load.lately()
    return None if len(took) < 5 * rate else took[int(0.95 * len(took))] > TARGET_SECONDS


def test_a_step_of_load_gets_replicas_and_the_latency_comes_back(place: Place, measuring: None) -> None:
    place.apply(put_sleeper(place))
    place.wait_ready(SLEEPS)
    load = Load(place.address(8000, SLEEPS))

    def told() -> Obj:
        found: Obj = place.model(SLEEPS)["status"]["scaling"]
        return found

    def wait(what: str, holds: Callable[[], object]) -> None:
        until(holds, what, 120.0)

    async def story() -> None:
        async def during(rate: float, *steps: tuple[str, Callable[[], object]]) -> None:
            ended = asyncio.Event()
            offering = asyncio.create_task(load.offer(rate, ended))
            try:
                for what, holds in steps:
                    await asyncio.to_thread(wait, what, holds)
            finally:
                ended.set()
                await offering

        def decides() -> bool:
            return "wanted." in told()["reason"].rpartition(" replica")[2]

        await during(QUIET, ("it is measured", decides))
        assert told()["desired"] == 1, told()
        await during(
            BUSY,
            ("more replicas", lambda: told()["desired"] >= 2),
            ("they serve", lambda: len(ready(place)) >= 2),
            ("the latency is back", lambda: late(load, BUSY) is False),
        )

    asyncio.run(story())
    assert not load.failures, load.failures[:3]
    assert f"where {1000 * TARGET_SECONDS:,.0f} ms are wanted" in told()["reason"], told()
    assert place.kubectl("get", "events", "--field-selector=reason=Scaled", "-o", "name")
    print(f"{told()['desired']} replicas; {len(load.took)} answers")


def ready(place: Place) -> list[Obj]:
    return [
        pod
        for pod in place.pods(name=SLEEPS)
        if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])
    ]
