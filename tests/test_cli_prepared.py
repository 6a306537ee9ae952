"""The command line where data are large: a bound of memory, the prepared form, folders of parts, a state."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.cli import main
from cohortlib.engine import files as storage
from cohortlib.engine.spill import Spill
from cohortlib.termina import State
from cohortlib.transactions import load as loading
from cohortlib.transactions.store import prepare
from cohortlib.transactions.store.prepared import Prepared

pytestmark = pytest.mark.disk

ROWS = """\
customer,paid,usd,country,since
a,2026-01-05,100,de,2025-12-24
a,2026-02-10,80,de,2025-12-24
a,2026-03-03,-10,fr,2025-12-24
b,2026-01-20,50,fr,2026-01-20
b,2026-03-01,70,fr,2026-01-20
c,2026-02-02,30,de,2026-01-31
c,2026-02-20,-40,de,2026-01-31
c,2026-03-15,60,de,2026-01-31
"""
BUILD = State.build
NAMES = {"user": "customer", "timestamp": "paid", "amount": "usd"}
COLUMNS = [word for name, column in NAMES.items() for word in (f"--{name}", column)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "orders.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path


def good(*args, told=""):
    result = CliRunner().invoke(main.cli, args, prog_name="cohortlib")
    assert (result.exit_code, without_report(result.stderr)) == (0, told)
    return result.stdout


def without_report(text):
    """Leave out the line that says what a command wrote."""
    return re.sub(r"(Prepared|Built|Updated|Compacted) .* rows.*\n|Updated .* nothing.*\n", "", text)


def failing(*args):
    result = CliRunner().invoke(main.cli, args, prog_name="cohortlib")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


def names(folder):
    return sorted(one.name for one in folder.iterdir())


def orders():
    return pl.read_csv(ROWS.encode(), try_parse_dates=True)


# --- a bound of memory ---


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Write more rows than fit into the least memory."""
    rows = 1_200_000
    chance = np.random.default_rng(6)
    days = pl.Series(chance.integers(20_000, 20_400, rows)).cast(pl.Int32).cast(pl.Date)
    frame = {"user_id": chance.integers(0, 200_000, rows), "timestamp": days, "amount": chance.integers(1, 99, rows)}
    path = tmp_path_factory.mktemp("many") / "many.parquet"
    pl.DataFrame(frame).write_parquet(path)
    return str(path)


def test_a_bound_of_memory_changes_nothing(many, tmp_path, monkeypatch):
    sink, files = Spill.sink, []
    monkeypatch.setattr(Spill, "sink", lambda self, *run: files.append(self._path.parent.parent) or sink(self, *run))
    monkeypatch.setattr(loading, "gettempdir", lambda: str(tmp_path))
    tight = good("termina", "cohorts", many, "--max-memory", "64MiB")
    assert set(files) == {tmp_path}
    files.clear()
    assert tight == good("termina", "cohorts", many, "--max-memory", "8GB")
    assert files == []
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("4G", "--max-memory 4G is not an amount of memory. Expected bytes, text such as '4GB' or '512MiB'"),
        ("1MB", "--max-memory 1MB is too little memory. Expected '64MiB' or more"),
    ],
)
def test_no_amount_of_memory(folder, size, expected):
    assert expected in failing("termina", "cohorts", "orders.csv", *COLUMNS, "--max-memory", size)


@pytest.fixture
def full(tmp_path):
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if sys.platform != "linux" or os.geteuid() or not mount or not umount:
        pytest.skip("a small disk can be mounted by root alone")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run([umount, "-l", disk], check=True)


