"""The table that a plan makes beside the remote one: what the differences tell of their causes."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.aggregate import SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.records import NONE, SUBSCRIBERS, SUBSCRIPTIONS
from cohortlib.adapty.plan import RequestPlan
from cohortlib.compare.explain.adapty.amounts import Amounts, Floats
from cohortlib.compare.explain.adapty.edits import alike, local_days
from cohortlib.compare.explain.adapty.plan import Plan
from cohortlib.compare.explain.adapty.plans import Tables
from cohortlib.compare.explain.adapty.rewrites import PLANES, names
from cohortlib.compare.explain.zones import Clock
from cohortlib.fields import MONEY
from cohortlib.periods import date_of
from cohortlib.read.arrays import Ints


class Beside:
    """The table under what is chosen so far, beside the remote one."""

    def __init__(self, tables: Tables, remote: Answer, plan: Plan) -> None:
        self.tables, self.remote, self.plan = tables, remote, plan
        self.question = tables.question(plan)
        self.answer = tables.answer(plan)
        self.events = tables.events(plan)
        self.report = self.answer.report

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Which rows count."""
        return self.events.kind.to_numpy() >= 0

    @cached_property
    def days(self) -> NDArray[np.int32]:
        """The local day of each event."""
        return local_days(self.events.frame["event_datetime"], self.plan.timezone)

    @property
    def moved(self) -> bool:
        """Whether days are others than those of UTC."""
        return not np.array_equal(self.days, local_days(self.events.frame["event_datetime"], "UTC"))

    @property
    def last_day(self) -> int:
        """The last day of the data that counts."""
        return min(self.question.segments.last, int(self.days[self.live].max(initial=0)))

    @property
    def products_change(self) -> bool:
        """Whether a chain has payments for more than one product."""
        kind = self.events.kind
        paid = self.events.frame.filter((kind >= 1) & (kind <= 3))
        pair = paid.select("original_transaction_id", "product_id").drop_nulls().unique()
        return pair["original_transaction_id"].n_unique() < pair.height

    # -- the other side

    @cached_property
    def off(self) -> Floats | None:
        """How much more of each money the remote side has, by segment; None where the segments are others."""
        both = self._segments
        if both is None:
            return None
        columns = [[f"total_{name}_usd{side}" for name in MONEY] for side in ("", "_remote")]
        ours, theirs = (both.select(names).to_numpy() for names in columns)
        found: Floats = (theirs - ours) / np.array(self.plan.factors)
        return found

    @cached_property
    def _segments(self) -> pl.DataFrame | None:
        theirs = self.remote.segments
        single = pl.col("type") == "single"
        ours = self.answer.segments.filter(single)
        both = ours.join(
            theirs.filter(single), on="segment_start_date", how="left", suffix="_remote", maintain_order="left"
        )
        missing = both["type_remote"].null_count()
        return (
            None
            if missing * 2 > ours.height or ours.is_empty()
            else both.with_columns(
                pl.coalesce(f"total_{name}_usd_remote", f"total_{name}_usd").alias(f"total_{name}_usd_remote")
                for name in MONEY
            )
        )

    @property
    def fewer_installs(self) -> bool:
        """Whether the remote side has fewer installs somewhere."""
        both = self._segments
        return both is not None and bool((both["total_installs_remote"] < both["total_installs"]).any())

    def money_pairs(self) -> tuple[Floats, Floats] | None:
        """Give the money of all cells that both sides have, theirs and ours, where one of them is not 0."""
        names = [f"{name}_usd" for name in MONEY]
        keys = ["segment_start_date", "type", "period"]
        both = self.answer.values.select(*keys, *names).join(
            self.remote.values.select(*keys, *names), on=keys, suffix="_remote"
        )
        theirs, ours = (both.select(f"{name}{side}" for name in names).to_numpy() for side in ("_remote", ""))
        some = ((theirs != 0) & (ours != 0)).all(axis=1)
        return (theirs[some], ours[some]) if some.any() else None

    def cells_off(self, segment: int) -> Floats | None:
        """How much more the remote side has in each cell of a segment: moneys, subscribers and subscriptions."""
        named = names(self.question, self.plan.labels)
        theirs = told(self.remote.values, named[segment])
        ours = told(self.answer.values, named[segment])
        if theirs.shape[1] == 0:
            return None
        width = max(theirs.shape[1], ours.shape[1])
        off = wide(theirs, width) - wide(ours, width)
        off[:3] /= np.array(self.plan.factors)[:, None]
        return off

    # -- money

    @cached_property
    def amounts(self) -> Amounts:
        """The money of each user and day."""
        plan, segments = self.plan, self.question.segments
        frame, kind = self.events.frame, self.events.kind.to_numpy()
        kept = (kind > 0) & ((self.days <= segments.last) | ((plan.conventions.after_to == "payments") & (kind < 5)))
        passing = filters.transactions(frame, plan.request.filters)
        if passing is not None:
            kept &= passing.to_numpy()
        signs = np.where(kind >= 5, -1.0, 1.0)
        rows = pl.DataFrame([
            frame["user"], pl.Series("transaction", frame["transaction_id"]), pl.Series("kind", kind),
            pl.Series("day", self.days), pl.Series("day of UTC", local_days(frame["event_datetime"], "UTC")),
            *(pl.Series(name, _refunded(frame[f"{name}_usd"], signs)) for name in MONEY),
        ]).filter(pl.Series(kept))  # fmt: skip
        rows = pl.concat([
            rows.filter(pl.col("transaction").is_not_null()).unique(["user", "transaction", "kind"], keep="first"),
            rows.filter(pl.col("transaction").is_null()),
        ])  # fmt: skip
        came = self._came(self.tables.installs(plan))
        rows = rows.join(came, on="user", how="left")
        installed = rows["came"].fill_null(rows.select(pl.col("day").min().over("user")).to_series()).to_numpy()
        inside = (installed >= segments.first) & (installed <= segments.last)
        rows = rows.filter(pl.Series(inside)).with_columns(
            pl.Series("segment", segments.of_day[installed[inside] - segments.first])
        )
        moneys = [pl.col(MONEY[at]).alias(name) for name, at in zip(MONEY, plan.money, strict=True)]
        return Amounts(rows.select("user", "day", "day of UTC", "segment", *moneys), len(segments))

    def _came(self, who: Installs) -> pl.DataFrame:
        """Give the day on which each user came, as far as it is told."""
        zone = self.plan.timezone
        frames = []
        if who.frame is not None and who.users is not None:
            days = local_days(who.frame["install_date"], zone)
            frames.append(
                pl.DataFrame(
                    [
                        who.users.alias("user"),
                        pl.Series("came", days),
                        pl.Series("rank", [0]).new_from_index(0, len(days)),
                    ]
                )
            )
        if "install_date" in self.events.frame.columns:
            days = local_days(self.events.frame["install_date"], zone)
            told = self.live & (days != NONE)
            frames.append(pl.DataFrame([
                self.events.frame["user"], pl.Series("came", days), pl.Series("rank", [1]).new_from_index(0, len(days)),
            ]).filter(pl.Series(told)))  # fmt: skip
        if not frames:
            return pl.DataFrame(schema={"user": self.events.frame["user"].dtype, "came": pl.Int32})
        frames = [
            frame.with_columns(pl.col("user").cast(self.events.frame["user"].dtype, strict=False)) for frame in frames
        ]
        return (
            pl.concat(frames).group_by("user").agg(pl.col("came").filter(pl.col("rank") == pl.col("rank").min()).min())
        )

    # -- clocks

    def instants(self) -> list[pl.Series]:
        """Give the columns of instants that are cut to days."""
        frame = self.events.frame.filter(pl.Series(self.live))
        names = ("event_datetime", "install_date", "subscription_expires_at")
        found = [frame[name] for name in names if name in frame.columns]
        who = self.tables.installs(self.plan)
        return [*found, *([who.frame["install_date"]] if who.frame is not None else [])]

    def strangeness(self, found: list[Clock]) -> Ints | None:
        """Tell by how many installs the segments of each clock differ from the remote ones; None if nothing can."""
        both = self._segments
        who = self.tables.installs(self.plan)
        if both is None:
            return None
        if who.frame is None:
            if "install_date" not in self.events.frame.columns:
                return None
            frame = self.events.frame.filter(pl.Series(self.live)).select("user", "install_date").drop_nulls()
        else:
            passing = filters.installs(who.frame, self.plan.request.filters)
            frame = who.frame if passing is None else who.frame.filter(passing)
        if not isinstance(frame["install_date"].dtype, pl.Datetime):
            return None
        if "user" in frame.columns:
            frame = frame.group_by("user").agg(pl.col("install_date").min())
        frame = frame.sort("install_date")
        seconds = frame["install_date"].dt.epoch("s").to_numpy()
        counts = frame["installs"].to_numpy() if "installs" in frame.columns else np.ones(len(seconds))
        theirs = both["total_installs_remote"].fill_null(0).to_numpy()
        segments = self.question.segments
        far = []
        for clock in found:
            places = np.append(np.searchsorted(seconds, clock.starts[1:]), seconds.size)
            days = (seconds + np.repeat(clock.shifts, np.diff(places, prepend=0))) // 86_400
            inside = (days >= segments.first) & (days <= segments.last)
            ours = np.bincount(
                segments.of_day[days[inside] - segments.first], weights=counts[inside], minlength=len(segments)
            )
            far.append(int(np.abs(ours - theirs).sum()))
        return np.array(far)

    def distinct(self, found: list[Clock]) -> list[Clock]:
        """Let one clock stand for all that cut the data to the same days, and leave out those that cut as ours does."""
        columns = [column for column in self.instants() if isinstance(column.dtype, pl.Datetime)]
        first = [local_days(column, self.plan.timezone).tobytes() for column in columns]
        alike: dict[int, Clock] = {hash(tuple(first)): Clock("", (), np.empty(0, np.int64), np.empty(0, np.int64))}
        for clock in found:
            if clock.name == self.plan.timezone or self.plan.timezone in clock.others:
                continue
            key = hash(tuple(local_days(column, clock.name).tobytes() for column in columns))
            held = alike.get(key)
            alike[key] = clock if held is None else replace(held, others=(*held.others, clock.name, *clock.others))
        return [clock for clock in alike.values() if clock.name]

    def end_by_installs(self) -> int | None:
        """Find the last day of the remote side, where it lacks just the installs of the days after that."""
        both, who = self._segments, self.tables.installs(self.plan)
        if both is None or who.frame is None or who.users is None:
            return None
        lacking = (both["total_installs"] - both["total_installs_remote"].fill_null(0)).to_numpy()
        short = np.flatnonzero(lacking)
        if not short.size or (lacking < 0).any() or short[-1] != len(lacking) - 1 or np.diff(short).max(initial=1) > 1:
            return None
        passing = filters.installs(who.frame, self.plan.request.filters)
        frame = who.frame if passing is None else who.frame.filter(passing)
        users = pl.DataFrame([frame["user"], pl.Series("day", local_days(frame["install_date"], self.plan.timezone))])
        days = users.group_by("user").agg(pl.col("day").min())["day"].sort().to_numpy()
        days = days[(days >= self.question.segments.first) & (days <= self.question.segments.last)]
        count = int(lacking.sum())
        return int(days[-count]) - 1 if count < days.size and days[-count - 1] < days[-count] else None

    # -- rows

    @property
    def repeated(self) -> int:
        """How many rows are alike with an earlier one in all but the ids."""
        return int(alike(self.events).sum())

    def gaps(self) -> list[tuple[int, int, float]]:
        """Find runs of days with hardly a row amid days with many: first day, last day, usual revenue of as many."""
        days = self.days[self.live & (self.days <= self.question.segments.last)]
        if not days.size:
            return []
        first = int(days.min())
        counts = np.bincount(days - first).astype(float)
        width = 10
        padded = np.pad(counts, width, mode="reflect") if counts.size > width else counts
        if counts.size <= width:
            return []
        usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=1)
        empty = (usual >= 12) & (counts <= usual / 8)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], empty.astype(int), [0]])))
        kind = self.events.kind.to_numpy()
        money = self.events.frame["revenue_usd"].cast(pl.Float64).fill_null(0.0).to_numpy()
        daily = float(money[(kind >= 1) & (kind <= 4)].sum()) / max(float(counts.sum()), 1.0)
        return [
            (first + int(a), first + int(b) - 1, float(usual[a:b].sum()) * daily)
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ][:3]

    def as_of_span(self) -> tuple[int, int] | None:
        """Find the days as of which the cells tell what may still grow as the remote side does; None if ours is one."""
        theirs = self.remote.values
        if "currently_active_period" not in theirs.columns:
            return None
        keys = ["segment_start_date", "type", "period"]

        def flags(answer: Answer) -> pl.DataFrame:
            return answer.values.select(*keys, "currently_active_period").join(
                theirs.select(*keys, pl.col("currently_active_period").alias("theirs")), on=keys
            )

        told = flags(self.answer)
        if told.is_empty() or (told["currently_active_period"] == told["theirs"]).all():
            return None
        count = int(told["theirs"].sum())
        # The later the day, the fewer cells may still grow: another day only adds cells, or only takes some away.
        apart = told.filter(pl.col("currently_active_period") != pl.col("theirs"))
        if 0.05 < apart["theirs"].mean() < 0.95:  # type: ignore[operator]
            return None

        def ours(day: int) -> int:
            plan = replace(self.plan, conventions=replace(self.plan.conventions, as_of=date_of(day)))
            return int(flags(self.tables.answer(plan))["currently_active_period"].sum())

        low, high = self.question.segments.first - 800, self.question.segments.last + 1600
        begin = _bisect(lambda day: ours(day) <= count, low, high)
        if ours(begin) != count:
            return begin, begin
        end = _bisect(lambda day: ours(day) < count, begin, high) - 1
        return begin, max(begin, end)

    # -- words

    def portrait(self, users: tuple[object, ...]) -> str:
        """Say who customers are: the id, and when the first of their payments was, by the local clock."""
        told = []
        for user in users:
            here = (self.events.frame["user"] == user).fill_null(value=False) & (self.events.kind > 0)
            at = self.events.frame["event_datetime"].filter(here).sort().head(1)
            when = ""
            if len(at):
                dated = at.dtype == pl.Date
                clock = at if dated else at.dt.convert_time_zone(self.plan.timezone)
                when = f", whose first payment is at {clock.dt.strftime('%Y-%m-%d' if dated else '%Y-%m-%d %H:%M')[0]}"
            told.append(f"customer {user}{when}")
        return " and ".join(told)


