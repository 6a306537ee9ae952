"""Files of all kinds become columns: shape, encodings, folders, lists, drift of types."""

import codecs
import datetime as dt
import gzip
import json
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortlib as cl
from cohortlib.errors import SchemaError, SettingError, SourceError
from cohortlib.read import bytes as text_bytes
from cohortlib.read import parquet, small_files, sources
from cohortlib.read.csv import Csv
from cohortlib.read.folders import File
from cohortlib.read.tables import FileOptions

pytestmark = pytest.mark.unit

COLUMNS = ["user_id", "timestamp", "amount"]
HEADER = "user_id,timestamp,amount\n"
ROADS = {"in memory": None, "in batches": 0}


def stream(source, columns=COLUMNS, road=None, **options):
    return sources.stream(source, lambda names: columns or names, options=FileOptions(**options), max_bytes=road)


def rows(source, columns=COLUMNS, **options):
    """Read a source on every road; the rows must be the same."""
    first, *others = [stream(source, columns, road, **options).frame() for road in ROADS.values()]
    for other in others:
        assert other.schema == first.schema
        assert other.equals(first)
    return first.rows()


def refused(source, columns=COLUMNS, error=SourceError, **options):
    """Return the message that every road raises."""
    messages = set()
    for road in ROADS.values():
        with pytest.raises(error) as caught:
            stream(source, columns, road, **options).frame()
        messages.add(str(caught.value))
    (message,) = messages
    return message


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, data):
    from pathlib import Path

    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".gz"):
        data = gzip.compress(data.encode() if isinstance(data, str) else data)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return name


# ---- text


A = ("a", "2026-01-05", "10")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", HEADER + "a,2026-01-05,10\n"),
        ("x.csv", HEADER + "a,2026-01-05,10"),
        ("x.csv", (HEADER + "a,2026-01-05,10\n").replace("\n", "\r\n")),
        ("x.csv", "\n\r\n" + HEADER + "\n\r\na,2026-01-05,10\n\n"),
        ("x.csv", 'user_id,"timestamp","amount"\n"a",2026-01-05,"10"\n'),
        ("x.csv", "\ufeff" + HEADER + "a,2026-01-05,10\n"),
        ("x.CSV", HEADER.replace(",", ";") + "a;2026-01-05;10\n"),
        ("x.csv", HEADER.replace(",", "|") + "a|2026-01-05|10\n"),
        ("x.tsv", HEADER.replace(",", "\t") + "a\t2026-01-05\t10\n"),
        ("x.tsv", codecs.BOM_UTF16_LE + (HEADER + "a,2026-01-05,10\n").replace(",", "\t").encode("utf-16-le")),
        ("x.csv", codecs.BOM_UTF16_BE + (HEADER + "a,2026-01-05,10\n").encode("utf-16-be")),
        ("x.csv.gz", HEADER + "a,2026-01-05,10\n"),
        ("x.csv", gzip.compress(HEADER.encode(), mtime=0) + gzip.compress(b"a,2026-01-05,10\n", mtime=0)),
    ],
)
def test_forms_of_text(name, data):
    assert rows(write(name, data)) == [A]


