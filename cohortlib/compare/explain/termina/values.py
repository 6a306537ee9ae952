"""Propose rows by the values of their columns, or by the names of their users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause, choice, subset
from cohortlib.compare.explain.termina.context import Context
from cohortlib.compare.explain.termina.edits import Choice, Mode, Named, Scaled, Values
from cohortlib.compare.explain.termina.numbers import common_ratio, factor
from cohortlib.compare.explain.termina.screen import Floats, Groups
from cohortlib.compare.explain.wording import listed

_MOST_CHOSEN = 6  # values left out, or kept, together
_NEXT = 40  # values tried as the next one
_LEAST_CELLS = 5  # that a factor of some rows is seen in
_SHAPES = (
    ("ends", r"(@.+)$"),
    ("ends", r"([_\-.:#|/][^_\-.:#|/@]*[A-Za-z][^_\-.:#|/@]*)$"),
    ("begins", r"^([A-Za-z]+[_\-.:#|/]?)"),
    ("begins", r"^([^_\-.:#|/@]+[_\-.:#|/@])"),
)  # parts of ids that groups of users may share
_MOST_NAMES = 1_000


@dataclass(frozen=True)
class _Family:
    """Groups of rows by the values of a column."""

    kind: str
    words: str
    values: Sequence[Any]
    groups: Groups

    def edit(self, mode: Mode, chosen: tuple[int, ...]) -> Choice:
        """Return the edit for some values."""
        values = tuple(self.values[index] for index in chosen)
        if self.kind.startswith("column "):
            return Values(mode, self.kind.removeprefix("column "), values)
        return Named(mode, *values[0])


def value_candidates(context: Context) -> Iterator[Cause]:
    """List values whose rows are left out, kept alone, counted twice or multiplied in the remote table."""
    families = [*_columns(context), *_names(context)]
    alternatives = sum(len(family.values) for family in families)
    ranked: list[tuple[float, Cause]] = []
    for family in families:
        if not context.in_time():
            break
        if family.kind not in context.kinds:
            ranked += _chosen(context, family, alternatives)
    yield from context.best(ranked)
    yield from context.best(_scaled(context, families, alternatives))


def _columns(context: Context) -> Iterator[_Family]:
    for name in context.rows.dimensions:
        values, codes = context.rows.codes(name)
        groups = Groups.of_codes(np.where(context.ledger.counts, codes[context.ledger.row], -1), len(values))
        yield _Family(f"column {name}", name, values, groups)


def _names(context: Context) -> Iterator[_Family]:
    """Group users by the beginnings and endings of their ids."""
    names = context.ledger.names
    seen: list[np.ndarray] = []
    for where, shape in _SHAPES:
        parts = names.str.extract(shape)
        texts = parts.drop_nulls().unique().sort()
        if not 2 <= len(texts) <= _MOST_NAMES and parts.null_count() == 0:
            continue
        if not 1 <= len(texts) <= _MOST_NAMES:
            continue
        codes = parts.cast(pl.Enum(texts)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        if any(np.array_equal(codes, other) for other in seen):
            continue
        seen.append(codes)
        # The id of one user is no pattern, nor are those of all but one.
        users = np.bincount(codes + 1)[codes + 1]
        codes = np.where((users > 1) & (users < codes.size - 1), codes, -1)
        values = [(where, text) for text in texts]
        yield _Family(f"names {where} {shape}", context.rows.user, values, Groups.of_codes(
            np.where(context.ledger.counts, codes[context.ledger.user], -1), len(values)))  # fmt: skip


def _chosen(context: Context, family: _Family, alternatives: int) -> Iterator[tuple[float, Cause]]:
    """Choose values whose rows do not count, count alone or count twice; one by one, as long as that helps."""
    by_name = not family.kind.startswith("column ")
    for mode in ("drop", "only", "twice"):
        chosen: tuple[int, ...] = ()
        least = context.screen.bits
        candidates = np.arange(len(family.values))
        while len(chosen) < (1 if by_name or mode == "twice" else _MOST_CHOSEN) and context.in_time():
            sets = [tuple(sorted((*chosen, index))) for index in candidates.tolist() if index not in chosen]
            if not sets or len(chosen) + 1 >= len(family.values):
                break
            bits = _bits(context, family, sets, mode)
            best = int(np.argmin(bits))
            if bits[best] + np.log2(len(family.values)) >= least:
                break
            least, chosen = float(bits[best]), sets[best]
            if len(candidates) > _NEXT:
                # The next one is among those that help alone.
                candidates = np.array([each[0] for each in sets])[np.argsort(bits, kind="stable")[:_NEXT]]
            yield float(bits[best]), _cause(context, family, mode, chosen, alternatives)


def _bits(context: Context, family: _Family, sets: list[tuple[int, ...]], mode: str) -> Floats:
    groups = family.groups
    if len(sets[0]) > 1:
        groups = Groups.of_lists([np.sort(np.concatenate([groups.rows_of(i) for i in each])) for each in sets])
    return context.screen.change(groups, {"drop": 0, "only": 1, "twice": 2}[mode], alone=mode == "only")


def _cause(context: Context, family: _Family, mode: Mode, chosen: tuple[int, ...], alternatives: int) -> Cause:
    edit = family.edit(mode, chosen)
    count = int(context.ledger.weight[edit.chosen(context.ledger, context.rows, context.story.zone)].sum())
    which = _which(family, chosen)
    words = {
        "drop": f"without the {count:,} rows with {which}",
        "only": f"only the {count:,} rows with {which}",
        "twice": f"the {count:,} rows with {which} counted twice",
    }[mode]
    bits = choice(3, alternatives) + subset(len(chosen) - 1, len(family.values))
    return Cause(family.kind, edit, words, bits=bits)


def _which(family: _Family, chosen: tuple[int, ...]) -> str:
    values = [family.values[index] for index in chosen]
    if family.kind.startswith("column "):
        joined = " or ".join(map(str, values)) if len(values) < 4 else listed(values)
        return f"{family.words} {joined}"
    where, text = values[0]
    return f"a {family.words} that {where} with {text!r}"


def _scaled(context: Context, families: list[_Family], alternatives: int) -> Iterator[tuple[float, Cause]]:
    """Find the factor of each value's amounts: the ratio of the differences to these amounts that most cells share."""
    money = context.cell_money()
    if money is None or "amounts" in context.kinds:
        return
    excess, cell_of = money
    for family in families:
        if not context.in_time():
            return
        sums = context.cell_sums(family.groups, cell_of, excess.size)
        if sums is None:
            continue
        factors, causes = np.ones(len(family.values)), {}
        for index in range(len(family.values)):
            found = common_ratio(sums[index], sums[index] + excess, context.cents * context.rows.scale)
            simple = None if found is None or found[2] < _LEAST_CELLS else factor(*found[:2])
            if simple is not None:
                factors[index] = simple[0]
                causes[index] = _scaled_cause(family, index, simple, alternatives)
        bits = context.screen.change(family.groups, 1, factors=factors)
        yield from ((float(bits[index]), cause) for index, cause in causes.items())


def _scaled_cause(family: _Family, index: int, simple: tuple[float, str, float], alternatives: int) -> Cause:
    number, text, digits = simple
    edit = Scaled(number, family.edit("drop", (index,)))
    words = f"the amounts of rows with {_which(family, (index,))} times {text}"
    return Cause("amounts", edit, words, bits=choice(alternatives) + digits)
