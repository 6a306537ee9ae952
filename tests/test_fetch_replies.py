"""Replies of the vendors are read into the frames that are computed locally; errors name the row and field."""

import copy
import json
import pickle
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cohortlib as cl
from cohortlib import fields
from cohortlib.adapty.client import replies as adapty
from cohortlib.errors import CohortlibError, CohortlibWarning, FetchError, RateLimitError, ReplyError, SettingError
from cohortlib.network.json_rows import frame, labels
from cohortlib.termina.client import replies as termina

pytestmark = pytest.mark.unit

RECORDED = Path(__file__).parent / "recorded"
ROWS = pl.DataFrame(
    {
        "user_id": list("aaabbccc"),
        "timestamp": pl.Series(
            [
                "2026-01-05",
                "2026-02-10",
                "2026-03-03",
                "2026-01-20",
                "2026-03-01",
                "2026-02-02",
                "2026-02-20",
                "2026-03-15",
            ]
        ).str.to_date(),
        "amount": [100, 80, -10, 50, 70, 30, -40, 60],
    }
)
TABLES = {"cohorts": cl.termina.cohorts, "customer-cohorts": cl.termina.customer_cohorts}


def recorded(name):
    return json.loads((RECORDED / f"{name}.json").read_text())


def of_termina(endpoint):
    return recorded(f"termina_{endpoint.replace('-', '_')}")


# --- valid replies ---


@pytest.mark.parametrize("endpoint", TABLES)
def test_recorded_tables_are_those_computed(endpoint):
    found = termina.read(endpoint, of_termina(endpoint), freq="M")
    assert_frame_equal(found, TABLES[endpoint](ROWS))


@pytest.mark.parametrize("freq", ["M", "Q", "A"])
@pytest.mark.parametrize("endpoint", TABLES)
def test_computed_tables_come_back_the_same(endpoint, freq):
    table = TABLES[endpoint](ROWS, freq=freq)
    payload = json.loads(table.write_json())
    for given in (freq, None):
        assert_frame_equal(termina.read(endpoint, payload, freq=given), table)
    assert termina.endpoint_of(payload) == endpoint


@pytest.mark.parametrize("endpoint", fields.TABLES)
def test_every_table_has_its_fields(endpoint):
    payload = of_termina(endpoint)
    found = termina.read(endpoint, payload, freq="M")
    assert found.schema == pl.Schema(fields.schema(fields.TABLES[endpoint]))
    period = found.columns[0]
    assert found.drop(period).to_dicts() == [{name: row[name] for name in found.columns[1:]} for row in payload]
    assert found[period].to_list() == [row[period][:7] for row in payload]
    assert termina.endpoint_of(payload) == endpoint
    assert termina.read(endpoint, [], freq="M").schema == found.schema


def test_concentration():
    payload = of_termina("concentration")
    found = termina.read("concentration", payload, freq="M")
    for name, table in fields.CONCENTRATION.items():
        assert getattr(found, name).schema == pl.Schema(fields.schema(table))
    expected = copy.deepcopy(payload)
    for row in expected["time_series_metrics"]:
        row["date"] = row["date"][:7]
    assert found.to_dict() == expected
    assert repr(found) == "Concentration(3 periods, 2 top users, 2 points)"
    assert termina.endpoint_of(payload) == "concentration"
    nothing = termina.read("concentration", {"endpoint_cdf": None})
    assert nothing.to_dict() == {"time_series_metrics": [], "endpoint_top_users": [], "endpoint_cdf": []}


@pytest.mark.parametrize("kind", ["renewals", "days"])
def test_answers_come_back_the_same(kind):
    payload = recorded(f"adapty_{kind}")
    segments, values = adapty.read(payload)
    assert segments.schema == pl.Schema(fields.schema(fields.SEGMENTS))
    assert values.schema == pl.Schema(fields.schema(fields.VALUES))
    request = cl.adapty.Request.of({"filters": {"date": ["2026-02-01", "2026-06-30"]}, "period_type": kind})
    answer = cl.adapty.Answer(segments, values, request)
    assert answer.to_dict() == payload
    assert answer.report == {}
    assert answer.conventions is None
    width = len(payload["data"][0]["values"])
    assert repr(answer) == f"Answer({kind} by month, 2026-02-01 to 2026-06-30: 5 segments × {width} periods)"
    assert len(answer.to_csv().splitlines()) == 7


def test_an_answer_may_be_ragged():
    payload = recorded("adapty_renewals")
    del payload["data"][1]["values"][1]
    payload["data"][2]["values"] = []
    segments, values = adapty.read(payload)
    request = cl.adapty.Request.of({"filters": {"date": ["2026-02-01", "2026-06-30"]}})
    answer = cl.adapty.Answer(segments, values, request)
    assert answer.to_dict() == payload
    shown = pl.read_csv(answer.to_csv().encode())
    assert shown.select(r"^period_\d$").rows()[:3] == [(75.0, 0.0, 10.0), (10.0, None, 10.0), (None, None, None)]


