"""Plant differences into Termina's tables and check whether `explain` names them.

Each case changes the data or the settings of one side; pairs are two at once. ``python -m benchmarks.planted_termina
[rows]`` prints the cases that were not named, and in how many the planted causes were named first.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

import cohortlib as cl
from cohortlib.compare.explain.explanation import Explanation

Rows = Callable[[pl.DataFrame], pl.DataFrame]
MONEY = ("cohort_size_amount", "amount", "ltv")
DAY, RUN = date(2023, 9, 13), (date(2023, 9, 13), date(2023, 9, 16))
_BEGIN = 1_672_531_200  # 2023-01-01 UTC
_DAYS = 730


def _same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


@dataclass(frozen=True)
class Planted:
    """One difference: the changes to the remote and the local side, and the kind of cause that should be named."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    rows: Rows = _same
    table: Rows = _same
    local: Rows = _same


def transactions(count: int, seed: int = 1) -> pl.DataFrame:
    """Generate rows of two years: six per user, 8 % refunds, mostly in the evening, UTC."""
    rng = np.random.default_rng(seed)
    users = count // 6
    first = rng.integers(0, _DAYS * 86_400, users)
    user = rng.integers(0, users, count)
    at = first[user] + (rng.exponential(90 * 86_400, count) * (rng.random(count) < 0.85)).astype(np.int64)
    at = at // 86_400 * 86_400 + (rng.normal(19, 5, count) * 3600).astype(np.int64) % 86_400
    amount = np.round(rng.lognormal(3.2, 0.9, count), 2) * np.where(rng.random(count) < 0.08, -1, 1)
    signed_up = first[user] - rng.integers(0, 20, users)[user] * 86_400
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([f"user_{number}" for number in range(users)]).gather(user),
            "timestamp": pl.from_epoch(pl.Series(at + _BEGIN)).dt.replace_time_zone("UTC"),
            "amount": amount,
            "signup_date": pl.from_epoch(pl.Series(signed_up + _BEGIN)).dt.date(),
        }
    )
    return frame.filter(pl.Series(at < _DAYS * 86_400))


