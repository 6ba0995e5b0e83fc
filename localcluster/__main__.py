"""`python -m localcluster up | down | status`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from localcluster import cluster
from localcluster.cluster import UpOptions
from localcluster.errors import ClusterError, NotPossible
from localcluster.progress import Progress

NOT_POSSIBLE = 7
"""As nlpctl's own exit code for that."""

EXAMPLES = """\
examples:
  {program} up                   list what it will download and change, ask, start
  {program} up --yes --api-only  without a kubelet: no root needed, pods exist in the API only
  eval "$({program} up --yes)"   and let kubectl in this shell use it
  {program} down                 end it; the caches stay

exit codes: 0 done; 1 it failed, nobody agreed, or (status) nothing runs; 2 wrong use;
7 this machine cannot do it: disk, memory, platform; 130 interrupted, and undone.
"""


def main(arguments: Sequence[str] | None = None, program: str = "python -m localcluster") -> int:
    """Exit code: 0 done, 1 it failed, nobody agreed or nothing runs, 2 the command line is wrong, 7 this
    machine cannot do it, 130 interrupted.

    With --json there is exactly one object on stdout, of a failure too, and everything else on stderr.
    """
    parsed = _parser(program).parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        return code
    except ClusterError as error:
        _report(parsed, type(error).__name__, str(error))
        print(f"error: {error}", file=sys.stderr)
        return NOT_POSSIBLE if isinstance(error, NotPossible) else 1
    except KeyboardInterrupt:
        sentence = "interrupted; everything that was begun is undone"
        _report(parsed, "Interrupted", sentence)
        print(sentence, file=sys.stderr)
        return 130


def _report(parsed: argparse.Namespace, kind: str, message: str) -> None:
    """With --json, the failure in the form in which nlpctl gives its own."""
    if parsed.json:
        _print_json({"error": {"kind": kind, "message": message}})


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="A real Kubernetes on this machine: etcd, API server, kubelet and the rest as processes.",
        epilog=EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up",
        help="start the cluster; says first what it will do, and asks",
        description="Start the cluster, or find it running, and print what a shell needs to use it. The "
        "first time the programs of Kubernetes are compiled (8 to 15 minutes); later it takes 7 seconds.",
        epilog=EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    up.add_argument("--yes", action="store_true", help="do not ask (or set YES=1)")
    up.add_argument(
        "--kwok-nodes", type=int, default=0, metavar="N", help="nodes that do not exist, beside the real one"
    )
    up.add_argument("--api-only", action="store_true", help="no real node, even where one is possible")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="end the cluster and remove everything but the cache")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="say what runs; exit code 1 when nothing does")
    status.set_defaults(run=_status)
    for command in (up, down, status):
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _up(parsed: argparse.Namespace) -> int:
    options = UpOptions(yes=parsed.yes, kwok_nodes=parsed.kwok_nodes, api_only=parsed.api_only)
    running = cluster.up(options, Progress())
    if parsed.json:
        _print_json({"started": running.started_here, **asdict(cluster.status())})
        return 0
    for line in running.exports:
        print(line)
    return 0


def _down(parsed: argparse.Namespace) -> int:
    ended = cluster.down(Progress())
    if parsed.json:
        _print_json({"ended": ended})
    elif not ended:
        print("no cluster is running", file=sys.stderr)
    return 0


def _status(parsed: argparse.Namespace) -> int:
    found = cluster.status()
    if parsed.json:
        _print_json(asdict(found))
    elif not found.url:
        print("no cluster is running")
    else:
        print(f"{'running' if found.running else 'broken'}: {found.url}")
        print(f"kubeconfig: {found.kubeconfig}")
        print(f"audit log:  {found.audit_log}")
        for name, alive in found.processes.items():
            print(f"  {name:<24} {'running' if alive else 'DEAD'}")
    return 0 if found.running else 1


if __name__ == "__main__":
    sys.exit(main())
