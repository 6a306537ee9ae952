"""The one call: from transactions to a page that can be sent on."""

from datetime import date, datetime
from pathlib import Path

from cohortlib.engine.files import atomic_write
from cohortlib.engine.progress import Progress
from cohortlib.errors import CohortlibError, SettingError
from cohortlib.periods import Freq
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source
from cohortlib.transactions.settings import BeforeJoined, Refunds, Settings

TITLE = "Cohort report"


def report(
    transactions: Source,
    path: str | Path,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: Source | None = None,
    before_joined: BeforeJoined = "error",
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    complete_only: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
    max_memory: int | str | None = None,
    title: str | None = None,
) -> None:
    """Write a report on the cohorts of transactions: one page of HTML that needs nothing from anywhere.

    It has the headline numbers, heat maps, curves, the cohort table and its triangles, to be sorted and saved as CSV,
    the settings, the definitions, and what became of the rows. The page is put in its place once it is complete: until
    then, and where anything fails, what was there before stays. The same rows and settings give the same page.

    Parameters
    ----------
    transactions
        As for :func:`cohortlib.termina.cohorts`.
    path
        The file to write, in a folder that exists.
    user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, start, end, complete_only, \
    nulls, decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`.
    title
        The heading; "Cohort report" by default.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`; a DataError too where there are more than 100,000 cells, of which
        no picture can be made.
    CohortlibError
        Where what comes with ``cohortlib[report]`` is not installed.
    OSError
        Where the file cannot be written; the error names it.

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
        text = report_page(
            transactions, user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone,
            week_start=week_start, refunds=refunds, joined=joined, before_joined=before_joined, start=start, end=end,
            complete_only=complete_only, nulls=nulls, decimals=decimals, threads=threads, progress=progress,
            max_memory=max_memory, title=title,
        )  # fmt: skip
        stream.write(text.encode())


def report_page(transactions: Source, *, title: str | None = None, **settings: object) -> str:
    """Give the page that :func:`report` writes, by the same settings."""
    if title is not None and not isinstance(title, str):
        raise SettingError(f"title={title!r} is no text; expected a string, or None")
    check_installed()
    from cohortlib.show.report.findings import Findings
    from cohortlib.show.report.page import page

    findings = Findings.of(transactions, Settings(**settings))  # type: ignore[arg-type]
    return page(findings, TITLE if title is None else title)


def check_installed() -> None:
    """Refuse to begin hours of work whose page could not be made."""
    from importlib.util import find_spec

    missing = [
        name
        for name, module in (("Altair", "altair"), ("Jinja2", "jinja2"), ("vl-convert", "vl_convert"))
        if find_spec(module) is None
    ]
    if missing:
        raise CohortlibError(f"a report needs {', '.join(missing)}. Hint: pip install 'cohortlib[report]'")
