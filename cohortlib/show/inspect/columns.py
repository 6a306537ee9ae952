"""Judge the columns of a sample: which read as instants, which as amounts, and by which settings."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from cohortlib.errors import CohortlibError
from cohortlib.read.arrays import value_text
from cohortlib.read.faults import date_formats, fitting
from cohortlib.read.formats import NUMBERS
from cohortlib.read.ids import clean_ids
from cohortlib.read.tables import PANIC
from cohortlib.read.text import is_text, parse_units

_MOST = 0.5  # of the values must read in one way
_FIRST = 200  # distinct texts that all formats are tried on
_DIGITS = r"^\s*\d+(\.\d+)?\s*$"


@dataclass(frozen=True)
class ColumnProfile:
    """A column of a sample."""

    series: pl.Series

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.series.name

    @property
    def dtype(self) -> pl.DataType:
        """Its type."""
        return self.series.dtype

    @cached_property
    def texts(self) -> pl.DataFrame:
        """The distinct texts and their counts, without nulls and blanks; empty for other types."""
        if not is_text(self.dtype):
            return pl.DataFrame({"text": [], "count": []}, schema={"text": pl.String, "count": pl.UInt32})
        texts = clean_ids(self.series.alias("text").cast(pl.String), None, None).drop_nulls().alias("text")
        return texts.value_counts(sort=True)

    @cached_property
    def values(self) -> pl.Series:
        """The values without nulls and blanks."""
        column = self.series.alias("")
        return clean_ids(column, None, None).drop_nulls() if is_text(self.dtype) else column.drop_nulls()

    @property
    def nulls(self) -> int:
        """The number of nulls and blanks."""
        return len(self.series) - len(self.values)

    @cached_property
    def distinct(self) -> int | None:
        """The number of distinct values; None for types that cannot be compared."""
        try:
            return int(self.values.n_unique())
        except (pl.exceptions.PolarsError, PANIC):
            return None

    @cached_property
    def example(self) -> str:
        """The most frequent text, or the first value."""
        if not len(self.values):
            return ""
        if self.dtype == pl.Binary:
            return str(self.values.head(1).bin.encode("hex")[0])
        try:
            return str(self.texts["text"][0]) if self.texts.height else value_text(self.values, 0)
        except (pl.exceptions.PolarsError, PANIC):  # nested types have no text
            return str(self.values.head(1).to_list()[0])

    @cached_property
    def formats(self) -> list[str | None]:
        """The formats that read most of the values as instants, best first; None is ISO 8601, or a typed column."""
        if self.dtype == pl.Date or isinstance(self.dtype, pl.Datetime):
            return [None]
        if self.dtype.is_numeric():
            return self._numbers()
        if not self.texts.height:
            return []
        texts, counts = self.texts["text"], self.texts["count"].to_numpy()
        first = texts.head(_FIRST)
        digits = bool(np.mean(np.asarray(texts.str.contains(_DIGITS))) > _MOST)
        names: list[str | None] = [None, *NUMBERS] if digits else [None, *date_formats()]
        fits: dict[str | None, int] = {}
        for name in names:
            if fitting(first, name).any():
                fits[name] = int(counts[fitting(texts, name)].sum())
        half = int(counts.sum()) // 2
        if fits.get(None, 0) > half:  # what else is in the column is for a person to decide
            return [None]
        best = max(fits.values(), default=0)
        if best <= half:
            return []
        return [name for name, count in fits.items() if count == best][:4]

    @cached_property
    def iso(self) -> int:
        """The number of texts in ISO 8601."""
        texts, counts = self.texts["text"], self.texts["count"].to_numpy()
        return int(counts[fitting(texts, None)].sum()) if self.texts.height else 0

    def _numbers(self) -> list[str | None]:
        """Return the units in which a column of numbers would be instants."""
        if self.dtype.is_float() or not len(self.values):
            return []
        texts = self.values.cast(pl.String).unique().head(1000)
        return [name for name in NUMBERS if bool(fitting(texts, name).all())]

    @cached_property
    def marks(self) -> list[str]:
        """The decimal marks with which most texts are amounts, best first; empty text for a typed column."""
        if self.dtype.is_numeric():
            return [""]
        fits = {mark: self._amounts(mark) for mark in (".", ",")} if self.texts.height else {}
        best = max(fits.values(), default=0)
        return [mark for mark, count in fits.items() if count == best and 2 * count > int(self.texts["count"].sum())]

    def _amounts(self, mark: str) -> int:
        amounts = parse_units(self.texts["text"], mark, 6)
        return int(self.texts["count"].filter(pl.Series(amounts.valid)).sum())

    @cached_property
    def marks_differ(self) -> bool:
        """Whether both decimal marks read all texts, as different amounts."""
        if len(self.marks) < 2:
            return False
        point, comma = (parse_units(self.texts["text"], mark, 6).units for mark in self.marks)
        return bool((point != comma).any())

    @cached_property
    def has_places(self) -> bool:
        """Whether amounts have decimal places, a currency or brackets."""
        if self.texts.height:
            return bool(self.texts["text"].str.contains(r"^[^0-9]*\(?[^0-9]*\d+[.,]\d{1,2}\D*$|[^0-9\s.,+-]").any())
        return self.dtype.is_float() or isinstance(self.dtype, pl.Decimal)

    @property
    def can_be_user(self) -> bool:
        """Whether the type is one of user ids."""
        dtype = self.dtype
        if dtype == pl.Binary:
            return bool((self.values.bin.size() == 16).all())
        whole = dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)
        return is_text(dtype) or whole

    @property
    def holds(self) -> str:
        """What the values are, in words."""
        if not len(self.values):
            return "nothing"
        if self.formats and self.formats[0] not in NUMBERS:
            shown = self.formats[0]
            return "instants" if shown is None else f"instants, {shown}"
        if is_text(self.dtype) and self.marks and not bool(self.texts["text"].str.contains(_DIGITS).all()):
            return "amounts"
        if is_text(self.dtype):
            return "numbers" if self.marks else "text"
        return "numbers" if self.dtype.is_numeric() else ""


def words(name: str) -> str:
    """Return the words of a name, in lower case: ``"createdAt (UTC)"`` are ``"created at utc"``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[^\W_]+", apart.casefold()))


