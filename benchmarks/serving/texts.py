"""The texts that are sent: made here, the same in every run."""

from __future__ import annotations

import random
from typing import Literal

Workload = Literal["short", "mixed"]

SUBJECTS = (
    *("the old teacher", "my neighbour", "a young doctor", "the train to the coast", "our supplier"),
    *("the new server", "a customer from Busan", "the orchestra", "her brother", "the last invoice"),
    *("a small company", "the weather report"),
)
VERBS = (
    *("forgot", "ordered", "repaired", "cancelled", "explained"),
    *("delivered", "compared", "photographed", "found", "lost"),
)
OBJECTS = (
    *("a red bicycle", "the broken window", "three tickets", "the wrong parcel", "a bowl of soup"),
    *("the password", "an expensive guitar", "the quarterly numbers", "two bottles of water"),
    *("the garden gate", "a map of the city"),
)
ENDINGS = (
    *("before lunch", "because it rained", "without telling anybody", "on the way home"),
    *("for the second time this week", "although nobody had asked", "at half past nine"),
    *("and paid in cash", "while the others slept"),
)

COUNT = 512


def make_texts(workload: Workload) -> list[str]:
    """512 distinct texts. `short`: a sentence of 6 to 16 words. `mixed`: one text of ten has more."""
    choice = random.Random(20261125)

    def sentence() -> str:
        parts = (SUBJECTS, VERBS, OBJECTS, ENDINGS)
        return " ".join(choice.choice(part) for part in parts).capitalize() + "."

    found: dict[str, None] = {}
    while len(found) < COUNT:
        is_long = workload == "mixed" and len(found) % 10 == 9
        sentences = choice.randint(10, 15) if is_long else 1
        found[" ".join(sentence() for _ in range(sentences))] = None
    return list(found)
