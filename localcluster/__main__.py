"""`python -m localcluster up | down | status`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from localcluster import cluster
from localcluster.cluster import UpOptions
from localcluster.errors import ClusterError
from localcluster.progress import Progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 it failed or nothing runs, 130 interrupted."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        return code
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was begun is undone", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcluster", description="A real Kubernetes on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start the cluster; says first what it will do, and asks")
    up.add_argument("--yes", action="store_true", help="do not ask (or set YES=1)")
    up.add_argument(
        "--kwok-nodes", type=int, default=0, metavar="N", help="nodes that do not exist, beside the real one"
    )
    up.add_argument("--api-only", action="store_true", help="no real node, even where one is possible")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="end the cluster and remove everything but the cache")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="say what runs; exit code 1 when nothing does")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(run=_status)
    return parser


def _up(parsed: argparse.Namespace) -> int:
    options = UpOptions(yes=parsed.yes, kwok_nodes=parsed.kwok_nodes, api_only=parsed.api_only)
    running = cluster.up(options, Progress())
    print(f"export KUBECONFIG={running.kubeconfig}")
    return 0


def _down(parsed: argparse.Namespace) -> int:
    if not cluster.down(Progress()):
        print("no cluster is running", file=sys.stderr)
    return 0


def _status(parsed: argparse.Namespace) -> int:
    found = cluster.status()
    if parsed.json:
        print(json.dumps(asdict(found), indent=2))
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
