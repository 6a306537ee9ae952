"""`cl.inspect` and `cohortlib inspect`: guesses, doubts, and a command that works as it is printed."""

import datetime as dt
import json
import shlex
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli import main
from cohortlib.errors import SchemaError, SourceError

pytestmark = pytest.mark.unit

SAMPLES = Path(__file__).parent / "samples"
READING, ADAPTY = SAMPLES / "reading", SAMPLES / "adapty"

# Files, and the settings that the command must have beside the columns of the same names.
SETTINGS = {
    "shop_usd.csv": {"user": "Email", "timestamp": "Created at", "amount": "Total", "nulls": "drop"},
    "kunden_eur.csv": {
        "user": "Kunde", "timestamp": "Datum", "amount": "Betrag", "timestamp_format": "%d.%m.%Y", "decimal": ",",
    },
    "us_dates.csv": {"timestamp_format": "%m/%d/%Y"},
    "epoch.csv": {"timestamp_format": "epoch_s"},
    "late_dates.csv": {"nulls": "drop"},
    "empty_users.csv": {"nulls": "drop"},
    "emails.csv": {},
    "header_only": {},
    "uuid_ids.parquet": {},
    "open_end.parquet": {"end": "2026-01"},
    "naive_and_zoned": {"assume_zone": "UTC"},
    "mixed_days_and_instants": {"assume_zone": "UTC"},
    "two_date_orders": {"timestamp_format": "%d/%m/%Y"},
}  # fmt: skip


def run(command):
    """Run a printed command; a request can be piped into it."""
    first, _, rest = command.partition(" | ")
    request = shlex.split(first)[1] if rest else None
    words = shlex.split(rest or first)
    assert words[0] == "cohortlib"
    return CliRunner().invoke(main.cli, words[1:], input=request, prog_name="cohortlib")


def write(path, text, **options):
    path.write_text(text, **{"encoding": "utf-8", **options})
    return path


@pytest.mark.parametrize("name", SETTINGS)
def test_the_command_is_accepted_and_gives_what_the_call_gives(name):
    inspection = cl.inspect(READING / name)
    assert inspection.settings == SETTINGS[name]
    assert inspection.error is None
    result = run(inspection.command)
    assert result.exit_code == 0, result.stderr
    with pytest.warns() if result.stderr else pl.Config():
        table = eval(inspection.call, {"cl": cl})  # noqa: S307
    assert result.stdout == table.write_csv()


@pytest.mark.parametrize(("name", "said"), [("bad_date.csv", "2025-02-29"), ("short_year.csv", "03-02-26")])
def test_what_no_setting_reads_is_said_with_the_error_of_the_table(name, said):
    inspection = cl.inspect(READING / name)
    assert inspection.command is inspection.call is None
    with pytest.raises(type(inspection.error)) as caught:
        cl.termina.cohorts(READING / name)
    assert str(caught.value) == str(inspection.error)
    assert said in str(inspection)


@pytest.mark.parametrize(
    ("source", "vendor"),
    [
        ("cases/missing_money.csv", "Adapty"),
        ("webhook.jsonl", "Adapty"),
        ("cases/two_networks.jsonl", "Adapty"),
        ("cases/revenuecat/refund_grows", "RevenueCat"),
        ("cases/revenuecat/price_corrected/*.csv.gz", "RevenueCat"),
    ],
)
def test_exports_of_vendors_are_recognized(source, vendor):
    inspection = cl.inspect(str(ADAPTY / source))
    assert inspection.vendor == vendor
    result = run(inspection.command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["data"]


def test_the_text_says_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "orders.csv", "Customer,Paid at,Total,Note\nann,2026-01-05,$10,\nbob,2026-02-05,$5,x\n")
    result = CliRunner().invoke(main.cli, ["inspect", "orders.csv"], prog_name="cohortlib")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == """\
orders.csv: CSV, comma, UTF-8, 68 bytes, 2 rows
read: all rows

column    type  nulls  distinct  holds     example
Customer  Text      0         2  text      ann
Paid at   Text      0         2  instants  2026-01-05
Total     Text      0         2  amounts   $10
Note      Text      1         1  text      x

user       Customer
timestamp  Paid at
amount     Total
from       2026-01-05 to 2026-02-05

Run:
cohortlib termina cohorts orders.csv --user Customer --timestamp 'Paid at' --amount Total

In Python:
cl.termina.cohorts('orders.csv', user='Customer', timestamp='Paid at', amount='Total')
"""
    )


def test_doubts_are_named():
    rows = pl.DataFrame(
        {
            "customer": ["ann", "Ann", "bob", "bob", "null", "cat"] + ["dan"] * 200,
            "date": ["01/02/2026"] * 5 + ["01/02/2019"] + ["03/02/2026"] * 200,
            "betrag": ["1,500"] * 206,
            "currency": ["EUR"] * 205 + ["USD"],
        }
    )
    inspection = cl.inspect(rows)
    doubts = "\n".join(inspection.doubts)
    for said in ("differ only in case", "'null' 1", "month first", "both decimal marks", "1 row is in 2019", "'USD' 1"):
        assert said in doubts, said
    assert inspection.repeats == 199
    assert inspection.command is None
    assert inspection.call.startswith("cl.termina.cohorts(source, user='customer'")


def test_two_currencies_in_a_column_are_refused():
    inspection = cl.inspect(pl.DataFrame({"user_id": [1, 2], "timestamp": ["2026-01-01"] * 2, "amount": ["$1", "€2"]}))
    assert "2 currencies" in str(inspection.error)
    assert inspection.call is None