@pytest.mark.parametrize("block", [1, 2, 8, 1 << 22])
def test_zstd(block, monkeypatch):
    monkeypatch.setattr(text_bytes, "BLOCK", block)
    zstd = pytest.importorskip("backports.zstd")
    assert rows(write("x.csv.zst", zstd.compress(HEADER.encode()) + zstd.compress(b"a,2026-01-05,10\n"))) == [A]
    whole = zstd.compress(HEADER.encode() * 100)
    assert "the compressed data ends early" in refused(write("x.csv.zst", whole[: len(whole) // 2]))


def test_empty_fields_are_null():
    assert rows(write("x.csv", HEADER + ',"",\n')) == [(None, None, None)]


def test_quoted_fields():
    path = write("x.csv", HEADER + '"a,""b""\n\nc",2026-01-05,"1\r\n"\nd"e,f,5"\n')
    assert rows(path) == [('a,"b"\n\nc', "2026-01-05", "1\r\n"), ('d"e', "f", '5"')]
    assert [stream(path).locate(row) for row in range(2)] == ["x.csv, line 2", "x.csv, line 6"]


def test_places_skip_blank_lines():
    write("1.csv", "\n" + HEADER + "\na,,\n\n\nb,,\n")
    write("2.csv", HEADER)
    write("3.csv", HEADER + "c,,")
    places = [stream("*.csv", road=road).locate(row) for road in (None, 0) for row in range(3)]
    assert places == ["1.csv, line 4", "1.csv, line 7", "3.csv, line 2"] * 2


@pytest.mark.parametrize("columns", [COLUMNS, ["amount"], ["city"]])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "u2,Paris, Texas,2026-01-02,20",
            "x.csv, line 3 has 5 fields, the header 4. Hint: a field that holds ',' must",
        ),
        ("u2,Paris,2026-01-02", "x.csv, line 3 has 3 fields, the header 4."),
        ("u2", "x.csv, line 3 has 1 field, the header 4."),
        (" ", "x.csv, line 3 has 1 field, the header 4."),
        (",,,,\n,,", "x.csv, line 3 has 5 fields, the header 4 (2 rows of the file do not fit it)."),
        ('u2,"Paris" Texas,2026-01-02,20', "x.csv, line 3 has text after a closing quote. Expected a separator"),
        ('u2,"Paris,2026-01-02,20', "x.csv, line 3 opens a quote that is never closed"),
        ("u2,Pa\rris,2026-01-02,20", "x.csv, line 3 has a carriage return inside of a field"),
        ("u2,Pa\udcffris,2026-01-02,20", "x.csv, line 3 is not UTF-8. Hint: encoding='latin-1' reads"),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_rows_of_another_shape_are_refused(name, columns, line, message):
    text = f"user_id,city,timestamp,amount\nu1,Bonn,2026-01-01,10\n{line}\nu3,Oslo,2026-01-03,30\n"
    write(name, text.encode("utf-8", "surrogateescape"))
    assert refused(name, columns).startswith(message.replace("x.csv", name))


def test_encoding():
    write("x.csv", "user_id,name,timestamp,amount\na,Jürgen,2026-01-05,10\n".encode("latin-1"))
    assert "encoding='latin-1'" in refused("x.csv")
    assert rows("x.csv", ["user_id", "name"], encoding="latin-1") == [("a", "Jürgen")]
    assert "cannot be read as encoding='ascii'" not in refused("x.csv", encoding="utf-8")
    write("y.csv", (HEADER + "a,2026-01-05,10\n").encode("utf-16-le"))
    assert "encoding='utf-16-le' reads UTF-16 without the mark" in refused("y.csv")
    assert rows("y.csv", encoding="utf-16-le") == [A]
    assert "cannot be read as encoding='shift-jis'" in refused(
        write("z.csv", b"a\n\xa0\xff"), ["a"], encoding="shift-jis"
    )
    for wrong in ("utf-9", 8):
        with pytest.raises(SettingError, match=f"encoding={wrong!r} is unknown"):
            FileOptions(encoding=wrong)


def test_files_without_a_header_or_rows():
    assert rows(write("x.csv", HEADER)) == []
    for data in ("", "\n\n", "\ufeff"):
        assert refused(write("x.csv", data)) == "'x.csv' is empty. Expected a CSV file with a header line"
    assert "is not one line of names" in refused(write("x.csv", '"a\n1,2\n'), ["a"])
    assert "is not one line of names" in refused(write("x.csv", "a,b\r1,2\r"), ["a"])
    assert "column 'a' is not in the table" in refused(write("x.csv", "b\n"), ["a"], SchemaError)
    assert (
        refused(write("x.csv", "a,b,a\n1,2,3\n"), ["a"], SchemaError)
        == "the table has 2 columns 'a'. Expected each name once"
    )
    assert rows("x.csv", ["b"]) == [("2",)]


def test_columns_may_differ_between_files():
    write("1.csv", HEADER + "a,2026-01-31,1\n")
    write("2.csv", "amount;channel;user_id;timestamp\n7;web;a;2026-01-31\n")
    write("3.csv", HEADER)
    assert rows("*.csv") == [("a", "2026-01-31", "1"), ("a", "2026-01-31", "7")]
    assert (
        refused("*.csv", ["user_id", "channel"])
        == "'1.csv' has no column 'channel'. Expected the same columns in all files"
    )


# ---- folders and lists


def test_lists():
    for name in "abc":
        write(f"{name}.csv", HEADER + f"{name},2026-01-05,1\n")
    assert [row[0] for row in rows(["c.csv", "a.csv"])] == ["c", "a"]
    assert [row[0] for row in rows(("[ab].csv", "c.csv"))] == ["a", "b", "c"]
    assert refused(["a.csv", "*.csv"]) == "the list of files holds 'a.csv' twice. Expected each file once"
    pl.DataFrame({"user_id": [1]}).write_parquet("d.parquet")
    assert refused(["a.csv", "d.parquet"]) == "the list of files mixes csv and parquet. Expected files of one kind"
    assert refused([]).startswith("the list of files is empty")
    assert "there is no file 'x.csv'" in refused(["x.csv"])


def test_folders():
    for name in ("lake/x/1.csv", "lake/2.csv.gz", "lake/_tmp/3.csv", "lake/.4.csv"):
        write(name, HEADER + f"{name},2026-01-05,1\n")
    write("lake/_SUCCESS", "")
    write("lake/notes.txt", "")
    assert [row[0] for row in rows("lake")] == ["lake/2.csv.gz", "lake/x/1.csv"]
    assert [row[0] for row in rows("lake/")] == ["lake/2.csv.gz", "lake/x/1.csv"]
    pl.DataFrame({"user_id": [1]}).write_parquet("lake/5.parquet")
    assert refused("lake") == (
        "the folder 'lake' has 2 csv and 1 parquet files. Expected files of one kind. Hint: use a glob: "
        "'lake/**/*.parquet'"
    )
    write("empty/notes.txt", "")
    assert refused("empty").startswith("the folder 'empty' has no Parquet or CSV files")
    assert "is neither Parquet, CSV" in refused("empty/notes.txt")


def test_hive_partitions():
    for country in ("DE", "FR", "__HIVE_DEFAULT_PARTITION__", "a%20b"):
        path = f"hive/country={country}/year=2026"
        frame = pl.DataFrame({"user_id": [country], "timestamp": [dt.date(2026, 1, 5)], "amount": [1]})
        write(f"{path}/0.parquet", "")
        frame.write_parquet(f"{path}/0.parquet")
        write(f"csv/{path}/0.csv", frame.write_csv())
    expected = {"DE": "DE", "FR": "FR", "__HIVE_DEFAULT_PARTITION__": None, "a%20b": "a b"}
    for source in ("hive", "hive/**/*.parquet"):
        assert dict(rows(source, ["user_id", "country"])) == expected
        assert stream(source, ["year"]).schema == {"year": pl.Int64}
    assert dict(rows("csv", ["user_id", "country"])) == expected
    assert rows("csv", ["year", "amount"]) == [("2026", "1")] * 4
    assert "column 'month' is not in the table" in refused("hive", ["month"], SchemaError)


@pytest.mark.parametrize(("log", "kind"), [("_delta_log/0.json", "Delta"), ("metadata/1.metadata.json", "Iceberg")])
def test_globs_into_a_lake_are_refused(log, kind):
    write(f"lake/table/{log}", "{}")
    write("lake/table/x=1/0.csv", HEADER)
    for source in ("lake", "lake/**/*.csv", "lake/table/x=1/0.csv", ["lake/table/x=1/0.csv"], "lake/table/*/*.csv"):
        message = refused(source)
        assert f"reads files of the {kind} table 'lake/table', also those that were deleted from it" in message
        assert "Hint: pass its folder 'lake/table'" in message


# ---- Parquet


DAY = dt.datetime(2026, 1, 5)


@pytest.mark.parametrize(
    ("dtypes", "values", "common"),
    [
        ([pl.Int8, pl.Int64], [1, 2], pl.Int64),
        ([pl.UInt8, pl.UInt64], [1, 2**64 - 1], pl.UInt64),
        ([pl.Int16, pl.UInt64], [-1, 2**64 - 1], pl.Int128),
        ([pl.Int32, pl.Float32, pl.Float64], [3, 0.5, 1.25], pl.Float64),
        ([pl.Int64, pl.Decimal(10, 2), pl.Decimal(12, 4)], [3, 1, 2], pl.Decimal(38, 4)),
        ([pl.String, pl.Categorical, pl.Enum(["x"])], ["a", "b", "x"], pl.String),
        ([pl.Null, pl.Int32], [None, 1], pl.Int32),
        ([pl.Date, pl.Datetime("ns"), pl.Datetime("ms")], [DAY.date(), DAY, DAY], pl.Datetime("ms")),
        ([pl.Datetime("us", "UTC"), pl.Datetime("ms", "Asia/Tokyo")], [DAY, DAY], pl.Datetime("ms", "UTC")),
    ],
)
def test_files_agree_in_meaning_not_in_width(dtypes, values, common):
    for order in (1, -1):
        for index, (dtype, value) in enumerate(zip(dtypes[::order], values[::order], strict=True)):
            pl.DataFrame({"user_id": pl.Series([value]).cast(dtype), f"more{index}": [1]}).write_parquet(
                f"{index}.parquet"
            )
        result = stream("*.parquet", ["user_id"]).frame()
        assert result.schema == {"user_id": common}
        each = [pl.Series([value]).cast(dtype).cast(common) for value, dtype in zip(values, dtypes, strict=True)]
        assert result["user_id"].equals(pl.concat(each[::order]))


def test_instants_before_1970_are_rounded_down():
    for unit in ("ns", "ms"):
        pl.DataFrame({"t": pl.Series([-1]).cast(pl.Datetime(unit))}).write_parquet(f"{unit}.parquet")
    assert stream("*.parquet", ["t"]).frame()["t"].to_physical().to_list() == [-1, -1]


@pytest.mark.parametrize("order", [1, -1])
def test_instants_with_and_without_a_zone_become_text(order):
    values = [pl.Series([DAY]), pl.Series([DAY]).dt.replace_time_zone("Asia/Tokyo"), pl.Series([DAY.date()])]
    for index, series in enumerate(values[::order]):
        pl.DataFrame({"t": series}).write_parquet(f"{index}.parquet")
    assert rows("*.parquet", ["t"])[::order] == [("2026-01-05T00:00:00",), ("2026-01-04T15:00:00Z",), ("2026-01-05",)]


def test_other_meanings_are_refused():
    pl.DataFrame({"a": [1]}).write_parquet("1.parquet")
    pl.DataFrame({"a": ["x"]}).write_parquet("2.parquet")
    assert refused("*.parquet", ["a"]) == "column 'a' of '2.parquet' is String. Expected Int64, as in '1.parquet'"
    pl.DataFrame({"a": [2**53 + 1]}).write_parquet("1.parquet")
    pl.DataFrame({"a": [0.5]}).write_parquet("2.parquet")
    assert refused("*.parquet", ["a"], SchemaError).startswith("column 'a' of '1.parquet' has 1 integers beyond 2**53")


# ---- JSON lines


def lines(*objects):
    return "\n".join(json.dumps(each) for each in objects)


def test_json_lines():
    write(
        "1.jsonl", '{"user_id": 1, "amount": 2, "timestamp": "2026-01-05"}\n\n{"amount": 0.5, "user_id": 2, "x": [1]}\n'
    )
    write("2.jsonl.gz", '{"user_id": 3, "amount": null, "timestamp": ""}')
    assert rows(["1.jsonl", "2.jsonl.gz"]) == [(1, "2026-01-05", 2.0), (2, None, 0.5), (3, None, None)]
    assert stream("1.jsonl").schema == {"user_id": pl.Int64, "timestamp": pl.String, "amount": pl.Float64}
    assert [stream(["1.jsonl", "2.jsonl.gz"]).locate(row) for row in (1, 2)] == [
        "1.jsonl, line 3",
        "2.jsonl.gz, line 1",
    ]
    assert "1.jsonl, line 3: column 'x' holds a list" in refused("1.jsonl", ["x"], SchemaError)
    write("3.jsonl", '{"user_id": 4, "channel": "a"}')
    assert rows(["1.jsonl", "3.jsonl"], ["user_id", "channel", "amount"]) == [
        (1, None, 2.0),
        (2, None, 0.5),
        (4, "a", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines({"a": 1}, {"a": "b"}, {"a": 2}), "column 'a' holds 2 numbers and 1 text; x.jsonl, line 2 has 'b'"),
        ('{"a": NaN}', "x.jsonl, line 1 is not JSON: NaN is not JSON"),
        ('{"a": 1}\n{"a": 1, "a": 2}', "x.jsonl, line 2 is not JSON: the name 'a' stands twice"),
        ('{"a": 1}\n[1]', "x.jsonl, line 2 is a list. Expected one object in each line"),
        ('{"a": 1}\n{"a": ', "x.jsonl, line 2 is not JSON"),
        ('{"a": "\\ud800"}', "column 'a' holds text that is not Unicode"),
        ("", "'x.jsonl' is empty"),
        (b'{"a": "\xff"}', "x.jsonl, line 1 is not UTF-8"),
    ],
)
def test_wrong_json_lines_are_refused(text, message):
    assert refused(write("x.jsonl", text), ["a"], (SchemaError, SourceError)).startswith(message)


def test_wide_integers_of_json_are_floats():
    assert rows(write("x.jsonl", lines({"a": 2**63}, {"a": 1})), ["a"]) == [(2.0**63,), (1.0,)]
    assert rows(write("x.jsonl", lines({"a": 2**63 - 1})), ["a"]) == [(2**63 - 1,)]


# ---- Excel


def test_excel():
    xlsxwriter = pytest.importorskip("xlsxwriter")
    pytest.importorskip("python_calamine")
    with xlsxwriter.Workbook("x.xlsx") as book:
        sheet = book.add_worksheet("Orders")
        book.add_worksheet("Notes")
        sheet.write_row(1, 0, COLUMNS)
        for row, (user, when, amount) in enumerate([(17850, DAY, 10.5), (17851, DAY, 3)], 3):
            sheet.write(row, 0, user)
            sheet.write_datetime(row, 1, when, book.add_format({"num_format": "yyyy-mm-dd"}))
            sheet.write(row, 2, amount)
    for sheet in ("Orders", 1, "1"):
        assert rows("x.xlsx", sheet=sheet) == [(17850, DAY.date(), 10.5), (17851, DAY.date(), 3.0)]
    assert stream("x.xlsx", sheet=1).locate(1) == "x.xlsx, row 5"
    assert refused("x.xlsx", error=SettingError) == (
        "'x.xlsx' has 2 sheets. Expected one of 'Orders', 'Notes'. Hint: sheet='Orders'"
    )
    assert "has no sheet for sheet='X'" in refused("x.xlsx", error=SettingError, sheet="X")
    assert "'x.xlsx' is empty" in refused("x.xlsx", sheet="Notes")
    assert "cannot be read" in refused(write("y.xlsx", "no workbook"))


# ---- the law


FIELDS = st.text(st.sampled_from('aé\U0001f600",;\t|\n\r x0'), max_size=9)


@st.composite
def tables(draw):
    """Draw rows of text, none of them a null, and the files they are written to."""
    body = draw(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=12))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    forms = [draw(st.tuples(st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(),
                            st.permutations(range(3)))) for _ in parts]  # fmt: skip
    return body, parts, forms


