"""The law of reading: a table of text is one table, however it is cut into files, written, packed and read.

Each drawn table is read by the slow reader of naive_text.py, and on a few roads. All give the same bits, or refuse
for the same reason, and name the file and the line of the value at fault.
"""

import datetime as dt
import gzip
import json
import re
import warnings
from itertools import pairwise

import naive
import naive_text
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import exactly
from test_text import AMOUNTS, CODES_DRAWN, INSTANTS, of

import cohortlib as cl
from cohortlib.engine import memory
from cohortlib.errors import CohortlibError, CohortlibWarning
from cohortlib.read import bytes as bytes_module
from cohortlib.read import jsonl, tables
from cohortlib.read import text as text_module
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.search

try:
    from compression import zstd
except ImportError:  # before Python 3.14
    zstd = pytest.importorskip("backports.zstd")

COLUMNS = ("user_id", "timestamp", "amount")
ZONES = ("America/New_York", "Asia/Kolkata", "Pacific/Apia", "Europe/Berlin", "UTC")
FORMATS = ("%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%y %I:%M %p", "%d %b %Y %H:%M:%S %z", "%Y/%m/%d")
SCALES = {"epoch_s": 1, "epoch_ms": 1000, "epoch_us": 10**6}


def seldom(one_in):
    return st.sampled_from((*[False] * (one_in - 1), True))


# --- tables --------------------------------------------------------------------------------------------------------

USERS = st.one_of(
    of("a", "b", "A", " a", "a ", "straße", "STRASSE", "17850", "17850.0", "0017", "1e3", "null", r"\N", "N/A"),
    of("customer-0000000001", "customer-00000000-1", "用户", "e\u0301", "\U0001f600", 'say "hi"', "a,b", "a;b\tc|d"),
    of("two\nlines", "two\r\nlines", "\ufeffa", "=1+1", "'7", '"', '""', "a\0b", "\r", "x" * 40, "\x1c", "-0", "é" * 7),
    st.text(st.characters(codec="utf-8"), max_size=16),
)
BLANK_USERS = of(None, "", " ", "\t", "\xa0", "\u3000 ", " " * 20)
DAYS = st.one_of(
    st.dates(dt.date(2025, 12, 1), dt.date(2026, 4, 30)),
    of(dt.date(2024, 2, 29), dt.date(2025, 3, 9), dt.date(2025, 11, 2), dt.date(2011, 12, 30), dt.date(2026, 1, 1)),
)
CLOCKS = st.builds(dt.time, of(0, 1, 2, 12, 23), of(0, 30, 59), of(0, 59), of(0, 0, 1, 999_999, 500_000))


@st.composite
def iso_texts(draw, kinds):
    """Draw an instant of one of these kinds in one of the forms of ISO 8601."""
    day, clock, kind = draw(DAYS), draw(CLOCKS), draw(of(*kinds))
    basic = draw(seldom(3))
    text = day.strftime("%Y%m%d") if basic else day.isoformat()
    if kind == "date":
        return text
    dot = draw(of(".", "."))
    fraction = draw(of("", "", f"{dot}{clock.microsecond:06}", f"{dot}5", f"{dot}123456789"))
    time = clock.strftime("%H%M%S" if basic else "%H:%M:%S") + fraction
    if draw(seldom(5)):
        time = clock.strftime("%H%M" if basic else "%H:%M")
    text += draw(of("T", " ", "t")) + time
    return text if kind == "naive" else text + draw(of("Z", "z", "UTC", " UTC", "+02:00", "-0500", " +05:45", "-11"))


@st.composite
def instant_texts(draw, form, kinds):
    """Draw an instant in a format."""
    if form is None or draw(seldom(12)):
        return draw(iso_texts(kinds))
    moment = dt.datetime.combine(draw(DAYS), draw(CLOCKS), dt.UTC)
    if form == "excel":
        days = (moment.date() - dt.date(1899, 12, 30)).days
        return f"{days}{draw(of('', '', '.0', '.5', '.75', '.39583333', '.99999999'))}"
    if form in SCALES:
        return f"{int(moment.timestamp()) * SCALES[form]}{draw(of('', '', '.5', '.25', 'e0'))}"
    text = moment.strftime(form)
    return text.replace("/0", "/") if draw(seldom(3)) else text


