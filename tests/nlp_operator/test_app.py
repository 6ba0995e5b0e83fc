"""The parts of the composition root that decide something."""

from __future__ import annotations

from typing import Any, cast

import kopf
import pytest

from nlp_operator import errors
from nlp_operator.app import KopfBeside, judge
from nlp_operator.cluster.caches import Caches
from nlp_operator.controllers.keys import model_key
from nlp_operator.engine.backoff import Backoff
from nlp_operator.engine.clock import Clock, system_clock
from nlp_operator.handlers import NoDiffBase, NoProgress, assert_only_events, make_settings


@pytest.mark.parametrize(
    ("error", "at_least", "quiet"),
    [
        pytest.param(errors.Throttled("slow down", 7.0), 7.0, True, id="as long as the server asks"),
        pytest.param(errors.Throttled("slow down"), 0.0, True, id="throttled without a number"),
        pytest.param(errors.AdmissionRefused("quota"), 20.0, True, id="what only a user can cure, seldom"),
        pytest.param(errors.Leaving("a former one"), 0.0, True, id="what is on its way out, soon"),
        pytest.param(errors.Conflict("changed"), 0.0, True, id="a conflict, soon"),
        pytest.param(TimeoutError(), 0.0, True, id="a reconcile that was cut off"),
        pytest.param(KeyError("bug"), 0.0, False, id="a bug, with its traceback"),
    ],
)
def test_each_error_waits_as_it_deserves(error: Exception, at_least: float, quiet: bool) -> None:
    retry = judge(error)
    assert (retry.at_least, retry.quiet) == (at_least, quiet)


def test_what_is_refused_is_tried_again_within_half_a_minute() -> None:
    assert judge(errors.AdmissionRefused("quota")).at_most == 120.0


def test_kopf_stores_nothing_and_gives_up_never() -> None:
    settings = make_settings()
    assert isinstance(settings.persistence.diffbase_storage, NoDiffBase)
    assert isinstance(settings.persistence.progress_storage, NoProgress)
    assert isinstance(settings.networking.error_backoffs, Backoff)
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled


def test_a_handler_that_would_store_state_is_noticed_at_start() -> None:
    registry = kopf.OperatorRegistry()
    assert_only_events(registry)

    async def on_create(**_: Any) -> None: ...

    kopf.on.create("nlp-operator.io", "v1alpha1", "nlpmodels", registry=registry)(on_create)
    with pytest.raises(AssertionError, match="real storages"):
        assert_only_events(registry)


class Watches:
    """Our caches without a network, and Kopf's watch beside them, on a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        clock = Clock(monotonic=lambda: self.now, now=system_clock().now)
        self.caches = Caches(cast(Any, None), clock=clock, store_claim="nlp-store")
        self.beside = KopfBeside(self.caches, clock)

    def ours_has(self, version: str) -> None:
        metadata = {"name": "novels", "namespace": "demo", "resourceVersion": version}
        self.caches.stores["NLPModel"].put({"kind": "NLPModel", "metadata": metadata})

    def bookmark(self, version: str) -> None:
        next(one for one in self.caches.informers if one.name == "nlpmodels")._last_version = version


NOVELS = model_key("demo", "novels")


def test_what_our_watch_has_shown_already_is_no_news() -> None:
    watches = Watches()
    watches.ours_has("7")
    assert not watches.beside.seen_by_kopf(NOVELS, "7")
    assert not watches.beside.seen_by_kopf(NOVELS, "6")
    assert watches.beside.behind() == []


def test_a_watch_gone_deaf_is_told_with_the_time_since_it_should_have_spoken() -> None:
    watches = Watches()
    watches.ours_has("7")
    assert watches.beside.seen_by_kopf(NOVELS, "9")
    watches.now = 50.0
    assert watches.beside.seen_by_kopf(NOVELS, "12")
    watches.now = 130.0
    assert watches.beside.behind() == [("NLPModel demo/novels", 130.0)]
    watches.ours_has("12")
    assert watches.beside.behind() == []


def test_an_object_that_is_gone_since_is_not_missed_for_ever() -> None:
    """Kopf lags behind and reports a version of an object whose deletion our watch has seen."""
    watches = Watches()
    watches.bookmark("40")
    assert not watches.beside.seen_by_kopf(NOVELS, "12")
    assert watches.beside.seen_by_kopf(NOVELS, "41")
    watches.bookmark("41")
    assert watches.beside.behind() == []
