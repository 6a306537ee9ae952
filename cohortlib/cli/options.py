"""Options of more than one command; those for settings are made from ``keywords.SETTINGS``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cohortlib.transactions import keywords

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def decorated(command: Decorated, options: Sequence[Callable[[Decorated], Decorated]]) -> Decorated:
    """Add options to a command, the first one first."""
    for option in reversed(options):
        command = option(command)
    return command


def output_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """Return the option for the file to write."""
    return click.option("-o", "--output", metavar="FILE", help=help_text)


def format_option(formats: Sequence[str], help_text: str) -> Callable[[Decorated], Decorated]:
    """Return the option for the format to write."""
    return click.option("--format", "kind", type=click.Choice(formats), help=help_text)


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_SAFE_CELLS] = value


def has_safe_cells() -> bool:
    """Return whether the running command has the option `--safe-cells`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_SAFE_CELLS))


_SAFE_CELLS = "cohortlib.safe_cells"
SAFE_CELLS = click.option(
    "--safe-cells", is_flag=True, expose_value=False, callback=_remember,
    help="In CSV, write ' before text that a spreadsheet would run as a formula (=, +, -, @, tab).",
)  # fmt: skip
QUIET = click.option("--quiet", is_flag=True, help="Do not say on standard error what was done.")


def source(name: str, metavar: str, *, required: bool = True) -> Callable[[Decorated], Decorated]:
    """Return the argument for files, folders, globs or URLs: a string if there is one, else a list."""

    def one_or_list(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> str | list[str]:
        return values[0] if len(values) == 1 else list(values)

    return click.argument(name, nargs=-1, required=required, metavar=f"{metavar}...", callback=one_or_list)


class SettingChoice(click.Choice[Any]):
    """The values of a setting; the error for another value has the setting's sentence, which says what they mean."""

    def __init__(self, values: Sequence[Any], sentence: str) -> None:
        super().__init__(values)
        self.sentence = sentence

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the error for a value that is not one of the choices."""
        return f"{value!r} is none of {', '.join(map(repr, self.choices))}. {self.sentence.removesuffix('.')}"


def _pairs(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str] | None:
    """Return options written as KEY=VALUE."""
    pairs = [value.partition("=") for value in values]
    if wrong := [key for key, mark, _ in pairs if not (key and mark)]:
        raise click.UsageError(f"--storage-option {wrong[0]} is not KEY=VALUE", ctx)
    return {key: value for key, _, value in pairs} or None


def _ages(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    """Return ages written as 0,1,3."""
    if value is None:
        return None
    if not all(age.strip().isdecimal() for age in value.split(",")):
        raise click.UsageError(f"--brackets {value}: not ages such as 0,1,3,7", ctx)
    return [int(age) for age in value.split(",")]


def setting(name: str, help_text: str | None = None, *, unset: bool = False) -> Callable[[Decorated], Decorated]:
    """Return the option for a setting; with `unset` its default is None instead of the setting's default."""
    spec = keywords.ALL_SETTINGS[name]
    text = help_text or spec.sentence
    kind: click.ParamType[Any] | None = None
    default = None if unset else spec.default
    if spec.default_text is not None and not unset:
        text += f"  [default: {spec.default_text}]"
    flag = isinstance(spec.default, bool)
    if spec.least is not None:
        kind = click.IntRange(min=spec.least)
    elif isinstance(spec.default, int) and not flag:
        kind = click.IntRange(min(spec.values), max(spec.values))
    elif spec.values and not flag:
        kind = SettingChoice(spec.values, spec.sentence)
    if name == "brackets":
        return click.option("--brackets", metavar=spec.metavar, callback=_ages, help=text)
    if name == "confidence":
        return click.option("--confidence", type=float, metavar=spec.metavar, help=text)
    if spec.default == ():
        return click.option(f"--{name}", multiple=True, metavar=spec.metavar, help=text)
    if name == "storage_options":
        return click.option(
            "--storage-option", name, multiple=True, metavar=spec.metavar, callback=_pairs, help=f"{text}  (repeatable)"
        )
    return click.option(
        f"--{name.replace('_', '-')}", type=kind, is_flag=flag, default=default,
        show_default=default is not None and not flag, metavar=spec.metavar, help=text,
    )  # fmt: skip


def settings(group: type, *without: str, unset: bool = False) -> tuple[Callable[[Any], Any], ...]:
    """Return the options for the settings of a group; `progress` has none."""
    return tuple(setting(name, unset=unset) for name in keywords.types(group) if name not in ("progress", *without))


COHORTS_OPTIONS = settings(keywords.CohortsKeywords, "max_memory")
ACCOUNTING_OPTIONS = tuple(
    setting(name, "First period to show: 2026, 2026Q1, 2026-01 or 2026-01-31." if name == "start" else None)
    for name in keywords.types(keywords.AccountingKeywords)
    if name != "progress"
)
STATE_OPTIONS = settings(keywords.TableStateKeywords)
PREPARE_OPTIONS = settings(keywords.PrepareKeywords)
EDGES_OPTIONS = settings(keywords.Edges)
FILES_OPTIONS = settings(keywords.Files)
CUSTOMER_OPTIONS = (*settings(keywords.Customer), *settings(keywords.Types))
NULLS, DECIMALS, THREADS, MAX_MEMORY = map(setting, ("nulls", "decimals", "threads", "max_memory"))
