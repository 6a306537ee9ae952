"""The installs: one row per user, ready counts per date, or none where the events define them."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from cohortlib.adapty import filters
from cohortlib.adapty.arrays import DayColumn, UserColumn, bits_of
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.kernels.records import InstallColumns, write_installs
from cohortlib.adapty.plan import RequestPlan, Segments
from cohortlib.engine.partitions import BLOCK, Partitions, RowStore
from cohortlib.engine.threads import on_threads, workers_for
from cohortlib.errors import Arg, DataError
from cohortlib.read.arrays import Ints
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import Users


@dataclass(frozen=True)
class Installs:
    """The installs as a table of users or of ready counts per date; without a frame the events define them."""

    frame: pl.DataFrame | None
    dropped: Dropped = field(default_factory=Dropped)
    """The rows dropped for nulls, and the nulls of each column."""

    @property
    def users(self) -> pl.Series | None:
        """The column of users; None for ready counts and without a frame."""
        return self.frame["user"] if self.frame is not None and "user" in self.frame.columns else None

    def findings(self, plan: RequestPlan) -> Findings:
        """Count the filters that the installs lack columns for, and the values of filters that they hold."""
        if self.frame is None or not plan.request.filters.active:
            return Findings()
        names = filters.unreached(self.frame, plan.request.filters)
        rows = pl.repeat(value=True, n=self.frame.height, eager=True)
        held = filters.Masks.of(self.frame, plan.request.filters, installs=True).findings(rows)
        return held + Findings({("unfiltered", name): 1 for name in names})

    def counts(self, segments: Segments, plan: RequestPlan) -> Ints:
        """Sum ready counts by segment; zeros if there are none."""
        total = np.zeros(len(segments), np.int64)
        if self.frame is None or self.users is not None:
            return total
        passing = filters.installs(self.frame, plan.request.filters)
        frame = self.frame if passing is None else self.frame.filter(passing)
        count, limit = sum(frame["installs"].to_list()), 2**63 // 10**plan.decimals
        if count >= limit:
            raise DataError(
                f"column 'installs' adds up to {count:,}",
                value=count,
                expected=(
                    f"fewer than {limit:,}, the range of 64-bit integers with ",
                    Arg("decimals", plan.decimals),
                ),
            )
        days = DayColumn.of(frame["install_date"], plan.timezone)(0, frame.height)
        inside = (days >= segments.first) & (days <= segments.last)
        np.add.at(total, segments.of_day[days[inside] - segments.first], frame["installs"].to_numpy()[inside])
        return total

    def partitions(self, users: Users | None, bits: int, plan: RequestPlan) -> Partitions:
        """Partition a table of users."""
        rows = 0 if self.frame is None or users is None else len(users)
        wide = users is not None and users.wide
        store = RowStore(rows, bits, ((np.uint64, 1), (np.uint64, wide), (np.int32, 1), (np.bool_, 1)))
        if self.frame is None or users is None or not rows:
            return store.finalize()
        days = DayColumn.of(self.frame["install_date"], plan.timezone)
        passes = bits_of(filters.installs(self.frame, plan.request.filters))
        user_column = UserColumn.of(users)

        def write(first: int) -> None:
            size = min(BLOCK, rows - first)
            keys = user_column(first, size, np.arange(first, first + size, dtype=np.uint32))
            block = InstallColumns(*keys, days(first, size), passes[first : first + size])
            write_installs(block, bits, store.reserve(block.keys), InstallColumns(*store.columns))

        on_threads(workers_for(plan.threads), write, range(0, rows, BLOCK))
        return store.finalize()
