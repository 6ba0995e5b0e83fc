"""The guide says what its commands give: they are run again; those that train, in `tests/gates`."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.guide.__main__ import follow, main
from tools.guide.chapter import CHAPTERS, GUIDE, QUICK, ROOT, Chapter, read_chapter, steady
from tools.guide.pictures import PICTURES, grid

SAMPLES = {
    "1-one-hot": "word-places",
    "2-term-document-matrix": "korean-novels",
    "3-word2vec": "korean-words",
    "4-transfer": "korean-people",
    "5-attention": "reversed-words",
    "6-transformer": "english-korean",
}
LARGEST_PICTURE_BYTES = 60_000


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_the_sample_as_it_stands(name: str) -> None:
    chapter = read_chapter(name)
    assert chapter.samples == [f"manifests/samples/{SAMPLES[name]}.yaml"]
    assert chapter.with_manifests().text == chapter.text


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_commands_that_build_serve_and_ask_its_sample(name: str) -> None:
    commands = read_chapter(name).commands
    assert {words[0] for words in commands} == {"build", "serve", "infer"}
    asked = [words for words in commands if words[0] == "infer"]
    assert all(words[1:3] == ["--local", SAMPLES[name]] for words in asked)
    files = [[word for word in words if word.endswith(".yaml")] for words in commands if words[0] != "infer"]
    assert all(f"manifests/samples/{SAMPLES[name]}.yaml" in one for one in files)


@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_of_a_chapter_are_small_and_whole(name: str) -> None:
    assert read_chapter(name).pictures
    for picture in read_chapter(name).pictures:
        path = GUIDE / picture
        assert path.stat().st_size < LARGEST_PICTURE_BYTES
        drawing = ElementTree.parse(path).getroot()
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        assert [text for one in drawing.iter("{http://www.w3.org/2000/svg}text") if (text := one.text)]


def test_the_index_names_the_chapters_in_their_order_and_no_other_page_is_there() -> None:
    index = (GUIDE / "README.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| \[[^\]]+\]\((\S+)\.md\)", index, re.MULTILINE)) == CHAPTERS
    assert set(PICTURES) == set(CHAPTERS) == set(SAMPLES)
    pictures = {picture for name in CHAPTERS for picture in read_chapter(name).pictures}
    others = {"README.md", "fixed-vector.yaml"}
    assert {path.name for path in GUIDE.iterdir()} == {f"{one}.md" for one in CHAPTERS} | pictures | others


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_every_link_and_every_named_file_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [one for one in re.findall(r"\]\((\S+?)\)", text) if "://" not in one]
    assert [one for one in links if not (page.parent / one.partition("#")[0]).exists()] == []
    named = re.findall(r"`((?:model_builders|manifests|tools|tests)/[\w./-]+)`", text)
    assert [one for one in named if not (ROOT / one).exists()] == []
    folders = re.findall(r"in `(model_builders/\w+)/`: (.*?)(?:Next|\Z)", text, re.DOTALL)
    assert len(folders) == (page.name != "README.md")
    for folder, said in folders:
        files = re.findall(r"`([\w/]+\.py)`", said)
        assert files
        assert [one for one in files if not (ROOT / folder / one).exists()] == []


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_code_beside_an_equation_stands_so_in_its_file(page: Path) -> None:
    shown = re.findall(
        r"<!-- lines of (\S+) -->\n\n```python\n(.*?)^```$",
        page.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    assert bool(shown) == (page.name in ("5-attention.md", "6-transformer.md"))
    for file, code in shown:
        lines = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        assert "\n".join(code.splitlines()) in "\n".join(lines), (file, code)


def test_what_differs_elsewhere_is_left_out_of_an_answer() -> None:
    built = "m was built before. Counted 3. Its artifact has 24.7 kB.\nartifact  0a1b\nin   /x/y\nterms   3\n"
    assert steady(built) == "m is built. Counted 3.\nterms   3\n"
    assert steady("m answered in 1.5 ms over http (at 127.0.0.1:8000)\n") == "m answered over http\n"
    assert steady("interpreted as   word  \n") == "interpreted as   word\n"


def test_a_picture_of_a_matrix_holds_its_words_and_numbers() -> None:
    drawing = ElementTree.fromstring(grid(["기차"], ["a", "b"], [[0, 2]], "x"))
    texts = [one.text for one in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a", "b", "기차", "0", "2"]


def test_a_chapter_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["9-none"]) == 2
    assert "There is no chapter '9-none'; there are 1-one-hot, " in capsys.readouterr().err


@pytest.mark.triton
@pytest.mark.parametrize("name", QUICK)
def test_a_chapter_says_what_comes_out(name: str) -> None:
    chapter = read_chapter(name)
    found, pictures = follow(emptied(chapter))
    assert found.text == chapter.text
    assert pictures == {file: (GUIDE / file).read_text(encoding="utf-8") for file in chapter.pictures}


def emptied(chapter: Chapter) -> Chapter:
    """Without what the generator puts in, so that nothing of it is only left from before."""
    text = re.sub(
        r"(?<=```console\n)(.*?)(?=^```$)", _commands_of, chapter.text, flags=re.DOTALL | re.MULTILINE
    )
    return Chapter(
        chapter.name, re.sub(r"(?<=```yaml\n).*?(?=^```$)", "", text, flags=re.DOTALL | re.MULTILINE)
    )


def _commands_of(found: re.Match[str]) -> str:
    return "".join(f"{line}\n" for line in found[1].splitlines() if line.startswith("$ "))
