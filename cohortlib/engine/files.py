"""Write files and folders atomically, with one writer at a time.

New content is written to a hidden temporary file or folder beside its final path, ``.name.<token>.part``, and renamed
when it is complete. The writer locks it, and the lock ends with the process. So the temporary files of killed processes
have a free lock, and the next writer deletes them. On Windows they have no lock, and stay.
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
from time import monotonic, sleep
from typing import IO

from cohortlib.errors import CohortlibError, SettingError

LOCK = ".lock"
"""The file in a folder on which its writer holds a lock."""

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(part|old)")
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}
_WINDOWS = os.name == "nt"  # not sys.platform, for which mypy would skip the rest of this file


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file and move it to `path` at the end, so that readers see the old or the new file.

    The file is on disk before it is moved. An OSError of a failed write names `path`.
    """
    with file_errors(path):
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            with path.open("wb") as stream:
                yield stream
            return
        path = path.resolve()  # replace the target of a link, not the link
        with _temporary(path, lambda new: new.open("xb").close()) as temporary:
            with temporary.open("wb") as stream:
                yield stream
            if path.exists():
                shutil.copymode(path, temporary)
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)


@contextmanager
def atomic_folder(path: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Make a temporary folder and move it to `path` at the end, so that readers see the old or the new folder.

    An existing folder may be replaced if it is empty or `is_ours`; otherwise, and for a file, raise SettingError. Raise
    CohortlibError if another process writes to the folder. An OSError of a failed write has the final name of the file.

    The files are on disk before the folder is moved. An old folder is exchanged for it in one step (renameat2 on Linux,
    renamex_np on macOS) and then deleted; a reader that opens the old files one by one may miss some. Without such a
    call, the old folder is renamed first: for a moment no folder exists at `path`, and if the process dies in this
    moment, the next call restores the old one. The old folder is :func:`locked` from the beginning, so that no other
    process writes to it (not on Windows, where a locked folder cannot be renamed).
    """
    path = path.resolve()  # replace the target of a link, not the link
    with file_errors(path):
        _restore_old(path)
        _check_replaceable(path, is_ours)
        lock = locked(path) if path.exists() and not _WINDOWS else nullcontext()
        with lock, _temporary(path, Path.mkdir) as temporary:
            try:
                yield temporary
                for folder, _, names in os.walk(temporary, topdown=False):
                    for name in [*names, "."]:
                        fsync(Path(folder, name))
            except OSError as error:
                if not _is_inside(error, temporary):
                    raise
                final = path / Path(error.filename).relative_to(temporary)
                raise OSError(error.errno, error.strerror, str(final)) from error
            _check_replaceable(path, is_ours)  # again, as hours may have passed
            if path.exists():
                shutil.copymode(path, temporary)
                _exchange(temporary, path)
            else:
                temporary.rename(path)
            fsync(path.parent)


@contextmanager
def temporary_folder(within: Path) -> Iterator[Path]:
    """Make a hidden folder that is deleted at the end; the next call deletes those of killed processes.

    An OSError of a failed write names the folder `within`, and says what the files are for.
    """
    with ExitStack() as stack:
        with file_errors(within):
            folder = stack.enter_context(_temporary(within / "cohortlib", Path.mkdir))
        try:
            yield folder
        except OSError as error:
            if not _is_inside(error, folder):
                raise
            hint = f"Hint: {'another TMPDIR, or ' if within == Path(gettempdir()) else ''}a larger max_memory"
            reason = f"{error.strerror} (rows that do not fit into memory are spilled here. {hint})"
            raise OSError(error.errno, reason, str(within)) from error


def delete_stale(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder."""
    for path in list(folder.iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match[2] == "part":
            _delete_if_stale(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder's only writer; raise CohortlibError if another writer holds it.

    The lock ends with the process, even a killed one. The lock file is deleted at the end; one that a killed process
    left behind is not locked.
    """
    path = folder / LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # PermissionError on Windows
            os.close(descriptor)
            what = f"{str(folder)!r} is being written by another process"
            raise CohortlibError(what, expected="one writer at a time", hint="wait until it has ended") from None
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(path)) from error
        if _is_file_at(descriptor, path):  # otherwise the folder was replaced after the open
            break
        os.close(descriptor)
    try:
        yield
    finally:
        if not _WINDOWS and _is_file_at(descriptor, path):  # otherwise another folder has replaced this one
            path.unlink()
        os.close(descriptor)


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Keep the files of a folder until the end of the block: its writer deletes none that it replaced; see `unread`.

    Without locks (Windows, some network file systems) this has no effect.
    """
    descriptor = None
    with suppress(OSError):
        descriptor = None if _WINDOWS else os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None:
            with suppress(OSError):
                _lock_shared(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def unread(folder: Path, seconds: float = 0) -> Iterator[bool]:
    """Return whether nobody reads a folder, after waiting up to some seconds; readers wait until the block ends."""
    end = monotonic() + seconds
    while True:
        try:
            lock = _lock_temporary(folder)
            break
        except BlockingIOError:
            if monotonic() >= end:
                yield False
                return
            sleep(0.05)
    try:
        yield True
    finally:
        if lock is not None:
            os.close(lock)


def commit(folder: Path, name: str, text: str) -> None:
    """Write a small file of a folder atomically."""
    with atomic_write(folder / name) as stream:
        stream.write(text.encode())


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raise an OSError that names `path` if it cannot be written, also for polars' error on a full disk.

    Errors that name another file are raised unchanged.
    """
    try:
        yield
    except CohortlibError:
        raise
    except Exception as error:
        number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        if number is None:  # polars raises ComputeError, with the number only in its message
            match = re.search(r"\(os error (\d+)\)", str(error))
            number = int(match[1]) if match else None
        if number is None or (name is not None and not _TEMPORARY.fullmatch(Path(os.fsdecode(name)).name)):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def is_folder(path: str | Path) -> bool:
    """Return whether a path ends with a slash or is an existing folder."""
    return str(path).endswith(("/", os.sep)) or Path(path).is_dir()


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if _WINDOWS and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------- temporary files


@contextmanager
def _temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a temporary file or folder beside `path` and lock it; delete it at the end, unless it was moved."""
    for stale in _temporaries(path, "part"):
        _delete_if_stale(stale)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        make(temporary)
        try:
            lock = _lock_temporary(temporary)
        except (BlockingIOError, FileNotFoundError):  # another process took it for stale before it was locked
            continue
        if lock is None or _is_file_at(lock, temporary):
            break
        os.close(lock)
    try:
        yield temporary
    finally:
        _delete(temporary)
        if lock is not None:
            os.close(lock)


def _temporaries(path: Path, suffix: str) -> list[Path]:
    """List the temporary files beside `path` with a suffix, ``part`` or ``old``."""
    with suppress(OSError):
        matches = [(_TEMPORARY.fullmatch(other.name), other) for other in path.parent.iterdir()]
        return [other for match, other in matches if match and match.groups() == (path.name, suffix)]
    return []


def _is_inside(error: OSError, folder: Path) -> bool:
    """Return whether an error names a file in a folder."""
    return not isinstance(error, CohortlibError) and Path(error.filename or "").is_relative_to(folder)


def _delete_if_stale(path: Path) -> None:
    """Delete a temporary file whose lock is free; ignore failures."""
    with suppress(OSError):
        lock = _lock_temporary(path)
        if lock is not None:
            _delete(path)
            os.close(lock)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_replaceable(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Raise SettingError if `path` is a file, or a folder that was not written by the same call."""
    if not path.exists():
        return
    if not path.is_dir():
        raise SettingError(f"{str(path)!r} is a file", value=path, expected="a folder to replace, or a new name")
    if {file.name for file in path.iterdir()} - {LOCK} and not is_ours(path):
        what = f"the folder {str(path)!r} has files that cohortlib did not write"
        expected = "a new name, an empty folder, or one that the same call made"
        raise SettingError(what, value=path, expected=expected, hint="choose another name, or delete the folder")


# ----------------------------------------------------------------------------------------- locks and system calls


def _lock(descriptor: int) -> None:
    """Lock an open file or folder: BlockingIOError if it is locked, another OSError if it cannot be locked."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_shared(descriptor: int) -> None:
    """Lock an open folder together with other readers; wait until no one has it alone."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _lock_temporary(path: Path) -> int | None:
    """Lock a temporary file; None if the system has no such locks: Windows and some network file systems."""
    if _WINDOWS:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_file_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _exchange(new: Path, path: Path) -> None:
    """Exchange two folders, in one step if the system has a call for it."""
    names = os.fsencode(new), os.fsencode(path)
    library = None if _WINDOWS else ctypes.CDLL(None, use_errno=True)
    if renameat2 := getattr(library, "renameat2", None):
        at_fdcwd, rename_exchange = -100, 2
        failed = renameat2(at_fdcwd, names[0], at_fdcwd, names[1], rename_exchange)
    elif renamex_np := getattr(library, "renamex_np", None):
        rename_swap = 2
        failed = renamex_np(*names, rename_swap)
    else:
        failed = None
    if failed == 0:
        return
    if failed is not None and ctypes.get_errno() not in _NO_EXCHANGE:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    old = new.with_suffix(".old")
    path.rename(old)
    new.rename(path)
    old.rename(new)


def _restore_old(path: Path) -> None:
    """Finish or undo the renames of a process that died between them; see :func:`_exchange`."""
    for old in _temporaries(path, "old"):
        with suppress(CohortlibError), nullcontext() if _WINDOWS else locked(old):  # the process may still run
            if path.exists():
                _delete(old)
            else:
                old.rename(path)
