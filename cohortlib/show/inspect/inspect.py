"""The call `inspect`: read some rows of a source, guess how to read it, and check the guesses with the readers."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.adapty.read import revenuecat
from cohortlib.adapty.read.specs import EVENT_COLUMNS, USER_COLUMNS
from cohortlib.engine.kernels.instants import DATE, NAIVE, ZONED
from cohortlib.engine.threads import workers_for
from cohortlib.errors import Arg, CohortlibError, CohortlibWarning, SchemaError, Text
from cohortlib.forks import check_fork
from cohortlib.read.folders import is_paths, resolve
from cohortlib.read.formats import GUESSES
from cohortlib.read.tables import FileOptions, Locate, Source, read_errors
from cohortlib.read.text import TextRules
from cohortlib.read.transactions import TransactionReader
from cohortlib.read.urls import shown_path
from cohortlib.show.inspect.columns import ColumnProfile, Guess, guess_columns, words
from cohortlib.show.inspect.inspection import InspectedColumn, Inspection
from cohortlib.show.inspect.sample import Sample, read_sample
from cohortlib.show.inspect.survey import Survey
from cohortlib.transactions.keywords import SETTINGS
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.prepared import Prepared, open_if_prepared

ROWS = 10_000

_ROLES = ("user", "timestamp", "amount")
_EVENT_TIMES = {"Adapty": ("event_datetime", "purchase_date"), "RevenueCat": ("start_time",)}
_MOST_DECIMALS = 9


def inspect(
    source: Source,
    *,
    all_rows: bool = False,
    encoding: str | None = None,
    sheet: str | int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Inspection:
    """Look into a source: its columns, which are user, timestamp and amount, its doubts, and the command to run.

    Reads the first 10,000 rows; of many files, the first rows of each, and of more than 16 files those of 16. The
    result says what was read. The guesses are by name and by values, and are checked with the readers that the tables
    use, so the command works for the rows that were read.

    Parameters
    ----------
    source
        As for :func:`cohortlib.termina.cohorts`: a path, glob, folder, URL, a list of these, or a frame.
    all_rows
        Read all rows to count nulls, repeats and doubts, and to check the guesses, which are still made from the first
        rows.
    encoding
        The encoding of text files. If they are neither UTF-8 nor UTF-16, an encoding is guessed.
    sheet
        The sheet of a workbook: its name, or its number from 1.
    storage_options
        Options of the store for URLs.
    threads
        Threads to use; all cores by default.

    Returns
    -------
    Inspection
        Its text, with ``print``, has all of it; its attributes are for programs.

    Raises
    ------
    SourceError
        A file is missing or cannot be read, or its rows do not fit its header.
    SchemaError
        The source is not a table.

    Examples
    --------
    >>> import polars as pl
    >>> import cohortlib as cl
    >>> rows = pl.DataFrame({"customer": ["a", "b"], "paid_at": ["2026-01-05", "2026-01-20"], "usd": ["100", "50"]})
    >>> cl.inspect(rows).call
    "cl.termina.cohorts(source, user='customer', timestamp='paid_at', amount='usd')"
    """
    check_fork()
    _refuse_prepared(source)
    options = FileOptions(encoding, sheet, storage_options, workers_for(threads))
    with read_errors(repr(str(source)) if is_paths(source) else f"the {type(source).__qualname__}"):
        sample = read_sample(source, options, ROWS)
        columns = [ColumnProfile(column) for column in sample.frame.get_columns()]
        inspected = _Inspected(source, sample, columns, all_rows=all_rows)
        vendor = _vendor([*sample.frame.columns, *sample.unreadable])
        return inspected.export(vendor) if vendor else inspected.transactions()


def _refuse_prepared(source: Source) -> None:
    prepared = open_if_prepared(source)
    if isinstance(prepared, Prepared):
        raise SchemaError(
            f"{prepared.folder} is a prepared form",
            expected="the transactions that it was prepared from",
            hint="pass it to a table as it is: it knows its columns",
        )


def _vendor(names: list[str]) -> str | None:
    """Return the vendor whose export has these columns, or None."""
    if revenuecat.MARK in names:
        return "RevenueCat"
    if {"event_type", "event_properties"} <= set(names):
        return "Adapty"
    required = [USER_COLUMNS["profile_id"], *(spec for spec in EVENT_COLUMNS.values() if spec.required)]
    return "Adapty" if all(set(spec.accepted) & set(names) for spec in required) else None


@dataclass
class _Inspected:
    """Make the result from a sample."""

    source: Source
    sample: Sample
    columns: list[ColumnProfile]
    all_rows: bool
    span: tuple[datetime, datetime] | None = None
    """The first and the last instant of all rows, where files say so quickly."""
    doubts: list[Text] = field(default_factory=list)

    def _batches(self) -> Iterator[pl.DataFrame]:
        """Read the rows that statements are about."""
        if not self.reads_all:
            return iter([self.sample.frame])
        return self.sample.all_rows(self.source).batches()

    @property
    def reads_all(self) -> bool:
        """Whether rows beyond the sample are read."""
        return self.all_rows and not self.sample.complete

    @property
    def knows_range(self) -> bool:
        """Whether the first and the last instant are those of all rows."""
        return self.reads_all or self.sample.complete or self.span is not None

    @property
    def locate(self) -> Locate:
        """Describe where a row stands."""
        return self.sample.all_rows(self.source).locate if self.reads_all else self.sample.locate

    def profile(self, name: str) -> ColumnProfile:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    # -------------------------------------------------------------------------------------------- transactions

    def transactions(self) -> Inspection:
        """Inspect a table of transactions."""
        guesses = guess_columns(self.columns)
        self._doubt_guesses(guesses)
        settings: dict[str, Any] = {role: guesses[role].column for role in _ROLES if guesses[role].column is not None}
        settings |= self._file_settings()
        missing = [role for role in _ROLES if guesses[role].column is None]
        if "timestamp" in settings:
            self._choose_format(settings)
        if "amount" in settings:
            self._choose_mark(settings)
        error: CohortlibError | None = None
        warned: list[CohortlibWarning] = []
        if "timestamp" in settings and not self.all_rows:
            self.span = self.sample.span(settings["timestamp"])
        if missing:
            rules = TextRules(settings.get("timestamp_format"))
            survey = Survey.over(self._batches(), None, settings.get("timestamp"), rules)
        else:
            survey = self._survey(settings)
            error = self._settle(survey, settings)
            if error is None:
                error, warned = self._check(settings)
        self._doubt_rows(survey, settings)
        shown = {name: value for name, value in settings.items() if value != SETTINGS[name].default}
        return self._result(
            survey,
            **{role: guesses[role].column for role in _ROLES},
            settings={name: shown[name] for name in SETTINGS if name in shown},
            warnings=(*warned, *map(CohortlibWarning, self.doubts)),
            error=error,
        )

    def _file_settings(self) -> dict[str, Any]:
        options = self.sample.options
        settings = {"encoding": options.encoding, "sheet": options.sheet, "storage_options": options.storage_options}
        return {name: value for name, value in settings.items() if value is not None}

    def _doubt_guesses(self, guesses: dict[str, Guess]) -> None:
        for role, guess in guesses.items():
            if guess.column is None:
                self.doubts.append(("no column looks like the ", role, ". Hint: name it with ", Arg(role)))
            elif not guess.certain:
                self.doubts.append(f"the {role} is guessed from values: column {guess.column!r}")
            if guess.others:
                others = " or ".join(map(repr, guess.others))
                self.doubts.append((f"the {role} could also be {others}. Hint: ", Arg(role, guess.others[0])))

    def _choose_format(self, settings: dict[str, Any]) -> None:
        """Choose the format of timestamps that reads most values; doubt it where several read as many."""
        formats = self.profile(settings["timestamp"]).formats
        if not formats:
            return
        settings["timestamp_format"] = formats[0]
        others = [name for name in formats[1:] if name is not None]
        iso = self.profile(settings["timestamp"]).iso
        if formats[0] is not None and iso:
            self.doubts.append((
                f"column {settings['timestamp']!r} has dates of ISO 8601 ({iso:,}) and others, which ",
                Arg("timestamp_format", formats[0]), _order(formats[0]), " reads",
            ))  # fmt: skip
        if others and formats[0] is not None:
            self.doubts.append((
                f"column {settings['timestamp']!r} can be read in more ways than one: ",
                Arg("timestamp_format", formats[0]), _order(formats[0]), " is a guess, ",
                Arg("timestamp_format", others[0]), _order(others[0]), " reads as many values",
            ))  # fmt: skip

    def _choose_mark(self, settings: dict[str, Any]) -> None:
        """Choose the decimal mark that reads most amounts, and the decimal places."""
        column = self.profile(settings["amount"])
        if column.marks and column.marks[0]:
            settings["decimal"] = column.marks[0]
            if column.marks_differ:
                self.doubts.append((
                    f"column {column.name!r} can be read with both decimal marks: ", Arg("decimal", column.marks[0]),
                    " is a guess, ", Arg("decimal", column.marks[1]), " reads as many values, as other amounts",
                ))  # fmt: skip
        if isinstance(column.dtype, pl.Decimal) and SETTINGS["decimals"].default < column.dtype.scale <= _MOST_DECIMALS:  # type: ignore[operator]
            settings["decimals"] = column.dtype.scale

    def _survey(self, settings: dict[str, Any]) -> Survey:
        columns = Settings.of(**settings).columns
        survey = Survey.over(self._batches(), columns, columns.timestamp, columns.rules)
        if self.span is not None and survey.dates is not None:
            survey.dates.first, survey.dates.last = self.span
        return survey

    def _settle(self, survey: Survey, settings: dict[str, Any]) -> CohortlibError | None:
        """Add the settings that faults need, with a doubt for each; return the error that no setting resolves."""
        faults = survey.faults
        if faults is None:
            return None
        dates, naive, zoned = (faults.kinds[kind] for kind in (DATE, NAIVE, ZONED))
        if (dates or naive) and zoned and not faults.not_dates.count:
            settings["assume_zone"] = "UTC"
            self.doubts.append((
                f"column {settings['timestamp']!r} has {dates + naive:,} instants without an offset and {zoned:,} "
                "with one. ", Arg("assume_zone", "UTC"), " is a guess: name the zone of the former",
            ))  # fmt: skip
        elif zoned:
            self.doubts.append((
                "instants have offsets, so the calendar is that of UTC. Hint: ", Arg("timezone"),
                " sets another, such as 'America/New_York'",
            ))  # fmt: skip
        last = survey.dates.last if survey.dates is not None else None
        if faults.years.count and not faults.early and last is not None:
            settings["end"] = (last + timedelta(days=int(bool(zoned)))).strftime("%Y-%m")
            many = "instant is" if faults.years.count == 1 else "instants are"
            self.doubts.append((
                f"{faults.years.count:,} {many} after 2200 in column {settings['timestamp']!r}. ",
                Arg("end", settings["end"]), " leaves them out",
                "" if self.knows_range else ", and all later rows: write the last month of the data",
            ))  # fmt: skip
        if faults.nulls:
            settings["nulls"] = "drop"
            counts = ", ".join(f"{name!r} {count:,}" for name, count in faults.nulls.items())
            self.doubts.append(
                (f"rows without a value: {counts} of {survey.rows:,}. ", Arg("nulls", "drop"), " leaves them out")
            )
        faults.columns = Settings.of(**settings).columns
        if "end" in settings:
            faults.years.count = 0
        return faults.error(self.locate)

    def _check(self, settings: dict[str, Any]) -> tuple[CohortlibError | None, list[CohortlibWarning]]:
        """Read the rows as the tables do; return the error or the warnings."""
        reader = TransactionReader(Settings.of(**settings).columns)
        user = settings["user"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CohortlibWarning)
            try:
                for batch in self._batches():
                    rows = reader.parse(batch)
                    rows.amounts.units(0, len(rows.users))
                reader.doubts.warn(user, None)
            except CohortlibError as error:
                return error, []
        return None, [each.message for each in caught if isinstance(each.message, CohortlibWarning)]

    def _doubt_rows(self, survey: Survey, settings: dict[str, Any]) -> None:
        """Doubt dates apart from all others, and rows in several currencies."""
        for year, count in survey.dates.apart() if survey.dates is not None else ():
            self.doubts.append(f"{count:,} {'row is' if count == 1 else 'rows are'} in {year}, after or before years "
                               "without any")  # fmt: skip
        for column in self.columns:
            if {"currency", "currencies", "währung", "waehrung"} & set(words(column.name).split()):
                counts = column.texts.filter(pl.col("text") != "")
                if counts.height > 1 and column.name not in settings.values():
                    shown = ", ".join(f"{name!r} {count:,}" for name, count in counts.head(5).iter_rows())
                    self.doubts.append(f"column {column.name!r} has {counts.height:,} currencies, and amounts are "
                                       f"added as they are: {shown}")  # fmt: skip
        if settings.get("encoding") is not None and self.sample.options.encoding:
            self.doubts.append(("the text is read with ", Arg("encoding", settings["encoding"])))
        if settings.get("storage_options"):
            self.doubts.append(("the command needs ", Arg("storage_options"), " as well, which can hold secrets"))

    # -------------------------------------------------------------------------------------------------- vendors

    def export(self, vendor: str) -> Inspection:
        """Inspect a vendor's export."""
        names = [name for name in _EVENT_TIMES[vendor] if name in self.sample.frame.columns]
        survey = Survey.over(self._batches(), None, names[0] if names else None, TextRules())
        dates, request = survey.dates, None
        if dates is None or dates.first is None or dates.last is None:
            self.doubts.append("no dates of events, so there is no range for a request")
        else:
            days = [dates.first.date().replace(day=1).isoformat(), dates.last.date().isoformat()]
            request = {"filters": {"date": days}}
            self.doubts.append(("the request has the dates of the rows that were read; ",
                                Arg("installs", "from_events"), " counts only users with an event"))  # fmt: skip
        error, warned = self._check_export(request)
        doubts = [*warned, *map(CohortlibWarning, self.doubts)]
        facts = {"settings": self._file_settings(), "warnings": tuple(doubts), "error": error}
        return self._result(survey, vendor=vendor, request=request, **facts)

    def _events(self) -> Source:
        """Return the source as Adapty's table takes it: of a folder a glob."""
        if not isinstance(self.source, str | PathLike) or not Path(self.source).is_dir():
            return self.source
        endings = {"".join(Path(file.path).suffixes[-2:]) for file in resolve(self.source).files}
        names = sorted({f".{ending.split('.')[-1]}" for ending in endings} if len(endings) > 1 else endings)
        return str(Path(self.source) / "**" / f"*{names[0]}")

    def _check_export(self, request: dict[str, Any] | None) -> tuple[CohortlibError | None, list[CohortlibWarning]]:
        """Compute Adapty's table of the rows that were read; return the error or the warnings."""
        nested = "event_properties" in self.sample.unreadable
        complete = self.reads_all or self.sample.complete
        if request is None or (nested and not complete):
            return None, []
        from cohortlib.adapty.compute import cohort

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CohortlibWarning)
            try:
                events = self._events() if complete else self.sample.frame
                cohort(events, request, installs="from_events", **self._file_settings())
            except CohortlibError as error:
                return error, []
        return None, [each.message for each in caught if isinstance(each.message, CohortlibWarning)]

    # --------------------------------------------------------------------------------------------------- result

    def _result(self, survey: Survey, **facts: Any) -> Inspection:  # noqa: ANN401
        sample, dates = self.sample, survey.dates
        columns = tuple(
            InspectedColumn(
                each.name, str(each.dtype), each.holds, survey.nulls[each.name], each.distinct, each.example
            )
            for each in self.columns
        )
        path: str | list[str] | None = None
        if isinstance(self.source, list | tuple):
            path = [shown_path(str(each)) for each in self.source]
        elif isinstance(self.source, str | PathLike):
            path = shown_path(str(self._events() if "vendor" in facts else self.source))
        return Inspection(
            source=sample.name,
            kind=sample.kind,
            layout=sample.layout,
            files=sample.files,
            files_read=sample.files if self.reads_all else sample.files_read,
            rows=survey.rows if self.reads_all else sample.total,
            rows_read=survey.rows,
            size=sample.size,
            columns=columns,
            unreadable=sample.unreadable,
            first=None if dates is None else dates.first,
            last=None if dates is None else dates.last,
            has_offsets=dates is not None and dates.zoned,
            range_is_of_all=self.knows_range,
            repeats=survey.repeats,
            path=path,
            rows_compared=sample.frame.height,
            **facts,
        )


def _order(name: str) -> str:
    """Name the order of days and months in a format."""
    return next((f" ({order})" for day, order in GUESSES.items() if name.startswith(day)), "")
