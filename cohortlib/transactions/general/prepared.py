"""Read the rows of the general table from a prepared form: kept columns are segments and further amounts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, DataError, SettingError, listed
from cohortlib.read.amounts import Amounts, magnitude
from cohortlib.read.users import UserEncoding
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import (
    TableRows,
    attributes_of,
    combined,
    days_in_order,
    read_users,
    units_of,
    user_type,
    with_joined,
)
from cohortlib.transactions.general.values import Values
from cohortlib.transactions.joined import joined_table
from cohortlib.transactions.reading import check_prepared_with
from cohortlib.transactions.store.manifest import DATES, INSTANTS
from cohortlib.transactions.store.parts import DAY, INSTANT, SIZE, UNITS, Part
from cohortlib.transactions.store.prepared import Prepared


@dataclass(frozen=True)
class PreparedStore:
    """The parts of a prepared form, with kept columns as codes and units, and without the rows that a filter drops."""

    source: Prepared
    question: Question
    values: dict[str, Values]
    with_instants: bool

    @property
    def count(self) -> int:
        """Number of parts."""
        return self.source.count

    @property
    def text(self) -> bool:
        """Whether user ids are text; their keys have two words."""
        return self.source.text

    @property
    def key_ranges(self) -> list[tuple[int, int]]:
        """The key range of each part."""
        return self.source.key_ranges

    def size(self, index: int) -> int:
        """Return about the number of rows of a part."""
        return self.source.size(index)

    @cached_property
    def _columns(self) -> list[str]:
        names = [*self.values, *[INSTANT] * self.with_instants, *self.question.amounts, *self.source.filter_columns]
        return list(dict.fromkeys(names))

    def load(self, index: int, *, users: Sequence[str] = (), rows: Sequence[str] = ()) -> Part:
        """Read a part; `rows` are the names of its columns, which are numbered."""
        part = self.filtered(index, users, self._columns)
        columns = [pl.Series(values.encode(part.rows[name])) for name, values in self.values.items()]
        columns += [part.rows[name] for name in [INSTANT] * self.with_instants]
        columns += [pl.Series(units_of(part.rows[name], self.question)) for name in self.question.amounts]
        days = part.rows[UNITS] if self.question.money else pl.Series(np.ones(part.rows.height, np.int64))
        named = [column.alias(name) for name, column in zip(rows, columns, strict=True)]
        return Part.of(part.users, pl.DataFrame([part.rows[DAY], days.alias(UNITS), *named]))

    def filtered(self, index: int, users: Sequence[str], columns: Sequence[str]) -> Part:
        """Read a part without the rows that the filter drops."""
        part = self.source.load(index, users=users, rows=columns).contiguous()
        mask = self.source.filter_mask(part.rows)
        if not mask.size:
            return part
        running = np.append(0, np.cumsum(mask))
        until = np.cumsum(part.users[SIZE].to_numpy(), dtype=np.int64)
        sizes = np.diff(running[until], prepend=0).astype(np.uint32)
        return Part.of(part.users.with_columns(pl.Series(SIZE, sizes)), part.rows.filter(mask))


def load_prepared(source: Prepared, question: Question, *, keep_ids: bool) -> TableRows:
    """Prepare to scan a prepared form part by part."""
    settings, manifest = question.settings, source.manifest
    checked = settings if question.money else replace(settings, amount=manifest.amount)
    check_prepared_with(source, checked)
    attributes = read_users(question)
    of_users = () if attributes is None else tuple(attributes.columns[1:])
    in_rows = tuple(name for name in (*question.by, *question.split) if name not in of_users)
    for name in (*in_rows, *question.amounts):
        if name not in manifest.keep:
            raise SettingError(
                f"column {name!r} was not kept in {str(source.folder)!r}; kept columns are {listed(manifest.keep)}",
                value=name, hint=("prepare the transactions again with ", Arg("keep", [name])),
            )  # fmt: skip
    store = PreparedStore(
        source, question, {name: Values(name) for name in in_rows}, _with_instants(source, question, in_rows)
    )
    combinations, magnitudes = _read_values(store)
    first, final, last_day = source.days()
    integers = not manifest.text if settings.joined_is_one_of(source.columns) else manifest.whole
    encoding = UserEncoding(manifest.kind, manifest.key_secret, integers=integers)
    joined = joined_table(checked, source.columns, lambda: source.unique_pairs(str(settings.joined)))
    values = dict(store.values)
    table = None if attributes is None else attributes_of(attributes, question, encoding, values)
    if first <= final:
        question.check_days(first, final)
    rows = TableRows(
        question, store, encoding, (first, final), last_day, values, in_rows, store.with_instants, None,
        table, Meter(settings.progress, manifest.rows),
        keep_ids=keep_ids or joined is not None, user_type=user_type(pl.Null(), encoding),
        split_codes=combined(combinations, len(question.split)), magnitudes=(manifest.magnitude, *magnitudes),
    )  # fmt: skip
    return with_joined(rows, joined)


def _with_instants(source: Prepared, question: Question, in_rows: Sequence[str]) -> bool:
    """Return whether instants are needed; raise SettingError if they are not stored."""
    manifest = source.manifest
    if manifest.instants == DATES:
        return False
    needed = bool(in_rows) and not question.split
    needed |= manifest.zoned is not False and not question.same_unit and not days_in_order(manifest.timezone)
    if needed and manifest.instants != INSTANTS and manifest.rows:
        raise SettingError(
            f"{str(source.folder)!r} has local days, without the order of rows within a day",
            hint=("prepare the transactions again with ", Arg("keep", list(in_rows))),
        )
    return needed and manifest.rows > 0


def _read_values(store: PreparedStore) -> tuple[list[pl.DataFrame], list[int]]:
    """Read the values of segments; return the combinations of `split`, and the magnitudes of further amounts."""
    question = store.question
    totals = dict.fromkeys(question.amounts, 0)
    combinations: list[pl.DataFrame] = []
    names = [*dict.fromkeys([*store.values, *question.amounts, *store.source.filter_columns])]
    if not (store.values or question.amounts):
        return combinations, []
    # The values of a few parts at a time, in order, so that codes do not depend on threads.
    for begin in range(0, store.count, 64):
        parts = range(begin, min(begin + 64, store.count))
        frames = on_threads(
            question.settings.workers, lambda index: _distinct(store.filtered(index, (), names).rows, store), parts
        )
        for distinct, sums, nulls in frames:
            codes = [pl.Series(name, values.encode(distinct[name])) for name, values in store.values.items()]
            if question.split:
                combinations.append(pl.DataFrame(codes))
            for name, size in sums.items():
                totals[name] += size
                if totals[name] >= 2**63:
                    raise Amounts(pl.Series(name, [0]), question.settings.decimals).too_large()
                if nulls[name]:
                    raise DataError(
                        f"the kept column {name!r} has nulls", value=name, expected="amounts",
                        hint="prepare the transactions again, without these rows",
                    )  # fmt: skip
    return combinations, list(totals.values())


def _distinct(rows: pl.DataFrame, store: PreparedStore) -> tuple[pl.DataFrame, dict[str, int], dict[str, int]]:
    """Return the distinct values of segments, the magnitudes of further amounts, and their nulls."""
    nulls = {name: rows[name].null_count() for name in store.question.amounts}
    sums = {
        name: 0 if nulls[name] else magnitude(units_of(rows[name], store.question)) for name in store.question.amounts
    }
    return rows.select(*store.values).unique(maintain_order=True), sums, nulls
