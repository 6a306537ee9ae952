"""The rule by which a cause is named: bits of the cells against bits of the choice."""

import numpy as np
import pytest

from cohortlib.compare.explain.causes import choice, subset
from cohortlib.compare.explain.evidence import Standing, bears_out, difference_bits, judge

pytestmark = pytest.mark.unit

CELLS = 40
PLACES = {"cohorts": np.repeat(np.arange(4), 10)}


def standing(agreeing, *, bits=10.0, extra=0, own=()):
    """A standing of 40 cells in 4 cohorts, of which the listed ones agree."""
    agrees = np.zeros(CELLS, bool)
    agrees[list(agreeing)] = True
    mask = np.zeros(CELLS, bool)
    mask[list(own)] = True
    return Standing(agrees, np.where(agrees, 0.0, bits), extra, mask)


NOTHING = standing(())


def test_all_cells_agree():
    evidence = judge(NOTHING, standing(range(CELLS)), choice(600), PLACES)
    assert (evidence.gained, evidence.lost, evidence.net, evidence.bits) == (40, 0, 40, 400.0)
    assert evidence.passes


@pytest.mark.parametrize(("count", "passes"), [(20, True), (19, False)])
def test_half_of_the_cells_have_to_agree(count, passes):
    # Every second cell, so that no cohort agrees as a whole.
    order = [*range(0, CELLS, 2), *range(1, CELLS, 2)]
    assert judge(NOTHING, standing(order[:count]), 0.0, PLACES).passes is passes


@pytest.mark.parametrize(("count", "passes"), [(10, True), (9, False)])
def test_or_whole_cohorts(count, passes):
    assert judge(NOTHING, standing(range(count)), 0.0, PLACES).passes is passes


def test_whole_cohorts_are_not_enough_for_some_causes():
    assert not judge(NOTHING, standing(range(10)), 0.0, PLACES, partial=False).passes
    assert judge(NOTHING, standing(range(20)), 0.0, PLACES, partial=False).passes


def test_a_whole_cohort_has_five_percent_of_the_differences():
    places = {"cohorts": np.repeat(np.arange(60), 10)}
    agrees = np.arange(600) < 20
    before, after = Standing(~agrees & False, np.full(600, 10.0)), Standing(agrees, np.where(agrees, 0.0, 10.0))
    assert not judge(before, after, 0.0, places).passes
    assert judge(before, Standing(np.arange(600) < 30, np.zeros(600)), 0.0, places).passes


@pytest.mark.parametrize(("cost", "passes"), [(379.0, True), (380.0, False)])
def test_the_cells_carry_more_than_the_choice(cost, passes):
    evidence = judge(NOTHING, standing(range(CELLS)), cost, PLACES)
    assert evidence.surplus == 400 - cost
    assert evidence.passes is passes


def test_cells_that_differ_anew_count_against_a_cause():
    before = standing(range(30, 40))
    after = standing(range(30), bits=7.0)
    evidence = judge(before, after, 0.0, PLACES)
    assert (evidence.gained, evidence.lost, evidence.net) == (30, 10, 20)
    assert evidence.bits == 30 * 10.0 - 10 * 7.0
    assert not evidence.passes  # more than a tenth of those gained
    assert judge(before, standing([*range(30), *range(30, 37)]), 0.0, PLACES).passes


def test_new_rows_count_against_a_cause():
    assert judge(NOTHING, standing(range(CELLS), extra=5), 0.0, PLACES).lost == 5
    assert judge(standing((), extra=5), standing(range(CELLS), extra=5), 0.0, PLACES).lost == 0


def test_rows_that_vanish_explain_nothing_by_themselves():
    """Without any row here, the rows that only this side had are gone; those of the other side still differ."""
    own = range(20)
    assert not judge(standing((), own=own), standing(own, own=own), 0.0, PLACES).passes
    # Where the other rows agreed before, nothing else is missing.
    assert judge(standing(range(20, 40), own=own), standing(range(40), own=own), 0.0, PLACES).passes


def test_a_claim_holds_if_half_of_its_cells_agree():
    before, after = standing([0]), standing(range(5))
    assert not bears_out(before, after, PLACES["cohorts"], 0)
    assert bears_out(before, standing(range(6)), PLACES["cohorts"], 0)
    assert not bears_out(before, after, PLACES["cohorts"], 1)


def test_a_number_counts_once():
    """A cumulative difference carries what is new at each age; a constant one counts once."""
    assert difference_bits(np.array([[100.0, 100.0, 100.0]]), 1.0).tolist() == [[np.log2(201), 0.0, 0.0]]
    growing = difference_bits(np.array([[0.0, 10.0, 30.0]]), 1.0)
    assert growing.tolist() == [[0.0, np.log2(21), np.log2(41)]]


def test_a_difference_is_no_harder_to_state_than_the_number():
    assert difference_bits(np.array([[9_900.0]]), 1.0, widest=100.0)[0, 0] == np.log2(201)


def test_the_bits_of_choices():
    assert choice(600) == pytest.approx(np.log2(600))
    assert choice(2) + subset(3, 1000) == pytest.approx(1 + 3 * np.log2(1000))
    assert choice(0) == 1.0


@pytest.mark.parametrize(
    ("agreeing", "cost", "words"),
    [
        (range(CELLS), 10.0, f"all {CELLS} cells"),
        (range(CELLS), 390.0, f"all {CELLS} cells: could be chance"),
        (range(1), 10.0, f"1 of {CELLS} cells: could be chance"),
        (range(8), 10.0, f"8 of {CELLS} cells: too few"),
    ],
)
def test_evidence_in_words(agreeing, cost, words):
    assert judge(NOTHING, standing(agreeing), cost, {}).words == words


def test_evidence_in_words_says_that_cells_are_lost():
    before, after = standing(range(20)), standing(range(10, CELLS))
    assert judge(before, after, 0.0, {}).words == "10 of 20 cells: 10 others no longer agree"
