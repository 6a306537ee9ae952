"""Conventions: the choices that Adapty's documentation leaves open."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, get_args

from cohortlib.adapty.validation import ShortRepr
from cohortlib.errors import Arg, SettingError, one_of
from cohortlib.literals import WEEK_START, WEEKDAYS, Weekday

UserUnit = Literal["profile_id", "customer_user_id", "device_id"]
RefundUpgraded = Literal["zero", "negative"]
PeriodNumber = Literal["ordinal", "consecutive"]
RestartPerProduct = Literal["auto", True, False]
Averages = Literal["cumulative", "per_period"]
AfterTo = Literal["drop", "payments"]
MissingMoney = Literal["zero", "error"]
ZeroPayments = Literal["count", "skip"]
LadderAge = Literal["cohort", "install"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Conventions(ShortRepr):
    """Choose a rule where Adapty documents none, or more than one. The defaults are the most likely.

    Parameters
    ----------
    user_unit
        The column that identifies a user: ``"profile_id"``, ``"customer_user_id"`` or ``"device_id"``.
    refund_upgraded
        A refund because the user switched to another product: ``"zero"`` (ignored) or ``"negative"`` (as any other
        refund).
    period_number
        The column of a payment in ``period_type="renewals"``: its ``"ordinal"`` in its chain, or the ``"consecutive"``
        number in the file (the column consecutive_payments).
    restart_per_product
        Whether numbering restarts at 1 with each product of a chain; ``"auto"``: if products are filtered.
    averages
        The money in ARPU, ARPAS and the like, by renewals: ``"cumulative"`` up to the column, or ``"per_period"``.
        ARPPU is always cumulative.
    after_to
        Events after the last day of the request: ``"drop"`` leaves out all of them, ``"payments"`` only refunds.
    missing_money
        A payment or refund without proceeds or net revenue: ``"zero"`` counts these as 0, with a warning, ``"error"``
        raises.
    zero_payments
        A payment of revenue 0: ``"count"`` as any other, or ``"skip"`` as if it were not there.
    ladder_age
        The ages of predictions: days since the first day of the ``"cohort"``'s period, or since each ``"install"``.
    as_of
        The day that decides whether a period is over; by default the last day of the request.
    week_start
        First day of a week, ``"monday"`` to ``"sunday"``.

    Raises
    ------
    SettingError
        A value is not one of these.
    """

    user_unit: UserUnit = "profile_id"
    refund_upgraded: RefundUpgraded = "zero"
    period_number: PeriodNumber = "ordinal"
    restart_per_product: RestartPerProduct = "auto"
    averages: Averages = "cumulative"
    after_to: AfterTo = "drop"
    missing_money: MissingMoney = "zero"
    zero_payments: ZeroPayments = "count"
    ladder_age: LadderAge = "cohort"
    as_of: date | None = None
    week_start: Weekday = WEEK_START

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            one_of(name, getattr(self, name), values)
        if self.as_of is not None and (not isinstance(self.as_of, date) or isinstance(self.as_of, datetime)):
            raise SettingError(
                (Arg("as_of", self.as_of), " is not a date"), value=self.as_of, expected="a datetime.date, or None"
            )


CHOICES: dict[str, tuple[object, ...]] = {
    "user_unit": get_args(UserUnit),
    "refund_upgraded": get_args(RefundUpgraded),
    "period_number": get_args(PeriodNumber),
    "restart_per_product": get_args(RestartPerProduct),
    "averages": get_args(Averages),
    "after_to": get_args(AfterTo),
    "missing_money": get_args(MissingMoney),
    "zero_payments": get_args(ZeroPayments),
    "ladder_age": get_args(LadderAge),
    "week_start": WEEKDAYS,
}
