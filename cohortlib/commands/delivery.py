"""Where a result goes: to a file that is put in its place at once, or to standard output."""

import glob
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from cohortlib.commands.failures import Failure, warnings_told
from cohortlib.errors import CohortlibError

Result = TypeVar("Result")

ROWS_SHOWN = 40


def computed(compute: Callable[..., Result], *inputs: object, **settings: object) -> Result:
    """Compute a result, with a bar on standard error where it takes long and a person is looking."""
    with warnings_told():
        if not sys.stderr.isatty():
            return compute(*inputs, **settings)
        from rich.console import Console

        from cohortlib.terminal import progress_bar

        with progress_bar(Console(stderr=True)) as progress:
            return compute(*inputs, progress=progress, **settings)


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
        with writing(output), replacing(Path(output), sources) as stream:
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
        raise Failure(f"cannot write {where}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, sources: Sequence[str | None]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` and put it in its place at the end, so that nobody reads half a file."""
    _refuse_own_source(path, sources)
    if path.exists() and not path.is_file():  # a device or a pipe has no place to be put in
        with path.open("wb") as stream:
            yield stream
        return
    path = path.resolve()  # behind a link, the file it names is the one to replace
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as stream:
            yield stream
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _refuse_own_source(path: Path, sources: Sequence[str | None]) -> None:
    """Refuse to write over a file that the table is made from."""
    if not path.is_file():
        return
    for source in filter(None, sources):
        for name in (source, *glob.iglob(source, recursive=True)):
            if Path(name).is_file() and path.samefile(name):
                raise Failure(f"cannot write {path}: it is a file of the source {source}")
