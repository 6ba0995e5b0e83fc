"""`python -m model_builders`: the two Jobs, the same by hand, and the contracts' page."""

import argparse
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from model_builders.errors import (
    EXIT_DONE,
    EXIT_KILLED,
    EXIT_TERMINATED,
    EXIT_TRY_AGAIN,
    JobError,
    Terminated,
)
from model_builders.fetch import Reach, fetch
from model_builders.handover import (
    STORE,
    WORKER,
    Outcome,
    alive,
    open_scratch,
    read_outcome,
    wait_for_held,
    write_outcome,
)
from model_builders.messages import (
    BuildRequest,
    FetchRequest,
    InputOfBuild,
    InputToFetch,
    Json,
    Recipe,
    build_key,
    encode_result,
    failure,
    failure_of,
    parse_build_request,
    parse_fetch_request,
    parse_recipe,
    success,
)
from model_builders.progress import tell_at
from model_builders.sources.network import parse_networks
from model_builders.store import Store, partial_key

logger = logging.getLogger("model_builders")

TERMINATION_LOG = "/dev/termination-log"
DEFAULT_MAX_INPUT_BYTES = 50 * 10**9

MOVERS = {
    "pull": ("build", "bring what a build needs from a bucket into the scratch volume"),
    "keep": ("build", "send the checkpoints of a build to a bucket while it runs, until SIGTERM"),
    "push": ("build", "send what a build left in the scratch volume to a bucket, and end as it would have"),
    "store": ("fetch", "tell a fetch what a bucket has, send what it leaves, and end as it would have"),
}
"""The containers of a Job whose store is a bucket that have its credentials; the Job, and what each does."""