def test_an_answer_without_segments():
    segments, values = adapty.read({"data": []})
    assert (segments.schema, values.schema) == (
        pl.Schema(fields.schema(fields.SEGMENTS)),
        pl.Schema(fields.schema(fields.VALUES)),
    )
    assert cl.adapty.Answer(
        segments, values, cl.adapty.Request.of({"filters": {"date": ["2026-02-01"] * 2}})
    ).to_dict() == {"data": []}


def test_tolerated_values():
    plain = {"cohort": "2026-01", "period": 1, "cohort_size": 2, "cohort_size_amount": 150.0, "active_users": 1}
    odd = {"cohort": "2026-01-01T00:00:00Z", "period": "2", "cohort_size": 2.0, "cohort_size_amount": "1.5e2",
           "active_users": "1.0", "ltv": 3, "seen": [1]}  # fmt: skip
    ours = {**dict.fromkeys(fields.COHORTS), **plain}
    assert termina.read("cohorts", [plain, odd], freq="M").to_dicts() == [ours, ours | {"period": 2, "ltv": 3.0}]
    user = {"cohort": "2026", "user_id": 812, "period": 0, "cohort_size_amount": -0.0}
    assert termina.read("customer-cohorts", [user])["user_id"].to_list() == ["812"]


@pytest.mark.parametrize(
    ("predict", "expected"),
    [
        (None, None),
        ({}, None),
        ({"p12": 5}, None),
        ({"revenue_usd": "5.5", "months": 12.0}, {"revenue_usd": 5.5, "ltv_usd": None, "months": 12}),
        ({"revenue_usd": [1], "ltv_usd": 2, "months": 1.5}, {"revenue_usd": None, "ltv_usd": 2.0, "months": None}),
    ],
)
def test_known_fields_of_predictions_are_read(predict, expected):
    payload = recorded("adapty_renewals")
    payload["data"][0]["predict"] = predict
    del payload["data"][1]["predict"]
    assert adapty.read(payload)[0]["predict"].to_list()[:2] == [expected, None]


# --- labels ---


@pytest.mark.parametrize(
    ("given", "freq", "expected"),
    [
        (["2026-01-01", "2026-02-28T23:59:59.5+02:00"], "M", ["2026-01", "2026-02"]),
        (["2026-01-01", None, "2026-04-01 00:00"], "Q", ["2026Q1", None, "2026Q2"]),
        (["2026-01-01"], "A", ["2026"]),
        (["2026-01-05T00:00:00"], "W", ["2026-01-05"]),
        (["2026-01-05T00:00:00"], None, ["2026-01-05"]),
        (["2026-01-01", "2026-02-01"], None, ["2026-01-01", "2026-02-01"]),
        (["2026Q1", "2026-04-01"], None, ["2026Q1", "2026Q2"]),
        ([], "M", []),
    ],
)
def test_labels(given, freq, expected):
    assert labels(pl.Series("cohort", given, dtype=pl.String), freq).to_list() == expected


@pytest.mark.parametrize(
    ("given", "freq", "message"),
    [
        (["January", "2026-01", "January"], "M", "has 'January', which is not a period of freq='M' (2 of 3 rows)"),
        (["2026-01", "2026-13"], "M", "has '2026-13', which is not a period of freq='M' (1 of 2 rows)"),
        (["2026Q1", "2026-04-01"], "M", "has '2026Q1', which is not a period of freq='M' (1 of 2 rows)"),
        (["2026-01"], "D", "has '2026-01', which is not a period of freq='D' (1 of 1 rows)"),
        (["", "2026-01"], None, "has '', which is not a period (1 of 2 rows)"),
        (["2026Q5"], None, "has '2026Q5', which is not a period (1 of 1 rows)"),
        (["2026Q1", "2026-04", "2026-07-01"], None, "has periods of different units: '2026Q1' and '2026-04'"),
    ],
)
def test_odd_labels_raise_a_warning_and_are_kept(given, freq, message):
    with pytest.warns(CohortlibWarning) as caught:
        found = labels(pl.Series("cohort", given, dtype=pl.String), freq).to_list()
    (warning,) = caught
    assert message in str(warning.message)
    assert found == [text if text != "2026-04-01" else "2026-04" for text in given]


