"""The public calls: `cohort` for all users at once, `sums` for some of them."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, overload

from cohortlib.adapty import forecast, spill
from cohortlib.adapty.additive import Sums, occurrences, repeated
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.by import By, add_up
from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.inputs import Batched, Inputs, events_for, installs_for
from cohortlib.adapty.keywords import DEFAULTS, PlanKeywords, with_settings
from cohortlib.adapty.members import Behind
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.event_types import check_event_types
from cohortlib.adapty.read.products import read_products
from cohortlib.adapty.request import Request
from cohortlib.engine.progress import check_progress
from cohortlib.engine.threads import workers_for
from cohortlib.errors import Arg, SettingError, one_of
from cohortlib.literals import Nulls
from cohortlib.periods import check_zone
from cohortlib.read.tables import FileOptions, Source
from cohortlib.read.text import TextRules

if TYPE_CHECKING:
    from collections.abc import Mapping


@overload
def cohort(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    predict: bool = False,
    nulls: Nulls = "error",
    max_memory: int | str | None = None,
    by: None = None,
    **settings: Unpack[PlanKeywords],
) -> Answer: ...
@overload
def cohort(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    predict: bool = False,
    nulls: Nulls = "error",
    max_memory: int | str | None = None,
    by: str,
    **settings: Unpack[PlanKeywords],
) -> dict[str | None, Answer]: ...
@with_settings
def cohort(
    events: Source,
    request: "Mapping[str, object] | Request",
    *,
    installs: Source | None = None,
    predict: bool = False,
    nulls: Nulls = "error",
    max_memory: int | str | None = None,
    by: str | None = None,
    **settings: Unpack[PlanKeywords],
) -> Answer | dict[str | None, Answer]:
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
    by
        One answer per value of a column: a filter of the request, such as ``"country"``, or any column of Adapty's
        events with text. It selects transactions as a filter does. Installs are selected by store, country and
        attribution, and by any other column that their table has.

    Returns
    -------
    Answer
        The answer of the API as JSON, as frames and as CSV, and a report of the rows left out. Money is rounded once,
        from the exact sum. Both ends of `date` are inclusive, and nothing dated after it counts, unless `conventions`
        say otherwise. With `by`, a dictionary of value and answer, ordered by value; each is the answer with a filter
        on the value, and that of None, the last, is of rows without one. Of values that are compared in any spelling,
        the key is the smallest spelling.

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
    >>> answers = adapty.cohort(events, request, installs=installs, by="product_id")
    >>> {product: answer.segments["total_revenue_usd"][0] for product, answer in answers.items()}
    {'monthly': 20.0}
    """
    installs = check_installs(installs)
    one_of("predict", predict, (True, False))
    one_of("nulls", nulls, ("error", "drop"))
    plan = make_plan(request, **settings)
    inputs = Inputs(events, installs, plan, nulls, max_memory, predict, None if by is None else By.of(by))
    return _answer(inputs) if inputs.by is None else _answers(inputs, inputs.by)


def _answer(inputs: Inputs) -> Answer:
    rows, plan, predict = inputs.read(), inputs.plan, inputs.predict
    predictions = None
    if isinstance(rows, Batched):
        total, predictions = spill.aggregate(plan, rows.events, rows.installs, room=rows.room, predict=predict)
        rows.warn(plan)
    else:
        total = Sums.of(*rows, plan)
        predictions = forecast.predict(*rows, plan) if predict else None
    total.warn()
    answer = total.answer(predictions)
    return replace(answer, behind=Behind(inputs, total.counts["rows"]))


def _answers(inputs: Inputs, by: By) -> dict[str | None, Answer]:
    rows, plan, predict = inputs.read(), inputs.plan, inputs.predict
    if isinstance(rows, Batched):
        total, answers = spill.aggregate_by(plan, by, rows.events, rows.installs, room=rows.room, predict=predict)
        rows.warn(plan)
    else:
        since = forecast.earliest(*rows, plan.request.date[0]) if predict else None
        total = add_up(*rows, plan, by, since)
        chains = total.nothing.chains
        answers = total.answers(plan, by, repeated(chains), partial(occurrences, chains), predict=predict)
    total.warn()
    rows_read = total.nothing.counts["rows"]
    return {text: replace(answer, behind=Behind(inputs, rows_read, text)) for text, answer in answers.items()}


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
    return Sums.of(read, installs_for(plan, installs, nulls=nulls, every=False), plan, secret=secret, part=True)


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
