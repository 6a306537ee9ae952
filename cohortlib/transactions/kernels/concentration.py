"""Gather the active amounts of each period."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.words import U


@njit(nogil=True, cache=True)
def count_active(period, active, counts):
    """Count the active cells of each period."""
    for k in range(period.size):
        if active[k]:
            counts[U(period[k])] += 1


@njit(nogil=True, cache=True)
def gather_amounts(period, active, amount, first, end, places, amounts):
    """Write the active amounts of the periods `first` to `end` − 1 to the places of their periods, which advance."""
    for k in range(period.size):
        t = np.int64(period[k])
        if active[k] and first <= t < end:
            amounts[U(places[U(t)])] = amount[k]
            places[U(t)] += 1
