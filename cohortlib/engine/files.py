"""Files and folders that are put in their place at once, and one writer at a time.

What is written stands hidden beside its place until it is whole: ``.name.<token>.part``. Who writes it holds a lock on
it, which ends with the process: so what a killed process left behind is told from what is being written, and the next
who writes there removes it. On Windows these hidden ones have no lock, and what is left behind stays.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import IO

from cohortlib.errors import CohortlibError, SettingError

LOCK = ".lock"
"""The file in a folder that its writer holds a lock on."""

_HIDDEN = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(part|old)")
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}
_WINDOWS = os.name == "nt"  # not sys.platform: by that the rest of this file would be dead code to the type checker


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` and put it in its place at the end, so that nobody reads half a file.

    It is on the disk before it takes the place. Where it cannot be written, an OSError names `path`.
    """
    with telling(path):
        if path.exists() and not path.is_file():  # a device or a pipe has no place to be put in
            with path.open("wb") as stream:
                yield stream
            return
        path = path.resolve()  # behind a link, the file it names is the one to replace
        with _beside(path, lambda new: new.open("xb").close()) as partial:
            with partial.open("wb") as stream:
                yield stream
            if path.exists():
                shutil.copymode(path, partial)
            to_disk(partial)
            partial.replace(path)
            to_disk(path.parent)


@contextmanager
def replacing_folder(path: Path, marks: Callable[[Path], bool]) -> Iterator[Path]:
    """Make a folder beside `path` and put it in its place at the end, so that nobody finds half of it.

    Its files are on the disk before it takes the place. A folder that stood there is exchanged for it at once (by
    renameat2 of Linux, renamex_np of macOS) and then removed; who is reading the old one file by file may miss some.
    Where the system or the file system knows no exchange, the old one is renamed first: for a moment there is none,
    and if the process dies right then, the next call puts the old one back. Nobody else may write to the old one
    meanwhile: it is :func:`locked` from the beginning (not on Windows, where it could not be renamed then).

    Parameters
    ----------
    path
        The folder to make or to replace. The one it stands in must exist.
    marks
        Tells whether a folder that stands there is one of ours, which may be replaced. An empty one always may.

    Raises
    ------
    SettingError
        Where a file stands at `path`, or a folder that is not ours.
    CohortlibError
        Where another process writes to the folder.
    OSError
        Where it cannot be written. Its files have the names that they would have had.
    """
    path = path.resolve()  # behind a link, the folder it names is the one to replace
    with telling(path):
        _put_back(path)
        _refuse_foreign(path, marks)
        alone = locked(path) if path.exists() and not _WINDOWS else nullcontext()
        with alone, _beside(path, Path.mkdir) as hidden:
            try:
                yield hidden
                for folder, _, names in os.walk(hidden, topdown=False):
                    for name in [*names, "."]:
                        to_disk(Path(folder, name))
            except OSError as error:
                if not _is_in(error, hidden):
                    raise
                named = path / Path(error.filename).relative_to(hidden)
                raise OSError(error.errno, error.strerror, str(named)) from error
            _refuse_foreign(path, marks)  # the work may have taken hours
            if path.exists():
                shutil.copymode(path, hidden)
                _exchange(hidden, path)
            else:
                hidden.rename(path)
            to_disk(path.parent)


@contextmanager
def scratch(within: Path) -> Iterator[Path]:
    """Make a hidden folder for the time being; the next call removes what a killed process left.

    Where its files cannot be written, an OSError names the folder that it is in, and says what it is for.
    """
    with ExitStack() as stack:
        with telling(within):
            hidden = stack.enter_context(_beside(within / "cohortlib", Path.mkdir))
        try:
            yield hidden
        except OSError as error:
            if not _is_in(error, hidden):
                raise
            hint = f"Hint: {'another TMPDIR, or ' if within == Path(gettempdir()) else ''}a larger max_memory="
            why = f"{error.strerror} (rows that do not fit into memory go there. {hint})"
            raise OSError(error.errno, why, str(within)) from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left hidden in a folder."""
    for one in list(folder.iterdir()):
        told = _HIDDEN.fullmatch(one.name)
        if told and told[2] == "part":
            _sweep(one)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one who writes to a folder; the lock ends with the process, however that ends.

    The file that is locked goes at the end; one that a killed process left behind is locked by nobody.

    Raises
    ------
    CohortlibError
        Where another holds the lock.
    """
    file = folder / LOCK
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(lock)
        except (BlockingIOError, PermissionError):  # the second is what Windows says
            os.close(lock)
            raise CohortlibError(
                f"{str(folder)!r} is being written by another process; expected one writer at a time. Hint: wait until "
                "the other has ended"
            ) from None
        except OSError as error:
            os.close(lock)
            raise OSError(error.errno, error.strerror, str(file)) from error
        if _still_at(lock, file):  # else the folder was replaced between the lines above
            break
        os.close(lock)
    try:
        yield
    finally:
        if not _WINDOWS and _still_at(lock, file):  # else it is that of the folder which took the place of this one
            file.unlink()
        os.close(lock)


