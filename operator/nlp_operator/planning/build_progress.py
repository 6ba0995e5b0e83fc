"""How far a build says it is (`GET :8003/v1/progress`, docs/architecture.md section 3), parsed, and put into
the words of a status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from nlp_operator.api import names
from nlp_operator.api.conditions import BUILT, find, read_conditions, shorten
from nlp_operator.api.objects import Obj, deleting, dig, text, uid
from nlp_operator.planning.pods import container_statuses

PROGRESS_VERSION = 1
LONGEST = 200
"""Characters. A status says it three times over, and a build says in half of this how far it is."""


def parse_progress(body: bytes | str) -> str:
    """One line; empty while the build has nothing to say. Raises ValueError for what is no such answer."""
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("version") != PROGRESS_VERSION:
        raise ValueError(f"the build's answer is not one of version {PROGRESS_VERSION}")
    message = answer.get("message")
    if not isinstance(message, str):
        raise ValueError(f"the build's message is a {type(message).__name__}")
    return shorten(" ".join("".join(one if one.isprintable() else " " for one in message).split()), LONGEST)


def runs_build(pod: Obj) -> bool:
    """Whether the container that builds runs in it now, and not one beside it."""
    return not deleting(pod) and any(
        text(status, "name") == names.COMPONENT_BUILD and dig(status, "state", "running") is not None
        for status in container_statuses(pod)
    )


def with_progress(doing: str, pods: Sequence[Obj], told: Mapping[str, str], model: Obj) -> str:
    """`doing` ("Job x builds the artifact"), and in brackets how far the newest of its pods is.

    `told`: by pod uid. A process that has not asked yet goes by what the last one wrote, so that a restart
    changes no status.
    """
    running = [pod for pod in pods if runs_build(pod)]
    if not running:
        return doing
    far = told.get(uid(running[-1])) or _written(doing, model)
    return f"{doing} ({far})" if far else doing


def _written(doing: str, model: Obj) -> str:
    """What the condition Built says of it."""
    built = find(read_conditions(model), BUILT)
    if built is None or not built.message.startswith(f"{doing} (") or not built.message.endswith(")."):
        return ""
    return built.message.removeprefix(f"{doing} (").removesuffix(").")
