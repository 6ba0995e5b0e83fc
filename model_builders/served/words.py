"""How texts become words, where a model is built and where it answers.

Copied into every artifact whose code imports it (`model_builders/served/__init__.py`); needs the standard
library and, for the tokenizer KoreanMorphemes alone, kiwipiepy.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

TOKENIZERS = ("Whitespace", "Words", "KoreanMorphemes")
CASE_FOLDINGS = ("Preserve", "Lower")


@dataclass(frozen=True)
class Settings:
    """How texts become terms: written into the artifact as `settings.json`."""

    tokenizer: str
    """`Whitespace`: terms are what stands between blanks.

    `Words`: runs of letters, marks and digits of any script.

    `KoreanMorphemes`: the morphemes that Kiwi finds, without punctuation and symbols; a verb is its stem.
    """
    case_folding: str
    """`Preserve`, or `Lower`: terms and questions are compared in lower case."""

    def to_json(self) -> dict[str, str]:
        """With the version of what splits morphemes, for whoever asks why words have changed."""
        version = {"kiwipiepy": kiwi_version()} if self.tokenizer == "KoreanMorphemes" else {}
        return {"tokenizer": self.tokenizer, "caseFolding": self.case_folding, **version}

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Settings":
        """Raises KeyError when `settings.json` is of something else."""
        return cls(content["tokenizer"], content["caseFolding"])


def normalise(text: str, case_folding: str) -> str:
    """Unicode form NFC, so that Korean typed on macOS (NFD) is the same word; lower case where asked for."""
    text = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", text.lower()) if case_folding == "Lower" else text


def tokenize(text: str, settings: Settings) -> list[str]:
    (tokens,) = tokenize_all([text], settings)
    return tokens


def tokenize_all(texts: Iterable[str], settings: Settings, threads: int = 1) -> Iterator[list[str]]:
    """The words of each text, in the order of the texts. Only KoreanMorphemes uses more than one thread."""
    normal = (normalise(text, settings.case_folding) for text in texts)
    if settings.tokenizer == "KoreanMorphemes":
        yield from _morphemes(normal, threads)
    elif settings.tokenizer == "Words":
        for text in normal:
            yield _words().findall(text.replace("_", " "))
    else:
        for text in normal:
            yield text.split()


@cache
def _words() -> re.Pattern[str]:
    r"""Runs of letters, digits and marks that begin with a letter or digit.

    `\w` alone would cut Hindi or Thai words at their vowel signs, which are marks. One class with the marks
    would take seven times as long.
    """
    marks: list[list[int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] != "M":
            continue
        if marks and marks[-1][1] == code - 1:
            marks[-1][1] = code
        else:
            marks.append([code, code])
    ranges = "".join(f"{chr(first)}-{chr(last)}" for first, last in marks)
    return re.compile(rf"\w+(?:[{ranges}]+\w*)*")


PUNCTUATION = ("SF", "SP", "SS", "SSO", "SSC", "SE", "SO", "SW", "SB")
"""Kiwi's tags of what is no word. Letters of other scripts (SL, SH), numbers (SN) and web addresses stay."""


def _morphemes(texts: Iterable[str], threads: int) -> Iterator[list[str]]:
    for tokens in _kiwi(threads).tokenize(texts):
        yield [token.form for token in tokens if token.tag not in PUNCTUATION]


@cache
def _kiwi(threads: int) -> Any:
    """Loading takes four seconds of processor time and half a GB of memory.

    Typing errors are not corrected: a correction would depend on the rest of the text.
    """
    import kiwipiepy

    return kiwipiepy.Kiwi(num_workers=threads)


def kiwi_version() -> str:
    import kiwipiepy

    return str(kiwipiepy.__version__)
