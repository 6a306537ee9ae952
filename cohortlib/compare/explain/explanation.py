"""The result of `explain`, as sentences, frames, JSON and HTML."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.evidence import Evidence
from cohortlib.compare.explain.search import SearchResult, Trial
from cohortlib.compare.reconcile.compare import Report
from cohortlib.compare.reconcile.describe import cells_block
from cohortlib.compare.reconcile.page import Preface
from cohortlib.engine.files import atomic_write
from cohortlib.fields import kind_of
from cohortlib.show.text import Block

_MAX_ROWS = 4  # of the table of combinations
_MAX_WIDTH = 96  # characters of a combination
_MAX_TIES = 3
_CENT = 0.005  # tolerance of money that agrees to the cent


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Why two tables differ, as far as the search could find out.

    Attributes
    ----------
    search
        Every combination of causes that was tried, best first.
    reports
        The comparison without any cause, then with the first cause of the best combination, with the first two, etc.
    remaining
        Sentences about what still differs.
    needed
        The evidence of each cause of the best combination: what agrees because of it, next to the other causes.
    forms
        How the remote table is written, where that is not as cohortlib writes it. None of this is a difference.
    """

    search: SearchResult
    reports: tuple[Report, ...]
    remaining: tuple[str, ...]
    needed: tuple[Evidence, ...]
    forms: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Explanation({self.sentence})"

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The causes that the data bear out; none if no cause is certain enough."""
        return self.search.best.causes

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that reproduce these causes. Data faults have none."""
        return {name: value for cause in self.causes for name, value in cause.settings}

    @property
    def report(self) -> Report:
        """The comparison under all the causes."""
        return self.reports[-1]

    @property
    def ok(self) -> bool:
        """Whether every cell agrees under the causes."""
        return self.report.ok

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        before, report = self.reports[0], self.report
        if before.ok:
            return f"all {before.total:,} cells agree without any change"
        if not self.causes:
            return f"{_count(before)} without any change; no cause is certain enough to be named"
        return f"{' and '.join(cause.phrase for cause in self.causes)}, {_count(report)}"

    @cached_property
    def ranking(self) -> pl.DataFrame:
        """Every combination that was tried, shortest description first: causes, settings, agreeing, cells and more.

        The description is that of the causes and of all differences left. `more` is how many more cells agree than
        without any change.
        """
        rows = [
            (_words(trial), _settings_text(trial), trial.agreeing, trial.total, trial.evidence.net)
            for trial in self.search.trials
        ]
        types = {"causes": pl.String, "settings": pl.String, "agreeing": pl.Int64, "cells": pl.Int64, "more": pl.Int64}
        return pl.DataFrame(rows, schema=types, orient="row")

    @cached_property
    def explained(self) -> pl.DataFrame:
        """The cells that differ without any change, each with the cause that makes it agree, or null.

        If a cell differs again under a later cause, the last cause that makes it agree counts.
        """
        cells = self.reports[0].differences
        keys = list(cells.columns[: cells.columns.index("field") + 1])
        rest = cells.with_columns(pl.lit(None, pl.String).alias("cause")).with_row_index("_row")
        parts = []
        # Go back from the last cause. Cells that differ under it are unexplained; a cause explains those that differ
        # only before it.
        words = [cause.words for cause in self.causes]
        later = [report.differences.select(keys) for report in self.reports[1:]]
        for at in range(len(later) - 1, -1, -1):
            differing = rest.join(later[at], on=keys, how="semi", nulls_equal=True)
            if at == len(later) - 1:
                parts.append(differing)
            else:
                parts.append(differing.with_columns(pl.lit(words[at + 1]).alias("cause")))
            rest = rest.join(later[at], on=keys, how="anti", nulls_equal=True)
        parts.append(rest.with_columns(pl.lit(words[0] if words else None, pl.String).alias("cause")))
        return pl.concat(parts).sort("_row").drop("_row")

    @cached_property
    def lines(self) -> list[str]:
        """The result as a list of sentences."""
        before = self.reports[0]
        if before.ok:
            return [f"All {before.total:,} cells agree without any change.", *self._written()]
        lines = [f"{_count(before)} without any change."]
        for at, (cause, report) in enumerate(zip(self.causes, self.reports[1:], strict=True)):
            phrase = f"Also {cause.phrase}" if at else f"{cause.phrase[0].upper()}{cause.phrase[1:]}"
            note = f" ({cause.note})" if cause.note else ""
            lines.append(f"{phrase}{note}, {_count(report)}.")
        lines += [*self._strength(), *self._also_tried()]
        ties = self.search.ties
        if ties and self.causes:
            combinations = "; ".join(_words(trial) for trial in ties[:_MAX_TIES])
            more = " ..." if len(ties) > _MAX_TIES else ""
            lines.append(f"These changes explain the same cells, so the tables cannot decide: {combinations}{more}.")
        lines += [*self._written(), *self.remaining]
        if not self.search.complete:
            count = len(self.search.trials)
            tried = "1 combination" if count == 1 else f"{count:,} combinations"
            lines.append(f"The search reached its time limit after {tried}. Hint: allow more seconds.")
        return lines

    @cached_property
    def evidence(self) -> Block | None:
        """A table of the causes: how many cells differ without each, and with it, next to the other causes."""
        rows = [
            (cause.words, f"{needed.differed:,}", f"{needed.differed - needed.net:,}", self._words_of(needed))
            for cause, needed in zip(self.causes, self.needed, strict=True)
        ]
        return (
            Block("Evidence", ("cause", "differ without it", "with it", "explained"), tuple(rows), 1) if rows else None
        )

    def _words_of(self, evidence: Evidence) -> str:
        return f"{evidence.words}{self._exactness}" if evidence.net == evidence.differed else evidence.words

    @property
    def _exactness(self) -> str:
        """Return words for money that agrees to the cent; empty for tables without money, or a larger tolerance."""
        money = [
            field.tolerance for table in self.report.tables for field in table.fields if kind_of(field.name) == "money"
        ]
        exact = money and all(limit.absolute <= _CENT and not limit.relative for limit in money)
        return ", to the cent" if exact else ""

    def _written(self) -> list[str]:
        """Describe how the remote table is written."""
        return [
            f"How the remote table is written, which is not counted as a difference: {'; '.join(self.forms)}."
        ] * bool(self.forms)

    def _strength(self) -> list[str]:
        """Report how many of the differing cells the causes explain, and that it is not by chance."""
        evidence = self.search.best.evidence
        if not self.causes:
            return ["No cause is certain enough to be named."]
        if evidence.net == evidence.differed:
            return [f"That explains all {evidence.differed:,} cells that differed{self._exactness}."]
        left = evidence.differed - evidence.net
        explained = f"{evidence.net:,} of the {evidence.differed:,} cells that differed"
        return [f"That explains {explained}, too many for chance; {left:,} remain{'s' * (left == 1)}."]

    def _also_tried(self) -> list[str]:
        """Describe which cause comes closest, if none can be named."""
        trials = [trial for trial in self.search.trials if trial.evidence.net > 0 and len(trial.causes) == 1]
        if self.causes or not trials:
            return []
        best = trials[0]
        return [f"Also tried: {best.causes[0].phrase} ({best.evidence.words})."]

    @property
    def block(self) -> Block | None:
        """The combinations that make more cells agree, without those that add a cause but no agreeing cell."""
        shown: list[Trial] = []
        best = [self.search.best] if self.causes else []
        for trial in [*best, *(trial for trial in self.search.trials if trial not in best)]:
            if trial.evidence.net <= 0 or len(shown) == _MAX_ROWS:
                continue
            if not any(set(better.causes) < set(trial.causes) for better in shown):
                shown.append(trial)
        cells = tuple((_shortened(_words(trial)), f"{trial.agreeing:,}", f"{trial.total:,}") for trial in shown)
        return Block("combinations tried", ("change", "agree", "of"), cells, 1) if cells else None

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(["", str(self.block)] if self.block else [])])

    def to_html(self) -> str:
        """Return a self-contained HTML page: the answer, the evidence, and what still differs. Needs Jinja2."""
        answer = f"{self.sentence[:1].upper()}{self.sentence[1:]}."
        before = cells_block(self.reports[0].differences) if self.causes else None
        folded = [("Also tried", self.block), ("Worst cells without any change", before)]
        return self.report.to_html(
            Preface(
                "Why the tables differ",
                answer,
                [line for line in self.lines if line != answer],
                [self.evidence] if self.evidence else [],
                [replace(block, title=title) for title, block in folded if block],
            )
        )

    def save_html(self, path: str | Path) -> None:
        """Write the page of :meth:`to_html` to a file."""
        page = self.to_html()
        with atomic_write(Path(path)) as stream:
            stream.write(page.encode())

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain Python values."""
        return {
            "ok": self.ok,
            "complete": self.search.complete,
            "sentences": self.lines,
            "forms": list(self.forms),
            "causes": [
                {
                    "kind": cause.kind,
                    "words": cause.words,
                    "settings": _json_settings(cause),
                    "differ_without": needed.differed,
                    "differ_with": needed.differed - needed.net,
                    "explained": self._words_of(needed),
                }
                for cause, needed in zip(self.causes, self.needed, strict=True)
            ],
            "ranking": self.ranking.to_dicts(),
            "report": self.report.to_dict(),
        }

    def to_json(self) -> str:
        """Return the result as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def _count(report: Report) -> str:
    if report.ok:
        return f"all {report.total:,} cells agree"
    return f"{report.agreeing:,} of {report.total:,} cells agree"


def _words(trial: Trial) -> str:
    return " + ".join(cause.words for cause in trial.causes) or "no change"


def _json_settings(cause: Cause) -> dict[str, object]:
    return {
        name: value if isinstance(value, str | int | float | bool | None) else _value_text(value)
        for name, value in cause.settings
    }


def _settings_text(trial: Trial) -> str:
    return ", ".join(f"{name}={_value_text(value)}" for cause in trial.causes for name, value in cause.settings)


def _value_text(value: object) -> str:
    """Return a setting's value as text; a frame is described by its columns."""
    return f"a table of {' and '.join(value.columns)}" if isinstance(value, pl.DataFrame) else repr(value)


def _shortened(words: str) -> str:
    return words if len(words) <= _MAX_WIDTH else f"{words[: _MAX_WIDTH - 3]}..."
