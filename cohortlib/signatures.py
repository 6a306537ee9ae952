"""List the settings that a function takes as ``**settings`` in its signature, for ``help()`` and notebooks."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from typing import ForwardRef, ParamSpec, TypeVar, get_args

from cohortlib.errors import KeywordError
from cohortlib.forks import check_fork

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def list_settings(
    function: Callable[_Arguments, _Result], defaults: Mapping[str, object], hints: Mapping[str, str] | None = None
) -> Callable[_Arguments, _Result]:
    """List the settings that a function takes as ``**settings: Unpack[Group]``, in the order of their defaults.

    Other keywords raise KeywordError; `hints` say for some of them which functions take them.
    """
    shown = signature(function)
    parameters = [each for each in shown.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    (keywords,) = (each for each in shown.parameters.values() if each.kind is Parameter.VAR_KEYWORD)
    (group,) = get_args(keywords.annotation)
    for name, default in defaults.items():
        if name in group.__annotations__:
            kind = group.__annotations__[name]
            annotation = kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    known = {each.name for each in parameters if each.kind is not Parameter.POSITIONAL_ONLY}

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for name in kwargs:
            if name not in known:
                close = get_close_matches(name, known, 1)
                meant = f". Did you mean {close[0]!r}?" if close else ""
                what = f"{function.__name__}() got an unexpected keyword argument {name!r}{meant}"
                raise KeywordError(what, value=name, hint="" if close else (hints or {}).get(name, ""))
        check_fork()
        return function(*args, **kwargs)

    call.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call
