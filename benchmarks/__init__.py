"""Everything the README claims, as commands that print a table and write JSON (`docs/benchmarks.md`)."""
