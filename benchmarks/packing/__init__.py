"""How well models are packed: known optima, and a bound by linear programming."""
