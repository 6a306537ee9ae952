"""Zones with the same offsets are grouped into clocks."""

import zoneinfo

import pytest

from cohortlib import periods
from cohortlib.compare.explain import zones

pytestmark = pytest.mark.unit

DAY = 86_400
SPANS = [
    (1_577_836_800, 1_672_531_199),  # three years
    (1_767_225_600, 1_767_225_600),  # an instant
    (1_774_746_000 - 5, 1_774_746_000 + 5),  # ten seconds around the change of 29 March 2026, 01:00 UTC
    (1_325_000_000, 1_325_500_000),  # Samoa skips a day
    (-2_840_150_000, -2_840_130_000),  # 1880: local mean times, changed at odd seconds
]


@pytest.mark.parametrize("span", SPANS)
def test_every_zone_is_in_one_clock_and_its_clock_is_right(span):
    clocks = zones.clocks(*span)
    names = [name for clock in clocks for name in (clock.name, *clock.others)]
    assert len(names) == len(set(names))
    assert len(names) > 400
    for clock in clocks:
        for name in (clock.name, *clock.others):
            starts, shifts = periods.offsets(name, *span)
            assert (clock.starts.tolist(), clock.shifts.tolist()) == (starts.tolist(), shifts.tolist()), name
    assert len({(clock.starts.tobytes(), clock.shifts.tobytes()) for clock in clocks}) == len(clocks)


def test_common_zones_come_first_and_stand_for_the_others():
    clocks = zones.clocks(1_767_225_600, 1_780_000_000)
    assert [clock.name for clock in clocks[:5]] == [*zones.COMMON[:5]]
    assert "Europe/Paris" in clocks[1].others
    assert "US/Eastern" in clocks[3].others
    names = [clock.name for clock in clocks]
    common = [name for name in names if name in zones.COMMON]
    assert names[: len(common)] == common
    rest = [clock.shifts[0] for clock in clocks[len(common) :]]
    assert rest == sorted(rest)


def test_the_note_names_few_others_and_counts_many():
    clocks = {clock.name: clock for clock in zones.clocks(1_767_225_600, 1_780_000_000)}
    assert clocks["Asia/Tehran"].note == "or Iran"
    assert clocks["Asia/Kolkata"].note == "or Asia/Calcutta or Asia/Colombo"
    berlin = clocks["Europe/Berlin"]
    assert berlin.note == f"or Europe/Paris and {len(berlin.others) - 1} more of the same clock"


def test_without_a_database_of_zones_the_common_ones_are_left(monkeypatch):
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    clocks = zones.clocks.__wrapped__(1_767_225_600, 1_780_000_000)
    assert sum(1 + len(clock.others) for clock in clocks) == len(zones.COMMON)


def test_zones_that_polars_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(zoneinfo, "available_timezones", lambda: {"UTC", "Mars/Olympus", "Asia/Tokyo", "localtime"})
    clocks = zones.clocks.__wrapped__(1_767_225_600, 1_780_000_000)
    assert [clock.name for clock in clocks] == ["UTC", "Asia/Tokyo"]
