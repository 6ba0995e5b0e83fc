"""A kind of object as a source for an informer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from nlp_operator.api import names
from nlp_operator.cluster.client import Cluster, with_kind
from nlp_operator.cluster.kinds import Kind
from nlp_operator.engine.informer import Page, WatchEvent

OURS = {"labelSelector": f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"}


@dataclass(frozen=True)
class ClusterSource:
    """`selectors` are the server's own (`labelSelector`, `fieldSelector`), so what is not ours never crosses
    the wire."""

    cluster: Cluster
    kind: Kind
    namespace: str = ""
    selectors: Mapping[str, str] = field(default_factory=dict)

    async def page(self, limit: int, continue_token: str) -> Page:
        answer = await self.cluster.list_page(
            self.kind, self.namespace, self.selectors, limit, continue_token
        )
        metadata = answer.get("metadata") or {}
        return Page(
            # Items of a list carry no kind of their own.
            items=[with_kind(item, self.kind) for item in answer.get("items") or ()],
            version=str(metadata.get("resourceVersion", "")),
            continue_token=str(metadata.get("continue") or ""),
        )

    def watch(self, version: str) -> AsyncIterator[WatchEvent]:
        # Spread, so that the streams of all kinds do not end in the same second for ever.
        seconds = random.randint(240, 480)  # noqa: S311
        return self.cluster.watch(self.kind, self.namespace, self.selectors, version, seconds)
