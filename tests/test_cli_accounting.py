"""The commands of accountings and concentration: the tables of the calls, their settings, and refusals."""

import inspect
import json

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from test_cli import failing, folder, good, orders, read

import cohortlib as cl
from cohortlib.cli import termina as commands

pytestmark = pytest.mark.process

__all__ = ["folder"]  # a fixture
TABLES = {"user-accounting": cl.termina.user_accounting, "growth-accounting": cl.termina.growth_accounting}


@pytest.mark.parametrize("kind", commands.FORMATS)
@pytest.mark.parametrize("name", TABLES)
def test_tables(folder, name, kind):
    expected = TABLES[name](orders())
    good("termina", name, "orders.csv", "-o", f"out.{kind}")
    types = {column: dtype for column, dtype in expected.schema.items() if kind != "parquet"}
    assert_frame_equal(read((folder / f"out.{kind}").read_bytes(), kind).cast(types), expected)
    assert good("termina", name, "orders.csv", "--format", kind).stdout_bytes == (folder / f"out.{kind}").read_bytes()


def test_concentration(folder):
    expected = cl.termina.concentration(orders()).to_dict()
    assert json.loads(good("termina", "concentration", "orders.csv").stdout) == expected
    good("termina", "concentration", "orders.csv", "-o", "out.json")
    assert json.loads((folder / "out.json").read_text()) == expected
    assert "-o out.csv: the ending is not .json" in failing("termina", "concentration", "orders.csv", "-o", "out.csv")


@pytest.mark.parametrize("name", [*TABLES, "concentration"])
def test_every_setting_is_an_option_with_the_same_default(name, folder, monkeypatch):
    call = name.replace("-", "_")
    parameters = inspect.signature(getattr(cl.termina, call)).parameters.values()
    expected = {each.name: each.default for each in parameters if each.name not in ("transactions", "progress")}
    result, seen = getattr(cl.termina, call)(orders()), {}

    def compute(source, **settings):
        seen.update(settings)
        return result

    monkeypatch.setattr(cl.termina, call, compute)
    good("termina", name, "orders.csv")
    assert seen == expected


@pytest.mark.parametrize("name", [*TABLES, "concentration"])
def test_a_prepared_form_has_its_settings(name, folder):
    rows = orders().rename({"amount": "usd"})
    cl.prepare(rows, folder / "prepared", amount="usd", decimals=2)
    raw = good("termina", name, "orders.csv", "--refunds", "signed", "--start", "2026-02").stdout
    assert good("termina", name, "prepared", "--refunds", "signed", "--start", "2026-02").stdout == raw


def test_refused(folder):
    assert "--freq" in failing("termina", "user-accounting", "orders.csv", "--freq", "X")
    assert "joined" in failing("termina", "growth-accounting", "orders.csv", "--joined", "since")
    assert "none.csv" in failing("termina", "concentration", "none.csv")
    assert "orders.csv" in failing("termina", "user-accounting", "orders.csv", "-o", "orders.csv")


def test_help_has_examples():
    for name in (*TABLES, "concentration"):
        text = good("termina", name, "--help").stdout
        assert f"  cohortlib termina {name} orders.csv" in text
        assert "Column of the amount" in text


def test_csv_of_a_table_is_read_back(folder):
    good("termina", "growth-accounting", "orders.csv", "-o", "out.csv")
    found = pl.read_csv(folder / "out.csv", infer_schema_length=None).cast({"cmgr3": pl.Float64})
    assert found["net_churn"].to_list() == cl.termina.growth_accounting(orders())["net_churn"].to_list()
