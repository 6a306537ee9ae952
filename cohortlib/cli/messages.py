"""Print errors and warnings in one line, with settings written as options."""

import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cohortlib.errors import Arg, CohortlibError, CohortlibWarning

# Values of options that are spelled differently in Python.
_SPELLING = {True: "yes", False: "no"}


class Failure(click.ClickException):
    """An error that ends the command with exit code 2."""

    exit_code = 2


def one_line(text: str) -> str:
    """Put a message on one line; characters that a terminal would interpret become `?`."""
    return "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))


def error_text(error: CohortlibError | CohortlibWarning) -> str:
    """Format an error or warning with settings as options: `nulls='drop'` becomes `--nulls drop`."""
    return error.text(_option_writer())


def _option_writer() -> Callable[[Arg], str]:
    """Return a function that writes an argument as an option, or as in Python where no command has that option."""
    context = click.get_current_context(silent=True)
    options = _options(context.find_root().command) if context else {}

    def write(arg: Arg) -> str:
        option = options.get(arg.name)
        if option is None:
            return str(arg)
        name = max(option.opts, key=len)
        if option.is_flag or arg.value is None or arg == Arg(arg.name):
            return name
        if isinstance(arg.value, list | tuple):
            if option.multiple:
                return " ".join(f"{name} {shlex.quote(str(each))}" for each in arg.value)
            return f"{name} {','.join(map(str, arg.value))}"
        value = _SPELLING.get(arg.value, arg.value) if isinstance(arg.value, bool) else arg.value
        return f"{name} {shlex.quote(str(value))}"

    return write


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command and its subcommands, by name."""
    options = {param.name: param for param in command.params if isinstance(param, click.Option) and param.name}
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            options |= _options(subcommand)
    return options


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print cohortlib's warnings as lines on standard error, once each and at the end; leave all others to Python.

    The end is that of the command, so that in a terminal the warnings stand below the table.
    """
    lines: dict[str, None] = {}

    def print_lines() -> None:
        for line in lines:
            click.echo(f"warning: {line}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CohortlibWarning)
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if isinstance(message, CohortlibWarning):
                lines[one_line(error_text(message))] = None
            else:
                show_other(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        context = click.get_current_context(silent=True)
        if context is not None:
            context.call_on_close(print_lines)
        yield
        if context is None:
            print_lines()
