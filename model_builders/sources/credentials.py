"""What the Secret of an input holds: one file a key, mounted into the fetch Job alone.

Values are never logged and never part of a message; the names of keys are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_builders.errors import Refused, TryAgain

CA = "ca.crt"
"""A certificate authority of one's own, PEM; for every source."""

LARGEST_KEY_BYTES = 1 << 20
"""A Secret holds at most 1 MiB."""


@dataclass(frozen=True)
class Credentials:
    input: str
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Key to value, without the line break that editors leave at the end. Empty without a Secret."""
    ca_file: Path | None = None

    def get(self, key: str) -> str:
        return self.values.get(key, "")

    def pair(self, first: str, second: str) -> tuple[str, str] | None:
        """Two keys that make sense together only. Raises Refused when one of them is missing."""
        if first not in self.values and second not in self.values:
            return None
        for key, other in ((first, second), (second, first)):
            if not self.get(key):
                raise Refused(
                    "CredentialsInvalid",
                    f"Input {self.input!r}: its Secret holds the key {other!r} but nothing under {key!r}; "
                    "the two belong together.",
                )
        return self.get(first), self.get(second)

    def in_words(self, keys: Sequence[str]) -> str:
        """For the message of a refused login: what was there and what is read."""
        read = ", ".join(keys)
        if not self.values:
            return f"No credentials were sent: spec.build.inputs names no Secret for it (keys: {read})."
        return f"Its Secret holds the keys {', '.join(sorted(self.values))}; {read} are read."


def read_credentials(name: str, folder: str) -> Credentials:
    """The mounted Secret of an input; none when the request names no folder."""
    if not folder:
        return Credentials(name)
    values = {}
    try:
        for path in sorted(Path(folder).iterdir()):
            if path.name.startswith("..") or not path.is_file():
                continue  # the kubelet's own links
            with path.open("rb") as stream:
                values[path.name] = stream.read(LARGEST_KEY_BYTES).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Refused(
            "CredentialsInvalid",
            f"Input {name!r}: the key {path.name!r} of its Secret is not text in UTF-8. Every key is read as "
            "text: correct it, or take it out of the Secret.",
        ) from error
    except OSError as error:
        raise TryAgain(
            "InputUnreadable", f"Input {name!r}: its Secret cannot be read: {error.strerror}."
        ) from error
    return Credentials(name, values, Path(folder, CA) if values.get(CA) else None)