def test_odd_labels_of_tables_raise_a_warning():
    with pytest.warns(CohortlibWarning, match="'cohort' has 'first', which is not a period of freq='M'"):
        assert termina.read("cohorts", [COHORT | {"cohort": "first"}], freq="M")["cohort"].to_list() == ["first"]
    with pytest.warns(CohortlibWarning, match="'segment_start_date' has 'soon', which is not a period"):
        adapty.read(changed(["data", 2, "segment_start_date"], "soon"))
    with pytest.warns(CohortlibWarning, match=r"'type' has 'double', which is neither .* \(in 1 of 6 segments\)"):
        adapty.read(changed(["data", 2, "type"], "double"))


def test_labels_refused():
    with pytest.raises(ReplyError, match="'cohort' has '2026-02-30', which is not a date"):
        labels(pl.Series("cohort", ["2026-02-01", "2026-02-30"]), "M")
    with pytest.raises(ReplyError, match=r"both .* which are in one period, 2026-01. .* freq='M'"):
        labels(pl.Series("cohort", ["2026-01-05", "2026-01-12"]), "M")


# --- invalid replies ---

COHORT = {"cohort": "2026-01", "period": 0, "cohort_size": 2, "cohort_size_amount": 150.0, "active_users": 2}


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "the reply is null. Expected a list of objects"),
        ({"data": []}, "the reply is an object with 'data'. Expected a list of objects"),
        ("text", "the reply is text. Expected a list"),
        ([COHORT, [1]], "row 1 is a list. Expected an object of fields"),
        ([COHORT, None], "row 1 is None. Expected an object"),
        ([COHORT, without(COHORT, "period")], "row 1 has no field 'period'; its fields are 'cohort', 'cohort_size', "),
        ([{}], "row 0 has no field 'cohort'; it has no fields"),
        ([COHORT, COHORT | {"active_users": None}], "row 1, field 'active_users' is null. Expected an integer"),
        ([COHORT | {"period": 0.5}], "row 0, field 'period' is 0.5. Expected an integer of at most 64 bits"),
        ([COHORT | {"period": True}], "row 0, field 'period' is True. Expected an integer"),
        ([COHORT | {"period": 2**63}], "row 0, field 'period' is 9223372036854775808. Expected an integer"),
        ([COHORT | {"period": 1e300}], "row 0, field 'period' is 1e+300. Expected an integer"),
        (
            [COHORT, COHORT | {"period": 1, "active_users": -1}],
            "row 1, field 'active_users' is -1. Expected a count, 0 or",
        ),
        ([COHORT | {"cohort_size": "-2.0"}], "row 0, field 'cohort_size' is '-2.0'. Expected a count, 0 or more"),
        ([COHORT | {"period": -1}], "row 0, field 'period' is -1. Expected a count"),
        ([COHORT, COHORT], "the rows of the reply have cohort '2026-01', period 0 more than once. Expected each once"),
        ([COHORT, COHORT | {"cohort": "2026-01-01"}], "have cohort '2026-01', period 0 more than once"),
        ([COHORT | {"ltv": False}], "row 0, field 'ltv' is False. Expected a number"),
        ([COHORT, COHORT | {"ltv": float("nan")}], "row 1, field 'ltv' is nan. Expected a number"),
        ([COHORT | {"ltv": float("inf")}], "row 0, field 'ltv' is inf. Expected a number"),
        ([COHORT | {"ltv": 10**400}], "Expected a number"),
        ([COHORT | {"ltv": "1e400"}], "row 0, field 'ltv' is '1e400'. Expected a number"),
        ([COHORT | {"ltv": "1,5"}], "row 0, field 'ltv' is '1,5'. Expected a number"),
        ([COHORT | {"ltv": "٣"}], "row 0, field 'ltv' is '٣'. Expected a number"),
        ([COHORT | {"ltv": "9" * 500 + "x"}], "Expected a number"),
        ([COHORT | {"ltv": {}}], "row 0, field 'ltv' is an object. Expected a number"),
        ([COHORT | {"cohort": 1.5}], "row 0, field 'cohort' is 1.5. Expected text"),
        ([COHORT | {"cohort": True}], "row 0, field 'cohort' is True. Expected text"),
        ([COHORT | {"cohort": "\ud800"}], r"row 0, field 'cohort' is '\ud800'. Expected text"),
    ],
)
def test_wrong_tables(payload, message):
    with pytest.raises(ReplyError) as caught:
        termina.read("cohorts", payload, freq="M")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
    assert (caught.value.status, caught.value.body) == (None, "")


