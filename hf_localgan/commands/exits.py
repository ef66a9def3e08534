"""How a command ends: what it says on standard error, and the exit code of its process."""

import os
import sys
from collections.abc import Callable
from typing import Any

from hf_localgan.registration import register

DONE, FAILED, WRONG_USAGE, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
MEANINGS = {
    DONE: "done",
    FAILED: "failed, and standard error says why",
    WRONG_USAGE: "wrong usage: options or a settings file that cannot be meant; nothing was begun",
    STOPPED: "training diverged or its answers collapsed, and it was stopped; what it had reached is left",
    INTERRUPTED: "interrupted by Ctrl-C",
}


def ending(prog: str, read: Callable[[], tuple], work: Callable[..., int | None]) -> int:
    """Runs a command, and turns what it ends with into an exit code.

    An error of the user is told in one line, `PROG: what is wrong`; any other keeps its traceback.

    Args:
        prog: what the command is called.
        read: reads the arguments; a `ValueError` of it is wrong usage. Should need nothing that takes long to import.
        work: does the work; called with what `read` returned. The exit code, `None` for done.
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
        return told(prog, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ValueError, ImportError) as error:
        return told(prog, error, WRONG_USAGE if reading and isinstance(error, ValueError) else FAILED)


def told(prog: str, what: Any, code: int) -> int:
    """`code`, after one line on standard error."""
    print(f"{prog}: {' '.join(str(what).split())}", file=sys.stderr, flush=True)
    return code
