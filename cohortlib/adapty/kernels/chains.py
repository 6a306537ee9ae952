"""Sort the keys of chains."""

import numpy as np

from cohortlib.adapty.kernels.records import U1, U
from cohortlib.engine.jit import njit
from cohortlib.engine.kernels.partition import partition_of

_LONGEST = 64  # keys of a bucket; more are sorted faster by numpy


@njit(nogil=True, cache=True)
def sort_hashes(keys, bits, ends, result):
    """Sort keys that are spread evenly: by their top `bits` into buckets of a few keys, then each bucket.

    `ends` has an entry for each bucket. Returns whether `result` is sorted: not if a bucket has too many keys.
    """
    ends[:] = 0
    for i in range(U(keys.size)):
        ends[partition_of(keys[i], bits)] += 1
    place = np.int64(0)
    for bucket in range(U(ends.size)):
        count = ends[bucket]
        if count > _LONGEST:
            return False
        ends[bucket] = place
        place += count
    for i in range(U(keys.size)):
        bucket = partition_of(keys[i], bits)
        result[U(ends[bucket])] = keys[i]
        ends[bucket] += 1
    begin = np.int64(0)
    for bucket in range(U(ends.size)):
        for i in range(begin + 1, ends[bucket]):
            key = result[U(i)]
            j = U(i)
            while j > U(begin) and result[j - U1] > key:
                result[j] = result[j - U1]
                j -= U1
            result[j] = key
        begin = ends[bucket]
    return True
