"""The command line: words in, calls, words out. See `nlpctl --help`."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpctl import values
from nlpctl.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ClusterUnreachable,
    NlpctlError,
    NotFound,
    NotReady,
    WrongUse,
)
from nlpctl.local.commands import build, serve
from nlpctl.local.simulate import simulate
from nlpctl.report import part, read_events, read_model

# Only what `--help` needs is loaded up here: the Kubernetes client, Triton's clients, pydantic and rich take
# from a quarter of a second to a whole one each, and no command needs all of them.
if TYPE_CHECKING:
    from nlpctl import kube

EXIT_CODES = """\b
Exit codes:
  0  done, or: yes
  1  no: not ready, nothing serves the model
  2  the command line, or a manifest, is wrong
  3  the cluster cannot be reached, or refuses these credentials
  4  no such model, or the operator is not installed
  5  the model was reached and refused the request
  6  inputs could not be fetched, or the model not be built
  7  this machine cannot do it
  70 a bug in nlpctl
  130 interrupted"""


CONFIG_HELP = "Kubeconfig; default: $KUBECONFIG, then ~/.kube/config."
CONTEXT_HELP = "Context of the kubeconfig; default: the current one."

SAID_VIA = {"local": "local server"}
"""The way to a model in words, where the word of the JSON says too little."""

SAMPLE = "kubectl apply -f manifests/samples/cpu-pool.yaml -f manifests/samples/korean-novels.yaml"
"""Two of the samples: the others want things of a cluster that a new one does not have."""


@dataclass(frozen=True)
class Globals:
    kubeconfig: str | None
    context: str | None

    def connect(self) -> kube.Cluster:
        from nlpctl import kube

        return kube.connect(self.kubeconfig, self.context)

    def name_a_cluster(self) -> bool:
        """Whether the user has said which cluster is his, here or in the places where kubectl looks."""
        places = (self.kubeconfig, self.context, os.environ.get("KUBECONFIG"))
        in_a_pod = os.environ.get("KUBERNETES_SERVICE_HOST")
        return any(places) or Path("~/.kube/config").expanduser().exists() or bool(in_a_pod)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there."
    )(command)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which cluster and namespace; the cluster's may also stand before the command."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None and parameter.name is not None:
            ctx.obj = replace(ctx.obj, **{parameter.name: value})

    for option in (
        click.option("--context", metavar="NAME", expose_value=False, callback=remember, help=CONTEXT_HELP),
        click.option("--kubeconfig", metavar="FILE", expose_value=False, callback=remember, help=CONFIG_HELP),
        click.option(
            "-n",
            "--namespace",
            metavar="NAME",
            help="Namespace; default: the one of the kubeconfig's context.",
        ),
    ):
        command = option(command)
    return command


@click.group(
    epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--kubeconfig", metavar="FILE", help=CONFIG_HELP)
@click.option("--context", metavar="NAME", help=CONTEXT_HELP)
@click.version_option(package_name="nlp-operator", message="nlpctl %(version)s")
@click.pass_context
def cli(ctx: click.Context, kubeconfig: str | None, context: str | None) -> None:
    """Build and serve NLP models, ask them, and ask why they are where they are.

    \b
    Without a cluster:
      nlpctl serve -f manifests/samples/korean-novels.yaml      builds and serves it on this machine
      nlpctl infer --local korean-novels 막걸리                 from another terminal

    \b
    A first walk with one:
      make demo KEEP=1                           a cluster on this machine, the operator, a model
      export KUBECONFIG=...                      the line with which that ends
      nlpctl status -A                           how are the models?
      nlpctl infer -n demo korean-novels 막걸리  what is near to it?
      nlpctl why -n demo korean-novels           which pool, and why not the others

    As a kubectl plugin the same commands are `kubectl nlp infer ...`.
    """
    ctx.obj = Globals(kubeconfig, context)


@cli.command()
@click.argument("model")
@click.argument("text")
@click.option("--pair", metavar="TEXT", help="A second text: the answer then holds how similar the two are.")
@click.option(
    "--role",
    type=click.Choice(["word", "document", "text"]),
    help="What TEXT is; default: the model finds out.",
)
@click.option("--top-k", type=click.IntRange(min=1), metavar="N", help="How many neighbours to give.")
@click.option(
    "--input",
    "more",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other input of the model; repeatable, and several values of one name.",
)
@click.option(
    "--protocol", type=click.Choice(["http", "grpc"]), help="Default: http, and grpc with --stream."
)
@click.option(
    "--stream",
    "streams",
    is_flag=True,
    help="Print the answer as it is written, of a model with `serving.responses: Streamed`.",
)
@click.option("--address", metavar="HOST:PORT", help="Ask this server, without looking at any cluster.")
@click.option("--local", is_flag=True, help="Ask the server that `nlpctl serve` runs on this machine.")
@click.option(
    "--via",
    type=click.Choice(["auto", "service", "forward"]),
    default="auto",
    show_default=True,
    help="The way to the model: its Service's address, a port-forward, or whichever works.",
)
@click.option("--timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True, metavar="SECONDS")
@cluster_options
@json_option
@click.pass_obj
def infer(
    settings: Globals,
    model: str,
    text: str,
    pair: str | None,
    role: str | None,
    top_k: int | None,
    more: Sequence[str],
    protocol: Any,
    streams: bool,
    address: str | None,
    local: bool,
    via: Any,
    timeout: float,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Send TEXT to MODEL and print the answer, and who gave it.

    The model is that of the cluster which the kubeconfig names. Where there is no kubeconfig at all, a server
    of `nlpctl serve` on this machine is asked; with --local it always is.

    \b
    Examples:
      nlpctl infer korean-novels 막걸리
      nlpctl infer korean-novels 막걸리 --pair 선술집
      nlpctl infer korean-novels "운수 좋은 날" --role document --top-k 3
      nlpctl infer korean-novels 기차 --protocol grpc --json | jq .outputs.word_vector.data
      nlpctl infer korean-words 아들 --input negative=딸 --input positive=소녀
      nlpctl infer english-korean-live "I saw the sea." --stream
      nlpctl infer --local korean-novels 기차
      nlpctl infer korean-novels 기차 --address 127.0.0.1:8000
    """
    from nlpctl import ask
    from nlpctl.local import servers

    given = {"text": [text]} | named_inputs(more)
    given |= {"text_pair": [pair]} if pair is not None else {}
    given |= {"role": [role]} if role is not None else {}
    given |= {"top_k": [str(top_k)]} if top_k is not None else {}
    if streams and protocol == "http":
        raise WrongUse("--stream goes over gRPC; leave --protocol out, or say grpc.")
    protocol = protocol or ("grpc" if streams else "http")

    def put(connection: ask.Connection, way: str, where: str) -> None:
        takes = connection.takes(model)
        inputs = ask.choose_inputs(takes, given)
        answers = (
            connection.stream(model, inputs, takes) if streams else [connection.ask(model, inputs, takes)]
        )
        if as_json:
            facts = {"address": connection.address, "protocol": connection.protocol, "via": way}
            for answer in answers:
                told = values.answer_value(answer, namespace=where, **facts)
                click.echo(values.as_line(told) if streams else values.as_json(told))
            return
        from nlpctl import show

        console = show.terminal()
        who = f"over {protocol} ({SAID_VIA.get(way, way)} {connection.address})"
        if streams:
            console.print(f"[dim]{model} {show.print_stream(answers)} {who}[/]", highlight=False)
            return
        for answer in answers:
            for table in show.answer_tables(answer, console.width):
                console.print(table)
            console.print(f"[dim]{model} answered in {answer.seconds * 1000:.1f} ms {who}[/]")

    def put_to(server: str, way: str) -> None:
        with ask.Connection(server, protocol, authority=model, timeout_seconds=timeout) as connection:
            put(connection, way, namespace or "")

    if address is not None:
        if not ADDRESS.fullmatch(address):
            raise WrongUse(f"--address is {address!r}; it must be HOST:PORT, such as 127.0.0.1:8000.")
        put_to(address, "address")
        return
    here = servers.server_of(model)
    if local or (here is not None and not settings.name_a_cluster()):
        if here is None:
            raise NotFound(nothing_local(model))
        put_to(here.grpc if protocol == "grpc" else here.http, "local")
        return
    from nlpctl.reach import reach  # loads the Kubernetes client

    try:
        cluster = settings.connect()
        where = namespace or cluster.namespace
        with reach(cluster, where, model, protocol=protocol, via=via, timeout_seconds=timeout) as reached:
            put(reached.connection, reached.via, where)
    except (ClusterUnreachable, NotFound, NotReady) as error:
        if here is not None:
            error.args = (f"{error} A server on this machine has {model!r}: ask it with --local.",)
        raise


