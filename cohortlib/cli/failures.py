"""What goes wrong, told in one line and in the words of the command line."""

import re
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from cohortlib.errors import CohortlibWarning

# Python's words for a value, where an option has its own.
_VALUES = {"True": "yes", "False": "no", "None": ""}


class Failure(click.ClickException):
    """What went wrong, for a person."""

    exit_code = 2


def one_line(text: str) -> str:
    """Put a message on one line, without what a terminal could act on."""
    return "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))


def in_options(message: str, root: click.Command) -> str:
    """Say a message of the library in the words of the command line: `nulls='drop'` is `--nulls drop` here."""
    options = dict(_options(root))

    def option(found: re.Match[str]) -> str:
        name, text, word = found.groups()
        known = options.get(name)
        if known is None:
            return found.group()
        value = text or _VALUES.get(word, word)
        return f"--{name.replace('_', '-')}" + (f" {shlex.quote(value)}" if value and not known.is_flag else "")

    # of settings that stand together as one value, each is an option of its own
    message = re.sub(r"\b(?:conventions=)?(?:\w+\.)*Conventions\(([^()]*)\)", r"\1", message)
    return re.sub(r"\b([a-z_]+)=(?:'([^']*)'|(True|False|None|\d+)\b)?", option, message)


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Name the options of a command and of all that are below it."""
    yield from ((param.name, param) for param in command.params if isinstance(param, click.Option) and param.name)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _options(below)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print cohortlib's warnings as lines on standard error, and leave all others to Python."""
    context = click.get_current_context(silent=True)
    root = context.find_root().command if context else click.Command("cohortlib")
    with warnings.catch_warnings():
        warnings.simplefilter("always", CohortlibWarning)
        otherwise = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:  # noqa: ANN401
            if issubclass(category, CohortlibWarning):
                click.echo(f"warning: {one_line(in_options(str(message), root))}", err=True)
            else:
                otherwise(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield
