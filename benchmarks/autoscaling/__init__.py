"""Policies that say how many replicas each model gets, compared request by request: see
docs/benchmarks.md."""
