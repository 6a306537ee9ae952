"""Read saved sums and check them: a file can be damaged, or edited with any values."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.digests import is_sealed
from cohortlib.errors import CohortlibError, SourceError
from cohortlib.periods import FIRST_DAY, LAST_DAY, Calendar
from cohortlib.read.amounts import magnitude as absolute_sum
from cohortlib.read.arrays import read_only
from cohortlib.read.tables import PANIC, first_line
from cohortlib.transactions.keywords import BeforeJoined
from cohortlib.transactions.settings import Settings

VERSION = 2
TABLE = dict.fromkeys(("cohort", "age", "size", "first_amount", "active", "amount"), pl.Int64)
KEYS = ("cohort", "age")
_FACTS = {"version", "library", "digest", "rows", "conventions", "last_day", "magnitude"}
_SETTINGS = {"freq", "timezone", "week_start", "refunds", "decimals", "joined"}
_RECOMPUTE = "it is damaged or was edited; compute the sums again"


class SavedSums(NamedTuple):
    """The contents of a file of sums."""

    settings: dict[str, Any]
    table: pl.DataFrame
    last_day: int | None
    magnitude: int


def read_saved(path: Path, mark: str, noun: str, expected: str, columns: Mapping[str, Any]) -> SavedSums:
    """Read a file of sums; raise SourceError unless it has the digest that it says.

    `mark` is the key of its metadata, and `columns` are its types; `noun` and `expected` describe it.
    """
    facts, table = read_sealed(path, mark, noun, expected, VERSION)
    _check_facts(path, facts)
    if table.schema != columns:
        raise damaged_sums(path, f"has columns {dict(table.schema)}", str(columns))
    if table.height != facts["rows"]:
        raise damaged_sums(path, f"has {table.height:,} rows", f"{facts['rows']:,}")
    return SavedSums(facts["conventions"], table, facts["last_day"], int(facts["magnitude"]))


def read_sealed(path: Path, mark: str, noun: str, expected: str, version: int) -> tuple[dict[str, Any], pl.DataFrame]:
    """Read the metadata and the table of a file of sums, which must have its version and the digest that it says."""
    try:
        data = path.read_bytes()
        metadata = pl.read_parquet_metadata(BytesIO(data))
        table = pl.read_parquet(data)
    except (pl.exceptions.PolarsError, PANIC, OSError, ValueError) as error:
        raise SourceError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
    if mark not in metadata:
        raise SourceError(f"{str(path)!r} does not hold {noun}", expected=expected)
    try:
        facts = json.loads(metadata[mark])
    except (ValueError, RecursionError) as error:
        raise damaged_sums(path, f"has unreadable metadata: {first_line(error)}") from error
    found = facts.get("version") if isinstance(facts, dict) else None
    if type(found) is not int or found != version:
        what = f"{str(path)!r} has {noun} of version {found!r}"
        raise SourceError(what, value=found, expected=str(version), hint="compute them again")
    if not is_sealed(data):
        raise damaged_sums(path, "does not have the digest that it says")
    return facts, table


def damaged_sums(path: Path, what: str, expected: str = "") -> SourceError:
    """Return the error for a file of sums that is not as it was written."""
    return SourceError(f"{str(path)!r} {what}", expected=expected, hint=_RECOMPUTE)


def _check_facts(path: Path, facts: dict[str, Any]) -> None:
    """Check the metadata: the settings, the last day and the sum of absolute amounts."""
    if set(facts) != _FACTS:
        raise damaged_sums(path, f"has the metadata {sorted(facts)}", str(sorted(_FACTS)))
    settings = facts["conventions"]
    if not isinstance(settings, dict) or set(settings) != _SETTINGS:
        raise damaged_sums(path, f"has the settings {settings!r}", str(sorted(_SETTINGS)))
    joined = settings["joined"]
    if joined not in ("no", *get_args(BeforeJoined)):
        raise damaged_sums(path, f"has the setting joined={joined!r}", "'no' or a value of before_joined")
    try:
        Settings.of(**{name: value for name, value in settings.items() if name != "joined"})
    except CohortlibError as error:
        raise damaged_sums(path, f"has a setting that cannot be: {error}") from error
    check_last_day(path, facts["last_day"])
    check_magnitude(path, facts["magnitude"])


def check_last_day(path: Path, last: object) -> None:
    """Raise SourceError unless a value can be the last day of sums."""
    if last is not None and not (type(last) is int and FIRST_DAY <= last <= LAST_DAY):
        raise damaged_sums(path, f"has last_day = {last!r}", f"null, or an integer from {FIRST_DAY} to {LAST_DAY}")


def check_magnitude(path: Path, total: object) -> None:
    """Raise SourceError unless a value can be a sum of absolute amounts."""
    if not (isinstance(total, str) and total.isascii() and total.isdigit() and len(total) < 20 and int(total) < 2**63):
        raise damaged_sums(path, f"has magnitude = {total!r}", "a number below 2 ** 63, as text")


def check_keys(path: Path, saved: SavedSums, keys: Sequence[str]) -> None:
    """Raise SourceError unless there are no nulls, and rows ascend by their keys, each once."""
    table = saved.table
    for column in table:
        if column.null_count():
            raise damaged_sums(path, f"column {column.name!r} has {column.null_count():,} nulls", "no nulls")
    if table.height and saved.last_day is None and saved.settings["joined"] == "no":
        raise damaged_sums(path, f"has {table.height:,} rows, but no last day", "a last day")
    ascending, equal = np.zeros(table.height, np.bool_), np.ones(table.height, np.bool_)
    for values in (table[name].to_numpy() for name in keys):
        ascending[1:] |= equal[1:] & (values[1:] > values[:-1])
        equal[1:] &= values[1:] == values[:-1]
    ascending[:1] = True
    refuse_rows(path, table, ~ascending, f"each {' and '.join(keys)} once, in ascending order")


def check_cohorts(path: Path, saved: SavedSums) -> None:
    """Raise SourceError unless the counts and amounts of each cohort and age are possible."""
    table = saved.table
    cohort, age, size, first, active, amount = (table[name].to_numpy() for name in TABLE)
    earliest, latest = _periods(saved)
    # Cohorts and ages are compared one by one, as their sum could overflow.
    wrong = (cohort < earliest) | (cohort > latest) | (age < 0) | (age > latest - np.clip(cohort, earliest, latest))
    refuse_rows(path, table, wrong, f"cohorts and periods from {earliest} to {latest}")
    refuse_rows(
        path, table, (size < 0) | (active < 0) | ((size | first) != 0) & (age > 0), "counts from 0, sizes at age 0"
    )
    refuse_rows(path, table, active > _sizes(cohort, age, size), "at most as many active users as the cohort has")
    check_amounts(path, {"amount": amount, "first_amount": first}, saved.magnitude)


def check_periods(path: Path, saved: SavedSums) -> None:
    """Raise SourceError unless the counts and amounts of each period are possible."""
    table = saved.table
    earliest, latest = _periods(saved)
    refuse_rows(path, table, ~table["period"].is_between(earliest, latest).to_numpy(), f"from {earliest} to {latest}")
    counts = (table[name].to_numpy() for name in ("new", "retained", "resurrected", "expansion", "contraction"))
    for values in counts:
        refuse_rows(path, table, values < 0, "counts from 0")
    amounts = [name for name in table.columns if name.endswith("_amount") or name == "refunded"]
    check_amounts(path, {name: table[name].to_numpy() for name in amounts}, saved.magnitude)
    changes = {name: table[name].to_numpy() for name in ("expansion", "contraction")}
    check_amounts(path, changes, 2 * saved.magnitude)  # an amount counts with the period before, and with the next


def _periods(saved: SavedSums) -> tuple[int, int]:
    """Return the first and the last period that sums can have."""
    days = np.array([FIRST_DAY, LAST_DAY if saved.last_day is None else saved.last_day])
    earliest, latest = Calendar(saved.settings["freq"], saved.settings["week_start"]).ordinals(days).tolist()
    if saved.settings["joined"] != "no":  # a joined date can be later than all rows
        latest = earliest + LAST_DAY - FIRST_DAY
    return earliest, latest


def check_amounts(path: Path, columns: Mapping[str, NDArray[Any]], limit: int) -> None:
    """Raise SourceError unless the absolute sums of columns are at most `limit`."""
    for name, values in columns.items():
        if absolute_sum(read_only(values)) > limit:
            raise damaged_sums(path, f"column {name!r} has a larger absolute sum than {limit}", "no larger one")


def _sizes(cohort: NDArray[Any], age: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """Return the size of the cohort of each row; 0 for a cohort without a row at age 0."""
    starts = np.flatnonzero(np.diff(cohort, prepend=cohort[:1] - 1))
    sizes = np.where(age[starts] == 0, size[starts], 0)
    return np.repeat(sizes, np.diff(np.append(starts, cohort.size)))


def refuse_rows(path: Path, table: pl.DataFrame, wrong: NDArray[Any], expected: str) -> None:
    """Raise SourceError with the first row that is wrong."""
    if wrong.any():
        row = table.row(int(np.flatnonzero(wrong)[0]), named=True)
        raise damaged_sums(path, f"has the row {row} ({int(wrong.sum()):,} such rows)", expected)
