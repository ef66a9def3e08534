"""The command `hf-localgan`.

Each command is a module of `hf_localgan.commands`, imported when it is given, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from hf_localgan.commands.exits import MEANINGS, WRONG_USAGE, protected
from hf_localgan.version import __version__

PROG = "hf-localgan"
# Every command by group, with its purpose.
COMMANDS = {
    "training": {
        "train-mle": "a generator by maximum likelihood",
        "train-raml": "a generator by reward augmented maximum likelihood (RAML)",
        "train-dbm": "an energy: a deep Boltzmann machine over queries and responses",
        "train-matching": "a discriminator that tells whether a response belongs to a query",
        "train-localgan": "a generator by LocalGAN, after the models that it needs",
        "train-speech": "a recogniser of speech, by maximum likelihood or RAML",
        "train-gan-ael": "a generator by GAN-AEL, the nearest rival",
        "train-adver-regs": "a generator by Adver-REGS, policy gradient on a discriminator",
        "train-aim": "a generator by AIM, whose responses keep what the query was",
        "train-daim": "two generators by DAIM, each the other's reader",
        "reproduce": "all systems of the paper from one start per seed, side by side",
    },
    "using": {
        "chat": "ask a generator, in a terminal or from a pipe",
        "evaluate": "answer a test split and score the answers",
        "demo": "compare generators on a local page",
        "annotate": "have people judge answers: sheets, a page, scores and tests",
        "metrics-against-people": "correlate the metrics with people's scores",
        "transcribe": "transcribe sound files",
    },
    "publishing": {
        "card": "write the model card of a finished output folder anew",
        "export": "write a checkpoint that loads without this package",
    },
}
MODULES = {name: name.replace("-", "_") for group in COMMANDS.values() for name in group}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit code, see `hf_localgan.commands.exits`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in MODULES:
        prog, words = f"{PROG} {argv[0]}", argv[1:]
        module = f"hf_localgan.commands.{MODULES[argv[0]]}"
        # Its import can fail, too, and takes long enough to be interrupted.
        return protected(prog, lambda: import_module(module).main(words, prog=prog), words)

    def explain_usage() -> int:
        _parser().parse_args(argv)
        return WRONG_USAGE

    return protected(PROG, explain_usage, argv)


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
