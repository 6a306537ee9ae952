"""Where a result goes: to a file that is put in its place at once, or to standard output."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

import click

from cohortlib.cli.failures import Failure, in_options, warnings_told
from cohortlib.errors import CohortlibError

Result = TypeVar("Result")

ROWS_SHOWN = 40


def computed(compute: Callable[..., Result], *inputs: object, what: str = "rows", **settings: object) -> Result:
    """Compute a result, with a bar on standard error where it takes long and a person is looking."""
    with warnings_told():
        if not sys.stderr.isatty():
            return compute(*inputs, **settings)
        from rich.console import Console

        from cohortlib.cli.terminal import progress_bar

        with progress_bar(Console(stderr=True), what, size=size_of(inputs[0])) as progress:
            return compute(*inputs, progress=progress, **settings)


def size_of(source: object) -> int | None:
    """Tell how many bytes the files of a source have; None where it names no files that can be looked at."""
    from cohortlib.read.sources import files

    with suppress(OSError):
        found = [Path(name) for name in files(str(source))]
        inside = [file for folder in found if folder.is_dir() for file in folder.iterdir()]
        return sum(file.stat().st_size for file in (*found, *inside)) or None
    return None


def a_person_looks() -> bool:
    """Tell whether standard output is a terminal."""
    return sys.stdout.isatty()


def rows_shown() -> int | None:
    """Give the number of lines that a person reads; a pipe takes all."""
    return ROWS_SHOWN if a_person_looks() else None


def ending(output: str | None) -> str:
    """Give the ending of a file's name, without its dot and in small letters."""
    return "" if output is None or output == "-" else Path(output).suffix.lower().removeprefix(".")


def put(make: Callable[[], Iterable[bytes]], output: str | None, sources: Sequence[str | None]) -> None:
    """Write what `make` gives; before it is asked, it is known that the file can be written."""
    if output is None or output == "-":
        with writing("to standard output"):
            pour(make(), sys.stdout.buffer)
    else:
        from cohortlib.engine.files import replacing

        with writing(output):
            refuse_own_source(output, sources)
            with replacing(Path(output)) as stream:
                pour(make(), stream)


def pour(pieces: Iterable[bytes], stream: IO[bytes]) -> None:
    """Write all of the bytes: where Python runs unbuffered, one call may write a part and not say so."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[stream.write(rest) :]
    stream.flush()


@contextmanager
def writing(where: str) -> Iterator[None]:
    """Tell what cannot be written, and why; a reader that has gone away is no failure."""
    try:
        yield
    except (CohortlibError, BrokenPipeError):
        raise
    except OSError as error:
        # It may be a part of what is written, or a temporary file.
        other = error.filename is not None and Path(error.filename).resolve() != Path(where).resolve()
        why = in_options(str(error.strerror or error), click.get_current_context().find_root().command)
        raise Failure(f"cannot write {error.filename if other else where}: {why}") from error


def refuse_own_source(output: str, sources: Sequence[str | None]) -> None:
    """Refuse to write over a file that the table is made from."""
    path = Path(output)
    if not path.is_file():
        return
    for source, file in _there(sources):
        if file.is_file() and path.samefile(file):
            raise Failure(f"cannot write {path}: it is a file of the source {source}")


def refuse_own_folder(output: str, sources: Sequence[str | None]) -> None:
    """Refuse to replace a folder in which the table's rows are."""
    folder = Path(output).resolve()
    for source, file in _there(sources):
        if folder.is_dir() and file.resolve().is_relative_to(folder):
            raise Failure(f"cannot write {output}: the source {source} is in it")


def _there(sources: Sequence[str | None]) -> Iterator[tuple[str, Path]]:
    """Find what there is of each source."""
    for source in filter(None, sources):
        for name in (source, *glob.iglob(source, recursive=True)):
            if Path(name).exists():
                yield source, Path(name)
