"""Write the labels of two tables in one form."""

from typing import TYPE_CHECKING

import polars as pl

from cohortlib.compare.reconcile.labels import MONTHLY, Labels, Unit, mostly, not_of_unit, read_labels

if TYPE_CHECKING:
    from cohortlib.literals import Freq


def same_labels(local: pl.Series, remote: pl.Series) -> tuple[tuple[pl.Series, pl.Series], list[str]]:
    """Return the labels of both sides in one form, unless they already are, or have no known form."""
    if local.dtype == remote.dtype and (not len(local) or not len(remote) or _joinable(local, remote)):
        return (local, remote), []
    forms = read_labels(local, "local"), read_labels(remote, "remote")
    if forms[0] is None or forms[1] is None:
        return (local, remote), []
    freq = "D" if local.name == "segment_start_date" else _common_unit(forms[0], forms[1])
    if freq is None:
        return (local, remote), [f"{local.name}: local has {forms[0].words}, remote has {forms[1].words}"]
    columns, statements = [], []
    for side, form in (("local", forms[0]), ("remote", forms[1])):
        # A segment starts on a day, also where that is written as a month.
        columns.append(form.relabelled(form.units.get(freq) or Unit(freq)))
        if not form.own or not columns[-1].equals(form.column):
            unit = form.units.get(freq) or next(iter(form.units.values()))
            statements.append(f"{local.name}: {form.written(unit)} (in {side})")
    return (columns[0], columns[1]), statements


def _joinable(local: pl.Series, remote: pl.Series) -> bool:
    """Check whether the labels of one side are among those of the other."""
    sets = [set(column.unique().to_list()) for column in (local, remote)]
    return sets[0] <= sets[1] or sets[1] <= sets[0]


def _common_unit(local: Labels, remote: Labels) -> "Freq | None":
    """Return the unit in which to write the labels of both sides; None if they have different units."""
    # Days will do for dates on both sides, unless one has the first and the other the last days of months.
    units = [form.form.unit for form in (local, remote) if form.form.unit is not None]
    for unit in units or MONTHLY[:1]:
        for form, other, side in ((local, remote, "local"), (remote, local, "remote")):
            if unit in other.units and unit not in form.units and mostly(form, unit):
                raise not_of_unit(form, unit, side)
    common: list[Freq] = [unit for unit in (*units, "M", "D") if unit in local.units and unit in remote.units]
    return common[0] if common else None
