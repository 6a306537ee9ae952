"""Damaged and odd files are read as a plain reader reads them, or refused with an error of ours; never a traceback."""

import csv
import gzip
import io
import json
import random
import warnings

import naive
import naive_text
import polars as pl
import pytest
from click.testing import CliRunner
from conftest import PROFILE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import exactly

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.errors import CohortlibError, CohortlibWarning
from cohortlib.read.money import CODES

pytestmark = pytest.mark.search

COLUMNS = ("user_id", "timestamp", "amount")
OPTIONS = {"nulls": "drop", "end": "2026-06"}
USERS = ("a", "b", "007", "é", "", " ", "null", '"', "a\0b", "1e5", "x" * 300)
INSTANTS = (
    "2026-01-05", "2026-02-10T09:30:00", "20260305", "2026-01-31 23:59:59.9999999", "2025-02-29", "2026-01-05T24:00",
    "2026-06-30T23:59:60", "0000-01-01", "9999-12-31", "-2026-01-05", "+02026-01-05", "2026-W05-1", "2026-035",
    "2026-1-5", "05/01/2026", "2026-01-05T10:00-00:00", "2026-01-05T10:00+14:00", "2026-01-05 10:00:00,5", "1767571200",
    "0x10",
    "٢٠٢٦-٠١-٠٥", "2026-01-05 10:00 PM", "2026-01-05T10:00:00z", "2026-01-05T10", "NaT", "inf", "2026-01", "2026",
)  # fmt: skip
AMOUNTS = (
    "1", "10.5", "-3", "+5", "-0", ".5", "5.", "1e3", "1.0E+3", "1e400", "-1e-400", "inf", "nan", "NaN", "1_000",
    "0x10", "١٢", "1,000", "1.000,00", "1'000", "1\xa0000", "12,5", "5-", "-", "5%", "1/2", "$5", "5 €", "(5)", "", " ",
    "1 2",
    "9223372036854.775807", "9223372036854.775808", "1e13", "--5", "1.2.3", "1,00,000", "TRUE", "=1+1", "1\u20115",
)  # fmt: skip
PIECES = (
    b"", b"\0", b'"', b'""', b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
    b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"{", b"}", b"[", b"null", b"\\", b'\\"',
    b"\xe2\x80\xa8", b"\x1a", b"\\u0000", b"\\ud800", b"1e999", b"NaN", b":", b" ", b"user_id", b"," * 40,
    b"a" * 70_000,
)  # fmt: skip
KINDS = ("csv", "csv", "csv", "tsv", "jsonl", "csv.gz", "csv.zst", "jsonl.gz", "parquet", "xlsx")


def of(*choices):
    return st.sampled_from(choices)


@st.composite
def malformed(draw):
    """Draw the bytes of a file, valid at first, and then changed in some places."""
    kind = draw(of(*KINDS))
    chance = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311
    odd = chance.choice((0, 0, 0.1, 0.5))
    rows = [
        [
            chance.choice(values if chance.random() < odd else values[:few])
            for values, few in ((USERS, 5), (INSTANTS, 4), (AMOUNTS, 8))
        ]
        for _ in range(chance.choice((0, 1, 2, 4, 8)))
    ]
    data = written(kind.split(".")[0], rows, chance)
    if chance.random() < 0.6:
        data = changed(data, chance)
    if kind.endswith("gz"):
        data = gzip.compress(data, 1)
    elif kind.endswith("zst"):
        data = pytest.importorskip("backports.zstd").compress(data)
    if "." in kind and chance.random() < 0.4:
        data = changed(data, chance)
    return kind, data


