"""Read numbers that a table holds as text, recognize percentages, and find the decimal places of values."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.reconcile.labels import row_of
from cohortlib.errors import DataError
from cohortlib.fields import ALL_TABLES, Field, kind_of
from cohortlib.read.money import CODES

MOST_PLACES = 6  # values with more decimal places count as not rounded
_MOST_UNITS = 2.0**52  # larger floats have no decimal places
_BLANK = r"[\s\x{a0}\x{2007}\x{2009}\x{202f}]"
_GROUPED = r"[+-]?(?:\d+|\d{{1,3}}(?:[{separators}]\d{{3}})+)(?:{mark}\d*)?(?:[eE][+-]?\d+)?"
_SEPARATORS = r"'\x{2019} \x{a0}\x{2007}\x{2009}\x{202f}"
_POINT = "^" + _GROUPED.format(separators="," + _SEPARATORS, mark=r"\.") + "$"
_COMMA = "^" + _GROUPED.format(separators="." + _SEPARATORS, mark=",") + "$"
_CURRENCY = rf"(\p{{Sc}}|{'|'.join(sorted(CODES))})"
_NUMBERS: dict[str, Field] = {
    name: field for table in ALL_TABLES for name, field in table.items() if field.kind not in ("text", "flag", "struct")
}


def with_numbers(table: pl.DataFrame, side: str) -> tuple[pl.DataFrame, list[str]]:
    """Convert fields of numbers that are text to numbers. Returns also what was found, in words.

    A column of which no value is a number stays text. Raises DataError if only some values are numbers.
    """
    found: dict[str, list[str]] = {}
    columns = []
    for name in table.columns:
        if name in _NUMBERS and table.schema[name] == pl.String:
            column, words = _parsed(table[name], side)
            columns.append(column)
            for word in words:
                found.setdefault(word, []).append(name)
    return table.with_columns(columns), [f"{', '.join(names)}: {word}" for word, names in found.items()]


def _parsed(column: pl.Series, side: str) -> tuple[pl.Series, list[str]]:
    """Parse a column of text as numbers, or return it as it is if no value is a number."""
    texts = column.str.replace_all(f"^{_BLANK}+|{_BLANK}+$", "").replace("", None)
    percent = texts.str.ends_with("%").fill_null(value=False)
    bare = texts.str.replace(f"{_BLANK}*%$", "") if percent.any() else texts
    numbers = bare.cast(pl.Float64, strict=False)
    words = ["numbers as text"]
    if numbers.null_count() > bare.null_count():
        bare, found = _without_currency(bare.str.replace(r"^\((.*)\)$", "-$1"), column, side)
        words += found
        numbers = bare.cast(pl.Float64, strict=False)
    if numbers.null_count() > bare.null_count():
        numbers, found = _grouped(bare, column, side)
        words += found
    if _NUMBERS[column.name].kind not in ("share", "ratio", "percent"):
        numbers = numbers.set(percent, None)
    bad = numbers.is_null() & bare.is_not_null()
    if bad.all() and len(column):
        return column, []
    if bad.any():
        value = column.filter(bad)[0]
        raise DataError(
            f"column {column.name!r} of {side} has {value!r} in row {row_of(column, value)}, which is not a number "
            f"({bad.sum():,} of {len(column):,} values)",
            value=value,
            expected="numbers such as 1234.5",
        )
    if percent.any():
        mixed = numbers.filter(~percent & (numbers != 0).fill_null(value=False))
        if len(mixed):
            value = column.filter(~percent & (numbers != 0).fill_null(value=False))[0]
            raise DataError(
                f"column {column.name!r} of {side} has {value!r} in row {row_of(column, value)} without a percent "
                f"sign, and {percent.sum():,} values with one",
                value=value,
                expected="a percent sign in all values or in none",
            )
        words = ["percentages as text"]
        if kind_of(column.name) != "percent":
            numbers = as_fraction(numbers)
    if _NUMBERS[column.name].kind == "count" and (numbers == numbers.round()).all():
        numbers = numbers.cast(pl.Int64, strict=False)
    return numbers.alias(column.name), words


def _without_currency(texts: pl.Series, column: pl.Series, side: str) -> tuple[pl.Series, list[str]]:
    """Cut off currency signs and codes, which must be the same in all values."""
    currencies = texts.str.extract(_CURRENCY)
    distinct = currencies.drop_nulls().unique(maintain_order=True)
    if len(distinct) > 1:
        first, second = ((currencies == currency).arg_true()[0] for currency in distinct[:2])
        raise DataError(
            f"column {column.name!r} of {side} has amounts in {distinct[0]} ({column[first]!r} in row {first + 1:,}) "
            f"and in {distinct[1]} ({column[second]!r} in row {second + 1:,})",
            value=column[second],
            expected="amounts in one currency",
        )
    bare = texts.str.replace_all(rf"{_BLANK}*{_CURRENCY}{_BLANK}*", "")
    return bare, ["amounts with a currency"] if len(distinct) else []


def _grouped(texts: pl.Series, column: pl.Series, side: str) -> tuple[pl.Series, list[str]]:
    """Parse numbers with thousands separators or a decimal comma, whichever fits all values."""
    point, comma = (
        pl.select(
            pl.when(texts.str.contains(form)).then(
                texts.str.replace_all(f"[{separators}{_SEPARATORS}]", "").str.replace(mark, ".", literal=True)
            )
        )
        .to_series()
        .cast(pl.Float64, strict=False)
        for form, separators, mark in ((_POINT, ",", "."), (_COMMA, ".", ","))
    )
    fits = [parsed.null_count() == texts.null_count() for parsed in (point, comma)]
    if all(fits) and _NUMBERS[column.name].kind != "count" and not point.equals(comma):
        index = point.ne_missing(comma).arg_true()[0]
        raise DataError(
            f"column {column.name!r} of {side} has {column[index]!r} in row {index + 1:,}, which can be "
            f"{point[index]:,.10g} or {comma[index]:.10g}, and no other value decides",
            value=column[index],
            expected="numbers such as 1234.5",
            hint="write the numbers without thousands separators",
        )
    if fits[1] and not fits[0]:
        return comma, ["a decimal comma"]
    return point, ["thousands separators"]


def as_fraction(percentages: pl.Series) -> pl.Series:
    """Return percentages as fractions, to the decimal places they have plus two."""
    places = decimal_places(percentages)
    values = percentages.to_numpy()
    fractions = values / 100 if places is None else np.round(values * 10.0**places) / 10.0 ** (places + 2)
    return pl.Series(percentages.name, fractions).set(percentages.is_null(), None)


def decimal_places(values: pl.Series) -> int | None:
    """Return the decimal places that all values have at most, or None if some have more than MOST_PLACES.

    >>> decimal_places(pl.Series([0.5, 0.25])), decimal_places(pl.Series([1 / 3]))
    (2, None)
    """
    numbers = values.drop_nulls().to_numpy()
    places = 0
    for part in (numbers[:1000], numbers):  # the first values usually decide
        while places <= MOST_PLACES and not _have_places(part, places):
            places += 1
    return places if places <= MOST_PLACES else None


def _have_places(values: NDArray[np.float64], places: int) -> bool:
    units = values * 10.0**places
    # The last bits may be off: 3 * 0.1 is no float of one decimal place.
    near = np.abs(units - np.round(units)) <= np.abs(units) * 2.0**-50
    return bool((near & (np.abs(units) < _MOST_UNITS)).all())


def with_fractions(table: pl.DataFrame, keys: tuple[str, ...]) -> tuple[pl.DataFrame, list[str]]:
    """Convert shares that are percentages to fractions, where the values prove it. Returns also what was found.

    A share of the first period is 1, so a column of which all values at period 0 are 100 holds percentages, as does
    one that is 100 times the quotient of two other fields.
    """
    columns, found = [], []
    for name in table.columns:
        field = _NUMBERS.get(name)
        if field is None or field.kind not in ("share", "percent") or not table.schema[name].is_numeric():
            continue
        factor = _factor(table, field, keys)
        if field.kind == "share" and factor == 100:
            columns.append(as_fraction(table[name].cast(pl.Float64)).alias(name))
            found.append(f"{name}: percentages, compared as fractions")
        elif field.kind == "percent" and factor == 1:
            columns.append((table[name].cast(pl.Float64) * 100).alias(name))
            found.append(f"{name}: fractions, compared as percentages")
    return table.with_columns(columns), found


def _factor(table: pl.DataFrame, field: Field, keys: tuple[str, ...]) -> float | None:
    """Return what all values of 1 are written as: 1 or 100; None if that cannot be known."""
    values = table[field.name].cast(pl.Float64)
    if "period" in keys and table.schema["period"].is_integer() and table["period"].count():
        first = values.filter(table["period"] == table["period"].min()).drop_nulls()
        first = first.filter(first != 0)
        for factor in (1.0, 100.0):
            if len(first) and (first == factor).all():
                return factor
    parts = field.quotient
    if parts is None or not all(part in table.columns and table.schema[part].is_numeric() for part in parts):
        return None
    quotient = table[parts[0]].cast(pl.Float64) / table[parts[1]].cast(pl.Float64)
    for factor in (1.0, 100.0):
        apart = (quotient * factor - values).abs().drop_nulls().drop_nans()
        # Retention may be rounded, but to whole percents at most.
        if len(apart) and (apart <= 0.005 * factor + 1e-9).all() and values.max() > 0.02 * factor:  # type: ignore[operator]
            return factor
    return None
