"""The public calls: `cohort` for all users at once, `sums` for some of them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from cohortlib.adapty import forecast, spill
from cohortlib.adapty.additive import Sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.keywords import DEFAULTS, PlanKeywords, with_settings
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.event_types import EventTypes, check_event_types
from cohortlib.adapty.read.events import Events, batched_events, read_events
from cohortlib.adapty.read.installs import batched_installs, read_installs
from cohortlib.adapty.read.products import read_products
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.tables import estimate_memory
from cohortlib.adapty.request import Request
from cohortlib.engine.memory import budget
from cohortlib.engine.progress import check_progress
from cohortlib.engine.threads import workers_for
from cohortlib.errors import Arg, SettingError, one_of
from cohortlib.literals import Nulls
from cohortlib.periods import check_zone
from cohortlib.read.tables import FileOptions, Source
from cohortlib.read.text import TextRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@with_settings
def cohort(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    predict: bool = False,
    nulls: Nulls = "error",
    max_memory: int | str | None = None,
    **settings: Unpack[PlanKeywords],
) -> Answer:
    """Compute the cohort table that Adapty's API returns for a request.

    Parameters
    ----------
    events
        The S3/GCS event export, webhook events as JSON lines or arrays, or RevenueCat's transactions: a path, glob,
        folder, URL or list of files (Parquet, CSV, TSV, JSON, Excel; also in .gz, .zst or .zip), or a frame with their
        column names.
    request
        The request body of the API.
    installs
        Required, since the export has no rows of installs. One row per user with the user's id and `install_date`,
        and optionally country, store and attribution_*; or ready counts, with `install_date` and `installs`; or
        ``"from_events"`` to count only users seen in the events.
    timezone
        The IANA zone of calendar days, as in the header ``Adapty-Tz``. Instants without a zone are UTC; dates are
        taken as they are.
    conventions
        Choices that the API's documents leave open; see :class:`Conventions`.
    event_types
        Names of event types that were renamed, each with Adapty's name of it:
        ``{"app_subscribed": "subscription_started"}``. Upper and lower case are the same. Other unknown types are left
        out, with a warning that names them.
    products
        A table of `product_id` and `duration` (Weekly, Monthly, 2 months, 3 months, 6 months, Annual, Lifetime or
        Uncategorized), for the filter on duration and for predictions. Products that are not listed have the duration
        of the events, else that of the period paid for.
    predict
        Whether to compute `predict` of each segment, by a chain ladder over older cohorts.
    nulls
        ``"error"``, or ``"drop"`` to drop and count rows without a user, an instant or an amount.
    decimals
        Decimal places to which amounts are exact, 0 to 9.
    timestamp_format, decimal, normalize
        How text is read, in all tables: the form of dates that are not ISO 8601 (``"%d/%m/%Y"``, ``"epoch_s"``), the
        decimal mark of amounts, and whether user ids are stripped of blanks (``"strip"``) and upper and lower case
        are the same too (``"casefold"``).
    encoding, sheet, storage_options
        How files are opened: the encoding of text files, the sheet of an Excel file, and options of the store for URLs.
    threads, progress
        Number of threads, by default all; a function called with the rows done and the rows in total.
    max_memory
        Bytes that may be used, or a text such as ``"4GB"`` or ``"512MiB"``; by default 60 % of the free memory. Events
        and installs that need more are partitioned by user, spilled to temporary files (in ``TMPDIR``), and aggregated
        one partition after another. The answer does not depend on it.

    Returns
    -------
    Answer
        The answer of the API as JSON, as frames and as CSV, and a report of the rows left out. Money is rounded once,
        from the exact sum. Both ends of `date` are inclusive, and nothing dated after it counts, unless `conventions`
        say otherwise.

    Raises
    ------
    RequestError
        The API would refuse the request.
    SettingError, SourceError, SchemaError, DataError
        Another argument, a file, a column or a value cannot be used.

    Notes
    -----
    The rules are those of Adapty's documents; docs/adapty.md lists them.

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
    installs = check_installs(installs)
    one_of("predict", predict, (True, False))
    one_of("nulls", nulls, ("error", "drop"))
    plan = make_plan(request, **settings)
    room = budget(max_memory)
    event_batches = batched_events(events, **_read_settings(plan, nulls, predict=predict))
    events, need = estimate_memory(events, event_batches.choose, plan.files, room, spill.EVENT_WORK)
    install_batches = None
    if not _is_from_events(installs):
        reading = plan.reading(installs=True)
        install_batches = batched_installs(installs, user_unit=plan.conventions.user_unit, nulls=nulls, reading=reading)
        installs, more = estimate_memory(installs, install_batches.choose, plan.files, room - need, spill.INSTALL_WORK)
        need += more
    if need > room:
        event_batches = replace(event_batches, source=events)
        if install_batches is not None:
            install_batches = replace(install_batches, source=installs)
        total, predictions = spill.aggregate(plan, event_batches, install_batches, room=room, predict=predict)
        event_batches.reading.doubts.warn(plan.conventions.user_unit, plan.rules.normalize)
        if install_batches is not None:
            install_batches.reading.doubts.warn(plan.conventions.user_unit, plan.rules.normalize)
    else:
        read = events_for(plan, events, nulls=nulls, predict=predict)
        listed = installs_for(plan, installs, nulls=nulls)
        total = Sums.of(read, listed, plan)
        predictions = forecast.predict(read, listed, plan) if predict else None
    total.warn()
    return total.answer(predictions)


