"""Small files as people have them, each with the answer that is right, in Python and on the command line."""

import gzip
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from test_adapty_spilling import little_memory
from test_cli_adapty import run

import cohortlib as cl
from cohortlib.errors import CohortlibWarning, DataError, SchemaError, SettingError

pytestmark = pytest.mark.unit

CASES = Path(__file__).parent / "samples" / "adapty" / "cases"
DATES = {"date": ["2026-02-01", "2026-04-30"]}


def numbers(answer):
    """Return revenue, proceeds, net revenue and payments of a total, by period."""
    total = answer["data"][0]
    sums = tuple(total[f"total_{name}_usd"] for name in ("revenue", "proceeds", "net_revenue"))
    return sums, [(value["revenue_usd"], value["subscriptions"]) for value in total["values"]]


def told(caught):
    return [str(one.message) for one in caught if isinstance(one.message, CohortlibWarning)]


def in_python(events, filters=None, installs="from_events", **settings):
    """Answer in memory and over parts on disk. Returns the numbers, the report and the warnings."""
    found = []
    for room in (None, 1):
        with little_memory(1), recorded() as caught:
            answer = cl.adapty.cohort(
                CASES / events, {"filters": DATES | (filters or {})}, installs=installs, max_memory=room, **settings
            )
        found.append((numbers(answer.to_dict()), answer.report, told(caught)))
    assert found[0] == found[1]
    return found[0]


