"""Explain accountings and concentration: planted settings and faults are found, and nothing else is named."""

import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from cohortlib.cli.main import cli
from cohortlib.compare.explain.termina.accounting import AccountingTable
from cohortlib.errors import DataError, SchemaError, SettingError

pytestmark = pytest.mark.search

NAMES = ("user_accounting", "growth_accounting", "concentration")
EACH = pytest.mark.parametrize("name", NAMES)
RNG = np.random.default_rng(5)
COUNT = 3_000
ROWS = pl.DataFrame(
    {
        "user_id": RNG.integers(0, 300, COUNT),
        "timestamp": [datetime(2025, 1, 1) + timedelta(hours=int(hour)) for hour in RNG.integers(0, 24 * 400, COUNT)],
        "amount": RNG.integers(-2000, 9000, COUNT) / 100,
        "country": RNG.choice(["DE", "FR", "US", "JP"], COUNT),
        "net": RNG.integers(-1000, 8000, COUNT) / 100,
    }
).with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))


def table(name, rows=ROWS, **settings):
    return getattr(cl.termina, name)(rows, **settings)


BOTH = {"end": "2025-11", "refunds": "drop"}


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        (NAMES[0], {}, {}),
        (NAMES[0], {"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}),
        (NAMES[1], {"refunds": "drop"}, {"refunds": "drop"}),
        (NAMES[1], {"amount": "net"}, {"amount": "net"}),
        (NAMES[1], BOTH, BOTH | {"complete_only": False}),
        (NAMES[2], {"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}),
    ],
    ids=str,
)
def test_settings(name, settings, found):
    why = cl.explain(ROWS, table(name, **settings), seconds=60)
    assert why.ok
    assert why.settings == found


@EACH
def test_values_of_a_column(name):
    why = cl.explain(ROWS, table(name, ROWS.filter(pl.col("country") != "DE")))
    assert why.ok
    assert [cause.words for cause in why.causes] == [
        f"without the {(ROWS['country'] == 'DE').sum()} rows with country DE"
    ]
    assert why.settings == {}


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_factor_and_quarters(name):
    remote = table(name, ROWS.with_columns(pl.col("amount") * 100), freq="Q")
    why = cl.explain(ROWS, remote)
    assert why.ok
    assert [cause.words for cause in why.causes] == ["all amounts multiplied by 100"]


def test_local_times_that_were_taken_as_utc_and_weeks():
    naive = ROWS.with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    remote = table("user_accounting", timezone="Asia/Tokyo", freq="W", week_start="sunday")
    why = cl.explain(naive, remote)
    assert why.ok
    assert why.causes[0].words == "time zone Asia/Tokyo, local times taken as UTC"


@EACH
def test_customers_that_are_not_here_are_not_explained(name):
    """A cause that fits by chance is not named, and what differs is said."""
    some = ROWS.filter(~pl.col("user_id").is_in([3, 17, 40, 77]))
    why = cl.explain(some, table(name), seconds=20)
    assert not why.causes
    assert why.settings == {}
    assert "No cause is certain enough to be named." in str(why)
    assert "Which customers or days are behind that, an accounting does not show" in str(why)


def test_what_could_be_chance_is_not_named():
    """Under the right setting all cells agree, but a few users more or less are no evidence."""
    rows = ROWS.head(800).with_columns(pl.col("user_id") % 80)
    why = cl.explain(rows, table("user_accounting", rows, refunds="drop"))
    assert not why.causes
    assert "Also tried: with refunds='drop' (all " in str(why)
    assert "could be chance" in str(why)


def test_rounded_values_and_labels_are_forms():
    remote = table("growth_accounting", refunds="drop").with_columns(
        pl.selectors.float().round(2), date=pl.col("date") + "-01"
    )
    why = cl.explain(ROWS, remote.cast({"cqgr1": pl.Float64}))
    assert why.ok
    assert why.settings == {"refunds": "drop"}
    assert any(form.startswith("date: months, written like '2025-01-01'") for form in why.forms)


def test_causes_with_one_table_are_mentioned():
    rows = ROWS.with_columns(currency=pl.when(pl.col("country") == "DE").then(pl.lit("EUR")).otherwise(pl.lit("USD")))
    why = cl.explain(rows, table("growth_accounting", rows.filter(country="DE")))
    assert why.ok
    assert "currency EUR" in f"{why.causes[0].words} {why.causes[0].note}"
    assert "country DE" in f"{why.causes[0].words} {why.causes[0].note}"


def test_files_and_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ROWS.write_csv("rows.csv")
    (tmp_path / "remote.json").write_text(json.dumps(table("concentration", refunds="drop").to_dict()))
    done = CliRunner().invoke(cli, ["explain", "rows.csv", "remote.json", "--html", "why.html"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["explain", "rows.csv", "remote.json"])
    assert "With refunds='drop', all" in done.output
    assert "refunds" in (tmp_path / "why.html").read_text()


def test_bad_input():
    remote = table("user_accounting")
    with pytest.raises(SettingError, match="joined= is not a setting of user_accounting"):
        cl.explain(ROWS, remote, joined="since")
    with pytest.raises(SchemaError, match="remote has the columns 'date', 'colour'"):
        cl.explain(ROWS, remote.select("date", colour=pl.lit("red")))
    with pytest.raises(DataError, match="the remote table has the dates 'one'"):
        cl.explain(ROWS, remote.head(1).with_columns(date=pl.lit("one")))


def test_the_table_follows_the_protocol():
    local = AccountingTable.read(ROWS, {"": table("user_accounting", refunds="drop")}, {})
    assert local.places["dates"].size == local.standing(()).agrees.size
    assert local.rounding == {}
    assert local.forms == ()
