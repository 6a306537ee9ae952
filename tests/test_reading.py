"""Small inputs as people have them: each is read right, or refused with what to write, in Python and in the command."""

import warnings
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.engine import memory
from cohortlib.errors import CohortlibError, CohortlibWarning, DataError
from cohortlib.transactions.store import spill

pytestmark = pytest.mark.unit

TESTS = Path(__file__).parent
SAMPLES = TESTS / "samples" / "reading"
SHARED = TESTS.parent.parent / "shared" / "cases"
NEW_YORK = {"timezone": "America/New_York"}
DROP = {"nulls": "drop"}
SHOP = {"user": "Email", "timestamp": "Created at", "amount": "Total", **NEW_YORK}
KUNDEN = {"user": "Kunde", "timestamp": "Datum", "amount": "Betrag"}
ZONED = NEW_YORK | {"assume_zone": "America/New_York"}
BOTH_KINDS = ("naive_and_zoned/*.parquet", "mixed_days_and_instants/*.csv")
TWO_DATES = "two_date_orders/*.csv"
UUID = "123e4567-e89b-12d3-a456-426614174000"

# Of each input: settings, and the amounts of each user by month, or some words of the warning.
READ = [
    (BOTH_KINDS[0], ZONED, {"n": {"2026-03": 4, "2026-04": 5}, "z": {"2026-02": 6}}, ""),
    (BOTH_KINDS[1], ZONED, {"a": {"2026-05": 10, "2026-06": 3}, "b": {"2026-05": 7}}, ""),
    (TWO_DATES, {"timestamp_format": "%d/%m/%Y"}, {"a": {"2026-01": 10, "2026-02": 7}, "b": {"2026-02": 7}}, ""),
    (
        "shop_usd.csv", SHOP | DROP,
        {"ann@example.com": {"2025-01": 1099.5, "2025-03": 12}, "bob@example.com": {"2025-01": 29}},
        "1 of 5 rows of the table dropped for nulls",
    ),
    (
        "kunden_eur.csv", KUNDEN | {"timestamp_format": "%d.%m.%Y", "decimal": ","},
        {"Müller": {"2025-01": 1029, "2025-02": 29.9}, "Meier": {"2025-01": 5}}, "",
    ),
    ("us_dates.csv", {"timestamp_format": "%m/%d/%Y"}, {"a": {"2025-01": 10, "2025-02": 10}}, ""),
    ("epoch.csv", {"timestamp_format": "epoch_s"}, {"a": {"2025-01": 10, "2025-02": 10}}, ""),
    ("late_dates.csv", DROP, {"q": {"2026-01": 2}}, "120 of 121 rows of the table dropped for nulls"),
    ("empty_users.csv", DROP, {"a": {"2026-03": 10}, "null": {"2026-03": 8}}, "'null' 1. They count as users"),
    ("empty_users.csv", DROP, {"a": {"2026-03": 10}, "null": {"2026-03": 8}}, "dropped for nulls: 2 in column 'user_"),
    (
        "emails.csv", {},
        {"Ann@Example.com": {"2026-01": 10}, "ann@example.com": {"2026-02": 10}, "ann@example.com ": {"2026-03": 10}},
        "3 users whose ids differ only in case or in blanks around them",
    ),
    ("emails.csv", {"normalize": "casefold"}, {"ann@example.com": {"2026-01": 10, "2026-02": 10, "2026-03": 10}}, ""),
    ("header_only/*.csv", {}, {"a": {"2026-01": 10, "2026-02": 4}}, ""),
    ("header_only", {}, {"a": {"2026-01": 10, "2026-02": 4}}, ""),
    ("more_columns/*.csv", {}, {"a": {"2026-01": 8}}, ""),
    ("latin1.csv", {"encoding": "latin-1"}, {"a": {"2026-01": 10}}, ""),
    ("utf16.tsv", {}, {"a": {"2026-01": 10}}, ""),
    ("orders.tsv", {}, {"a": {"2026-01": 10}}, ""),
    ("hive", {}, {"1": {"2026-01": 1.5}, "2": {"2026-02": 2.5}}, ""),
    ("drift/*.parquet", {}, {"1": {"2026-01": 3, "2026-02": 1.25}}, ""),
    ("uuid_ids.parquet", {}, {UUID: {"2026-01": 1.5}}, ""),
    ("open_end.parquet", {"end": "2026-12"}, {"1": {"2026-01": 1}}, ""),
]  # fmt: skip

