"""Ends of commands: their errors on standard error, and their exit codes."""

import os
import platform
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

from hf_localgan.registration import register
from hf_localgan.version import __version__

DONE, FAILED, WRONG_USAGE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = {
    DONE: "done",
    FAILED: "failed, and standard error says why",
    WRONG_USAGE: "wrong usage: options or a settings file with an error; nothing was begun",
    STOPPED: "training was stopped, for it diverged or its answers collapsed; its output is kept",
    INTERRUPTED: "interrupted by Ctrl-C",
}

PROJECT = "hf-localgan"
PACKAGE = Path(__file__).parents[1]
REPORTED_VERSIONS = ("transformers", "torch", "accelerate", "datasets", "tokenizers", "peft")
# Well-known labels of a project's addresses, as package indexes normalise them; the first that is there is meant.
ISSUE_LABELS = ("issues", "issue", "issuetracker", "bugtracker", "bugreports", "tracker", "bugs")
REPOSITORY_LABELS = ("repository", "sourcecode", "source", "github", "code", "homepage")

# Errors of other libraries for what a user can mend, and what to do. By their full names, for none of them is imported
# here. An error of such a class that is also an `OSError`, a `ValueError` or an `ImportError` says enough itself.
REMEDIES = {
    "builtins.EOFError": "A compressed file or an input ends too early. Get the file again, or unpack it to see more.",
    "builtins.MemoryError": "The memory is not enough. Take smaller batches or less data.",
    "zlib.error": "A compressed file is damaged. Get it again.",
    "_lzma.LZMAError": "A compressed file is damaged. Get it again.",
    "_pickle.UnpicklingError": "A file of a checkpoint is damaged. Take another checkpoint.",
    "torch.OutOfMemoryError": "The memory of the device is not enough. Lower the batch size, for a training together "
    "with a larger `gradient_accumulation_steps`.",
    "torch._dynamo.exc.InvalidBackend": "`torch_compile_backend` names none that is here; leave it out for the usual.",
    "torch.distributed.DistError": "The processes could not work together. Look at the first error of any of them.",
    "safetensors._safetensors_rust.SafetensorError": "A file of weights is damaged or cut off. Get it again, or take "
    "another checkpoint.",
    "datasets.exceptions.DatasetsError": "The data set could not be read. Check its name, its files and the free disk "
    "space.",
    "huggingface_hub.errors.StrictDataclassError": "A configuration holds a value of the wrong type. Look into its "
    "config.json.",
    "httpx.HTTPError": "The network failed. Try again later; what is stored here is used with HF_HUB_OFFLINE=1.",
    "httpx2.HTTPError": "The network failed. Try again later; what is stored here is used with HF_HUB_OFFLINE=1.",
}
# The same for errors of the class `RuntimeError`, which says nothing, by a part of their text.
TEXT_REMEDIES = {
    "loading state_dict": "Weights do not fit the model. Take a checkpoint of the same sizes.",
    "ize mismatch": "Weights do not fit the model. Take a checkpoint of the same sizes.",
    "can't allocate memory": REMEDIES["builtins.MemoryError"],
    "PytorchStreamReader": REMEDIES["_pickle.UnpicklingError"],
    "Could not determine home directory": "Write the path in full.",
    "No space left on device": "The disk is full. Make room, and give the same command again.",
}


def ending(
    prog: str, read: Callable[[], tuple], work: Callable[..., int | None], argv: Sequence[str] | None = None
) -> int:
    """Runs a command, and turns its end or its error into an exit code.

    Args:
        prog: name of the command.
        read: reads the arguments; its `ValueError` is wrong usage. It should import nothing that takes long.
        work: does the work, with the values that `read` returned as arguments; returns the exit code, `None` for done.
        argv: the command's arguments, for a report of a fault; by default those of the process.

    Returns:
        The exit code, a key of `MEANINGS`; of errors that of `protected`.
    """
    failed = [WRONG_USAGE]

    def run() -> int | None:
        settings = read()
        failed[0] = FAILED
        register()
        return work(*settings)

    return protected(prog, run, argv, lambda error: failed[0] if isinstance(error, ValueError) else FAILED)


