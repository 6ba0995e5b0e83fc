"""How many replicas a model is to have.

* `declared`: the one place that says how many replicas a model gets: by the spec, and as was decided
* `signals`: what was measured, checked; what cannot be trusted is unknown, never zero
* `capacity`: how fast a replica works, and how many requests are late at a load and a size
* `demand`: how much load there will be when a replica started now can serve
* `allocator`: who gets the devices
* `company`: models that share a server, which is scaled as one
* `headroom`: how busy those models keep their slots, for the planner
* `guard`: what may change now
* `observed`: an NLPModel and its servers as the brain's input
* `past`: what a time-series database remembers, taught to the brain
* `breaker`: no more replicas of a model whose replicas do not become ready
* `brain`: the four together: signals in, decisions with their reasons out

Every module is pure: no I/O, and the clock is an argument. What has to be remembered between two decisions
is in objects that the caller keeps. The simulator of `benchmarks/autoscaling` runs this very code.
"""

from nlp_operator.planning.scaling.declared import (
    Aside,
    Replicas,
    Scaled,
    signals_condition,
    wanted_replicas,
)

__all__ = ["Aside", "Replicas", "Scaled", "signals_condition", "wanted_replicas"]
