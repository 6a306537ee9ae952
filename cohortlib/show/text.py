"""Text of tables and numbers for the terminal and for pages."""

from dataclasses import dataclass

WIDEST = 18  # characters of a name


@dataclass(frozen=True)
class Block:
    """A table of text under a title: a column of cells for each header, aligned left where it is of names."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int  # the first columns, which are aligned left

    @property
    def columns(self) -> list[list[str]]:
        """The cells column by column."""
        return [[row[i] for row in self.rows] for i in range(len(self.headers))]

    def __str__(self) -> str:
        widths = [max(map(len, (head, *column))) for head, column in zip(self.headers, self.columns, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < self.names else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.headers, *self.rows)
        ]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


def number(found: object) -> str:
    """Write a number so that a cent and a millionth are seen, and nothing for none.

    >>> number(1234567.891), number(0.5333333), number(250000.0), number(None)
    ('1,234,567.89', '0.533333', '250,000', '-')
    """
    if not isinstance(found, int | float):
        return "-"
    if abs(found) >= 1e15:
        return f"{found:.6g}"
    if found == int(found):
        return f"{int(found):,}"
    return f"{found:,.2f}" if abs(found) >= 1000 else f"{found:.6g}"


def text(found: object) -> str:
    """Write what the data hold, without what a terminal could act on."""
    return "-" if found is None else "".join(mark if mark.isprintable() else "?" for mark in str(found))


def short(found: object, width: int = WIDEST) -> str:
    """Cut a long text."""
    whole = text(found)
    return whole if len(whole) <= width else f"{whole[: width - 2]}.."
