"""A page of HTML that shows two tables and their difference: nothing in it comes from anywhere else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from cohortlib.compare.reconcile.fields import Field
from cohortlib.compare.reconcile.pairing import Compared, worst_lines
from cohortlib.compare.reconcile.words import cells_block, cohorts_block, left_out, rows_block, summary_block, value
from cohortlib.show import text as show_text
from cohortlib.show.page.rendering import render as filled
from cohortlib.show.text import Block, number, short

MOST_CELLS = 600_000  # of a page: more of them a browser shows late or never
MOST_CUSTOMERS = 200
WORST_CELLS = 100
STEPS = 6  # of shading

_SIDES = ("local", "remote", "difference")


@dataclass(slots=True)  # there are many
class Cell:
    """What a cell shows, its class, and what is told where the pointer rests on it."""

    text: str = ""
    shade: str = ""
    told: str = ""


_SAME = Cell("=", "same")


@dataclass(frozen=True)
class Panel:
    """One of the three tables that stand side by side."""

    caption: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    lines: list[tuple[tuple[str, ...], list[Cell]]]


@dataclass(frozen=True)
class Sheet:
    """Three tables side by side, under a line that opens them."""

    title: str
    panels: list[Panel]
    agrees: bool
    opened: bool = False


@dataclass(frozen=True)
class Section:
    """The sheets of one table; the note says what of it is left out."""

    title: str
    note: str
    sheets: list[Sheet]


@dataclass(frozen=True)
class Preface:
    """What stands above a comparison: sentences, and tables of text."""

    title: str = "Reconciliation"
    lines: Sequence[str] = ()
    blocks: Sequence[Block] = ()


def render(
    tables: Sequence[Compared],
    sentence: str,
    summary: pl.DataFrame,
    cohorts: pl.DataFrame,
    differences: pl.DataFrame,
    preface: Preface,
) -> str:
    """Make the page of a comparison."""
    blocks = (
        summary_block(summary),
        cohorts_block(cohorts),
        cells_block(differences, WORST_CELLS),
        rows_block(tables),
    )
    return filled(
        "cohortlib.compare.reconcile",
        "page.html.j2",
        preface=preface,
        ok=differences.is_empty(),
        sentence=sentence,
        blocks=[block for block in blocks if block],
        left_out=left_out(tables),
        sections=[_section(table, differences) for table in tables],
    )


def _section(table: Compared, differences: pl.DataFrame) -> Section:
    """Lay out one table, or the worst of it where it is large."""
    whole = table
    limit = max(MOST_CELLS // (3 * max(len(table.fields), 1)), 1)
    lines = tuple(name for name in table.keys if name != "period")
    if "table" in differences.columns:
        differences = differences.filter(pl.col("table") == table.name)
    most = MOST_CUSTOMERS if "user_id" in lines else limit
    everything = pl.concat([table.local.select(lines), table.unpaired[1].select(lines)])
    note = ""
    if everything.height > limit or ("user_id" in lines and everything.n_unique() > most):
        chosen = worst_lines(everything, differences.select(lines), limit, most)
        count = everything.n_unique()
        table = table.within(chosen)
        kind = "customers" if "user_id" in lines else "cohorts" if "cohort" in lines else "rows"
        note = f"Shown are {chosen.height:,} of {count:,} {kind}, those with the worst differences first."
    title = {"": "Tables", "segments": "Segments", "values": "Values"}[whole.name]
    sheets = list(_triangles(table, lines) if "period" in table.keys else _flat(table, lines))
    first = next((i for i, sheet in enumerate(sheets) if not sheet.agrees), 0)
    sheets = [Sheet(sheet.title, sheet.panels, sheet.agrees, i == first) for i, sheet in enumerate(sheets)]
    return Section(title, note, sheets)


def _triangles(table: Compared, lines: tuple[str, ...]) -> Iterator[Sheet]:
    """Lay out each field with a line for each cohort and a column for each period."""
    for field, agreeing in zip(table.fields, table.matches, strict=True):
        cells = _sorted(table.cells_of(field), (*lines, "period"))
        periods = cells["period"].unique().sort().to_list()
        places = {period: i for i, period in enumerate(periods)}
        paint = _painter(field, cells)
        panels: list[list[tuple[tuple[str, ...], list[Cell]]]] = [[], [], []]
        before: tuple[object, ...] | None = None
        for row in cells.iter_rows(named=True):
            name = tuple(row[key] for key in lines)
            if name != before:
                before = name
                for panel in panels:
                    panel.append((tuple(show_text.text(part) for part in name), []))
            for panel, cell in zip(panels, paint(row), strict=True):
                line = panel[-1][1]
                line += [Cell()] * (places[row["period"]] - len(line))
                line.append(cell)
        columns = tuple(map(str, periods))
        agrees = agreeing == table.rows
        yield Sheet(_said(field, agreeing, table.rows), _panels(field.name, lines, columns, panels), agrees)


def _flat(table: Compared, lines: tuple[str, ...]) -> Iterator[Sheet]:
    """Lay out a table without periods: a line for each row and a column for each field."""
    panels: list[list[tuple[tuple[str, ...], list[Cell]]]] = [[], [], []]
    for field in table.fields:
        cells = _sorted(table.cells_of(field), lines)
        paint = _painter(field, cells)
        for at, row in enumerate(cells.iter_rows(named=True)):
            for panel, cell in zip(panels, paint(row), strict=True):
                if len(panel) <= at:
                    panel.append((tuple(show_text.text(row[key]) for key in lines), []))
                panel[at][1].append(cell)
    names = tuple(field.name for field in table.fields)
    agrees = table.agreeing == table.total
    said = f"all fields: {table.agreeing:,} of {table.total:,} cells agree"
    yield Sheet(said, _panels("all fields", lines, names, panels), agrees)


def _sorted(cells: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    # the total comes before the single segments, as in the answer
    return cells.sort(("type", *(key for key in keys if key != "type")), descending=[True, *[False] * (len(keys) - 1)]
                      ) if "type" in keys else cells.sort(keys)  # fmt: skip


def _panels(
    what: str, lines: tuple[str, ...], columns: tuple[str, ...], panels: list[list[tuple[tuple[str, ...], list[Cell]]]]
) -> list[Panel]:
    captions = (f"{what}, local", f"{what}, remote", f"{what}, local - remote")
    return [Panel(caption, lines, columns, panel) for caption, panel in zip(captions, panels, strict=True)]


def _said(field: Field, agreeing: int, total: int) -> str:
    return f"{field.name}: {agreeing:,} of {total:,} cells agree"


def _painter(field: Field, cells: pl.DataFrame) -> Callable[[dict[str, object]], tuple[Cell, Cell, Cell]]:
    """Give what makes the three cells of a row, for one field."""
    values = pl.concat([cells["local"], cells["remote"]])
    low, high = (
        float(bound) if isinstance(bound := side, int | float) else 0.0 for side in (values.min(), values.max())
    )
    differing = cells.filter(pl.col("outcome") == "differ")["difference"].abs().max()
    top = float(differing) if isinstance(differing, int | float) else 0.0
    return partial(_painted, field, low, high, top)


def _painted(field: Field, low: float, high: float, top: float, row: dict[str, object]) -> tuple[Cell, Cell, Cell]:
    outcome = str(row["outcome"])
    sides = [_shown(field, row, side, low, high, outcome) for side in ("local", "remote")]
    if outcome == "match":
        return sides[0], sides[1], _SAME
    told = f"local {value(row, 'local')}, remote {value(row, 'remote')}"
    difference = row["difference"]
    if outcome == "differ" and isinstance(difference, float):
        step = min(int(abs(difference) / top * STEPS), STEPS - 1) + 1 if top else 1
        return sides[0], sides[1], Cell(f"{_brief(difference):+}", f"{'m' if difference > 0 else 'l'}{step}", told)
    return sides[0], sides[1], Cell(outcome.replace("_", " "), "odd", told)


def _shown(field: Field, row: dict[str, object], side: str, low: float, high: float, outcome: str) -> Cell:
    if outcome in ("only_local", "only_remote") and not outcome.endswith(side):
        return Cell("", "none")
    found = row[side]
    if row.get(f"{side}_text") is not None:
        return Cell(short(row[f"{side}_text"]))
    if not isinstance(found, float):
        return Cell("-")
    if field.nature == "truth":
        return Cell("yes" if found else "no")
    share = (found / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.0
    return Cell(_written(field, found), f"v{min(int(share * STEPS), STEPS - 1) + 1}")


def _written(field: Field, found: float) -> str:
    if field.name.endswith("_retention"):
        return f"{100 * found:.1f}%"
    return f"{found:,.0f}" if field.nature == "integer" or abs(found) >= 10_000 else f"{found:,.2f}"


class _brief(float):  # noqa: N801 - a number that writes itself
    """A difference, written as short as it can be told."""

    def __format__(self, spec: str) -> str:
        sign = "+" if self > 0 and spec == "+" else ""
        return sign + number(float(self))
