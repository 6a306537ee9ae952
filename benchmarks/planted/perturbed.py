"""Change tables at random, so that no cause is behind the difference and none may be named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from cohortlib.adapty import Answer

Rng = np.random.Generator
_AMOUNTS = {"termina": ["amount"], "adapty": ["revenue_usd", "proceeds_usd", "net_revenue_usd"]}


def _rows(side: Any, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Any:
    name = "rows" if hasattr(side, "rows") else "events"
    return replace(side, **{name: change(getattr(side, name))})


def _after(side: Any, change: Callable[[Any], Any]) -> Any:
    return replace(side, after=(*side.after, change))


def _chosen(frame: pl.DataFrame, rng: Rng, share: float) -> pl.Series:
    return pl.Series(rng.random(frame.height) < share)


def _cells(side: Any, rng: Rng) -> Any:
    """Change some cells of one field."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        names = [
            name for name in ("amount", "ltv", "revenue_usd", "subscribers", "active_users") if name in table.columns
        ]
        name = names[int(rng.integers(len(names)))]
        which = np.zeros(table.height, bool)
        which[rng.choice(table.height, int(rng.integers(1, min(60, table.height) + 1)), replace=False)] = True
        if table.schema[name].is_float():
            moved = pl.col(name) + pl.Series(np.round(rng.normal(0, 50, table.height), 2))
        else:
            moved = pl.col(name) + pl.Series(rng.integers(1, 4, table.height)).cast(table.schema[name])
        return table.with_columns(pl.when(pl.Series(which)).then(moved).otherwise(name).alias(name))

    return _after(
        side, lambda table: replace(table, values=change(table.values)) if isinstance(table, Answer) else change(table)
    )


def _rows_removed(side: Any, rng: Rng) -> Any:
    """Remove rows here and there."""
    share = float(rng.choice([0.002, 0.01, 0.05]))
    return _rows(side, lambda frame: frame.filter(~_chosen(frame, rng, share)))


def _noise(side: Any, rng: Rng) -> Any:
    """Add noise to some or all amounts."""
    share, width = float(rng.choice([0.01, 0.2, 1.0])), float(rng.choice([0.01, 0.1]))

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        names = next(names for names in _AMOUNTS.values() if names[0] in frame.columns)
        factor = pl.Series(np.where(_chosen(frame, rng, share), rng.normal(1, width, frame.height), 1.0))
        return frame.with_columns((pl.col(names) * factor).round(2))

    return _rows(side, change)


def _users_swapped(side: Any, rng: Rng) -> Any:
    """Give some rows to the users of other rows."""
    share = float(rng.choice([0.002, 0.02]))

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        names = [name for name in ("user_id", "profile_id", "install_date", "signup_date") if name in frame.columns]
        which = np.flatnonzero(_chosen(frame, rng, share))
        take = np.arange(frame.height)
        take[which] = rng.permutation(which)
        return frame.with_columns(frame[name].gather(take) for name in names)

    return _rows(side, change)


def _dates_moved(side: Any, rng: Rng) -> Any:
    """Move the dates of some rows by a few days."""
    share, days = float(rng.choice([0.005, 0.05, 0.5])), int(rng.choice([2, 10]))

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        name = "timestamp" if "timestamp" in frame.columns else "event_datetime"
        by = np.where(_chosen(frame, rng, share), rng.integers(-days, days + 1, frame.height), 0)
        last = frame[name].max()
        moved = pl.col(name).dt.offset_by(pl.format("{}d", pl.Series("by", by)))
        return frame.with_columns(pl.min_horizontal(moved, pl.lit(last)).alias(name))

    return _rows(side, change)


PERTURBATIONS = {
    "cells changed": _cells,
    "rows removed": _rows_removed,
    "noise on amounts": _noise,
    "users of rows swapped": _users_swapped,
    "dates moved": _dates_moved,
}
