"""Conventions: readings of Adapty's rules that its documentation leaves open."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, get_args

from cohortlib.adapty.validation import Brief
from cohortlib.errors import SettingError, one_of
from cohortlib.literals import WEEK_START, Weekday

UserUnit = Literal["profile_id", "customer_user_id", "device_id"]
RefundUpgraded = Literal["zero", "negative"]
PeriodNumber = Literal["ordinal", "consecutive"]
RestartPerProduct = Literal["auto", True, False]
Averages = Literal["cumulative", "per_period"]
AfterTo = Literal["drop", "payments"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Conventions(Brief):
    """Choose a reading where Adapty publishes none, or more than one. The defaults are the likeliest.

    Parameters
    ----------
    user_unit
        Who a user is: ``"profile_id"``, ``"customer_user_id"`` or ``"device_id"``.
    refund_upgraded
        A refund because the user went over to another product: ``"zero"`` (it counts for nothing) or
        ``"negative"`` (as any other refund).
    period_number
        The column of a payment in ``period_type="renewals"``: its ``"ordinal"`` in its chain, or the file's own
        ``"consecutive"`` number (the column consecutive_payments).
    restart_per_product
        Whether each product of a chain counts from 1 again; ``"auto"``: where products are filtered.
    averages
        The money in ARPU and its kin, by renewals: ``"cumulative"`` over the columns up to this one, or
        ``"per_period"``. ARPPU is cumulative always.
    after_to
        What is dated after the last day of the request: ``"drop"`` leaves it all out, ``"payments"`` only refunds.
    as_of
        The day on which a period is over or not; by default the last day of the request.
    week_start
        First day of a week, ``"monday"`` to ``"sunday"``.

    Raises
    ------
    SettingError
        Where a value is none of these.
    """

    user_unit: UserUnit = "profile_id"
    refund_upgraded: RefundUpgraded = "zero"
    period_number: PeriodNumber = "ordinal"
    restart_per_product: RestartPerProduct = "auto"
    averages: Averages = "cumulative"
    after_to: AfterTo = "drop"
    as_of: date | None = None
    week_start: Weekday = WEEK_START

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            one_of(name, getattr(self, name), values)
        if self.as_of is not None and (not isinstance(self.as_of, date) or isinstance(self.as_of, datetime)):
            raise SettingError(f"as_of={self.as_of!r} is not a date; expected a datetime.date, or None")


CHOICES: dict[str, tuple[object, ...]] = {
    "user_unit": get_args(UserUnit),
    "refund_upgraded": get_args(RefundUpgraded),
    "period_number": get_args(PeriodNumber),
    "restart_per_product": get_args(RestartPerProduct),
    "averages": get_args(Averages),
    "after_to": get_args(AfterTo),
    "week_start": get_args(Weekday),
}