def written(part, separator, newline, *, always, order):
    """Write rows as CSV; the columns in another order."""

    def cell(text):
        quoted = always or any(each in text for each in '",;\t|\n\r')
        return '"' + text.replace('"', '""') + '"' if quoted else text

    table = [COLUMNS, *part]
    return newline.join(separator.join(cell(row[column]) for column in order) for row in table) + newline * (
        len(part) % 2
    )


@given(tables(), st.sampled_from([1, 7, 64, 1 << 20]), st.sampled_from([1, 2]), st.booleans())
def test_files_blocks_and_forms_do_not_matter(tmp_path_factory, drawn, block, workers, lined):
    body, parts, forms = drawn
    folder = tmp_path_factory.mktemp("law", numbered=True)
    for index, (part, (separator, newline, always, packed, order)) in enumerate(zip(parts, forms, strict=True)):
        data = written(part, separator, newline, always=always, order=order)
        if lined:
            data = lines(*(dict(zip(COLUMNS, row, strict=True)) for row in part))
        name = f"{index}.{'jsonl' if lined else 'csv'}"
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data.encode()) if packed else data.encode())
    source = [str(folder / name.name) for name in sorted(folder.iterdir())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_bytes, "BLOCK", block)
        expected = [tuple(text or None for text in row) for row in body]
        if lined and not body:
            return
        for road in ROADS.values():
            frame = stream(source, road=road, workers=workers).frame()
            assert frame.rows() == expected
            for row in range(frame.height):
                assert re.search(r"line \d+$", stream(source, road=road).locate(row))