_TOLD = ["revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions"]


def _refunded(money: pl.Series, signs: Floats) -> Floats:
    values = money.cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.where(signs < 0, -np.abs(values), values)


def told(values: pl.DataFrame, name: str) -> Floats:
    """Give the moneys and counts of a segment, a row for each field."""
    rows = values.filter((pl.col("segment_start_date") == name) & (pl.col("type") == "single")).sort("period")
    return np.ascontiguousarray(rows.select(_TOLD).to_numpy().T).astype(float)


def told_cells(total: SegmentSums, question: RequestPlan) -> Floats:
    """Give the moneys and counts of sums as they would be told, by field, segment and column."""
    cells = total.cells.cumsum(axis=2) if question.request.period_type == "days" else total.cells
    shown: Floats = cells[[*PLANES, SUBSCRIBERS, SUBSCRIPTIONS], :, : total.columns].astype(np.float64)
    shown[:3] /= 10**question.decimals
    return shown


def wide(cells: Floats, width: int) -> Floats:
    """Add columns of zeros."""
    more = width - cells.shape[-1]
    return np.concatenate([cells, np.zeros((len(cells), more))], axis=1) if more else cells


def _bisect(true: Callable[[int], bool], low: int, high: int) -> int:
    """Find the first number for which something is true that stays true; `high` if none is."""
    while low < high:
        middle = (low + high) // 2
        if true(middle):
            high = middle
        else:
            low = middle + 1
    return low


