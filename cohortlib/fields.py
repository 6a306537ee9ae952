"""The registry of published fields: Termina's and Adapty's, each defined once.

Schemas, tolerances of ``reconcile``, definitions in the report, plot titles, the choices of ``--show`` and the tables
of the docs are read off it. To add a metric, add one entry here and compute it. Importing this module loads neither
polars nor numba.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Endpoint = Literal["cohorts", "customer-cohorts", "user-accounting", "growth-accounting", "concentration"]
# A share is a fraction that is shown as a percentage, a ratio any other quotient; a percent is a fraction times 100.
Kind = Literal["text", "count", "money", "share", "ratio", "percent", "flag", "struct"]

_DTYPES: dict[Kind, str] = {"text": "String", "count": "Int64", "flag": "Boolean", "struct": "Struct"}
# Money written in cents is at most half a cent off. A percentage is a ratio times 100.
_TOLERANCES: dict[Kind, float] = {"money": 0.005, "share": 1e-6, "ratio": 1e-6, "percent": 1e-4}


@dataclass(frozen=True)
class Field:
    """A published field: its name, what its values are, and what they mean."""

    name: str
    kind: Kind
    meaning: str  # as a phrase
    formula: str = ""  # how it is computed from other fields
    title: str = ""  # its heading in plots and pages; by default its name in words
    note: str = ""  # a remark for its definition
    parts: tuple["Field", ...] = ()  # the fields of a struct
    key: bool = False  # whether it identifies the row
    required: bool = False  # whether a reply must have it; Termina's SDK lets all others be null or absent
    # Over the ages of a cohort. Colour scales leave out age 0, often far above the rest, unless a field is cumulative.
    ages: Literal["varying", "constant", "cumulative"] = "varying"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or _words(self.name))

    @property
    def dtype(self) -> str:
        """The name of its polars type."""
        return _DTYPES.get(self.kind, "Float64")

    @property
    def tolerance(self) -> float:
        """How far two values may be apart and still agree."""
        return _TOLERANCES.get(self.kind, 0.0)

    @property
    def quotient(self) -> tuple[str, str] | None:
        """The two fields whose quotient it is. Over several cohorts: sum of the first / sum of the second.

        >>> COHORTS["amount_retention"].quotient, COHORTS["ltv"].quotient
        (('amount', 'cohort_size_amount'), None)
        """
        above, _, below = self.formula.partition(" / ")
        return (above, below) if above.isidentifier() and below.isidentifier() else None

    @property
    def definition(self) -> str:
        """Its meaning, formula and note as one phrase.

        >>> COHORTS["amount_retention"].definition
        'share of the amount at age 0: amount / cohort_size_amount; may exceed 1'
        """
        text = f"{self.meaning}: {self.formula}" if self.formula else self.meaning
        return f"{text}; {self.note}" if self.note else text


Fields: TypeAlias = Mapping[str, Field]
"""The fields of a table by name, in the order of its columns."""


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(name: str, meaning: str, *, key: bool = False) -> Field:
    return Field(name, "text", meaning, key=key, required=True)


# ---- Termina

_COHORT = _text("cohort", "label of the cohort's period", key=True)
_AGE = Field("period", "count", "periods since the cohort's own, 0 first", title="Age", key=True, required=True)
_DATE = _text("date", "label of the period", key=True)
_USER = _text("user_id", "the user, as text", key=True)

COHORTS = _table(
    _COHORT,
    _AGE,
    Field("cohort_size", "count", "users in the cohort", title="Users", required=True, ages="constant"),
    Field("cohort_size_amount", "money", "active amount at age 0", required=True, ages="constant"),
    Field("active_users", "count", "users who are active", required=True),
    Field("logo_retention", "share", "share of the cohort's users who are active", "active_users / cohort_size"),
    Field("amount", "money", "amount at the age", "sum of the active users' net amounts"),
    Field(
        "amount_retention", "share", "share of the amount at age 0", "amount / cohort_size_amount", note="may exceed 1"
    ),
    Field(
        "ltv", "money", "amount per user up to the age", "sum of amount over ages 0 to this one / cohort_size",
        title="Lifetime value", note="per user who started, whether still active or not", ages="cumulative",
    ),
)  # fmt: skip

GENERAL = _table(
    *COHORTS.values(),
    Field("period_end", "count", "last age of the bracket; null for the open one", ages="constant"),
    Field("observed", "count", "users whose age can be seen in the data", note="only these count at the age"),
    Field("complete", "flag", "whether the age is over for every user of the cohort"),
    *(
        Field(f"{name}_{end}", field.kind, f"{word} end of the interval of {field.name}")
        for name, field in (
            ("logo", COHORTS["logo_retention"]), ("amount_retention", COHORTS["amount_retention"]),
            ("ltv", COHORTS["ltv"]),
        )
        for end, word in (("low", "lower"), ("high", "upper"))
    ),
)  # fmt: skip
GENERAL_NAMES = frozenset(GENERAL)
"""The columns that a general table can have, besides segments and further amounts."""

CUSTOMER_COHORTS = _table(
    _COHORT,
    _USER,
    _AGE,
    Field("cohort_size_amount", "money", "the customer's active amount at age 0", required=True, ages="constant"),
    Field("logo_retention", "share", "whether the customer is active", "1.0 if active at this age, else 0.0"),
    Field("amount", "money", "the customer's amount at the age"),
    Field("amount_retention", "share", "share of cohort_size_amount", "amount / cohort_size_amount"),
    Field(
        "ltv", "money", "amount up to the age", "sum of the customer's amount over ages 0 to this one",
        title="Lifetime value", ages="cumulative",
    ),
)  # fmt: skip


def _growth(what: str) -> list[Field]:
    """Return the compound growth rates of a field."""
    return [
        Field(
            f"{stem}{n}", "ratio", f"compound growth of {what} per {unit}, over {n} {unit}s", title=f"{stem}{n}".upper()
        )
        for stem, unit, lengths in (("cmgr", "month", (3, 6, 12)), ("cqgr", "quarter", (1, 2, 4)))
        for n in lengths
    ]


USER_ACCOUNTING = _table(
    _DATE,
    Field("active_users", "count", "users active in the period", required=True),
    Field("retained", "count", "active users who were active in the previous period as well"),
    Field("new", "count", "users active for the first time"),
    Field("resurrected", "count", "active users who were active before, but not in the previous period"),
    Field("churned", "count", "-1 × the users active in the previous period and not in this one"),
    *_growth("active_users"),
    Field(
        "logo_retention", "share", "share of the previous period's users who are active again",
        "retained / active_users of t - 1",
    ),
    Field("quick_ratio", "ratio", "users gained per user lost", "(new + resurrected) / |churned|"),
)  # fmt: skip

GROWTH_ACCOUNTING = _table(
    _DATE,
    Field("amount", "money", "amount of the period", required=True),
    Field("retained", "money", "amount kept from users active in the previous period as well"),
    Field("new", "money", "amount of users active for the first time"),
    Field("resurrected", "money", "amount of users active before, but not in the previous period"),
    Field("expansion", "money", "increase of users active in both periods"),
    Field("contraction", "money", "-1 × the decrease of users active in both periods"),
    Field("churned", "money", "-1 × the previous amount of users who are no longer active"),
    *_growth("amount"),
    Field(
        "quick_ratio", "ratio", "amount gained per amount lost",
        "(new + resurrected + expansion) / (|churned| + |contraction|)",
    ),
    Field("gross_retention", "share", "share of the previous amount that was kept", "retained / amount of t - 1"),
    Field(
        "net_churn", "ratio", "net loss over the previous amount",
        "(|churned| + |contraction| - resurrected - expansion) / amount of t - 1",
    ),
    Field("lifetime_quick_ratio", "ratio", "quick_ratio over all periods so far"),
    Field("lifetime_gross_retention", "share", "gross_retention over all periods so far"),
    Field("lifetime_net_churn", "ratio", "net_churn over all periods so far"),
)  # fmt: skip

TIME_SERIES_METRICS = _table(
    _DATE,
    *(Field(f"top_{n}_count", "share", f"share of the period's amount from its top {n} users") for n in (5, 10, 20)),
    *(Field(f"top_{n}_percent", "share", f"share of the period's amount from its top {n} % users") for n in (10, 20)),
    *(
        Field(name, "money", f"{name} of the period's amount per user")
        for name in ("mean", "p25", "median", "p75", "p90")
    ),
    Field("average_to_median", "ratio", "mean relative to the median", "mean / median"),
    Field("gini_coefficient", "ratio", "0 if all users have the same amount, close to 1 if one user has all of it"),
)

ENDPOINT_TOP_USERS = _table(
    _USER,
    Field("amount", "money", "amount of the user in the last period", required=True),
    Field("amount_percent", "share", "share of the amount of all users", required=True),
)

ENDPOINT_CDF = _table(
    _text("method", "top_user or distribution_quantile"),
    Field("amount", "money", "amount of the user in the last period", required=True),
    Field("cdf_users", "share", "share of users up to this one, from the smallest up"),
    Field("cdf_amount", "share", "share of the amount of these users"),
)

# The endpoints that return one table, and the three tables of concentration.
TABLES: dict[str, dict[str, Field]] = {
    "cohorts": COHORTS,
    "customer-cohorts": CUSTOMER_COHORTS,
    "user-accounting": USER_ACCOUNTING,
    "growth-accounting": GROWTH_ACCOUNTING,
}
CONCENTRATION: dict[str, dict[str, Field]] = {
    "time_series_metrics": TIME_SERIES_METRICS,
    "endpoint_top_users": ENDPOINT_TOP_USERS,
    "endpoint_cdf": ENDPOINT_CDF,
}

SHOWN = ("logo_retention", "ltv")
"""The fields of a cohort table that are shown first, or if none is chosen."""


# ---- Adapty

ACTIVE = "logo_retention"
"""The field that is above 0 where users were active, in both cohort tables."""

MONEY = ("revenue", "proceeds", "net_revenue")
# The averages of each family, in the order of MONEY: per user, per paying user, per activated user.
AVERAGES = {
    "arpu": ("arpu", "appu", "anrpu"),
    "arppu": ("arppu", "apppu", "anrppu"),
    "arpas": ("arpas", "appas", "anrpas"),
}
RELATIVE = (*MONEY, "subscriptions", "subscribers")
SEGMENT = ("segment_start_date", "type")  # the key of a segment

_PER = {"arpu": "user", "arppu": "paying user", "arpas": "activated user"}
_SEGMENT_KEYS = (
    _text("segment_start_date", "first day of the segment's period", key=True),
    _text("type", "total or single", key=True),
)


def _amounts(prefix: str) -> list[Field]:
    """Return the money fields and their averages."""
    sums = [(name, f"{_words(name).lower()} in US dollars") for name in MONEY]
    averages = [
        (name, f"{_words(money).lower()} per {_PER[family]}")
        for family, names in AVERAGES.items()
        for name, money in zip(names, MONEY, strict=True)
    ]
    return [Field(f"{prefix}{name}_usd", "money", prefix.replace("_", " ") + text) for name, text in sums + averages]


PREDICT = Field(
    "predict",
    "struct",
    "the prediction of the segment",
    parts=(
        Field("revenue_usd", "money", "gross revenue expected by the end of the months"),
        Field("ltv_usd", "money", "that revenue per paying user"),
        Field("months", "count", "age of the cohort at which the prediction ends"),
    ),
)

SEGMENTS = _table(
    *_SEGMENT_KEYS,
    _text("title", "the date of the segment, or Total"),
    Field("total_installs", "count", "users who installed"),
    Field("total_subscriptions", "count", "chains with a payment, and one-time purchases"),
    Field("total_paid_subscribers", "count", "users with a payment"),
    *_amounts("total_"),
    PREDICT,
)

VALUES = _table(
    *_SEGMENT_KEYS,
    Field("period", "count", "the ordinal of the payment, or the day", key=True, required=True),
    Field("installs", "count", "users of the segment who installed"),
    *_amounts(""),
    Field("subscriptions", "count", "distinct chains with a payment"),
    Field("subscribers", "count", "distinct users with a payment"),
    *(Field(f"{name}_relative", "percent", f"100 × {name} / its value in the first column") for name in RELATIVE),
    Field("currently_active_period", "flag", "whether the cell may still grow"),
)


# ---- reading the registry

ALL_TABLES: tuple[Fields, ...] = (*TABLES.values(), GENERAL, *CONCENTRATION.values(), SEGMENTS, VALUES)
_ENDINGS: dict[str, Kind] = {"_usd": "money", "_relative": "percent", "_retention": "share"}


def schema(fields: Fields) -> dict[str, Any]:
    """Return the polars types of a table's columns by name.

    >>> schema(ENDPOINT_TOP_USERS)
    {'user_id': String, 'amount': Float64, 'amount_percent': Float64}
    """
    import polars as pl

    return {
        name: pl.Struct(schema(_table(*field.parts))) if field.parts else getattr(pl, field.dtype)
        for name, field in fields.items()
    }


def keys(fields: Fields) -> tuple[str, ...]:
    """Return the names of the fields that identify a row.

    >>> keys(CUSTOMER_COHORTS)
    ('cohort', 'user_id', 'period')
    """
    return tuple(name for name, field in fields.items() if field.key)


def required(fields: Fields) -> tuple[str, ...]:
    """Return the names of the fields that a reply must have.

    >>> required(USER_ACCOUNTING)
    ('date', 'active_users')
    """
    return tuple(name for name, field in fields.items() if field.required)


def by_age(fields: Fields) -> dict[str, Field]:
    """Return the fields that differ by age, shares first: those that a triangle or a plot can show.

    >>> list(by_age(COHORTS))
    ['logo_retention', 'amount_retention', 'active_users', 'amount', 'ltv']
    """
    varying = [field for field in fields.values() if not field.key and field.ages != "constant"]
    return _table(*sorted(varying, key=lambda field: field.kind != "share"))


def quotients(fields: Fields) -> dict[str, tuple[str, str]]:
    """Return the fields that are the quotient of two others, with these two.

    >>> quotients(COHORTS)["amount_retention"]
    ('amount', 'cohort_size_amount')
    """
    return {name: field.quotient for name, field in fields.items() if field.quotient}


def _flattened(table: Fields) -> Iterable[Field]:
    """Return the fields, with the parts of structs under their names in flat frames and in CSV."""
    for field in table.values():
        yield field
        for part in field.parts:
            yield Field(f"{field.name}_{part.name}", part.kind, part.meaning)


# A name may be a count in one table and money in another. Counts are integers, which are compared exactly anyway.
_FIELDS = [field for table in ALL_TABLES for field in _flattened(table)]
CUMULATIVE = {field.name for field in _FIELDS if field.ages == "cumulative"}
_KINDS = {field.name: field.kind for field in sorted(_FIELDS, key=lambda field: field.tolerance)}


def kind_of(name: str) -> Kind | None:
    """Return the kind of a field by its name, or of an unknown one by the ending of its name.

    >>> kind_of("amount_retention"), kind_of("predict_months"), kind_of("discounts_usd"), kind_of("colour")
    ('share', 'count', 'money', None)
    """
    ending = next((kind for ending, kind in _ENDINGS.items() if name.endswith(ending)), None)
    return _KINDS.get(name, ending)


def tolerance_of(name: str) -> float:
    """Return how far two numbers of a field may be apart and still agree.

    >>> tolerance_of("ltv"), tolerance_of("amount_retention"), tolerance_of("active_users")
    (0.005, 1e-06, 0.0)
    """
    # The period columns of Adapty's CSV carry no field name; most often they are money.
    unknown: Kind = "money" if name.startswith(("period_", "day_")) else "ratio"
    return _TOLERANCES.get(kind_of(name) or unknown, 0.0)
