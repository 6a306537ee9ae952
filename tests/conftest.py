"""Hypothesis profiles, and the way to the real data beside the repository."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# In CI the examples are the same every time, so that a run never fails by chance; the hunt is "thorough".
settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=10_000, derandomize=False)
settings.register_profile("long", settings.get_profile("thorough"), max_examples=5_000)
settings.register_profile("quick", settings.get_profile("default"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """Return the folder of real data; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real data (../shared/data) are not beside this repository")
    return SHARED