def protected(
    prog: str,
    work: Callable[[], int | None],
    argv: Sequence[str] | None = None,
    code: Callable[[BaseException], int] = lambda error: FAILED,
) -> int:
    """Works, and turns any error into an exit code.

    What a user can mend is printed in one line, `PROG: message`. A fault of the package has its traceback, and behind
    it a line that says how to report it.

    Args:
        prog: name of the command.
        work: returns the exit code, `None` for done.
        argv: the command's arguments, for a report of a fault; by default those of the process.
        code: the exit code of an error of the user.

    Returns:
        The exit code.
    """
    try:
        with warnings_in_one_line(prog):
            done = work() or DONE
        sys.stdout.flush()  # else a full disk or a reader that left is told by the interpreter, after the end
        return done
    except SystemExit as end:
        if isinstance(end.code, str):
            return print_error(prog, end.code, FAILED)
        return DONE if end.code is None else int(end.code)  # argparse has said why
    except KeyboardInterrupt:
        return print_error(prog, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has left, so that nobody reads an error
        _drop_output()
        return FAILED
    except Exception as error:
        message = explain(error)
        if message is None:
            traceback.print_exc()
            return print_error(prog, describe_fault(error, prog, argv), FAILED)
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # of the same error: what could not be written stays in the buffer
            _drop_output()
        return print_error(prog, message, code(error))


@contextmanager
def warnings_in_one_line(prog: str) -> Iterator[None]:
    """Within the context a warning of this package is shown as `PROG: warning: ...`, without a place in its source.

    Those of other libraries, which may have to be reported there, are shown as ever.

    Args:
        prog: name of the command.
    """
    before = warnings.formatwarning

    def form(message: Any, category: Any, filename: str, lineno: int, line: str | None = None) -> str:
        if Path(filename).is_relative_to(PACKAGE):
            return f"{prog}: warning: {' '.join(str(message).split())}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = form  # type: ignore[assignment]  # as the documentation of `warnings` has it
    try:
        yield
    finally:
        warnings.formatwarning = before


def _drop_output():
    """Lets the end of the process write what is left of the output nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file, as in a test
        pass


def explain(error: BaseException) -> str | None:
    """What a user is told of an error that he can mend; `None` for a fault of the package."""
    text = str(error).strip() or type(error).__name__
    if "Traceback (most recent call last)" in text:  # of a loader's worker, with the message in the last line
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    if isinstance(error, (OSError, ValueError, ImportError)):
        return text
    for base in type(error).__mro__:
        remedy = REMEDIES.get(f"{base.__module__}.{base.__qualname__}")
        if remedy is not None:
            return _with_remedy(text, remedy)
    if isinstance(error, RuntimeError):
        for part, remedy in TEXT_REMEDIES.items():
            if part in text:
                return _with_remedy(text, remedy)
    return None


def _with_remedy(text: str, remedy: str) -> str:
    return f"{text if text.endswith(('.', '!', '?')) else f'{text}.'} {remedy}"


def describe_fault(error: BaseException, prog: str, argv: Sequence[str] | None = None) -> str:
    """How to report a fault of the package: where, the versions, and the command line without its secrets."""
    words = list(sys.argv[1:] if argv is None else argv)
    address = issue_address()
    where = f"at {address}" if address else f"to the maintainers of {PROJECT}"
    versions = [f"{PROJECT} {__version__}", *filter(None, map(_version, REPORTED_VERSIONS))]
    versions += [f"Python {platform.python_version()}", platform.platform()]
    return (
        f"This is a fault of {PROJECT}, not yours ({type(error).__name__}). Please report it {where} with the lines "
        f"above and this one. Versions: {', '.join(versions)}. Command: {prog} {shlex.join(_without_secrets(words))}"
    )


def issue_address() -> str | None:
    """Where faults are reported, by the metadata of the project: its issues, or else its repository."""
    try:
        lines = metadata(PROJECT).get_all("Project-URL") or []
    except PackageNotFoundError:  # not installed, but imported from its folder
        return None
    labels = {}
    for line in lines:
        label, _, address = str(line).partition(",")
        labels[re.sub(r"[\W_]", "", label).lower()] = address.strip()
    return next((labels[label] for label in (*ISSUE_LABELS, *REPOSITORY_LABELS) if label in labels), None)


def _version(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def _without_secrets(words: Sequence[str]) -> list[str]:
    """The words with `...` for the value of an option that is called a token or a password."""
    shown, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        secret = re.match(r"--?[\w-]*(token|password|secret)$", name, re.IGNORECASE) is not None
        shown.append("..." if hide and not word.startswith("-") else f"{name}=..." if secret and equals else word)
        hide = secret and not equals
    return shown


def announce(prog: str, message: str):
    """Says on standard error what takes some seconds before anything else is seen.

    To be called before torch is imported. Says nothing where nobody waits: where standard error is no terminal, and in
    all processes but the first.
    """
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
        print(f"{prog}: {message} ...", file=sys.stderr, flush=True)


def print_error(prog: str, message: object, code: int) -> int:
    """Prints a message in one line on standard error; returns `code`."""
    print(f"{prog}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code
