"""Inputs as people have them: the right table, or a refusal that says what to write. In Python and on the command line.

The rows are those of public reports, made up anew.
"""

import datetime as dt
import warnings
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.errors import CohortlibError

pytestmark = pytest.mark.unit

HEADER = "user_id,timestamp,amount\n"
NEW_YORK = {"timezone": "America/New_York"}
ROADS = ({}, {"max_memory": 1 << 27})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(name, data):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, pl.DataFrame):
        data.write_parquet(path)
    else:
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def table(source, **settings):
    """Return cohort, age and amount of each row that has an amount; all roads agree."""
    results = []
    for road in ROADS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.append(cl.termina.cohorts(source, **settings, **road))
    assert all(result.equals(results[0]) for result in results)
    rows = results[0].filter(pl.col("amount") > 0)
    return [(row["cohort"], row["period"], row["amount"]) for row in rows.to_dicts()]


def refusal(source, **settings):
    """Return the message, the same on all roads."""
    messages = set()
    for road in ROADS:
        with pytest.raises(CohortlibError) as error:
            cl.termina.cohorts(source, **settings, **road)
        messages.add(str(error.value))
    (message,) = messages
    return message


def run(*arguments):
    result = CliRunner().invoke(cli, ["termina", "cohorts", *arguments, "--format", "csv"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize("order", [1, -1])
def test_naive_and_zoned(order):
    zoned = pl.Series([dt.datetime(2026, 3, 1, 3)]).dt.replace_time_zone("UTC")
    naive = pl.Series([dt.datetime(2026, 3, 1, 3), dt.datetime(2026, 4, 1, 3)])
    frames = [
        pl.DataFrame({"user_id": ["n", "n"], "timestamp": naive, "amount": [4.0, 5.0]}),
        pl.DataFrame({"user_id": ["z"], "timestamp": zoned, "amount": [6.0]}),
    ]
    for index, frame in enumerate(frames[::order]):
        put(f"{index}.parquet", frame)
    message = refusal("*.parquet", **NEW_YORK)
    assert "2 instants without an offset and 1 instant with an offset" in message
    assert "assume_zone='America/New_York'" in message
    expected = [("2026-02", 0, 6.0), ("2026-03", 0, 4.0), ("2026-03", 1, 5.0)]
    assert table("*.parquet", **NEW_YORK, assume_zone="America/New_York") == expected


def test_shop():
    put(
        "shop.csv",
        'Name,Email,Created at,Total\n#1,ann@x.com,2025-01-31 23:30:00 -0500,"1,099.50"\n'
        "#2,ann@x.com,2025-02-10 10:00:00 -0500,-29.00\n#3,bob@x.com,2025-01-15 10:00:00 -0500,29.00\n"
        "#4,ann@x.com,2025-03-01 09:00:00 -0500,12.00\nTotal,,,1111.50\n",
    )
    settings = {"user": "Email", "timestamp": "Created at", "amount": "Total", **NEW_YORK}
    assert table("shop.csv", **settings, nulls="drop") == [("2025-01", 0, 1128.5), ("2025-01", 2, 12.0)]
    options = ["--user", "Email", "--timestamp", "Created at", "--amount", "Total", "--timezone", "America/New_York"]
    assert "2025-01,0,2,1128.5" in run("shop.csv", *options, "--nulls", "drop").output


def test_customers_of_germany():
    put(
        "kunden.csv",
        "Kunde;Datum;Betrag\nMüller;01.01.2025;1.029,00 €\nMüller;15.02.2025;29,90 €\nMeier;31.01.2025;5,00 €\n",
    )
    settings = {"user": "Kunde", "timestamp": "Datum", "amount": "Betrag"}
    message = refusal("kunden.csv", **settings)
    assert message.startswith("kunden.csv, line 2: Datum '01.01.2025' is not a date (3 of 3 values)")
    assert "timestamp_format='%d.%m.%Y'" in message
    expected = [("2025-01", 0, 1034.0), ("2025-01", 1, 29.9)]
    assert table("kunden.csv", **settings, timestamp_format="%d.%m.%Y", decimal=",") == expected
    options = ["--user", "Kunde", "--timestamp", "Datum", "--amount", "Betrag"]
    assert "--timestamp-format %d.%m.%Y" in run("kunden.csv", *options).stderr
    read = run("kunden.csv", *options, "--timestamp-format", "%d.%m.%Y", "--decimal", ",")
    assert "2025-01,0,2,1034.0" in read.output


def test_one_wrong_date_is_found_in_many_files():
    put("1.csv", HEADER + "a,2025-02-28,1\n" * 150)
    put("2.csv", HEADER + "a,2025-02-28,1\n" * 49 + "\nb,2025-02-29,1\nc,2025-02-30,1\n")
    for settings in ({}, {"freq": "D"}):
        message = refusal("*.csv", **settings)
        assert message.startswith("2.csv, line 52: timestamp '2025-02-29' is not a date (2 of 201 values)")
    assert run("*.csv").stderr.count("2.csv, line 52") == 1


def test_header_only():
    put("1.csv", HEADER + "a,2026-01-30 10:00:00,10\n")
    put("2.csv", HEADER)
    put("3.csv", HEADER + "a,2026-02-01 09:00:00,4\n")
    for source in ("*.csv", ".", ["3.csv", "2.csv", "1.csv"]):
        assert table(source) == [("2026-01", 0, 10.0), ("2026-01", 1, 4.0)]


def test_more_columns():
    put("1.csv", HEADER + "a,2026-01-31,1\n")
    put("2.csv", "amount,channel,user_id,timestamp\n7,web,a,2026-01-31\n")
    assert table("*.csv") == [("2026-01", 0, 8.0)]


def test_ragged():
    put("ragged.csv", "user_id,city,timestamp,amount\nu1,Bonn,2026-01-01,10\nu2,Paris, Texas,2026-01-02,20\n")
    assert refusal("ragged.csv").startswith("ragged.csv, line 3 has 5 fields, the header 4")
    result = run("ragged.csv")
    assert result.exit_code != 0
    assert "line 3 has 5 fields, the header 4" in result.stderr


def test_encodings():
    put("latin1.csv", "user_id,name,timestamp,amount\na,Jürgen,2026-01-05,10\n".encode("latin-1"))
    assert "encoding='latin-1'" in refusal("latin1.csv")
    assert "--encoding latin-1" in run("latin1.csv").stderr
    expected = [("2026-01", 0, 10.0)]
    assert table("latin1.csv", encoding="latin-1") == expected
    assert "2026-01,0,1,10.0" in run("latin1.csv", "--encoding", "latin-1").output
    put("utf16.tsv", ("\ufeff" + HEADER + "a,2026-01-05,10\n").replace(",", "\t").encode("utf-16-le"))
    assert table("utf16.tsv") == expected


def test_hive():
    for user, country in ((1, "DE"), (2, "FR")):
        row = pl.DataFrame({"user_id": [user], "timestamp": [dt.date(2026, user, 5)], "amount": [1.5]})
        put(f"hive/country={country}/year=2026/0.parquet", row)
    assert table("hive") == [("2026-01", 0, 1.5), ("2026-02", 0, 1.5)]
    prepared = cl.prepare("hive", "prepared", keep=["country", "year"])
    assert table(prepared.filter(pl.col("country") == "FR")) == [("2026-02", 0, 1.5)]


def test_drift():
    first = {"user_id": pl.Int32, "timestamp": pl.Datetime("ms"), "amount": pl.Int64}
    second = {"user_id": pl.Int64, "timestamp": pl.Datetime("ns"), "amount": pl.Float64}
    rows = {"user_id": [1], "timestamp": [dt.datetime(2026, 1, 5)], "amount": [3]}
    put("1.parquet", pl.DataFrame(rows, schema=first))
    rows |= {"timestamp": [dt.datetime(2026, 2, 5)], "amount": [1.25]}
    put("2.parquet", pl.DataFrame(rows, schema=second))
    assert table("*.parquet") == [("2026-01", 0, 3.0), ("2026-01", 1, 1.25)]


def test_uuids():
    key = bytes.fromhex("123e4567e89b12d3a456426614174000")
    frame = pl.DataFrame({"user_id": [key], "timestamp": [dt.date(2026, 1, 5)], "amount": [1.5]})
    put("uuid.parquet", frame)
    for source in ("uuid.parquet", frame, frame.to_arrow()):
        users = cl.termina.customer_cohorts(source)["user_id"].to_list()
        assert users == ["123e4567-e89b-12d3-a456-426614174000"]
    with pytest.raises(CohortlibError, match="column 'user_id' is Binary, of other lengths than 16 bytes"):
        cl.termina.cohorts(frame.with_columns(user_id=pl.lit(b"abc")))


def test_settings_reach_states(tmp_path):
    put("1.csv", (HEADER + "ä,2026-01-05,10\n").encode("latin-1"))
    put("2.csv", (HEADER + "ä,2026-02-05,4\n").encode("cp1252"))
    state = cl.termina.State.build("1.csv", "state", encoding="latin-1")
    state.update("2.csv", encoding="cp1252")
    assert state.cohorts()["amount"].to_list() == [10.0, 4.0]
