"""From rows to a triangle: a row per cohort, a column per age."""

import polars as pl

from cohortlib.errors import DataError, SchemaError, listed

_KEYS = ("cohort", "user_id")


def triangle(table: pl.DataFrame, value: str) -> pl.DataFrame:
    """Lay one field of a cohort table out wide.

    Parameters
    ----------
    table
        What :func:`cohortlib.termina.cohorts` or :func:`cohortlib.termina.customer_cohorts` gave, or any frame with
        ``cohort`` (and ``user_id``), ``period`` and the field.
    value
        The field, such as ``"logo_retention"``.

    Returns
    -------
    polars.DataFrame
        A row per cohort (per customer), in the order of the table; ``cohort`` (and ``user_id``), then one column for
        each age, named ``"0"``, ``"1"`` and so on, of the field's type. An age that is not yet observed is null,
        never 0.

    Raises
    ------
    SchemaError
        Where a column is missing.
    DataError
        Where a cohort (a customer) has the same age twice.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> table = pl.DataFrame({"cohort": ["2026-01", "2026-01", "2026-02"], "period": [0, 1, 0], "ltv": [5.0, 7.5, 4.0]})
    >>> cl.triangle(table, "ltv").rows()
    [('2026-01', 5.0, 7.5), ('2026-02', 4.0, None)]
    """
    if not isinstance(table, pl.DataFrame):
        raise SchemaError(f"a {type(table).__qualname__} is no cohort table; expected a polars DataFrame")
    keys = [name for name in _KEYS if name in table.columns]
    for name in ("cohort", "period", value):
        if name not in table.columns:
            raise SchemaError(f"column {name!r} is not in the table; columns are {listed(table.columns)}")
    if not table.height:
        return table.select(keys)
    if table.select(pl.struct(*keys, "period").is_duplicated().any()).item():
        raise DataError(f"the table has rows of the same {' and '.join(keys)} and period; expected one for each age")
    top = int(table["period"].max())  # type: ignore[arg-type]
    ages = [str(age) for age in range(top + 1)]
    wide = table.select(*keys, "period", value).pivot("period", index=keys, values=value, maintain_order=True)
    missing = [pl.lit(None, table[value].dtype).alias(age) for age in ages if age not in wide.columns]
    return wide.with_columns(missing).select(*keys, *ages)
