"""Propose causes for accountings and concentration: settings, clocks, values of columns, a factor, moved dates."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.evidence import Standing
from cohortlib.compare.explain.termina.frame_edits import Mode, MovedDates, RowsOfValue, ScaledAmounts
from cohortlib.compare.explain.zones import clocks
from cohortlib.errors import CohortlibError
from cohortlib.literals import WEEKDAYS
from cohortlib.transactions.keywords import SETTINGS

_DAYS = (1, -1, 2, -2, 3, -3, 7, -7)
_LEAST, _MOST = 2, 200  # values of a column whose rows may be left out or kept
_ROUND_FACTORS = (100.0, 0.01, 1000.0, 0.001)
_BEST = 3  # clocks or values to list
_SAME = 1e-6  # relative difference of the ratios of amounts that have one factor


class Recomputed(Protocol):
    """A table that is recomputed under causes."""

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as read."""

    @property
    def frames(self) -> Mapping[str, pl.DataFrame]:
        """The remote frames."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the local table."""

    def tables(self, causes: tuple[Cause, ...]) -> dict[str, pl.DataFrame]:
        """Return the frames of the local table under causes."""

    def standing(self, causes: tuple[Cause, ...]) -> Standing:
        """Compare the cells under causes."""


def accounting_candidates(table: Recomputed, causes: tuple[Cause, ...], in_time: Callable[[], bool]) -> Iterator[Cause]:
    """List the causes to try together with `causes`, likely ones first."""
    yield from _settings(table, causes)
    yield from _edges(table, causes)
    yield from _factors(table, causes)
    yield from _closest(table, causes, _clocks(table), in_time)
    for days in _DAYS:
        number = "one day" if abs(days) == 1 else f"{abs(days)} days"
        words = f"all dates {number} {'later' if days > 0 else 'earlier'}"
        yield Cause("dates moved", MovedDates(days), words, bits=choice(len(_DAYS)))
    yield from _columns(table)
    yield from _closest(table, causes, _values(table), in_time)


def _settings(table: Recomputed, causes: tuple[Cause, ...]) -> Iterator[Cause]:
    """List the other values of settings."""
    for value in SETTINGS["refunds"].values:
        if value != table.settings["refunds"]:
            yield Cause("refunds", value, f"refunds={value!r}", (("refunds", value),), bits=choice(2))
    if table.settings["freq"] == "W":
        for day in WEEKDAYS:
            if day != table.settings["week_start"]:
                setting = (("week_start", day),)
                yield Cause("week_start", day, f"weeks that start on {day.title()}", setting, bits=choice(6))


def _edges(table: Recomputed, causes: tuple[Cause, ...]) -> Iterator[Cause]:
    """List the other value of complete_only, and the edges of the remote table."""
    complete = table.settings["complete_only"]
    words = "all periods, including the last one" if complete else "complete periods only"
    yield Cause("right edge", "complete_only", words, (("complete_only", not complete),), bits=choice(1))
    local, remote = (sorted(next(iter(frames.values()))["date"]) for frames in (table.tables(causes), table.frames))
    if not local or not remote:
        return
    cost, (first, last) = choice(len(local)), (remote[0], remote[-1])
    if last != local[-1]:
        edge = (("end", last), ("complete_only", False))
        yield Cause("right edge", last, f"{last} as the last period", edge, bits=cost)
    if first > local[0]:
        yield Cause("left edge", first, f"{first} as the first period", (("start", first),), bits=cost)


def _factors(table: Recomputed, causes: tuple[Cause, ...]) -> Iterator[Cause]:
    """List the factor between the amounts of both sides, if all periods have the same."""
    local, remote = (next(iter(frames.values())) for frames in (table.tables(causes), table.frames))
    name = next((name for name in ("amount", "mean") if name in local.columns and name in remote.columns), None)
    if name is None:
        return
    both = local.select("date", local=name).join(remote.select("date", remote=name), on="date").drop_nulls()
    both = both.filter((pl.col("local") != 0) & (pl.col("remote") != 0))
    ratios = (both["remote"] / both["local"]).to_numpy()
    if ratios.size < 3:
        return
    factor = float(np.median(ratios))
    if not np.allclose(ratios, factor, rtol=1e-3) or abs(factor - 1) < _SAME:
        return
    for known in _ROUND_FACTORS:
        if abs(factor / known - 1) < _SAME:
            words = f"all amounts multiplied by {known:g}"
            yield Cause("amounts", ScaledAmounts(known), words, bits=choice(len(_ROUND_FACTORS)))
            return
    for digits in (3, 6):
        rounded = float(f"{factor:.{digits}g}")
        words = f"all amounts multiplied by {rounded:g}"
        yield Cause("amounts", ScaledAmounts(rounded), words, bits=choice(10.0**digits))


