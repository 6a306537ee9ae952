"""Read the files within a zip archive, block by block."""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from cohortlib.errors import SourceError
from cohortlib.read.tables import first_line

ENDING = ".zip"
_METHODS = (ZIP_STORED, ZIP_DEFLATED)  # other methods can need any amount of memory
_MOST_FILES = 10_000


def split(path: str) -> tuple[str, str] | None:
    """Split the path of a file within an archive, as :func:`members` lists it; None for another path."""
    at = path.lower().find(f"{ENDING}/")
    if at < 0 or not Path(path[: at + len(ENDING)]).is_file():
        return None
    return path[: at + len(ENDING)], path[at + len(ENDING) + 1 :]


def members(path: str) -> list[str]:
    """List the files within an archive, as paths below it; without those that macOS adds."""
    names = []
    with _opened(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(infos) > _MOST_FILES:
            raise SourceError(f"{path!r} holds {len(infos):,} files", value=path, expected=f"at most {_MOST_FILES:,}")
        for info in infos:
            *folders, name = info.filename.split("/")
            if "__MACOSX" not in folders and not name.startswith("."):
                _check(path, info)
                names.append(f"{path}/{info.filename}")
    if not names:
        raise SourceError(f"{path!r} holds no files", value=path, expected="CSV or JSON lines files")
    if len(set(names)) < len(names):
        raise SourceError(f"{path!r} holds two files of one name", value=path, expected="each name once")
    return sorted(names)


def size(path: str) -> int:
    """Return the size of a file within an archive, as the archive states it."""
    archive_path, name = split(path) or (path, "")
    with _opened(archive_path) as archive:
        return archive.getinfo(name).file_size


def blocks(path: str, block_size: int) -> Iterator[bytes]:
    """Read a file within an archive; its checksum is compared at the end."""
    archive_path, name = split(path) or (path, "")
    with _opened(archive_path) as archive:
        try:
            with archive.open(_check(archive_path, archive.getinfo(name))) as file:
                while block := file.read(block_size):
                    yield block
        except (BadZipFile, EOFError, NotImplementedError) as error:
            raise SourceError(f"{path!r} cannot be read: {first_line(error)}", value=path) from error


def _opened(path: str) -> ZipFile:
    try:
        return ZipFile(path)
    except (BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise SourceError(f"{path!r} cannot be read: {first_line(error)}", value=path) from error


def _check(path: str, info: ZipInfo) -> ZipInfo:
    """Raise SourceError for a file that is encrypted or compressed in an unusual way."""
    if info.flag_bits & 1:
        raise SourceError(
            f"{info.filename!r} in {path!r} is encrypted", value=path, hint="unpack the archive, and pass its files"
        )
    if info.compress_type not in _METHODS:
        raise SourceError(
            f"{info.filename!r} in {path!r} is compressed with method {info.compress_type}",
            value=path,
            expected="files that are stored or deflated",
            hint="unpack the archive, and pass its files",
        )
    return info
