"""`nlpctl build` and `nlpctl serve`: what they take, and what they print."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpctl import values
from nlpctl.errors import NotPossible
from nlpctl.local.options import files_option

if (
    TYPE_CHECKING
):  # loading pydantic and the operator's code takes half a second, which `--help` should not cost
    from localcluster.progress import Progress
    from nlpctl.local.builds import Built
    from nlpctl.local.serving import Running


def manifest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            files_option,
            click.option(
                "--input",
                "inputs",
                multiple=True,
                metavar="[MODEL/]NAME=PATH",
                help="A file or folder to take for an input, whatever its source says. Repeatable.",
            ),
            click.option(
                "--credentials",
                multiple=True,
                metavar="[MODEL/]NAME=DIR",
                help="A folder with the keys of an input's Secret, a file each. Repeatable.",
            ),
            click.option(
                "--store",
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIR",
                help="Where sources and artifacts are kept; default: a folder of the cache.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Build the models of a manifest on this machine, without a cluster.")
@manifest_options
def build(
    files: Sequence[str], inputs: Sequence[str], credentials: Sequence[str], store: Path | None, as_json: bool
) -> None:
    """Build the models of a manifest on this machine, without a cluster.

    The manifest is the one for kubectl apply, and is held to the same rules. The builders are those of the
    build Job, with the packages of its image; the artifact's digest is the same as in a cluster. What was
    built before is found in the store.

    A ConfigMap in the files is read; a PersistentVolumeClaim needs --input, for only a cluster has it.

    \b
    Examples:
      nlpctl build -f manifests/samples/korean-novels.yaml
      nlpctl build -f model.yaml --input corpus=./novels
      nlpctl build -f encoder.yaml --input weights=./my-model --json | jq -r '.models[].digest'
    """
    from localcluster.interrupts import interruptible

    with interruptible(signal.SIGTERM, signal.SIGHUP):
        built, _ = _build(files, inputs, credentials, store)
    if as_json:
        click.echo(
            values.as_json({"store": str(_store(store)), "models": [_built_value(one) for one in built]})
        )
        return
    for one in built:
        _print_built(one, _store(store))


@click.command(short_help="Build and serve the models of a manifest on this machine, without a cluster.")
@manifest_options
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port of HTTP on loopback; default: 8000, or another that is said when that is in use.",
)
def serve(
    files: Sequence[str],
    inputs: Sequence[str],
    credentials: Sequence[str],
    store: Path | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Build the models of a manifest and serve them on this machine, without a cluster.

    The same agent, Triton and Envoy as in a pod, with the same configuration, all on loopback. A model
    answers once its recorded examples gave the recorded answers. The first time, Triton and Envoy are
    downloaded into the cache. Ctrl-C finishes requests in flight and ends everything; a second one hurries.

    Several models of the files are served by one server.

    \b
    Examples:
      nlpctl serve -f manifests/samples/korean-novels.yaml
      nlpctl infer --local korean-novels 막걸리            from another terminal
      nlpctl serve -f encoder.yaml --input weights=./my-model --port 9000
    """
    from localcluster.interrupts import interruptible
    from localcluster.serving_env import check_machine, serving_environment
    from nlpctl.local import servers
    from nlpctl.local.serving import serving

    ready = False
    try:
        with interruptible(signal.SIGTERM, signal.SIGHUP):
            _possible(check_machine)  # before minutes of downloads and building
            built, seconds = _build(files, inputs, credentials, store)
            progress = _progress()
            started = time.monotonic()
            environment = _possible(lambda: serving_environment(progress))
            seconds["environment"] += time.monotonic() - started
            for name, other in ((one.model.name, servers.server_of(one.model.name)) for one in built):
                if other is not None:
                    progress.say(f"  {name} is served at {other.http} too; `nlpctl infer` asks the new one")
            with serving(built, _store(store), environment, progress, http_port=port) as running:
                seconds["start"] = running.start_seconds
                if as_json:
                    click.echo(values.as_json(_served_value(running, built, seconds)))
                else:
                    _print_served(running, built)
                ready = True
                running.wait()
    except KeyboardInterrupt:
        if not ready:
            raise


