"""The fetch and the build Job with their store in a bucket of a real S3 server."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from model_builders import handover
from model_builders.bucket_store import ARTIFACT, SOURCE
from model_builders.errors import TryAgain
from model_builders.handover import WORKER, Outcome, alive, read_own, write_outcome
from model_builders.store import verify_files
from tests.faults.bad_input_page import row_of
from tests.model_builders.bucket.containers import Containers, files_below
from tests.model_builders.made import DOCUMENT_EXAMPLE, make_jobs, make_novels
from tests.nlp_agent.artifacts import write_artifact

pytestmark = pytest.mark.jobs


def test_bucket_holds_what_a_volume_would(containers: Containers, tmp_path: Path) -> None:
    """The same Jobs with a volume leave the same files under the same names, byte for byte."""
    digest = containers.corpus()
    ran = containers.build(digest, parameters=DOCUMENT_EXAMPLE)
    assert ran.code == 0, containers.ran

    (tmp_path / "volume").mkdir()
    jobs = make_jobs(tmp_path / "volume")
    in_volume = jobs.build(jobs.corpus(make_novels()), DOCUMENT_EXAMPLE)
    assert ran.result == in_volume.result
    assert files_below(containers.on_disk) == files_below(jobs.store)


def test_manifest_is_sent_after_all_other_files_and_the_result_last(containers: Containers) -> None:
    ran = containers.build(containers.corpus(), parameters=DOCUMENT_EXAMPLE)
    folder = f"artifacts/{ran.result['digest']}/"
    sent = containers.requests("PUT")
    files = [path for path in sent if path.startswith(folder)]
    assert files[-1] == f"{folder}manifest.json"
    assert len(files) == len(set(files)) > 5
    assert sent[-1].startswith("results/")


def test_build_that_was_built_before_brings_and_sends_nothing(containers: Containers) -> None:
    digest = containers.corpus()
    first = containers.build(digest)
    mark = containers.mark()
    again = containers.build(digest)
    assert (again.code, again.result) == (0, first.result)
    assert containers.requests("PUT", mark) == []
    read = [
        path.split("/")[0] for path in containers.requests("GET", mark) if not path.endswith("manifest.json")
    ]
    assert set(read) <= {"results", "tmp", ""}, read
    assert "nothing is left to do" in containers.ran["build"].log


def test_a_fetch_tells_of_what_was_built_of_the_same_inputs(containers: Containers) -> None:
    digest = containers.corpus()
    request = containers.jobs.build_request(digest, parameters=DOCUMENT_EXAMPLE)
    recipe = {one: request[one] for one in ("version", "architecture", "parameters", "quality", "export")}

    def found(**other: Any) -> Any:
        told = json.dumps(recipe | other)
        ran = containers.pod("fetch", containers.fetch_request(), NLP_RECIPE=told)
        assert (ran.code, ran.result["inputs"][0]["sha256"]) == (0, digest), containers.ran
        return ran.result.get("built")

    assert found() is None
    built = containers.build(digest, parameters=DOCUMENT_EXAMPLE).result
    assert found() == {one: built[one] for one in ("digest", "bytes", "metrics")} | {"key": request["key"]}
    assert found(parameters={"weighting": "TfIdf"}) is None
    (containers.on_disk / "artifacts" / str(built["digest"]) / "1" / "vocabulary.json").unlink()
    assert found() is None, "it is not whole any more"


def test_only_a_fetch_that_names_digests_is_told_of_what_is_held(containers: Containers) -> None:
    containers.jobs.put("novels.tsv", make_novels())
    first = containers.pod("fetch", containers.fetch_request())
    assert first.code == 0, containers.ran
    assert not (containers.scratch / "held.json").exists()
    digest = str(first.result["inputs"][0]["sha256"])
    held = files_below(containers.on_disk)
    assert [path for path in held if path.startswith(f"sources/{digest}/")], held.keys()
    assert containers.pod("fetch", containers.fetch_request(sha256=digest)).result == first.result
    assert "1 of 1 inputs are in the store already" in containers.ran["store"].log


def test_a_fetch_that_its_store_refuses_is_not_waited_for(containers: Containers) -> None:
    """And brings nothing that has nowhere to go."""
    request = containers.fetch_request(sha256="0" * 64)
    del request["inputs"][0]["path"]
    request["inputs"][0]["https"] = {"url": "https://nowhere.invalid/novels.tsv"}
    ran = containers.pod("fetch", request, NLP_STORE="s3://no-such-bucket/x")
    assert (ran.code, ran.result["reason"]) == (10, "StoreRefused")
    worker = containers.ran["fetch"]
    assert (worker.code, worker.result["reason"]) == (0, "StoreUnreachable"), worker.log


def test_a_fetch_that_fails_ends_its_pod_in_its_own_words(containers: Containers) -> None:
    request = containers.fetch_request()
    request["inputs"][0]["path"] += "-not"
    ran = containers.pod("fetch", request)
    assert (ran.code, ran.result["reason"]) == (10, "InputMissing")
    assert containers.ran["fetch"].code == 0


def test_a_defect_of_a_fetch_is_told_as_what_it_is(containers: Containers) -> None:
    containers.jobs.put("novels.tsv", make_novels())
    containers.new_pod()
    request = containers.fetch_request()
    worker = containers.start("fetch", "fetch", request, NLP_MAX_INPUT_BYTES="many")
    ran = containers.run("store", "fetch", request)
    assert containers.ended("fetch", worker).code == 0
    assert (ran.code, ran.result["reason"]) == (1, "BuildFailed")
    assert "The builder failed with ValueError" in str(ran.result["message"])


@pytest.mark.parametrize("fetched", [True, False])
def test_what_a_worker_says_was_built_is_not_told(containers: Containers, fetched: bool) -> None:
    """It read what strangers made, and sees no results."""
    containers.new_pod()
    told = {
        "version": 1,
        "ok": fetched,
        "inputs": [{"name": "corpus", "sha256": "0" * 64, "files": 1, "bytes": 1}],
        "message": "Done.",
    }
    forged = told | {"built": {"key": "1" * 64, "digest": "2" * 64, "bytes": 1, "metrics": {}}}
    with alive(containers.scratch, WORKER):
        write_outcome(containers.scratch, Outcome(0 if fetched else 10, forged))
    recipe = {"version": 1, "architecture": "OneHot", "parameters": {}, "quality": [], "export": {}}
    ran = containers.run("store", "fetch", containers.fetch_request(), NLP_RECIPE=json.dumps(recipe))
    assert (ran.code, ran.result) == (0 if fetched else 10, told)


def test_source_that_the_bucket_has_is_not_sent_again(containers: Containers) -> None:
    digest = containers.corpus()
    mark = containers.mark()
    assert containers.corpus() == digest
    assert containers.requests("PUT", mark) == []

    pinned = containers.pod("fetch", containers.fetch_request(sha256=digest))
    assert pinned.code == 0
    assert pinned.result["inputs"][0]["sha256"] == digest
    assert not (containers.scratch / "sources" / digest).exists()


def test_pinned_source_that_the_bucket_has_is_not_asked_for_at_its_origin(containers: Containers) -> None:
    digest = containers.corpus()
    request = containers.fetch_request(sha256=digest)
    del request["inputs"][0]["path"]
    request["inputs"][0]["https"] = {"url": "https://nowhere.invalid/novels.tsv"}
    ran = containers.pod("fetch", request)
    assert ran.code == 0, containers.ran
    assert ran.result["inputs"] == [{"name": "corpus", "sha256": digest, "files": 1, "bytes": 347}]


def test_artifact_as_an_input_is_looked_for_in_the_bucket(containers: Containers) -> None:
    artifact = str(containers.build(containers.corpus()).result["digest"])
    request = containers.fetch_request()
    request["inputs"] = [{"name": "words", "sha256": "", "artifact": artifact}]
    ran = containers.pod("fetch", request)
    assert ran.code == 0, containers.ran
    assert (ran.result["inputs"][0]["kind"], ran.result["inputs"][0]["sha256"]) == ("Artifact", artifact)

    request["inputs"][0]["artifact"] = "0" * 64
    ran = containers.pod("fetch", request)
    assert (ran.code, ran.result["reason"]) == (10, "InputMissing")


def test_worker_is_told_nothing_of_the_bucket(containers: Containers) -> None:
    environment = containers.environment({}, Path("/dev/null"), worker=True)
    assert not [value for value in environment.values() if "s3://" in value]


def test_failed_build_leaves_its_whole_result_in_the_bucket(containers: Containers) -> None:
    floor = [{"metric": "documents", "atLeast": "1000"}]
    ran = containers.build(containers.corpus(), quality=floor)
    assert (ran.code, ran.result["reason"]) == (10, "QualityBelowFloor")
    assert containers.ran["build"].code == 0
    (path,) = (containers.on_disk / "results").iterdir()
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["reason"] == "QualityBelowFloor"
    assert kept["allMetrics"]["documents"] == "4"


def test_damaged_source_is_told_and_sent_again_by_the_next_fetch(containers: Containers) -> None:
    digest = containers.corpus()
    (path,) = (containers.on_disk / "sources" / digest / "data").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"X")
    ran = containers.build(digest)
    assert (ran.code, ran.result["reason"]) == (10, "HashMismatch")
    assert "Set spec.build.trigger to a new value to fetch it again." in ran.result["message"]

    assert containers.corpus() == digest
    assert path.read_bytes() == whole
    assert containers.build(digest).code == 0


def test_repair_sends_the_damaged_files_only(containers: Containers) -> None:
    digest = containers.corpus()
    artifact = str(containers.build(digest).result["digest"])
    folder = containers.on_disk / "artifacts" / artifact
    before = files_below(folder)
    changed, gone = folder / "1" / "vocabulary.json", folder / "1" / "documents.json"
    changed.write_bytes(changed.read_bytes().replace(b"\n", b" "))  # of the same size: no listing tells
    mark = containers.mark()
    assert containers.build(digest).code == 0
    assert containers.requests("PUT", mark) == []

    gone.unlink()
    mark = containers.mark()
    ran = containers.build(digest, repair=True)
    assert (ran.code, ran.result["digest"]) == (0, artifact)
    assert files_below(folder) == before
    sent = [path for path in containers.requests("PUT", mark) if path.startswith("artifacts/")]
    assert sorted(path.rpartition("/")[2] for path in sent) == [
        "documents.json",
        "manifest.json",
        "vocabulary.json",
    ]


def test_input_that_is_not_in_the_bucket_is_told_by_the_build(containers: Containers) -> None:
    ran = containers.build("0" * 64)
    assert (ran.code, ran.result["reason"]) == (10, "InputMissing")


def test_namespaces_keep_apart(containers: Containers) -> None:
    containers.corpus()
    other = Containers(containers.jobs, containers.server, namespace=f"{containers.namespace}-other")
    other.pods = 100
    ran = other.build(containers.corpus())
    assert ran.result["reason"] == "InputMissing"


# --- what the worker leaves is read with care ---


def test_result_that_is_a_link_is_not_sent(containers: Containers) -> None:
    """A build that was taken over could lay a link to the credentials, which only `push` can read."""
    request = containers.jobs.build_request("0" * 64)
    containers.new_pod()
    (containers.scratch / "results").mkdir()
    secret = containers.server.credentials / "AWS_SECRET_ACCESS_KEY"
    (containers.scratch / "results" / f"{request['key']}.json").symlink_to(secret)
    write_outcome(containers.scratch, Outcome(10, {"version": 1, "ok": False, "reason": "BuildFailed"}))
    ran = containers.run("push", "build", request)
    assert ran.code == 1
    assert not (containers.on_disk / "results").exists()


@pytest.mark.parametrize("name", ["link", "linked/file", "pipe", "large"])
def test_only_plain_small_files_are_read_from_scratch(tmp_path: Path, name: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "file").write_text("secret")
    (scratch / "link").symlink_to(tmp_path / "file")
    (scratch / "linked").symlink_to(tmp_path)
    os.mkfifo(scratch / "pipe")
    with (scratch / "large").open("wb") as large:
        large.truncate(handover.LARGEST_BYTES + 1)
    with pytest.raises(TryAgain):
        read_own(scratch, name)


def test_artifact_that_is_not_what_its_name_says_is_not_sent(containers: Containers) -> None:
    request = containers.jobs.build_request("0" * 64)
    containers.new_pod()
    folder = containers.scratch / "artifacts" / ("d" * 64)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"version": 1, "files": []}')
    write_outcome(containers.scratch, Outcome(0, {"version": 1, "ok": True, "digest": "d" * 64}))
    ran = containers.run("push", "build", request)
    assert (ran.code, ran.result["reason"]) == (1, "BuildFailed")
    assert not (containers.on_disk / "artifacts").exists()


def test_a_file_that_changes_while_its_folder_is_sent_is_not_sent(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container that wrote it may run still."""
    containers.new_pod()
    digest = write_artifact(containers.scratch, {"1/a.bin": b"a", "1/b.bin": b"b"})
    path = containers.scratch / "artifacts" / digest / "1" / "b.bin"

    def verified(*given: Any) -> Any:
        found = verify_files(*given)
        path.write_bytes(b"c")
        return found

    monkeypatch.setattr("model_builders.bucket_store.verify_files", verified)
    with pytest.raises(TryAgain, match=r"was changed while it was sent: '1/b\.bin'"):
        containers.store.send(ARTIFACT, digest, handover.open_scratch(containers.scratch), 600)
    sent = containers.on_disk / "artifacts" / digest
    assert not (sent / "1" / "b.bin").exists()
    assert not (sent / "manifest.json").exists()


