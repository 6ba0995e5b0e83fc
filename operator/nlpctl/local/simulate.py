"""`nlpctl simulate`: what scaling would do to the models of a manifest on a trace of requests."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpctl.errors import ManifestInvalid, NotPossible, WrongUse
from nlpctl.local.options import files_option

if TYPE_CHECKING:
    from benchmarks.autoscaling.traces import Trace
    from benchmarks.autoscaling.world import Model, Pool
    from nlpctl.local.manifests import Manifests
    from nlpctl.local.manifests import Model as Manifest

MOST_REPLICAS = 64
"""Of one model, in the simulator."""


@click.command(short_help="What scaling would do to these models on a trace of requests.")
@files_option
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Requests a minute: day,minute,<model>,...; or one of the other formats of the benchmark.",
)
@click.option("--day", type=int, help="Of a trace of several days; default: the last.")
@click.option("--minutes", type=click.IntRange(min=1), help="Only so many minutes of it.")
@click.option(
    "--service-milliseconds",
    type=click.FloatRange(min=0.1),
    default=100.0,
    show_default=True,
    help="What one request takes on a replica; `nlpctl status` says it once it is measured.",
)
@click.option(
    "--further-milliseconds",
    type=click.FloatRange(min=0),
    metavar="FLOAT",
    help="What each further request of a batch adds; default: 80 % of the first, as the operator believes.",
)
@click.option("--cold-start-seconds", type=click.FloatRange(min=0), default=60.0, show_default=True)
@click.option(
    "--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the picture."
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the page."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def simulate(
    files: Sequence[str],
    trace: Path,
    day: int | None,
    minutes: int | None,
    service_milliseconds: float,
    further_milliseconds: float | None,
    cold_start_seconds: float,
    png: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """What scaling would do to the models of a manifest on a trace of requests, beside a tuned HPA.

    The brain is the operator's own. Columns of the trace that have a model's name are that model's; the
    other models take the other columns in order. The DevicePools of the files are the devices there are.

    \b
    Example:
      nlpctl simulate -f manifests/samples/korean-novels.yaml -f manifests/samples/cpu-pool.yaml \\
          --trace requests.csv --html simulated.html
    """
    try:
        from benchmarks.autoscaling import comparison, preview, traces
    except ImportError as error:
        raise NotPossible(
            f"The simulator is not here ({error.name or error}): it runs from a checkout of the repository, "
            "in the environment that `make install` makes."
        ) from error
    from nlp_operator.planning.scaling.observed import BELIEVED
    from nlpctl.local.manifests import read_manifests

    share = BELIEVED.item_seconds / BELIEVED.seconds(1)
    further = share * service_milliseconds if further_milliseconds is None else further_milliseconds
    if further > service_milliseconds:
        raise WrongUse(
            f"--further-milliseconds is {further:g}; it must be at most --service-milliseconds "
            f"({service_milliseconds:g}): a batch takes no longer than its requests one by one."
        )
    manifests = read_manifests(files)
    pools, priced = _pools(manifests, cold_start_seconds)
    try:
        case = comparison.load(trace, day, minutes)
    except traces.TraceError as error:
        raise WrongUse(str(error)) from error
    columns = _columns(manifests, case.trace.names, trace.name)
    models = [_model(one, service_milliseconds / 1000, further / 1000) for one in manifests.models]
    _check_room(models, pools)
    _check_writable([path for path in (png, html) if path])
    shown = preview.preview(
        traces.choose(case.trace, columns),
        case.past and traces.choose(case.past, columns),
        models,
        pools,
        priced=priced,
    )
    notes = [
        f"A request takes {service_milliseconds:g} ms, each further one of its batch {further:g} ms more, "
        f"and a replica {cold_start_seconds:g} s to start.",
        f"The load is {trace.name}: "
        + ", ".join(f"{case.trace.names[c]} for {m.name}" for c, m in zip(columns, models, strict=True))
        + ".",
        *_cut(case.trace, minutes),
        *(note for one in manifests.models for note in _told_apart(one)),
        *shown.notes(),
    ]
    try:
        if png:
            png.write_bytes(preview.draw(shown))
        if html:
            html.write_text(preview.page(shown, notes), encoding="utf-8")
    except OSError as error:
        raise _unwritable(error) from error
    if as_json:
        click.echo(json.dumps({"totals": shown.totals(), "models": shown.rows(), "notes": notes}))
        return
    click.echo(f"{preview.text(shown.totals())}\n\n{preview.text(shown.rows())}\n\n" + "\n".join(notes))


def _check_writable(paths: Sequence[Path]) -> None:
    """Before the long run, by opening each; what was not there is not left behind."""
    for path in paths:
        there = os.path.lexists(path)
        try:
            with path.open("ab"):
                pass
        except OSError as error:
            raise _unwritable(error) from error
        if not there:
            path.unlink()


def _unwritable(error: OSError) -> WrongUse:
    return WrongUse(f"{error.filename} cannot be written: {error.strerror}.")


def _cut(trace: Trace, minutes: int | None) -> list[str]:
    """Where the trace is not as long as was asked."""
    if minutes is None or trace.seconds == 60 * minutes:
        return []
    return [
        f"--minutes is {minutes}, and {trace.seconds / 60:g} minutes are run: the trace is in stretches of "
        f"{trace.bin_seconds:g} s, and has no more than there are in it."
    ]


def _told_apart(one: Manifest) -> list[str]:
    """What differs here from what its manifest says, or would be in a cluster."""
    from nlp_operator.planning.scaling.wanted import held_to

    spec, said = one.spec, []
    if spec.scaling.max_replicas is None:
        said.append(
            f"{one.name} has no spec.scaling.maxReplicas, which holds it at its {spec.scaling.lowest}; "
            f"here it may have up to {MOST_REPLICAS}, to show what it would take."
        )
    elif spec.scaling.max_replicas > MOST_REPLICAS:
        said.append(
            f"{one.name} may have {spec.scaling.max_replicas} replicas by spec.scaling.maxReplicas; the "
            f"simulator goes up to {MOST_REPLICAS}."
        )
    if spec.scaling.latency_target is None:
        held = held_to(spec.scaling)
        said.append(
            f"{one.name} has no spec.scaling.latencyTarget; it is held to {1000 * held.target_seconds:g} ms "
            f"for {100 * held.quantile:g} % of its requests, as the operator holds it."
        )
    if spec.scaling.mode == "External":
        said.append(f"{one.name} has spec.scaling.mode External: in a cluster somebody else scales it.")
    if spec.suspend:
        said.append(f"{one.name} is suspended, and has no replicas in a cluster before it is resumed.")
    if spec.placement.pool_names:
        said.append(f"{one.name} may be in any pool here: its spec.placement.poolNames are not looked at.")
    if spec.serving.isolation == "Shared":
        said.append(f"{one.name} shares servers by spec.serving.isolation; here it has its own.")
    return said


def _columns(manifests: Manifests, names: Sequence[str], trace: str) -> list[int]:
    """The column of the trace that each model takes: that of its name, or the next that has no model's."""
    given = [one.name for one in manifests.models]
    if len(given) > len(names):
        raise WrongUse(
            f"{trace} has {len(names)} columns of requests ({', '.join(names)}) and the files have "
            f"{len(given)} models ({', '.join(given)}); each needs one. Add columns, or leave models out."
        )
    rest = iter(column for column, name in enumerate(names) if name not in given)
    return [names.index(name) if name in names else next(rest) for name in given]


