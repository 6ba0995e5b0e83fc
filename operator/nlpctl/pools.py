"""The pools, their slots, and what lies on them: from the statuses alone.

Pure. What the person asking may not read is missing here too, and the caller says so.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

from nlp_operator.api.names import shared_name
from nlp_operator.api.spec import PoolSpec, parse_pool
from nlp_operator.errors import SpecInvalid
from nlp_operator.planning.packing.explain import percent
from nlp_operator.planning.packing.problem import Server
from nlp_operator.planning.scaling.observed import asked_last
from nlpctl.report import Obj, listed, number, part, read_condition
from nlpctl.why import busy_millis, key_of, merged, name_of, servers_of

MOST_CELLS = 600
"""Devices of a pool that are drawn: ten lines of a terminal. A pool may have 100,000."""


@dataclass(frozen=True)
class Lying:
    """One server in one pool."""

    model: str
    """Namespace and name of its model; of a shared server its own, with all that are in it."""
    replicas: int
    devices: int
    """Of one replica."""
    busy_millis: int = 0
    """Of a shared one: thousandths of its slot that its models keep busy at their busiest, as far as that is
    known."""

    @property
    def held(self) -> int:
        return self.replicas * self.devices


@dataclass(frozen=True)
class PoolPicture:
    name: str
    problem: str
    """Why it is not Ready, in a sentence; empty when it is."""
    price_per_hour: str
    memory_mebibytes: int
    max_devices: int
    present: int
    """Devices on nodes that are there."""
    pending: int
    """Devices that pods wait for."""
    lying: tuple[Lying, ...]
    """The largest first."""

    @property
    def held(self) -> int:
        return sum(one.held for one in self.lying)

    @property
    def headline(self) -> str:
        waits = f", {self.pending} waited for" if self.pending else ""
        return (
            f"{self.held} of {self.max_devices} devices held, {self.present} present{waits}; "
            f"{self.memory_mebibytes:,} MiB each at {self.price_per_hour} an hour"
        )

    def cells(self) -> list[str]:
        """The model in each device that may be held, empty where none is: of as many as are drawn."""
        taken = (one.model for one in self.lying for _ in range(one.held))
        free = repeat("", max(self.max_devices - self.held, 0))
        return list(islice(chain(taken, free), MOST_CELLS))

    @property
    def not_drawn(self) -> str:
        """In words; empty when all are drawn."""
        rest = max(self.held, self.max_devices) - MOST_CELLS
        free = min(rest, self.max_devices - self.held)
        if rest <= 0:
            return ""
        return f"and {rest:,} more, {f'{free:,} of them' if free > 0 else 'none of them'} free"


def picture(pools: Sequence[Obj], models: Iterable[Obj]) -> list[PoolPicture]:
    """The cheapest pool first."""
    servers: dict[str, list[Server]] = {}
    models = list(models)
    for server in merged(server for model in models for server in servers_of(model)):
        servers.setdefault(server.pool, []).append(server)
    loads = {"/".join(key_of(one)): busy_millis(one) * asked_last(one) for one in models}
    found = [_picture(pool, servers.get(name_of(pool), []), loads) for pool in pools]
    return sorted(found, key=lambda one: (float(one.price_per_hour or "inf"), one.name))


def title_of(server: Server) -> str:
    if not server.shared:
        return server.models[0]
    names = [model.partition("/")[2] for model in server.models]
    return f"{server.namespace}/{shared_name(server.name)} ({', '.join(names)})"


def _busy(server: Server, loads: Mapping[str, int]) -> int:
    if not server.shared:
        return 0
    return sum(loads.get(one, 0) for one in server.models) // max(server.replicas * server.devices, 1)


def _picture(pool: Obj, servers: Sequence[Server], loads: Mapping[str, int]) -> PoolPicture:
    spec: PoolSpec | None
    try:
        spec, problem = parse_pool(pool), _problem(pool)
    except SpecInvalid as error:
        spec, problem = None, str(error)
    devices = part(part(pool, "status"), "devices")
    lying = [Lying(title_of(one), one.replicas, one.devices, _busy(one, loads)) for one in servers]
    return PoolPicture(
        name=name_of(pool),
        problem=problem,
        price_per_hour=spec.price_per_hour if spec is not None else "",
        memory_mebibytes=spec.memory_mebibytes if spec is not None else 0,
        max_devices=spec.max_devices if spec is not None else 0,
        present=number(devices.get("present")),
        pending=number(devices.get("pending")),
        lying=tuple(sorted(lying, key=lambda one: (-one.held, one.model))),
    )


def _problem(pool: Obj) -> str:
    conditions = [read_condition(one) for one in listed(part(pool, "status"), "conditions")]
    ready = next((one for one in conditions if one.type == "Ready"), None)
    if ready is None:
        return "The operator has not looked at this pool yet."
    return "" if ready.status == "True" else ready.message or ready.reason


# --- for a browser ---

COLOURS = ("#4878a8", "#c8703c", "#5a9a5a", "#9a5aa0", "#b0903c", "#3c9a9a", "#c0507a", "#70706a")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Device pools</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }}
.slots {{ display: flex; flex-wrap: wrap; gap: 3px; margin: .5em 0; }}
.slots i {{ width: 16px; height: 16px; border-radius: 3px; background: #e4e4e0; }}
.problem {{ color: #a03020; }}
td {{ padding: 0 1em 0 0; }} td i {{ display: inline-block; width: 12px; height: 12px; border-radius: 3px; }}
</style>
<h1>Device pools</h1>
{pools}
{notes}
</html>
"""


def page(pictures: Sequence[PoolPicture], notes: Sequence[str] = ()) -> str:
    """One file; nothing is loaded."""
    sections = "\n".join(_section(one) for one in pictures) or "<p>There is no DevicePool.</p>"
    return PAGE.format(pools=sections, notes="\n".join(f"<p>{html.escape(note)}</p>" for note in notes))


def _section(pool: PoolPicture) -> str:
    colour = {one.model: COLOURS[n % len(COLOURS)] for n, one in enumerate(pool.lying)}
    cells = "".join(
        f'<i style="background:{colour[model]}" title="{html.escape(model)}"></i>'
        if model
        else '<i title="free"></i>'
        for model in pool.cells()
    )
    rows = "".join(
        f'<tr><td><i style="background:{colour[one.model]}"></i></td><td>{html.escape(one.model)}</td>'
        f"<td>{html.escape(counts(one))}</td></tr>"
        for one in pool.lying
    )
    more = f"<p>{html.escape(pool.not_drawn)}</p>" if pool.not_drawn else ""
    problem = f'<p class="problem">{html.escape(pool.problem)}</p>' if pool.problem else ""
    return (
        f"<h2>{html.escape(pool.name)}</h2><p>{html.escape(pool.headline)}</p>{problem}"
        f'<div class="slots">{cells}</div>{more}<table>{rows}</table>'
    )


def counts(one: Lying) -> str:
    replicas = "1 replica" if one.replicas == 1 else f"{one.replicas} replicas"
    what = replicas if one.devices == 1 else f"{replicas} of {one.devices} devices"
    return f"{what}, up to {percent(one.busy_millis, 1000)} busy" if one.busy_millis else what
