"""The fetch Job as Kubernetes runs it, on real files: links, pipes, permissions and full volumes are the real
ones."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from model_builders.errors import JobError, Refused, TryAgain
from model_builders.fetch import fetch as run_fetch
from model_builders.inputs import find_input
from model_builders.messages import FetchRequest, InputToFetch
from model_builders.store import Store, expired
from tests.faults.bad_input_page import row_of
from tests.model_builders.made import Jobs, Ran, make_novels

pytestmark = pytest.mark.jobs

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: changes owners or mounts a volume of its own"
)

WITHOUT_OVERRIDE = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)
"""Runs a program as root that may not pass over file permissions, as no program in a restricted pod may."""

SHELL_DIGEST = (
    "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum | cut -d' ' -f1"
)


def fetch(
    jobs: Jobs, path: str = "", prefix: tuple[str, ...] = (), sha256: str = "", **environment: str
) -> Ran:
    """Fetch the input `corpus` from a path in its volume."""
    whole = str(jobs.volumes / "corpus" / path)
    request = {
        "version": 1,
        "model": "demo/korean-novels",
        "deadlineSeconds": 600,
        "inputs": [{"name": "corpus", "path": whole, "sha256": sha256}],
    }
    return jobs.run("fetch", request, prefix, **environment)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_file_is_stored_under_its_sha256(jobs: Jobs) -> None:
    path = jobs.put("novels.tsv", make_novels())
    ran = fetch(jobs, "novels.tsv")
    expected = subprocess.check_output(["sha256sum", path], text=True).split()[0]
    size = path.stat().st_size
    assert (ran.code, ran.result) == (
        0,
        {
            "version": 1,
            "ok": True,
            "inputs": [{"name": "corpus", "sha256": expected, "files": 1, "bytes": size}],
            "message": f"Fetched 1 file, {size} bytes.",
        },
    )
    source = jobs.store / "sources" / expected
    assert (source / "data/novels.tsv").read_text(encoding="utf-8") == make_novels()
    assert json.loads((source / "manifest.json").read_text(encoding="utf-8")) == {
        "version": 1,
        "kind": "File",
        "sha256": expected,
        "files": [{"path": "novels.tsv", "size": size, "sha256": expected}],
    }


def test_folder_is_stored_under_the_digest_that_a_shell_computes(jobs: Jobs) -> None:
    for name in ("b.txt", "a/z.txt", "a.txt", "운수 좋은 날.txt", "a b 'c'.txt", "Z/.hidden"):
        jobs.put(name, f"text of {name}")
    (jobs.volumes / "corpus" / "empty").mkdir()
    ran = fetch(jobs)
    shell = subprocess.check_output(SHELL_DIGEST, shell=True, cwd=jobs.volumes / "corpus", text=True).strip()
    assert ran.result["inputs"][0] == {
        "name": "corpus",
        "sha256": shell,
        "files": 6,
        "bytes": ran.result["inputs"][0]["bytes"],
    }
    assert contents(jobs.store / "sources" / shell / "data") == contents(jobs.volumes / "corpus")


def test_changed_bytes_give_a_new_digest_and_unchanged_ones_write_nothing(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    first = fetch(jobs, "novels.tsv").result["inputs"][0]["sha256"]
    before = {p: p.stat().st_mtime_ns for p in (jobs.store / "sources").rglob("*")}
    assert fetch(jobs, "novels.tsv").result["inputs"][0]["sha256"] == first
    assert {p: p.stat().st_mtime_ns for p in (jobs.store / "sources").rglob("*")} == before
    jobs.put("novels.tsv", make_novels() + "또\t기차\n")
    assert fetch(jobs, "novels.tsv").result["inputs"][0]["sha256"] != first
    assert len(list((jobs.store / "sources").iterdir())) == 2
    assert list((jobs.store / "tmp").iterdir()) == []


def make_config_map_volume(volume: Path, files: dict[str, str]) -> None:
    """What the kubelet's atomic writer leaves in a mounted ConfigMap."""
    data = volume / "..2026_11_25_00_00_00.1234567"
    for name, content in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(content, encoding="utf-8")
    (volume / "..data").symlink_to(data.name)
    for first in {Path(name).parts[0] for name in files}:
        (volume / first).symlink_to(f"..data/{first}")


