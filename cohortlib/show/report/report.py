"""Write a report on the cohorts of transactions as one HTML page."""

from pathlib import Path
from typing import Unpack

from cohortlib.engine.files import atomic_write
from cohortlib.errors import Arg, CohortlibError, SettingError
from cohortlib.read.tables import Source
from cohortlib.transactions.keywords import CohortsKeywords, with_settings
from cohortlib.transactions.settings import Settings

TITLE = "Cohort report"


@with_settings
def report(
    transactions: Source, path: str | Path, *, title: str | None = None, **settings: Unpack[CohortsKeywords]
) -> None:
    """Write a report on the cohorts of transactions: one HTML page that loads nothing else.

    It has headline numbers, heat maps, curves, the cohort table and its triangles (sortable, with CSV export), the
    settings, the definitions, and the count of rows read and dropped. The page replaces an earlier file only once it is
    complete; if anything fails, the earlier file stays. The same rows and settings produce the same page.

    Parameters
    ----------
    transactions
        As for :func:`cohortlib.termina.cohorts`.
    path
        The file to write, in a folder that exists.
    title
        The heading; "Cohort report" by default.
    user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, start, end, complete_only, \
    nulls, decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`; also a DataError for more than 100,000 cells, too many to draw.
    CohortlibError
        A package of ``cohortlib[report]`` is not installed.
    OSError
        The file cannot be written; the error has its name.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> days = [date(2026, 1, 5), date(2026, 2, 10)]
    >>> rows = pl.DataFrame({"user_id": ["a", "a"], "timestamp": days, "amount": [100, 80]})
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "report.html"
    ...     cl.report(rows, file, title="Our cohorts")
    ...     "<h1>Our cohorts</h1>" in file.read_text(encoding="utf-8")
    True
    """
    with atomic_write(Path(path)) as stream:
        stream.write(report_page(transactions, title=title, **settings).encode())


@with_settings
def report_page(transactions: Source, *, title: str | None = None, **settings: Unpack[CohortsKeywords]) -> str:
    """Return the page that :func:`report` writes."""
    if title is not None and not isinstance(title, str):
        raise SettingError((Arg("title", title), " is not text"), value=title, expected="a string, or None")
    check_installed()
    from cohortlib.show.report.findings import Findings
    from cohortlib.show.report.page import page

    findings = Findings.of(transactions, Settings.of(**settings))
    return page(findings, TITLE if title is None else title)


def check_installed() -> None:
    """Raise CohortlibError if a package that renders the page is missing, before any rows are read."""
    from importlib.util import find_spec

    missing = [
        name
        for name, module in (("Altair", "altair"), ("Jinja2", "jinja2"), ("vl-convert", "vl_convert"))
        if find_spec(module) is None
    ]
    if missing:
        raise CohortlibError(f"a report needs {', '.join(missing)}", hint="pip install 'cohortlib[report]'")
