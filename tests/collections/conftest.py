"""Property tests are judged by their answers, not by the clock of a busy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "untimed", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")
