"""The commands that fetch: requests, output, errors in one line."""

import io
import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from loopback import Server, reply, sending
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib.cli import main
from cohortlib.compare.reconcile import files as reconcile_files
from cohortlib.network import retry
from cohortlib.termina.client import replies

pytestmark = pytest.mark.unit

RECORDED = Path(__file__).parent / "recorded"
TABLES = ("cohorts", "customer-cohorts", "user-accounting", "growth-accounting", "concentration")
QUERY = ["--group", "7", "--deal", "0", "--user-type", "business", "--metric", "revenue"]
KEYS = {"TERMINA_API_KEY": "key-of-termina-0123456789", "ADAPTY_API_KEY": "key-of-adapty-0123456789"}
ORDERS = """\
user_id,timestamp,amount
a,2026-01-05,100
a,2026-02-10,80
a,2026-03-03,-10
b,2026-01-20,50
b,2026-03-01,70
c,2026-02-02,30
c,2026-02-20,-40
c,2026-03-15,60
"""
REQUEST = {"filters": {"date": ["2026-02-01", "2026-06-30"]}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retry, "WAITS", {"wait_initial": 0.01, "wait_max": 0.02, "wait_jitter": 0.01})
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    return tmp_path


def recorded(endpoint):
    return (RECORDED / f"termina_{endpoint.replace('-', '_')}.json").read_bytes()


@pytest.fixture
def server():
    def answer(connection, received):
        if "get-token" in received.path:
            connection.sendall(reply(200, {"access_token": "eyJ.a.b"}))
        elif "/data/" in received.path:
            connection.sendall(reply(200, recorded(received.path.partition("?")[0].rpartition("/")[2])))
        elif received.json["format"] == "csv":
            connection.sendall(reply(200, b"segment,installs,1\nTotal,4,75.0\n"))
        else:
            connection.sendall(reply(200, (RECORDED / "adapty_renewals.json").read_bytes()))

    with Server(answer) as one:
        yield one


def run(*args, env=KEYS, stdin=None):
    return CliRunner().invoke(main.cli, ["fetch", *args], env=env, input=stdin, prog_name="cohortlib")


