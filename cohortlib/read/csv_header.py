"""Read the header of a CSV file: its columns, and the separator."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from cohortlib.errors import Arg, SourceError, listed
from cohortlib.read.bytes import text_blocks
from cohortlib.read.tables import FileOptions

_SEPARATORS = ",;\t|"
_HINT = re.compile(rb"(?i)[\"']?sep=([^\w\s\"']|\t)[\"']?\r?\n?")
_FEW = 3  # names that an error shows
_LONGEST = 16 << 20  # bytes
_SAMPLE = 1 << 16  # bytes from which the number of rows is estimated


@dataclass(frozen=True)
class Header:
    """The header of a file.

    Attributes
    ----------
    names
        The columns.
    separator
        The character between fields.
    size
        The bytes up to the first record, of the text without a byte order mark.
    lines
        The lines up to the first record.
    width
        The average bytes of the first lines.
    blank
        The blank lines before the header.
    following
        The fields of the line after the header; 0 if there is none.
    """

    names: list[str]
    separator: str
    size: int
    lines: int
    width: float
    blank: int
    following: int

    def shown(self) -> str:
        """Return the names in brackets, for a message, if they are few."""
        return f" ({listed(self.names)})" if len(self.names) <= _FEW else ""


def read_header(path: str, options: FileOptions) -> Header:
    """Read the first line that is not blank, or the next one after a line ``sep=;``, with which Excel begins files."""
    text = b""
    with closing(text_blocks(path, options)) as blocks:
        for block in blocks:
            text += block
            if len(text) > _LONGEST or len(_first_lines(text, 4)) == 4:
                break
    lines = _first_lines(text, 3)
    hint = _HINT.fullmatch(lines[0]) if len(lines) > 1 else None
    start = text.index(lines.pop(0)) + len(hint[0]) if hint else 0
    if not lines:
        raise SourceError(f"{path!r} is empty", value=path, expected="a CSV file with a header line")
    first = lines[0]
    begin = text.index(first, start)
    size = begin + len(first)
    if b"\0" in first:
        raise SourceError(
            f"{path!r} has NUL bytes in its header",
            value=path,
            expected="UTF-8, or UTF-16 with a byte order mark",
            hint=(Arg("encoding", "utf-16-le"), " reads UTF-16 without the mark"),
        )
    try:
        line = first.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise not_utf8(path, 1) from error
    second = lines[1].decode(errors="replace").rstrip("\r\n") if len(lines) > 1 else None
    separator = hint[1].decode() if hint else _separator(line, second)
    names = _fields(line, separator)
    if names is None or "\r" in line:
        raise SourceError(
            f"the header of {path!r} is not one line of names, with quotes closed",
            value=path,
            expected="lines that end with \\n or \\r\\n",
        )
    sample = text[:_SAMPLE]
    return Header(
        names,
        separator,
        size,
        lines=text[:size].count(b"\n"),
        width=len(sample) / max(sample.count(b"\n"), 1),
        blank=text[:begin].count(b"\n") - bool(hint),
        following=0 if second is None else len(_fields(second, _separator(second, None)) or ()),
    )


def not_utf8(path: str, line: int) -> SourceError:
    """Return the error for text in another encoding."""
    return SourceError(
        f"{path}, line {line:,} is not UTF-8",
        value=path,
        hint=(Arg("encoding", "latin-1"), " reads the letters of western Europe, ", Arg("encoding", "cp1252"),
              " what Windows writes there"),
    )  # fmt: skip


def _first_lines(text: bytes, count: int) -> list[bytes]:
    """Return the first lines that are not blank."""
    return list(islice((line for line in _lines(text) if line.strip(b"\r\n")), count))


def _lines(text: bytes) -> Iterator[bytes]:
    """Split text after line ends that are outside of quotes; lazily."""
    begin = 0
    while begin < len(text):
        end = begin
        while True:
            end = text.find(b"\n", end) + 1 or len(text)
            if end == len(text) or text.count(b'"', begin, end) % 2 == 0:
                break
        yield text[begin:end]
        begin = end


def _separator(line: str, second: str | None) -> str:
    """Return the separator that stands most often in a header; of two, the one with which the next line fits it."""
    counts = {mark: len(_fields(line, mark) or ()) for mark in _SEPARATORS}
    most = max(counts.values())
    if most == 1:
        return ","
    likely = [mark for mark in _SEPARATORS if counts[mark] == most]
    fitting = [mark for mark in likely if second is not None and len(_fields(second, mark) or ()) == most]
    return (fitting or likely)[0]


def _fields(line: str, separator: str) -> list[str] | None:
    """Split a line into fields; None if a quote is not closed, or text follows one."""
    fields, at = [], 0
    while True:
        if line.startswith('"', at):
            close = at + 1
            while True:
                close = line.find('"', close)
                if close < 0:
                    return None
                if not line.startswith('""', close):
                    break
                close += 2
            fields.append(line[at + 1 : close].replace('""', '"'))
            at = close + 1
            if at < len(line) and line[at] != separator:
                return None
        else:
            end = line.find(separator, at)
            end = len(line) if end < 0 else end
            fields.append(line[at:end])
            at = end
        if at >= len(line):
            return fields
        at += 1
