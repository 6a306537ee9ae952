"""Read files at URLs through polars."""

from collections.abc import Iterator
from contextlib import suppress

import polars as pl

from cohortlib.errors import SourceError
from cohortlib.read.tables import FileOptions, read_errors


def is_url(path: str) -> bool:
    """Return whether a path is a URL."""
    return "://" in path


def without_secrets(url: str) -> str:
    """Return a URL for messages: without a user, a password or a query, which can hold a signature."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def shown_path(path: str) -> str:
    """Return a path or a URL for messages."""
    return without_secrets(path) if is_url(path) else path


def list_urls(url: str, options: FileOptions) -> list[str]:
    """List the URLs that a glob stands for; there must be at least one."""
    if not any(mark in without_secrets(url) for mark in "*[") and not url.endswith("/"):
        return [url]
    with read_errors(repr(without_secrets(url))):
        scan = _scan_lines(url, options, "path")
        paths: list[str] | None = None
        with suppress(AttributeError):  # polars plans a query for other engines by these methods
            paths = scan._ldf.visit().view_current_node().paths
        if paths is None:
            paths = scan.select("path").unique().collect().to_series().to_list()
    if not paths:
        raise SourceError(f"no file matches {without_secrets(url)!r}", value=without_secrets(url))
    return sorted(str(path) for path in paths)


def url_blocks(url: str, options: FileOptions) -> Iterator[bytes]:
    """Read a text file at a URL, decompressed, with the line ends of Unix."""
    with read_errors(repr(without_secrets(url))):
        for batch in _scan_lines(url, options, None, glob=False).collect_batches(maintain_order=True):
            text = "\n".join(batch.to_series())
            yield (text + "\n").encode() if batch.height else b""


def refuse_lake(url: str, paths: list[str], options: FileOptions) -> None:
    """Raise SourceError if files lie in a table of Delta or Iceberg, whose files also hold deleted rows.

    Web servers list no folders, so files of https are not checked.
    """
    if url.startswith(("http:", "https:")):
        return
    scheme, _, rest = url.partition("://")
    parts = rest.split("/")[:-1]
    fixed = next((index for index, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts))
    folders = ["/".join(parts[:length]) for length in range(1, fixed + 1)]
    if fixed < len(parts):
        folders.append("/".join([*parts[:fixed], "**"]))
    for kind, log in (("Delta", "_delta_log/*.json"), ("Iceberg", "metadata/*.metadata.json")):
        for folder in folders:
            logs: list[str] = []
            with suppress(SourceError):  # there is none, or it may not be listed
                logs = list_urls(f"{scheme}://{folder}/{log}", options)
            roots = {path.rpartition("/")[0].rpartition("/")[0] + "/" for path in logs}
            for root in sorted(roots):
                if any(path.startswith(root) for path in paths):
                    raise SourceError(
                        f"{without_secrets(url)!r} reads files of the {kind} table {root!r}, also those that were "
                        "deleted from it",
                        expected="the table itself",
                        hint="open it with deltalake or pyiceberg, and pass the table",
                    )


def _scan_lines(url: str, options: FileOptions, paths: str | None, *, glob: bool = True) -> pl.LazyFrame:
    stored = dict(options.storage_options) if options.storage_options else None
    return pl.scan_lines(url, glob=glob, storage_options=stored, include_file_paths=paths)
