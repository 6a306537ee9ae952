"""The calls: events, a request, installs, and the answer, or what some of the users give to it."""

from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from cohortlib.adapty import forecast, spill
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.parts import Part
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.events import Events, arriving_events, read_events
from cohortlib.adapty.read.installs import arriving_installs, read_installs
from cohortlib.adapty.read.tables import fitting
from cohortlib.adapty.request import Request
from cohortlib.engine.memory import budget
from cohortlib.engine.progress import Progress, check_progress
from cohortlib.engine.threads import workers_for
from cohortlib.errors import SettingError, one_of
from cohortlib.literals import Nulls
from cohortlib.periods import check_zone
from cohortlib.read.tables import Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


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
    max_memory: int | str | None = None,
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
        Whether to work out `predict` of each segment, by the chain ladder of older cohorts.
    nulls
        ``"error"``, or ``"drop"`` to leave out (and count) rows without a user, an instant or an amount.
    decimals
        Decimal places to which amounts are exact, 0 to 9.
    threads, progress
        Number of threads, by default all; a function that is told the rows done and the rows in all.
    max_memory
        Bytes that may be taken, or a text such as ``"4GB"`` or ``"512MiB"``; 60 % of what is free by default. Events
        and installs that would take more go to the folder of temporary files (``TMPDIR``) for the time being, by user,
        and are added up part by part. The answer does not depend on it.

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
    installs = needed(installs)
    one_of("predict", predict, (True, False))
    one_of("nulls", nulls, ("error", "drop"))
    question = question_of(
        request, conventions=conventions, timezone=timezone, decimals=decimals, threads=threads, progress=progress
    )
    room = budget(max_memory)
    arriving = arriving_events(events, **_of_events(question, nulls, predict=predict))
    events, need = fitting(events, arriving.choose, room, spill.WORK)
    coming = None
    if not _from_events(installs):
        coming = arriving_installs(installs, user_unit=question.conventions.user_unit, nulls=nulls)
        installs, more = fitting(installs, coming.choose, room - need, spill.WORK_OF_INSTALLS)
        need += more
    if need > room:
        arriving = replace(arriving, source=events)
        coming = None if coming is None else replace(coming, source=installs)
        whole, predictions = spill.add_up(question, arriving, coming, room=room, predict=predict)
        whole.tell()
        return whole.answer(predictions)
    read = events_for(question, events, nulls=nulls, predict=predict)
    who = installs_for(question, installs, nulls=nulls)
    whole = Part.of(read, who, question)
    whole.tell()
    return whole.answer(forecast.predict(read, who, question) if predict else None)


def part(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    timezone: str = "UTC",
    conventions: Conventions | None = None,
    nulls: Nulls = "error",
    decimals: int = 6,
    dates: "Collection[str] | None" = None,
    installs_dates: "Collection[str] | None" = None,
    secret: bytes | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Part:
    """Add up some of the users, to be added to all others.

    The parameters are those of :func:`cohort`, and these.

    Parameters
    ----------
    events, installs
        All rows of some users. Ready counts of installs are of all users together: give them to one part, and to the
        others the same table without a row.
    dates, installs_dates
        The columns of text that hold dates and not instants, of `events` and of `installs`. Such a column is told by
        its values, of which a part has only some: where parts may differ, say it for all of them.
    secret
        What parts of several processes must share, so that a chain of several users is known for one: some random
        bytes. Parts of one process need none.

    Returns
    -------
    Part
        Parts of disjoint users add with ``+``; ``.answer()`` of their sum is that of :func:`cohort`, to the bit, and
        so is ``.report``; ``.tell()`` gives its warnings. ``.table()`` and ``Part.of_table`` send it over a wire.

    Notes
    -----
    All parts need the same columns, of the same types. User ids that are wider than 64 bits are best cast to text.

    Examples
    --------
    >>> import polars as pl
    >>> from cohortlib import adapty
    >>> events = pl.DataFrame({
    ...     "profile_id": ["u1", "u2"], "event_type": "subscription_started", "event_datetime": "2026-02-10T09:00:00Z",
    ...     "transaction_id": ["100", "200"], "original_transaction_id": ["100", "200"], "environment": "Production",
    ...     "product_id": "monthly", "revenue_usd": [10.0, 5.0], "proceeds_usd": 7.0, "net_revenue_usd": 7.0,
    ... })
    >>> request = {"filters": {"date": ["2026-02-01", "2026-02-28"]}, "period_unit": "month"}
    >>> one, other = (adapty.part(events[[at]], request, installs="from_events") for at in (0, 1))
    >>> (one + other).answer().values.filter(type="total").select("period", "revenue_usd", "subscribers").rows()
    [(1, 15.0, 2)]
    """
    installs = needed(installs)
    one_of("nulls", nulls, ("error", "drop"))
    question = question_of(
        request, conventions=conventions, timezone=timezone, decimals=decimals, threads=threads, progress=progress
    )
    read = events_for(question, events, nulls=nulls, dates=dates)
    return Part.of(read, installs_for(question, installs, nulls=nulls, dates=installs_dates), question, secret=secret)


def question_of(
    request: "Mapping[str, object] | Request",
    *,
    timezone: str = "UTC",
    conventions: Conventions | None = None,
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Question:
    """Check what is asked for; the parameters are those of :func:`cohort`."""
    conventions = Conventions() if conventions is None else conventions
    if not isinstance(conventions, Conventions):
        raise SettingError(f"conventions={conventions!r} is no Conventions; expected cohortlib.adapty.Conventions(...)")
    one_of("decimals", decimals, range(10))
    check_zone(timezone)
    check_progress(progress)
    workers_for(threads)
    return Question(Request.of(request), conventions, timezone, decimals, threads, progress)


def needed(installs: Source | None) -> Source:
    """Refuse to go on without installs."""
    if installs is None:
        raise SettingError(
            "installs=None: the event export has no rows of installs, and every number per user needs them; expected a "
            "table of user and install_date. Hint: installs='from_events' counts only the users seen in the events"
        )
    return installs


def events_for(
    question: Question,
    events: Source,
    *,
    nulls: Nulls,
    predict: bool = False,
    spared: "Iterable[str]" = (),
    dates: "Collection[str] | None" = None,
) -> Events:
    """Read of some events what a question needs; `spared` and `dates` as in :func:`read_events`."""
    return read_events(events, **_of_events(question, nulls, predict=predict), spared=spared, dates=dates)


class _OfEvents(TypedDict):
    """What a question asks of the door of events."""

    user_unit: str
    refund_upgraded: str
    nulls: str
    wanted: set[str]
    threads: int | None


def _of_events(question: Question, nulls: Nulls, *, predict: bool) -> _OfEvents:
    return {
        "user_unit": question.conventions.user_unit,
        "refund_upgraded": question.conventions.refund_upgraded,
        "nulls": nulls,
        "wanted": question.wanted() | ({"duration"} if predict else set()),
        "threads": question.threads,
    }


def _from_events(installs: Source) -> bool:
    return isinstance(installs, str) and installs == "from_events"


def installs_for(
    question: Question, installs: Source, *, nulls: Nulls, dates: "Collection[str] | None" = None
) -> Installs:
    """Read installs as a question needs them, or take it that the events tell of them."""
    if _from_events(installs):
        return Installs(None)
    return Installs(*read_installs(installs, user_unit=question.conventions.user_unit, nulls=nulls, dates=dates))
