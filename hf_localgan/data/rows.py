"""Parts that the readers of text files share: opened files and decoded lines."""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple

BYTE_ORDER = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
SHOWN = 60  # characters of a value in a message


class TableRow(NamedTuple):
    """The cells of a row of a table, the line it begins at, 0 for the header, and how many lines it takes up."""

    cells: list[str]
    line: int
    lines: int


@contextmanager
def open_bytes(path: str) -> Iterator[Any]:
    """A local file or a URL as bytes, unpacked by its ending."""
    name = path.split("?")[0] if "://" in path else path
    ending = name.rsplit(".", 1)[-1].lower()
    if "://" in path:
        import fsspec

        opened = fsspec.open(path, "rb").open()
    else:
        opened = open(path, "rb")
    with opened:
        if ending == "gz":
            opened = gzip.GzipFile(fileobj=opened)
        elif ending == "bz2":
            opened = bz2.BZ2File(opened)
        elif ending == "xz":
            opened = lzma.LZMAFile(opened)
        elif ending == "zst":
            opened = _zstandard(path, opened)
        with opened:
            yield opened


def _zstandard(path: str, opened):
    try:
        import zstandard
    except ImportError as error:
        raise ValueError(
            f'"{path}" is packed by zstd; reading it needs the package zstandard. Or unpack it.'
        ) from error
    return zstandard.ZstdDecompressor().stream_reader(opened)


def decoded_lines(path: str, opened, settings: dict[str, Any]) -> Iterator[str]:
    """The lines of a file with their ends (LF, CR LF or CR), decoded."""
    encoding, errors = settings.get("encoding") or "utf-8", settings.get("encoding_errors") or "strict"
    start = opened.read(4)
    marked = next((name for mark, name in BYTE_ORDER.items() if start.startswith(mark)), None)
    if marked and encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        raise ValueError(f'"{path}" begins with the byte order mark of {marked}. Pass encoding="{marked}".')
    opened = _Joined(start, opened)
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"  # a byte order mark at the start is no part of the first name
    try:
        lines = io.TextIOWrapper(io.BufferedReader(opened), encoding, errors, newline="")
    except LookupError as error:
        raise ValueError(f"`encoding` or `encoding_errors` is not known: {error}.") from error
    decoded = count()
    try:
        yield from map(itemgetter(0), zip(lines, decoded, strict=False))  # one call a line, without a frame of Python
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f'"{path}" is not {encoding.removesuffix("-sig")} after line {next(decoded)}: {reason}. Pass the encoding '
            'that it is in, such as encoding="latin-1".'
        ) from error


class _Joined(io.RawIOBase):
    """A raw stream of some bytes and what follows them."""

    def __init__(self, start: bytes, rest):
        self.start, self.rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if self.start:
            taken, self.start = self.start[: len(buffer)], self.start[len(buffer) :]
        else:
            taken = self.rest.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


def unpacking_errors() -> tuple[type[Exception], ...]:
    """Types of the errors that reading a damaged packed file raises."""
    zstandard = (sys.modules["zstandard"].ZstdError,) if "zstandard" in sys.modules else ()
    return (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, *zstandard)


def shown(value: Any) -> str:
    """A value and its type, for a message."""
    names = {dict: "an object", list: "a list", bool: "a truth value", int: "a number", float: "a number"}
    return f"{value!r:.{SHOWN}} ({names.get(type(value), type(value).__name__)})"
