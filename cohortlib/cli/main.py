"""The command `cohortlib`: its groups, and how errors end it.

`--help` is instant: polars, numba and rich are imported by the functions that use them.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from cohortlib import __version__
from cohortlib.cli.accounting import concentration, growth_accounting, user_accounting
from cohortlib.cli.adapty import adapty
from cohortlib.cli.cohorts import cohorts, users
from cohortlib.cli.explain import explain
from cohortlib.cli.fetch import fetch
from cohortlib.cli.inspect import inspect
from cohortlib.cli.messages import Failure, error_text, one_line
from cohortlib.cli.output import writing
from cohortlib.cli.prepare import prepare
from cohortlib.cli.reconcile import reconcile
from cohortlib.cli.report import report
from cohortlib.cli.state import state
from cohortlib.cli.termina import termina
from cohortlib.cli.verify import verify
from cohortlib.errors import CohortlibError


class CommandLine(click.Group):
    """A group that prints every error in one line on standard error and exits with 2."""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, complete_var: str | None = None,
        standalone_mode: bool = True, **extra: Any,
    ) -> Any:  # fmt: skip
        """Run as click does, with errors in one line."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = 2
        except click.ClickException as error:
            click.echo(f"error: {one_line(error.format_message())}", err=True)
            code = 2
        except click.Abort:
            code = 130
        except OSError as error:  # --help and --version print before a command runs
            click.echo(f"error: cannot write to standard output: {error.strerror or error}", err=True)
            code = 2
        if standalone_mode:
            try:
                sys.stdout.flush()
            except OSError:  # already reported; on exit, Python would write the rest of the buffer and fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; the hint for one that exists only in a group shows that group."""
        for name, group in self.commands.items():
            if args[0] not in self.commands and isinstance(group, click.Group) and args[0] in group.commands:
                ctx.fail(f"no command {args[0]!r} here. Hint: {ctx.command_path} {name} {args[0]}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn what it raises into a Failure; --debug prints the traceback first."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe is noticed here, and click ends quietly
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                traceback.print_exc()
            if isinstance(error, CohortlibError):
                raise Failure(error_text(error)) from error
            kind = type(error).__name__
            raise Failure(f"unexpected {kind}: {error}. Hint: cohortlib --debug ... prints the traceback") from error
        return result


@click.group(cls=CommandLine, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Cohort tables from raw transactions, exact and offline.

    \b
    Start here:
      cohortlib demo
      cohortlib inspect FILE
      cohortlib cohorts --help
      cohortlib termina cohorts --help
      cohortlib adapty cohort --help
    """


@cli.command()
def demo() -> None:
    """Compute the tables of a small real data set and show them."""
    from cohortlib.cli.demo import show
    from cohortlib.cli.terminal import console_for_output

    with writing("to standard output"):
        show(console_for_output())


for table in (user_accounting, growth_accounting, concentration, state):
    termina.add_command(table)
for command in (inspect, cohorts, users, termina, adapty, prepare, verify, reconcile, explain, fetch, report):
    cli.add_command(command)
