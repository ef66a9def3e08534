"""Writing files whole or not at all, and names of files that are not there."""

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file beside `path`, which is renamed to `path` when the block ends without an error.

    On any error, Ctrl-C included, the temporary file is removed and an earlier file `path` stays as it was.

    Args:
        path: the file to write; its folder is made where it is missing.

    Yields:
        The path to write to, in the same folder and with the same suffix, for writers choose a format by the suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def unwritten_named(folder: str | os.PathLike) -> Iterator[None]:
    """Turns what libraries raise where they cannot write into an `OSError` that names the folder and the reason.

    Those that write weights raise errors of their own classes: safetensors keeps the reason in the text only, and
    `torch.save` loses it. So a small file is tried, too.

    Args:
        folder: the folder that is written to.

    Raises:
        OSError: for such an error; every other one goes through.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        text, reason = " ".join(str(error).split()), _why_unwritten(Path(folder))
        if reason is None and not any(sign in text for sign in UNWRITTEN):
            raise
        raise OSError(
            f'"{os.fspath(folder)}" cannot be written to: {reason or text}. The disk may be full, or a quota used up: '
            "make room and start again. Earlier checkpoints are as they were."
        ) from error


UNWRITTEN = ("PytorchStreamWriter", "inline_container", "iostream", "I/O error", "os error")
PROBE = 1 << 20  # bytes


def _why_unwritten(folder: Path) -> str | None:
    """The reason why a file cannot be written into a folder, `None` if one of moderate size can."""
    try:
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else folder.parent) as file:
            file.write(bytes(PROBE))
            file.flush()
    except OSError as error:
        return str(error)
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def missing_path(name: str | os.PathLike) -> str | None:
    """What is wrong with the name of a file or folder that is not there; `None` if it may be an id on the Hub.

    A name whose parent folder is here is meant as a path, and nobody waits for the Hub to deny it.

    Args:
        name: a path, or an id such as `owner/name`.
    """
    text = os.fspath(name)
    path = Path(os.path.expanduser(text))
    is_path = isinstance(name, os.PathLike) or text.startswith((".", "~", "/", "\\")) or path.is_absolute()
    parents = [parent for parent in path.parents if parent != Path()]
    above = next((parent for parent in parents if parent.is_dir()), None)
    if path.exists() or not (is_path or above):
        return None
    problem = f'There is no "{text}" (looked in {Path.cwd()}).'
    if above is None or above == Path(path.anchor):
        return f"{problem} Give a file or folder that exists, or an id on the Hub of the form owner/name."
    missing = path.parts[len(above.parts)]
    near = difflib.get_close_matches(missing, [entry.name for entry in _listed(above)], n=3, cutoff=0.6)
    found = f' "{above}" is a folder here, and holds no "{missing}"'
    found += f"; did you mean {' or '.join(str(above / entry) for entry in near)}?" if near else "."
    hub = "" if is_path else f' An id on the Hub is looked up where there is no folder "{path.parts[0]}".'
    return f"{problem}{found}{hub}"


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