def apart(theirs: Floats, ours: Floats, scaled: bool = False) -> float:
    """Tell how far apart most cells are, for their size; or, `scaled`, from the ratio that they have mostly."""
    ratios = theirs / ours
    return float(np.median(np.abs(ratios / (np.median(ratios) if scaled else 1.0) - 1)))


def factor(theirs: Floats, ours: Floats) -> float:
    """Find the ratio that most cells share; 1 where it is none."""
    ratios = theirs / ours
    rounded = np.round(ratios, 5 - int(np.floor(np.log10(max(abs(float(np.median(ratios))), 1e-9)))))
    values, counts = np.unique(rounded, return_counts=True)
    best = int(np.argmax(counts))
    same = np.abs(ratios / values[best] - 1) < 1e-4 if values[best] else np.zeros(ratios.size, bool)
    if counts[best] < max(3, 0.15 * ratios.size) or abs(values[best] - 1) < 1e-6 or values[best] <= 0:
        return 1.0
    # Of the cells that share it, most share all its digits, unless they are rounded; then the larger tell it better.
    near, sizes = ratios[np.flatnonzero(same)], np.abs(ours[np.flatnonzero(same)])
    digits, counts = np.unique(np.round(near / values[best], 9), return_counts=True)
    if counts.max() >= max(3, 0.1 * near.size):
        exact = float(digits[int(np.argmax(counts))] * values[best])
    else:
        exact = float(np.median(near[sizes >= np.median(sizes)]))
    plain = float(f"{exact:.6g}")
    return plain if abs(plain / exact - 1) < 1e-8 else exact
