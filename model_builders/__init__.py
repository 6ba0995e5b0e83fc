"""Fetch inputs, build models, write artifacts.

Two Jobs run this package: `python -m model_builders fetch` copies inputs into the store, named by their
content; `python -m model_builders build` turns them into an artifact that Triton serves. It knows no
Kubernetes: what goes in is a JSON request and a folder, what comes out is a JSON result, an exit code and
another folder (docs/architecture.md, sections 2 to 4).
"""

VERSION = "0.1.0"
"""Version of the builders, written into every manifest. A newer one never invalidates an artifact."""

OUTSIDE = "nlp_architectures"
"""The package whose folders are architectures that are not ours (docs/extending.md). It has no `__init__.py`:
it is what all folders of that name on Python's path hold together."""
