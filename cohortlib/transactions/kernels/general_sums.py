"""Square the amounts of users, taken one by one, for the sums of the general table."""

import numpy as np

from cohortlib.engine.jit import njit
from cohortlib.transactions.kernels.general import add_product


@njit(nogil=True, cache=True)
def square_records(owners, brackets, amounts, firsts, words):
    """Fill the squares of records, which are sorted by user and age; `firsts` are amounts at age 0, in its record.

    Each takes two words: the square of the amount at age 0, the growth of the bracket's squared amount, the product of
    the amount with that at age 0, and the growth of the squared cumulative amount.
    """
    first = inside = total = np.int64(0)
    for i in range(owners.size):
        amount = amounts[i]
        if i == 0 or owners[i] != owners[i - 1]:
            first, inside, total = firsts[i], np.int64(0), np.int64(0)
            add_product(words[i], 0, first, first, 1)
        elif brackets[i] != brackets[i - 1]:
            inside = np.int64(0)
        add_product(words[i], 2, inside + amount, inside + amount, 1)
        add_product(words[i], 2, inside, inside, -1)
        add_product(words[i], 4, amount, first, 1)
        add_product(words[i], 6, total + amount, total + amount, 1)
        add_product(words[i], 6, total, total, -1)
        inside += amount
        total += amount
