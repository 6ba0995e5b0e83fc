"""Measures the memory of the server's processes and devices, and keeps what was measured last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace

from nlp_agent.backends import all_pids
from nlp_agent.devices import Device, Devices, look_in_thread
from nlp_agent.errors import DevicesUnknown
from nlp_agent.loader import Proof
from nlp_agent.log import log
from nlp_agent.measures import Measures, ModelMeasures, ServerMeasures, on_devices
from nlp_agent.memory import held_by
from nlp_agent.settings import Settings


class Meter:
    def __init__(self, settings: Settings) -> None:
        self.devices = Devices(settings.visible_devices)
        self.measures = Measures()
        self._triton_base = 0
        self._lock = asyncio.Lock()

    def triton_runs(self, pid: int) -> None:
        """To be said before the first model is loaded."""
        self._triton_base = held_by([pid]).total

    async def measure(
        self, envoy: int | None, triton: int | None, proofs: Mapping[str, Proof], gpu: bool
    ) -> None:
        """`gpu` says that the server has GPUs. The kernel walks every page of a process to answer, so this is
        done in threads."""
        async with self._lock:
            devices, fault = await self._look() if gpu else ((), "")
            if fault != self.measures.server.device_fault:
                log("what is known of the GPUs changed", level="error" if fault else "info", error=fault)
            server = ServerMeasures(triton_base=self._triton_base, devices=devices, device_fault=fault)
            self.measures = await asyncio.to_thread(
                _read, server, envoy, triton, dict(proofs), self.measures.models
            )

    async def _look(self) -> tuple[tuple[Device, ...], str]:
        try:
            return await look_in_thread(self.devices), ""
        except DevicesUnknown as unknown:
            return (), str(unknown)


def _read(
    server: ServerMeasures,
    envoy: int | None,
    triton: int | None,
    proofs: Mapping[str, Proof],
    before: Mapping[str, ModelMeasures],
) -> Measures:
    alive = all_pids() if server.devices else frozenset()
    models = {}
    for name, proof in proofs.items():
        held, known = held_by(proof.stubs), before.get(name, ModelMeasures())
        models[name] = ModelMeasures(
            held=held,
            pids=proof.stubs,
            peak=max(held.total, known.peak if known.pids == proof.stubs else 0),
            inside_triton=proof.inside_triton,
            devices=on_devices(server.devices, proof.stubs, alive, proof.grew),
            fetch_seconds=proof.fetch_seconds,
            proof_seconds=proof.proof_seconds,
        )
    measured = replace(
        server,
        agent=held_by([os.getpid()]),
        envoy=held_by([] if envoy is None else [envoy]),
        triton=held_by([] if triton is None else [triton]),
    )
    return Measures(measured, models)