def _model(one: Manifest, first_seconds: float, further_seconds: float) -> Model:
    from benchmarks.autoscaling.world import Model
    from nlp_operator.planning.scaling.wanted import held_to

    scaling, batch = one.spec.scaling, one.spec.serving.max_batch_size
    held = held_to(scaling)
    item = further_seconds if batch > 1 else 0.0
    return Model(
        one.name,
        base_seconds=first_seconds - item,
        item_seconds=item,
        max_batch=batch,
        replica_limit=max(2 * batch, 4),
        target_seconds=held.target_seconds,
        quantile=held.quantile,
        priority=scaling.priority,
        devices=one.spec.serving.devices_per_replica,
        lowest=min(scaling.lowest, MOST_REPLICAS),
        highest=min(scaling.max_replicas or max(MOST_REPLICAS, scaling.lowest), MOST_REPLICAS),
    )


def _check_room(models: Sequence[Model], pools: Sequence[Pool]) -> None:
    """A replica of each model must fit some pool."""
    largest = max(pools, key=lambda pool: pool.devices)
    for model in models:
        if model.devices > largest.devices:
            raise WrongUse(
                f"A replica of {model.name} takes {model.devices} devices (spec.serving.devicesPerReplica), "
                f"and the largest DevicePool, {largest.name}, has {largest.devices} (spec.maxDevices); raise "
                "that, or take fewer devices."
            )


def _pools(manifests: Manifests, cold_start_seconds: float) -> tuple[list[Pool], bool]:
    """The pools, and whether they have prices. A pool without one among others that have one costs as much as
    the cheapest of them, as for the operator."""
    from benchmarks.autoscaling.world import Pool
    from nlp_operator.api import names
    from nlp_operator.api.objects import kind, name
    from nlp_operator.api.spec import PoolSpec, parse_pool
    from nlp_operator.errors import SpecInvalid
    from nlpctl.local.manifests import misspelt

    specs: dict[str, PoolSpec] = {}
    problems = []
    for file, obj in manifests.others:
        if kind(obj) != names.POOL_KIND:
            continue
        wrong = misspelt(PoolSpec, obj)
        if name(obj) in specs:
            wrong.append("it is in these files twice; leave one out.")
        try:
            specs[name(obj)] = parse_pool(obj)
        except SpecInvalid as error:
            wrong += error.problems
        problems += [f"{file}: {names.POOL_KIND} {name(obj)}: {problem}" for problem in wrong]
    if problems:
        raise ManifestInvalid("\n".join(problems))
    if not specs:
        raise WrongUse(
            "The files have no DevicePool; add one with -f, for it says how many devices there are."
        )
    prices = {pool: float(spec.price_per_hour) for pool, spec in specs.items()}
    cheapest = min((price for price in prices.values() if price > 0), default=1.0)
    pools = [
        Pool(pool, spec.max_devices, price=prices[pool] or cheapest, cold_start_seconds=cold_start_seconds)
        for pool, spec in specs.items()
    ]
    return pools, any(prices.values())
