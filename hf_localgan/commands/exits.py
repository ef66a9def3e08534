"""Ends of commands: their errors on standard error, and their exit codes."""

import os
import sys
from collections.abc import Callable

from hf_localgan.registration import register

DONE, FAILED, WRONG_USAGE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = {
    DONE: "done",
    FAILED: "failed, and standard error says why",
    WRONG_USAGE: "wrong usage: options or a settings file with an error; nothing was begun",
    STOPPED: "training was stopped, for it diverged or its answers collapsed; its output is kept",
    INTERRUPTED: "interrupted by Ctrl-C",
}


def ending(prog: str, read: Callable[[], tuple], work: Callable[..., int | None]) -> int:
    """Runs a command, and turns its end or its error into an exit code.

    An error of the user is printed in one line, `PROG: message`; any other keeps its traceback.

    Args:
        prog: name of the command.
        read: reads the arguments; its `ValueError` is wrong usage. It should import nothing that takes long.
        work: does the work, with the values that `read` returned as arguments; returns the exit code, `None` for done.

    Returns:
        The exit code, a key of `MEANINGS`.
    """
    reading = True
    try:
        settings = read()
        reading = False
        register()
        return work(*settings) or DONE
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else DONE
    except KeyboardInterrupt:
        return print_error(prog, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has left, so that nobody reads an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ValueError, ImportError) as error:
        return print_error(prog, error, WRONG_USAGE if reading and isinstance(error, ValueError) else FAILED)


def print_error(prog: str, message: object, code: int) -> int:
    """Prints a message in one line on standard error; returns `code`."""
    print(f"{prog}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code