@pytest.mark.parametrize(("full", "heights"), [(1, [3] * 7), (7, [12, 9]), (1 << 16, [21])])
def test_small_files_make_one_batch(tmp_path, monkeypatch, full, heights):
    monkeypatch.setattr(parquet, "FULL", full)
    monkeypatch.setattr(small_files, "ROWS_OF_BLOCK", full)
    frame = pl.DataFrame({"user_id": [f"user {row}" for row in range(21)]})
    for number, part in enumerate(frame.iter_slices(3)):
        part.write_parquet(tmp_path / f"{number}.parquet")
    batches = list(sources.stream(tmp_path, lambda names: names).batches())
    assert [batch.height for batch in batches] == heights
    assert all(batch.n_chunks() == 1 for batch in batches)
    assert pl.concat(batches).equals(frame)


def test_the_hint_line_of_excel_sets_the_separator():
    for mark, hint in ((";", "sep=;\r\n"), (";", "\nSEP=;\n"), (",", '"sep=,"\n'), (":", "sep=:\n")):
        text = hint + "user_id,timestamp,amount,note\na,2026-01-05,10,x|y|z|x|y|z\n\nb,,,\n".replace(",", mark)
        path = write("x.csv", text)
        assert rows(path) == [("a", "2026-01-05", "10"), ("b", None, None)]
        assert stream(path).locate(1) == f"x.csv, line {text.count(chr(10))}"


