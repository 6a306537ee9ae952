"""How much memory a computation may take: what it was given, or a share of what is free."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cohortlib.errors import SettingError

LEAST = 64 << 20
"""Below this there is no room to compute in."""

SHARE = 0.6
"""Of what is free, where nothing else is said: the rest is for the tables that are read and returned."""

_UNITS = {"B": 1} | {
    f"{letter}{form}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for form, base in (("B", 1000), ("IB", 1024))
}
_SYSTEM = Path("/")


def budget(max_memory: int | str | None) -> int:
    """Give the bytes that may be taken.

    Parameters
    ----------
    max_memory
        A number of bytes, or a text such as ``"4GB"`` (powers of 1000) or ``"512MiB"`` (powers of 1024); None for 60 %
        of what is free.

    Examples
    --------
    >>> budget("512MiB")
    536870912
    """
    if max_memory is None:
        return max(LEAST, int(SHARE * free()))
    given = _read(max_memory) if isinstance(max_memory, str) else max_memory if type(max_memory) is int else None
    if given is None:
        raise SettingError(
            f"max_memory={max_memory!r} is no amount of memory; expected bytes, a text such as '4GB' or '512MiB', or "
            "None for a share of what is free"
        )
    if given < LEAST:
        raise SettingError(f"max_memory={max_memory!r} is too little to compute in; expected '64MiB' or more")
    return given


def free() -> int:
    """Tell how many bytes this process can still get: of the machine's, its group's and its own limit the least."""
    return max(0, min(_limits()))


def _read(text: str) -> int | None:
    told = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text, re.IGNORECASE | re.ASCII)
    unit = _UNITS.get(told[2].upper()) if told else None
    return None if told is None or unit is None else int(float(told[1]) * unit)


def _limits() -> Iterator[int]:
    available = _fields(_SYSTEM / "proc/meminfo").get("MemAvailable")
    if available is not None:
        yield available << 10
    else:  # no Linux: all that there is
        try:
            yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):  # Windows
            yield 4 << 30
    yield from _of_groups()
    yield from _of_process()


def _of_groups() -> Iterator[int]:
    """Give what each control group above this process, of either version, has left; what is cached can be freed."""
    root = _SYSTEM / "sys/fs/cgroup"
    for line in _lines(_SYSTEM / "proc/self/cgroup"):
        number, kinds, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            base, limit, use, cached = root, "memory.max", "memory.current", ("inactive_file", "active_file")
        elif "memory" in kinds.split(","):
            base, limit, use = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file", "total_active_file"
        else:
            continue
        # In a container the path may be the host's, of which only the end, or nothing but the root, is there.
        place = base / path.lstrip("/")
        for group in (place, *place.parents):
            if not group.is_relative_to(base):
                break
            with suppress(OSError, ValueError):  # the root has no limit, and "max" is none
                most, taken = (int((group / name).read_text()) for name in (limit, use))
                stat = _fields(group / "memory.stat")
                yield most - taken + sum(stat.get(name, 0) for name in cached)


def _of_process() -> Iterator[int]:
    """Give what the limits of this process (ulimit -v, -d) leave."""
    try:
        import resource
    except ImportError:  # Windows
        return
    status = _fields(_SYSTEM / "proc/self/status")
    for kind, has in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(kind)[0]
        if most != resource.RLIM_INFINITY:
            yield most - (status.get(has, 0) << 10)


def _lines(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().splitlines()
    return []


def _fields(file: Path) -> dict[str, int]:
    """Read lines such as ``MemAvailable:  16303412 kB``."""
    pairs = (re.match(r"(\w+):?\s+(\d+)", line) for line in _lines(file))
    return {pair[1]: int(pair[2]) for pair in pairs if pair}
