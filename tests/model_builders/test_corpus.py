"""Which files become which documents, and what is said about those that cannot."""

from pathlib import Path

import pytest

from model_builders.corpus import read_corpus
from model_builders.errors import Refused
from model_builders.source import Source


def make_source(folder: Path, files: dict[str, str | bytes], kind: str = "Folder") -> Source:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return Source("corpus", "File" if kind == "File" else "Folder", folder, tuple(sorted(files)))


def read(folder: Path, files: dict[str, str | bytes], kind: str = "Folder") -> list[tuple[str, str]]:
    return [(d.name, d.text) for d in read_corpus((make_source(folder, files, kind),)).documents]


TSV = "document\ttext\n첫째\t하나 둘\n"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        pytest.param({"a.tsv": TSV}, "File", id="a file"),
        pytest.param({"a.tsv": TSV}, "Folder", id="a folder"),
        pytest.param({"a.TSV": TSV}, "Folder", id="suffix in capitals"),
        pytest.param({"a": TSV}, "File", id="a file without suffix"),
        pytest.param({"a.tsv": "\ufeff" + TSV}, "File", id="byte order mark"),
        pytest.param({"a.tsv": TSV.replace("\n", "\r\n")}, "File", id="lines of Windows"),
        pytest.param({"a.tsv": TSV.rstrip("\n")}, "File", id="no line feed at the end"),
        pytest.param({"a.tsv": "\n" + TSV + "\n\n"}, "File", id="blank lines"),
        pytest.param(
            {"a.jsonl": '{"document": "첫째", "text": "하나 둘", "year": 1936}\n'}, "Folder", id="JSON lines"
        ),
        pytest.param({"a.tsv": '{"document": "첫째", "text": "하나 둘"}'}, "File", id="JSON lines, misnamed"),
        pytest.param({"첫째.txt": "하나 둘"}, "Folder", id="a text file"),
        pytest.param({"deep/er/첫째.txt": "하나 둘"}, "Folder", id="a text file in a folder"),
        pytest.param({"\u110e\u1165\u11ba\u110d\u1162.txt": "하나 둘"}, "Folder", id="a name in NFD"),
    ],
)
def test_document_is_read(tmp_path: Path, files: dict[str, str | bytes], kind: str) -> None:
    assert read(tmp_path, files, kind) == [("첫째", "하나 둘")]


def test_kinds_mix_and_other_files_are_passed_over(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "b.tsv": "document\ttext\none\t1\n",
        "a.jsonl": '{"document":"two","text":"2"}\n',
        "c.txt": "3",
        "README.md": "\xff",
        ".hidden.txt": "4",
    }
    corpus = read_corpus((make_source(tmp_path, files),))
    assert [d.name for d in corpus.documents] == ["two", "one", "c"]
    assert corpus.passed_over == (".hidden.txt", "README.md")


def test_separators_of_unicode_do_not_cut_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x0bfour"
    assert read(tmp_path, {"a.tsv": f"document\ttext\nx\t{text}\n"}) == [("x", text)]


@pytest.mark.parametrize(
    ("files", "kind", "reason", "sentence"),
    [
        pytest.param(
            {"a.tsv": b"document\ttext\nx\tgood\ny\tb\xffd\n"},
            "Folder",
            "InputEncoding",
            "Input 'corpus': a.tsv, line 3 is not UTF-8: its byte 4 (byte 25 of the file) is 0xff. "
            "Convert the file to UTF-8.",
            id="a byte that is no UTF-8",
        ),
        pytest.param(
            {"a.txt": "막걸리".encode("cp949")},
            "Folder",
            "InputEncoding",
            "It looks like CP949: iconv -f CP949 -t UTF-8 'a.txt' converts it.",
            id="Korean of Windows",
        ),
        pytest.param(
            {"a.txt": "막걸리".encode("utf-16")}, "Folder", "InputEncoding", "looks like UTF-16", id="UTF-16"
        ),
        pytest.param(
            {"a.jsonl": '{"document": "x", "text": "\\ud800"}'},
            "Folder",
            "InputEncoding",
            "line 1 holds half of a surrogate pair",
            id="half a surrogate pair",
        ),
        pytest.param(
            {"a.txt": "text"},
            "File",
            "InputInvalid",
            "a.txt, line 1 is 'text'; the first line of a .tsv must be the header document<TAB>text",
            id="a single .txt",
        ),
        pytest.param(
            {"a.tsv": "name\ttext\n"}, "Folder", "InputInvalid", "must be the header", id="another header"
        ),
        pytest.param(
            {"a.tsv": "document\ttext\nx\n"}, "Folder", "InputInvalid", "line 2 has 1 column;", id="no tab"
        ),
        pytest.param(
            {"a.tsv": "document\ttext\nx\ty\tz\n"}, "Folder", "InputInvalid", "has 3 columns;", id="two tabs"
        ),
        pytest.param(
            {"a.tsv": "document\ttext\n \ty\n"}, "Folder", "InputInvalid", "line 2 has no name", id="no name"
        ),
        pytest.param(
            {"a.tsv": "document\ttext\nx\t1\ny\t" + "기차 " * 150_000 + "\n"},
            "Folder",
            "InputInvalid",
            "Input 'corpus': a.tsv, line 3 has more than 1,000,000 bytes; a line is a document.",
            id="a megabyte line",
        ),
        pytest.param(
            {"a.jsonl": '{"document": "x", "text": "' + "a" * 1_000_000 + '"}\n'},
            "File",
            "InputInvalid",
            "line 1 has more than 1,000,000 bytes; a line is a document. Put line feeds between them, or a",
            id="a megabyte line of JSON",
        ),
        pytest.param({"a.jsonl": "{\n"}, "Folder", "InputInvalid", "line 1 is not JSON", id="broken JSON"),
        pytest.param(
            {"a.jsonl": "[1]\n"}, "Folder", "InputInvalid", "must be a JSON object", id="JSON of another kind"
        ),
        pytest.param(
            {"a.jsonl": '{"document": "x", "text": 3}'},
            "Folder",
            "InputInvalid",
            "the key 'text' is 3; it must be a string",
            id="a text that is none",
        ),
        pytest.param(
            {"a.jsonl": '{"document": "x", "txt": "3"}'},
            "Folder",
            "InputInvalid",
            "line 1 has no key 'text'; it has 'document', 'txt'",
            id="another key",
        ),
        pytest.param(
            {"a.tsv": "document\ttext\nx\t1\n", "x.txt": "2"},
            "Folder",
            "InputInvalid",
            "Input 'corpus': x.txt: the document 'x' is there already, in Input 'corpus': a.tsv, line 2",
            id="a name twice",
        ),
        pytest.param(
            {"a.csv": "x"},
            "Folder",
            "InputEmpty",
            "holds only 'a.csv'; a corpus needs",
            id="other files only",
        ),
        pytest.param(
            {"a.tsv": "document\ttext\n"},
            "Folder",
            "InputEmpty",
            "files without a document",
            id="header only",
        ),
    ],
)
def test_input_that_is_no_corpus_says_where(
    tmp_path: Path, files: dict[str, str | bytes], kind: str, reason: str, sentence: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(tmp_path, files, kind)
    assert caught.value.reason == reason
    assert sentence in caught.value.message


def test_a_document_in_a_file_of_its_own_may_be_longer_than_a_line(tmp_path: Path) -> None:
    text = "기차 " * 150_000
    assert read(tmp_path, {"long.txt": text}) == [("long", text)]