EPILOG = """\
In a Job, fetch and build read their request from the environment variable NLP_REQUEST and write their result
to /dev/termination-log (docs/architecture.md, section 3). By hand, give the store and the inputs instead:

  python -m model_builders build --store /tmp/store --architecture TermDocumentMatrix \\
      --input corpus=novels.tsv --parameters '{"weighting": "TfIdf"}' --quality documents=4

The artifact is then in /tmp/store/artifacts/<digest>, the whole result in /tmp/store/results/<key>.json.

environment:
  NLP_REQUEST           the request of a Job, JSON
  NLP_RECIPE            what is to be built of what is fetched, JSON: a fetch then tells whether it was
  NLP_STORE             where the store is mounted; /store when unset. For those that move: s3://bucket/prefix
  NLP_SCRATCH           when the store is a bucket: the volume that the containers of a Job share
  NLP_INPUTS            where the inputs' volumes are mounted; /inputs when unset
  NLP_TERMINATION_LOG   where the result is written; /dev/termination-log when unset
  NLP_PROGRESS_PORT     where a build tells whoever asks how far it is; nobody when unset
  NLP_MAX_INPUT_BYTES   the largest input that is fetched; 50,000,000,000 when unset
  NLP_FETCH_ALLOWED_NETWORKS  private networks that sources may lie in: CIDRs, separated by commas
  NLP_FETCH_REDIRECT_HOSTS    hosts that a source may redirect to, separated by commas
  HF_ENDPOINT           the Hugging Face hub or a mirror of it; https://huggingface.co when unset

exit codes: 0 done, 10 the user has to change something (the message says what), 137 out of memory, 143
terminated, any other: try again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command == "contracts":
        try:
            return _contracts(options)
        except JobError as error:
            parser.error(error.message)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    os.umask(0o022)  # what the store holds is read by other users: servers run with an id of their own
    signal.signal(signal.SIGTERM, _terminate)
    result, code = run(parser, options)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the result is written whole, whatever arrives now
    _write_result(result)
    return code


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Json, int]:
    """Run a Job; how it ended in one result, and the exit code that says what Kubernetes should do."""
    return _ended(lambda: _run_job(parser, options))


def _ended(work: Callable[[], tuple[Json, int]]) -> tuple[Json, int]:
    try:
        return work()
    except JobError as error:
        logger.error("%s: %s", error.reason, error.message)
        return failure_of(error), error.exit_code
    except Terminated:
        logger.error("terminated; nothing was published")
        return failure("BuildFailed", "The Job was terminated before it was done."), EXIT_TERMINATED
    except MemoryError:
        logger.exception("out of memory")
        return failure("BuildOutOfMemory", "The Job ran out of memory."), EXIT_KILLED
    except Exception as error:
        logger.exception("a defect of the builder")
        text = f"The builder failed with {type(error).__name__}: {error}. Its log has the details."
        return failure("BuildFailed", text), EXIT_TRY_AGAIN


def _run_job(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Json, int]:
    scratch = os.environ.get("NLP_SCRATCH")
    if options.command in MOVERS:
        if scratch is None:
            parser.error(
                f"NLP_SCRATCH is not set: {options.command} is part of a Job whose store is a bucket"
            )
        return _move(options, Path(scratch).absolute())
    if scratch is not None:
        return _hand_over(parser, options, Path(scratch).absolute())
    store = Store(Path(options.store or os.environ.get("NLP_STORE", "/store")).absolute())
    return _work(parser, options, store), EXIT_DONE


def _move(options: argparse.Namespace, scratch: Path) -> tuple[Json, int]:
    """A container with the credentials of a store in a bucket: around a build, or beside it or a fetch."""
    if options.command == "store":
        with alive(scratch, STORE):
            return _move_for_fetch(scratch)
    from model_builders import bucket_job  # botocore takes a third of a second to load
    from model_builders.bucket_store import open_bucket

    text, store, bucket = os.environ.get("NLP_REQUEST", ""), open_scratch(scratch), open_bucket(os.environ)
    if options.command == "pull":
        return success(bucket_job.pull_for_build(parse_build_request(text), bucket, store)), EXIT_DONE
    if options.command == "keep":
        key = partial_key(parse_build_request(text).identity)
        return success(bucket_job.Keeper(key, bucket, scratch).run()), EXIT_DONE
    outcome = bucket_job.push_built(parse_build_request(text), bucket, store)
    return outcome.result, outcome.exit_code


def _move_for_fetch(scratch: Path) -> tuple[Json, int]:
    from model_builders import bucket_job
    from model_builders.bucket_store import open_bucket

    request = parse_fetch_request(os.environ.get("NLP_REQUEST", ""))
    bucket, store = open_bucket(os.environ), Store(scratch)
    outcome = bucket_job.store_fetched(request, bucket, store, _recipe())
    return outcome.result, outcome.exit_code


def _hand_over(
    parser: argparse.ArgumentParser, options: argparse.Namespace, scratch: Path
) -> tuple[Json, int]:
    """The container without credentials: how it ended is for another one to say, unless it was ended."""
    found = read_outcome(scratch)
    if found is not None:
        logger.info("nothing is left to do: %s", found.result.get("message"))
        return found.result, EXIT_DONE

    def work() -> tuple[Json, int]:
        text = os.environ.get("NLP_REQUEST", "")
        if options.command == "fetch" and parse_fetch_request(text).names_digests:
            wait_for_held(scratch)
        return _work(parser, options, open_scratch(scratch)), EXIT_DONE

    with alive(scratch, WORKER):
        result, code = _ended(work)
        write_outcome(scratch, Outcome(code, result))
    return result, code if code in (EXIT_KILLED, EXIT_TERMINATED) else EXIT_DONE


def _work(parser: argparse.ArgumentParser, options: argparse.Namespace, store: Store) -> Json:
    volumes = Path(os.environ.get("NLP_INPUTS", "/inputs"))
    max_bytes = int(os.environ.get("NLP_MAX_INPUT_BYTES") or DEFAULT_MAX_INPUT_BYTES)
    reach = Reach(
        parse_networks(os.environ.get("NLP_FETCH_ALLOWED_NETWORKS", "")),
        tuple(os.environ.get("NLP_FETCH_REDIRECT_HOSTS", "").split(",")),
    )
    request = os.environ.get("NLP_REQUEST")
    if request is not None and not options.input:
        if options.command == "fetch":
            asked = parse_fetch_request(request)
            return fetch(asked, store, volumes, max_bytes, reach, _recipe()).to_json()
        _tell_how_far()
        return _build(parse_build_request(request), store)

    if not options.input or not options.store:
        parser.error("no request in NLP_REQUEST; give --store and --input instead")
    store.root.mkdir(parents=True, exist_ok=True)
    wanted = tuple(InputToFetch(name, str(Path(path).absolute()), "") for name, path in options.input)
    fetched = fetch(FetchRequest("local", 3600, wanted), store, volumes, max_bytes)
    if options.command == "fetch":
        return fetched.to_json()
    inputs = tuple(InputOfBuild(found.name, found.sha256, found.kind) for found in fetched.inputs)
    quality = tuple({"metric": name, "atLeast": value} for name, value in options.quality)
    export = {"precision": "Auto"}
    key = build_key(options.architecture, options.parameters, quality, export, inputs)
    return _build(
        BuildRequest("local", 3600, key, options.architecture, options.parameters, quality, export, inputs),
        store,
    )


def _recipe() -> Recipe | None:
    told = os.environ.get("NLP_RECIPE")
    return parse_recipe(told) if told else None


def _tell_how_far() -> None:
    port = os.environ.get("NLP_PROGRESS_PORT")
    if port:
        tell_at(int(port))


def _build(request: BuildRequest, store: Store) -> Json:
    # Loading numpy and onnx takes a second or more, which neither a fetch nor --help needs.
    from model_builders.build import build

    return build(request, store).to_json()


def _write_result(result: Json) -> None:
    """To the termination log where there is one; by hand, to the terminal."""
    encoded = encode_result(result)
    given = os.environ.get("NLP_TERMINATION_LOG")
    path = Path(given or TERMINATION_LOG)
    if given or path.exists():
        try:
            path.write_bytes(encoded)
            return
        except OSError as error:
            logger.error("the result could not be written to %s: %s", path, error.strerror)
    sys.stdout.write(encoded.decode("utf-8") + "\n")


def _contracts(options: argparse.Namespace) -> int:
    from model_builders.architectures import find_architecture
    from model_builders.page import render, section

    page = section(find_architecture(options.architecture)) if options.architecture else render()
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(page, encoding="utf-8")
    elif options.check:
        if not options.check.is_file() or options.check.read_text(encoding="utf-8") != page:
            sys.stderr.write(
                f"{options.check} is not what the builders say; run python -m model_builders "
                f"contracts --write {options.check}\n"
            )
            return EXIT_TRY_AGAIN
    else:
        sys.stdout.write(page)
    return EXIT_DONE


def _terminate(*_: object) -> None:
    raise Terminated


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model_builders",
        description="Fetch inputs into a store and build artifacts that Triton serves.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="{fetch,build,pull,keep,push,store,contracts}"
    )
    fetch = commands.add_parser("fetch", help="copy inputs into the store, named by their sha256")
    build = commands.add_parser("build", help="build an artifact from inputs")
    for command in (fetch, build):
        command.add_argument("--store", metavar="DIR", help="folder of the store, made when missing")
        command.add_argument(
            "--input",
            action="append",
            default=[],
            type=_pair,
            metavar="NAME=PATH",
            help="a file or folder; may be repeated",
        )
    build.add_argument(
        "--architecture", default="TermDocumentMatrix", help="what to build (default: %(default)s)"
    )
    build.add_argument(
        "--parameters", type=_object, default={}, metavar="JSON", help="as the member of spec.build"
    )
    build.add_argument(
        "--quality",
        action="append",
        default=[],
        type=_pair,
        metavar="METRIC=ATLEAST",
        help="a floor; may be repeated",
    )
    for name, (job, what) in MOVERS.items():
        commands.add_parser(name, help=what).add_argument("job", choices=[job], help="the Job it is part of")
    contracts = commands.add_parser("contracts", help="print the request contract of every architecture")
    contracts.add_argument(
        "--architecture", metavar="NAME", help="of this one alone, also of one from outside"
    )
    which = contracts.add_mutually_exclusive_group()
    which.add_argument("--write", type=Path, metavar="FILE", help="write the page to a file")
    which.add_argument("--check", type=Path, metavar="FILE", help="exit 1 when the file is not the page")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _object(text: str) -> Json:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


if __name__ == "__main__":
    sys.exit(main())