# Of each input: settings, some words of the message, and of the hint on the command line.
REFUSED = [
    (
        BOTH_KINDS[0], NEW_YORK, "2 instants without an offset and 1 instant with an offset",
        "assume-zone America/New_York",
    ),
    (BOTH_KINDS[1], NEW_YORK, "2 dates and 1 instant with an offset", "assume-zone America/New_York"),
    (
        TWO_DATES, {}, "2.csv, line 2: timestamp '13/02/2026' is not a date (2 of 3 values)",
        "timestamp-format %d/%m/%Y (day first) reads 2 of these 2",
    ),
    ("shop_usd.csv", SHOP, "nulls: 1 in column 'Email', 1 in column 'Created at'", "nulls drop"),
    (
        "kunden_eur.csv", KUNDEN, "line 2: Datum '01.01.2025' is not a date (3 of 3 values)",
        "timestamp-format %d.%m.%Y (day first) reads 3 of these 3",
    ),
    (
        "kunden_eur.csv", KUNDEN | {"timestamp_format": "%d.%m.%Y"},
        "line 2: Betrag '1.029,00 €' is not a number (3 of 3 values)", "decimal , reads 3 of these 3",
    ),
    (
        "us_dates.csv", {}, "us_dates.csv, line 2: timestamp '01/31/2025' is not a date (2 of 2 values)",
        "timestamp-format %m/%d/%Y (month first)",
    ),
    ("epoch.csv", {}, "'1738281600' is not a date (2 of 2 values)", "timestamp-format epoch_s reads 2 of these 2"),
    ("bad_date.csv", {}, "timestamp '2025-02-29' is not a date (2 of 202 values). Expected ISO 8601 such as", ""),
    ("bad_date.csv", {"freq": "D"}, "bad_date.csv, line 202: ", ""),
    ("late_dates.csv", {}, "nulls: 120 in column 'timestamp', of 121 rows", "nulls drop"),
    ("short_year.csv", {}, "'03-02-26' is not a date", "timestamp-format %d-%m-%y"),
    ("empty_users.csv", {}, "has nulls: 2 in column 'user_id', of 4 rows", "nulls drop"),
    ("ragged_orders.csv", {}, "ragged_orders.csv, line 3 has 5 fields, the header 4", ""),
    ("latin1.csv", {}, "latin1.csv, line 2 is not UTF-8", "encoding latin-1"),
    ("open_end.parquet", {}, "open_end.parquet, row 1: timestamp '9999-12-31' is before 1900 or after 2200", "end"),
]  # fmt: skip


def names(cases):
    return [f"{name}-{'-'.join(settings)}" for name, settings, *_ in cases]


def activity(path, **settings):
    """Return each customer's amounts by period."""
    table = cl.termina.customer_cohorts(path, rows="active", **settings)
    months = pl.col("cohort").str.to_date("%Y-%m").dt.offset_by(pl.format("{}mo", "period")).dt.strftime("%Y-%m")
    result = {}
    for user, month, amount in table.select("user_id", months, "amount").iter_rows():
        result.setdefault(user, {})[month] = amount
    return result


def command(name, settings):
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    return CliRunner().invoke(cli, ["termina", "cohorts", str(SAMPLES / name), *options, "--format", "csv"])


@pytest.fixture(autouse=True)
def tiny_memory(monkeypatch):
    """Let a budget of one byte pass, so that a few rows are spilled in several runs."""
    monkeypatch.setattr(memory, "MINIMUM", 1)
    monkeypatch.setattr(spill, "_MIN_ROWS", 3)


