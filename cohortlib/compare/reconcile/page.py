"""A self-contained HTML page of two tables and their difference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import polars as pl

from cohortlib.compare.reconcile import describe
from cohortlib.compare.reconcile.outcomes import PairedField
from cohortlib.compare.reconcile.pairing import ComparedTable, worst_lines
from cohortlib.fields import kind_of
from cohortlib.show.page.rendering import render as render_template
from cohortlib.show.text import Block, number, short, text

MOST_CELLS = 600_000  # of a page; more are too slow in a browser
MOST_CUSTOMERS = 200
WORST_CELLS = 100
STEPS = 6  # of shading


@dataclass(slots=True)  # a page has many
class PanelCell:
    """The text of a cell, its CSS class and its tooltip."""

    text: str = ""
    style: str = ""
    tooltip: str = ""


_SAME = PanelCell("=", "same")
Lines: TypeAlias = list[tuple[tuple[str, ...], list[PanelCell]]]
"""The names of each line, and its cells."""


@dataclass(frozen=True)
class Panel:
    """One of three tables side by side: local, remote or difference."""

    caption: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    lines: Lines


@dataclass(frozen=True)
class Sheet:
    """Three tables side by side, which can be expanded."""

    title: str
    panels: list[Panel]
    agrees: bool
    expanded: bool = False


@dataclass(frozen=True)
class Section:
    """The sheets of one table, and a note if some of its lines are left out."""

    title: str
    note: str
    sheets: list[Sheet]


@dataclass(frozen=True)
class Preface:
    """The content above a comparison: an answer, sentences and tables of text; some tables are folded."""

    title: str = "Reconciliation"
    answer: str = ""
    lines: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    folded: Sequence[Block] = ()


def render(
    tables: Sequence[ComparedTable],
    sentence: str,
    forms: Sequence[str],
    summary: pl.DataFrame,
    cohorts: pl.DataFrame,
    differences: pl.DataFrame,
    preface: Preface,
) -> str:
    """Render the page of a comparison."""
    blocks = (
        describe.summary_block(summary),
        describe.cohorts_block(cohorts),
        describe.cells_block(differences, WORST_CELLS),
        describe.rows_block(tables),
    )
    return render_template(
        "cohortlib.compare.reconcile",
        "page.html.j2",
        preface=preface,
        ok=differences.is_empty(),
        sentence=sentence,
        forms=forms,
        blocks=[block for block in blocks if block],
        left_out=describe.left_out(tables),
        sections=[_section(table, differences) for table in tables],
    )


def _section(table: ComparedTable, differences: pl.DataFrame) -> Section:
    """Return the sheets of one table, or of its worst lines if it is large."""
    limit = max(MOST_CELLS // (3 * max(len(table.fields), 1)), 1)
    lines = tuple(name for name in table.keys if name != "period")
    if "table" in differences.columns:
        differences = differences.filter(pl.col("table") == table.name)
    most = MOST_CUSTOMERS if "user_id" in lines else limit
    all_lines = pl.concat([table.local.select(lines), table.unpaired[1].select(lines)])
    note = ""
    if all_lines.height > limit or ("user_id" in lines and all_lines.n_unique() > most):
        chosen = worst_lines(all_lines, differences.select(lines), limit, most)
        count = all_lines.n_unique()
        table = table.within(chosen)
        kind = "customers" if "user_id" in lines else "cohorts" if "cohort" in lines else "rows"
        note = f"{chosen.height:,} of {count:,} {kind} are shown, those with the worst differences first."
    title = table.name.replace("_", " ").capitalize() or "Tables"
    sheets = list(_triangles(table, lines) if "period" in table.keys else _flat(table, lines))
    first = next((i for i, sheet in enumerate(sheets) if not sheet.agrees), 0)
    sheets = [Sheet(sheet.title, sheet.panels, sheet.agrees, i == first) for i, sheet in enumerate(sheets)]
    return Section(title, note, sheets)


def _triangles(table: ComparedTable, lines: tuple[str, ...]) -> Iterator[Sheet]:
    """Yield a sheet per field, with a line per cohort and a column per period."""
    for field, agreeing in zip(table.fields, table.matches, strict=True):
        cells = _sorted(table.cells_of(field), (*lines, "period"))
        periods = cells["period"].unique().sort().to_list()
        positions = {period: i for i, period in enumerate(periods)}
        paint = _painter(field, cells)
        panels: list[Lines] = [[], [], []]
        last: tuple[object, ...] | None = None
        for row in cells.iter_rows(named=True):
            name = tuple(row[key] for key in lines)
            if name != last:
                last = name
                for panel in panels:
                    panel.append((tuple(text(part) for part in name), []))
            for panel, cell in zip(panels, paint(row), strict=True):
                line = panel[-1][1]
                line += [PanelCell()] * (positions[row["period"]] - len(line))
                line.append(cell)
        columns = tuple(map(str, periods))
        title = f"{field.name}: {agreeing:,} of {table.rows:,} cells agree"
        yield Sheet(title, _panels(field.name, lines, columns, panels), agreeing == table.rows)


def _flat(table: ComparedTable, lines: tuple[str, ...]) -> Iterator[Sheet]:
    """Yield the sheet of a table without periods, with a line per row and a column per field."""
    panels: list[Lines] = [[], [], []]
    for field in table.fields:
        cells = _sorted(table.cells_of(field), lines)
        paint = _painter(field, cells)
        for at, row in enumerate(cells.iter_rows(named=True)):
            for panel, cell in zip(panels, paint(row), strict=True):
                if len(panel) <= at:
                    panel.append((tuple(text(row[key]) for key in lines), []))
                panel[at][1].append(cell)
    names = tuple(field.name for field in table.fields)
    title = f"all fields: {table.agreeing:,} of {table.total:,} cells agree"
    yield Sheet(title, _panels("all fields", lines, names, panels), table.agreeing == table.total)


def _sorted(cells: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    # The total comes before the single segments, as in the answer.
    order = sorted(keys, key=lambda key: key != "type")
    return cells.sort(order, descending=[key == "type" for key in order])


def _panels(what: str, lines: tuple[str, ...], columns: tuple[str, ...], panels: list[Lines]) -> list[Panel]:
    captions = (f"{what}, local", f"{what}, remote", f"{what}, local - remote")
    return [Panel(caption, lines, columns, panel) for caption, panel in zip(captions, panels, strict=True)]


def _painter(
    field: PairedField, cells: pl.DataFrame
) -> Callable[[dict[str, object]], tuple[PanelCell, PanelCell, PanelCell]]:
    """Return a function that makes the three cells of a row of one field."""
    values = pl.concat([cells["local"], cells["remote"]])
    low, high = (
        float(bound) if isinstance(bound := side, int | float) else 0.0 for side in (values.min(), values.max())
    )
    differing = cells.filter(pl.col("outcome") == "differ")["difference"].abs().max()
    top = float(differing) if isinstance(differing, int | float) else 0.0
    return partial(_painted, field, low, high, top)


def _painted(
    field: PairedField, low: float, high: float, top: float, row: dict[str, object]
) -> tuple[PanelCell, PanelCell, PanelCell]:
    outcome = str(row["outcome"])
    sides = [_side_cell(field, row, side, low, high, outcome) for side in ("local", "remote")]
    if outcome == "match":
        return sides[0], sides[1], _SAME
    tooltip = f"local {describe.value(row, 'local')}, remote {describe.value(row, 'remote')}"
    difference = row["difference"]
    if outcome == "differ" and isinstance(difference, float):
        step = min(int(abs(difference) / top * STEPS), STEPS - 1) + 1 if top else 1
        sign = "+" if difference > 0 else ""
        style = f"{'m' if difference > 0 else 'l'}{step}"
        return sides[0], sides[1], PanelCell(f"{sign}{number(difference)}", style, tooltip)
    return sides[0], sides[1], PanelCell(outcome.replace("_", " "), "odd", tooltip)


def _side_cell(
    field: PairedField, row: dict[str, object], side: str, low: float, high: float, outcome: str
) -> PanelCell:
    if outcome in ("only_local", "only_remote") and not outcome.endswith(side):
        return PanelCell("", "none")
    shown = row[side]
    if row.get(f"{side}_text") is not None:
        return PanelCell(short(row[f"{side}_text"]))
    if not isinstance(shown, float):
        return PanelCell("-")
    if field.value_type == "boolean":
        return PanelCell("yes" if shown else "no")
    # Halve first: the range may overflow.
    share = (shown / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.0
    return PanelCell(_formatted(field, shown), f"v{min(int(share * STEPS), STEPS - 1) + 1}")


def _formatted(field: PairedField, number: float) -> str:
    if kind_of(field.name) == "share":
        return f"{100 * number:.1f}%"
    return f"{number:,.0f}" if field.value_type == "integer" or abs(number) >= 10_000 else f"{number:,.2f}"
