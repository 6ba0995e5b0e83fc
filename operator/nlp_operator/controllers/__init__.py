"""observe, plan, apply: one file a loop."""
