"""Propose other forms of the same numbers: a factor, percent, shifted ages or labels."""

from collections.abc import Iterator

from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.numbers import common_ratio, factor
from cohortlib.compare.explain.termina.table_edits import AgesShifted, LabelsShifted, Multiplied
from cohortlib.compare.explain.termina.tables import MARGIN_AGES, MONEY, SHARES

_NOTES = {100.0: "cents", 0.01: "units instead of cents", 2.0: "every row twice?"}


def form_candidates(context: Context) -> Iterator[Cause]:
    """List the forms to try."""
    if context.story.table_edits and "factor" in context.kinds:
        return
    yield from _shifts()
    yield Cause("percent", Multiplied(SHARES, 100.0), "retention in percent", bits=choice(1))
    yield from _factor(context)


def _shifts() -> Iterator[Cause]:
    for by in (1, -1):
        yield Cause("ages", AgesShifted(by), f"ages counted from {by}", bits=choice(2))
    for by in (1, -1):
        words = f"cohorts labelled with the {'next' if by > 0 else 'previous'} period"
        yield Cause("labels", LabelsShifted(by), words, bits=choice(2))


def _factor(context: Context) -> Iterator[Cause]:
    """Find the ratio that most amounts share."""
    story, remote = context.story, context.remote
    name = next((name for name in ("amount", "ltv", "cohort_size_amount") if name in remote.values), None)
    if name is None:
        return
    table = story.table
    for edit in reversed(story.table_edits):
        table = edit.undo(table)
    both = table.present & remote.present & (table.cohort == remote.cohort)[:, None]
    both[:, :MARGIN_AGES] = False
    found = common_ratio(table.values[name][both], remote.values[name][both], context.cents)
    if found is None or found[2] < 3:
        return
    low, high, _ = found
    simple = factor(low, high)
    if simple is not None:
        number, text, bits = simple
        note = _NOTES.get(number, "")
        yield Cause("factor", Multiplied(MONEY, number), f"all amounts times {text}", note=note, bits=choice(1) + bits)
