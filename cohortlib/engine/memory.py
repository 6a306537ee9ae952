"""Choose how much memory a computation may use: the setting `max_memory`, or a share of the free memory."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cohortlib.errors import Arg, SettingError

MINIMUM = 64 << 20  # the least memory that a computation needs
SHARE = 0.6  # of the free memory, by default; the rest is for the tables that are read and returned
_UNITS = {"B": 1} | {
    f"{letter}{form}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for form, base in (("B", 1000), ("IB", 1024))
}
_SYSTEM = Path("/")


def budget(max_memory: int | str | None) -> int:
    """Return the number of bytes that may be used.

    `max_memory` is a number of bytes, or text such as ``"4GB"`` (powers of 1000) or ``"512MiB"`` (powers of 1024); None
    for 60 % of the free memory.

    >>> budget("512MiB")
    536870912
    """
    if max_memory is None:
        return max(MINIMUM, int(SHARE * free()))
    size = _parse(max_memory) if isinstance(max_memory, str) else max_memory if type(max_memory) is int else None
    if size is None:
        expected = "bytes, text such as '4GB' or '512MiB', or None for a share of the free memory"
        what = (Arg("max_memory", max_memory), " is not an amount of memory")
        raise SettingError(what, value=max_memory, expected=expected)
    if size < MINIMUM:
        what = (Arg("max_memory", max_memory), " is too little memory")
        raise SettingError(what, value=max_memory, expected="'64MiB' or more")
    return size


def free() -> int:
    """Return the bytes that this process can still allocate: the least of the machine's, its groups' and its own."""
    return max(0, min(_free_bytes()))


def trim() -> None:
    """Return memory that the C library keeps for this process to the system, where it can: on Linux with glibc.

    It keeps what threads have freed apart for each of them: after rows were read, some hundred MB.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _parse(text: str) -> int | None:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text, re.IGNORECASE | re.ASCII)
    unit = _UNITS.get(match[2].upper()) if match else None
    return None if match is None or unit is None else int(float(match[1]) * unit)


def _free_bytes() -> Iterator[int]:
    available = _fields(_SYSTEM / "proc/meminfo").get("MemAvailable")
    if available is not None:
        yield available << 10
    else:  # not Linux: all memory of the machine
        try:
            yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):  # Windows
            yield 4 << 30
    yield from _free_in_control_groups()
    yield from _free_under_limits()


def _free_in_control_groups() -> Iterator[int]:
    """Yield the free memory of each control group of this process, version 1 or 2; file caches count as free."""
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
        # In a container, the path can be that of the host, which does not exist here; then only the root is read.
        innermost = base / path.lstrip("/")
        for group in (innermost, *innermost.parents):
            if not group.is_relative_to(base):
                break
            with suppress(OSError, ValueError):  # no limit: the root has no file, others say "max"
                maximum, used = (int((group / name).read_text()) for name in (limit, use))
                stat = _fields(group / "memory.stat")
                yield maximum - used + sum(stat.get(name, 0) for name in cached)


def _free_under_limits() -> Iterator[int]:
    """Yield the memory left under each limit of this process (ulimit -v, -d)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    status = _fields(_SYSTEM / "proc/self/status")
    for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        maximum = resource.getrlimit(kind)[0]
        if maximum != resource.RLIM_INFINITY:
            yield maximum - (status.get(field, 0) << 10)


def _lines(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().splitlines()
    return []


def _fields(file: Path) -> dict[str, int]:
    """Read lines such as ``MemAvailable:  16303412 kB``."""
    pairs = (re.match(r"(\w+):?\s+(\d+)", line) for line in _lines(file))
    return {pair[1]: int(pair[2]) for pair in pairs if pair}
