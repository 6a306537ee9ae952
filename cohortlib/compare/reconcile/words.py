"""What a comparison found, in words and plain tables; all text is ASCII but for what the data hold."""

from collections.abc import Iterable, Sequence

import polars as pl

from cohortlib.compare.reconcile.pairing import Compared
from cohortlib.show.text import Block, number, short, text

WORST = 10  # cells and cohorts that are shown

_ONE_SIDED = {
    "null_local": "null in local only",
    "null_remote": "null in remote only",
    "only_local": "in rows of local only",
    "only_remote": "in rows of remote only",
}
_IN_WORDS = {
    "cohort": "in cohort",
    "user_id": "of customer",
    "segment_start_date": "in segment",
    "period": "at period",
    "date": "at date",
    "field": "of field",
}


def sentence(tables: Sequence[Compared], differences: pl.DataFrame) -> str:
    """Say in a sentence how many cells agree, how the others are, and what they have in common."""
    total, agreeing = (sum(getattr(table, name) for table in tables) for name in ("total", "agreeing"))
    if not total:
        return "Neither side has a row."
    if total == agreeing:
        return "The only cell agrees." if total == 1 else f"All {total:,} cells agree."
    counts = dict(differences.group_by("outcome").len().iter_rows())
    said = [f"{counts['differ']:,} {'differs' if counts['differ'] == 1 else 'differ'}"] if "differ" in counts else []
    for outcome, words in _ONE_SIDED.items():
        if outcome in counts:
            said.append(f"{counts[outcome]:,} {'is' if counts[outcome] == 1 else 'are'} {words}")
    where = common(tables[-1], differences)
    which = "" if not where else f", {'all ' if total - agreeing > 1 else ''}{where}"
    return f"{agreeing:,} of {total:,} cells agree; {', '.join(said)}{which}."


def common(table: Compared, differences: pl.DataFrame) -> str:
    """Say what all differences have in common: a cohort, a customer, a period, a field."""
    found = []
    for column in (*(key for key in table.keys if key != "type"), "field"):
        values = differences[column].unique() if column in differences.columns else pl.Series()
        if len(values) == 1 and values[0] is not None:
            found.append(f"{_IN_WORDS[column]} {short(values[0], 40)}")
    return " ".join(found)


def summary_block(summary: pl.DataFrame) -> Block:
    """Lay out the counts of each field; outcomes that no cell has are left out."""
    counts = ["match", *(name for name in (*("differ",), *_ONE_SIDED) if summary[name].sum() or name == "differ")]
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
    """Lay out the cohorts that hold the worst differences."""
    group = cohorts.columns[: cohorts.columns.index("cells")]
    worst = cohorts.filter(pl.col("agreeing") < pl.col("cells"))
    if worst.is_empty():
        return None
    what = {"cohort": "cohorts", "date": "periods"}.get(group[0], "segments")
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
    """Lay out the worst cells of the rows that both sides have."""
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


def rows_block(tables: Iterable[Compared], limit: int = WORST) -> Block | None:
    """Lay out the first rows that only one side has."""
    found = [
        rows.select(
            pl.lit(side).alias("side"), *([pl.lit(table.name).alias("table")] if table.name else []), *table.keys
        )
        for table in tables
        for side, rows in zip(("local", "remote"), table.unpaired, strict=True)
    ]
    count = sum(part.height for part in found)
    if not count:
        return None
    rows = pl.concat([part.sort(part.columns).head(limit) for part in found], how="diagonal")
    headers = ["side", *(name for name in ("table", "cohort", "segment_start_date", "type", "user_id", "date", "period")
                         if name in rows.columns)]  # fmt: skip
    kept = rows.select(headers).head(limit)
    shown = f" (of {count:,})" if count > limit else ""
    cells = tuple(tuple("" if cell is None else short(cell) for cell in row) for row in kept.iter_rows())
    return Block(f"Rows that only one side has{shown}", tuple(headers), cells, len(headers))


def left_out(tables: Iterable[Compared]) -> list[str]:
    """Name the fields that only one side has."""
    said = []
    for table in tables:
        where = f" of {table.name}" if table.name else ""
        for side, fields in (("local", table.only_local_fields), ("remote", table.only_remote_fields)):
            if fields:
                said.append(f"Not compared{where}, for only {side} has it: {', '.join(map(short, fields))}")
    return said


def value(row: dict[str, object], side: str) -> str:
    """Write the value of a side of a cell."""
    written = row.get(f"{side}_text")
    return short(written) if written is not None else number(row[side])
