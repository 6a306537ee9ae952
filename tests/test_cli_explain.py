"""The command explain."""

import json
import warnings

import polars as pl
import pytest
from click.testing import CliRunner

import cohortlib as cl
from benchmarks import planted_adapty, planted_termina
from cohortlib.cli import main
from cohortlib.cli import main as cli

pytestmark = pytest.mark.process

ROWS = planted_termina.transactions(4_000).with_columns(pl.col("timestamp").dt.date())


def run(*args):
    return CliRunner().invoke(main.cli, ["explain", *map(str, args)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ROWS.rename({"user_id": "customer"}).write_parquet("rows.parquet")
    remote = cl.termina.cohorts(ROWS, refunds="drop")
    remote.with_columns(pl.col(planted_termina.MONEY) * 100).write_json("remote.json")
    return tmp_path


def test_text(folder):
    result = run("rows.parquet", "remote.json", "--user", "customer")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("cells agree without any change.")
    changes = [line for line in lines if line.startswith(("With ", "Also with "))]
    assert any("refunds='drop'" in line for line in changes)
    assert any("all amounts times 100 (cents)" in line for line in changes)
    assert "all " in changes[-1]
    assert "combinations tried" in lines


def test_page_and_json(folder):
    result = run("rows.parquet", "remote.json", "--user", "customer", "--html", "why.html", "-o", "why.json")
    assert result.exit_code == 0
    why = json.loads((folder / "why.json").read_text(encoding="utf-8"))
    assert why["ok"] is True
    assert why["sentences"][0] in result.stdout
    assert (folder / "why.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    result = run("rows.parquet", "remote.json", "--user", "customer", "-o", "-")
    assert json.loads(result.stdout) == why


def test_settings_reach_the_search(folder):
    result = run("rows.parquet", "remote.json", "--user", "customer", "--refunds", "drop", "--tolerance", "amount=0.01")
    assert "refunds=" not in result.stdout
    assert "With all amounts times 100 (cents), all " in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rows.parquet", "missing.json", "--user", "customer"], "missing.json"),
        (["missing.parquet", "remote.json"], "missing.parquet"),
        (["rows.parquet", "remote.json"], "column 'user_id' is not in the table"),
        (
            ["rows.parquet", "remote.json", "--user", "customer", "--refunds", "all"],
            "Invalid value for '--refunds': 'all'",
        ),
        (["rows.parquet", "remote.json", "--user", "customer", "--seconds", "0"], "--seconds"),
        (
            ["rows.parquet", "remote.json", "--user", "customer", "--request", "remote.json"],
            "does not contain a JSON object",
        ),
        (["rows.parquet", "remote.json", "--user", "customer", "--installs", "from_events"], "installs"),
        (["rows.parquet", "remote.json", "--user", "customer", "--tolerance", "amount"], "--tolerance"),
        (
            ["rows.parquet", "remote.json", "--user", "customer", "-o", "nowhere/why.json"],
            "cannot write nowhere/why.json",
        ),
        (["rows.parquet", "remote.json", "--user", "customer", "--html", "rows.parquet"], "it is a file of the source"),
        (["rows.parquet"], "Missing argument 'REMOTE', the vendor's table"),
    ],
)
def test_refused(folder, args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.fixture(scope="module")
def answered():
    events, installs = planted_adapty.world(6_000, seed=1)
    request = planted_adapty.RENEWALS
    conventions = cl.adapty.Conventions(averages="per_period")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return events, installs, request, cl.adapty.cohort(events, request, installs=installs, conventions=conventions)


def test_an_answer_of_adaptys(answered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events, installs, request, answer = answered
    events.write_parquet("events.parquet")
    installs.write_parquet("installs.parquet")
    (tmp_path / "request.json").write_text(json.dumps(request), encoding="utf-8")
    (tmp_path / "answer.json").write_text(answer.to_json(), encoding="utf-8")
    result = run("events.parquet", "answer.json", "--request", "request.json", "--installs", "installs.parquet")
    assert result.exit_code == 0
    assert "With averages of each column's own money, all " in result.stdout
    for missing in ("--request", "--installs"):
        args = {"--request": "request.json", "--installs": "installs.parquet"}
        del args[missing]
        result = run("events.parquet", "answer.json", *[word for pair in args.items() for word in pair])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {missing}")


def test_every_setting_of_both_vendors_is_an_option():
    options = {param.name for param in cli.explain.params}
    assert options >= {"user", "timestamp", "amount", "timezone", "refunds", "joined", "end", "request", "installs"}


def test_help():
    text = run("--help").stdout
    assert "cohortlib explain transactions.parquet remote.json" in text