@st.composite
def amount_texts(draw, mark, currency):
    """Draw an amount as people write them."""
    whole = draw(st.one_of(st.integers(-50, 500), st.integers(-(10**7), 10**7)))
    places = draw(of("", "", "5", "25", "000001", "0000005", "00000050000001", "0000015"))
    separator = draw(of("", "", "'", "\xa0", "." if mark == "," else ","))
    text = f"{abs(whole):,}".replace(",", separator) + (mark + places if places else "")
    if draw(seldom(8)):
        text = f"{abs(whole)}{draw(of('e0', 'E+2', 'e-3', mark, mark + '5e1'))}"
    form = draw(of("{}", "{}", "{}", " {} ", currency + "{}", currency + " {}", "{} " + currency))
    text = form.format(text)
    if whole < 0:
        return draw(of("-{}", "({})", "-{}")).format(text)
    return "+" + text if draw(seldom(9)) else text


@st.composite
def texts(draw):
    """Draw rows of text, and the settings that read them, mostly."""
    form = draw(of(None, None, None, None, *FORMATS, *SCALES, "excel"))
    kinds = draw(of(("date", "naive"), ("zoned",), ("date",), ("naive",), ("date", "naive", "zoned")))
    options = {
        "timestamp_format": form,
        "decimal": draw(of(".", ".", ",")),
        "assume_zone": draw(of(None, None, *ZONES)),
        "normalize": draw(of(None, None, "strip", "casefold")),
        "nulls": draw(of("drop", "drop", "error")),
        "decimals": draw(of(6, 6, 2, 0, 9)),
        "timezone": draw(of(*ZONES)),
        "end": draw(of(None, None, None, "2026-03")),
    }
    if len(kinds) == 3 and draw(of(False, True, True)):
        options["assume_zone"] = draw(of(*ZONES))
    currency = draw(of("$", "€", "EUR", "USD"))
    bad_instant, bad_amount, hole = (draw(seldom(4)) for _ in range(3))
    edges = of("1900-01-01", "1899-12-31T23:59", "2200-12-31T23:30", "2201-01-01", "9999-12-31", "0001-01-01")
    users = draw(st.lists(USERS, min_size=1, max_size=5))
    rows = []
    for _ in range(draw(of(6, 3, 12, 1, 20, 2, 0))):
        row = [
            draw(of(*users)),
            draw(instant_texts(form, kinds)),
            draw(amount_texts(options["decimal"], currency)),
        ]
        if bad_instant and draw(seldom(6)):
            row[1] = draw(st.one_of(INSTANTS, edges))
        if bad_amount and draw(seldom(6)):
            row[2] = draw(st.one_of(AMOUNTS, of("9223372036854.775807", "£5", "9e12", "12 345 678 901 234")))
        if hole and draw(seldom(4)):
            place = draw(st.integers(0, 2))
            row[place] = draw(BLANK_USERS) if place == 0 else draw(of(None, "", " ", "\t"))
        rows.append(row)
    return rows, {name: value for name, value in options.items() if value is not None}


# --- files ---------------------------------------------------------------------------------------------------------


def csv_data(part, draw):
    """Write rows as CSV; return the text and the line that each row begins in."""
    separator, newline, always = draw(of(",", ";", "\t", "|")), draw(of("\n", "\r\n")), draw(st.booleans())
    order = draw(st.permutations(range(4)))
    note = draw(of("", "n", "a,b\n\nc", '"'))

    def cell(text):
        text = text or ""
        return '"' + text.replace('"', '""') + '"' if always or re.search(r'[",;\t|\r\n\ufeff]', text) else text

    lines, starts, line = [], [], 1
    for row in [(*COLUMNS, "note"), *((*row, note) for row in part)]:
        starts.append(line)
        lines.append(separator.join(cell(row[column]) for column in order))
        line += lines[-1].count("\n") + 1
        if draw(seldom(9)):
            lines.append("")
            line += 1
    return newline.join(lines) + newline * draw(of(0, 1, 2)), starts[1:]


