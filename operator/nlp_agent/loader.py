"""Brings one model into Triton and proves it. Every step may say `Refused`; then what served before serves
again.

A new version first proves itself under a temporary name, beside the one that serves. Only then is it loaded
under the real name: Triton swaps the two without failing a request (measured), while unload and load would
fail thousands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nlp_agent import device_check, repository
from nlp_agent.artifact import Stop, fetch
from nlp_agent.backends import all_pids, find_dead, find_stubs
from nlp_agent.devices import Device, Devices, look_in_thread
from nlp_agent.errors import AgentError, DevicesUnknown, Refused, RequestFailed, Slow, TooSlow
from nlp_agent.examples import Example, double, find_difference, fitting, parse_examples
from nlp_agent.log import log
from nlp_agent.memory import held_by, maps_library
from nlp_agent.model_config import check_device, read_built_config, write_model_config
from nlp_agent.server_config import ServerConfig, Spec, only_instances
from nlp_agent.settings import Settings
from nlp_agent.triton import TritonClient

# After a change of the instances only, surplus ones end within 4 s (measured).
INSTANCES_SECONDS = 10.0
BUSY_SECONDS = 5.0
"""A change of the instances that takes longer starts slowly, or waits for the queue of the model."""


@dataclass(frozen=True)
class Proof:
    """A model that answered all its examples."""

    examples: tuple[Example, ...]
    max_batch_size: int
    """As loaded; 0 without a batch dimension."""
    load_seconds: float
    """0 of one that was loaded already: a change of instances."""
    memory_bytes: int
    stubs: frozenset[int]
    """The backend's processes; empty for a backend inside Triton."""
    fetch_seconds: float = 0.0
    proof_seconds: float = 0.0
    inside_triton: int = 0
    """Estimate: bytes of its own by which Triton's process grew from before the load to after the proof."""
    grew: Mapping[str, int] = field(default_factory=dict)
    """Estimate: likewise for the memory in use on each GPU, by its UUID."""
    leaving: frozenset[int] = frozenset()
    """The processes of before a heal. Triton ends them, or hangs with their dead sibling and never does
    (2.51, measured)."""


CHANGE_SECONDS = 86_400.0
"""Longest change of instances. Triton itself ends the start of one that hangs, and what waits for a queue is
still under way."""


def with_growth_of(proof: Proof, before: Proof | None) -> Proof:
    """The proof of a reload of the same artifact: what only a load shows stays as it was seen then."""
    if before is None:
        return proof
    return replace(
        proof,
        load_seconds=proof.load_seconds or before.load_seconds,
        fetch_seconds=before.fetch_seconds,
        inside_triton=before.inside_triton,
        grew=before.grew,
    )


class RefusedAndLost(Refused):
    """Refused, and what served before could not be brought back."""


class StillLoading(AgentError):
    """Triton has not said yet what became of a change of the instances."""


@dataclass(frozen=True)
class Late:
    """A change of the instances that nobody stands and waits for."""

    spec: Spec
    loading: asyncio.Task[None]
    undo: Callable[[], None]


