"""Digests of files, to notice bytes that changed on disk: XXH3 with 128 bits, faster than reading from memory.

A sealed file holds its own digest, as 32 hexadecimal digits after ``"digest": ``. It is that of the file with zeros in
their place.
"""

import re
from pathlib import Path

import xxhash

BLANK = "0" * 32
"""The value of ``"digest"`` in the text of a file that :func:`sealed` fills in."""
_PIECE = 1 << 22  # bytes that are read at a time
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{32})"')


def digest(data: bytes | memoryview) -> str:
    """Return the digest of some bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def file_digest(file: Path) -> str:
    """Return the digest of a file, which may be larger than memory."""
    state = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            state.update(piece)
    return state.hexdigest()


def sealed(data: bytes) -> bytes:
    """Replace the blank digest in a file by its digest."""
    begin, end = _place(data)
    return data[:begin] + digest(data).encode() + data[end:]


def is_sealed(data: bytes) -> bool:
    """Return whether a file holds its own digest."""
    try:
        begin, end = _place(data)
    except ValueError:
        return False
    return digest(data[:begin] + BLANK.encode() + data[end:]).encode() == data[begin:end]


def _place(data: bytes) -> tuple[int, int]:
    (match,) = _DIGEST.finditer(data)  # a ValueError unless there is one
    return match.span(1)