@with_settings
def sums(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    nulls: Nulls = "error",
    secret: bytes | None = None,
    **settings: Unpack[PlanKeywords],
) -> Sums:
    """Compute the sums of some users, to be added to those of the others.

    The parameters are those of :func:`cohort`, except `predict` and `max_memory`, and these.

    Parameters
    ----------
    events, installs
        All rows of some users. A value needs all rows of each of RevenueCat's transactions, also if its user changed;
        values that share a transaction are not added. Ready counts of installs cover all users: pass them in one call,
        and the same table without rows in the others.
    secret
        Random bytes, the same in all processes whose sums are added; chains shared by several users are found by
        hashes that depend on it. Not needed within one process.

    Returns
    -------
    Sums
        Values of disjoint users add with ``+``. ``.answer()`` and ``.report`` of the total are those of :func:`cohort`,
        to the bit; ``.warn()`` issues its warnings. ``.table()`` and ``Sums.of_table`` convert to and from a table.

    Notes
    -----
    All calls need the same columns, of the same types. Cast user ids of more than 64 bits to text.

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
    >>> one, other = (adapty.sums(events[[at]], request, installs="from_events") for at in (0, 1))
    >>> (one + other).answer().values.filter(type="total").select("period", "revenue_usd", "subscribers").rows()
    [(1, 15.0, 2)]
    """
    installs = check_installs(installs)
    one_of("nulls", nulls, ("error", "drop"))
    plan = make_plan(request, **settings)
    read = events_for(plan, events, nulls=nulls)
    return Sums.of(read, installs_for(plan, installs, nulls=nulls), plan, secret=secret, part=True)


def make_plan(request: "Mapping[str, object] | Request", **settings: Unpack[PlanKeywords]) -> RequestPlan:
    """Check a request and its settings, those of :func:`cohort`."""
    options: dict[str, Any] = DEFAULTS | settings
    conventions = Conventions() if options["conventions"] is None else options["conventions"]
    if not isinstance(conventions, Conventions):
        raise SettingError(
            (Arg("conventions", conventions), " is not a Conventions object"),
            value=conventions,
            expected="cohortlib.adapty.Conventions(...)",
        )
    one_of("decimals", options["decimals"], range(10))
    check_zone(options["timezone"])
    check_progress(options["progress"])
    workers_for(options["threads"])
    rules = TextRules(options["timestamp_format"], options["decimal"], None, options["normalize"])
    files = FileOptions(options["encoding"], options["sheet"], options["storage_options"])
    plan = RequestPlan(
        Request.of(request), conventions, options["timezone"], options["decimals"], options["threads"],
        options["progress"], check_event_types(options["event_types"]), rules=rules, files=files,
    )  # fmt: skip
    products = options["products"]
    return plan if products is None else replace(plan, products=read_products(products, plan.reading()))


def check_installs(installs: Source | None) -> Source:
    """Raise if no installs are passed."""
    if installs is None:
        raise SettingError(
            (
                Arg("installs", None),
                ": the event export has no rows of installs, and every number per user needs them",
            ),
            expected="a table of user and install_date",
            hint=(Arg("installs", "from_events"), " counts only the users seen in the events"),
        )
    return installs


def events_for(
    plan: RequestPlan,
    events: Source,
    *,
    nulls: Nulls,
    predict: bool = False,
    keep: "Iterable[str]" = (),
    states: bool = True,
) -> Events:
    """Read the columns of events that a plan needs; `keep` and `states` as in :func:`read_events`."""
    return read_events(events, **_read_settings(plan, nulls, predict=predict), keep=keep, states=states)


class _ReadSettings(TypedDict):
    """Arguments of :func:`read_events`."""

    user_unit: str
    refund_upgraded: str
    nulls: str
    optional: set[str]
    threads: int | None
    missing_money: str
    zero_payments: str
    event_types: EventTypes
    reading: Reading


def _read_settings(plan: RequestPlan, nulls: Nulls, *, predict: bool) -> _ReadSettings:
    return {
        "user_unit": plan.conventions.user_unit,
        "refund_upgraded": plan.conventions.refund_upgraded,
        "nulls": nulls,
        "optional": plan.optional_columns() | ({"duration"} if predict else set()),
        "threads": plan.threads,
        "missing_money": plan.conventions.missing_money,
        "zero_payments": plan.conventions.zero_payments,
        "event_types": plan.event_types,
        "reading": plan.reading(),
    }


def _is_from_events(installs: Source) -> bool:
    return isinstance(installs, str) and installs == "from_events"


def installs_for(plan: RequestPlan, installs: Source, *, nulls: Nulls) -> Installs:
    """Read the installs that a plan needs; with ``"from_events"`` there is no table to read."""
    if _is_from_events(installs):
        return Installs(None)
    reading = plan.reading(installs=True)
    return Installs(*read_installs(installs, user_unit=plan.conventions.user_unit, nulls=nulls, reading=reading))