def commit(folder: Path, name: str, text: str) -> None:
    """Write a small file of a folder at once: whatever happens, it is the old one or the new one, on the disk."""
    with replacing(folder / name) as stream:
        stream.write(text.encode())


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be written, and turn what polars says of a full disk into an OSError.

    An error that names another file goes on as it is.
    """
    try:
        yield
    except CohortlibError:
        raise
    except Exception as error:
        number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        if number is None:  # a full disk is a failed computation to polars, and only its words tell
            told = re.search(r"\(os error (\d+)\)", str(error))
            number = int(told[1]) if told else None
        if number is None or (name is not None and not _HIDDEN.fullmatch(Path(os.fsdecode(name)).name)):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is named: by a slash at the end, or because there is one."""
    return str(path).endswith(("/", os.sep)) or Path(path).is_dir()


# ---------------------------------------------------------------------------------------------------- hidden beside


@contextmanager
def _beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make something hidden beside a path, under a lock; in the end, what stands there is removed."""
    for old in _hidden(path, "part"):
        _sweep(old)
    while True:
        hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        make(hidden)
        try:
            lock = _hold(hidden)
        except (BlockingIOError, FileNotFoundError):  # another takes it for something left behind
            continue
        if lock is None or _still_at(lock, hidden):
            break
        os.close(lock)
    try:
        yield hidden
    finally:
        _remove(hidden)
        if lock is not None:
            os.close(lock)


def _is_in(error: OSError, hidden: Path) -> bool:
    """Tell whether it is a file of a hidden folder that could not be written."""
    return not isinstance(error, CohortlibError) and Path(error.filename or "").is_relative_to(hidden)


def _hidden(path: Path, kind: str) -> list[Path]:
    """List what stands hidden beside a path."""
    with suppress(OSError):
        found = [(_HIDDEN.fullmatch(one.name), one) for one in path.parent.iterdir()]
        return [one for told, one in found if told and told.groups() == (path.name, kind)]
    return []


def _sweep(hidden: Path) -> None:
    """Remove what no living process holds; what cannot be told, or not be removed, stays."""
    with suppress(OSError):
        lock = _hold(hidden)
        if lock is not None:
            _remove(hidden)
            os.close(lock)


def _hold(hidden: Path) -> int | None:
    """Lock what stands hidden; None where there are no such locks: on Windows, and in some network file systems."""
    if _WINDOWS:
        return None
    lock = os.open(hidden, os.O_RDONLY)
    try:
        _take(lock)
    except BlockingIOError:
        os.close(lock)
        raise
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove(hidden: Path) -> None:
    if hidden.is_dir():
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        hidden.unlink(missing_ok=True)


def _refuse_foreign(path: Path, marks: Callable[[Path], bool]) -> None:
    """Refuse to replace what was not written by us."""
    if not path.exists():
        return
    if not path.is_dir():
        raise SettingError(f"{str(path)!r} is a file; expected a folder to replace, or a new name")
    if {one.name for one in path.iterdir()} - {LOCK} and not marks(path):
        raise SettingError(
            f"the folder {str(path)!r} holds what was not written here; expected a new name, an empty folder, or one "
            "that the same call made. Hint: choose another name, or remove the folder"
        )


# ------------------------------------------------------------------------------------------------------- the system


def _take(lock: int) -> None:
    """Lock an open file or folder; BlockingIOError where another has it, another OSError where there are no locks."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _still_at(lock: int, path: Path) -> bool:
    """Tell whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if _WINDOWS and path.is_dir():  # folders cannot be opened there
        return
    opened = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places, at once where the system can."""
    names = os.fsencode(one), os.fsencode(other)
    system = None if _WINDOWS else ctypes.CDLL(None, use_errno=True)
    if linux := getattr(system, "renameat2", None):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        failed = linux(here, names[0], here, names[1], exchange)
    elif macos := getattr(system, "renamex_np", None):
        swap = 2  # RENAME_SWAP
        failed = macos(*names, swap)
    else:
        failed = None
    if failed == 0:
        return
    if failed is not None and ctypes.get_errno() not in _NO_EXCHANGE:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    old = one.with_suffix(".old")
    other.rename(old)
    one.rename(other)
    old.rename(one)


def _put_back(path: Path) -> None:
    """Undo what a process began that died between the renames of a system without exchange."""
    for old in _hidden(path, "old"):
        with suppress(CohortlibError), nullcontext() if _WINDOWS else locked(old):  # its owner may be alive
            if path.exists():
                _remove(old)
            else:
                old.rename(path)