def _build(
    files: Sequence[str], inputs: Sequence[str], credentials: Sequence[str], store: Path | None
) -> tuple[list[Built], dict[str, float]]:
    """The built models, and seconds by stage."""
    from nlpctl.local.builds import build_models, builder_environments
    from nlpctl.local.inputs import Given, parse_given, take_given
    from nlpctl.local.manifests import read_manifests

    given = Given(parse_given("--input", inputs), parse_given("--credentials", credentials))
    manifests = take_given(read_manifests(files), given)
    progress = _progress()
    if manifests.left_out:
        progress.say(f"  left out, for it means nothing without a cluster: {', '.join(manifests.left_out)}")
    started = time.monotonic()
    _make_store(_store(store))
    environments = _possible(lambda: builder_environments(manifests.models, progress))
    seconds = {"environment": time.monotonic() - started}
    built = _possible(lambda: build_models(manifests, given, _store(store), environments, progress))
    seconds["fetch"] = sum(one.fetch_seconds for one in built)
    seconds["build"] = sum(one.build_seconds for one in built)
    return built, seconds


def _possible(do: Callable[[], Any]) -> Any:
    """What goes wrong with packages, disks and platforms, in our own words."""
    from localcluster.errors import ClusterError

    try:
        return do()
    except ClusterError as error:
        raise NotPossible(str(error)) from error


def _store(given: Path | None) -> Path:
    from localcluster import paths

    return given.absolute() if given is not None else paths.cache_dir() / "store"


def _make_store(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotPossible(
            f"The store {store} cannot be made: {error.strerror}. --store names another."
        ) from error


def _progress() -> Progress:
    from localcluster.progress import Progress

    return Progress()


# --- what is printed ---


def _built_value(one: Built) -> dict[str, Any]:
    return {
        "name": one.model.name,
        "architecture": one.model.spec.build.architecture,
        "digest": one.digest,
        "key": one.key,
        "bytes": one.bytes,
        "cached": one.cached,
        "inputs": [
            {"name": i.name, "sha256": i.sha256, "files": i.files, "bytes": i.bytes} for i in one.inputs
        ],
        "metrics": dict(one.metrics),
        "quality": [{"metric": b.metric, "measured": b.measured, "bound": b.bound} for b in one.bounds],
        "message": one.message,
        "seconds": {"fetch": round(one.fetch_seconds, 3), "build": round(one.build_seconds, 3)},
    }


def _print_built(one: Built, store: Path) -> None:
    from rich.table import Table

    from nlpctl import show

    console = show.terminal()
    state = "was built before" if one.cached else "is built"
    console.print(f"[bold]{one.model.name}[/] {state}. {one.message}", highlight=False)
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("artifact", one.digest)
    facts.add_row("in", str(store / "artifacts" / one.digest))
    for name, measured in one.metrics.items():
        bound = next((b.bound for b in one.bounds if b.metric == name), "")
        facts.add_row(name, f"{show.number(measured)}{f'   [green]✓[/] {bound}' if bound else ''}")
    console.print(facts)


def _served_value(running: Running, built: Sequence[Built], seconds: dict[str, float]) -> dict[str, Any]:
    server = running.server
    return {
        "http": server.http,
        "grpc": server.grpc,
        "metrics": f"http://{server.metrics}/metrics",
        "agent": f"http://{server.agent}",
        "log": server.log,
        "models": [
            {**_built_value(one), "refused": str(running.refused.get(one.model.name, ""))} for one in built
        ],
        "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
    }


def _print_served(running: Running, built: Sequence[Built]) -> None:
    from nlpctl import show

    console = show.terminal()
    server = running.server
    console.print()
    for name, examples in running.examples().items():
        digest = running.digests[name][:12]
        console.print(
            f"[bold]{name}[/] is served: artifact {digest}, {examples} examples proven", highlight=False
        )
    for name, why in running.refused.items():
        console.print(f"[bold]{name}[/] is [red]not[/] served. {why} It is tried again.", highlight=False)
    console.print(f"  HTTP     {server.http}", highlight=False)
    console.print(f"  gRPC     {server.grpc}", highlight=False)
    console.print(f"  metrics  http://{server.metrics}/metrics", highlight=False)
    console.print(f"  log      {server.log}", highlight=False)
    console.print(f"\n  nlpctl infer --local {built[0].model.name} TEXT      from another terminal")
    console.print("\nCtrl-C ends it.")
