"""Read a side from a file that cohortlib wrote or a vendor sent."""

from pathlib import Path
from typing import Any

import polars as pl

from cohortlib.adapty.client import replies as adapty
from cohortlib.errors import ReplyError, SourceError
from cohortlib.fields import ALL_TABLES, CONCENTRATION
from cohortlib.network.json_rows import parse_json
from cohortlib.read.sources import CSV, PARQUET, match_files
from cohortlib.read.tables import first_line
from cohortlib.termina.client import replies as termina

KINDS = "Parquet, CSV or JSON files"
SEGMENTS, VALUES = "segments", "values"  # the names of the two tables of Adapty's answer

# Read as text, so that the year 2026 and the user 007 stay text.
_TEXTS = {name for table in ALL_TABLES for name, field in table.items() if field.kind == "text"}


def read(path: str) -> dict[str, pl.DataFrame]:
    """Read the tables of a file by name: one under "", the two of Adapty's answer, or the three of concentration."""
    paths, names = match_files(path, KINDS)
    try:
        if all(name.endswith(PARQUET) for name in names):
            return {"": pl.read_parquet(paths, glob=False)}
        if all(name.endswith(CSV) for name in names):
            return {"": pl.concat([_csv(file) for file in paths], how="vertical_relaxed")}
        if len(names) == 1 and names[0].endswith(".json"):
            return _json(paths[0])
    except SourceError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path!r} cannot be read: {first_line(error)}") from error
    except ReplyError as error:
        raise SourceError(
            f"{path!r} has no table that can be compared: {error.what}",
            value=path,
            expected=error.expected,
            hint=error.hint,
        ) from error
    raise SourceError(
        f"{path!r} has an unknown ending", value=path, expected=".parquet, .csv, .csv.gz, or a single .json file"
    )


def _csv(path: str) -> pl.DataFrame:
    header = pl.read_csv(path, n_rows=0).columns
    texts = {name: pl.String for name in _TEXTS if name in header}
    return pl.read_csv(path, schema_overrides=texts, infer_schema_length=None)


def _json(path: str) -> dict[str, pl.DataFrame]:
    payload: Any = parse_json(Path(path).read_bytes())
    rows = payload["data"] if isinstance(payload, dict) and isinstance(payload.get("data"), list) else payload
    if rows == []:
        return {"": pl.DataFrame()}
    first = rows[0] if isinstance(rows, list) and isinstance(rows[0], dict) else {}
    if "values" in first:
        segments, values = adapty.read({"data": rows})
        return {SEGMENTS: segments, VALUES: values}
    try:
        endpoint = termina.endpoint_of(rows)
    except ReplyError:
        if not ({"cohort", "period"} <= set(first) or {"segment_start_date", "type"} <= set(first)):
            raise
        return {"": pl.DataFrame(rows, infer_schema_length=None)}  # a table with some of its fields
    if endpoint == "concentration":
        found = termina.read(endpoint, rows)
        return {name: getattr(found, name) for name in CONCENTRATION}
    table = termina.read(endpoint, rows)
    # Rows may omit fields: null if another row has the field, and no column if no row has it.
    names = {name for row in rows for name in row}
    return {"": table.select(name for name in table.columns if name in names)}
