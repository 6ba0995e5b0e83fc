"""`python -m localcluster.demo`, which `make demo` runs. See --help."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from localcluster import cluster
from localcluster.cluster import Cluster, Plan, UpOptions
from localcluster.demo import report
from localcluster.demo.api_only import partial
from localcluster.demo.commands import ROOT, Commands, is_root
from localcluster.demo.flow import Demo
from localcluster.errors import ClusterError
from localcluster.images import USUAL, Beside, build_images, gigabytes_for
from localcluster.interrupts import interruptible, signals_do
from localcluster.progress import Progress

EPILOG = """\
exit codes: 0 every step did what it promised; 1 one did not; 130 interrupted.

examples:
  make demo                        the whole path, then everything is taken away again
  make demo KEEP=1                 leave the cluster, to look around in it
  make demo YES=1                  do not ask before installing
  make demo API_ONLY=1             without a real node: what the operator does, no pods
  make demo KILL_EVERY=3           the path again while the operator is killed every 3 s
  make demo KILL_EVERY=3 SEED=7    with the same moments as the run that printed seed 7
"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m localcluster.demo",
        description="From nothing to a right answer on a real Kubernetes on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before installing (environment: YES=1)"
    )
    parser.add_argument("--keep", action="store_true", help="leave all of it running at the end (KEEP=1)")
    parser.add_argument(
        "--api-only",
        action="store_true",
        help="no real node, even where one is possible: shows what is left then (API_ONLY=1)",
    )
    parser.add_argument(
        "--kill-every", type=positive, metavar="SECONDS", help="kill the operator this often (KILL_EVERY)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="which moments of killing (SEED); default: drawn"
    )
    parser.add_argument(
        "--json", type=Path, default=ROOT / "build" / "demo.json", metavar="FILE", help="%(default)s"
    )
    for name, value in from_environment(os.environ).items():
        parser.set_defaults(**{name: value})
    return parser.parse_args(words)


def positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be more than 0 seconds")
    return value


def from_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, object]:
    """Options given as make variables; an empty one is not given. SystemExit says what is wrong with one."""
    given: dict[str, object] = {}
    readers: dict[str, tuple[str, Callable[[str], object]]] = {
        "YES": ("yes", switch),
        "KEEP": ("keep", switch),
        "API_ONLY": ("api_only", switch),
        "KILL_EVERY": ("kill_every", positive),
        "SEED": ("seed", int),
    }
    for variable, (name, read) in readers.items():
        text = environment.get(variable, "")
        if not text:
            continue
        try:
            given[name] = read(text)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise SystemExit(f"error: {variable} is {text!r}; it must be {ALLOWED[variable]}.") from error
    return given


ALLOWED = {
    "YES": "1 or 0",
    "KEEP": "1 or 0",
    "API_ONLY": "1 or 0",
    "KILL_EVERY": "a number of seconds above 0",
    "SEED": "a whole number",
}


def switch(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError(text)
    return text == "1"


def main(words: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if words is None else words)
    progress = Progress()
    facts: dict[str, object] = {}
    answers: dict[str, object] = {}
    code = 1
    try:
        with interruptible(signal.SIGTERM):
            walk(options, progress, answers, facts)
        code = 0
    except ClusterError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        facts["error"] = str(error)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        facts["error"] = "interrupted"
        code = 130
    report.write(options.json, report.as_object(progress.steps, answers, facts))
    print(f"\n{report.table(progress.steps)}\n\nWritten to {options.json}.")
    return code


def walk(
    options: argparse.Namespace, progress: Progress, answers: dict[str, object], facts: dict[str, object]
) -> None:
    """All steps. The cluster goes away at the end, unless it was there before or is to be kept.

    `up` undoes what it began when it is interrupted, so there is nothing to take away before it returns.
    """
    images = images_for(options)
    if is_root() and not options.api_only:
        large = "Triton's and PyTorch's" if "builder-torch" in images else "Triton's"
        progress.say(
            f"The demo also builds images in the cache, of a minimal Debian, Python packages ({large} among "
            "them) and this folder, with buildah and debootstrap of this machine or unpacked from Debian's "
            "packages."
        )
    # On a terminal `up` asks; elsewhere, having said what it does, it goes on: nobody is there to be asked.
    agreed = options.yes or not sys.stdin.isatty()
    with Beside(progress, images) as builder:  # until the images are asked for, and no longer than this run

        def begin(plan: Plan) -> None:
            if plan.node:
                builder.start()

        up = UpOptions(
            yes=agreed, api_only=options.api_only, agreed=begin, more_gigabytes=gigabytes_for(images)
        )
        access = cluster.up(up, progress)
        show(options, progress, answers, facts, access, builder)


def show(
    options: argparse.Namespace,
    progress: Progress,
    answers: dict[str, object],
    facts: dict[str, object],
    access: Cluster,
    builder: Beside,
) -> None:
    """What is shown in the running cluster, and its end."""
    demo = Demo(Commands(access, progress.say), progress, answers, facts)
    try:
        if access.has_node:
            builder.wait()
            whole(demo, access, options)
        else:
            facts["didNotRun"] = partial(demo, access)
            facts["didNotRunBecause"] = list(access.node_reasons)
        if not options.keep and (access.has_node or not access.started_here):
            demo.delete_everything()
    finally:
        # A second Ctrl-C must not keep the first from taking everything away.
        with signals_do(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM):
            if access.started_here and not options.keep:
                cluster.down(progress)
            tell_what_stays(options, progress, access)


def tell_what_stays(options: argparse.Namespace, progress: Progress, access: Cluster) -> None:
    """After a failure or Ctrl-C too: that is when somebody wants to look."""
    if access.started_here and not options.keep:
        progress.say("\nEverything the demo started is taken away again.")
        return
    why = "is kept" if access.started_here else "was there before and stays, with what the demo put into it"
    progress.say(f"\nThe cluster {why}; `make cluster-down` ends it. To use it from this shell:")
    for line in access.exports:
        progress.say(f"  {line}")


def images_for(options: argparse.Namespace) -> tuple[str, ...]:
    """Words are trained with torch, once: the run with kills goes without."""
    return USUAL if options.kill_every else (*USUAL, "builder-torch")


def whole(demo: Demo, access: Cluster, options: argparse.Namespace) -> None:
    """The path with real pods."""
    images = build_images(images_for(options), demo.progress)
    with demo.progress.step("images in the node's containerd"):
        for image in images.values():
            if not access.containerd.has_image(image.reference):
                access.containerd.import_image(image.archive)
    demo.install({name: image.reference for name, image in images.items()})
    demo.run_calm()
    if options.kill_every:
        seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
        demo.run_stormy(options.kill_every, seed)
    else:
        demo.run_words()
        demo.apply_cached()
        demo.run_mixed()
        demo.answer_load()
        demo.kill_operator_once()


if __name__ == "__main__":
    sys.exit(main())