@dataclass(frozen=True)
class Loader:
    settings: Settings
    config: ServerConfig
    client: TritonClient
    triton_pid: int
    triton_version: str
    devices: Devices
    stop: Stop
    """Asked during a download: whether something more urgent waits."""
    late: dict[str, Late] = field(default_factory=dict)
    """By model; of one start of Triton."""

    async def bring(self, spec: Spec, beside: Spec | None) -> Proof:
        """Raises `Refused` with the old version serving, `RefusedAndLost` without, `PutOff`, `TritonGone`;
        `StillLoading` with the old number proven: to be called again when `late` has ended."""
        if beside is not None and only_instances(spec, beside):
            return await self._change_instances(spec, beside)
        started = asyncio.get_running_loop().time()
        artifact, built = await asyncio.to_thread(self._fetch, spec, self.stop)
        examples = parse_examples((artifact / "examples.json").read_bytes(), spec.streams)
        fetched = asyncio.get_running_loop().time() - started
        if beside is None:
            proof = await self._bring_first(spec, artifact, built, examples)
        elif beside.digest == spec.digest:
            proof = await self._replace(spec, beside, artifact, built, examples)
        else:
            alone = await self._prove_candidate(spec, artifact, built, examples)
            proof = await self._replace(spec, beside, artifact, built, examples)
            # What a version takes by itself shows beside the old one, not when it takes that one's place.
            proof = replace(proof, inside_triton=alone.inside_triton, grew=alone.grew)
        return replace(proof, fetch_seconds=fetched)

    async def heal(self, spec: Spec) -> Proof:
        """New backend processes for what is loaded.

        Raises `RefusedAndLost`, with the model unloaded, when that is no cure.
        """
        artifact = self.settings.work / "artifacts" / spec.digest
        try:
            examples = parse_examples((artifact / "examples.json").read_bytes(), spec.streams)
            before = self._stubs(spec.name)
            self.late.pop(spec.name, None)
            built = read_built_config(artifact, self.config.device, self.triton_version)
            # With the number that was proven, whatever was tried since.
            repository.rewrite_config(
                self.settings.repository, spec.name, self._config_text(built, spec, spec.name)
            )
            repository.renew(self.settings.repository / spec.name)
            proof = await self._load_and_prove(spec, spec.name, examples, before)
        except Refused as refused:
            await self.remove(spec.name)
            raise RefusedAndLost(refused.reason, refused.message) from refused
        return replace(proof, leaving=before)

    async def remove(self, name: str) -> None:
        await self.client.unload(name)
        repository.remove(self.settings.repository, name)

    async def _bring_first(
        self, spec: Spec, artifact: Path, built: str, examples: tuple[Example, ...]
    ) -> Proof:
        # Envoy has no route to the name before the proof, so no caller meets an unproven model.
        repository.place(
            self.settings.repository, spec.name, artifact, self._config_text(built, spec, spec.name)
        )
        try:
            return await self._load_and_prove(spec, spec.name, examples, frozenset(), fresh=True)
        except Refused:
            await self.remove(spec.name)
            raise

    async def _prove_candidate(
        self, spec: Spec, artifact: Path, built: str, examples: tuple[Example, ...]
    ) -> Proof:
        name = repository.candidate_name(spec.name)
        repository.place(self.settings.repository, name, artifact, self._config_text(built, spec, name))
        try:
            return await self._load_and_prove(spec, name, examples, frozenset(), fresh=True)
        finally:
            await self.remove(name)

    async def _replace(
        self, spec: Spec, beside: Spec, artifact: Path, built: str, examples: tuple[Example, ...]
    ) -> Proof:
        text = self._config_text(built, spec, spec.name)
        undo = repository.place(self.settings.repository, spec.name, artifact, text)
        proof = await self._load_or_back(spec, beside, examples, self._stubs(spec.name), undo)
        repository.keep(self.settings.repository, spec.name)
        return proof

    async def _change_instances(self, spec: Spec, beside: Spec) -> Proof:
        """Of what is loaded: Triton adds or ends some, and the others go on. It needs nothing that is not in
        the folder of the model, so nothing is fetched or looked at anew."""
        artifact = self.settings.work / "artifacts" / spec.digest
        try:
            examples = parse_examples((artifact / "examples.json").read_bytes(), spec.streams)
            built = read_built_config(artifact, self.config.device, self.triton_version)
        except OSError as error:
            raise _unreadable(error) from error
        late = self.late.pop(spec.name, None)
        if late is None:
            text = self._config_text(built, spec, spec.name)
            undo = repository.rewrite_config(self.settings.repository, spec.name, text)
            loading = asyncio.create_task(self.client.load(spec.name, CHANGE_SECONDS))
            late = Late(spec, loading, undo)
        # Processes that run prove nothing: each may still fail. Only Triton's word does.
        await asyncio.wait([late.loading], timeout=BUSY_SECONDS)
        if not late.loading.done():
            self.late[spec.name] = late
            raise StillLoading(f"Triton still changes the instances of {spec.name!r}.")
        try:
            await late.loading
        except Refused:
            late.undo()
            raise
        return await self._load_or_back(spec, beside, examples, frozenset(), late.undo, serves=True)

    async def _load_or_back(
        self,
        spec: Spec,
        beside: Spec,
        examples: tuple[Example, ...],
        before: frozenset[int],
        undo: Callable[[], None],
        serves: bool = False,
    ) -> Proof:
        try:
            return await self._load_and_prove(spec, spec.name, examples, before, serves=serves)
        except Refused as refused:
            undo()
            await self._back_to(beside, refused)
            raise

    async def _back_to(self, spec: Spec, refused: Refused) -> None:
        """The folder is as before; make Triton follow and prove it, for its backend may have gone with the
        attempt.
        """
        log("going back to the version before", model=spec.name, digest=spec.digest, reason=refused.reason)
        try:
            artifact, _ = await asyncio.to_thread(self._fetch, spec)
            examples = parse_examples((artifact / "examples.json").read_bytes(), spec.streams)
            await self._load_and_prove(spec, spec.name, examples, frozenset())
        except Refused as second:
            await self.remove(spec.name)
            message = f"{refused.message} Going back failed too: {second.message}"
            raise RefusedAndLost(refused.reason, message) from second

    def _fetch(self, spec: Spec, stop: Stop = lambda: False) -> tuple[Path, str]:
        work = self.settings.work
        try:
            partial = self.settings.downloads / spec.digest
            artifact = fetch(self.settings.store, spec.digest, work / "artifacts", partial, stop)
            built = read_built_config(artifact, self.config.device, self.triton_version)
        except OSError as error:
            raise _unreadable(error) from error
        if not (artifact / "examples.json").is_file():
            raise Refused(
                "ArtifactDamaged", "The artifact has no examples.json, so nothing can prove the model."
            )
        return artifact, built

    def _config_text(self, built: str, spec: Spec, name: str) -> str:
        return write_model_config(built, spec, name, self.config.device, self.config.devices)

    def _stubs(self, name: str) -> frozenset[int]:
        return find_stubs(self.triton_pid, self.settings.repository).get(name, frozenset())

    async def _load_and_prove(
        self,
        spec: Spec,
        name: str,
        examples: tuple[Example, ...],
        before: frozenset[int],
        fresh: bool = False,
        serves: bool = False,
    ) -> Proof:
        """`before` are the processes of the version that this load replaces; `fresh` says that it replaces
        nothing, `serves` that it is loaded already, and its callers may keep it busy."""
        loop = asyncio.get_running_loop()
        devices = await self._look_at_devices()
        triton = held_by([self.triton_pid]).private
        started = loop.time()
        if not serves:
            await self.client.load(name, self.settings.timing.load)
        loaded_at = loop.time() if not serves else started
        loaded = await self.client.loaded_config(name)
        check_device(loaded, self.config.device)
        examples = fitting(examples, loaded.max_batch_size)
        # Before the proof: one that dies during it is missed, and known as dead, not as absent.
        stubs = self._stubs(name) - before
        await self._prove(name, examples, loaded.max_batch_size, stubs, serves)
        proven_at = loop.time()
        inside = not stubs
        if not before:
            stubs = await self._settle(name, self.config.at_a_time(spec), stubs)
        grew = await self._check_work(devices, stubs, inside, fresh) if devices and (stubs or inside) else {}
        return Proof(
            examples=examples,
            max_batch_size=loaded.max_batch_size,
            load_seconds=loaded_at - started,
            memory_bytes=held_by(stubs).total,
            stubs=stubs,
            proof_seconds=proven_at - loaded_at,
            inside_triton=max(0, held_by([self.triton_pid]).private - triton) if fresh else 0,
            grew=grew if fresh else {},
        )

    async def _prove(
        self,
        name: str,
        examples: tuple[Example, ...],
        max_batch_size: int,
        stubs: frozenset[int],
        serves: bool,
    ) -> None:
        try:
            await prove(self.client, name, examples, max_batch_size, self.settings.timing.answer)
        except Refused as refused:
            if find_dead(self.triton_pid, {name: stubs}):
                message = f"A process of the backend died during the proof. {refused.message}"
                raise Refused("BackendDied", message) from refused
            if not (serves and isinstance(refused, Slow)):
                raise

    async def _look_at_devices(self) -> tuple[Device, ...]:
        """The GPUs of a GPU server; nothing on another one."""
        if self.config.device != "gpu":
            return ()
        try:
            devices = await look_in_thread(self.devices)
        except DevicesUnknown as unknown:
            raise Refused("DeviceMissing", str(unknown)) from unknown
        why = device_check.why_too_few(devices, self.config.devices)
        if why:
            raise Refused("DeviceMissing", why)
        return devices

    async def _check_work(
        self, before: tuple[Device, ...], stubs: frozenset[int], inside: bool, fresh: bool
    ) -> dict[str, int]:
        """By how much memory in use on each GPU grew. Raises `Refused` when the model does nothing there."""
        after = await self._look_at_devices()
        workers = frozenset({self.triton_pid}) if inside else stubs
        why = device_check.why_on_cpu(
            device_check.Seen(
                before=before,
                after=after,
                workers=workers,
                inside=inside,
                fresh=fresh,
                alive=all_pids(),
                with_driver=[pid for pid in workers if maps_library(pid, device_check.DRIVER)],
            )
        )
        if why:
            raise Refused("RunsOnCpu", why)
        return device_check.growth(before, after)

    async def _settle(self, name: str, processes: int, stubs: frozenset[int]) -> frozenset[int]:
        """Wait for surplus instances to end: their end must not look like a death."""
        deadline = asyncio.get_running_loop().time() + INSTANCES_SECONDS
        while len(stubs) > processes:
            if asyncio.get_running_loop().time() > deadline:
                return frozenset()
            await asyncio.sleep(0.1)
            stubs = self._stubs(name)
        return stubs


def _unreadable(error: OSError) -> Refused:
    message = f"Its files cannot be handled here: {error.strerror or error} ({error.filename})."
    return Refused("LoadFailed", message)


async def prove(
    client: TritonClient, name: str, examples: tuple[Example, ...], max_batch_size: int, patience: float
) -> None:
    """Every example, then the first one twice in a batch. Raises `Refused` (WrongAnswers, or LoadFailed when
    slow).
    """
    asked = list(examples)
    with contextlib.suppress(StopIteration):
        asked.append(next(twice for example in examples if (twice := double(example, max_batch_size))))
    for example in asked:
        difference = await ask(client, name, example, patience)
        if difference:
            raise Refused("WrongAnswers", difference)


async def ask(client: TritonClient, name: str, example: Example, patience: float) -> str:
    """A sentence on what is wrong with the answer to a proof's example; empty when it is right."""
    try:
        answers = await client.ask(name, example, patience)
    except RequestFailed as error:
        return f"Example {example.name!r} failed: {error}"
    except TooSlow as error:
        raise Slow("LoadFailed", f"Example {example.name!r}: {error}") from error
    return find_difference(example, answers)
