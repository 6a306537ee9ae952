"""The recomputed answer compared with the remote one."""

from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.additive import Sums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.records import NONE, SUBSCRIBERS, SUBSCRIPTIONS
from cohortlib.adapty.read.events import Events
from cohortlib.compare.explain.adapty.edits import EVENTS_MOVED, FIRST_REFUND, local_days
from cohortlib.compare.explain.adapty.money import Floats, UserMoney
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.compare.explain.adapty.recompute import Recomputer
from cohortlib.compare.explain.adapty.rewrites import MONEY_PLANES, segment_labels
from cohortlib.fields import MONEY

_CELL_FIELDS = ["revenue_usd", "proceeds_usd", "net_revenue_usd", "subscribers", "subscriptions"]


class AdaptyComparison:
    """The answer of a recipe compared with the remote one. All differences are remote minus local."""

    def __init__(self, recomputer: Recomputer, remote: Answer, recipe: Recipe) -> None:
        self.recomputer, self.remote, self.recipe = recomputer, remote, recipe
        self.plan = recomputer.plan(recipe)
        self.answer = recomputer.answer(recipe)
        self.events = recomputer.events(recipe)
        self.installs = recomputer.installs(recipe)
        self.report = self.answer.report

    # --------------------------------------------------------------------------------------------------- local rows

    @cached_property
    def counts(self) -> NDArray[np.bool_]:
        """Which events count."""
        return self.events.kind.to_numpy() >= 0

    @cached_property
    def days(self) -> NDArray[np.int32]:
        """The local day of each event."""
        return local_days(self.events.frame["event_datetime"], self.recipe.timezone)

    @property
    def utc_days_differ(self) -> bool:
        """Whether some event has another day in UTC."""
        return not np.array_equal(self.days, local_days(self.events.frame["event_datetime"], "UTC"))

    @property
    def first_day(self) -> int:
        """A day before the first event that counts, in any zone."""
        return int(self.days[self.counts].min(initial=self.plan.segments.first)) - 2

    @property
    def moved(self) -> int:
        """The days by which a cause moves the events."""
        return sum(
            cause.value for cause in self.recipe.edits if isinstance(cause.value, int) and cause.kind == EVENTS_MOVED
        )

    @property
    def last_day(self) -> int:
        """The last day of the events that count."""
        return min(self.plan.segments.last, int(self.days[self.counts].max(initial=0)))

    @property
    def products_change(self) -> bool:
        """Whether a chain has payments for more than one product."""
        kind = self.events.kind
        paid = self.events.frame.filter((kind >= 1) & (kind <= 3))
        pairs = paid.select("original_transaction_id", "product_id").drop_nulls().unique()
        return pairs["original_transaction_id"].n_unique() < pairs.height

    def passing_installs(self) -> pl.DataFrame | None:
        """Return the installs that pass the filters of the request; None without a table of installs."""
        frame = self.installs.frame
        if frame is None:
            return None
        passing = filters.installs(frame, self.recipe.request.filters)
        return frame if passing is None else frame.filter(passing)

    # ------------------------------------------------------------------------------------------------------ segments

    @cached_property
    def segments(self) -> pl.DataFrame | None:
        """The local segments joined with the remote ones; None if more than half are missing remotely."""
        single = pl.col("type") == "single"
        local = self.answer.segments.filter(single)
        joined = local.join(
            self.remote.segments.filter(single),
            on="segment_start_date",
            how="left",
            suffix="_remote",
            maintain_order="left",
        )
        if local.is_empty() or joined["type_remote"].null_count() * 2 > local.height:
            return None
        return joined.with_columns(
            pl.coalesce(f"total_{name}_usd_remote", f"total_{name}_usd").alias(f"total_{name}_usd_remote")
            for name in MONEY
        )

    @cached_property
    def excess(self) -> Floats | None:
        """The difference of each segment's revenue, proceeds and net revenue; None if the segments do not match."""
        if self.segments is None:
            return None
        columns = [[f"total_{name}_usd{suffix}" for name in MONEY] for suffix in ("", "_remote")]
        local, remote = (self.segments.select(names).to_numpy() for names in columns)
        excess: Floats = (remote - local) / np.array(self.recipe.factors)
        return excess

    @property
    def fewer_installs(self) -> bool:
        """Whether some remote segment has fewer installs."""
        segments = self.segments
        return segments is not None and bool((segments["total_installs_remote"] < segments["total_installs"]).any())

    # --------------------------------------------------------------------------------------------------------- cells

    def money_pairs(self) -> tuple[Floats, Floats] | None:
        """Return the remote and the local money of all cells in which neither is 0."""
        names = [f"{name}_usd" for name in MONEY]
        keys = ["segment_start_date", "type", "period"]
        joined = self.answer.values.select(*keys, *names).join(
            self.remote.values.select(*keys, *names), on=keys, suffix="_remote"
        )
        remote, local = (joined.select(f"{name}{suffix}" for name in names).to_numpy() for suffix in ("_remote", ""))
        nonzero = ((remote != 0) & (local != 0)).all(axis=1)
        return (remote[nonzero], local[nonzero]) if nonzero.any() else None

    def cell_excess(self, segment: int) -> Floats | None:
        """Return the differences of a segment's cells: money, subscribers and subscriptions by column."""
        label = segment_labels(self.plan, self.recipe.labels)[segment]
        remote, local = _cells_of(self.remote.values, label), _cells_of(self.answer.values, label)
        if remote.shape[1] == 0:
            return None
        width = max(remote.shape[1], local.shape[1])
        excess = widened(remote, width) - widened(local, width)
        excess[:3] /= np.array(self.recipe.factors)[:, None]
        return excess

    def cells_of_users(self, users: tuple[object, ...]) -> Floats:
        """Compute money, subscribers and subscriptions of some users alone, by field, segment and column."""
        frame = self.events.frame
        chosen = frame["user"].is_in(list(users)).fill_null(value=False)
        events = Events(frame.filter(chosen), self.events.kind.filter(chosen), self.events.report)
        installs = self.installs
        if installs.frame is not None and installs.users is not None:
            installs = Installs(installs.frame.filter(installs.users.is_in(list(users))))
        sums = Sums.of(events, installs, self.plan).by_segment
        days = self.plan.request.period_type == "days"
        cells = sums.cells.cumsum(axis=2) if days else sums.cells
        shown: Floats = cells[[*MONEY_PLANES, SUBSCRIBERS, SUBSCRIPTIONS], :, : sums.columns].astype(np.float64)
        shown[:3] /= 10**self.plan.decimals
        return shown

    # --------------------------------------------------------------------------------------------------------- money

    @cached_property
    def user_money(self) -> UserMoney:
        """The money of each user and day."""
        recipe, segments = self.recipe, self.plan.segments
        rows = self._movements()
        rows = rows.join(self._install_days(), on="user", how="left")
        first_days = rows.select(pl.col("day").min().over("user")).to_series()
        installed = rows["installed"].fill_null(first_days).to_numpy()
        inside = (installed >= segments.first) & (installed <= segments.last)
        rows = rows.filter(pl.Series(inside)).with_columns(
            pl.Series("segment", segments.of_day[installed[inside] - segments.first]),
            # Days as they stand in the rows: other causes go by these.
            pl.col("day", "utc_day") - self.moved,
        )
        money = [pl.col(MONEY[index]).alias(name) for name, index in zip(MONEY, recipe.money, strict=True)]
        return UserMoney(rows.select("user", "day", "utc_day", "segment", "row", *money), len(segments))

    def _movements(self) -> pl.DataFrame:
        """Return the payments and refunds that count, each transaction once, with refunds negative."""
        recipe, frame, kind = self.recipe, self.events.frame, self.events.kind.to_numpy()
        in_time = self.days <= self.plan.segments.last
        if recipe.conventions.after_to == "payments":
            in_time |= kind < FIRST_REFUND
        kept = (kind > 0) & in_time
        passing = filters.transactions(frame, recipe.request.filters)
        if passing is not None:
            kept &= passing.to_numpy()
        rows = pl.DataFrame([
            frame["user"], pl.Series("transaction", frame["transaction_id"]), pl.Series("kind", kind),
            pl.int_range(frame.height, dtype=pl.Int64, eager=True).alias("row"),
            pl.Series("day", self.days), pl.Series("utc_day", local_days(frame["event_datetime"], "UTC")),
            *(pl.Series(name, _signed(frame[f"{name}_usd"], kind >= FIRST_REFUND)) for name in MONEY),
        ]).filter(pl.Series(kept))  # fmt: skip
        has_id = pl.col("transaction").is_not_null()
        return pl.concat([
            rows.filter(has_id).unique(["user", "transaction", "kind"], keep="first"),
            rows.filter(~has_id),
        ])  # fmt: skip

    def _install_days(self) -> pl.DataFrame:
        """Return the install day of each user: from the installs, else from the events."""
        zone, frame = self.recipe.timezone, self.events.frame
        sources = []
        if self.installs.frame is not None and self.installs.users is not None:
            days = local_days(self.installs.frame["install_date"], zone)
            sources.append(_install_rows(self.installs.users.alias("user"), days, 0))
        if "install_date" in frame.columns:
            days = local_days(frame["install_date"], zone)
            known = self.counts & (days != NONE)
            sources.append(_install_rows(frame["user"], days, 1).filter(pl.Series(known)))
        dtype = frame["user"].dtype
        if not sources:
            return pl.DataFrame(schema={"user": dtype, "installed": pl.Int32})
        best = pl.col("rank") == pl.col("rank").min()
        return (
            pl.concat([rows.with_columns(pl.col("user").cast(dtype, strict=False)) for rows in sources])
            .group_by("user")
            .agg(pl.col("installed").filter(best).min())
        )


def _install_rows(users: pl.Series, days: NDArray[np.int32], rank: int) -> pl.DataFrame:
    return pl.DataFrame([users, pl.Series("installed", days)]).with_columns(rank=pl.lit(rank))


def _signed(money: pl.Series, refund: NDArray[np.bool_]) -> Floats:
    values = money.cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.where(refund, -np.abs(values), values)


def _cells_of(values: pl.DataFrame, segment: str) -> Floats:
    """Return the money, subscribers and subscriptions of a segment, one row per field."""
    rows = values.filter((pl.col("segment_start_date") == segment) & (pl.col("type") == "single")).sort("period")
    return np.ascontiguousarray(rows.select(_CELL_FIELDS).to_numpy().T).astype(float)


def widened(cells: Floats, width: int) -> Floats:
    """Pad cells with columns of zeros."""
    more = width - cells.shape[-1]
    return np.concatenate([cells, np.zeros((len(cells), more))], axis=1) if more else cells
