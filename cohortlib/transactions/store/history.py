"""Users of a part that an update looks at."""

from typing import NamedTuple

import polars as pl

from cohortlib.transactions.store.manifest import Filed

FEW = 8  # stretches that are read one by one


class Seen(NamedTuple):
    """Users of a part who are looked at; so many rows of its file come `before` theirs."""

    part: Filed
    users: pl.DataFrame
    before: int
