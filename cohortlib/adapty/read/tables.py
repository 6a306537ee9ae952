"""From whatever the user holds to frames of raw columns: each file by itself, for their headers may differ."""

import gzip
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
from polars.selectors import by_name

from cohortlib.adapty.read.columns import are_dates, date_counts, is_text, is_whole
from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.sources import CSV, PARQUET, match_files, read
from cohortlib.read.tables import Source, first_line

ATTRIBUTION = ("status", "channel", "campaign", "ad_group", "ad_set", "creative")
"""What the webhook tells of each network."""

# Given the columns that are there, and what to call the place, names those to read or says which is missing.
Choose = Callable[[list[str], str], list[str]]

_NETWORK = r'^\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\{'


@dataclass(frozen=True)
class Raw:
    """A table as it was read."""

    frame: pl.DataFrame
    mixed: bool = False
    """Whether each row may have fields of its own, as lines of JSON have."""
    dates: Collection[str] | None = None
    """The columns of text that hold dates; None where a column is whole, so that its values tell."""


_BATCH = 1 << 16  # rows
_TEXT = 40  # bytes that a text takes, more or less
# Memory that a byte of a file takes, more or less, as frames and while they are read.
_GROWTH = {"csv": 4, "lines": 3}
_PACKED = 8  # of a byte of a file that is compressed


def held(frame: pl.DataFrame) -> int:
    """Tell about how many bytes a frame takes: polars leaves out the views of its texts."""
    return int(frame.estimated_size()) + 16 * frame.height * len(frame.select(pl.col(pl.String)).columns)


def fitting(source: Source, choose: Choose, room: int, work: int) -> tuple[Source, int]:
    """Tell about how many bytes a source takes in memory, with so many more of work for each of its rows.

    A lazy frame is read as far as there is room; where all of it fits, the frame is given in place of it.
    """
    if isinstance(source, pl.DataFrame):
        return source, source.height * work
    if isinstance(source, pl.LazyFrame):
        return _begun(source, choose, room, work)
    if not isinstance(source, str | Path):
        return source, 0  # nobody knows, and it is read as a whole
    found, kind = _files(str(source))
    if kind != "parquet":
        sizes = [(Path(file).stat().st_size, file) for file in found if Path(file).is_file()]
        return source, sum(
            size * _GROWTH[kind] * (_PACKED if file.lower().endswith((".gz", ".zst")) else 1) for size, file in sizes
        )
    need = 0
    for file in found:
        with _unreadable(repr(file)):
            frame = _scan(file, kind)
            schema = frame.collect_schema()
            width = sum(_TEXT if is_text(schema[name]) else 8 for name in choose(schema.names(), repr(file)))
            need += frame.select(pl.len()).collect().item() * (2 * width + work)
    return source, need


def _begun(frame: pl.LazyFrame, choose: Choose, room: int, work: int) -> tuple[Source, int]:
    with _unreadable("the lazy frame"):
        chosen = frame.select(by_name(*choose(frame.collect_schema().names(), "the table")))
        batches, need = [pl.DataFrame(schema=chosen.collect_schema())], 0
        for batch in chosen.collect_batches(chunk_size=_BATCH):
            batches.append(batch)
            need += 2 * held(batch) + batch.height * work
            if need > room:
                return frame, need
        return pl.concat(batches), need


