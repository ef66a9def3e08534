"""Shared parts of the commands whose settings are a YAML file and options."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers.utils.logging import disable_progress_bar

from hf_localgan.commands.default_files import default_file, training_epilog
from hf_localgan.commands.default_settings import fitted_defaults
from hf_localgan.commands.exits import STOPPED, ending, print_error
from hf_localgan.options import EPILOG
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.trainers.base.launching import warn_once
from hf_localgan.trainers.dbm.divergence import DivergenceError


def training_parser(*dataclass_types: type, default: str, description: str, prog: str | None) -> RecipeParser:
    """The parser of a training command.

    Args:
        dataclass_types: dataclasses of its settings, the trainer's last.
        default: name of its default file, see `default_file`.
        description: first lines of `--help`.
        prog: name of the command; by default that of the script.
    """
    parser = RecipeParser(
        *dataclass_types, default_config=default_file(default), fit_default=fitted_defaults, description=description
    )
    parser.prog = prog or parser.prog
    parser.epilog = training_epilog(EPILOG, default, parser.prog)
    return parser


def run(parser: RecipeParser, work: Callable[..., int | None], argv: Sequence[str] | None) -> int:
    """Reads the settings, works, and returns the exit code.

    Args:
        work: does the work, with the dataclasses of the parser as arguments; returns the exit code, `None` for done.
        argv: arguments of the command, by default those of the process.
    """

    def guarded(*settings: Any) -> int | None:
        disable_progress_bar()  # of reading and writing weights, a line of its own at every checkpoint
        try:
            return work(*settings)
        except DivergenceError as error:
            return print_error(parser.prog, error, STOPPED)

    return ending(parser.prog, lambda: _read(parser, argv), guarded, argv)


def _read(parser: RecipeParser, argv: Sequence[str] | None) -> tuple[Any, ...]:
    """The settings; warns of those that nothing reads.

    Raises:
        ValueError: as `RecipeParser.read`, and for a training that is to train nothing.
    """
    settings = parser.read(argv)
    for group in settings:
        if "do_train" in parser.given and getattr(group, "do_train", None) is False:
            raise ValueError(
                "`do_train: false`: this command trains. To score a model, use `hf-localgan evaluate`; to train, leave "
                "the option out."
            )
        for unused in group.unused() if hasattr(group, "unused") else ():
            idle = [name for name in sorted(unused.names) if name in parser.given]
            if idle:
                warn_once(
                    f"{', '.join(f'`{name}`' for name in idle)} {'does' if len(idle) == 1 else 'do'} nothing: "
                    f'`{unused.option}` names "{unused.value}", which is taken as it is. Leave out one of the two.'
                )
    return settings