def written(kind, rows, chance):
    if kind == "jsonl":
        objects = [
            {name: _json(text, chance) for name, text in zip(COLUMNS, row, strict=True) if chance.random() < 0.95}
            for row in rows
        ]
        return "".join(json.dumps(each) + "\n" for each in objects).encode()
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    if kind == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    if kind == "xlsx":
        pytest.importorskip("xlsxwriter")
        buffer = io.BytesIO()
        frame.write_excel(buffer)
        return buffer.getvalue()
    text = io.StringIO()
    header = list(COLUMNS) + chance.choice(([], [], [], ["note"], ["amount"], [""], [f"c{i}" for i in range(3000)]))
    writer = csv.writer(
        text, delimiter="\t" if kind == "tsv" else chance.choice(",,;|"), quoting=chance.choice((0, 0, 1)),
        lineterminator=chance.choice(("\n", "\n", "\r\n", "\r")),
    )  # fmt: skip
    writer.writerows([header, *(row + ["n"] * (len(header) - 3) for row in rows)])
    return text.getvalue().encode(
        chance.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-16-le", "latin-1")), "replace"
    )


def _json(text, chance):
    if chance.random() < 0.9:
        return text
    return chance.choice((None, 5, -2.5, True, 10**30, 2**63, [1], {"a": 1}, 1e308, "\ud800", "x\0"))


def changed(data, chance):
    """Insert, overwrite, cut out or repeat some bytes."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        size = chance.choice((0, 0, 1, 2, 8))
        piece = chance.choice((chance.choice(PIECES), bytes([chance.randrange(256)]), data[at : at + 20]))
        data = chance.choice((data[:at] + piece + data[at + size :],) * 5 + (data[:at], data[at:]))
    return data


def plain_rows(kind, data):
    """Read text with Python's csv and json modules; None where these and our rules may differ."""
    if kind.endswith("gz"):
        data = gzip.decompress(data)
    elif kind.endswith("zst"):
        data = pytest.importorskip("backports.zstd").decompress(data)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = data.decode(encoding)
    if kind.startswith("jsonl"):
        objects = [json.loads(line) for line in text.split("\n") if line.strip()]
        values = [[each.get(name) for name in COLUMNS] for each in objects]
        return values if all(isinstance(value, str | None) for row in values for value in row) else None
    if "\r" in text.replace("\r\n", ""):
        return None

    def split(lines, separator):
        return [row for row in csv.reader(lines, delimiter=separator, strict=True) if row]

    header = next(line for line in text.splitlines(keepends=True) if line.strip("\r\n"))
    for separator in ",;\t|":
        try:
            [names] = split([header], separator)
        except (csv.Error, ValueError):
            continue
        if set(COLUMNS) <= set(names):
            _, *rows = split(io.StringIO(text, newline=""), separator)
            assert all(len(row) == len(names) for row in rows), "a ragged row was read"
            return [[row[names.index(name)] for name in COLUMNS] for row in rows]
    return None


def confirm(kind, data, table):
    """Compare a table with that of the plain reader."""
    rows = plain_rows(kind, data)
    if rows is None:
        return
    read = naive_text.read_table(rows, nulls="drop", end=naive.days_of(OPTIONS["end"])[1], codes=sorted(CODES))
    whole = [row for row in read if None not in row]
    expected = naive.cohorts(read, **OPTIONS) if whole else []
    assert [{name: exactly(value) for name, value in row.items()} for row in table.to_dicts()] == [
        {name: exactly(value) for name, value in row.items()} for row in expected
    ]


@given(malformed())
@settings(
    max_examples=3_000 if PROFILE == "hunt" else settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_malformed_files(tmp_path_factory, drawn):
    kind, data = drawn
    path = tmp_path_factory.mktemp("malformed") / f"rows.{kind}"
    path.write_bytes(data)
    found = []
    for budget in (None, "256MB"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CohortlibWarning)
            try:
                found.append(cl.termina.cohorts(path, max_memory=budget, **OPTIONS))
            except CohortlibError as error:
                found.append(str(error))
    assert type(found[0]) is type(found[1])
    assert found[0].equals(found[1]) if isinstance(found[0], pl.DataFrame) else found[0] == found[1]
    result = CliRunner().invoke(
        cli, ["termina", "cohorts", str(path), "--nulls", "drop", "--end", OPTIONS["end"], "--format", "csv"]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    if isinstance(found[0], str):
        assert result.exit_code == 2, result.output
        assert result.stderr.strip()
        assert "Traceback" not in result.output
        return
    assert result.exit_code == 0, result.output
    assert result.stdout == found[0].write_csv()
    if kind not in ("parquet", "xlsx"):
        confirm(kind, data, found[0])