@dataclass(frozen=True)
class Stream:
    """A table that can be read batch by batch, more than once."""

    frame: pl.LazyFrame
    mixed: bool
    unreadable: Callable[[Exception], SourceError]

    def raws(self, dated: Collection[str], texts: Collection[str]) -> Iterator[Raw]:
        """Read the table, beginning with a batch without a row.

        What of the columns `dated` is text is told from the whole column, which takes a pass of its own. Of the
        columns `texts` integers are read as text.
        """
        cast = [name for name, kind in self._schema.items() if name in texts and is_whole(kind)]
        frame = self.frame.with_columns(pl.col(cast).cast(pl.String))
        yield Raw(pl.DataFrame(schema=frame.collect_schema()), self.mixed, ())
        written = [name for name, kind in self._schema.items() if name in dated and is_text(kind)]
        try:
            dates = frozenset(self._dates(written)) if written else ()
            for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=False):
                yield Raw(batch, self.mixed, dates)
        except (pl.exceptions.PolarsError, OSError) as error:
            if isinstance(error, CohortlibError):
                raise
            raise self.unreadable(error) from error

    def kinds(self, users: Collection[str]) -> list[pl.DataType]:
        """Give the types of some columns, of those that are there."""
        return [kind for name, kind in self._schema.items() if name in users]

    @property
    def _schema(self) -> pl.Schema:
        return self.frame.collect_schema()

    def _dates(self, written: list[str]) -> list[str]:
        counts = [count for name in written for count in date_counts(pl.col(name).cast(pl.String))]
        row = self.frame.select(count.alias(str(at)) for at, count in enumerate(counts)).collect(engine="streaming")
        told = [count or 0 for count in row.row(0)]
        return [name for at, name in enumerate(written) if are_dates(told[2 * at], told[2 * at + 1])]


def streams(source: Source, choose: Choose, fields: Collection[str], loose: Collection[str] = ()) -> list[Stream]:
    """Open the tables of a source, to be read batch by batch; the parameters are those of :func:`tables`."""
    if isinstance(source, pl.LazyFrame):
        scans = [(source, "the table")]
    elif isinstance(source, str | Path):
        found, kind = _files(str(source))
        if kind == "lines":
            return [_stream_of_lines(str(source), found, choose, fields, loose)]
        scans = [(_scan(file, kind), repr(file)) for file in found]
    else:
        scans = [(read(source, lambda there: choose(there, "the table")).lazy(), "the table")]
    opened = []
    for frame, where in scans:
        with _unreadable(where):
            chosen = frame.select(by_name(*choose(frame.collect_schema().names(), where)))
            opened.append(Stream(chosen, mixed=False, unreadable=partial(_cannot, where)))
    return opened


def tables(source: Source, choose: Choose, fields: Collection[str], loose: Collection[str] = ()) -> list[Raw]:
    """Read the tables of a source.

    Parameters
    ----------
    source
        A frame, an Arrow stream, or the path or glob of CSV, Parquet or JSON lines files.
    choose
        Names the columns to read.
    fields
        All names that lines of JSON are searched for.
    loose
        Names that count as there in JSON even where no line has them.
    """
    if not isinstance(source, str | Path):
        return [Raw(read(source, lambda there: choose(there, "the table")))]
    found, kind = _files(str(source))
    if kind == "lines":
        return [Raw(_lines(str(source), found, choose, fields, loose), mixed=True)]
    return [Raw(_collected(_scan(file, kind), choose, file)) for file in found]


def _files(path: str) -> tuple[list[str], str]:
    """List the files that a path or glob names, and tell their kind by their names."""
    found, names = match_files(path, "CSV, Parquet or JSON lines files")
    if all(name.endswith(PARQUET) for name in names):
        return found, "parquet"
    if all(name.endswith(CSV) for name in names):
        return found, "csv"
    if all(name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson")) for name in names):
        return found, "lines"
    raise SourceError(
        f"{path!r} is of no known kind by its name; expected names that all end in .csv, .csv.gz or .csv.zst, all in "
        ".parquet, or all in .jsonl, .ndjson or these with .gz. Hint: for a folder give a glob, such as 'folder/*.csv'"
    )


def _scan(file: str, kind: str) -> pl.LazyFrame:
    if kind == "parquet":
        return pl.scan_parquet(file, glob=False)
    return pl.scan_csv(file, glob=False, infer_schema=False)


def _collected(frame: pl.LazyFrame, choose: Choose, file: str) -> pl.DataFrame:
    with _unreadable(repr(file)):
        return frame.select(choose(frame.collect_schema().names(), repr(file))).collect()


@contextmanager
def _unreadable(where: str) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, CohortlibError):
            raise
        raise _cannot(where, error) from error


def _cannot(where: str, error: Exception) -> SourceError:
    if isinstance(error, pl.exceptions.NoDataError):
        return SourceError(f"{where} is empty; expected a CSV file with a header line")
    return SourceError(f"{where} cannot be read: {first_line(error)}")


