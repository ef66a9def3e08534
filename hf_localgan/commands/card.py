"""Writes the model card, `README.md`, of a training's output folder or checkpoint anew, from the files in the folder.

Options win over the settings of the training. The old card is replaced whole.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="output folder or checkpoint of a training of this package")
    about = parser.add_argument_group("facts of the card")
    about.add_argument("--repo-id", metavar="OWNER/NAME", help="id in the example code (default: the run's)")
    about.add_argument(
        "--license", metavar="ID", help="licence by its id on the Hub, such as cc0-1.0 (default: the run's)"
    )
    about.add_argument("--language", metavar="CODE", nargs="+", help="languages, such as en (default: the run's)")
    about.add_argument("--dataset", metavar="ID", nargs="+", help="ids on the Hub of the training data")
    about.add_argument("--base-model", metavar="ID", help="id on the Hub of the model that the training began with")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (parser.parse_args(argv),), _write, argv)


def _write(args: argparse.Namespace):
    from hf_localgan.trainers.base.cards import card_of_folder

    path = card_of_folder(
        args.folder, repo_id=args.repo_id, license=args.license, language=args.language, datasets=args.dataset,
        base_model=args.base_model,
    )  # fmt: skip
    print(f"written: {path}")
