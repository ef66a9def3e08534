"""What commands that are set by a YAML file and options have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hf_localgan.commands.exits import STOPPED, ending, told
from hf_localgan.recipes.parser import RecipeParser
from hf_localgan.trainers.dbm.divergence import DivergenceError


def default_file(name: str) -> Path:
    """The file of the shipped corpus that a training takes where none is named.

    Args:
        name: such as `mle`, of `recipes/smalltalk/mle.yaml`; in a wheel these files lie beside this module.
    """
    folder = Path(__file__).parent / "smalltalk"
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "recipes" / "smalltalk"
    return folder / f"{name}.yaml"


def training_parser(*kinds, default: str, description: str, prog: str | None) -> RecipeParser:
    """The parser of a training command.

    Args:
        kinds: dataclasses of its settings, those of the trainer last.
        default: of its default file, see `default_file`.
        description: of what it trains.
        prog: what it is called; by default the name of the script.
    """
    path = default_file(default)
    parser = RecipeParser(*kinds, default_config=path, description=description)
    parser.prog = prog or parser.prog
    parser.epilog += f"\nWithout CONFIG the settings are those of {path}."
    if parser.prog.startswith("hf-localgan "):
        command = parser.prog.replace("hf-localgan", "hf_localgan.cli", 1)
        parser.epilog += f"\nSeveral processes: accelerate launch --module {command} [CONFIG] [--field value ...]"
    return parser


def run(parser: RecipeParser, work: Callable[..., int | None], argv: Sequence[str] | None) -> int:
    """Reads the settings, works, and returns the exit code.

    Args:
        work: called with the dataclasses of the parser.
        argv: arguments of the command, by default those of the process.
    """

    def watched(*settings) -> int | None:
        try:
            return work(*settings)
        except DivergenceError as error:
            return told(parser.prog, error, STOPPED)

    return ending(parser.prog, lambda: parser.read(argv), watched)
