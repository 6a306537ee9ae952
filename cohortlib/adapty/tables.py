"""From whatever the user holds to frames of raw columns: each file by itself, for their headers may differ."""

import gzip
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cohortlib import sources
from cohortlib.errors import SourceError
from cohortlib.sources import Source, first_line

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
        return [Raw(sources.read(source, lambda there: choose(there, "the table"), text=""))]
    path = str(source)
    found, names = sources.named_files(path, "CSV, Parquet or JSON lines files")
    if all(name.endswith(sources.PARQUET) for name in names):
        return [Raw(_collected(pl.scan_parquet(file, glob=False), choose, file)) for file in found]
    if all(name.endswith(sources.CSV) for name in names):
        return [Raw(_collected(pl.scan_csv(file, glob=False, infer_schema=False), choose, file)) for file in found]
    if all(name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson")) for name in names):
        return [Raw(_lines(path, found, choose, fields, loose), mixed=True)]
    raise SourceError(
        f"{path!r} is of no known kind by its name; expected names that all end in .csv, .csv.gz or .csv.zst, all in "
        ".parquet, or all in .jsonl, .ndjson or these with .gz. Hint: for a folder give a glob, such as 'folder/*.csv'"
    )


def _collected(frame: pl.LazyFrame, choose: Choose, file: str) -> pl.DataFrame:
    try:
        return frame.select(choose(frame.collect_schema().names(), repr(file))).collect()
    except pl.exceptions.NoDataError as error:
        raise SourceError(f"{file!r} is empty; expected a CSV file with a header line") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{file!r} cannot be read: {first_line(error)}") from error


def _lines(
    path: str, found: list[str], choose: Choose, fields: Collection[str], loose: Collection[str]
) -> pl.DataFrame:
    """Read lines of JSON, all values as text; what stands in event_properties fills what the line itself lacks."""
    texts = dict.fromkeys(fields, pl.String())
    schema = {**texts, "event_properties": pl.Struct(texts), "attributions": pl.String()}
    try:
        lines = pl.concat([pl.read_ndjson(file, schema=schema) for file in found])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(found, error) from error
    inside = pl.col("event_properties").struct
    flat = lines.select(pl.coalesce(name, inside.field(name)).alias(name) for name in fields)
    told = _attributions(lines["attributions"])
    flat = flat.with_columns(
        pl.coalesce(name, series).alias(name) for name, series in told.items() if name in flat.columns
    )
    there = [name for name in fields if name in loose or not len(flat) or flat[name].null_count() < len(flat)]
    return flat.select(choose(there, repr(path)))


def _attributions(column: pl.Series) -> dict[str, pl.Series]:
    """Give the attribution by the first network of each line."""
    network = column.str.extract(_NETWORK)
    names = network.drop_nulls().unique().sort().to_list()
    if not names:
        return {}
    shape = pl.Struct({name: pl.Struct(dict.fromkeys(ATTRIBUTION, pl.String())) for name in names})
    try:
        decoded = column.str.json_decode(shape).alias("decoded")
    except pl.exceptions.PolarsError:  # a network told in another way: then there is no attribution to be had
        return {}
    frame = pl.DataFrame([network.alias("network"), decoded])
    told = frame.select(
        pl.col("network").alias("attribution_source"),
        *(
            pl.coalesce(
                pl.when(network=name).then(pl.col("decoded").struct.field(name).struct.field(field)) for name in names
            ).alias(f"attribution_{field}")
            for field in ATTRIBUTION
        ),
    )
    return {series.name: series for series in told}


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
