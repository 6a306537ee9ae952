"""Describe a comparison in a sentence and tables of text; all text is ASCII except for what comes from the data."""

from collections.abc import Iterable, Sequence

import polars as pl

from cohortlib.compare.reconcile.pairing import ComparedTable
from cohortlib.show.text import Block, number, short, text

WORST = 10  # cells and cohorts to show

_ONE_SIDED = {
    "null_local": "null in local only",
    "null_remote": "null in remote only",
    "only_local": "in rows of local only",
    "only_remote": "in rows of remote only",
}
_POSITIONS = {
    "cohort": "in cohort",
    "user_id": "of customer",
    "segment_start_date": "in segment",
    "period": "at period",
    "date": "at date",
    "method": "at points of method",
    "cdf_users": "at share",
    "field": "of field",
}


def sentence(tables: Sequence[ComparedTable], differences: pl.DataFrame) -> str:
    """Return a sentence: how many cells agree, the outcomes of the others, and what they have in common."""
    total, agreeing = (sum(getattr(table, name) for table in tables) for name in ("total", "agreeing"))
    if not total:
        return "Neither side has rows."
    if total == agreeing:
        return "The only cell agrees." if total == 1 else f"All {total:,} cells agree."
    counts = dict(differences.group_by("outcome").len().iter_rows())
    parts = [f"{counts['differ']:,} {'differs' if counts['differ'] == 1 else 'differ'}"] if "differ" in counts else []
    for outcome, label in _ONE_SIDED.items():
        if outcome in counts:
            parts.append(f"{counts[outcome]:,} {'is' if counts[outcome] == 1 else 'are'} {label}")
    where = common(dict.fromkeys(key for table in tables for key in table.keys), differences)
    if where:
        parts.append(f"all {where}" if total - agreeing > 1 else where)
    return f"{agreeing:,} of {total:,} cells agree; {', '.join(parts)}."


def form_lines(forms: Sequence[str]) -> list[str]:
    """Return the lines that say how the tables are written."""
    return ["Not counted as differences:", *(f"  {text(form)}" for form in forms)] if forms else []


def common(keys: Iterable[str], differences: pl.DataFrame) -> str:
    """Return what all differences have in common: a cohort, a customer, a period, a field."""
    shared = []
    for column in (*(key for key in keys if key != "type"), "field"):
        values = differences[column].unique() if column in differences.columns else pl.Series()
        if len(values) == 1 and values[0] is not None:
            shared.append(f"{_POSITIONS[column]} {short(values[0], 40)}")
    return " ".join(shared)


def summary_block(summary: pl.DataFrame) -> Block:
    """Return a table of the number of outcomes per field, without the outcomes that no cell has."""
    counts = ["match", "differ", *(name for name in _ONE_SIDED if summary[name].sum())]
    names = [name for name in ("table", "field") if name in summary.columns]
    headers = (*names, "cells", *(count.replace("_", " ") for count in counts), "largest", "at")
    rows = [
        (
            *(text(row[name]) for name in names),
            f"{row['cells']:,}",
            *(f"{row[count]:,}" for count in counts),
            number(row["largest"]),
            short(row["where"] or "", 28).replace("'", ""),
        )
        for row in summary.iter_rows(named=True)
    ]
    return Block("Fields", headers, tuple(rows), len(names))


def cohorts_block(cohorts: pl.DataFrame) -> Block | None:
    """Return a table of the cohorts with the worst differences."""
    group = cohorts.columns[: cohorts.columns.index("cells")]
    worst = cohorts.filter(pl.col("agreeing") < pl.col("cells"))
    if worst.is_empty():
        return None
    names = {"cohort": "cohorts", "date": "periods", "user_id": "customers", "method": "methods"}
    what = names.get(group[0], "segments")
    shown = f" (of {worst.height:,} that differ)" if worst.height > WORST else ""
    rows = [
        (
            *(short(row[name]) for name in group),
            f"{row['cells']:,}",
            f"{row['agreeing']:,}",
            text(row["worst_field"]),
            number(row["worst_difference"]),
        )
        for row in worst.head(WORST).iter_rows(named=True)
    ]
    headers = (*group, "cells", "agree", "worst field", "difference")
    return Block(f"Worst {what}{shown}", headers, tuple(rows), len(group))


def cells_block(differences: pl.DataFrame, limit: int = WORST) -> Block | None:
    """Return a table of the worst cells of rows that both sides have."""
    differences = differences.filter(~pl.col("outcome").is_in(["only_local", "only_remote"]))
    if differences.is_empty():
        return None
    keys = differences.columns[: differences.columns.index("field") + 1]
    shown = f" (of {differences.height:,})" if differences.height > limit else ""
    rows = [
        (
            *("" if row[key] is None else short(row[key]) for key in keys),
            value(row, "local"),
            value(row, "remote"),
            number(row["difference"]),
            row["outcome"].replace("_", " "),
        )
        for row in differences.head(limit).iter_rows(named=True)
    ]
    headers = (*keys, "local", "remote", "difference", "outcome")
    return Block(f"Worst cells{shown}", headers, tuple(rows), len(keys))


def rows_block(tables: Iterable[ComparedTable], limit: int = WORST) -> Block | None:
    """Return a table of the first rows that only one side has."""
    parts = [
        rows.select(
            pl.lit(side).alias("side"), *([pl.lit(table.name).alias("table")] if table.name else []), *table.keys
        )
        for table in tables
        for side, rows in zip(("local", "remote"), table.unpaired, strict=True)
    ]
    count = sum(part.height for part in parts)
    if not count:
        return None
    rows = pl.concat([part.sort(part.columns).head(limit) for part in parts], how="diagonal")
    headers = ["side", *(name for name in ("table", "cohort", "segment_start_date", "type", "user_id", "date", "period",
                                       "method", "cdf_users")
                         if name in rows.columns)]  # fmt: skip
    kept = rows.select(headers).head(limit)
    shown = f" (of {count:,})" if count > limit else ""
    cells = tuple(tuple("" if cell is None else short(cell) for cell in row) for row in kept.iter_rows())
    return Block(f"Rows that only one side has{shown}", tuple(headers), cells, len(headers))


def left_out(tables: Iterable[ComparedTable]) -> list[str]:
    """Return lines that list the fields that only one side has."""
    lines = []
    for table in tables:
        where = f" of {table.name}" if table.name else ""
        for side, fields in (("local", table.only_local_fields), ("remote", table.only_remote_fields)):
            if fields:
                lines.append(f"Not compared{where} (only in {side}): {', '.join(map(short, fields))}")
    return lines


def value(row: dict[str, object], side: str) -> str:
    """Format the value of one side of a cell."""
    text_value = row.get(f"{side}_text")
    return short(text_value) if text_value is not None else number(row[side])