def cases(rows: pl.DataFrame, freq: str, *, customers: bool) -> dict[str, Planted]:
    """Return every difference that can be planted into a table, by name."""
    users = rows["user_id"].unique().sort()
    sampled = [users[len(users) * part // 7] for part in (1, 3, 5)]
    repeats = rows.sample(fraction=0.01, seed=3)

    def without(names: list[str]) -> Rows:
        return lambda frame: frame.filter(~pl.col("user_id").is_in(names))

    def on(first: date, last: date) -> pl.Expr:
        return pl.col("timestamp").dt.date().is_between(first, last)

    def twice(chosen: pl.Expr) -> Rows:
        return lambda frame: pl.concat([frame, frame.filter(chosen)])

    def times(factor: float) -> Rows:
        return lambda table: table.with_columns((pl.col(MONEY) * factor).round(2))

    planted = {
        "New York": Planted("timezone", {"timezone": "America/New_York"}),
        "London": Planted("timezone", {"timezone": "Europe/London"}),
        "Kolkata": Planted("timezone", {"timezone": "Asia/Kolkata"}),
        "Tokyo": Planted("timezone", {"timezone": "Asia/Tokyo"}),
        "signed refunds": Planted("refunds", {"refunds": "signed"}),
        "refunds dropped": Planted("refunds", {"refunds": "drop"}),
        "right edge": Planted("right edge", {"end": "2024-09-30"}),
        "complete periods": Planted("right edge", {"complete_only": True}),
        "left edge": Planted("left edge", {"start": "2023-04-03"}),
        "cohort by sign-up": Planted("joined", {"joined": "signup_date", "before_joined": "clip"}),
        "cents": Planted("factor", table=times(100.0)),
        "currency": Planted("factor", table=times(0.9217)),
        "ages from 1": Planted("ages", table=lambda table: table.with_columns(pl.col("period") + 1)),
        "customers missing remotely": Planted("customers missing", rows=without(sampled)),
        "customer missing remotely": Planted("customers missing", rows=without(sampled[:1])),
        "customer twice remotely": Planted("customers twice", rows=twice(pl.col("user_id").is_in(sampled[:1]))),
        "day missing remotely": Planted("days missing", rows=lambda frame: frame.filter(~on(DAY, DAY))),
        "days missing remotely": Planted("days missing", rows=lambda frame: frame.filter(~on(*RUN))),
        "day twice remotely": Planted("days twice", rows=twice(on(DAY, DAY))),
        "rows repeated locally": Planted("repeats", local=lambda frame: pl.concat([frame, repeats])),
        "customer missing locally": Planted("customers missing locally", local=without(sampled[:1])),
        "day missing locally": Planted("days missing locally", local=lambda frame: frame.filter(~on(DAY, DAY))),
    }
    if freq == "M":
        month = pl.col("cohort").str.to_date("%Y-%m").dt.offset_by("1mo").dt.strftime("%Y-%m")
        planted["labels of the next month"] = Planted("labels", table=lambda table: table.with_columns(month))
    if freq == "W":
        planted["weeks from Sunday"] = Planted("week_start", {"week_start": "sunday"})
    if customers:
        planted["cohort's total"] = Planted("basis", {"basis": "cohort_total"})
        planted["cohort's mean"] = Planted("basis", {"basis": "cohort_mean"})
        planted["25 best"] = Planted("top_n", {"top_n": 25})
        planted["active ages"] = Planted("rows", {"rows": "active"})
    return planted


def sides(
    rows: pl.DataFrame, freq: str, planted: list[Planted], *, customers: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Plant differences. Returns the local rows and the remote table."""
    call = cl.termina.customer_cohorts if customers else cl.termina.cohorts
    local = remote = rows
    settings: dict[str, Any] = {}
    for one in planted:
        local, remote, settings = one.local(local), one.rows(remote), settings | one.settings
    table = call(remote, freq=freq, **settings)
    for one in planted:
        table = one.table(table)
    return local, table


def is_case(rows: pl.DataFrame, freq: str, planted: list[Planted], *, customers: bool) -> bool:
    """Return whether every difference has an effect: without it one of the sides would differ."""
    whole = sides(rows, freq, planted, customers=customers)
    for at in range(len(planted)):
        less = sides(rows, freq, planted[:at] + planted[at + 1 :], customers=customers)
        if all(a.equals(b) for a, b in zip(whole, less, strict=True)):
            return False
    return True


def named(why: Explanation, planted: list[Planted]) -> bool:
    """Return whether the planted causes are named first or tie with the first."""
    kinds = sorted(one.kind for one in planted)
    first = [why.search.best, *why.search.ties]
    return any(sorted(cause.kind for cause in trial.causes) == kinds for trial in first)


def pairs(known: dict[str, Planted], count: int, seed: int = 7) -> Iterator[tuple[str, str]]:
    """Draw pairs of differences of two kinds, at most one of them in the local data."""
    able = [
        (a, b)
        for a, b in combinations(known, 2)
        if known[a].kind.split()[0] != known[b].kind.split()[0]
        and not (known[a].kind.endswith("locally") and known[b].kind.endswith("locally"))
    ]
    order = np.random.default_rng(seed).permutation(len(able))[:count]
    yield from (able[at] for at in order)


def main(count: int, drawn: int) -> None:
    """Print the cases that are not named, and the counts."""
    rows = transactions(count)
    for freq, customers in (("M", False), ("W", False), ("M", True)):
        known = cases(rows, freq, customers=customers)
        table = f"{'customer cohorts' if customers else 'cohorts'}, {freq}"
        for what, chosen in (("alone", [(name,) for name in known]), ("in pairs", list(pairs(known, drawn)))):
            good, all_, seconds = 0, 0, []
            for names in chosen:
                planted = [known[name] for name in names]
                if not is_case(rows, freq, planted, customers=customers):
                    print(f"{table}: {' + '.join(names)}: one of them changes no cell; skipped")
                    continue
                local, remote = sides(rows, freq, planted, customers=customers)
                begun = time.perf_counter()
                # Week labels would reveal the first weekday; with week_start given, the search has to find it.
                why = cl.explain(local, remote, **({"week_start": "monday"} if freq == "W" else {}))
                seconds.append(time.perf_counter() - begun)
                right = named(why, planted)
                good, all_ = good + right, all_ + 1
                if not right:
                    print(f"{table}: {' + '.join(names)}: {why.sentence}", flush=True)
            median = sorted(seconds)[len(seconds) // 2]
            print(f"{table}, {what}: {good} of {all_} named first, {median:.1f} s a case (median)", flush=True)


if __name__ == "__main__":
    main(int(float(sys.argv[1])) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 60)
