"""Read the parsed JSON of Termina's API into the frames that cohortlib computes."""

from typing import Literal, get_args, overload

import polars as pl

from cohortlib.errors import ReplyError, listed, one_of
from cohortlib.fields import CONCENTRATION, TABLES, Endpoint, Fields, keys, required, schema
from cohortlib.literals import Freq
from cohortlib.network.json_rows import as_list, check_unique, frame, labels, listed_fields, preview
from cohortlib.termina.frames import Concentration

__all__ = ["endpoint_of", "read"]

Table = Literal["cohorts", "customer-cohorts", "user-accounting", "growth-accounting"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
SIGNED = ("churned",)  # the counts that are negative


@overload
def read(endpoint: Table, payload: object, *, freq: Freq | None = None) -> pl.DataFrame: ...


@overload
def read(endpoint: Literal["concentration"], payload: object, *, freq: Freq | None = None) -> Concentration: ...


@overload
def read(endpoint: Endpoint, payload: object, *, freq: Freq | None = None) -> pl.DataFrame | Concentration: ...


def read(endpoint: Endpoint, payload: object, *, freq: Freq | None = None) -> pl.DataFrame | Concentration:
    """Read a reply into a frame with exactly the fields of its endpoint; concentration has three frames.

    Parameters
    ----------
    endpoint
        ``"cohorts"``, ``"customer-cohorts"``, ``"user-accounting"``, ``"growth-accounting"`` or ``"concentration"``.
    payload
        Parsed JSON: a list of objects, or one object for concentration.
    freq
        The frequency of the periods. Periods that are dates (``2026-01-01``) are replaced by labels (``2026-01``).
        If None, it is inferred from the labels that are not dates; if all are dates, they stay dates.

    Raises
    ------
    ReplyError
        If the payload has another structure, a required field is missing, a value has the wrong type, a count is
        negative, or two rows have the same cohort or date, user and period.

    Notes
    -----
    Unknown fields have no columns, and missing fields that are optional in Termina's SDK are null. Numbers may be text,
    and integers may be written as 3.0. Numeric user ids are read as their digits.
    Periods that are neither dates nor labels raise a warning and stay as they are.

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
        raise ReplyError(f"the reply is {preview(payload)}", expected=f"one object with {listed(CONCENTRATION)}")
    if not set(CONCENTRATION) & set(payload):
        raise ReplyError(f"the reply has none of {listed(CONCENTRATION)}; its fields are {listed_fields(payload)}")
    lists = {name: payload.get(name) for name in CONCENTRATION}
    return Concentration(
        **{name: _table(CONCENTRATION[name], [] if rows is None else rows, freq, name) for name, rows in lists.items()}
    )


def _table(fields: Fields, payload: object, freq: Freq | None, name: str = "the reply") -> pl.DataFrame:
    name_row = "row {}".format if name == "the reply" else f"{name}, row {{}}".format
    needed = required(fields)
    optional = set(fields) - set(needed)
    table = frame(
        payload, schema(fields), required=needed, optional=optional, signed=SIGNED, name_row=name_row, name=name
    )
    period = next((field for field in ("cohort", "date") if field in fields), None)
    if period is not None:
        table = table.with_columns(labels(table[period], freq))
    if key := keys(fields):
        check_unique(table, key, "the rows")
    return table


def endpoint_of(payload: object) -> Endpoint:
    """Infer the endpoint of a payload from its fields; raise ReplyError if none matches, or there are no rows.

    >>> endpoint_of([{"cohort": "2026-01", "user_id": "a", "period": 0, "cohort_size_amount": 5.0}])
    'customer-cohorts'
    """
    if isinstance(payload, dict) and set(payload) & set(CONCENTRATION):
        return "concentration"
    rows = as_list(payload, "the reply")
    if not rows:
        raise ReplyError("the reply is an empty list, so its endpoint is unknown")
    first = rows[0]
    fields = set(first) if isinstance(first, dict) else set()
    # An endpoint whose fields include those of another is checked first.
    by_fields: tuple[Endpoint, ...] = ("customer-cohorts", "cohorts", "user-accounting", "growth-accounting")
    for endpoint in by_fields:
        if set(required(TABLES[endpoint])) <= fields:
            return endpoint
    row = f"the fields of its first row are {listed_fields(first)}" if fields else f"its first row is {preview(first)}"
    raise ReplyError(
        f"the reply matches none of Termina's endpoints: {row}",
        hint=f"cohorts have {listed(required(TABLES['cohorts']))}, accountings 'date' and 'active_users' or 'amount'",
    )