ADDRESS = re.compile(r"([^\s:/@\[\]]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")
"""Host and port, without a scheme; an IPv6 address in brackets."""


def nothing_local(model: str) -> str:
    from nlpctl.local import servers

    there = sorted({name for server in servers.find_servers() for name in server.models})
    known = f"; there are {', '.join(there)}" if there else ""
    return f"No server on this machine has {model!r}{known}. Start one with: nlpctl serve -f FILE."


def named_inputs(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`NAME=VALUE` words by name; a value may hold further equals signs, a name may come several times."""
    given: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise WrongUse(f"--input is {pair!r}; it must be NAME=VALUE, such as top_k=3.")
        given.setdefault(name, []).append(value)
    return given


@cli.command()
@click.argument("model")
@click.option("-o", "--output", metavar="FILE", help="Where to write it; default: MODEL.html here.")
@click.option("--open", "in_browser", is_flag=True, help="Open it in a browser, too.")
@click.option("--address", metavar="HOST:PORT", help="Ask this agent (port 8003), without any cluster.")
@click.option("--local", is_flag=True, help="Ask the server that `nlpctl serve` runs on this machine.")
@cluster_options
@click.pass_obj
def report(
    settings: Globals,
    model: str,
    output: str | None,
    in_browser: bool,
    address: str | None,
    local: bool,
    namespace: str | None,
) -> None:
    """Save the report of MODEL as one HTML file.

    \b
    Examples:
      nlpctl report korean-words
      nlpctl report korean-words --open
      nlpctl report --local korean-words -o words.html
    """
    from nlpctl import pages
    from nlpctl.local import servers

    here = servers.server_of(model)
    if address is not None:
        if not ADDRESS.fullmatch(address):
            raise WrongUse(f"--address is {address!r}; it must be HOST:PORT, such as 127.0.0.1:8003.")
        content = pages.fetch(address, model)
    elif local or (here is not None and not settings.name_a_cluster()):
        if here is None:
            raise NotFound(nothing_local(model))
        content = pages.fetch(here.agent, model)
    else:
        cluster = settings.connect()
        content = pages.fetch_from(cluster, namespace or cluster.namespace, model)
    path = Path(output or f"{model}.html").absolute()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise WrongUse(f"{path} cannot be written: {error.strerror}.") from error
    click.echo(str(path))
    if in_browser:
        click.launch(path.as_uri())


@cli.command()
@click.argument("model", required=False)
@click.option("-A", "--all-namespaces", is_flag=True, help="List the models of every namespace.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait this long for MODEL to become ready.",
)
@cluster_options
@json_option
@click.pass_obj
def status(
    settings: Globals,
    model: str | None,
    all_namespaces: bool,
    wait: float | None,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Tell in sentences how MODEL is, or list all models.

    The exit code is 0 when it is ready (of a list: when all are), else 1.

    \b
    Examples:
      nlpctl status
      nlpctl status -A
      nlpctl status korean-novels
      nlpctl status korean-novels --wait 120 && nlpctl infer korean-novels 기차
    """
    if model is None and wait is not None:
        raise WrongUse("--wait needs the name of one model: nlpctl status MODEL --wait 120.")
    if model is not None and all_namespaces:
        raise WrongUse("-A lists the models of every namespace and goes without MODEL; -n chooses one.")
    cluster = settings.connect()
    where = namespace or cluster.namespace
    if model is None:
        list_models(cluster, None if all_namespaces else where, as_json=as_json)
        return
    report = read_model(cluster.model(where, model))
    deadline = time.monotonic() + (wait or 0)
    said = ""
    while not report.ready and time.monotonic() < deadline:
        if report.headline != said:
            said = report.headline
            click.echo(said, err=True)
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        report = read_model(cluster.model(where, model))
    if as_json:
        click.echo(values.as_json(values.report_value(report)))
    else:
        from nlpctl import show

        show.print_report(show.terminal(), report, datetime.now(UTC))
    sys.exit(EXIT_OK if report.ready else NotReady.exit_code)


def list_models(cluster: kube.Cluster, namespace: str | None, *, as_json: bool) -> None:
    reports = [read_model(obj) for obj in cluster.models(namespace)]
    if as_json:
        click.echo(values.as_json([values.report_value(report) for report in reports]))
    elif not reports:
        scope = f"namespace {namespace!r}" if namespace else "the cluster"
        click.echo(f"There is no NLPModel in {scope}. Try: {SAMPLE}", err=True)
    else:
        from nlpctl import show

        show.terminal().print(show.list_table(reports, datetime.now(UTC), with_namespace=namespace is None))
    sys.exit(EXIT_OK if all(report.ready for report in reports) else NotReady.exit_code)


@cli.command(short_help="Tell which pool MODEL is on, and why.")
@click.argument("model")
@cluster_options
@json_option
@click.pass_obj
def why(settings: Globals, model: str, namespace: str | None, as_json: bool) -> None:
    """Tell which pool MODEL is on and why, why not the others, how it was scaled, and what happened last.

    The judgement of each pool comes from the code by which the operator itself decides.

    \b
    Examples:
      nlpctl why korean-novels
      nlpctl why korean-novels --json | jq '.pools[] | select(.verdict == "Refused")'
    """
    from nlpctl.top import history, read_change
    from nlpctl.why import explain, speeds

    cluster = settings.connect()
    where = namespace or cluster.namespace
    obj = cluster.model(where, model)
    report = read_model(obj)
    unread: list[str] = []
    pools = readable(cluster.pools, unread, "The pools cannot be read")
    models = readable(lambda: cluster.models(None), unread, "Devices of other namespaces are not counted")
    lost = "What was measured of it on pools that it has left cannot be read"
    service = next(iter(readable(lambda: cluster.services_of(obj), unread, lost)), None)
    explained = explain(obj, pools, models or cluster.models(where), datetime.now(UTC), service)
    events = readable(lambda: cluster.events_of(obj), unread, "Events cannot be read")
    told = readable(lambda: cluster.config_maps_of(obj), unread, "What was measured of it cannot be read")
    fast = speeds(obj, told, pools)
    happenings = read_events(events)
    changes = history(read_events(events, limit=len(events)))
    scaling = part(part(obj, "status"), "scaling")
    desired, reason = scaling.get("desired"), str(scaling.get("reason") or "")
    if as_json:
        value = {**values.report_value(report), **values.explanation_value(explained, happenings)}
        value["scaling"] = values.scaling_value(desired, reason, changes)
        value["speeds"] = fast
        click.echo(values.as_json(value | {"unread": unread}))
        return
    from nlpctl import show

    console = show.terminal()
    console.print(report.headline, markup=False)
    for sentence in (*explained.problems, explained.why):
        if sentence:
            console.print(f"\n{sentence}", markup=False, highlight=False)
    if explained.pools:
        console.print()
        console.print(show.pools_table(explained))
    if explained.change:
        console.print(f"\n{explained.change}", markup=False, highlight=False)
    if fast:
        console.print("\n" + "\n".join(fast), markup=False, highlight=False)
    if desired is not None:
        console.print(f"\nReplicas wanted: {desired}. {reason}".rstrip(), markup=False, highlight=False)
    if changes:
        console.print(show.changes_table(changes[-10:], datetime.now(UTC)))
    others = [one for one in read_events(events, limit=len(events)) if read_change(one) is None][-10:]
    if others:
        console.print()
        console.print(show.events_table(others, datetime.now(UTC)))
    for sentence in unread:
        console.print(sentence, markup=False)


@cli.command(short_help="Show the device pools and what lies on them.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page, too."
)
@json_option
@click.pass_obj
def pools(settings: Globals, html: Path | None, as_json: bool) -> None:
    """Show every device pool: a square for each device, and the models that hold them.

    \b
    Examples:
      nlpctl pools
      nlpctl pools --html pools.html
      nlpctl pools --json | jq '.pools[] | {pool, held, maxDevices}'
    """
    from nlpctl.pools import page, picture

    cluster = settings.connect()
    unread: list[str] = []
    models = readable(lambda: cluster.models(None), unread, "Models of other namespaces are not shown")
    pictures = picture(cluster.pools(), models if not unread else cluster.models(cluster.namespace))
    if html is not None:
        html.write_text(page(pictures, unread), encoding="utf-8")
    if as_json:
        click.echo(values.as_json({"pools": values.pools_value(pictures), "unread": unread}))
        return
    from nlpctl import show

    console = show.terminal()
    if not pictures:
        console.print("There is no DevicePool.")
    show.print_pools(console, pictures)
    for sentence in unread:
        console.print(sentence, markup=False)


@cli.command(short_help="Show what the models do now, the worst first.")
@click.option("-A", "--all-namespaces", is_flag=True, help="The models of every namespace.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.5),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Look once, and end. So it is where the output is no terminal.")
@click.option(
    "--operator-namespace",
    default="nlp-system",
    show_default=True,
    metavar="NAME",
    help="Where the operator runs.",
)
@click.option("--address", metavar="HOST:PORT", help="The operator's page of metrics; default: a forward.")
@cluster_options
@json_option
@click.pass_obj
def top(
    settings: Globals,
    all_namespaces: bool,
    every: float,
    once: bool,
    operator_namespace: str,
    address: str | None,
    namespace: str | None,
    as_json: bool,
) -> None:
    """Show replicas, load and latency of the models, the worst first, again and again until Ctrl-C.

    Load and latency are those of the last minute as the operator believes them. They come from its page of
    metrics, by a port-forward to its pod; without that right they are left out.

    \b
    Examples:
      nlpctl top
      nlpctl top -A --every 10
      nlpctl top -A --json | jq '.models[] | select(.lateShare > 0.05) | .model'
    """
    from nlpctl.operator_page import Page
    from nlpctl.top import Busy, busy

    if address is not None and not ADDRESS.fullmatch(address):
        raise WrongUse(f"--address is {address!r}; it must be HOST:PORT, such as 127.0.0.1:9090.")
    if all_namespaces and namespace is not None:
        raise WrongUse("-A shows the models of every namespace; -n chooses one. Give one of them.")
    cluster = settings.connect()
    where = None if all_namespaces else namespace or cluster.namespace
    page = Page(cluster, operator_namespace, address)

    def look() -> list[Busy]:
        return busy(cluster.models(where), page.read())

    try:
        if as_json:
            rows = [values.busy_value(row) for row in look()]
            click.echo(values.as_json({"models": rows, "unread": [page.trouble] if page.trouble else []}))
            return
        from nlpctl import show

        show.keep_showing(lambda: (look(), page.trouble), every, once=once, with_namespace=where is None)
    finally:
        page.close()


def readable(read: Callable[[], list[Any]], unread: list[str], consequence: str) -> list[Any]:
    """What can be read, or nothing and a sentence more in `unread`: explaining needs no right in full."""
    try:
        return read()
    except NlpctlError as error:
        unread.append(f"{consequence}: {error}")
        return []


@cli.group(short_help="Run a real Kubernetes on this machine.")
def cluster() -> None:
    """Run a real Kubernetes on this machine: etcd, API server, kubelet, containerd.

    It is empty. `make demo KEEP=1` starts it too, and puts the operator and a model in.

    \b
    Examples:
      nlpctl cluster up          says what it will download and change, and asks
      nlpctl cluster up --yes --json | jq -r .kubeconfig
      nlpctl cluster status
      nlpctl cluster down        takes everything away that `up` made
    """


cli.add_command(build)
cli.add_command(serve)
cli.add_command(simulate)


PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@cluster.command(context_settings=PASS_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def up(words: Sequence[str]) -> None:
    """Start it; `nlpctl cluster up --help` lists the options."""
    run_localcluster("up", words)


@cluster.command(context_settings=PASS_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def down(words: Sequence[str]) -> None:
    """Stop it, and leave the machine as it was."""
    run_localcluster("down", words)


@cluster.command("status", context_settings=PASS_ON)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def cluster_status(words: Sequence[str]) -> None:
    """Tell what runs, and where its kubeconfig is."""
    run_localcluster("status", words)


def run_localcluster(command: str, words: Sequence[str]) -> None:
    """Hand the words over to the program that owns them, and end with its exit code."""
    try:
        from localcluster.__main__ import main as localcluster_main
    except ImportError as error:
        raise NotFound(
            "The local cluster is not installed. Install nlp-operator with its extra: "
            "pip install 'nlp-operator[cli,localcluster]'."
        ) from error
    above = click.get_current_context().parent
    sys.exit(localcluster_main([command, *words], program=above.command_path if above else "nlpctl cluster"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and turn every failure into a sentence and an exit code; NLPCTL_DEBUG=1 shows tracebacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = "kubectl nlp" if os.path.basename(sys.argv[0]).startswith("kubectl") else "nlpctl"  # noqa: PTH119
    try:
        cli.main(args=words, prog_name=name, standalone_mode=False)
    except NlpctlError as error:
        if os.environ.get("NLPCTL_DEBUG"):
            raise
        report_failure(str(error), error.kind, as_json="--json" in words)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `nlpctl ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_OK)
    except Exception as error:
        if os.environ.get("NLPCTL_DEBUG"):
            raise
        found = f"{type(error).__name__}: {error}".rstrip(": ")
        report_failure(
            f"This is a bug in nlpctl: {found}. NLPCTL_DEBUG=1 shows where.", "Bug", as_json="--json" in words
        )
        sys.exit(EXIT_BUG)


def report_failure(message: str, kind: str, *, as_json: bool) -> None:
    """One sentence on stderr; with --json also an object on stdout, so that a script parses every outcome."""
    if as_json:
        error = {"kind": kind, "message": message.removeprefix(f"{kind}: ")}
        click.echo(values.as_json({"error": error}))
    click.echo(f"nlpctl: {message}", err=True)


if __name__ == "__main__":
    main()