@pytest.mark.parametrize("name", ["held.json", "store.lock"])
def test_a_link_laid_where_the_store_writes_leads_nowhere(containers: Containers, name: str) -> None:
    containers.new_pod()
    kept = containers.jobs.folder / "kept"
    kept.write_text("as it was")
    for one in (name, f"{name}.draft", name.replace(".json", ".draft")):
        (containers.scratch / one).unlink(missing_ok=True)
        (containers.scratch / one).symlink_to(kept)
    with alive(containers.scratch, WORKER):
        write_outcome(containers.scratch, Outcome(10, {"version": 1, "ok": False, "message": "No."}))
    ran = containers.run("store", "fetch", containers.fetch_request(sha256="0" * 64))
    assert ran.code == 10
    assert kept.read_text() == "as it was"


# --- a bucket that says no ---


def test_bucket_that_does_not_exist_is_told_and_not_tried_again(containers: Containers) -> None:
    ran = containers.pull(NLP_STORE="s3://no-such-bucket/x")
    assert (ran.code, ran.result["reason"]) == (10, "StoreRefused")
    case = row_of("a bucket that is not there, or not for these credentials")
    assert case.says(str(ran.result["message"])), ran.result["message"]


def test_wrong_credentials_are_told(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        (tmp_path / "wrong" / key).write_text("nobody")
    ran = containers.pull(NLP_STORE_CREDENTIALS=str(tmp_path / "wrong"))
    assert (ran.code, ran.result["reason"]) == (10, "StoreRefused")
    (tmp_path / "wrong" / "AWS_ACCESS_KEY_ID").unlink()
    ran = containers.pull(NLP_STORE_CREDENTIALS=str(tmp_path / "wrong"))
    assert (ran.code, ran.result["reason"]) == (10, "StoreRefused")
    assert "no readable key AWS_ACCESS_KEY_ID" in str(ran.result["message"])


def test_server_that_is_away_is_told_as_something_to_try_again(containers: Containers) -> None:
    store = containers.store
    containers.server.kill()
    with pytest.raises(TryAgain) as caught:
        store.files(ARTIFACT, "0" * 64)
    assert caught.value.reason == "StoreUnreachable"
    assert "The server does not answer: it cannot be connected to." in caught.value.message


def test_scratch_volume_without_room_is_told_before_anything_is_downloaded(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = containers.corpus()
    containers.new_pod()
    scratch = handover.open_scratch(containers.scratch)
    scratch.prepare()
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("model_builders.bucket_store.shutil.disk_usage", lambda path: usage)
    with pytest.raises(Exception, match="10 bytes free") as caught:
        containers.store.bring(SOURCE, digest, scratch)
    assert getattr(caught.value, "reason", "") == "ScratchFull"


# --- what a killed Job leaves ---


def test_half_sent_folder_goes_once_its_time_is_over_and_not_before(containers: Containers) -> None:
    bucket, store, now = containers.server.bucket(containers.namespace), containers.store, time.time()
    for digest, expires in (("a" * 64, now - 1), ("b" * 64, now + 600)):
        bucket.write(f"artifacts/{digest}/1/model.py", b"half")
        bucket.write(f"tmp/push-{int(expires)}-{digest[:16]}", f"artifacts/{digest}\n".encode())
    # Somebody sends the first one again at this very moment: it is not taken from under him.
    bucket.write(f"tmp/push-{int(now + 600)}-{'c' * 16}", f"artifacts/{'a' * 64}\n".encode())
    assert store.sweep(now) == []
    bucket.delete([f"tmp/push-{int(now + 600)}-{'c' * 16}"])
    bucket.write(f"tmp/push-{int(now - 1)}-{'d' * 16}", f"artifacts/{'a' * 64}\n".encode())

    assert store.sweep(now) == [f"artifacts/{'a' * 64}"]
    assert [path for path in files_below(containers.on_disk) if path.startswith("artifacts/")] == [
        f"artifacts/{'b' * 64}/1/model.py"
    ]


def test_sweeping_takes_nothing_that_is_whole_or_lies_elsewhere(containers: Containers) -> None:
    digest = containers.corpus()
    bucket, now = containers.server.bucket(containers.namespace), time.time()
    for number, folder in enumerate(
        (f"sources/{digest}", "results", "sources", f"../other/sources/{digest}")
    ):
        bucket.write(f"tmp/push-{int(now - 1)}-{number:016x}", folder.encode())
    before = files_below(containers.on_disk / "sources")
    assert containers.store.sweep(now) == []
    assert files_below(containers.on_disk / "sources") == before
    assert not list((containers.on_disk / "tmp").glob("*"))