def _ranked(names: str) -> list[str]:
    return names.split(", ")


_USERS = _ranked(
    "user id, userid, customer id, customerid, customer no, client id, account id, member id, subscriber id, "
    "profile id, app user id, customer user, player id, kundennummer, kunden nr, kunde, kunden id, customer, "
    "user, client, buyer id, customer email, billing email, email, e mail, buyer, cliente, id cliente, "
    "utilisateur, account, member, subscriber, household id, visitor id, person id, device id, customer name"
)
_TIMESTAMPS = _ranked(
    "timestamp, event timestamp, paid at, created at, created utc, created date utc, created, paid date, date "
    "paid, order date, purchase date, purchased at, processed at, invoice date, invoicedate, transaction date, "
    "payment date, charged at, event datetime, event time, event date, datetime, date time, date, time, datum, "
    "fecha, bestelldatum, rechnungsdatum, buchungsdatum, start time, occurred at, completed at, day, tag, ts"
)
_AMOUNTS = _ranked(
    "amount, amount usd, total, order total, total price, grand total, total amount, net amount, revenue, revenue "
    "usd, price, price usd, betrag, gesamtbetrag, summe, umsatz, importe, montant, amount paid, paid, value, "
    "order value, gross, net, sales, gmv, usd, eur, payment, subtotal, price in usd, unit price, spend, mrr"
)
_NOT_USERS = {"order", "invoice", "transaction", "currency", "country", "status", "city", "product", "sku", "item"}
_NOT_TIMES = {
    "updated", "expires", "expiry", "birth", "dob", "cancelled", "canceled", "refunded", "deleted", "due", "end",
    "ends", "modified", "shipped", "fulfilled", "install",
}  # fmt: skip
_NOT_AMOUNTS = {
    "id", "no", "number", "nr", "zip", "phone", "quantity", "qty", "tax", "taxes", "shipping", "discount", "fee",
    "refunded", "count", "age", "year", "month", "postal", "percentage", "rate", "code", "menge",
}  # fmt: skip
_CERTAIN = 50


def _by_name(name: str, known: list[str], other: set[str]) -> int:
    """Score a name: about 60 to 100 for a known one, half of that if it holds one, below 0 for other things."""
    text = words(name)
    if text in known:
        return 100 - known.index(text)
    if other & set(text.split()):
        return -100
    inside = [100 - rank for rank, each in enumerate(known) if re.search(rf"\b{re.escape(each)}\b", text)]
    return max(inside) // 2 if inside else 0


def _user(column: ColumnProfile) -> int:
    if not column.can_be_user or (column.formats and column.formats[0] not in NUMBERS):
        return -1
    score = _by_name(column.name, _USERS, _NOT_USERS)
    if score or not len(column.values):
        return score
    if column.texts.height and bool(column.texts["text"].head(_FIRST).str.contains("@").all()):
        return _CERTAIN
    repeated = column.distinct is not None and 0.02 * len(column.values) < column.distinct < len(column.values)
    return 5 if repeated and not (column.marks and column.has_places) else 0


def _timestamp(column: ColumnProfile) -> int:
    if column.series.null_count() == len(column.series) and len(column.series):
        return -1
    score = _by_name(column.name, _TIMESTAMPS, _NOT_TIMES)
    if not len(column.values):
        return score  # a table without rows has names only
    if not column.formats:  # a name that is plain is worth an error that says what is wrong
        return score // 4 if score >= _CERTAIN else -1
    numbers = column.formats[0] in NUMBERS
    return score if score or numbers else 10


def _amount(column: ColumnProfile) -> int:
    score = _by_name(column.name, _AMOUNTS, _NOT_AMOUNTS)
    if not len(column.values):
        return score if not len(column.series) else -1
    if not column.marks:
        return score // 4 if score >= _CERTAIN else -1
    return score or (10 if column.has_places else 1)


_SCORES: dict[str, Callable[[ColumnProfile], int]] = {"timestamp": _timestamp, "user": _user, "amount": _amount}


@dataclass(frozen=True)
class Guess:
    """The column of a role, others that could be it, and whether its name says so."""

    column: str | None
    others: tuple[str, ...] = ()
    certain: bool = False


def guess_columns(columns: list[ColumnProfile]) -> dict[str, Guess]:
    """Guess the columns of user, timestamp and amount, by names and by values."""
    chosen: dict[str, Guess] = {}
    for role, score_of in _SCORES.items():
        taken = {guess.column for guess in chosen.values()}
        scores = {column.name: _score(score_of, column) for column in columns if column.name not in taken}
        ranked = sorted((name for name in scores if scores[name] > 0), key=lambda name: -scores[name])
        if not ranked:
            chosen[role] = Guess(None)
            continue
        best = scores[ranked[0]]
        others = tuple(name for name in ranked[1:] if scores[name] > best // 2)[:3]
        chosen[role] = Guess(ranked[0], others, best >= _CERTAIN)
    return {role: chosen[role] for role in ("user", "timestamp", "amount")}


def _score(score_of: Callable[[ColumnProfile], int], column: ColumnProfile) -> int:
    try:
        return score_of(column)
    except (CohortlibError, pl.exceptions.PolarsError, PANIC):
        return -1  # a type that no role can have
