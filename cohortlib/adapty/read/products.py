"""Read the durations of products from a table."""

import polars as pl

from cohortlib.adapty.read.readers import text
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.specs import EVENT_COLUMNS, check_required
from cohortlib.adapty.read.tables import read_tables
from cohortlib.adapty.validation import DURATIONS
from cohortlib.errors import DataError, listed
from cohortlib.read.tables import Source

_COLUMNS = {"product_id": EVENT_COLUMNS["product_id"].accepted, "duration": ("duration",)}


def read_products(source: Source, reading: Reading) -> tuple[tuple[str, str], ...]:
    """Read a table of product_id and duration; return the pairs, sorted."""

    def choose(columns: list[str], _: str) -> list[str]:
        check_required(_COLUMNS, columns, "products")
        return [next(name for name in accepted if name in columns) for accepted in _COLUMNS.values()]

    fields = [name for accepted in _COLUMNS.values() for name in accepted]
    known = {name.lower(): name for name in DURATIONS}
    durations: dict[str, str] = {}
    for table in read_tables(source, choose, fields, reading):
        frame = pl.DataFrame([text(column).series for column in table.frame.iter_columns()])
        for product, duration in frame.iter_rows():
            if product is None or duration is None:
                raise DataError("products have nulls", expected="a product_id and a duration in each row")
            name = known.get(duration.lower())
            if name is None:
                raise DataError(
                    f"products: {duration[:40]!r} is not a duration",
                    value=duration,
                    expected=f"one of {listed(DURATIONS)}",
                )
            if durations.setdefault(product, name) != name:
                raise DataError(
                    f"products: {product!r} is {durations[product]} and {name}",
                    value=product,
                    expected="one duration for each product",
                )
    return tuple(sorted(durations.items()))
