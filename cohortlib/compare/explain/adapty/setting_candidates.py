"""Propose other settings, conventions and presentations of Adapty's answers."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.conventions import CHOICES
from cohortlib.compare.explain.adapty.comparison import AdaptyComparison
from cohortlib.compare.explain.adapty.edits import FIRST_REFUND
from cohortlib.compare.explain.adapty.rewrites import segment_labels
from cohortlib.compare.explain.causes import Cause, choice
from cohortlib.errors import CohortlibError
from cohortlib.literals import WEEKDAYS
from cohortlib.periods import date_of

_AVERAGES = {
    "cumulative": "averages of the money up to each column",
    "per_period": "averages of each column's own money",
}
_UPGRADES = {"zero": "refunds of upgrades ignored", "negative": "refunds of upgrades subtracted"}
_PERIOD_NUMBERS = {
    "ordinal": "payments numbered by their position in the chain",
    "consecutive": "payments numbered by the column consecutive_payments",
}
_USER_UNITS = {
    "profile_id": "users identified by profile_id",
    "customer_user_id": "users identified by customer_user_id",
    "device_id": "users identified by device_id",
}
_EXCLUDED = {
    "sandbox": "sandbox purchases counted",
    "family_shared": "family-shared purchases counted",
    "granted": "granted products counted",
}
_AS_OF_DAYS = (-800, 1600)  # around the dates of the request: the range searched


def setting_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List other values of the settings and conventions, if the data allow them."""
    recipe, report = comparison.recipe, comparison.report
    request, conventions = recipe.request, recipe.conventions
    renewals = request.period_type == "renewals"
    if renewals:
        yield from _other_values(comparison, "averages", "averages", _AVERAGES)
    if conventions.after_to == "payments" or report.get("after_to"):
        last = request.date[1]
        yield from _other_values(comparison, "after to", "after_to", {
            "drop": f"without anything dated after {last}",
            "payments": f"payments dated after {last} counted",
        })  # fmt: skip
    if conventions.refund_upgraded == "negative" or report.get("upgraded"):
        yield from _other_values(comparison, "refunds of upgrades", "refund_upgraded", _UPGRADES)
    if not recipe.from_events:
        words = "installs counted only for users seen in the events"
        yield Cause("installs", "from_events", words, (("installs", "from_events"),), bits=choice(2))
    if request.period_unit == "week":
        for day in dict.fromkeys(("sunday", "saturday", *WEEKDAYS)):
            if day != conventions.week_start:
                yield Cause(
                    "week start", day, f"weeks that start on {day.title()}", (("week_start", day),), bits=choice(6)
                )
    if renewals and not comparison.plan.consecutive:
        for restarts in (True, False):
            if restarts != comparison.plan.restarts and comparison.products_change:
                words = "payments numbered from 1 for each " + ("product of a chain" if restarts else "chain")
                yield Cause(
                    "numbering of products", restarts, words, (("restart_per_product", restarts),), bits=choice(2)
                )
    if (comparison.events.kind >= FIRST_REFUND).any():
        yield Cause("refunds", "ignored", "without refunds", bits=choice(2))
    for reason, words in _EXCLUDED.items():
        if report.get(reason):
            yield from _computable(comparison, Cause(reason, "counted", words, bits=choice(3)))
    if renewals:
        causes = _other_values(comparison, "period number", "period_number", _PERIOD_NUMBERS)
        yield from _computable(comparison, *causes)
    yield from _computable(comparison, *_other_values(comparison, "user", "user_unit", _USER_UNITS))


def _other_values(comparison: AdaptyComparison, kind: str, name: str, words: dict[str, str]) -> list[Cause]:
    """List the values of a convention other than its current one."""
    current = getattr(comparison.recipe.conventions, name)
    return [
        Cause(kind, value, words[str(value)], ((name, value),), bits=choice(len(CHOICES[name])))
        for value in CHOICES[name]
        if value != current
    ]


def _computable(comparison: AdaptyComparison, *causes: Cause) -> Iterator[Cause]:
    """Keep the causes under which the data can be added up."""
    for cause in causes:
        try:
            comparison.recomputer.sums(comparison.recipe.under(cause))
        except CohortlibError:
            continue
        yield cause


