"""The command `hf-localgan`.

Each command is a module of `hf_localgan.commands`, imported when it is given, so that `--help` answers at once. What
the trainings would answer only after torch is loaded, their help and wrong options, `known_options` answers before.
"""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from hf_localgan.commands.exits import DONE, MEANINGS, WRONG_USAGE, announce, print_error, protected
from hf_localgan.commands.known_options import COMMANDS as WITH_SETTINGS
from hf_localgan.commands.known_options import answer_early
from hf_localgan.commands.names import COMMANDS, MODULES, PROG
from hf_localgan.connection import use_the_cache_if_cut_off
from hf_localgan.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit code, see `hf_localgan.commands.exits`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = bool(argv) and argv[0] in MODULES
    prog, words = (f"{PROG} {argv[0]}", argv[1:]) if known else (PROG, argv)
    # The import of a command can fail, too, and takes long enough to be interrupted.
    return protected(prog, lambda: _run(argv), words)


def _run(argv: list[str]) -> int:
    if not argv:
        _parser().print_help()
        return DONE
    name, *words = argv
    if name in MODULES:
        prog = f"{PROG} {name}"
        answered = answer_early(name, words, prog)
        if answered is not None:
            return answered
        use_the_cache_if_cut_off()
        if name in WITH_SETTINGS:  # their modules import torch at once, the others when they work
            announce(prog, "loading")
        return import_module(f"hf_localgan.commands.{MODULES[name]}").main(words, prog=prog)
    if not name.startswith("-"):
        near = get_close_matches(name, MODULES, n=2, cutoff=0.6)
        hint = f" Did you mean `{'` or `'.join(near)}`?" if near else ""
        return print_error(PROG, f"There is no command `{name}`.{hint} `{PROG} --help` lists all.", WRONG_USAGE)
    _parser().parse_args(argv)
    return WRONG_USAGE


def _parser() -> argparse.ArgumentParser:
    """A parser that knows the commands by name only, for `--help` and for errors before a command is known."""
    parser = argparse.ArgumentParser(
        prog=PROG, usage="%(prog)s COMMAND ...", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Sequence-to-sequence generators beyond maximum likelihood.\n\n{_commands()}", epilog=_epilog(),
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=list(MODULES), help=argparse.SUPPRESS)
    return parser


def _commands() -> str:
    width = max(map(len, MODULES))
    groups = (
        "\n".join([f"{group}:", *(f"  {name:{width}}  {purpose}" for name, purpose in commands.items())])
        for group, commands in COMMANDS.items()
    )
    return "\n\n".join(groups)


def _epilog() -> str:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
    return f"`{PROG} COMMAND --help` lists the options of a command.\n\nexit codes:\n{codes}"


if __name__ == "__main__":
    sys.exit(main())