def _lines(
    path: str, found: list[str], choose: Choose, fields: Collection[str], loose: Collection[str]
) -> pl.DataFrame:
    """Read lines of JSON, all values as text; what stands in event_properties fills what the line itself lacks."""
    try:
        lines = pl.concat([pl.read_ndjson(file, schema=_line_schema(fields)) for file in found])
        flat = _flat(lines.lazy(), fields).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(found, error) from error
    return flat.select(choose(_told(flat.lazy(), fields, loose), repr(path)))


def _stream_of_lines(
    path: str, found: list[str], choose: Choose, fields: Collection[str], loose: Collection[str]
) -> Stream:
    try:
        flat = _flat(pl.scan_ndjson(found, schema=_line_schema(fields)), fields)
        chosen = choose(_told(flat, fields, loose), repr(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, CohortlibError):
            raise
        raise _broken(found, error) from error
    return Stream(flat.select(chosen), mixed=True, unreadable=partial(_broken, found))


def _line_schema(fields: Collection[str]) -> dict[str, pl.DataType]:
    texts: dict[str, pl.DataType] = dict.fromkeys(fields, pl.String())
    return {**texts, "event_properties": pl.Struct(texts), "attributions": pl.String()}


def _told(flat: pl.LazyFrame, fields: Collection[str], loose: Collection[str]) -> list[str]:
    """Name the fields that some line has."""
    counts = flat.select(pl.len().alias(""), pl.all().count()).collect(engine="streaming").row(0, named=True)
    return [name for name in fields if name in loose or not counts[""] or counts[name]]


def _flat(lines: pl.LazyFrame, fields: Collection[str]) -> pl.LazyFrame:
    """Fill what lines lack from their event_properties, and from their attributions what no line tells otherwise."""
    inside = pl.col("event_properties").struct
    plain = lines.select(*(pl.coalesce(name, inside.field(name)).alias(name) for name in fields), "attributions")
    flat = plain.drop("attributions")
    wanted = [name for name in fields if name.startswith("attribution_")]
    if not wanted:
        return flat
    network = pl.col("attributions").str.extract(_NETWORK)
    names = lines.select(network.drop_nulls().unique()).collect(engine="streaming").to_series().sort().to_list()
    if not names:
        return flat
    told = _attributions(names)
    filled = plain.with_columns(pl.coalesce(name, told[name]).alias(name) for name in wanted if name in told)
    try:
        plain.select(_decoded(names).count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:  # a network told in another way: then there is no attribution to be had
        return flat
    return filled.drop("attributions")


def _decoded(networks: list[str]) -> pl.Expr:
    shape = pl.Struct({name: pl.Struct(dict.fromkeys(ATTRIBUTION, pl.String())) for name in networks})
    return pl.col("attributions").str.json_decode(shape)


def _attributions(networks: list[str]) -> dict[str, pl.Expr]:
    """Give the attribution by the first network of each line."""
    network, decoded = pl.col("attributions").str.extract(_NETWORK), _decoded(networks)
    by_field = {
        f"attribution_{field}": pl.coalesce(
            pl.when(network == name).then(decoded.struct.field(name).struct.field(field)) for name in networks
        )
        for field in ATTRIBUTION
    }
    return {"attribution_source": network, **by_field}


def _broken(found: list[str], error: Exception) -> SourceError:
    """Find the first line that is no JSON object, to name it."""
    for file in (name for name in found if not name.lower().endswith(".zst")):
        try:
            with gzip.open(file, "rb") if file.lower().endswith(".gz") else Path(file).open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    what = _wrong(line)
                    if what:
                        return SourceError(f"line {number} of {file!r} {what}; expected one JSON object in each line")
        except (OSError, EOFError) as unreadable:
            return SourceError(f"{file!r} cannot be read: {first_line(unreadable)}")
    return SourceError(f"{found[0]!r} cannot be read: {first_line(error)}")


def _wrong(line: bytes) -> str | None:
    if not line.strip():
        return None
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"is broken: {first_line(error)}"
    if not isinstance(value, dict):
        return f"is a {type(value).__name__}"
    if not isinstance(value.get("event_properties"), dict | None):
        return f"has event_properties that are a {type(value['event_properties']).__name__}"
    return None
