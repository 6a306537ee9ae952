"""The filters: which rows pass, which columns they need, and a twin in plain Python."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortlib.adapty import filters as masks
from cohortlib.adapty.request import FILTERS, Filters
from cohortlib.adapty.validation import DURATIONS
from cohortlib.errors import SchemaError

pytestmark = pytest.mark.unit

COLUMNS = {name: name for name in FILTERS} | {
    "store_product_id": "product_id",
    "country": "store_country",
    "attribution_adgroup": "attribution_ad_group",
    "attribution_adset": "attribution_ad_set",
}
OF_USERS = [name for name in FILTERS if name in ("store", "country") or name.startswith("attribution_")]
OF_TRANSACTIONS = [name for name in FILTERS if name not in OF_USERS]
ABSENT = "has no such value"


def value_of(name):
    return "Weekly" if name == "duration" else "Aa"


def passing(values, name, wanted):
    """Tell which of some values of a column pass a filter."""
    frame = pl.DataFrame({COLUMNS[name]: pl.Series(values, dtype=pl.String)})
    return masks.transactions(frame, Filters(**{name: wanted})).to_list()


# --- each filter ---


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_has_its_column(name):
    wanted = value_of(name)
    assert passing([wanted, ABSENT, None], name, [wanted]) == [True, False, False]
    assert masks.columns(Filters(**{name: [wanted]})) >= {COLUMNS[name]}


@pytest.mark.parametrize("name", FILTERS)
def test_case(name):
    """Only store, country, attribution_status are read in any case; a duration of the request is, too."""
    wanted = value_of(name)
    same = name in ("store", "country", "attribution_status")
    assert passing([wanted.upper(), wanted.lower()], name, [wanted]) == [same, same]


def test_any_of():
    assert passing(["US", "de", "Fr", None], "country", ["us", "FR"]) == [True, False, True, False]
    assert passing(DURATIONS, "duration", ["weekly", "LIFETIME"]) == [
        name in ("Weekly", "Lifetime") for name in DURATIONS
    ]


def test_country_of_the_store_goes_first():
    frame = pl.DataFrame(
        {"store_country": ["us", "de", None, None, "us"], "profile_country": ["de", "us", "US", None, None]}
    )
    us = Filters(country=["us"])
    assert masks.transactions(frame, us).to_list() == [True, False, True, False, True]
    assert masks.transactions(frame.select("profile_country"), us).to_list() == [False, True, True, False, False]
    assert masks.transactions(frame.select("store_country"), us).to_list() == [True, False, False, False, True]


@pytest.mark.parametrize("wanted", ["non-organic", "non_organic", "Non-Organic"])
def test_status_with_dash_or_underscore(wanted):
    values = ["non-organic", "non_organic", "NON_ORGANIC", "organic", None]
    assert passing(values, "attribution_status", [wanted]) == [True, True, True, False, False]


@pytest.mark.parametrize("name", ["offer_category", "offer_type"])
@pytest.mark.parametrize("wanted", ["winback", "win_back"])
def test_win_back(name, wanted):
    assert passing(["winback", "win_back", "Winback", "intro"], name, [wanted]) == [True, True, False, False]
    assert passing(["winback", "win_back"], "offer_id", [wanted]) == [wanted == "winback", wanted == "win_back"]


PRODUCTS = pl.DataFrame(
    {
        "store": ["app_store", "App_Store", "play_store", None, "play_store", None, "play_store"],
        "product_id": ["gold", "gold", "gold", "gold", None, "app_store:gold", "gold"],
        "base_plan_id": [None, None, "p1m", "p1m", "p1m", None, "p1y"],
    }
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["gold"], [0, 1, 2, 3, 6]),
        (["app_store:gold"], [0, 1, 5]),
        (["APP_STORE:gold"], [0, 1]),
        ([["app_store", "gold"]], [0, 1, 5]),
        (["play_store:gold"], [2, 6]),
        (["play_store:gold:p1m"], [2]),
        (["play_store:gold:P1M"], []),
        ([(None, "gold", "p1m")], [2, 3]),
        (["Gold"], []),
        (["app_store:gold", "play_store:gold:p1y"], [0, 1, 5, 6]),
    ],
)
def test_products(wanted, expected):
    mask = masks.transactions(PRODUCTS, Filters(store_product_id=wanted))
    assert [index for index, passes in enumerate(mask) if passes] == expected


@pytest.mark.parametrize(
    ("product", "columns"),
    [
        ("gold", {"product_id"}),
        ("app_store:gold", {"product_id", "store"}),
        ("app_store:gold:p1m", {"product_id", "store", "base_plan_id"}),
        ((None, "gold", "p1m"), {"product_id", "base_plan_id"}),
    ],
)
def test_columns_of_products(product, columns):
    only = Filters(store_product_id=[product])
    assert masks.columns(only) == columns
    masks.transactions(PRODUCTS.select(columns), only)
    for column in columns:
        with pytest.raises(SchemaError, match=f"filters.store_product_id needs the column '{column}'"):
            masks.transactions(PRODUCTS.drop(column), only)


# --- which filters are of whom ---


def audience(frame, filters):
    return masks.Masks.of(frame, filters).audience


def test_no_filter_is_no_mask():
    for frame in (PRODUCTS, pl.DataFrame()):
        assert masks.columns(Filters()) == set()
        for ask in (masks.transactions, audience, masks.installs):
            assert ask(frame, Filters()) is None


@pytest.mark.parametrize("name", OF_TRANSACTIONS)
def test_filters_of_transactions_do_not_narrow_installs(name):
    only = Filters(**{name: [value_of(name)]})
    frame = pl.DataFrame({COLUMNS[name]: [ABSENT]})
    assert audience(frame, only) is None
    assert masks.installs(frame, only) is None
    assert masks.transactions(frame, only).to_list() == [False]


@pytest.mark.parametrize("name", OF_USERS)
def test_filters_of_users_narrow_both(name):
    only = Filters(**{name: ["Aa"]})
    frame = pl.DataFrame({COLUMNS[name]: ["Aa", ABSENT, None]})
    assert audience(frame, only).to_list() == [True, False, False]
    assert masks.transactions(frame, only).to_list() == [True, False, False]
    where_installed = frame.rename({"store_country": "country"}, strict=False)
    assert masks.installs(where_installed, only).to_list() == [True, False, False]
    assert masks.installs(pl.DataFrame({"user": ["a", "b"]}), only) is None


def test_installs_take_the_filters_that_they_can():
    frame = pl.DataFrame({"store": ["a", "b"], "store_country": ["x", "x"]})
    assert masks.installs(frame, Filters(store=["a"], country=["us"])).to_list() == [True, False]


@pytest.mark.parametrize("name", FILTERS)
def test_a_column_that_the_events_lack(name):
    only = Filters(**{name: [value_of(name)]})
    said = f"^filters.{name} needs .*'{COLUMNS[name]}'.* which the events do not have. Hint: add the column"
    with pytest.raises(SchemaError, match=said):
        masks.transactions(pl.DataFrame({"other": [1]}), only)
    if name in OF_USERS:
        with pytest.raises(SchemaError, match=said):
            audience(pl.DataFrame({"other": [1]}), only)


def test_columns_of_all_filters():
    everything = Filters(**{name: [value_of(name)] for name in FILTERS})
    assert masks.columns(everything) == set(COLUMNS.values()) | {"profile_country"}


def test_masks_have_no_nulls_and_no_rows_of_their_own():
    everything = Filters(**{name: [value_of(name)] for name in FILTERS})
    for dtype in (pl.String, pl.Null):
        for count in (0, 3):
            frame = pl.DataFrame({name: pl.Series([None] * count, dtype=dtype) for name in masks.columns(everything)})
            for mask in (masks.transactions(frame, everything), audience(frame, everything)):
                assert mask.dtype == pl.Boolean
                assert mask.to_list() == [False] * count


# --- the twin ---

WORDS = ["us", "US", "non-organic", "Non_Organic", "winback", "win_back", "Weekly", "a", "a:us", "A:us:x", "x"]
EVENT_COLUMNS = sorted({*COLUMNS.values(), "profile_country", "base_plan_id"})


def same(name, one, other):
    def spelled(text):
        if name in ("store", "country", "attribution_status"):
            text = text.lower()
        if name == "attribution_status":
            text = text.replace("-", "_")
        return "win_back" if name in ("offer_category", "offer_type") and text == "winback" else text

    return one is not None and spelled(one) == spelled(other)


def is_product(row, product):
    store, name, plan = product
    parts = (
        row["product_id"] == name,
        store is None or same("store", row["store"], store),
        plan is None or row["base_plan_id"] == plan,
    )
    return all(parts) or row["product_id"] == ":".join(part for part in product if part)


def passes(row, filters, names):
    for name in names:
        wanted = getattr(filters, name)
        if not wanted:
            continue
        if name == "store_product_id":
            good = any(is_product(row, product) for product in wanted)
        elif name == "country":
            country = row["store_country"] if row["store_country"] is not None else row["profile_country"]
            good = any(same(name, country, one) for one in wanted)
        else:
            good = any(same(name, row[COLUMNS[name]], one) for one in wanted)
        if not good:
            return False
    return True


rows = st.lists(st.fixed_dictionaries({name: st.none() | st.sampled_from(WORDS) for name in EVENT_COLUMNS}), max_size=8)
wanted = st.builds(
    Filters,
    **{name: st.lists(st.sampled_from(WORDS), max_size=4) for name in FILTERS if name != "duration"},
    duration=st.just([]) | st.just(["weekly", "annual"]),
)


@given(rows, wanted, st.sets(st.sampled_from(FILTERS), max_size=3))
def test_against_plain_python(table, filters, kept):
    filters = Filters(**{name: getattr(filters, name) for name in kept})
    frame = pl.DataFrame(table, schema=dict.fromkeys(EVENT_COLUMNS, pl.String))
    for ask, names in ((masks.transactions, FILTERS), (audience, OF_USERS)):
        mask = ask(frame, filters)
        if any(name in filters.active for name in names):
            assert mask.to_list() == [passes(row, filters, names) for row in table]
        else:
            assert mask is None
