"""Reads a member of a build request, and collects what is wrong with it, to report all at once.

The API server has checked the same: a Job may be started by hand, and a CRD can be older than the builder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_builders.errors import Refused
from model_builders.messages import Json
from model_builders.quality import parse_decimal
from model_builders.served.words import Settings, normalise, tokenize

EXPORT = "spec.build.export"


@dataclass
class Given:
    where: str
    """`spec.build.oneHot`."""
    content: Json
    fields: tuple[str, ...]
    """All there are."""
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.problems += [
            f"{self.where}.{name} is not known; there are {', '.join(self.fields)}"
            for name in self.content
            if name not in self.fields
        ]

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self.content.get(name, default)
        if value not in allowed:
            self.problems.append(f"{self.where}.{name} is {value!r}; it must be one of {', '.join(allowed)}")
        return str(value)

    def word(self, name: str, default: str) -> str:
        """A word, such as the name of a column."""
        value = self.content.get(name, default)
        if not isinstance(value, str) or not value.strip() or "\t" in value:
            self.problems.append(f"{self.where}.{name} is {value!r}; it must be a word")
            return default
        return value

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self.content.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            self.problems.append(
                f"{self.where}.{name} is {value!r}; it must be a whole number, {lowest:,} to {highest:,}"
            )
            return default
        return value

    def decimal(self, name: str, default: str, lowest: float, highest: float) -> float:
        """A decimal in a string, so that no tool rounds it."""
        value = self.content.get(name, default)
        number = parse_decimal(value) if isinstance(value, str) else None
        if number is None or not lowest <= number <= highest:
            self.problems.append(
                f"{self.where}.{name} is {value!r}; it must be a decimal in quotes, {lowest:g} to {highest:g}"
            )
            return float(default)
        return float(number)

    def vocabulary(self, settings: Settings) -> tuple[str, ...]:
        """The member `vocabulary` in the form in which texts are compared."""
        given = self.content.get("vocabulary", [])
        if not isinstance(given, list) or not all(isinstance(term, str) for term in given):
            self.problems.append(f"{self.where}.vocabulary is {given!r}; it must be a list of strings")
            return ()
        terms = tuple(normalise(term, settings.case_folding) for term in given)
        if not self.problems:
            self.problems += self._problems_of(given, terms, settings)
        return terms

    def _problems_of(self, given: list[str], terms: tuple[str, ...], settings: Settings) -> list[str]:
        """Terms that could never be found, and terms that become the same one."""
        problems = []
        first: dict[str, int] = {}
        for index, term in enumerate(terms):
            tokens = tokenize(term, settings)
            if tokens != [term]:
                problems.append(
                    f"{self.where}.vocabulary[{index}] is {given[index]!r}, which the tokenizer "
                    f"{settings.tokenizer} reads as {tokens!r}; each term must be a single token"
                )
            elif first.setdefault(term, index) != index:
                problems.append(
                    f"{self.where}.vocabulary[{index}] is {given[index]!r}, the same term as "
                    f"vocabulary[{first[term]}] ({given[first[term]]!r}) after Unicode form NFC and case "
                    f"folding {settings.case_folding}"
                )
        return problems

    def check_lossless(self, export: Json) -> None:
        """`spec.build.export` of an architecture that loses nothing."""
        self.problems += [
            f"{EXPORT}.{name} is not offered for this architecture; there is precision"
            for name in export
            if name != "precision"
        ]
        Given(EXPORT, export, tuple(export), self.problems).choice("precision", ("Auto", "Float32"), "Auto")

    def refuse(self) -> None:
        """Raises Refused (`ParameterInvalid`) when something was wrong."""
        if self.problems:
            raise Refused("ParameterInvalid", f"{'; '.join(self.problems)}.")