def json_data(part, draw, rows):
    """Write rows as JSON lines; return the text and the line of each row. Nulls can be left out."""
    held = [any(row[place] is not None for row in rows) for place in range(3)]
    blank = draw(of("", "\n"))
    ascii_only = draw(st.booleans())

    def line(row):
        cells = zip(COLUMNS, row, held, strict=True)
        items = [(name, text) for name, text, can_miss in cells if text is not None or not blank or not can_miss]
        return json.dumps(dict(draw(st.permutations(items))), ensure_ascii=ascii_only) + "\n" + blank

    return "".join(map(line, part)), [1 + index * (1 + len(blank)) for index in range(len(part))]


def packed(data, draw):
    how = draw(of("", "", "gz", "zst", "two gz"))
    if how == "two gz":
        half = len(data) // 2
        return gzip.compress(data[:half], 1) + gzip.compress(data[half:], 1), ".gz"
    return {"": lambda: data, "gz": lambda: gzip.compress(data, 1), "zst": lambda: zstd.compress(data)}[how](), (
        how and f".{how}"
    )


def encoded(text, draw):
    return draw(of(text.encode(), b"\xef\xbb\xbf" + text.encode(), ("\ufeff" + text).encode("utf-16-le")))


def files(folder, kind, rows, draw):
    """Write rows as files of one kind, in one to three parts; return the source and the place of each row."""
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=2)))
    parts = [rows[first:last] for first, last in pairwise([0, *cuts, len(rows)])]
    paths, places = [], []
    for number, part in enumerate(parts):
        if kind == "parquet":
            path = folder / f"{number}.parquet"
            frame = text_frame(part).select(draw(st.permutations(COLUMNS)))
            frame.write_parquet(path, row_group_size=draw(of(1, 3, 1000)), use_pyarrow=draw(st.booleans()))
            places += [f"{path}, row {row}: " for row in range(len(part))]
        else:
            text, lines = csv_data(part, draw) if kind == "csv" else json_data(part, draw, rows)
            if kind == "csv" and text.startswith('"\ufeff'):
                text = text[1:]
            data, ending = packed(encoded(text, draw), draw)
            path = folder / f"{number}.{draw(of('csv', 'tsv')) if kind == 'csv' else kind}{ending}"
            path.write_bytes(data)
            places += [f"{path}, line {line}: " for line in lines]
        paths.append(str(path))
    return paths[0] if len(paths) == 1 and draw(st.booleans()) else paths, places