@contextmanager
def recorded():
    """Record all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def in_the_command(tmp_path, events, filters=None, *options):
    """Answer on the command line. Returns the numbers and what standard error says."""
    (tmp_path / "request.json").write_text(json.dumps({"filters": DATES | (filters or {})}), encoding="utf-8")
    args = [str(CASES / events), "--request", str(tmp_path / "request.json"), *options]
    result = run(*args) if "--installs" in options else run(*args, "--installs", "from_events")
    assert result.exit_code == 0, result.output
    return numbers(json.loads(result.stdout)), result.stderr


STATES = {
    "price_corrected": ((10.49, 7.343, 6.294), [(10.49, 1)]),
    "duration_later": ((10.0, 7.0, 6.0), [(10.0, 1)]),
    "refund_grows": ((0.0, 0.0, 0.0), [(0.0, 1)]),
    "commission_changes": ((10.0, 8.5, 7.5), [(10.0, 1)]),
}


@pytest.mark.parametrize("name", STATES)
def test_only_the_latest_state_of_a_transaction_counts(tmp_path, name):
    found, report, warned = in_python(f"revenuecat/{name}/*.csv.gz")
    assert (found, warned) == (STATES[name], [])
    assert {name: count for name, count in report.items() if count} == {"rows": 2, "superseded": 1}
    found, said = in_the_command(tmp_path, f"revenuecat/{name}/*.csv.gz")
    assert (found, said) == (STATES[name], "left out of 2 rows: 1 superseded by a later state\n")


def test_missing_money(tmp_path):
    expected = (20.0, 7.0, 6.0), [(10.0, 1), (10.0, 1)]
    found, report, [warned] = in_python("missing_money.csv")
    assert found == expected
    assert (report["missing_money"], report["missing_money_revenue"]) == (1, 10.0)
    assert warned == (
        "payments and refunds without proceeds or net revenue: 1, with 10.00 of revenue; these amounts count as 0. "
        "Hint: missing_money='error' raises instead"
    )
    found, said = in_the_command(tmp_path, "missing_money.csv")
    assert found == expected
    assert "1, with 10.00 of revenue" in said
    assert "--missing-money error" in said
    refusing = cl.adapty.Conventions(missing_money="error")
    for room in (None, 1):
        with little_memory(), pytest.raises(DataError, match="1 in column 'proceeds_usd', 1 in column 'net_revenue_u"):
            in_python_once("missing_money.csv", conventions=refusing, max_memory=room)


def in_python_once(events, **settings):
    return cl.adapty.cohort(CASES / events, {"filters": DATES}, installs="from_events", **settings)


def test_renamed_types(tmp_path):
    found, report, [warned] = in_python("renamed_types.csv")
    assert found == ((10.0, 7.0, 6.0), [(10.0, 1)])
    assert report["unknown_events"] == 1
    assert "'app_subscribed' (1)" in warned
    assert "event_types={'app_subscribed': 'subscription_started'} counts them" in warned
    found, said = in_the_command(tmp_path, "renamed_types.csv")
    assert found == ((10.0, 7.0, 6.0), [(10.0, 1)])
    option = "--event-type app_subscribed=subscription_started"
    assert f"'app_subscribed' (1). Hint: if types were renamed, {option} counts them" in said
    both = (20.0, 14.0, 12.0), [(20.0, 2)]
    renamed = {"App_Subscribed": "Subscription_Started"}
    assert in_python("renamed_types.csv", event_types=renamed) == (both, report | {"unknown_events": 0}, [])
    assert in_the_command(tmp_path, "renamed_types.csv", None, *option.split()) == (both, "")


@pytest.mark.parametrize(
    ("event_types", "said"),
    [
        (
            {"a": "subscription_start"},
            "is not an event type of Adapty.* Hint: event_types={'a': 'subscription_started'}",
        ),
        ({"a": "trial_started", "A": "trial_converted"}, "maps 'a' to 'trial_started' and to 'trial_converted'"),
        ({"a": 1}, "is not text"),
        (["a"], "is no dict"),
    ],
)
def test_wrong_event_types(event_types, said):
    with pytest.raises(SettingError, match=said):
        in_python_once("renamed_types.csv", event_types=event_types)


def test_installs_that_a_filter_cannot_reach(tmp_path):
    installs = CASES / "installs_without_country.csv"
    found, report, warned = in_python("two_countries.csv", {"country": ["de"]}, installs)
    assert found == ((10.0, 7.0, 6.0), [(10.0, 1)])
    assert report["unfiltered_installs"] == 8
    assert warned == [
        "installs that filters cannot reach: 8, since the installs have no column 'country'; every number per install "
        "is too low"
    ]
    found, said = in_the_command(tmp_path, "two_countries.csv", {"country": ["de"]}, "--installs", str(installs))
    assert found == ((10.0, 7.0, 6.0), [(10.0, 1)])
    assert said == f"warning: {warned[0]}\n"


def test_several_networks(tmp_path):
    once, never = ((10.0, 7.0, 6.0), [(10.0, 1)]), ((0.0, 0.0, 0.0), [])
    for source, channel, expected in (
        (["apple_search_ads"], None, once),
        (["appsflyer"], None, once),
        (["apple_search_ads"], ["b"], once),
        (["apple_search_ads"], ["a"], never),  # one network must pass both filters
        (None, ["b"], once),
        (["facebook", "appsflyer"], ["a", "b"], once),
    ):
        filters = {"attribution_source": source or [], "attribution_channel": channel or []}
        assert in_python("two_networks.jsonl", filters)[0] == expected
        assert in_the_command(tmp_path, "two_networks.jsonl", filters)[0] == expected


# --- kinds of the same faults ------------------------------------------------------------------------------


def warnings_of(frame, filters=None, installs="from_events", **settings):
    with recorded() as caught:
        answer = cl.adapty.cohort(frame, {"filters": DATES | (filters or {})}, installs=installs, **settings)
    return answer, told(caught)


def events(*rows, **more):
    """Make events of (user, type, day, revenue), with further columns."""
    columns = {
        "profile_id": [row[0] for row in rows],
        "event_type": [row[1] for row in rows],
        "event_datetime": [row[2] for row in rows],
        "transaction_id": [f"t{at}" for at in range(len(rows))],
        "original_transaction_id": [row[0] for row in rows],
        "environment": "Production",
        "product_id": "pro",
        **{name: [float(row[3]) for row in rows] for name in ("revenue_usd", "proceeds_usd", "net_revenue_usd")},
    }
    return pl.DataFrame(columns | more)


PAID = ("u1", "subscription_started", "2026-02-02", 10)


def test_a_value_that_no_row_holds_is_named_with_the_nearest():
    frame = events(PAID, ("u2", *PAID[1:]), store_country=["GB", "DE"], store=["app_store", "play_store"])
    _, warned = warnings_of(frame, {"country": ["uk", "gb"], "store": ["playstore", "app_store"]})
    assert warned == [
        "filters.store: no row that counts holds 'playstore'. Hint: rows hold 'play_store'",
        "filters.country: no row that counts holds 'uk'",
    ]
    _, warned = warnings_of(frame, {"store_product_id": ["app_store:pro", "play_store:prov2"]})
    assert warned == ["filters.store_product_id: no row that counts holds 'play_store:prov2'. Hint: rows hold 'pro'"]
    installs = pl.DataFrame({"profile_id": ["u1", "u3"], "install_date": "2026-02-01", "country": ["de", "fr"]})
    _, [warned] = warnings_of(frame, {"country": ["fr", "de"]}, installs)  # installs hold it
    assert "not in installs" in warned


def test_a_table_of_nothing_says_so():
    frame = events(PAID, ("u2", *PAID[1:])).with_columns(environment=pl.lit("Sandbox"))
    _, warned = warnings_of(frame)
    assert warned == ["no row counts: the events have 2 rows; left out: 2 sandbox"]


def test_no_offer():
    offers = {"offer_category": [None, "introductory", None], "offer_id": ["o", None, None]}
    frame = events(PAID, ("u2", *PAID[1:]), ("u3", *PAID[1:3], 7), **offers)
    for name in offers:
        answer, warned = warnings_of(frame, {name: ["no_offer"]})
        assert answer.segments["total_revenue_usd"][0] == 7
        assert warned == []
    assert warnings_of(frame, {"offer_id": ["no_offer", "o"]})[0].segments["total_revenue_usd"][0] == 17


def test_free_payments_may_be_skipped():
    frame = events(("u1", "subscription_started", "2026-02-02", 0), ("u1", "subscription_renewed", "2026-03-02", 10))
    counted, skipped = (
        warnings_of(frame, conventions=cl.adapty.Conventions(zero_payments=how))[0] for how in ("count", "skip")
    )
    assert counted.values.filter(type="total")["revenue_usd"].to_list() == [0, 10]
    assert skipped.values.filter(type="total")["revenue_usd"].to_list() == [10]
    assert (counted.report["zero_payments"], skipped.report["zero_payments"]) == (0, 1)


DAYS = [("pro-w", 7, "Weekly"), ("pro-m", 28, "Monthly"), ("pro-y", 365, "Annual"), ("odd", 40, "Uncategorized")]


@pytest.mark.parametrize(("product", "days", "duration"), DAYS)
def test_durations_of_the_paid_period(product, days, duration):
    payments = [(product, "subscription_started", "2026-02-02", 10) for product, *_ in DAYS]
    ends = pl.Series([d for _, d, _ in DAYS])
    frame = events(*payments, ("one", "non_subscription_purchase", "2026-02-02", 1)).with_columns(
        product_id=pl.col("profile_id")
    )
    start = pl.col("event_datetime").str.to_date()
    frame = frame.with_columns(subscription_expires_at=start + pl.duration(days=pl.Series([*ends, None])))
    answer, warned = warnings_of(frame, {"duration": [duration]})
    assert answer.segments["total_revenue_usd"][0] == 10
    assert [text for text in warned if "paid period" in text] == [
        "payments whose duration is that of the paid period, up to subscription_expires_at: 4. Hint: products= takes a "
        "table of product_id and duration"
    ]
    assert warnings_of(frame, {"duration": ["Lifetime"]})[0].segments["total_revenue_usd"][0] == 1
    # A table of products comes first.
    products = pl.DataFrame({"product_id": [product, "one"], "duration": ["6 MONTHS", "lifetime"]})
    assert warnings_of(frame, {"duration": ["6 months"]}, products=products)[0].segments["total_revenue_usd"][0] == 10


def test_a_trial_has_the_duration_of_its_chain():
    rows = (
        ("u1", "trial_started", "2026-02-02", 0), ("u1", "trial_converted", "2026-02-09", 10),
        ("u2", "trial_started", "2026-02-02", 0),
    )  # fmt: skip
    frame = events(*rows, subscription_expires_at=["2026-02-09", "2026-03-09", "2026-02-09"])
    monthly, weekly, rest = (
        warnings_of(frame, {"duration": [name]})[0].values for name in ("Monthly", "Weekly", "Uncategorized")
    )
    assert monthly.filter(type="total")["arpas_usd"].to_list() == [10.0]  # u1 alone is activated
    assert weekly.is_empty()
    assert rest.is_empty()


def test_wrong_products():
    for duration, said in (("Fortnight", "'Fortnight' is not a duration"), (None, "nulls")):
        products = pl.DataFrame({"product_id": ["p"], "duration": [duration]}, schema_overrides={"duration": pl.String})
        with pytest.raises(DataError, match=said):
            in_python_once("missing_money.csv", products=products)
    products = pl.DataFrame({"product_id": ["p", "p"], "duration": ["Weekly", "Monthly"]})
    with pytest.raises(DataError, match="'p' is Weekly and Monthly"):
        in_python_once("missing_money.csv", products=products)
    with pytest.raises(SchemaError, match="'duration' missing from products"):
        in_python_once("missing_money.csv", products=products.drop("duration"))


@pytest.mark.parametrize("name", ["missing_money.csv", "revenuecat/price_corrected/2026-02-25.csv.gz"])
def test_blank_and_repeated_header_lines(tmp_path, name):
    text = pl.read_csv(CASES / name, infer_schema=False).write_csv()
    header, _, rest = text.partition("\n")
    (tmp_path / "a.csv").write_text(f"{header}\n{rest}\n{header}\n\n{','.join([''] * header.count(','))},\n", "utf-8")
    expected, _, warned = in_python(name)
    found, report, said = in_python(tmp_path / "a.csv")
    assert (found, said) == (expected, warned)
    assert (report["header_lines"], report["sandbox"]) == (1, 0)
    assert report["blank_lines"] == 3
    assert "repeated header lines" in in_the_command(tmp_path, tmp_path / "a.csv")[1]


def test_stray_lines_of_installs(tmp_path):
    path = tmp_path / "installs.csv"
    path.write_text("profile_id,install_date\nu1,2026-02-01\n\nprofile_id,install_date\nu9,2026-02-01\n", "utf-8")
    answer, warned = warnings_of(CASES / "two_countries.csv", None, path)
    assert answer.segments["total_installs"][0] == 2
    assert warned == ["users of the events that are not in installs: 1; their money counts, but not the users"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_json_array(tmp_path, name):
    text = "[" + (CASES / "two_networks.jsonl").read_text("utf-8").strip().replace("\n", ",") + "]"
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    filters = {"attribution_source": ["apple_search_ads"]}
    assert in_python(tmp_path / name, filters) == in_python("two_networks.jsonl", filters)
    for broken, said in (("[1]", "element 1 is a int"), ('[{"a": 1}', "is broken")):
        (tmp_path / "b.json").write_text(broken, "utf-8")
        with pytest.raises(cl.errors.SourceError, match=said):
            in_python_once(tmp_path / "b.json")
