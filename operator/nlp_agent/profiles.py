"""The profiles that are known, by model; kept in the work folder, so that a container that restarts measures
nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from nlp_agent.decisions import Model
from nlp_agent.envoy import replace_file
from nlp_agent.log import log
from nlp_agent.profile import Profile, parse_profile, to_json
from nlp_agent.server_config import ServerConfig


class Profiles:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Profile] = {}
        self._tried: dict[str, float] = {}
        """How long each was measured here."""

    def recall(self) -> None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            self._known = {name: parse_profile(one) for name, one in document["models"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log("what was profiled before cannot be read", level="warning", error=str(error))

    def of(self, name: str, digest: str, pool: str) -> Profile | None:
        """What was measured for this artifact on this pool."""
        found = self._known.get(name)
        return found if found is not None and (found.digest, found.pool) == (digest, pool) else None

    def seconds_of(self, name: str) -> float:
        """By which its profile made this pod's first Ready later; 0 where it was measured elsewhere."""
        return self._tried.get(name, 0.0)

    def learn(self, config: ServerConfig) -> None:
        """What `server.json` brings need not be measured."""
        for name, spec in config.wanted().items():
            brought = config.to_profile.get(name)
            if brought is not None and self.of(name, spec.digest, config.pool) is None:
                self._known[name] = brought

    def missing(self, config: ServerConfig, models: Mapping[str, Model], entry: Iterable[str]) -> list[str]:
        """Of the set at start the models still to be measured: asked for, serving, and not tried yet."""
        return [
            name
            for name in entry
            if name in config.to_profile
            and name not in self._tried
            and (model := models.get(name)) is not None
            and model.live is not None
            and self.of(name, model.live.digest, config.pool) is None
        ]

    def note(self, name: str, so_far: Profile) -> None:
        """For a container that ends in the middle: where the kernel ends all of it because a large batch
        took too much memory, the next one would measure the same and never be Ready."""
        self._write({**self._known, name: so_far})

    def keep(self, name: str, profile: Profile) -> None:
        """Once is enough, however it ended: a model that died of it would die of it again."""
        self._tried[name] = profile.seconds
        if self.of(name, profile.digest, profile.pool) is None:  # else another pod was faster
            self._known[name] = profile
        self._write(self._known)

    def _write(self, known: Mapping[str, Profile]) -> None:
        models = {name: to_json(profile) for name, profile in sorted(known.items())}
        replace_file(self._path, {"version": 1, "models": models})