@pytest.mark.parametrize("endpoint", fields.TABLES)
def test_a_missing_field_is_named_where_it_is_required(endpoint):
    payload = of_termina(endpoint)
    for name in fields.TABLES[endpoint]:
        lacking = [payload[0], without(payload[1], name), *payload[2:]]
        if name in fields.required(fields.TABLES[endpoint]):
            with pytest.raises(ReplyError, match=f"row 1 has no field '{name}'"):
                termina.read(endpoint, lacking)
        else:
            assert termina.read(endpoint, lacking)[name][1] is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the reply is a list. Expected one object with 'time_series_metrics'"),
        (
            {"data": 1},
            "the reply has none of 'time_series_metrics', 'endpoint_top_users', 'endpoint_cdf'; its fields are 'data'",
        ),
        ({"endpoint_cdf": {}}, "endpoint_cdf is an object. Expected a list"),
        ({"endpoint_cdf": [{"method": "top_user", "amount": None}]}, "endpoint_cdf, row 0, field 'amount' is null"),
        ({"time_series_metrics": [{"mean": 1}]}, "time_series_metrics, row 0 has no field 'date'"),
    ],
)
def test_wrong_concentrations(payload, message):
    with pytest.raises(ReplyError) as caught:
        termina.read("concentration", payload)
    assert message in str(caught.value)


def changed(place, value):
    payload = recorded("adapty_renewals")
    *path, last = place
    at = payload
    for step in path:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return payload


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the reply is a list. Expected an object with 'data'"),
        ({"errors": []}, "the reply has no field 'data'; its fields are 'errors'"),
        ({"data": None}, "'data' is null. Expected a list of objects"),
        ({"data": [5]}, "segment 0 is 5. Expected an object"),
        (changed(["data", 1, "values"], None), "segment 1 has no field 'values'"),
        (changed(["data", 1, "values"], {}), "'values' of segment 1 is an object. Expected a list"),
        (changed(["data", 1, "title"], None), "segment 1 has no field 'title'"),
        (changed(["data", 1, "total_arpu_usd"], "x"), "segment 1, field 'total_arpu_usd' is 'x'. Expected a number"),
        (changed(["data", 0, "predict"], 5), "segment 0, field 'predict' is 5. Expected an object or null"),
        (changed(["data", 0, "values", 2], 5), "segment 0, values[2] is 5. Expected an object"),
        (changed(["data", 1, "values", 0, "installs"], None), "segment 1, values[0] has no field 'installs'"),
        (changed(["data", 3, "values", 1, "period"], 1.5), "segment 3, values[1], field 'period' is 1.5"),
        (changed(["data", 1, "total_installs"], -3), "segment 1, field 'total_installs' is -3. Expected a count, 0 or"),
        (
            changed(["data", 3, "values", 1, "subscribers"], -1),
            "segment 3, values[1], field 'subscribers' is -1. Expected",
        ),
        (
            changed(["data", 3, "values", 1, "currently_active_period"], 1),
            "field 'currently_active_period' is 1. Expected true",
        ),
        (
            changed(["data", 3, "values", 1, "period"], 1),
            "the values of the reply have segment_start_date '2026-04-01', type 'single', period 1 more than once",
        ),
        (
            changed(["data", 2, "segment_start_date"], "2026-02-01"),
            "the segments of the reply have segment_start_date '2026-02-01', type 'single' more than once",
        ),
    ],
)
def test_wrong_answers(payload, message):
    with pytest.raises(ReplyError) as caught:
        adapty.read(payload)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "an empty list, so its endpoint is unknown"),
        ({"data": []}, "the reply is an object with 'data'"),
        ([[]], "its first row is a list"),
        ([{"a": 1}], "the fields of its first row are 'a'"),
        ([{"cohort": "2026-01", "period": 0}], "Hint: cohorts have 'cohort', 'period', 'cohort_size'"),
    ],
)
def test_unknown_endpoints(payload, message):
    with pytest.raises(ReplyError, match=message):
        termina.endpoint_of(payload)


def test_lost_users_are_negative():
    (row,) = termina.read(
        "user-accounting", [{"date": "2026-02", "active_users": 1, "churned": -3}], freq="M"
    ).to_dicts()
    assert row["churned"] == -3
    with pytest.raises(ReplyError, match="row 0, field 'new' is -3"):
        termina.read("user-accounting", [{"date": "2026-02", "active_users": 1, "new": -3}], freq="M")


def test_unknown_names_are_refused():
    with pytest.raises(SettingError, match="endpoint='cohort'"):
        termina.read("cohort", [])
    with pytest.raises(SettingError, match="freq='Y'"):
        termina.read("cohorts", [], freq="Y")


def test_a_million_cells_are_read_in_seconds():
    rows = [COHORT | {"period": i} for i in range(200_000)]
    assert frame(rows, fields.schema(fields.COHORTS), required=COHORT, optional=fields.COHORTS).height == 200_000


def test_errors_can_be_pickled():
    error = RateLimitError("slow down", 429, "the body", 1.5)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert (str(other), other.status, other.body, other.retry_after) == ("slow down", 429, "the body", 1.5)
    assert isinstance(error, FetchError)
    assert isinstance(error, CohortlibError)