@pytest.mark.parametrize(("name", "settings", "expected", "warning"), READ, ids=names(READ))
def test_inputs_that_are_read(name, settings, expected, warning):
    tables = []
    for budget in (None, 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tables.append(cl.termina.cohorts(SAMPLES / name, max_memory=budget, **settings))
        messages = [str(each.message) for each in caught]
        assert any(warning in message for message in messages) if warning else not messages
    assert tables[0].equals(tables[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CohortlibWarning)
        assert activity(SAMPLES / name, **settings) == expected
    result = command(name, settings)
    assert result.exit_code == 0, result.output
    assert result.stdout == tables[0].write_csv()
    assert warning in " ".join(result.stderr.split())


@pytest.mark.parametrize(("name", "settings", "message", "hint"), REFUSED, ids=names(REFUSED))
def test_inputs_that_are_refused(name, settings, message, hint):
    for table, running in ((cl.termina.cohorts, {}), (cl.termina.cohorts, {"max_memory": 1}), (activity, {})):
        with pytest.raises(CohortlibError) as error:
            table(SAMPLES / name, **settings, **running)
        assert message in str(error.value)
    result = command(name, settings)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not hint or f"--{hint}" in result.output


@pytest.mark.skipif(not SHARED.is_dir(), reason="the inputs (../shared/cases) are not beside this repository")
def test_every_input_has_a_test():
    """The copies here are those inputs; those of Adapty and RevenueCat have their tests in test_adapty_cases.py."""
    copies = {"adapty": TESTS / "samples" / "adapty" / "cases", "revenuecat": TESTS / "samples" / "adapty" / "cases"}
    tested = {name.split("/")[0] for name, *_ in READ} & {name.split("/")[0] for name, *_ in READ + REFUSED}
    tested |= {"bad_date.csv", "short_year.csv", "ragged_orders.csv"}  # there is nothing right to read in these
    for path in SHARED.rglob("*.*"):
        part = path.relative_to(SHARED)
        if path.is_file() and path.name != "README.md":
            copy = (
                copies["adapty"] / path.name if part.parts[0] == "adapty" else copies.get(part.parts[0], SAMPLES) / part
            )
            assert copy.read_bytes() == path.read_bytes(), part
            assert part.parts[0] in tested | set(copies)


def test_the_line_of_a_value(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('user_id,timestamp,amount\n"a\nb",2026-01-01,1\n\na,2026-01-01,x\n')
    with pytest.raises(DataError, match=r"rows.csv, line 5: amount 'x' is not a number \(1 of 2 values\)"):
        cl.termina.cohorts(path, nulls="drop")


def test_partitions_are_columns(tmp_path):
    prepared = cl.prepare(SAMPLES / "hive", tmp_path / "p", keep=["country", "year"])
    assert activity(prepared.filter(pl.col("country") == "FR")) == {"2": {"2026-02": 2.5}}
    year = prepared.filter((pl.col("country") == "FR") & (pl.col("year") == 2026))
    assert activity(year) == {"2": {"2026-02": 2.5}}


def test_one_wrong_date_is_found_in_many_files(tmp_path):
    header = "user_id,timestamp,amount\n"
    (tmp_path / "1.csv").write_text(header + "a,2025-02-28,1\n" * 150)
    (tmp_path / "2.csv").write_text(header + "a,2025-02-28,1\n" * 49 + "\nb,2025-02-29,1\nc,2025-02-30,1\n")
    with pytest.raises(DataError, match=r"2.csv, line 52: timestamp '2025-02-29' is not a date \(2 of 201 values\)"):
        cl.termina.cohorts(f"{tmp_path}/*.csv", freq="D", max_memory=1)


def test_settings_reach_states(tmp_path):
    header = "user_id,timestamp,amount\n"
    (tmp_path / "1.csv").write_bytes((header + "ä,2026-01-05,10\n").encode("latin-1"))
    (tmp_path / "2.csv").write_bytes((header + "ä,2026-02-05,4\n").encode("cp1252"))
    state = cl.termina.State.build(tmp_path / "1.csv", tmp_path / "state", encoding="latin-1")
    state.update(tmp_path / "2.csv", encoding="cp1252")
    assert state.cohorts()["amount"].to_list() == [10.0, 4.0]


def test_binary_ids_of_other_lengths():
    frame = pl.DataFrame({"user_id": [b"abc"], "timestamp": ["2026-01-05"], "amount": [1.5]})
    with pytest.raises(CohortlibError, match="column 'user_id' is Binary, of other lengths than 16 bytes"):
        cl.termina.cohorts(frame)
