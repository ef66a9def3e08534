"""Parts that the readers of text files share: opened files and decoded lines."""

import bz2
import codecs
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
# How files begin that are no text, and what they are.
BEGINNINGS = {
    b"\x1f\x8b": "packed by gzip; name it .gz at the end",
    b"\xfd7zXZ\x00": "packed by xz; name it .xz at the end",
    b"\x28\xb5\x2f\xfd": "packed by zstd; name it .zst at the end",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"PAR1\x15": "parquet; name it .parquet at the end",
    b"version https://git-lfs": "a pointer of Git LFS, not the file it stands for; run `git lfs pull` in its folder",
}
ENCODING_EXAMPLES = {"encoding": 'latin-1", "gb18030" or "utf-16', "encoding_errors": 'strict" or "replace'}
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
            f'"{path}" is packed by zstd: `pip install "hf-localgan[zstd]"` reads it. Or unpack it.'
        ) from error
    return io.BufferedReader(_Zstandard(opened, zstandard.ZstdDecompressor()))


class _Zstandard(io.RawIOBase):
    """The content of frames of zstd; unlike the package's own reader it tells where the last frame is cut off."""

    def __init__(self, packed, decompressor):
        self.packed, self.decompressor = packed, decompressor
        self.frame: Any = None
        self.rest = self.content = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self.content:
            chunk = self.rest or self.packed.read(2**16)
            self.rest = b""
            if not chunk:
                if self.frame is not None:
                    raise EOFError("its last frame has no end")
                return 0
            self.frame = self.frame or self.decompressor.decompressobj()
            self.content = self.frame.decompress(chunk)
            if self.frame.eof:
                self.rest, self.frame = self.frame.unused_data, None
        taken, self.content = self.content[: len(buffer)], self.content[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def decoded_lines(path: str, opened, settings: dict[str, Any]) -> Iterator[str]:
    """The lines of a file with their ends (LF, CR LF or CR), decoded."""
    encoding, errors = settings.get("encoding") or "utf-8", settings.get("encoding_errors") or "strict"
    for name, value, look_up in (
        ("encoding", encoding, codecs.lookup), ("encoding_errors", errors, codecs.lookup_error)
    ):  # fmt: skip
        try:
            look_up(value)
        except (LookupError, TypeError, ValueError) as error:  # no text, too, or with a NUL in it
            raise ValueError(
                f'`{name}` is not known to Python: {value!r}. Accepted are such as "{ENCODING_EXAMPLES[name]}".'
            ) from error
    start = opened.read(32)
    nature = beginning(start)
    if nature is not None:
        raise ValueError(f'"{path}" is no text: it is {nature}.')
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        marked = next((name for mark, name in BYTE_ORDER.items() if start.startswith(mark)), None)
        if marked:
            raise ValueError(f'"{path}" begins with the byte order mark of {marked}. Pass encoding="{marked}".')
        wide = next((name for first, name in ((1, "utf-16-le"), (0, "utf-16-be")) if _is_wide(start[first:8:2])), None)
        if wide:
            raise ValueError(f'"{path}" is not utf-8: every second byte is 0, as in {wide}. Pass encoding="{wide}".')
        encoding = "utf-8-sig"  # a byte order mark at the start is no part of the first name
    opened = _Joined(start, opened)
    try:
        lines = io.TextIOWrapper(io.BufferedReader(opened), encoding, errors, newline="")
    except LookupError as error:
        raise ValueError(f"`encoding` is not known as that of a text: {error}.") from error
    decoded = count()
    try:
        yield from map(itemgetter(0), zip(lines, decoded, strict=False))  # one call a line, without a frame of Python
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f'"{path}" is not {encoding.removesuffix("-sig")} after line {next(decoded)}: {reason}. Pass the encoding '
            'that it is in, such as encoding="latin-1".'
        ) from error


def beginning(start: bytes) -> str | None:
    """What a file is that begins so, and what to do with it; `None` for text and for what is not known."""
    return next((nature for mark, nature in BEGINNINGS.items() if start.startswith(mark)), None)


def _is_wide(high: bytes) -> bool:
    return len(high) > 2 and not any(high)


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
