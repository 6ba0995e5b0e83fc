"""`nlpctl simulate`: what scaling would do to the models of a manifest on a trace of requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpctl.errors import NotPossible, WrongUse

if TYPE_CHECKING:
    from benchmarks.autoscaling.world import Model, Pool
    from nlpctl.local.manifests import Manifests

MOST_WITHOUT_A_MAXIMUM = 64


@click.command(short_help="What scaling would do to these models on a trace of requests.")
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="Manifests.")
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
    help="What one request takes on a device; `nlpctl status` says it once it is measured.",
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
    cold_start_seconds: float,
    png: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """What scaling would do to the models of a manifest on a trace of requests, beside a tuned HPA.

    The brain is the operator's own. Columns of the trace that have a model's name are that model's; otherwise
    they are taken in order. The DevicePools of the files are the devices there are.

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
    from nlpctl.local.manifests import read_manifests

    manifests = read_manifests(files)
    try:
        case = comparison.load(trace, day, minutes)
    except traces.TraceError as error:
        raise WrongUse(str(error)) from error
    models, columns = _models(manifests, case.trace.names, service_milliseconds / 1000)
    pools, priced = _pools(files, cold_start_seconds)
    shown = preview.preview(
        traces.choose(case.trace, columns),
        case.past and traces.choose(case.past, columns),
        models,
        pools,
        priced=priced,
    )
    notes = [
        f"A request takes {service_milliseconds:g} ms, and a replica {cold_start_seconds:g} s to start.",
        f"The load is {trace.name}: "
        + ", ".join(f"{case.trace.names[c]} for {m.name}" for c, m in zip(columns, models, strict=True))
        + ".",
        *_unbounded(manifests),
        *shown.notes(),
    ]
    try:
        if png:
            png.write_bytes(preview.draw(shown))
        if html:
            html.write_text(preview.page(shown, notes), encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{error.filename} cannot be written: {error.strerror}.") from error
    if as_json:
        click.echo(json.dumps({"totals": shown.totals(), "models": shown.rows(), "notes": notes}))
        return
    from benchmarks.autoscaling.tables import table

    click.echo(f"{table(shown.totals())}\n\n{table(shown.rows())}\n\n" + "\n".join(notes))


def _unbounded(manifests: Manifests) -> list[str]:
    found = [one for one in manifests.models if one.spec.scaling.max_replicas is None]
    return [
        f"{one.name} has no spec.scaling.maxReplicas, which holds it at its {one.spec.scaling.min_replicas}; "
        f"here it may have up to {MOST_WITHOUT_A_MAXIMUM}, to show what it would take."
        for one in found
    ]


def _models(manifests: Manifests, names: Sequence[str], seconds: float) -> tuple[list[Model], list[int]]:
    """The models, and the column of the trace that each takes."""
    from benchmarks.autoscaling.world import Model
    from nlp_operator.planning.scaling.wanted import UNDECLARED_TARGET_SECONDS

    if len(manifests.models) > len(names):
        raise WrongUse(
            f"The files have {len(manifests.models)} models and the trace has {len(names)} columns; "
            "one is needed for each."
        )
    models = []
    for one in manifests.models:
        scaling = one.spec.scaling
        target = scaling.latency_target
        models.append(
            Model(
                one.name,
                base_seconds=seconds,
                target_seconds=target.milliseconds / 1000
                if target
                else max(UNDECLARED_TARGET_SECONDS, 3 * seconds),
                priority=scaling.priority,
                lowest=scaling.min_replicas,
                highest=min(scaling.max_replicas or MOST_WITHOUT_A_MAXIMUM, MOST_WITHOUT_A_MAXIMUM),
            )
        )
    given = [one.name for one in manifests.models]
    if all(name in names for name in given):
        return models, [list(names).index(name) for name in given]
    return models, list(range(len(models)))


def _pools(files: Sequence[str], cold_start_seconds: float) -> tuple[list[Pool], bool]:
    """The pools, and whether they have prices. A pool without one among others that have one costs as much as
    the cheapest of them, as for the operator."""
    from benchmarks.autoscaling.world import Pool
    from nlp_operator.api import names
    from nlp_operator.api.objects import kind, name
    from nlp_operator.api.spec import parse_pool
    from nlp_operator.errors import SpecInvalid
    from nlpctl.local.manifests import documents

    specs = {}
    for obj in (one for file in files for one in documents(file)):
        if kind(obj) != names.POOL_KIND:
            continue
        try:
            specs[name(obj)] = parse_pool(obj)
        except SpecInvalid as error:
            raise WrongUse(f"DevicePool {name(obj)}: {error}") from error
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
