"""`cohortlib reconcile`: exit codes, what is printed and written, and how failures are reported."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.cli import main

pytestmark = pytest.mark.process

ROWS = """\
user_id,timestamp,amount
a,2026-01-05,100
a,2026-02-10,80
b,2026-01-20,50
b,2026-03-01,70
c,2026-02-20,30
c,2026-03-15,60
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "orders.csv").write_text(ROWS, encoding="utf-8")
    for name in ("local.json", "local.parquet", "local.csv"):
        assert run("termina", "cohorts", "orders.csv", "-o", name).exit_code == 0
    changed(0.01).write_json("remote.json")
    return tmp_path


def changed(by):
    """The local table with one ltv changed."""
    changed = (pl.col("cohort") == "2026-01") & (pl.col("period") == 2)
    return pl.read_parquet("local.parquet").with_columns(ltv=pl.col("ltv") + pl.when(changed).then(by).otherwise(0))


def run(*args, **env):
    return CliRunner().invoke(main.cli, args, env=env, prog_name="cohortlib")


def process(*args, **options):
    return subprocess.run(
        [sys.executable, "-m", "cohortlib", *args], capture_output=True, timeout=120, check=False, **options
    )


def failing(*args):
    result = run("reconcile", *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


@pytest.mark.parametrize("local", ["local.json", "local.parquet", "local.csv"])
@pytest.mark.parametrize("remote", ["local.json", "local.parquet", "local.csv"])
def test_a_table_agrees_with_itself(folder, local, remote):
    result = run("reconcile", local, remote)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("All 35 cells agree.\n")


def test_a_difference(folder):
    result = run("reconcile", "local.parquet", "remote.json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "34 of 35 cells agree; 1 differs, in cohort 2026-01 at period 2 of field ltv.\n"
        "\n"
        "Fields\n"
        "field              cells match differ largest                       at\n"
        "cohort_size            5     5      0       0\n"
        "cohort_size_amount     5     5      0       0\n"
        "active_users           5     5      0       0\n"
        "logo_retention         5     5      0       0\n"
        "amount                 5     5      0       0\n"
        "amount_retention       5     5      0       0\n"
        "ltv                    5     4      1   -0.01 cohort 2026-01, period 2\n"
        "\n"
        "ltv: local - remote, by period\n"
        "cohort  0 1     2\n"
        "2026-01 = = -0.01\n"
        "2026-02 = =\n"
        "(= agrees, L only local has the row, R only remote has it, null on one side, x differs)\n"
        "\n"
        "Worst cohorts\n"
        "cohort  cells agree worst field difference\n"
        "2026-01    21    20         ltv      -0.01\n"
        "\n"
        "Worst cells\n"
        "cohort  period field local remote difference outcome\n"
        "2026-01 2      ltv     150 150.01      -0.01  differ\n"
    )


def test_exit_codes_of_a_process(folder):
    assert process("reconcile", "local.csv", "local.json").returncode == 0
    assert process("reconcile", "local.csv", "remote.json").returncode == 1
    assert process("reconcile", "local.csv", "orders.csv").returncode == 2
    assert process("reconcile", "local.csv").returncode == 2
    assert process("reconcile", "--help").returncode == 0


def test_closed_pipe(folder):
    line = f"{sys.executable} -m cohortlib reconcile local.csv remote.json | head -1"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=120, check=False)
    assert done.stderr == b""
    assert done.stdout.startswith(b"34 of 35 cells agree")


