"""Holds the first requests of models that sleep, and wakes them. See docs/decisions/0096-scale-to-zero.md."""
