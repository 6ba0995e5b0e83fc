"""Translators, built by the real Job: of any pairs, and the samples once for all tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from tests.model_builders.made import Jobs, Ran, request_of_build
from tests.model_builders.torch_jobs import ROOT, Built, fetch, kept, run_build, with_torch
from tools.translation_samples import SAMPLES


def build(architecture: str, jobs: Jobs, parameters: Mapping[str, Any], **files: str | bytes) -> Ran:
    """By the interpreter of `jobs`."""
    return run_build(jobs, request_of_build(fetch(jobs, **files), architecture, parameters))


@cache
def sample(name: str) -> Built:
    def make(jobs: Jobs) -> Ran:
        text = (ROOT / f"manifests/samples/{name}.yaml").read_text(encoding="utf-8")
        config_map, model = yaml.safe_load_all(text)
        spec = model["spec"]["build"]
        architecture = SAMPLES[name].architecture
        assert spec["architecture"] == architecture
        files = {key.removesuffix(".tsv"): content for key, content in config_map["data"].items()}
        parameters = spec[architecture[0].lower() + architecture[1:]]
        request = request_of_build(fetch(jobs, **files), architecture, parameters, spec["quality"])
        return run_build(with_torch(jobs), request)

    return kept(name, make)
