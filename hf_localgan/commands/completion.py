"""Prints a script that completes the commands and their options in a shell.

    hf-localgan completion bash >> ~/.bash_completion
    hf-localgan completion zsh > ~/.zsh/completions/_hf-localgan

The script names the options of this version; print it anew after an update.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hf_localgan.commands.exits import DONE, FAILED, print_error
from hf_localgan.commands.known_options import COMMANDS, known_options
from hf_localgan.commands.names import MODULES, PROG, PURPOSES
from hf_localgan.options import CommandParser, argument_parser

SHELLS = ("bash", "zsh", "tcsh")


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    try:  # not by `ending`, which registers models and so loads the frameworks
        args = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else DONE
    try:
        import shtab
    except ImportError:
        message = 'Completion needs shtab. Install it by `pip install "hf-localgan[completion]"`.'
        return print_error(parser.prog, message, FAILED)
    print(shtab.complete(whole_parser(shtab.FILE), shell=args.shell))
    return DONE


def whole_parser(files: Any = None) -> argparse.ArgumentParser:
    """The command with all its commands and their options.

    Args:
        files: marks arguments that are files, for the library that makes scripts.
    """
    parser = argparse.ArgumentParser(prog=PROG, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command")
    for name, module in MODULES.items():
        if name in COMMANDS:
            own = argument_parser(known_options(name), f"{PROG} {name}", files)
        else:
            own = import_module(f"hf_localgan.commands.{module}").command_parser(f"{PROG} {name}")
        commands.add_parser(name, parents=[own], add_help=False, help=PURPOSES[name])
    return parser
