import subprocess
import sys
from pathlib import Path

import pytest

from model_builders.__main__ import main
from model_builders.page import render

REPOSITORY = Path(__file__).resolve().parents[2]


def test_contracts_page_in_docs_is_up_to_date() -> None:
    assert main(["contracts", "--check", str(REPOSITORY / "docs/api/inference.md")]) == 0


def test_page_that_is_out_of_date_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "inference.md"
    assert main(["contracts", "--check", str(page)]) == 1
    assert main(["contracts", "--write", str(page)]) == 0
    assert main(["contracts", "--check", str(page)]) == 0
    page.write_text(render() + " ", encoding="utf-8")
    assert main(["contracts", "--check", str(page)]) == 1
    assert "run python -m model_builders contracts --write" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for word in ("NLP_REQUEST", "--architecture TermDocumentMatrix", "exit codes", "contracts"):
        assert word in shown


def test_neither_request_nor_input_is_an_error_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NLP_REQUEST", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "model_builders", "fetch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "give --store and --input instead" in done.stderr
