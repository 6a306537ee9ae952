"""Small inputs as people have them: each is read right, or refused with what to write."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.errors import CohortlibWarning, DataError

pytestmark = pytest.mark.unit

SAMPLES = Path(__file__).parent / "samples" / "reading"
NEW_YORK = {"timezone": "America/New_York"}
DROP = {"nulls": "drop"}
SHOP = {"user": "Email", "timestamp": "Created at", "amount": "Total", **NEW_YORK, **DROP}

ZONED = NEW_YORK | {"assume_zone": "America/New_York"}
BOTH_KINDS = ("naive_and_zoned/*.parquet", "mixed_days_and_instants/*.csv")
TWO_DATES = "two_date_orders/*.csv"

READ = [
    (BOTH_KINDS[0], ZONED, {"n": {"2026-03": 4, "2026-04": 5}, "z": {"2026-02": 6}}),
    (BOTH_KINDS[1], ZONED, {"a": {"2026-05": 10, "2026-06": 3}, "b": {"2026-05": 7}}),
    (TWO_DATES, {"timestamp_format": "%d/%m/%Y"}, {"a": {"2026-01": 10, "2026-02": 7}, "b": {"2026-02": 7}}),
    ("us_dates.csv", {"timestamp_format": "%m/%d/%Y"}, {"a": {"2025-01": 10, "2025-02": 10}}),
    ("epoch.csv", {"timestamp_format": "epoch_s"}, {"a": {"2025-01": 10, "2025-02": 10}}),
    ("header_only/*.csv", {}, {"a": {"2026-01": 10, "2026-02": 4}}),
    ("open_end.parquet", {"end": "2026-12"}, None),
]

REFUSED = [
    (
        BOTH_KINDS[0],
        NEW_YORK,
        "2 instants without an offset and 1 instant with an offset",
        "assume-zone America/New_York",
    ),
    (BOTH_KINDS[1], NEW_YORK, "2 dates and 1 instant with an offset", "assume-zone America/New_York"),
    (
        TWO_DATES,
        {},
        "2.csv, line 2: timestamp '13/02/2026' is not a date (2 of 3 values)",
        "timestamp-format %d/%m/%Y (day first) reads 2 of these 2",
    ),
    (
        "us_dates.csv",
        {},
        "us_dates.csv, line 2: timestamp '01/31/2025' is not a date (2 of 2 values)",
        "timestamp-format %m/%d/%Y (month first)",
    ),
    ("epoch.csv", {}, "'1738281600' is not a date (2 of 2 values)", "timestamp-format epoch_s reads 2 of these 2"),
    ("bad_date.csv", {}, "timestamp '2025-02-29' is not a date (2 of 202 values). Expected ISO 8601 such as", ""),
    ("bad_date.csv", {}, "bad_date.csv, line 202: ", ""),
    ("short_year.csv", {}, "'03-02-26' is not a date", "timestamp-format %d-%m-%y"),
    ("open_end.parquet", {}, "open_end.parquet, row 1: timestamp '9999-12-31' is before 1900 or after 2200", "end"),
    ("empty_users.csv", {}, "has nulls: 2 in column 'user_id', of 4 rows", "nulls drop"),
]


def activity(path, **settings):
    """Return each customer's amounts by period."""
    table = cl.termina.customer_cohorts(path, rows="active", **settings)
    months = pl.col("cohort").str.to_date("%Y-%m").dt.offset_by(pl.format("{}mo", "period")).dt.strftime("%Y-%m")
    result = {}
    for user, month, amount in table.select("user_id", months, "amount").iter_rows():
        result.setdefault(user, {})[month] = amount
    return result


@pytest.mark.parametrize(("name", "settings", "expected"), READ, ids=[each[0] for each in READ])
def test_inputs_that_are_read(name, settings, expected):
    found = activity(SAMPLES / name, **settings)
    assert expected is None or found == expected
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    result = CliRunner().invoke(cli, ["termina", "cohorts", str(SAMPLES / name), *options, "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert result.stdout == cl.termina.cohorts(SAMPLES / name, **settings).write_csv()


@pytest.mark.parametrize(("name", "settings", "message", "hint"), REFUSED, ids=[each[0] for each in REFUSED])
def test_inputs_that_are_refused(name, settings, message, hint):
    for table in (cl.termina.cohorts, cl.termina.customer_cohorts):
        with pytest.raises(DataError) as error:
            table(SAMPLES / name, **settings)
        assert message in str(error.value)
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    result = CliRunner().invoke(cli, ["termina", "cohorts", str(SAMPLES / name), *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not hint or f"--{hint}" in result.output


def test_the_line_of_a_value(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('user_id,timestamp,amount\n"a\nb",2026-01-01,1\n\na,2026-01-01,x\n')
    with pytest.raises(DataError, match=r"rows.csv, line 5: amount 'x' is not a number \(1 of 2 values\)"):
        cl.termina.cohorts(path, nulls="drop")


def test_a_shop_export():
    with pytest.warns(CohortlibWarning, match="1 of 5 rows of the table dropped for nulls"):
        assert activity(SAMPLES / "shop_usd.csv", **SHOP) == {
            "ann@example.com": {"2025-01": 1099.5, "2025-03": 12},
            "bob@example.com": {"2025-01": 29},
        }


def test_a_german_export():
    rows = pl.read_csv(SAMPLES / "kunden_eur.csv", separator=";", infer_schema=False)
    columns = {"user": "Kunde", "timestamp": "Datum", "amount": "Betrag"}
    with pytest.raises(DataError, match=r"Datum '01.01.2025' is not a date.*timestamp_format='%d.%m.%Y' \(day first\)"):
        cl.termina.cohorts(rows, **columns)
    with pytest.raises(DataError, match=r"Betrag '1.029,00 €' is not a number.*decimal=',' reads 3 of these 3"):
        cl.termina.cohorts(rows, timestamp_format="%d.%m.%Y", **columns)
    table = activity(rows, timestamp_format="%d.%m.%Y", decimal=",", **columns)
    assert table == {"Müller": {"2025-01": 1029, "2025-02": 29.9}, "Meier": {"2025-01": 5}}


@pytest.mark.filterwarnings("ignore:.*dropped for nulls")
def test_rows_without_dates_come_first():
    assert activity(SAMPLES / "late_dates.csv", **DROP) == {"q": {"2026-01": 2}}


def test_users_that_are_empty():
    with pytest.warns(CohortlibWarning) as caught:
        assert activity(SAMPLES / "empty_users.csv", **DROP) == {"a": {"2026-03": 10}, "null": {"2026-03": 8}}
    assert {"dropped for nulls" in str(each.message) for each in caught} == {True, False}


def test_emails():
    with pytest.warns(CohortlibWarning, match="3 users whose ids differ only in case or in blanks around them"):
        assert len(activity(SAMPLES / "emails.csv")) == 3
    assert activity(SAMPLES / "emails.csv", normalize="casefold") == {
        "ann@example.com": {"2026-01": 10, "2026-02": 10, "2026-03": 10}
    }


def test_uuids_are_text():
    assert list(activity(SAMPLES / "uuid_ids.parquet")) == ["123e4567-e89b-12d3-a456-426614174000"]
