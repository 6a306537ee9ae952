"""What a search found, in words and frames: which causes make which cells agree, and what stays unexplained."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.search import Found, Trial
from cohortlib.compare.reconcile.compare import Report
from cohortlib.compare.reconcile.describe import cells_block
from cohortlib.compare.reconcile.page import Preface
from cohortlib.engine.files import atomic_write
from cohortlib.show.text import Block

_TOLD = 8  # lines of a list that words give
_WIDE = 96


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why two tables differ, as far as it was found.

    Attributes
    ----------
    found
        All combinations of causes that were tried, the best first.
    reports
        How the tables compare as they are, then with the first cause of the best, with the first two, and so on.
    suspects
        What stays unexplained, in sentences.
    """

    found: Found
    reports: tuple[Report, ...]
    suspects: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Explanation({self.sentence})"

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The causes that make the most cells agree."""
        return self.found.best.causes

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that bring these causes about; faults of the data have none."""
        return {name: value for cause in self.causes for name, value in cause.settings}

    @property
    def report(self) -> Report:
        """How the tables compare under all the causes."""
        return self.reports[-1]

    @property
    def ok(self) -> bool:
        """Tell whether every cell agrees under the causes."""
        return self.report.ok

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        before, report = self.reports[0], self.report
        if before.ok:
            return f"all {before.total:,} cells agree as they are"
        if not self.causes:
            return f"{_agree(before)} as they are; nothing that was tried makes more agree"
        return f"with {_words(self.found.best)} {_agree(report)}"

    @cached_property
    def ranking(self) -> pl.DataFrame:
        """Every combination that was tried, the best first: causes, settings, agreeing, cells and more.

        `more` is how many cells more agree than as the tables are. Combinations that explain the same come in the
        order in which they were tried, the simpler first.
        """
        trials = self.found.trials
        return pl.DataFrame(
            {
                "causes": [_words(trial) for trial in trials],
                "settings": [_written(trial) for trial in trials],
                "agreeing": [trial.agreeing for trial in trials],
                "cells": [trial.total for trial in trials],
                "more": [trial.agreeing - self.found.before.agreeing for trial in trials],
            },
            schema={
                "causes": pl.String,
                "settings": pl.String,
                "agreeing": pl.Int64,
                "cells": pl.Int64,
                "more": pl.Int64,
            },
        )

    @cached_property
    def explained(self) -> pl.DataFrame:
        """The cells that differ as the tables are, each with the cause under which it agrees; null where none does.

        A cell belongs to the first of the causes from which on it no longer differs.
        """
        cells = self.reports[0].differences
        keys = list(cells.columns[: cells.columns.index("field") + 1])
        rest = cells.with_columns(pl.lit(None, pl.String).alias("cause")).with_row_index("_row")
        parts = []
        # From the last cause back: what differs under it is unexplained, what differs only before it is its own.
        words = [cause.words for cause in self.causes]
        later = [report.differences.select(keys) for report in self.reports[1:]]
        for at in range(len(later) - 1, -1, -1):
            still = rest.join(later[at], on=keys, how="semi", nulls_equal=True)
            if at == len(later) - 1:
                parts.append(still)
            else:
                parts.append(still.with_columns(pl.lit(words[at + 1]).alias("cause")))
            rest = rest.join(later[at], on=keys, how="anti", nulls_equal=True)
        parts.append(rest.with_columns(pl.lit(words[0] if words else None, pl.String).alias("cause")))
        return pl.concat(parts).sort("_row").drop("_row")

    @cached_property
    def lines(self) -> list[str]:
        """The finding in sentences, one after the other."""
        before = self.reports[0]
        if before.ok:
            return [f"All {before.total:,} cells agree as they are."]
        told = [f"{_agree(before)} as the tables are."]
        for at, (cause, report) in enumerate(zip(self.causes, self.reports[1:], strict=True)):
            note = f" ({cause.note})" if cause.note else ""
            told.append(f"With {cause.words}{note}{' as well' if at else ''} {_agree(report)}.")
        if not self.causes:
            told.append("Nothing that was tried makes more cells agree.")
        if any(cause.assumed for cause in self.causes):
            told.append("What is missing here is an assumption: the rows that would prove it are not here.")
        equals = self.found.equals
        if equals and self.causes:
            some = "; ".join(_words(trial) for trial in equals[:3]) + (" ..." if len(equals) > 3 else "")
            told.append(f"As many cells agree with {some}: these tables cannot tell which it is.")
        told += self.suspects
        if not self.found.complete:
            told.append(
                f"The time was over after {len(self.found.trials):,} combinations. Hint: seconds= gives it more."
            )
        return told

    @property
    def block(self) -> Block | None:
        """The combinations under which the most cells agree, as a table; none with a cause that adds nothing."""
        shown: list[Trial] = []
        for trial in self.found.trials:
            if trial.share <= self.found.before.share or len(shown) == _TOLD:
                break
            if not any(set(other.causes) < set(trial.causes) for other in shown):
                shown.append(trial)
        cells = tuple((_cut(_words(trial)), f"{trial.agreeing:,}", f"{trial.total:,}") for trial in shown)
        return Block("what makes the most cells agree", ("with", "agree", "of"), cells, 1) if cells else None

    def __str__(self) -> str:
        """Say what was found, and list the combinations that come next."""
        return "\n".join([*self.lines, *(["", str(self.block)] if self.block else [])])

    def to_html(self) -> str:
        """Make a page with the findings and both tables as they are, which needs nothing else; needs Jinja2."""
        left = cells_block(self.report.differences) if self.causes else None
        blocks = [block for block in (self.block, left and replace(left, title=f"still {left.title}")) if block]
        return self.reports[0].to_html(Preface("Why the tables differ", self.lines, blocks))

    def save_html(self, path: str | Path) -> None:
        """Write the page of :meth:`to_html` to a file."""
        page = self.to_html()
        with atomic_write(Path(path)) as stream:
            stream.write(page.encode())

    def to_dict(self) -> dict[str, Any]:
        """Give the finding as plain values."""
        return {
            "ok": self.ok,
            "complete": self.found.complete,
            "sentences": self.lines,
            "causes": [
                {"kind": cause.kind, "words": cause.words, "settings": _plain(cause), "assumed": cause.assumed}
                for cause in self.causes
            ],
            "ranking": self.ranking.to_dicts(),
            "report": self.report.to_dict(),
        }

    def to_json(self) -> str:
        """Give the finding as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def _agree(report: Report) -> str:
    if report.ok:
        return f"all {report.total:,} cells agree"
    return f"{report.agreeing:,} of {report.total:,} cells agree"


def _words(trial: Trial) -> str:
    return " and ".join(cause.words for cause in trial.causes) or "nothing changed"


def _plain(cause: Cause) -> dict[str, object]:
    """Give the settings of a cause as JSON can hold them."""
    return {
        name: value if isinstance(value, str | int | float | bool | None) else _said(value)
        for name, value in cause.settings
    }


def _written(trial: Trial) -> str:
    return ", ".join(f"{name}={_said(value)}" for cause in trial.causes for name, value in cause.settings)


def _said(value: object) -> str:
    """Write a setting: a table by its columns alone."""
    return f"a table of {' and '.join(value.columns)}" if isinstance(value, pl.DataFrame) else repr(value)


def _cut(words: str) -> str:
    return words if len(words) <= _WIDE else f"{words[: _WIDE - 3]}..."
