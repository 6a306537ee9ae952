"""Numbers, names and tables as text, for the terminal and for pages."""

from dataclasses import dataclass

WIDEST = 18  # characters of a name


@dataclass(frozen=True)
class Block:
    """A table of text with a title. The first `names` columns are left-aligned."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int

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


def number(value: object) -> str:
    """Format a number with enough digits to show a cent and a millionth; anything else as a dash.

    >>> number(1234567.891), number(0.5333333), number(250000.0), number(None)
    ('1,234,567.89', '0.533333', '250,000', '-')
    """
    if not isinstance(value, int | float):
        return "-"
    if abs(value) >= 1e15:
        return f"{value:.6g}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1000 else f"{value:.6g}"


def text(value: object) -> str:
    """Format a value from the data; control characters become question marks."""
    return "-" if value is None else "".join(c if c.isprintable() else "?" for c in str(value))


def short(value: object, width: int = WIDEST) -> str:
    """Format a value, and cut long text."""
    full = text(value)
    return full if len(full) <= width else f"{full[: width - 2]}.."