def text_frame(rows):
    return pl.DataFrame([list(row) for row in rows], schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def framed(rows, draw):
    """Return rows as a frame of text, in one of its forms."""
    frame = text_frame(rows)
    form = draw(of("chunks", "lazy", "arrow", "pandas", "categories"))
    if form == "chunks":
        cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
        return pl.concat([frame[first:last] for first, last in pairwise([0, *cuts, len(rows)])], rechunk=False)
    return {
        "lazy": frame.lazy,
        "arrow": frame.to_arrow,
        "pandas": frame.to_pandas,
        "categories": lambda: frame.with_columns(pl.col(draw(of(*COLUMNS))).cast(pl.Categorical)),
    }[form]()


# --- answers -------------------------------------------------------------------------------------------------------


def answer(call):
    """Return the rows of a table, or the message; and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = call()
            found = [{name: exactly(value) for name, value in row.items()} for row in table.to_dicts()]
        except CohortlibError as error:
            found = error
    assert all(issubclass(each.category, CohortlibWarning) for each in caught), [str(each.message) for each in caught]
    return found, sorted(str(each.message) for each in caught)


def message(error, places, row):
    """Return the message without its place, which must be that of the row."""
    text = str(error)
    if row is not None:
        assert text.startswith(places[row]), (text, places[row])
        text = text[len(places[row]) :]
    return text


def judged(rows, options):
    """Return the tables of the slow reader, or its refusal."""
    end = options.get("end")
    names = ("timestamp_format", "decimal", "assume_zone", "normalize", "nulls", "decimals")
    reading = {name: options[name] for name in names if name in options}
    try:
        read = naive_text.read_table(rows, **reading, end=end and naive.days_of(end)[1], codes=CODES_DRAWN)
        asked = {name: options[name] for name in ("timezone", "nulls", "decimals", "end") if name in options}
        if not any(row[0] is not None and row[1] is not None and row[2] is not None for row in read):
            return [], []
        return naive.cohorts(read, **asked), naive.customer_cohorts(read, **asked)
    except naive_text.Refused as refused:
        return refused, refused
    except naive.Refused:
        refused = naive_text.Refused("an amount, or the sum of all, is beyond")
        return refused, refused


def check(found, expected, places, *, masked):
    """Compare an answer with that of the slow reader; return what other roads must agree on."""
    if not isinstance(expected, naive_text.Refused):
        assert not isinstance(found, CohortlibError), str(found)
        assert found == [{name: exactly(value) for name, value in row.items()} for row in expected]
        return None
    assert isinstance(found, CohortlibError), found
    assert expected.words in str(found), (str(found), expected.words)
    text = message(found, places, expected.row)
    return text.replace(repr(found.value), "…") if masked else text


@pytest.fixture
def tiny_memory(monkeypatch):
    """Let a budget of one byte pass, so that a few rows are spilled in several runs."""
    monkeypatch.setattr(memory, "MINIMUM", 1)
    monkeypatch.setattr(spill, "_MIN_ROWS", 3)


@given(texts(), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_law_of_reading(tmp_path_factory, tiny_memory, drawn, data):
    rows, options = drawn
    draw = data.draw
    expected, customers = judged(rows, options)
    places = [f"row {row}: " for row in range(len(rows))]
    found, warned = answer(lambda: cl.termina.cohorts(text_frame(rows), **options))
    said = check(found, expected, places, masked=False)
    order = draw(st.permutations(range(len(rows))))
    moved = [rows[row] for row in order]
    moved_expected, moved_customers = judged(moved, options)
    for masked, kind in ((False, "frame"), (draw(st.booleans()), "csv"), (False, "jsonl"), (True, "parquet")):
        if kind == "jsonl" and not rows:
            continue  # without a row no column has a name
        folder = tmp_path_factory.mktemp("law")
        these = moved if masked else rows
        source, places = framed(these, draw), [f"row {row}: " for row in range(len(these))]
        if kind != "frame":
            source, places = files(folder, kind, these, draw)
        budget = draw(of(None, 1))
        with pytest.MonkeyPatch.context() as patch, pl.Config(streaming_chunk_size=draw(of(None, 1, 5))):
            patch.setattr(bytes_module, "BLOCK", draw(of(1 << 22, 1, 7, 64)))
            patch.setattr(jsonl, "_ROWS", draw(of(1 << 16, 1, 3)))
            patch.setattr(tables, "_BATCH", draw(of(1 << 20, 1, 3)))
            patch.setattr(text_module, "_BLOCK", draw(of(1 << 16, 1, 3)))
            result, doubts = answer(
                lambda: cl.termina.cohorts(source, **options, max_memory=budget, threads=draw(of(1, 2)))  # noqa: B023
            )
            wanted = moved_expected if masked else expected
            again = check(result, wanted, places, masked=masked)
            if said is not None:
                assert again == (said.replace(repr(found.value), "…") if masked else said), kind
            assert doubts == warned, (kind, doubts, warned)
            if draw(st.booleans()):
                result, _ = answer(lambda: cl.termina.customer_cohorts(source, **options))  # noqa: B023
                check(result, moved_customers if masked else customers, places, masked=masked)
