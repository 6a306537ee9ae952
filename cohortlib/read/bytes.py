"""Read the bytes of text files: decompress them, and decode them to UTF-8, in blocks."""

import codecs
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from zlib_ng import zlib_ng

from cohortlib.errors import Arg, SourceError
from cohortlib.read import zips
from cohortlib.read.tables import FileOptions, first_line, unreadable

BLOCK = 1 << 22  # bytes of text
_PIECE = 1 << 18  # compressed bytes
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = ((codecs.BOM_UTF8, None), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def text_blocks(path: str, options: FileOptions) -> Generator[bytes, None, None]:
    """Read a local file, or a URL, as blocks of UTF-8 text without a byte order mark; only gz and zst are checked.

    Files are decompressed by what they hold, whatever their names.
    """
    try:
        with closing(_raw_blocks(path, options)) as blocks:
            yield from _decoded(path, _joined(_decompressed(path, blocks)), options.encoding)
    except SourceError:
        raise
    except (OSError, EOFError, zlib_ng.error, UnicodeError) as error:  # type: ignore[misc] # typed as an instance
        raise _cannot_decode(path, error, options.encoding) from error


def _cannot_decode(path: str, error: Exception, encoding: str | None) -> SourceError:
    if isinstance(error, UnicodeError):
        return SourceError(
            (f"{path!r} cannot be read as ", Arg("encoding", encoding) if encoding else "UTF-16", f": {error}"),
            value=path,
            hint=("pass the encoding of the file as ", Arg("encoding")),
        )
    return unreadable(repr(path), error)


def _raw_blocks(path: str, options: FileOptions) -> Generator[bytes, None, None]:
    if "://" in path:
        from cohortlib.read.urls import url_blocks

        yield from url_blocks(path, options)
        return
    if zips.split(path):
        yield from zips.blocks(path, BLOCK)
        return
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            yield block


def _decompressed(path: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gz and zst, also if a file holds several streams, one after the other."""
    first = _beginning(blocks)
    opener: Callable[[], Any] | None = None
    if first.startswith(_GZIP):
        opener = _Gzip
    elif first.startswith(_ZSTD):
        opener = _zstd(path)
    if opener is None:
        if first:
            yield first
        yield from blocks
        return
    decompressor = opener()
    pending: list[bytes] = [first]
    while True:
        at_end = False
        data = b""
        if pending:
            data = pending.pop()
        elif decompressor.needs_input:
            data = next(blocks, b"")
            at_end = not data
        text = decompressor.decompress(data, BLOCK)
        if text:
            yield text
        elif at_end and not decompressor.eof:
            break
        if decompressor.eof:
            rest = decompressor.unused_data.lstrip(b"\0") or next(blocks, b"").lstrip(b"\0")
            if not rest:
                return
            decompressor = opener()
            pending.append(rest)
    raise SourceError(f"{path!r} cannot be read: the compressed data ends early", value=path)


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces to blocks, since each block has a cost of its own."""
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)


class _Gzip:
    """zlib's decompressor with the interface of zstd's."""

    def __init__(self) -> None:
        self._inner = zlib_ng.decompressobj(wbits=31)
        self._input = memoryview(b"")

    def decompress(self, data: bytes, size: int) -> bytes:
        if data:
            self._input = memoryview(data)
        rest: bytes | memoryview = self._inner.unconsumed_tail
        if not rest:  # in pieces, since zlib copies what it leaves of its input
            rest, self._input = self._input[:_PIECE], self._input[_PIECE:]
        return self._inner.decompress(rest, size)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._input

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + bytes(self._input)


def _zstd(path: str) -> Callable[[], Any]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise SourceError(
                f"{path!r} is compressed with zstd, which needs the package backports.zstd",
                value=path,
                hint="pip install backports.zstd",
            ) from error

    class Zstd:
        """The decompressor, with errors of OSError."""

        def __init__(self) -> None:
            self._inner = zstd.ZstdDecompressor()

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            return getattr(self._inner, name)

        def decompress(self, data: bytes, size: int) -> bytes:
            try:
                text: bytes = self._inner.decompress(data, size)
            except zstd.ZstdError as error:
                raise OSError(first_line(error)) from error
            return text

    return Zstd


def _beginning(blocks: Iterator[bytes]) -> bytes:
    """Return the first blocks, as many as hold the mark of a format."""
    first = next(blocks, b"")
    while 0 < len(first) < 4 and (more := next(blocks, b"")):
        first += more
    return first


def _decoded(path: str, blocks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    first = _beginning(blocks)
    for mark, named in _MARKS:
        if first.startswith(mark):
            first = first[len(mark) :]
            encoding = named
            break
    if encoding is not None and codecs.lookup(encoding).name in ("utf-8", "ascii"):
        encoding = None
    if encoding is None:
        yield first
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    yield decoder.decode(first).encode()
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()
