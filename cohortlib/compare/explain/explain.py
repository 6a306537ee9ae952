"""The public call `explain`."""

from collections.abc import Iterator
from math import log10
from time import monotonic
from typing import Any

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.compare.explain.causes import LocalTable
from cohortlib.compare.explain.evidence import Evidence, judge
from cohortlib.compare.explain.explanation import Explanation
from cohortlib.compare.explain.search import Trial, search
from cohortlib.compare.reconcile.compare import Report
from cohortlib.compare.reconcile.compare import reconcile_as_written as reconcile
from cohortlib.compare.reconcile.files import SEGMENTS, VALUES
from cohortlib.compare.reconcile.sides import Side, tables
from cohortlib.compare.reconcile.tolerances import Tolerances
from cohortlib.engine.progress import Progress, check_progress
from cohortlib.errors import Arg, SchemaError, SettingError, listed
from cohortlib.fields import CONCENTRATION
from cohortlib.forks import check_fork
from cohortlib.read.tables import Source

_CONFIRMED, _FEW = 1.05, 5  # cells that may differ by the public call: per cell that differs in the search, and more


def explain(
    transactions: Source,
    remote: Side,
    *,
    seconds: float = 120.0,
    tolerances: Tolerances | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401
) -> Explanation:
    """Find out why a vendor's table differs from the one computed from transactions.

    The local table is recomputed under other settings and with simulated data faults, first one at a time and then in
    combination, until it equals the remote table or no further change makes more cells agree.

    Parameters
    ----------
    transactions
        As for :func:`cohortlib.termina.cohorts`; for a table of Adapty's, the events as for
        :func:`cohortlib.adapty.cohort`. Further date columns are tried as the dates that define cohorts.
    remote
        The vendor's table: Termina's cohorts, customer cohorts, accountings or concentration, an answer of Adapty's,
        or a file of any of these.
    seconds
        Time limit: after it no further combination is tried.
    tolerances
        As for :func:`cohortlib.reconcile`.
    progress
        Called with the number of combinations tried, and the number to try as known so far.
    **settings
        The settings of the local table: ``user=``, ``timezone=``, ``refunds=`` and so on; for Adapty ``request=``
        (unless `remote` has one), ``installs=``, ``timezone=``, ``conventions=``. The period unit is read from the
        labels of `remote`.

    Returns
    -------
    Explanation
        ``print`` shows the result in sentences. ``ranking`` has every combination and how many cells agree under it,
        ``explained`` each differing cell and its cause, ``settings`` the arguments that reproduce the best
        combination, ``report`` what still differs.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for the call that computes the table, and for :func:`cohortlib.reconcile`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> rows = pl.DataFrame({
    ...     "user_id": [row * 7 % 40 for row in range(300)],
    ...     "timestamp": [f"2026-{1 + row * 5 % 7:02}-{1 + row * 11 % 28:02}" for row in range(300)],
    ...     "amount": [row * 37 % 101 - 20.0 for row in range(300)],
    ... })
    >>> remote = cl.termina.cohorts(rows, refunds="drop")
    >>> why = cl.explain(rows, remote)
    >>> why.ok, why.settings
    (True, {'refunds': 'drop'})
    """
    check_fork()
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise SettingError((Arg("seconds", seconds), " is not a duration"), value=seconds, expected="a number above 0")
    check_progress(progress)
    begun = monotonic()
    local, remote_table = _local_table(transactions, remote, settings, tolerances)

    table = local.recompute(())  # errors of the settings are those of the call that computes the table
    limits = {**local.rounding, **(tolerances or {})}

    def compare(table: Any) -> Report:  # noqa: ANN401 - a frame, or an Answer
        return reconcile(table, remote_table, tolerances=limits)

    unchanged = compare(table)

    def confirm(trial: Trial) -> bool:
        """Check a combination by the public call: as few cells may differ as in the search's own table."""
        report = compare(local.recompute(trial.causes))
        return report.total - report.agreeing <= _CONFIRMED * trial.standing.differing + _FEW

    result = search(local, seconds=seconds, progress=progress, begun=begun, confirm=confirm)
    causes = result.best.causes
    reports = (unchanged, *(compare(local.recompute(causes[: count + 1])) for count in range(len(causes))))
    return Explanation(
        result,
        reports,
        tuple(local.describe_remaining(causes, reports[-1])),
        tuple(_needed(local, result.best)),
        (*local.forms, *_rounded(local, tolerances or {})),
    )


def _needed(local: LocalTable, best: Trial) -> Iterator[Evidence]:
    """Yield the evidence of each cause: the cells that agree because of it, next to the other causes."""
    for cause in best.causes:
        others = local.standing(tuple(other for other in best.causes if other != cause))
        yield judge(others, best.standing, cause.bits, local.places, partial=cause.partial)


def _rounded(local: LocalTable, tolerances: Tolerances) -> Iterator[str]:
    """List which fields the remote side rounds, and to how many decimal places."""
    fields: dict[int, list[str]] = {}
    for name, limit in local.rounding.items():
        if name not in tolerances:
            fields.setdefault(round(-log10(2 * limit)), []).append(name)
    for places, names in fields.items():
        yield f"{', '.join(names)}: rounded to {places} decimal place{'' if places == 1 else 's'}"


def _local_table(
    transactions: Source, remote: Side, settings: dict[str, Any], tolerances: Tolerances | None = None
) -> tuple[LocalTable, Side]:
    """Return the local table of the same vendor as the remote one, and the remote table itself."""
    remote_tables = tables(remote, "remote")
    if set(remote_tables) == set(CONCENTRATION) or "date" in remote_tables.get("", pl.DataFrame()).columns:
        from cohortlib.compare.explain.termina.accounting import AccountingTable

        accounting = AccountingTable.read(transactions, remote_tables, settings, tolerances)
        return accounting, accounting.remote
    if "" in remote_tables:
        from cohortlib.compare.explain.termina.table import TerminaTable

        table = remote_tables[""]
        if not {"cohort", "period"} <= set(table.columns):
            raise SchemaError(
                f"remote has the columns {listed(table.columns)}",
                value=table.columns,
                expected="Termina's cohorts or customer cohorts (with cohort, period), its accountings (with date) or "
                "concentration, or Adapty's segments and values",
            )
        termina = TerminaTable.read(transactions, table, settings, tolerances)
        return termina, termina.remote
    from cohortlib.adapty.compute import check_installs
    from cohortlib.compare.explain.adapty.table import AdaptyTable

    known = (
        "request", "installs", "timezone", "conventions", "event_types", "products", "nulls", "decimals", "threads",
    )  # fmt: skip
    for name, value in settings.items():
        if name not in known:
            raise SettingError(
                (Arg(name), " is not a setting of Adapty's table"), value=value, expected=f"one of {listed(known)}"
            )
    arguments = dict(settings)
    request = arguments.pop("request", None) or (remote.request if isinstance(remote, Answer) else None)
    if request is None:
        raise SettingError(
            (Arg("request", None), ": the file of an answer does not hold its request"),
            expected="the request's body, as a dict or Request",
        )
    arguments["installs"] = check_installs(arguments.get("installs"))
    answer = remote_tables[SEGMENTS], remote_tables[VALUES]
    adapty = AdaptyTable(transactions, answer, request, tolerances=tolerances, **arguments)
    return adapty, adapty.remote
