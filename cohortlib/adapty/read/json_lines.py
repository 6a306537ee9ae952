"""Read JSON lines or arrays as Adapty's webhook sends them: nested event_properties and attributions become columns."""

import gzip
import json
from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path

import polars as pl

from cohortlib.adapty.read.specs import ATTRIBUTION
from cohortlib.errors import CohortlibError, SourceError
from cohortlib.read.tables import first_line

_NETWORK = r'^\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*\{'  # the first key of a JSON object
_KEY = r'"(?:[^"\\]|\\.)*"\s*:\s*\{'


def read(
    path: str,
    files: list[str],
    choose: Callable[[list[str], str], list[str]],
    fields: Collection[str],
    assumed: Collection[str],
) -> pl.DataFrame:
    """Read all lines, with all values as text; the parameters are those of :func:`tables.read_tables`."""
    try:
        lines = pl.concat([pl.read_ndjson(_as_lines(file), schema=_schema(fields)) for file in files])
        flat = _flattened(lines.lazy(), fields).collect()
    except CohortlibError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise broken(files, error) from error
    return flat.select(with_networks(choose(_present(flat.lazy(), fields, assumed), repr(path)), flat.columns))


def scan(
    path: str,
    files: list[str],
    choose: Callable[[list[str], str], list[str]],
    fields: Collection[str],
    assumed: Collection[str],
) -> pl.LazyFrame:
    """Scan lines lazily; the parameters are those of :func:`read`."""
    try:
        scans = [pl.scan_ndjson(_as_lines(file), schema=_schema(fields)) for file in files]
        flat = _flattened(pl.concat(scans), fields)
        chosen = choose(_present(flat, fields, assumed), repr(path))
        return flat.select(with_networks(chosen, flat.collect_schema().names()))
    except CohortlibError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise broken(files, error) from error


def _as_lines(file: str) -> str | BytesIO:
    """Return the file, or the elements of a JSON array as lines."""
    if not file.lower().endswith((".json", ".json.gz")):
        return file
    with gzip.open(file, "rb") if file.lower().endswith(".gz") else Path(file).open("rb") as opened:
        text = opened.read()
    if not text.lstrip().startswith(b"["):
        return BytesIO(text)
    try:
        elements = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{file!r} is broken: {first_line(error)}", expected="a JSON array, or JSON lines") from error
    for number, element in enumerate(elements, 1):
        if problem := _problem(json.dumps(element).encode()):
            raise SourceError(f"element {number} of {file!r} {problem}", value=element, expected="a JSON object")
    return BytesIO(b"\n".join(json.dumps(element).encode() for element in elements))


def with_networks(chosen: list[str], columns: list[str]) -> list[str]:
    """Add the columns of further networks to the chosen columns."""
    return chosen + [name for name in columns if "@" in name and name.partition("@")[0] in chosen]


def broken(files: list[str], error: Exception) -> SourceError:
    """Return the error for lines that cannot be read, with the first line that is not a JSON object."""
    for file in (name for name in files if not name.lower().endswith(".zst")):
        try:
            with gzip.open(file, "rb") if file.lower().endswith(".gz") else Path(file).open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    problem = _problem(line)
                    if problem:
                        return SourceError(
                            f"line {number} of {file!r} {problem}", value=line, expected="one JSON object in each line"
                        )
        except (OSError, EOFError) as unreadable:
            return SourceError(f"{file!r} cannot be read: {first_line(unreadable)}")
    return SourceError(f"{files[0]!r} cannot be read: {first_line(error)}")


def _problem(line: bytes) -> str | None:
    """Describe why a line cannot be read; None if it can."""
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


def _schema(fields: Collection[str]) -> dict[str, pl.DataType]:
    texts: dict[str, pl.DataType] = dict.fromkeys(fields, pl.String())
    return {**texts, "event_properties": pl.Struct(texts), "attributions": pl.String()}


def _present(flat: pl.LazyFrame, fields: Collection[str], assumed: Collection[str]) -> list[str]:
    """List the fields that at least one line has."""
    counts = flat.select(pl.len().alias(""), pl.all().count()).collect(engine="streaming").row(0, named=True)
    return [name for name in fields if name in assumed or not counts[""] or counts[name]]


def _flattened(lines: pl.LazyFrame, fields: Collection[str]) -> pl.LazyFrame:
    """Fill missing fields from event_properties, and missing attribution fields from attributions."""
    properties = pl.col("event_properties").struct
    plain = lines.select(*(pl.coalesce(name, properties.field(name)).alias(name) for name in fields), "attributions")
    flat = plain.drop("attributions")
    targets = [name for name in fields if name.startswith("attribution_")]
    if not targets:
        return flat
    network = pl.col("attributions").str.extract(_NETWORK)
    networks = lines.select(network.drop_nulls().unique()).collect(engine="streaming").to_series().sort().to_list()
    if not networks:
        return flat
    every = _all_networks(lines)
    values = _attribution_fields(networks, every)
    filled = plain.with_columns(pl.coalesce(name, values[name]).alias(name) for name in targets if name in values)
    if len(every) > 1:
        filled = filled.with_columns(
            (pl.when(of_network.is_not_null()).then(pl.lit(network)) if name == "attribution_source"
             else of_network.struct.field(name.removeprefix("attribution_"))).alias(f"{name}@{number}")
            for number, network in enumerate(every, 1)
            for of_network in [_decoded(every).struct.field(network)]
            for name in targets
            if name in values
        )  # fmt: skip
    try:
        plain.select(_decoded(every).count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:  # attributions of another shape cannot be used
        return flat
    return filled.drop("attributions")


def _decoded(networks: list[str]) -> pl.Expr:
    shape = pl.Struct({name: pl.Struct(dict.fromkeys(ATTRIBUTION, pl.String())) for name in networks})
    return pl.col("attributions").str.json_decode(shape)


def _all_networks(lines: pl.LazyFrame) -> list[str]:
    """List the keys whose values are objects, and so may be networks."""
    keys = pl.col("attributions").str.extract_all(_KEY).list.explode().drop_nulls().unique()
    texts = lines.select(keys).collect(engine="streaming").to_series()
    return sorted({str(json.loads(text[: text.rindex('"') + 1])) for text in texts})


def _attribution_fields(networks: list[str], every: list[str]) -> dict[str, pl.Expr]:
    """Return expressions for the attribution columns, from the first network of each line."""
    networks = [name for name in networks if name in every]
    network, decoded = pl.col("attributions").str.extract(_NETWORK), _decoded(every)
    by_field = {
        f"attribution_{field}": pl.coalesce(
            pl.when(network == name).then(decoded.struct.field(name).struct.field(field)) for name in networks
        )
        for field in ATTRIBUTION
    }
    return {"attribution_source": network, **by_field}
