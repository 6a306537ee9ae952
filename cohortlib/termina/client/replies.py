"""Read what Termina's API sends, already parsed from JSON, into the frames that the local computation gives."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import polars as pl

from cohortlib.errors import ReplyError, listed, one_of
from cohortlib.fields import CONCENTRATION, TABLES, Endpoint, Fields, required, schema
from cohortlib.network.json_rows import as_list, frame, labels, shown
from cohortlib.periods import Freq

__all__ = ["Concentration", "endpoint_of", "read"]

Table = Literal["cohorts", "customer-cohorts", "user-accounting", "growth-accounting"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)


@dataclass(frozen=True, repr=False)
class Concentration:
    """How much of the amount the largest users hold.

    Attributes
    ----------
    time_series_metrics
        One row for each period.
    endpoint_top_users
        The largest users of the last period.
    endpoint_cdf
        The distribution in the last period, from the smallest user up.
    """

    time_series_metrics: pl.DataFrame
    endpoint_top_users: pl.DataFrame
    endpoint_cdf: pl.DataFrame

    def __repr__(self) -> str:
        return (
            f"Concentration({self.time_series_metrics.height:,} periods, "
            f"{self.endpoint_top_users.height:,} top users, {self.endpoint_cdf.height:,} points)"
        )

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Give the JSON that the API returns, as Python values."""
        return {name: getattr(self, name).to_dicts() for name in CONCENTRATION}


@overload
def read(endpoint: Table, payload: object, *, freq: Freq | None = None) -> pl.DataFrame: ...


@overload
def read(endpoint: Literal["concentration"], payload: object, *, freq: Freq | None = None) -> Concentration: ...


@overload
def read(endpoint: Endpoint, payload: object, *, freq: Freq | None = None) -> pl.DataFrame | Concentration: ...


def read(endpoint: Endpoint, payload: object, *, freq: Freq | None = None) -> pl.DataFrame | Concentration:
    """Read a reply into a frame of exactly the fields of its endpoint, or into three for concentration.

    Parameters
    ----------
    endpoint
        ``"cohorts"``, ``"customer-cohorts"``, ``"user-accounting"``, ``"growth-accounting"`` or ``"concentration"``.
    payload
        What JSON gave: a list of objects, or one object for concentration.
    freq
        The unit of the periods. With it, periods that come as dates (``2026-01-01``) get our labels (``2026-01``).
        None: as the labels that are no dates say; where all are dates, dates they stay.

    Raises
    ------
    ReplyError
        Where the payload has another shape, a required field is missing, or a value is not of its type.

    Notes
    -----
    Unknown fields are passed over, and fields that Termina's SDK lets be absent are null. Numbers may come as text,
    and whole numbers as 3.0. User names that come as numbers are read as their digits.

    Examples
    --------
    >>> read("user-accounting", [{"date": "2026-01-01", "active_users": "3"}], freq="M").row(0)[:3]
    ('2026-01', 3, None)
    """
    one_of("endpoint", endpoint, ENDPOINTS)
    if freq is not None:
        one_of("freq", freq, ("D", "W", "M", "Q", "A"))
    if endpoint != "concentration":
        return _table(TABLES[endpoint], payload, freq)
    if not isinstance(payload, dict):
        raise ReplyError(f"the reply is {shown(payload)}; expected one object with {listed(CONCENTRATION)}")
    if not set(CONCENTRATION) & set(payload):
        raise ReplyError(f"the reply has none of {listed(CONCENTRATION)}; its fields are {listed(payload)}")
    lists = {name: payload.get(name) for name in CONCENTRATION}
    return Concentration(
        **{name: _table(CONCENTRATION[name], [] if rows is None else rows, freq, name) for name, rows in lists.items()}
    )


def _table(fields: Fields, payload: object, freq: Freq | None, what: str = "the reply") -> pl.DataFrame:
    at = "row {}".format if what == "the reply" else f"{what}, row {{}}".format
    needed = required(fields)
    table = frame(payload, schema(fields), required=needed, optional=set(fields) - set(needed), at=at, what=what)
    period = next((field for field in ("cohort", "date") if field in fields), None)
    return table if period is None else table.with_columns(labels(table[period], freq))


def endpoint_of(payload: object) -> Endpoint:
    """Tell which endpoint a payload is of, by its fields.

    Raises
    ------
    ReplyError
        Where it is of none, or has no rows to tell it by.

    Examples
    --------
    >>> endpoint_of([{"cohort": "2026-01", "user_id": "a", "period": 0, "cohort_size_amount": 5.0}])
    'customer-cohorts'
    """
    if isinstance(payload, dict) and set(payload) & set(CONCENTRATION):
        return "concentration"
    rows = as_list(payload, "the reply")
    if not rows:
        raise ReplyError("the reply is an empty list, which does not tell of which endpoint it is")
    fields = set(rows[0]) if isinstance(rows[0], dict) else set()
    # One with more fields comes before one that has but some of them.
    told_by: tuple[Endpoint, ...] = ("customer-cohorts", "cohorts", "user-accounting", "growth-accounting")
    for endpoint in told_by:
        if set(required(TABLES[endpoint])) <= fields:
            return endpoint
    told = f"the fields of its first row are {listed(rows[0])}" if fields else f"its first row is {shown(rows[0])}"
    raise ReplyError(
        f"the reply is of none of Termina's endpoints: {told}. Hint: cohorts have "
        f"{listed(required(TABLES['cohorts']))}, accountings 'date' and 'active_users' or 'amount'"
    )
