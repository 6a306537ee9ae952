"""The page of benchmarks holds the results of one run, and what the README says of it is true."""

import json

import pytest

from benchmarks import page, suite
from benchmarks.page import Page
from benchmarks.questions import QUESTIONS

SPEEDS = ("memory-int", "memory-text", "memory-days", "files-int", "files-text", "adapty-renewals", "adapty-days")


def test_every_case_has_known_contenders():
    for case in suite.CASES:
        assert set(case.contenders) <= set(QUESTIONS[case.question].contenders if case.question else ())
    assert len({case.name for case in suite.CASES}) == len(suite.CASES)


def test_the_page_is_that_of_the_results():
    if not page.RESULTS.exists():
        pytest.skip("benchmarks/results.json: there has been no whole run yet")
    assert page.PAGE.read_text() == page.render(page.RESULTS)
    assert json.loads(page.RESULTS.read_text())["scale"] == 1


def test_several_times_faster():
    if not page.RESULTS.exists():
        pytest.skip("benchmarks/results.json: there has been no whole run yet")
    results = Page(json.loads(page.RESULTS.read_text())).results
    assert all(results[name].speedup() > 2 for name in SPEEDS)
