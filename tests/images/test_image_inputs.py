"""An image is named by what goes into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster import images
from localcluster.errors import NotPossible
from localcluster.images import copied_paths, image_of, input_files

DOCKERFILE = """\
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE} AS packages
COPY constraints/builder.txt /tmp/builder.txt
FROM ${BASE_IMAGE}
COPY --from=packages /opt/nlp /opt/nlp
COPY model_builders /opt/app/model_builders
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "images/builder").mkdir(parents=True)
    (tmp_path / "images/builder/Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "constraints").mkdir()
    (tmp_path / "constraints/builder.txt").write_text("numpy==1.26.4\n")
    (tmp_path / "model_builders/matrix").mkdir(parents=True)
    (tmp_path / "model_builders/__main__.py").write_text("print()\n")
    (tmp_path / "model_builders/matrix/build.py").write_text("pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("dockerfile", "paths"),
    [
        pytest.param("COPY a /x\n", ["a"], id="one source"),
        pytest.param("COPY b a /x/\n", ["a", "b"], id="several sources"),
        pytest.param("COPY --chown=1000 a /x\n", ["a"], id="with a flag"),
        pytest.param("COPY --from=packages /opt /opt\n", [], id="from a stage"),
        pytest.param("COPY a \\\n     b \\\n     /x/\n", ["a", "b"], id="over several lines"),
        pytest.param("# COPY a /x\nRUN cp COPY a\n", [], id="no COPY at all"),
    ],
)
def test_copied_paths_are_the_sources_in_the_build_context(dockerfile: str, paths: list[str]) -> None:
    assert copied_paths(dockerfile) == paths


def test_input_files_leave_out_caches_and_hidden_files(repository: Path) -> None:
    (repository / "model_builders/__pycache__").mkdir()
    (repository / "model_builders/__pycache__/build.cpython-311.pyc").write_bytes(b"")
    (repository / "model_builders/.swp").write_text("")
    found = [str(path.relative_to(repository)) for path in input_files(DOCKERFILE, repository)]
    assert found == [
        "constraints/builder.txt",
        "model_builders/__main__.py",
        "model_builders/matrix/build.py",
    ]


def test_a_missing_input_is_named(repository: Path) -> None:
    (repository / "constraints/builder.txt").unlink()
    with pytest.raises(NotPossible, match=r"constraints/builder\.txt is missing"):
        image_of("builder", repository)


def test_an_unknown_image_is_answered_with_the_known_ones(repository: Path) -> None:
    with pytest.raises(NotPossible, match="'gateway'; there are operator, builder, builder-torch, serving"):
        image_of("gateway", repository)


def test_equal_inputs_give_the_same_image(repository: Path) -> None:
    first = image_of("builder", repository)
    (repository / "model_builders/__main__.py").touch()
    (repository / "README.md").write_text("no input\n")
    assert image_of("builder", repository) == first
    assert first.reference.startswith("nlp-operator.local/builder:")
    assert first.archive.name == f"builder-{first.reference[-12:]}.tar"


def change_a_file(repository: Path) -> None:
    (repository / "model_builders/matrix/build.py").write_text("raise\n")


def add_a_file(repository: Path) -> None:
    (repository / "model_builders/new.py").write_text("")


def rename_a_file(repository: Path) -> None:
    path = repository / "model_builders/matrix/build.py"
    path.rename(path.with_name("make.py"))


def make_a_file_executable(repository: Path) -> None:
    (repository / "model_builders/__main__.py").chmod(0o755)


def change_a_pin(repository: Path) -> None:
    (repository / "constraints/builder.txt").write_text("numpy==2.0.0\n")


def change_the_dockerfile(repository: Path) -> None:
    (repository / "images/builder/Dockerfile").write_text(DOCKERFILE + "USER 1000:1000\n")


@pytest.mark.parametrize(
    "change",
    [
        change_a_file,
        add_a_file,
        rename_a_file,
        make_a_file_executable,
        change_a_pin,
        change_the_dockerfile,
    ],
)
def test_another_input_gives_another_image(repository: Path, change: object) -> None:
    before = image_of("builder", repository)
    assert callable(change)
    change(repository)
    assert image_of("builder", repository).reference != before.reference


def test_another_base_gives_another_image(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_of("builder", repository)
    monkeypatch.setattr(images, "BASE_PACKAGES", (*images.BASE_PACKAGES, "tini"))
    assert image_of("builder", repository).reference != before.reference
