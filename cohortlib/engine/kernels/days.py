"""Find the bounds of instants, and cut them to local days."""

import numpy as np

from cohortlib.engine.jit import njit


@njit(nogil=True, cache=True)
def least_and_greatest(values):
    """Return the least and the greatest of some integers, of which there must be one, in one pass."""
    low = high = values[0]
    for i in range(values.size):
        low, high = min(low, values[i]), max(high, values[i])
    return low, high


@njit(nogil=True, cache=True)
def local_days(instants, starts, shifts, origin, halvings, odd, first, days):
    """Cut instants to local days: add the offset from UTC, then count days from `first`.

    From instant ``starts[k]`` on, the offset is ``shifts[k]``; ``starts[0]`` is at or before all instants. A day has
    ``odd * 2**halvings`` ticks. Day `first` begins at tick `origin`, at or before all local times.
    """
    k = 0
    last = starts.size - 1
    for i in range(instants.size):
        t = instants[i]
        if t < starts[k] or (k < last and t >= starts[k + 1]):
            k = 0
            above = last + 1
            while above - k > 1:
                middle = (k + above) >> 1
                if starts[middle] <= t:
                    k = middle
                else:
                    above = middle
        # Without the factors of two, ticks are below 2**53, so the float division cannot round up to the next day.
        ticks = (t + shifts[k] - origin) >> halvings
        days[i] = first + np.int64(np.float64(ticks) / odd)