@pytest.mark.parametrize("path", ["", "novels.tsv"])
def test_config_map_as_the_kubelet_mounts_it_is_read(jobs: Jobs, path: str) -> None:
    make_config_map_volume(jobs.volumes / "corpus", {"novels.tsv": make_novels(), "more/one.txt": "하나"})
    ran = fetch(jobs, path)
    assert ran.code == 0, ran.log
    source = jobs.store / "sources" / ran.result["inputs"][0]["sha256"]
    expected = {"novels.tsv": make_novels().encode()} | ({} if path else {"more/one.txt": "하나".encode()})
    assert contents(source / "data") == expected


def test_path_may_lead_through_a_link_inside_the_volume(jobs: Jobs) -> None:
    jobs.put("v3/novels.tsv", make_novels())
    (jobs.volumes / "corpus/current").symlink_to("v3")
    assert fetch(jobs, "current/novels.tsv").code == 0
    assert fetch(jobs, "current").code == 0


def test_damaged_source_is_written_again(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    digest = fetch(jobs, "novels.tsv").result["inputs"][0]["sha256"]
    stored = jobs.store / "sources" / digest / "data/novels.tsv"
    stored.write_text("damaged", encoding="utf-8")
    assert fetch(jobs, "novels.tsv").code == 0
    assert stored.read_text(encoding="utf-8") == make_novels()


def test_what_a_killed_job_left_is_swept_and_what_may_be_in_use_stays(jobs: Jobs) -> None:
    for name in (f"build-1000-{'0' * 16}", f"fetch-99999999999-{'0' * 16}", "somebody-elses"):
        (jobs.store / "tmp" / name / "deep").mkdir(parents=True)
    jobs.put("novels.tsv", make_novels())
    assert fetch(jobs, "novels.tsv").code == 0
    assert sorted(p.name for p in (jobs.store / "tmp").iterdir()) == [
        f"fetch-99999999999-{'0' * 16}",
        "somebody-elses",
    ]


def test_leftovers_expire_a_minute_after_the_deadline() -> None:
    name = f"build-1000-{'a' * 16}"
    assert expired([name], now=1000) == []
    assert expired([name], now=1000.5) == [name]


def link_out(volume: Path) -> None:
    (volume / "passwords.txt").symlink_to("/etc/passwd")


def link_in(volume: Path) -> None:
    (volume / "a.txt").write_text("text", encoding="utf-8")
    (volume / "b.txt").symlink_to("a.txt")


def folder_link(volume: Path) -> None:
    (volume / "a").symlink_to("/etc")


def data_link_out(volume: Path) -> None:
    (volume / "..data").symlink_to("/etc")


def pipe(volume: Path) -> None:
    os.mkfifo(volume / "pipe.txt")


def unix_socket(volume: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(volume / "s", Path.cwd()))


def backslash(volume: Path) -> None:
    (volume / "a\\b.txt").write_text("text", encoding="utf-8")


def line_break(volume: Path) -> None:
    (volume / "a\nb.txt").write_text("text", encoding="utf-8")


def not_utf8(volume: Path) -> None:
    Path(os.fsdecode(os.fsencode(volume) + b"/\xff.txt")).write_text("text", encoding="utf-8")


def deep(volume: Path) -> None:
    (volume / "/".join("d" * 40)).mkdir(parents=True)


def empty_file(volume: Path) -> None:
    (volume / "a.txt").touch()


def link_beside_novels(volume: Path) -> None:
    (volume / "novels.tsv").write_text(make_novels())
    (volume / "more.tsv").symlink_to("/etc/passwd")


def nothing(volume: Path) -> None:
    (volume / "empty").mkdir()


@pytest.mark.parametrize(
    ("make", "reason", "sentence"),
    [
        pytest.param(
            link_out,
            "InputRefused",
            "'passwords.txt' is a symbolic link to '/etc/passwd'. Links are not followed",
            id="a link out",
        ),
        pytest.param(link_in, "InputRefused", "'b.txt' is a symbolic link to 'a.txt'", id="a link inside"),
        pytest.param(
            folder_link, "InputRefused", "'a' is a symbolic link to '/etc'", id="a link to a folder"
        ),
        pytest.param(
            data_link_out,
            "InputRefused",
            "'..data' is a symbolic link to '/etc'",
            id="a link as the kubelet's, but out",
        ),
        pytest.param(pipe, "InputRefused", "'pipe.txt' is a named pipe. Only regular files", id="a pipe"),
        pytest.param(unix_socket, "InputRefused", "'s' is a socket", id="a socket"),
        pytest.param(
            backslash, "InputRefused", "holds a backslash or a control character", id="a backslash in a name"
        ),
        pytest.param(
            line_break,
            "InputRefused",
            "holds a backslash or a control character",
            id="a line break in a name",
        ),
        pytest.param(
            not_utf8, "InputEncoding", "the file name b'\\xff.txt' is not UTF-8", id="a name that is no UTF-8"
        ),
        pytest.param(deep, "InputRefused", "lies deeper than 32 folders", id="too deep"),
        pytest.param(empty_file, "InputEmpty", "holds 1 file, none with a byte in it", id="an empty file"),
        pytest.param(nothing, "InputEmpty", "holds 0 files", id="nothing"),
    ],
)
def test_folder_that_cannot_be_an_input_is_refused(
    jobs: Jobs, make: Callable[[Path], None], reason: str, sentence: str
) -> None:
    make(jobs.volumes / "corpus")
    ran = fetch(jobs)
    assert (ran.code, ran.result["ok"], ran.result["reason"]) == (10, False, reason)
    assert sentence in ran.result["message"]
    assert list((jobs.store / "sources").iterdir()) == []
    assert list((jobs.store / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason", "sentence"),
    [
        pytest.param(
            "novel.tsv",
            "InputMissing",
            "'novel.tsv' does not exist; the volume holds 'novels', 'outside'",
            id="missing",
        ),
        pytest.param(
            "novels/novel.tsv",
            "InputMissing",
            "does not exist; 'novels' holds 'novels.tsv'",
            id="missing below",
        ),
        pytest.param(
            "outside", "InputRefused", "'outside' leads out of its volume, to '/etc'", id="a link out"
        ),
        pytest.param(
            "outside/passwd",
            "InputRefused",
            "leads out of its volume, to '/etc/passwd'",
            id="through a link out",
        ),
        pytest.param("../corpus/novels", "InputRefused", "must be absolute and without '..'", id="two dots"),
        pytest.param(
            "novels/novels.tsv/x", "InputRefused", "leads through a link or a file", id="through a file"
        ),
        pytest.param("x" * 300, "InputRefused", "is too long for a file system", id="too long"),
    ],
)
def test_path_that_leads_nowhere_is_refused(jobs: Jobs, path: str, reason: str, sentence: str) -> None:
    jobs.put("novels/novels.tsv", make_novels())
    (jobs.volumes / "corpus/outside").symlink_to("/etc")
    ran = fetch(jobs, path)
    assert (ran.code, ran.result["reason"]) == (10, reason)
    assert sentence in ran.result["message"]


@pytest.mark.parametrize("path", ["current", "current/novels.tsv"])
def test_loop_of_links_is_refused(jobs: Jobs, path: str) -> None:
    volume = jobs.volumes / "corpus"
    (volume / "current").symlink_to("latest")
    (volume / "latest").symlink_to("current")
    ran = fetch(jobs, path)
    assert (ran.code, ran.result["reason"]) == (10, "InputRefused")
    assert ran.result["message"] == (
        f"Input 'corpus': {path!r} leads through a link that leads back to itself. Put the data there "
        "instead of the link."
    )


def test_more_files_than_are_taken_are_refused(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_builders.inputs.MAX_FILES", 1000)
    for number in range(1000):
        jobs.put(f"{number // 100}/{number}.txt", "text")
    volume = str(jobs.volumes / "corpus")
    assert len(find_input("corpus", volume, jobs.volumes, 10_000).entries) == 1000
    jobs.put("one/more.txt", "text")
    with pytest.raises(Refused) as refused:
        find_input("corpus", volume, jobs.volumes, 10_000)
    assert refused.value.reason == "InputTooLarge"
    assert refused.value.message.startswith("Input 'corpus': it holds more than 1,000 files. Gather them in ")


@pytest.mark.parametrize(
    ("make", "path", "case"),
    [
        pytest.param(link_beside_novels, "", "a symlink out of the folder", id="a link out"),
        pytest.param(empty_file, "", "empty input", id="an empty file"),
        pytest.param(empty_file, "novel.tsv", "missing input (a path)", id="nothing of that name"),
    ],
)
def test_refusal_reads_as_the_page_says(
    jobs: Jobs, make: Callable[[Path], None], path: str, case: str
) -> None:
    make(jobs.volumes / "corpus")
    ran = fetch(jobs, path)
    assert row_of(case).says(ran.result["message"]), ran.result["message"]


@needs_root
def test_device_is_refused(jobs: Jobs) -> None:
    os.mknod(jobs.volumes / "corpus/zero", 0o20666, os.makedev(1, 5))
    ran = fetch(jobs)
    assert (ran.code, ran.result["reason"]) == (10, "InputRefused")
    assert "'zero' is a device" in ran.result["message"]


@needs_root
@pytest.mark.parametrize(("path", "unreadable"), [("", "a/b.txt"), ("", "a"), ("a/b.txt", "a/b.txt")])
def test_unreadable_file_says_whose_it_is(jobs: Jobs, path: str, unreadable: str) -> None:
    jobs.put("a/b.txt", "text")
    os.chown(jobs.volumes / "corpus" / unreadable, 1234, 1234)
    (jobs.volumes / "corpus" / unreadable).chmod(0o600)
    ran = fetch(jobs, path, WITHOUT_OVERRIDE)
    assert (ran.code, ran.result["reason"]) == (10, "InputUnreadable")
    assert (
        f"'{unreadable}' cannot be read by user 0 of group 0 (it belongs to 1234:1234, mode 0600)"
        in ran.result["message"]
    )


@needs_root
def test_lost_and_found_of_the_volume_is_no_part_of_the_input(jobs: Jobs) -> None:
    jobs.put("a.txt", "text")
    lost = jobs.volumes / "corpus/lost+found"
    lost.mkdir(mode=0o700)
    os.chown(lost, 1234, 1234)
    assert fetch(jobs, "", WITHOUT_OVERRIDE).result["inputs"][0]["files"] == 1


def test_pin_that_differs_names_both(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    digest = fetch(jobs, "novels.tsv").result["inputs"][0]["sha256"]
    assert fetch(jobs, "novels.tsv", sha256=digest).code == 0
    ran = fetch(jobs, "novels.tsv", sha256="0" * 64)
    assert (ran.code, ran.result["reason"]) == (10, "HashMismatch")
    assert f"'novels.tsv' has the sha256 {digest}, but the spec pins {'0' * 64}" in ran.result["message"]


def test_whole_volume_is_called_that(jobs: Jobs) -> None:
    """A ConfigMap, say, of which no key is named."""
    (jobs.volumes / "corpus").mkdir(exist_ok=True)
    empty = fetch(jobs, "").result["message"]
    assert empty.startswith("Input 'corpus': the volume holds 0 files, none with a byte in it;")
    jobs.put("novels.tsv", make_novels())
    other = fetch(jobs, "", sha256="0" * 64).result["message"]
    assert other.startswith("Input 'corpus': the volume has the sha256 ")


def test_input_over_the_limit_is_not_copied(jobs: Jobs) -> None:
    jobs.put("novels.tsv", "x" * 1001)
    ran = fetch(jobs, "novels.tsv", NLP_MAX_INPUT_BYTES="1000")
    assert (ran.code, ran.result["reason"]) == (10, "InputTooLarge")
    assert "holds 1,001 bytes; at most 1,000 are fetched" in ran.result["message"]


def test_missing_store_is_said(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    shutil.rmtree(jobs.store)
    ran = fetch(jobs, "novels.tsv")
    assert (ran.code, ran.result["reason"]) == (10, "StoreUnwritable")


@needs_root
def test_store_of_somebody_else_is_said(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    os.chown(jobs.store, 1234, 1234)
    jobs.store.chmod(0o755)
    ran = fetch(jobs, "novels.tsv", WITHOUT_OVERRIDE)
    assert (ran.code, ran.result["reason"]) == (10, "StoreUnwritable")
    assert (
        "cannot be written by user 0 of group 0 (it belongs to 1234:1234, mode 0755)" in ran.result["message"]
    )


def in_volume_of(jobs: Jobs, size: str) -> tuple[str, ...]:
    """Runs a program with a volume of that size as the store and everything else read-only, as in a
    restricted pod."""
    script = (
        f"mount --bind {jobs.folder} {jobs.folder} && mount -t tmpfs -o size={size} none {jobs.store} && "
        'mount -o remount,bind,ro / && exec "$@"'
    )
    return ("unshare", "--mount", "sh", "-c", script, "sh")


@needs_root
def test_full_store_says_how_much_is_free(jobs: Jobs) -> None:
    jobs.put("novels.tsv", os.urandom(300_000))
    ran = fetch(jobs, "novels.tsv", in_volume_of(jobs, "128k"))
    assert (ran.code, ran.result["reason"]) == (10, "StoreFull")
    assert "of 131,072 bytes are free" in ran.result["message"]
    assert row_of("a build out of disk").says(ran.result["message"])


@needs_root
def test_read_only_root_without_home_and_tmpdir_is_enough(jobs: Jobs) -> None:
    jobs.put("novels.tsv", make_novels())
    ran = fetch(jobs, "novels.tsv", in_volume_of(jobs, "1m"), HOME="/nonexistent", TMPDIR="/nonexistent")
    assert ran.code == 0, ran.log


def test_sigterm_leaves_nothing(jobs: Jobs) -> None:
    """The input is a sparse file that takes a minute to read, so that the signal arrives while it is read."""
    with jobs.put("large.tsv", "x").open("r+b") as large:
        large.truncate(40 << 30)
    termination_log = jobs.folder / "termination-log"
    request = {
        "version": 1,
        "model": "demo/large",
        "deadlineSeconds": 600,
        "inputs": [{"name": "corpus", "path": str(jobs.volumes / "corpus/large.tsv"), "sha256": ""}],
    }
    job = subprocess.Popen(
        [sys.executable, "-m", "model_builders", "fetch"], env=jobs.environment(request, termination_log)
    )
    try:
        deadline = time.monotonic() + 60
        while not list((jobs.store / "tmp").glob("*")):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 143
    finally:
        job.kill()
        job.wait()
    assert list((jobs.store / "tmp").iterdir()) == list((jobs.store / "sources").iterdir()) == []
    assert json.loads(termination_log.read_text(encoding="utf-8"))["ok"] is False


class StoreThatTakesTime(Store):
    """Asked for a source's path between the two readings of an input: the moment for the user's change."""

    changes: ClassVar[Callable[[], object]]

    def source(self, digest: str) -> Path:
        type(self).changes()
        return super().source(digest)


def test_file_that_changes_while_it_is_read_is_tried_again(jobs: Jobs) -> None:
    path = jobs.put("novels.tsv", make_novels())
    StoreThatTakesTime.changes = lambda: path.write_text("document\ttext\n", encoding="utf-8")
    request = FetchRequest("demo/novels", 600, (InputToFetch("corpus", str(path), ""),))
    with pytest.raises(TryAgain, match=r"'novels\.tsv' changed while it was read"):
        run_fetch(request, StoreThatTakesTime(jobs.store), jobs.volumes, 1000)
    assert list((jobs.store / "sources").iterdir()) == list((jobs.store / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("replace", "error"),
    [
        pytest.param(lambda path: None, TryAgain, id="gone"),
        pytest.param(os.mkfifo, TryAgain, id="a pipe that nobody writes to"),
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), Refused, id="a link out"),
    ],
)
def test_file_replaced_after_it_was_seen_is_not_read(
    jobs: Jobs, replace: Callable[[Path], None], error: type[JobError]
) -> None:
    path = jobs.put("novels/novels.tsv", make_novels())
    found = find_input("corpus", str(path.parent), jobs.volumes, 1000)
    path.unlink()
    replace(path)
    with pytest.raises(error), found.open(0):
        pass