def presentation_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List other column numbers and segment labels."""
    local, remote = comparison.answer.values, comparison.remote.values
    if local.is_empty() or remote.is_empty():
        return
    request = comparison.recipe.request
    first = int(remote["period"].to_numpy().min())
    shift = first - int(local["period"].to_numpy().min())
    unit = "period" if request.period_type == "renewals" else "day"
    if shift and abs(shift) <= 2:
        yield Cause("columns", shift, f"{unit}s counted from {first}", bits=choice(4))
    if unit == "day" and request.renewal_days[-1] > 0:
        yield Cause("ages", -1, "the day of the install counted as day 1", bits=choice(2))
        yield Cause("ages", 1, "the day after the install counted as day 0", bits=choice(2))
    local_labels, remote_labels = (
        set(frame.filter(pl.col("type") == "single")["segment_start_date"]) for frame in (local, remote)
    )
    if local_labels != remote_labels:
        for value, words in (
            (1, "segments labelled by the start of the next one"),
            (-1, "segments labelled by the start of the previous one"),
            ("last day", "segments labelled by their last day"),
        ):
            labels = set(segment_labels(comparison.plan, value))
            if len(remote_labels & labels) > len(local_labels & remote_labels):
                yield Cause("labels", value, words, bits=choice(3))


def date_candidates(comparison: AdaptyComparison, original: tuple[date, date]) -> Iterator[Cause]:
    """List requests whose first or last date is a day off, unless a cause has changed the `original` dates already."""
    first, last = comparison.recipe.request.date
    if (first, last) != original:
        return
    day = timedelta(1)
    for words, dates in (
        (f"the request up to {last - day}", (first, last - day)),
        (f"the request up to {last + day}", (first, last + day)),
        (f"the request from {first + day}", (first + day, last)),
        (f"the request from {first - day}", (first - day, last)),
    ):
        if dates[0] <= dates[1]:
            yield Cause("dates", dates, words, (("date", dates),), bits=choice(4))


def as_of_candidates(comparison: AdaptyComparison) -> Iterator[Cause]:
    """List another `as_of` day, if one gives the remote flags `currently_active_period`."""
    span = _as_of_range(comparison)
    if span is None:
        return
    low, high = span
    day = min(max(comparison.plan.as_of, low), high)
    words = f"active periods as of {date_of(day)}"
    if low != high:
        words += f" (or any day from {date_of(low)} to {date_of(high)})"
    yield Cause("as of", date_of(day), words, (("as_of", date_of(day)),), bits=choice(_AS_OF_DAYS[1] - _AS_OF_DAYS[0]))


def _as_of_range(comparison: AdaptyComparison) -> tuple[int, int] | None:
    """Find the `as_of` days with as many active cells as the remote answer has; None if the flags agree already.

    The later the day, the fewer cells are active, so the range is found by bisection.
    """
    remote = comparison.remote.values
    if "currently_active_period" not in remote.columns:
        return None
    keys = ["segment_start_date", "type", "period"]
    remote_flags = remote.select(*keys, pl.col("currently_active_period").alias("remote"))

    def flags(answer: Answer) -> pl.DataFrame:
        return answer.values.select(*keys, pl.col("currently_active_period").alias("local")).join(remote_flags, on=keys)

    current = flags(comparison.answer)
    if current.is_empty() or (current["local"] == current["remote"]).all():
        return None
    # Another day only adds active cells or only removes some. Mixed differences have another cause.
    differing = current.filter(pl.col("local") != pl.col("remote"))
    if 0.05 < differing["remote"].mean() < 0.95:  # type: ignore[operator]
        return None
    target = int(current["remote"].sum())

    def active_cells(day: int) -> int:
        conventions = replace(comparison.recipe.conventions, as_of=date_of(day))
        answer = comparison.recomputer.answer(replace(comparison.recipe, conventions=conventions))
        return int(flags(answer)["local"].sum())

    segments = comparison.plan.segments
    low, high = segments.first + _AS_OF_DAYS[0], segments.last + _AS_OF_DAYS[1]
    begin = low + bisect_left(range(low, high), True, key=lambda day: active_cells(day) <= target)
    if active_cells(begin) != target:
        return begin, begin
    after = begin + bisect_left(range(begin, high), True, key=lambda day: active_cells(day) < target)
    return begin, max(begin, after - 1)
