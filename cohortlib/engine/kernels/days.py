"""Cut instants to local days."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def local_days(instants, starts, shifts, origin, halvings, odd, first, days):
    """Cut instants to days: shift to local time, then count days from `first`.

    `starts` are the instants from which each of `shifts` holds, the first at or below all instants. A day has
    ``odd * 2**halvings`` ticks, and the day `first` begins at the tick `origin`, at or below all local times.
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
        # Without its factors of two a tick count is below 2**53, so the division of floats cannot round up.
        ticks = (t + shifts[k] - origin) >> halvings
        days[i] = first + np.int64(np.float64(ticks) / odd)