def good(*args, **options):
    result = run(*args, **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return result


def failing(*args, **options):
    result = run(*args, **options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


@pytest.mark.parametrize("table", TABLES)
def test_json(server, folder, table):
    args = ["termina", table, *QUERY, "--freq", "M", "--base-url", server.url]
    text = good(*args).stdout
    assert text.encode() == recorded(table)
    assert replies.endpoint_of(json.loads(text)) == table
    good(*args, "-o", "out.json")
    assert (folder / "out.json").read_text() == text == good(*args, "-o", "-").stdout
    assert server.received[-1].path == f"/api/v1/group/7/deal/0/data/{table}?user_type=business&metric=revenue&freq=M"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("table", TABLES[:-1])
def test_files(server, folder, table, kind):
    good("termina", table, *QUERY, "--freq", "M", "--base-url", server.url, "-o", f"out.{kind}")
    expected = replies.read(table, json.loads(recorded(table)), freq="M")
    data = io.BytesIO((folder / f"out.{kind}").read_bytes())
    found = pl.read_parquet(data) if kind == "parquet" else pl.read_csv(data, schema=expected.schema)
    assert_frame_equal(found, expected)


def test_a_fetched_file_matches_the_computed_one(server, folder):
    """The download is the reply as it came, with dates for cohorts; reconcile reads it beside the computed table."""
    (folder / "orders.csv").write_text(ORDERS)
    result = CliRunner().invoke(main.cli, ["termina", "cohorts", "orders.csv", "-o", "local.json"])
    assert result.exit_code == 0
    good("termina", "cohorts", *QUERY, "--freq", "M", "--base-url", server.url, "-o", "remote.json")
    assert (folder / "remote.json").read_bytes() == recorded("cohorts")
    assert cl.reconcile("local.json", "remote.json").ok
    good("termina", "cohorts", *QUERY, "--freq", "M", "--base-url", server.url, "-o", "remote.csv")
    assert cl.reconcile("local.json", "remote.csv").ok


def test_adapty(server, folder):
    args = ["adapty", "cohort", "--request", "request.json", "--base-url", server.url]
    text = good(*args, "--timezone", "Europe/Berlin").stdout
    assert json.loads(text) == json.loads((RECORDED / "adapty_renewals.json").read_text())
    assert server.received[-1].headers["adapty-tz"] == "Europe/Berlin"
    good(*args, "-o", "out.csv")
    assert (folder / "out.csv").read_text() == "segment,installs,1\nTotal,4,75.0\n"
    assert server.received[-1].json["format"] == "csv"
    body = json.dumps(REQUEST | {"format": "csv"})
    assert good("adapty", "cohort", "--request", "-", "--base-url", server.url, stdin=body).stdout.startswith(
        "segment,"
    )
    good("adapty", "cohort", "--request", "-", "--base-url", server.url, "-o", "out.json", stdin=body)
    assert (folder / "out.json").read_text() == text


def test_a_saved_reply_is_as_it_came(server, folder):
    """With unknown fields, the vendor's blanks and numbers; also to standard output."""
    payload = json.loads((RECORDED / "adapty_renewals.json").read_text())
    payload["data"][0] |= {"predict": {"p12": 1.0}, "new": {"é": 1}}
    sent = b"\n" + json.dumps(payload, indent=3).replace("1.0", "1.00").encode() + b"\r\n"
    csv = b"segment,1\r\nTotal,75.00\r\n"
    args = ["adapty", "cohort", "--request", "request.json", "--base-url", server.url]
    server.answer = sending(reply(200, sent))
    good(*args, "-o", "out.json")
    assert (folder / "out.json").read_bytes() == sent == good(*args).stdout_bytes
    assert reconcile_files.read("out.json")["segments"].height == len(payload["data"])
    server.answer = sending(reply(200, csv))
    good(*args, "-o", "out.csv")
    assert (folder / "out.csv").read_bytes() == csv


def test_odd_replies_are_said_in_one_line(server, folder):
    payload = json.loads((RECORDED / "adapty_renewals.json").read_text())
    payload["data"][1]["type"] = "odd"
    server.answer = sending(reply(200, payload))
    args = ["adapty", "cohort", "--request", "request.json", "--base-url", server.url, "-o", "out.json"]
    result = run(*args)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: field 'type' has 'odd', which is neither 'total' nor 'single'")
    assert result.stderr.count("\n") == 1
    server.answer = sending(reply(200, [json.loads(recorded("cohorts"))[0] | {"cohort": "first"}]))
    result = run(
        "termina", "cohorts", *QUERY, "--freq", "M", "--base-url", server.url, env={"TERMINA_API_KEY": "eyJa.b.c"}
    )
    assert result.stderr == (
        "warning: field 'cohort' has 'first', which is not a period of --freq M (1 of 1 rows); it is kept\n"
    )
    server.answer = sending(reply(200, b'{"data": [], "data": []}'))
    assert failing(*args) == "Adapty: the reply has an object with the field 'data' 2 times. Expected each field once"


def test_a_warning_is_printed_once(server, folder):
    body = {"filters": REQUEST["filters"] | {"compare_date": ["2025-02-01", "2025-06-30"]}, "format": "csv"}
    (folder / "request.json").write_text(json.dumps(body))
    result = run("adapty", "cohort", "--request", "request.json", "--base-url", server.url, "-o", "out.json")
    assert result.exit_code == 0
    assert result.stderr == "warning: filters.compare_date is ignored: cohorts of two ranges are not compared\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["termina", "cohorts", *QUERY[:-2]], "Missing option '--metric'"),
        (["termina", "cohorts", *QUERY, "--group", "-1"], "--group"),
        (["termina", "cohorts", *QUERY, "--user-type", "person"], "--user-type"),
        (["termina", "cohorts", *QUERY, "--freq", "W"], "--freq"),
        (["termina", "cohorts", *QUERY, "--metric", " "], "--metric ' ' is not a name"),
        (["termina", "cohorts", *QUERY, "--timeout", "0"], "--timeout"),
        (["termina", "cohorts", *QUERY, "--attempts", "0"], "--attempts"),
        (["termina", "cohorts", *QUERY, "--api-key", "x"], "No such option"),
        (["termina", "cohorts", *QUERY, "-o", "out.txt"], "-o out.txt: the ending is none of .json, .csv, .parquet"),
        (["termina", "concentration", *QUERY, "-o", "out.csv"], "-o out.csv: the ending is none of .json"),
        (["termina", "cohorts", *QUERY, "-o", "nowhere/out.json"], "cannot write nowhere/out.json"),
        (["termina", "cohorts", *QUERY, "--base-url", "http://x.example"], "--base-url http://x.example would send"),
        (["adapty", "cohort"], "Missing option '--request'"),
        (["adapty", "cohort", "--request", "missing.json"], "cannot read missing.json"),
        (["adapty", "cohort", "--request", "request.json", "-o", "request.json"], "it is a file of the source"),
        (["adapty", "cohort", "--request", "request.json", "-o", "out.parquet"], "-o out.parquet: the ending is none"),
        (["adapty", "cohort", "--request", "request.json", "--timezone", "a b"], "--timezone 'a b' is not a time zone"),
        (["unknown"], "No such command"),
    ],
)  # fmt: skip
def test_refused(server, folder, args, expected):
    address = [] if args == ["unknown"] or "--base-url" in args else ["--base-url", server.url]
    assert expected in failing(*args, *address)
    assert server.received == []
    assert [path.name for path in folder.iterdir()] == ["request.json"]


def test_no_key(server):
    nothing = dict.fromkeys(KEYS, "")
    line = failing("termina", "cohorts", *QUERY, "--base-url", server.url, env=nothing)
    assert line == "Termina needs a key. Hint: set TERMINA_API_KEY (in Python also api_key=)"
    line = failing("adapty", "cohort", "--request", "request.json", "--base-url", server.url, env=nothing)
    assert line == "Adapty needs a key. Hint: set ADAPTY_API_KEY (in Python also api_key=)"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_failures_are_one_line_and_leave_the_old_file(folder, status):
    (folder / "out.json").write_text("old")
    with Server(sending(reply(status, {"detail": "the\nvendor's \x1b[31mwords"}))) as server:
        args = ["termina", "cohorts", *QUERY, "--base-url", server.url, "--attempts", "2", "-o", "out.json"]
        line = failing(*args)
    assert f"({status})" in line
    assert line.endswith("the vendor's [31mwords")
    assert (folder / "out.json").read_text() == "old"
    assert len(server.received) == (2 if status in (429, 503) else 1)


def test_help_names_the_environment_variables():
    for args in (["--help"], ["termina", "cohorts", "--help"], ["adapty", "cohort", "--help"]):
        text = good(*args).stdout
        assert "_API_KEY" in text
        assert "--api-key" not in text
        assert "--token" not in text
    for table in TABLES:
        assert f"cohortlib fetch termina {table} --group 1" in good("termina", table, "-h").stdout
