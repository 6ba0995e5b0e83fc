"""Which server holds which replicas of which models, on which pool, and why.

* `problem`: pools, models, what runs; the plan
* `bounds`: what speaks against a model on a pool, whatever else runs there
* `ledger`: who holds what while a plan is made
* `insert`: one model into what is there
* `pack`: everything at once
* `keep`, `settle`: what runs and still fits stays; what is missing gets a place, by priority
* `planner`: `plan` for every change, `repack` for the rare global look
* `saving`: the next step of what `repack` would save, small enough to be carried out
* `relief`: who moves out of a shared server that has been too busy, as a step, too
* `explain`: why here, why not there, what would change it
* `feasible`: what scaling may ask for
* `reading`: from the API's specs

Every module is pure, and counts in integers. The operator asks it through `planning/together.py`. Why it is
made this way: docs/decisions/0070-packing.md.
"""
