"""The one call: transactions, the other table, and why ours is not the same."""

from typing import Any

from cohortlib.adapty.answer import Answer
from cohortlib.compare.explain.causes import Maker
from cohortlib.compare.explain.explanation import Explanation
from cohortlib.compare.explain.search import search
from cohortlib.compare.reconcile.compare import Report, reconcile
from cohortlib.compare.reconcile.files import SEGMENTS, VALUES
from cohortlib.compare.reconcile.sides import Side, tables
from cohortlib.compare.reconcile.tolerances import Tolerances
from cohortlib.engine.progress import Progress, check_progress
from cohortlib.errors import SchemaError, SettingError, listed
from cohortlib.read.tables import Source


def explain(
    transactions: Source,
    remote: Side,
    *,
    seconds: float = 120.0,
    tolerances: Tolerances | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401
) -> Explanation:
    """Explain why a vendor's table is not the one that transactions give.

    The table is recomputed under other settings and with faults of the data, each alone and then together, until it
    is the other one or nothing makes more cells agree.

    Parameters
    ----------
    transactions
        What :func:`cohortlib.termina.cohorts` takes; for a table of Adapty's, the events that
        :func:`cohortlib.adapty.cohort` takes. Other columns of dates are tried as the dates that make the cohorts.
    remote
        The other table: cohorts or customer cohorts of Termina, an answer of Adapty's, or the file of one.
    seconds
        After this time no further combination is tried.
    tolerances
        As for :func:`cohortlib.reconcile`.
    progress
        Called with the number of combinations that were tried, and of all as far as is known.
    **settings
        The settings of the call that makes our table: ``user=``, ``timezone=``, ``refunds=`` and so on; for Adapty
        ``request=`` (where `remote` does not have one), ``installs=``, ``timezone=``, ``conventions=``. The unit of
        periods is read from the labels of `remote`.

    Returns
    -------
    Explanation
        With ``print``, the findings in sentences; ``ranking``, every combination and how many cells agree under it;
        ``explained``, each cell that differs and its cause; ``settings``, the arguments of the best; ``report``, what
        still differs.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for the call that makes the table, and for :func:`cohortlib.reconcile`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": ["2026-01-31T23:40:00Z", "2026-02-10T12:00:00Z", "2026-02-20T12:00:00Z"],
    ...     "amount": [100.0, 80.0, 50.0],
    ... }).with_columns(pl.col("timestamp").str.to_datetime(time_zone="UTC"))
    >>> remote = cl.termina.cohorts(rows, timezone="Europe/Berlin")
    >>> why = cl.explain(rows, remote)
    >>> why.ok, why.settings
    (True, {'timezone': 'Europe/Berlin'})
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise SettingError(f"seconds={seconds!r} is no time; expected a number above 0")
    check_progress(progress)
    maker, other = _maker(transactions, remote, settings)

    def compare(table: Any) -> Report:  # noqa: ANN401 - a frame, or an Answer
        return reconcile(table, other, tolerances=tolerances)

    found = search(maker, compare, seconds=seconds, progress=progress)
    causes = found.best.causes
    reports = tuple(compare(maker.table(causes[:count])) for count in range(len(causes) + 1))
    return Explanation(found, reports, tuple(maker.suspects(causes, reports[-1])))


def _maker(transactions: Source, remote: Side, settings: dict[str, Any]) -> tuple[Maker, Side]:
    """Choose who recomputes the table, by what the other one holds."""
    held = tables(remote, "remote")
    if "" in held:
        from cohortlib.compare.explain.termina.maker import TerminaMaker

        table = held[""]
        if not {"cohort", "period"} <= set(table.columns):
            raise SchemaError(
                f"remote has the columns {listed(table.columns)}; expected cohorts or customer cohorts of Termina "
                "(cohort, period), or an answer of Adapty's with its segments and values"
            )
        return TerminaMaker.of(transactions, table, settings), table
    from cohortlib.adapty.compute import check_installs
    from cohortlib.compare.explain.adapty.maker import AdaptyMaker

    known = ("request", "installs", "timezone", "conventions", "nulls", "decimals", "threads")
    for name in settings:
        if name not in known:
            raise SettingError(f"{name}= is no setting of Adapty's table; expected any of {listed(known)}")
    asked = dict(settings)
    request = asked.pop("request", None) or (remote.request if isinstance(remote, Answer) else None)
    if request is None:
        raise SettingError("request=None: the file of an answer does not tell what was asked; expected the request")
    asked["installs"] = check_installs(asked.get("installs"))
    maker = AdaptyMaker(transactions, (held[SEGMENTS], held[VALUES]), request, **asked)
    return maker, maker.remote
