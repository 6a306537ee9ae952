"""The settings of calls on transactions stand once, and every call shows them."""

import inspect
import pickle
import subprocess
import sys
from dataclasses import fields
from typing import ForwardRef

import pytest

import cohortlib as cl
from cohortlib.errors import SettingError
from cohortlib.spark import cohorts as spark_cohorts
from cohortlib.transactions import keywords
from cohortlib.transactions.settings import Settings

pytestmark = pytest.mark.unit

CALLS = {
    cl.cohorts: keywords.UsersKeywords,
    cl.users: keywords.UsersKeywords,
    cl.termina.cohorts: keywords.CohortsKeywords,
    cl.termina.customer_cohorts: keywords.CustomerKeywords,
    cl.termina.sink_customer_cohorts: keywords.SinkKeywords,
    cl.termina.user_accounting: keywords.AccountingKeywords,
    cl.termina.growth_accounting: keywords.AccountingKeywords,
    cl.termina.concentration: keywords.AccountingKeywords,
    cl.termina.sums: keywords.SumsKeywords,
    cl.termina.accounting_sums: keywords.StateKeywords,
    cl.termina.State.build: keywords.TableStateKeywords,
    cl.sums: keywords.TableSumsKeywords,
    cl.termina.State.update: keywords.Running,
    cl.termina.Sums.cohorts: keywords.Edges,
    cl.prepare: keywords.PrepareKeywords,
    cl.report: keywords.CohortsKeywords,
}


def named(kind):
    """Return an annotation as text."""
    return kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind


def test_every_setting_has_a_type_and_a_field():
    types = keywords.types(keywords.SinkKeywords)
    assert list(types) == list(keywords.SETTINGS) == [field.name for field in fields(Settings)]
    optional = ("joined", "rank_by", "progress")  # written as text in keywords.py, to load nothing heavy
    for field in fields(Settings):
        if field.name not in optional:
            assert field.type == types[field.name], field.name


def test_defaults_are_values_that_pass_the_check():
    assert all(getattr(Settings.of(), name) == setting.default for name, setting in keywords.SETTINGS.items())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_a_signature_shows_every_setting(call):
    parameters = inspect.signature(call).parameters
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    for name, kind in keywords.types(CALLS[call]).items():
        assert parameters[name].default == keywords.ALL_SETTINGS[name].default
        assert parameters[name].annotation == named(kind)
    assert pickle.loads(pickle.dumps(call)) == call  # noqa: S301


def test_an_unknown_keyword_is_a_type_error_with_a_close_name():
    with pytest.raises(TypeError, match=r"cohorts\(\) got an unexpected keyword argument 'frq'. Did you mean 'freq'\?"):
        cl.termina.cohorts("x.csv", frq="M")
    with pytest.raises(TypeError, match=r"sums\(\) got an unexpected keyword argument 'complete_only'$"):
        cl.termina.sums("x.csv", complete_only=True)
    with pytest.raises(TypeError, match=r"cohorts\(\) got an unexpected keyword argument 'threads'"):
        spark_cohorts(None, threads=2)


@pytest.mark.parametrize("name", [name for name, setting in keywords.SETTINGS.items() if setting.values])
def test_other_values_are_refused(name):
    with pytest.raises(SettingError, match=rf"{name}='other' is unknown. Expected one of"):
        Settings.of(**{name: "other"})


def test_the_registry_is_light():
    code = "import sys, cohortlib.transactions.keywords; print(*{'numpy', 'polars', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