def test_json(folder):
    result = run("reconcile", "local.csv", "remote.json", "--format", "json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report == json.loads(cl.reconcile("local.csv", "remote.json").to_json())
    assert [report["differences"][0][name] for name in ("cohort", "period", "field")] == ["2026-01", 2, "ltv"]


def test_tolerances(folder):
    assert run("reconcile", "local.csv", "remote.json", "--tolerance", "ltv=0.01").exit_code == 0
    assert run("reconcile", "local.csv", "remote.json", "--tolerance", "ltv=0,1e-4").exit_code == 0
    assert run("reconcile", "local.csv", "remote.json", "--tolerance", "amount=5").exit_code == 1


@pytest.mark.parametrize("wrong", ["ltv", "ltv=", "ltv=a", "=1", "ltv=1,2,3", ""])
def test_invalid_tolerances(folder, wrong):
    assert "is not a tolerance. Expected FIELD=ABS or FIELD=ABS,REL" in failing(
        "local.csv", "local.csv", "--tolerance", wrong
    )


def test_tolerances_that_the_library_refuses(folder):
    assert "--tolerance has 'lvt', which is not a compared field" in failing(
        "local.csv", "local.csv", "--tolerance", "lvt=1"
    )
    assert "--tolerance has -1.0 for 'ltv'" in failing("local.csv", "local.csv", "--tolerance", "ltv=-1")


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_cells(folder, kind):
    result = run("reconcile", "local.csv", "remote.json", "-o", f"cells.{kind}")
    assert result.exit_code == 1
    assert result.stdout.startswith("34 of 35")
    expected = cl.reconcile("local.csv", "remote.json").cells
    cells = getattr(pl, f"read_{kind}")(f"cells.{kind}")
    assert_frame_equal(cells.cast(dict(expected.schema)), expected)


def test_cells_on_standard_output(folder):
    result = run("reconcile", "local.csv", "remote.json", "-o", "-")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "cohort,period,field,local,remote,difference,outcome"
    assert len(result.stdout.splitlines()) == 36


def test_page(folder):
    result = run("reconcile", "local.csv", "remote.json", "--html", "page.html")
    assert result.exit_code == 1
    assert (folder / "page.html").read_text() == cl.reconcile("local.csv", "remote.json").to_html()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["nowhere.csv", "local.csv"], "there is no file 'nowhere.csv'"),
        (["local.csv", "orders.csv"], "remote has no known keys: its columns are 'user_id'"),
        (["local.csv", "local.csv", "-o", "x.txt"], "-o x.txt: the ending is none of .csv, .json, .parquet"),
        (["local.csv", "local.csv", "-o", "local.csv"], "it is a file of the source local.csv"),
        (["local.csv", "local.json", "--html", "local.json"], "it is a file of the source local.json"),
        (["local.csv", "local.csv", "--html", "nowhere/x.html"], "cannot write nowhere/x.html: No such file"),
        (["local.csv", "local.csv", "local.csv"], "extra argument"),
    ],
)
def test_failures(folder, args, expected):
    assert expected in failing(*args)


def test_a_terminal(folder, monkeypatch):
    monkeypatch.setattr("cohortlib.cli.output.is_terminal", lambda: True)
    result = run("reconcile", "local.csv", "remote.json", FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="60")
    assert result.exit_code == 1
    assert "48;5;18m" in result.stdout  # the only difference has the darkest shade
    assert "34 of 35 cells agree" in result.stdout


def test_customers_and_answers_are_printed(folder):
    run("termina", "customer-cohorts", "orders.csv", "-o", "customers.csv")
    table = pl.read_csv("customers.csv").with_columns(amount=pl.col("amount") + pl.col("period")).filter(user_id="a")
    table.write_csv("other.csv")
    text = run("reconcile", "customers.csv", "other.csv").stdout
    assert "amount: local - remote, by period\ncohort  user_id" in text
    assert "Rows that only one side has" in text


def test_a_cent_among_a_million_cells(folder):
    rng = np.random.default_rng(1)
    rows = 200_000
    table = pl.DataFrame(
        {
            "cohort": np.repeat("2026-01", rows),
            "user_id": pl.Series(np.arange(rows) // 20).cast(pl.String),
            "period": np.tile(np.arange(20), rows // 20),
            **{name: rng.integers(0, 10**8, rows) / 100 for name in ("cohort_size_amount", "amount", "ltv")},
            "logo_retention": np.ones(rows),
            "amount_retention": rng.random(rows),
        }
    )
    table.write_parquet("big.parquet")
    changed = pl.int_range(rows) == 77_777
    table.with_columns(amount=pl.col("amount") + pl.when(changed).then(0.01).otherwise(0)).write_csv("other.csv")
    table.write_csv("same.csv")
    assert run("reconcile", "big.parquet", "same.csv").exit_code == 0
    result = run("reconcile", "big.parquet", "other.csv")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "999,999 of 1,000,000 cells agree; 1 differs, in cohort 2026-01 of customer 3888 at period 17 of field amount."
    )
