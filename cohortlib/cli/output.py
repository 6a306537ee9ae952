"""Write results to a file, which is replaced atomically, or to standard output."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

import click

from cohortlib.cli.messages import Failure, printed_warnings
from cohortlib.errors import CohortlibError

Result = TypeVar("Result")
Sources: TypeAlias = "Sequence[str | list[str] | None]"
"""Inputs of a command, each a path or a list of paths; None is left out."""

ROWS_SHOWN = 40


def compute_with_progress(
    compute: Callable[..., Result], *inputs: object, what: str = "rows", **settings: object
) -> Result:
    """Compute a result; show a progress bar if standard error is a terminal and it takes long."""
    with printed_warnings():
        if not sys.stderr.isatty():
            return compute(*inputs, **settings)
        from rich.console import Console

        from cohortlib.cli.terminal import progress_bar

        with progress_bar(Console(stderr=True), what, size=size_of(inputs[0])) as progress:
            return compute(*inputs, progress=progress, **settings)


def size_of(source: object) -> int | None:
    """Return the size of the files of a source in bytes, or None if it is unknown."""
    from cohortlib.read.sources import list_files

    with suppress(OSError):
        paths = [Path(name) for each in _listed(source) for name in list_files(str(each))]
        inside = [file for folder in paths if folder.is_dir() for file in folder.iterdir()]
        return sum(file.stat().st_size for file in (*paths, *inside)) or None
    return None


def is_terminal() -> bool:
    """Check whether standard output is a terminal."""
    return sys.stdout.isatty()


def row_limit() -> int | None:
    """Return the number of rows to print: 40 in a terminal, all (None) in a pipe."""
    return ROWS_SHOWN if is_terminal() else None


def ending(output: str | None) -> str:
    """Return the suffix of a file name in lower case, without the dot."""
    return "" if output is None or output == "-" else Path(output).suffix.lower().removeprefix(".")


def write_output(make: Callable[[], Iterable[bytes]], output: str | None, sources: Sources) -> None:
    """Write the bytes that `make` returns. It is called only once the file is known to be writable."""
    if output is None or output == "-":
        with writing("to standard output"):
            write_all(make(), sys.stdout.buffer)
    else:
        from cohortlib.engine.files import atomic_write

        with writing(output):
            check_not_input(output, sources)
            with atomic_write(Path(output)) as stream:
                write_all(make(), stream)


def write_all(pieces: Iterable[bytes], stream: IO[bytes]) -> None:
    """Write all bytes: unbuffered, one call of `write` may write only some of them."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[stream.write(rest) :]
    stream.flush()


@contextmanager
def reporting(*, quiet: bool) -> Iterator[None]:
    """Print on standard error what the library did, one line for each folder that it wrote."""
    import logging

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            click.echo(message[0].upper() + message[1:], err=True)

    log, printer = logging.getLogger("cohortlib"), Printer()
    level = log.level
    log.setLevel(logging.INFO)
    if not quiet:
        log.addHandler(printer)
    try:
        yield
    finally:
        log.removeHandler(printer)
        log.setLevel(level)


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Turn an OSError into a Failure that names the file. A closed pipe is not a failure."""
    try:
        yield
    except (CohortlibError, BrokenPipeError):
        raise
    except OSError as error:
        # The error may be about a temporary file, or one file of a folder.
        other = error.filename is not None and Path(error.filename).resolve() != Path(where).resolve()
        why = str(error.strerror or error)
        raise Failure(f"cannot write {error.filename if other else where}: {why}") from error


def check_not_input(output: str, sources: Sources) -> None:
    """Raise if the output is one of the input files."""
    path = Path(output)
    if not path.is_file():
        return
    for source, file in _existing(sources):
        if file.is_file() and path.samefile(file):
            raise Failure(f"cannot write {path}: it is a file of the source {source}")


def check_not_inside(output: str, sources: Sources) -> None:
    """Raise if the output folder holds an input file."""
    folder = Path(output).resolve()
    for source, file in _existing(sources):
        if folder.is_dir() and file.resolve().is_relative_to(folder):
            raise Failure(f"cannot write {output}: the source {source} is in it")


def _existing(sources: Sources) -> Iterator[tuple[str, Path]]:
    """Return the existing files of each source."""
    for source in (each for group in sources if group is not None for each in _listed(group)):
        for name in (source, *glob.iglob(source, recursive=True)):
            if Path(name).exists():
                yield source, Path(name)


def _listed(source: Any) -> list[Any]:
    """Return a list of sources; one alone is put into a list."""
    return source if isinstance(source, list) else [source]
