"""The benchmark of planted differences: what it plants has an effect, and it knows a false cause from a true one."""

from types import SimpleNamespace

import pytest

from benchmarks.planted.__main__ import KINDS, Place, main, planted
from benchmarks.planted.kinds import Plant
from benchmarks.planted.verdict import PARTLY, RIGHT, SILENT, WRONG, judged
from cohortlib.compare.explain.causes import Cause

pytestmark = pytest.mark.search

KIND = {kind.name: kind for kind in KINDS}
PLANTS = (Plant((("country", r"\bFR\b"),)), Plant((("Tokyo",),)))


def explanation(*causes, left=0, before=100):
    """Return what the verdict reads of an explanation."""
    cells = [SimpleNamespace(differences=SimpleNamespace(height=count)) for count in (before, left)]
    return lambda *_: SimpleNamespace(causes=causes, ok=left == 0, report=cells[1], reports=cells, sentence="")


@pytest.mark.parametrize(
    ("causes", "left", "expected"),
    [
        ([("values", "without country FR"), ("timezone", "time zone Asia/Tokyo")], 0, RIGHT),
        ([("values", "without country FR"), ("timezone", "time zone Asia/Tokyo")], 4, RIGHT),
        ([("values", "without country FR"), ("timezone", "time zone Asia/Tokyo")], 40, PARTLY),
        ([("values", "without country FR")], 40, PARTLY),
        ([("values", "without country FRA")], 40, WRONG),
        ([("values", "without country FR"), ("timezone", "time zone Asia/Seoul")], 40, WRONG),
        ([("values", "without product A")], 0, RIGHT),  # equal in effect
        ([], 40, SILENT),
    ],
)
def test_a_verdict_goes_by_the_truth(causes, left, expected):
    causes = [Cause(kind, None, words) for kind, words in causes]
    assert judged(PLANTS, None, [None], explanation(*causes, left=left), 1).word == expected


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a country left out", Place("shop", 3_000, "M")),
        ("labels of Excel", Place("sales", 3_000, "M")),
        ("net revenue by a flat tax", Place("app", 3_000, "days")),
    ],
)
def test_a_planted_difference_has_an_effect(name, place):
    plants, local, remotes = planted([KIND[name]], place, seed=1)
    assert len(plants) == len(remotes) == 1
    table = local.compute()
    assert not (table.equals(remotes[0]) if place.world != "app" else table.values.equals(remotes[0].values))


def test_a_pair_has_the_tables_of_each_and_of_both():
    place = Place("shop", 3_000, "M")
    plants, _, remotes = planted([KIND["a country left out"], KIND["retention in percent"]], place, seed=1)
    assert len(plants) == 2
    assert not any(one.equals(remotes[-1]) for one in remotes[:-1])
    assert remotes[1]["logo_retention"].max() == 100


def test_the_benchmark_prints_what_it_found(capsys):
    assert main(["--quick", "--kinds", "net revenue without tax"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("right ")
    assert "1 of 1 (100%)" in printed
