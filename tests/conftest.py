"""For every test: how fast a machine is decides nothing. Hypothesis times each example otherwise."""

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
