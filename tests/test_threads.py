"""Work on threads."""

import threading

import pytest

from cohortlib.engine.threads import map_ordered

pytestmark = pytest.mark.unit


def test_a_generator_that_is_closed_early_does_not_wait():
    release = threading.Event()
    late = threading.Timer(10, release.set)
    late.start()
    results = map_ordered(2, lambda item: item == 0 or release.wait(), range(100))
    assert next(results) is True
    results.close()
    assert not release.is_set()
    release.set()
    late.cancel()
