"""The one call: events, a request, installs, and the answer."""

from typing import TYPE_CHECKING

from cohortlib.adapty import composing, forecast, sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.events import Events, read_events, read_installs
from cohortlib.adapty.question import Question
from cohortlib.adapty.request import Conventions, Request
from cohortlib.adapty.rows import Installs
from cohortlib.errors import SettingError, one_of
from cohortlib.partitions import Progress, check_progress, workers_for
from cohortlib.periods import check_zone
from cohortlib.schema import Nulls
from cohortlib.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def cohort(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    timezone: str = "UTC",
    conventions: Conventions | None = None,
    predict: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Compute the cohort table that Adapty's API returns for a request.

    Parameters
    ----------
    events
        The S3/GCS event export, webhook events as JSON lines, or RevenueCat's transactions: a frame with their
        column names, or the path or glob of CSV, Parquet or JSON lines files.
    request
        The body that the API takes.
    installs
        One row for each user, with the user's id and `install_date`, and where known country, store and
        attribution_*; or ready counts, with `install_date` and `installs`. ``"from_events"`` counts only users seen
        in the events. It must be given: the export has no rows of installs.
    timezone
        The IANA zone in which days are told, as in the header ``Adapty-Tz``. Instants without a zone are UTC, dates
        stand as they are.
    conventions
        What the API's documents leave open; see :class:`Conventions`.
    predict
        Whether to work out `predict` of each segment, by :mod:`cohortlib.adapty.forecast`.
    nulls
        ``"error"``, or ``"drop"`` to leave out (and count) rows without a user, an instant or an amount.
    decimals
        Decimal places to which amounts are exact, 0 to 9.
    threads, progress
        Number of threads, by default all; a function that is told the rows done and the rows in all.

    Returns
    -------
    Answer
        The answer of the API as JSON, as frames and as CSV, and a report of what was left out. Money is rounded once,
        from the exact sum; both ends of `date` are inclusive, and nothing dated after it counts unless
        `conventions` say so.

    Raises
    ------
    RequestError
        The request is one that the API would refuse.
    SettingError, SourceError, SchemaError, DataError
        Another argument, a file, a column or a value is not what the computation needs.

    Notes
    -----
    The rules are those of Adapty's documents; docs/adapty.md tells them one by one.

    Examples
    --------
    >>> import polars as pl
    >>> from cohortlib import adapty
    >>> events = pl.DataFrame({
    ...     "profile_id": ["u1", "u1"],
    ...     "event_type": ["subscription_started", "subscription_renewed"],
    ...     "event_datetime": ["2026-02-10T09:00:00Z", "2026-03-10T09:00:00Z"],
    ...     "transaction_id": ["100", "101"],
    ...     "original_transaction_id": ["100", "100"],
    ...     "environment": "Production",
    ...     "product_id": "monthly",
    ...     "revenue_usd": [10.0, 10.0],
    ...     "proceeds_usd": [7.0, 7.0],
    ...     "net_revenue_usd": [7.0, 7.0],
    ... })
    >>> installs = pl.DataFrame({"profile_id": ["u1", "u2"], "install_date": ["2026-02-03", "2026-02-10"]})
    >>> request = {"filters": {"date": ["2026-02-01", "2026-03-31"]}, "period_unit": "month"}
    >>> answer = adapty.cohort(events, request, installs=installs)
    >>> answer.values.filter(type="total").select("period", "revenue_usd", "arpu_usd", "subscribers").rows()
    [(1, 10.0, 5.0, 1), (2, 10.0, 10.0, 1)]
    """
    conventions = Conventions() if conventions is None else conventions
    if not isinstance(conventions, Conventions):
        raise SettingError(f"conventions={conventions!r} is no Conventions; expected cohortlib.adapty.Conventions(...)")
    installs = needed(installs)
    one_of("predict", predict, (True, False))
    one_of("nulls", nulls, ("error", "drop"))
    one_of("decimals", decimals, range(10))
    check_zone(timezone)
    check_progress(progress)
    workers_for(threads)
    question = Question(Request.of(request), conventions, timezone, decimals, threads, progress)
    read = events_for(question, events, nulls=nulls, predict=predict)
    who = installs_for(question, installs, nulls=nulls)
    total, report = sums.add_up(read, who, question)
    sums.tell(report)
    predictions = forecast.predict(read, who, question) if predict else None
    return composing.compose(total, question, report, predictions)


def needed(installs: Source | None) -> Source:
    """Refuse to go on without installs."""
    if installs is None:
        raise SettingError(
            "installs=None: the event export has no rows of installs, and every number per user needs them; expected a "
            "table of user and install_date. Hint: installs='from_events' counts only the users seen in the events"
        )
    return installs


def events_for(
    question: Question, events: Source, *, nulls: Nulls, predict: bool = False, spared: "Iterable[str]" = ()
) -> Events:
    """Read of some events what a question needs; `spared` as in :func:`read_events`."""
    return read_events(
        events,
        user_unit=question.conventions.user_unit,
        refund_upgraded=question.conventions.refund_upgraded,
        nulls=nulls,
        wanted=question.wanted() | ({"duration"} if predict else set()),
        spared=spared,
        threads=question.threads,
    )


def installs_for(question: Question, installs: Source, *, nulls: Nulls) -> Installs:
    """Read installs as a question needs them, or take it that the events tell of them."""
    if isinstance(installs, str) and installs == "from_events":
        return Installs(None)
    return Installs(read_installs(installs, user_unit=question.conventions.user_unit, nulls=nulls))
