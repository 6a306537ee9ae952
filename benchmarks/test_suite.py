"""Every case of the suite runs, on small data, and the page is made of the results."""

import json
import subprocess

import pytest

from benchmarks import page, suite

QUICK = ("memory-int", "memory-text", "memory-days", "files-int", "customers-active", "customers-dense")
QUICK += ("adapty-renewals", "adapty-days", "adapty-csv-days", "csv-uuid-20-csv.gz", "reconcile-shuffled")
QUICK += ("peak-int", "kernels-int")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("suite")


def run(names, rows, threads, folder):
    options = suite.Options(folder / "data", folder / "results.json", threads, rows / 10e6, rounds=1)
    suite.run(options, names)
    return json.loads(options.results.read_text())


@pytest.mark.parametrize("name", QUICK)
def test_case(name, rows, threads, folder):
    result = run([name], rows, threads, folder)["cases"][name]
    assert "error" not in result, result["error"]


def test_a_page_is_made_of_what_there_is(rows, threads, folder):
    run(["memory-int"], rows, threads, folder)
    text = page.render(folder / "results.json")
    assert "{{" not in text
    assert "integer ids, by month" in text
    assert "**A quick run" in text


def test_a_failed_case_is_listed(rows, threads, folder, monkeypatch):
    conditions = suite._process({"conditions": True}, threads)

    def process(call, threads):
        if "case" not in call:
            return conditions
        raise subprocess.TimeoutExpired("benchmarks.child", suite.MOST)

    monkeypatch.setattr(suite, "_process", process)
    result = run(["memory-int"], rows, threads, folder)["cases"]["memory-int"]
    assert "timed out" in result["error"]
    assert f"- memory-int: {result['error']}" in page.render(folder / "results.json")