def test_no_room_for_temporary_files(many, full):
    command = [sys.executable, "-m", "cohortlib", "termina", "cohorts", many, "--max-memory", "64MiB"]
    env = os.environ | {"TMPDIR": str(full)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: cannot write {full}: No space left on device (rows that do not fit into memory are spilled here. "
        "Hint: another TMPDIR, or a larger max_memory)\n"
    )
    assert names(full) == []


# --- the prepared form ---


def options_of(command):
    return {param.name: param for param in command.params}


def test_every_setting_of_prepare_is_an_option_with_the_same_default(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(cl, "prepare", lambda *inputs, **given: seen.update(given, inputs=inputs))
    parameters = inspect.signature(prepare.prepare).parameters.values()
    expected = {parameter.name: parameter.default for parameter in parameters}
    del expected["transactions"], expected["folder"], expected["progress"]
    good("prepare", "x.csv", "there")
    assert seen == expected | {"inputs": ("x.csv", "there")}
    line = "--user u --timestamp t --amount m --keep a --keep b --timezone Europe/Berlin --nulls drop --decimals 2"
    line += " --timestamp-format epoch_s --decimal , --assume-zone UTC --normalize strip"
    line += " --encoding cp1252 --sheet Orders --storage-option region=eu-central-1"
    good("prepare", "x.csv", "there", *line.split(), "--threads", "2", "--max-memory", "1GB")
    assert seen == {
        "inputs": ("x.csv", "there"),
        "user": "u",
        "timestamp": "t",
        "amount": "m",
        "keep": ("a", "b"),
        "timezone": "Europe/Berlin",
        "nulls": "drop",
        "timestamp_format": "epoch_s",
        "decimal": ",",
        "assume_zone": "UTC",
        "normalize": "strip",
        "encoding": "cp1252",
        "sheet": "Orders",
        "storage_options": {"region": "eu-central-1"},
        "decimals": 2,
        "threads": 2,
        "max_memory": "1GB",
    }


@pytest.mark.parametrize("place", ["prepared", "prepared/"])
def test_a_prepared_folder_takes_the_place_of_the_rows(folder, place):
    """Its columns, zone and places need not be said again."""
    assert good("prepare", "orders.csv", place, *COLUMNS, "--keep", "since", "--decimals", "2") == ""
    assert names(folder) == ["orders.csv", "prepared"]
    (folder / "orders.csv").unlink()
    for table in ("cohorts", "customer-cohorts"):
        for more in (["--freq", "W"], ["--freq", "Q", "--refunds", "drop"], ["--joined", "since"]):
            (folder / "orders.csv").write_text(ROWS)
            expected = good("termina", table, "orders.csv", *COLUMNS, "--decimals", "2", *more)
            (folder / "orders.csv").unlink()
            assert good("termina", table, place, *more) == expected
            assert good("termina", table, place, *COLUMNS, *more) == expected
    found = failing("termina", "cohorts", place, "--user", "who")
    assert "was prepared with --user customer, not with --user who. Expected" in found


def test_a_prepared_folder_is_replaced(folder):
    good("prepare", "orders.csv", "prepared", *COLUMNS)
    good("prepare", "orders.csv", "prepared", *COLUMNS, "--decimals", "0")
    assert Prepared.open("prepared").manifest.decimals == 0
    assert names(folder) == ["orders.csv", "prepared"]


def test_a_prepared_folder_that_cannot_be(folder):
    assert "'who' is not in the table" in failing("prepare", "orders.csv", "prepared", "--user", "who")
    assert "--keep" in failing("prepare", "orders.csv", "prepared", *COLUMNS, "--keep", "customer")
    assert failing("prepare", "missing.csv", "x") == (
        "there is no file 'missing.csv'. Expected the path or glob of Parquet, CSV, TSV, JSON lines or Excel files"
    )
    assert names(folder) == ["orders.csv"]
    expected = "cannot write not/there: No such file or directory"
    assert failing("prepare", "orders.csv", "not/there", *COLUMNS) == expected
    assert failing("prepare", "orders.csv", ".", *COLUMNS) == "cannot write .: the source orders.csv is in it"
    assert "is a file. Expected a folder" in failing("prepare", "orders.csv", "orders.csv/", *COLUMNS)
    (folder / "photos").mkdir()
    (folder / "photos" / "cat.jpg").write_text("cat")
    assert "has files that cohortlib did not write" in failing("prepare", "orders.csv", "photos", *COLUMNS)
    assert names(folder) == ["orders.csv", "photos"]


def test_a_folder_is_not_prepared_from_itself(folder):
    good("prepare", "orders.csv", "prepared", *COLUMNS)
    assert failing("prepare", "prepared", "prepared") == "cannot write prepared: the source prepared is in it"


def test_a_full_disk_under_the_prepared_form(many, full):
    assert failing("prepare", many, str(full / "prepared")).endswith("No space left on device")
    assert names(full) == []
    expected = (
        f"cannot write {full / 'prepared'}: No space left on device (rows that do not fit into memory are spilled here."
    )
    found = failing("prepare", many, str(full / "prepared"), "--max-memory", "64MiB")
    assert found == f"{expected} Hint: a larger max_memory)"
    assert names(full) == []


# --- a folder of parts ---


def customers(*more):
    return cl.termina.customer_cohorts("orders.csv", **NAMES, **dict(more))


@pytest.mark.parametrize("output", ["out/", "out"])
def test_the_table_of_customers_in_a_folder(folder, output):
    if output == "out":
        (folder / "out").mkdir()
    assert good("termina", "customer-cohorts", "orders.csv", *COLUMNS, "-o", output) == ""
    assert_frame_equal(pl.read_parquet("out/*.parquet"), customers(), check_row_order=False)
    more = ["--rows", "active", "--max-memory", "64MiB", "--format", "parquet"]
    good("termina", "customer-cohorts", "orders.csv", *COLUMNS, "-o", output, *more)
    assert_frame_equal(pl.read_parquet("out/*.parquet"), customers(("rows", "active")), check_row_order=False)
    assert names(folder) == ["orders.csv", "out"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-o", "out/", "--format", "csv"], "-o out/: a folder takes Parquet, not csv. Hint: -o FILE.csv"),
        (["-o", "out/", "--top-n", "3"], "--top-n 3 needs a file, but 'out/' is a folder"),
        (["-o", "."], "cannot write .: the source orders.csv is in it"),
        (["-o", "not/there/"], "cannot write not/there/: No such file or directory"),
        (["-o", "out/", "--max-memory", "4"], "--max-memory 4 is not an amount of memory"),
        (["-o", "out.csv", "--max-memory", "4GB"], "--max-memory needs a folder as output"),
        (["--max-memory", "4GB"], "--max-memory needs a folder as output"),
    ],
)
def test_a_folder_of_parts_that_cannot_be(folder, args, expected):
    assert expected in failing("termina", "customer-cohorts", "orders.csv", *COLUMNS, *args)
    assert names(folder) == ["orders.csv"]


def test_a_folder_of_others_is_not_replaced_by_parts(folder):
    (folder / "out").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(folder / "out" / "part-00000.parquet")
    expected = "has files that cohortlib did not write"
    assert expected in failing("termina", "customer-cohorts", "orders.csv", *COLUMNS, "-o", "out/")
    assert pl.read_parquet("out/*.parquet").rows() == [(1,)]
    expected = "the ending is none of .csv, .json, .parquet"
    assert expected in failing("termina", "cohorts", "orders.csv", *COLUMNS, "-o", "new/")


def test_a_full_disk_under_a_folder_of_parts(many, full):
    out = full / "out"
    found = failing("termina", "customer-cohorts", many, "--rows", "active", "-o", f"{out}/")
    assert found == f"cannot write {out / 'part-00000.parquet'}: No space left on device"
    assert names(full) == []


# --- a state ---


def later():
    """Give new rows: b comes back, c pays before it ever did, and d is new."""
    return ROWS.split("\n", maxsplit=1)[0] + (
        "\nb,2026-04-02,20,fr,2026-01-20\nc,2026-01-31,10,de,2026-01-31\nd,2026-04-01,5,fr,2026-04-01\n"
    )


def test_every_setting_of_a_state_is_an_option_with_the_same_default(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(State, "build", lambda *inputs, **given: seen.update(given, inputs=inputs))
    parameters = inspect.signature(BUILD).parameters.values()
    expected = {parameter.name: parameter.default for parameter in parameters}
    del expected["history"], expected["folder"], expected["progress"]
    good("termina", "state", "build", "x.csv", "there")
    assert seen == expected | {"inputs": ("x.csv", "there")}
    line = (
        "--user u --timestamp t --amount m --freq W --timezone Europe/Berlin --week-start sunday --refunds drop "
        "--nulls drop --decimals 2 --threads 2 --max-memory 1GB "
        "--timestamp-format epoch_s --decimal , --assume-zone UTC --normalize strip --encoding cp1252 --sheet Orders "
        "--storage-option region=eu-central-1 "
        "--by a --by b --split c --age 7d --calendar periods.csv --fiscal-start 4 --retention unbounded --brackets 0,1 "
        "--amounts d --confidence 0.9"
    )
    good("termina", "state", "build", "x.csv", "there", *line.split())
    assert seen == {
        "inputs": ("x.csv", "there"),
        "batch": None,
        "user": "u",
        "timestamp": "t",
        "amount": "m",
        "freq": "W",
        "timezone": "Europe/Berlin",
        "week_start": "sunday",
        "refunds": "drop",
        "nulls": "drop",
        "timestamp_format": "epoch_s",
        "decimal": ",",
        "assume_zone": "UTC",
        "normalize": "strip",
        "encoding": "cp1252",
        "sheet": "Orders",
        "storage_options": {"region": "eu-central-1"},
        "decimals": 2,
        "threads": 2,
        "max_memory": "1GB",
        "by": ("a", "b"),
        "split": ("c",),
        "age": "7d",
        "calendar": "periods.csv",
        "fiscal_start": 4,
        "retention": "unbounded",
        "brackets": [0, 1],
        "amounts": ("d",),
        "confidence": 0.9,
    }


@pytest.mark.parametrize("more", [[], ["--freq", "W", "--week-start", "sunday", "--refunds", "signed"]])
def test_a_state_is_the_table_of_all_rows(folder, more):
    (folder / "later.csv").write_text(later())
    (folder / "all.csv").write_text(ROWS + later().partition("\n")[2])
    assert good("termina", "state", "build", "orders.csv", "shop", *COLUMNS, *more) == ""
    expected = good("termina", "cohorts", "orders.csv", *COLUMNS, *more)
    assert good("termina", "state", "cohorts", "shop") == expected
    assert good("termina", "state", "update", "shop", "later.csv", "--threads", "1") == ""
    for edges in ([], ["--start", "2026-02"], ["--end", "2026-03", "--complete-only"]):
        expected = good("termina", "cohorts", "all.csv", *COLUMNS, *more, *edges)
        assert good("termina", "state", "cohorts", "shop/", *edges) == expected
    good("termina", "state", "cohorts", "shop", "-o", "out.parquet")
    assert_frame_equal(pl.read_parquet("out.parquet"), cl.termina.State.open("shop").cohorts())
    shown = good("termina", "state", "cohorts", "shop", "--show", "ltv")
    assert shown == good("termina", "cohorts", "all.csv", *COLUMNS, *more, "--show", "ltv")
    # It is a prepared form too.
    expected = good("termina", "cohorts", "all.csv", *COLUMNS, "--freq", "Q")
    assert good("termina", "cohorts", "shop", "--freq", "Q") == expected
    assert names(folder) == ["all.csv", "later.csv", "orders.csv", "out.parquet", "shop"]


def test_a_state_that_cannot_be(folder):
    assert failing("termina", "state", "cohorts", "shop").startswith("the folder 'shop' has no cohortlib.json")
    assert failing("termina", "state", "update", "shop", "orders.csv").startswith("the folder 'shop' has no")
    good("prepare", "orders.csv", "prepared", *COLUMNS)
    assert "does not hold a state" in failing("termina", "state", "update", "prepared", "orders.csv")
    good("termina", "state", "build", "orders.csv", "shop", *COLUMNS)
    before = good("termina", "state", "cohorts", "shop")
    (folder / "wrong.csv").write_text("customer,paid,money\n")
    assert "column 'usd' is not in the table" in failing("termina", "state", "update", "shop", "wrong.csv")
    assert failing("termina", "state", "update", "shop", "shop") == "cannot write shop: the source shop is in it"
    with storage.locked(folder / "shop"):
        found = failing("termina", "state", "update", "shop", "orders.csv")
    assert "shop' is being written by another process. Expected one writer at a time" in found
    assert good("termina", "state", "cohorts", "shop") == before


def test_a_full_disk_under_a_state(many, full):
    pl.read_parquet(many).head(9).write_parquet(full / "few.parquet")
    shop = str(full / "shop")
    good("termina", "state", "build", str(full / "few.parquet"), shop)
    before = good("termina", "state", "cohorts", shop)
    assert failing("termina", "state", "update", shop, many).endswith(": No space left on device")
    assert good("termina", "state", "cohorts", shop) == before
    assert failing("termina", "state", "build", many, shop).endswith(": No space left on device")
    assert good("termina", "state", "cohorts", shop) == before
    assert names(full) == ["few.parquet", "shop"]
    assert len(names(full / "shop")) == 4  # the manifest, the sums, and two files of one part


def test_the_nightly_job_runs_twice(folder):
    (folder / "later.csv").write_text(later())
    report = good("termina", "state", "build", "orders.csv", "shop", *COLUMNS, "--quiet")
    assert report == ""
    result = CliRunner().invoke(main.cli, ["termina", "state", "update", "shop", "later.csv"])
    assert (result.exit_code, result.stderr) == (0, "Updated shop: +3 rows, now 11\n")
    once = good("termina", "state", "cohorts", "shop")
    assert "later.csv' was added before" in failing("termina", "state", "update", "shop", "later.csv")
    assert "--again skip leaves it as it is" in failing("termina", "state", "update", "shop", "later.csv")
    good("termina", "state", "update", "shop", "later.csv", "--again", "skip")
    assert good("termina", "state", "cohorts", "shop") == once
    shown = good("termina", "state", "info", "shop")
    assert "rows      11, and 0 dropped" in shown
    assert f"{folder / 'later.csv'}: 3 rows" in shown
    assert json.loads(good("termina", "state", "info", "shop", "--json"))["rows"] == 11
    result = CliRunner().invoke(main.cli, ["termina", "state", "remove", "shop", "b", "nobody"])
    assert result.stderr.startswith("Removed ")
    good("termina", "state", "rebuild", "shop", "--quiet")
    assert "no damage" in good("verify", "shop")
    next((folder / "shop").glob("*.rows.parquet")).write_bytes(b"")
    result = CliRunner().invoke(main.cli, ["verify", "shop"])
    assert result.exit_code == 1
    assert "does not have the digest" in result.stdout


def test_cells_that_a_spreadsheet_would_run(folder):
    ids = ["=1+1", "+49", "-5", "@x", "\ty", "plain", "a=b"]
    rows = pl.DataFrame({"user_id": ids, "timestamp": [date(2026, 1, 5)] * 7, "amount": [7, 6, 5, 4, 3, 2, 1]})
    rows.write_parquet("ids.parquet")
    asked = ("termina", "customer-cohorts", "ids.parquet")
    plain = pl.read_csv(good(*asked).encode())["user_id"]
    assert plain.to_list() == ids
    guarded = pl.read_csv(good(*asked, "--safe-cells").encode())["user_id"]
    assert guarded.to_list() == ["'" + user for user in ids[:5]] + ids[5:]
