"""How many cases hypothesis generates: 1,000 in all, or 20,000 with the profile ``thorough``."""

from hypothesis import HealthCheck, settings

from tests.conftest import THOROUGH_EXAMPLES

FACTOR = 20 if settings.default.max_examples == THOROUGH_EXAMPLES else 1


def cases(number: int) -> settings:
    """Settings for a test with this many cases in an ordinary run."""
    return settings(
        max_examples=FACTOR * number,
        deadline=None,
        derandomize=FACTOR == 1,  # the same cases in every run of the suite
        suppress_health_check=list(HealthCheck),
    )