def test_a_sample_says_what_it_has_not_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("cohortlib.show.inspect.inspect.ROWS", 40)
    days = [f"2026-01-{day:02}" for day in range(1, 29)]
    for number in range(3):
        rows = "".join(f"u{day},{day},1\n" for day in days)
        write(tmp_path / f"{number}.csv", f"user_id,timestamp,amount\n{rows}")
    write(tmp_path / "3.csv", f"user_id,timestamp,amount\n{rows},2026-03-01,2\n")
    part, everything = cl.inspect(tmp_path), cl.inspect(tmp_path, all_rows=True)
    assert (part.rows, part.rows_read, part.files) == (None, 40, 4)
    assert "read: 40 rows, the first of all 4 files" in str(part)
    assert (everything.rows, everything.rows_read) == (113, 113)
    assert everything.last == dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert (part.settings, everything.settings) == ({}, {"nulls": "drop"})
    assert [column.nulls for column in everything.columns] == [1, 0, 0]
    assert everything.repeats == 3 * 28


def test_parquet_says_the_range_of_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("cohortlib.show.inspect.inspect.ROWS", 10)
    days = pl.date_range(dt.date(2026, 1, 1), dt.date(2026, 12, 31), eager=True)
    frame = pl.DataFrame({"user_id": 1, "timestamp": days, "amount": 1.0})
    frame.write_parquet(tmp_path / "a.parquet")
    inspection = cl.inspect(tmp_path / "a.parquet")
    assert (inspection.rows, inspection.rows_read, inspection.range_is_of_all) == (365, 10, True)
    assert "from       2026-01-01 to 2026-12-31 (all rows)" in str(inspection)


def test_an_encoding_is_guessed(tmp_path):
    path = write(tmp_path / "a.csv", "user_id,timestamp,amount\nJürgen,2026-01-05,5\n", encoding="latin-1")
    assert cl.inspect(path).settings == {"encoding": "latin-1"}
    path = write(tmp_path / "b.csv", "user_id,timestamp,amount\nJürgen,2026-01-05,5 €\n", encoding="cp1252")
    assert cl.inspect(path).settings == {"encoding": "cp1252"}
    assert run(cl.inspect(path).command).exit_code == 0


@pytest.mark.parametrize(
    ("rows", "roles"),
    [
        ("id,Customer ID,Created date (UTC),Amount,Amount Refunded", ("Customer ID", "Created date (UTC)", "Amount")),
        ("order_id,date_created,billing_email,order_total,order_tax", ("billing_email", "date_created", "order_total")),
        ("InvoiceNo,Quantity,InvoiceDate,UnitPrice,CustomerID", ("CustomerID", "InvoiceDate", "UnitPrice")),
        ("Name,Email,Paid at,Created at,Total,Subtotal,Taxes", ("Email", "Paid at", "Total")),
    ],
)  # fmt: skip
def test_columns_of_known_exports_are_guessed(tmp_path, rows, roles):
    names = rows.split(",")
    values = {"date": "2026-01-05 10:00:00", "paid": "2026-01-05 10:00:00", "created": "2026-01-05 10:00:00"}
    row = [next((values[key] for key in values if key in name.lower()), "12") for name in names]
    path = write(tmp_path / "a.csv", f"{rows}\n{','.join(row)}\n")
    inspection = cl.inspect(path)
    assert (inspection.user, inspection.timestamp, inspection.amount) == roles


def test_columns_of_any_type_are_tolerated():
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(
        "select 1 as user_id, date '2026-01-05' as timestamp, 1.5 as amount, interval 1 day as gap, [1] as list"
    )
    inspection = cl.inspect(rows)
    assert inspection.call == "cl.termina.cohorts(source)"
    assert "interval" in inspection.unreadable["gap"]
    nothing = cl.inspect(pl.DataFrame({"a": [[1]], "b": [{"x": 1}], "c": [None]}))
    assert (nothing.user, nothing.timestamp, nothing.amount, nothing.call) == (None, None, None, None)
    assert "no column looks like the user" in str(nothing)


def test_errors_are_those_of_reading(tmp_path):
    with pytest.raises(SourceError, match="no file"):
        cl.inspect(tmp_path / "nothing.csv")
    with pytest.raises(SchemaError, match="is not a table"):
        cl.inspect(3)
    ragged = write(tmp_path / "a.csv", "user_id,timestamp,amount\na,2026-01-05,1,5\n")
    result = CliRunner().invoke(main.cli, ["inspect", str(ragged)], prog_name="cohortlib")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "line 2 has 4 fields" in result.stderr
    cl.prepare(pl.DataFrame({"user_id": [1], "timestamp": [dt.date(2026, 1, 5)], "amount": [1.0]}), tmp_path / "p")
    with pytest.raises(SchemaError, match="prepared form"):
        cl.inspect(tmp_path / "p")


def test_an_export_in_another_encoding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = (ADAPTY / "cases/missing_money.csv").read_text(encoding="utf-8").replace("DE", "D\u00dc")
    write(tmp_path / "events.csv", lines, encoding="latin-1")
    inspection = cl.inspect("events.csv", encoding="latin-1")
    assert inspection.vendor == "Adapty"
    assert inspection.command.endswith("--request - --encoding latin-1")
    assert inspection.call.endswith("installs=\"from_events\", encoding='latin-1')")
    assert run(inspection.command).exit_code == 0