def _clocks(table: Recomputed) -> list[Cause]:
    """List the other clocks, for instants; those without a zone are taken as UTC."""
    name = table.settings["timestamp"]
    dtype = table.frame.schema[name]
    if not isinstance(dtype, pl.Datetime) or table.settings["assume_zone"] is not None or table.frame.is_empty():
        return []
    zoned = dtype.time_zone is not None
    instants = table.frame[name].drop_nulls().dt.epoch("s")
    if not len(instants):
        return []
    every = clocks(int(instants.min()), int(instants.max()))
    current = table.settings["timezone"] if zoned else None
    suffix, extra = ("", ()) if zoned else (", local times taken as UTC", (("taken_as_utc", True),))
    cost = choice(len(every))
    return [
        Cause("timezone", clock.name, f"time zone {clock.name}{suffix}", (("timezone", clock.name), *extra),
              note=clock.note, bits=cost)
        for clock in every
        if current is None or current not in (clock.name, *clock.others)
    ]  # fmt: skip


def _columns(table: Recomputed) -> Iterator[Cause]:
    """List other columns for the date and the amount."""
    roles = {table.settings[role] for role in ("user", "timestamp", "amount")}
    for name, dtype in table.frame.schema.items():
        if name in roles or table.frame[name].null_count():
            continue
        bits = choice(table.frame.width)
        if dtype.is_float() or dtype.is_decimal():
            yield Cause("amount", name, f"the amounts of column {name!r}", (("amount", name),), bits=bits)
        elif dtype in (pl.Date, pl.Datetime):
            yield Cause("timestamp", name, f"the dates of column {name!r}", (("timestamp", name),), bits=bits)


def _values(table: Recomputed) -> list[Cause]:
    """List the values of columns whose rows are left out, kept alone or counted twice."""
    roles = {table.settings[role] for role in ("user", "timestamp", "amount")}
    counts: dict[str, dict[Any, int]] = {}
    for name, dtype in table.frame.schema.items():
        if name not in roles and not dtype.is_float() and not dtype.is_nested() and not dtype.is_temporal():
            found = table.frame[name].drop_nulls()
            if _LEAST <= found.n_unique() <= _MOST:
                counts[name] = dict(found.value_counts(sort=True).iter_rows())
    bits = choice(3, sum(map(len, counts.values())))
    causes = []
    for name, values in counts.items():
        for value, count in values.items():
            which = f"{count:,} rows with {name} {value}"
            words: dict[Mode, str] = {
                "drop": f"without the {which}",
                "only": f"only the {which}",
                "twice": f"the {which} counted twice",
            }
            for mode, text in words.items():
                causes.append(Cause(f"column {name}", RowsOfValue(mode, name, value), text, bits=bits))
    return causes


def _closest(
    table: Recomputed, causes: tuple[Cause, ...], candidates: list[Cause], in_time: Callable[[], bool]
) -> Iterator[Cause]:
    """List the few candidates under which the least is left to explain; of those with one table, the first."""
    kinds = {cause.kind for cause in causes}
    least = table.standing(causes).remaining
    found: dict[bytes, list[tuple[float, Cause]]] = {}
    for cause in candidates:
        if not in_time():
            break
        if cause.kind in kinds:
            continue
        try:
            standing = table.standing((*causes, cause))
        except CohortlibError:
            continue
        left = standing.remaining + cause.bits
        key = standing.agrees.tobytes() + standing.bits.tobytes()
        if left < least:
            found.setdefault(key, []).append((left, cause))
    for alike in sorted(found.values(), key=lambda each: each[0][0])[:_BEST]:
        cause, *others = (cause for _, cause in alike)
        note = "; ".join(filter(None, (cause.note, _alternatives(others))))
        yield replace(cause, note=note)


def _alternatives(others: list[Cause]) -> str:
    """List the causes under which the table is the same."""
    if len(others) <= 2:
        return " ".join(f"or {other.words}" for other in others)
    return f"or {others[0].words} and {len(others) - 1:,} more with the same table"