@pytest.mark.parametrize("title", ["Orders of 2025\n", "# exported by shop, 2025\n\n"])
def test_lines_before_the_header_are_shown(title):
    message = refused(write("x.csv", title + HEADER + "a,2026-01-05,10\n"))
    shown = ", ".join(repr(name) for name in title.strip().split(","))
    assert f"the first line of 'x.csv' has {1 + title.count(',')} field" in message
    assert f"({shown}), the next line 3. Expected the names of the columns in the first line" in message
    assert "remove titles and comments" in message


def test_a_row_that_is_longer_than_a_header_of_one_field():
    message = refused(write("x.csv", "title\nx\na,b\n"), ["title"])
    assert message.startswith("x.csv, line 3 has 2 fields, the header 1 ('title'). Hint: remove titles")


def test_a_name_in_other_letters_is_suggested():
    message = refused(write("x.csv", "USER_ID,Timestamp,amount\n"), error=SchemaError)
    assert message.endswith("Hint: user='USER_ID'")


def test_a_sheet_is_only_for_workbooks():
    path = write("x.csv", HEADER + "a,2026-01-05,10\n")
    for call in (cl.termina.cohorts, cl.inspect, lambda source, **k: cl.prepare(source, "out", **k)):
        with pytest.raises(SettingError, match=r"sheet='Orders' is for workbooks, but the rows are read from 'x\.csv'"):
            call(path, sheet="Orders")


def test_blank_lines_are_counted():
    blank = "\r\n\n"
    text = "\n" + HEADER + "\n" + 'a,"\n\n\r\n",1\n' + blank + 'b 5",,\n' + blank + "c,,\n\n"
    plain = text.replace('"\n\n\r\n"', "")
    for quoted in (text, plain, text.replace(' 5"', ""), plain.replace('"', "")):
        for road in ROADS.values():
            csv = Csv("x.csv", [File(write("x.csv", quoted))], lambda names: COLUMNS)
            csv.stream(whole=road is None).frame()
            assert csv.counts["blank_lines"] == 7
