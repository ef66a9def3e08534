"""Writes the model card, `README.md`, of a training's output folder or checkpoint anew, from what lies in the folder.

Options win over what the training was told. The old card is replaced whole.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", metavar="FOLDER", help="what a training of this package has left")
    about = parser.add_argument_group("what the card says")
    about.add_argument("--repo-id", metavar="OWNER/NAME", help="by which its code loads the model (default: the run's)")
    about.add_argument("--license", metavar="ID", help="of the Hub, such as cc0-1.0 (default: the run's)")
    about.add_argument("--language", metavar="CODE", nargs="+", help="such as en (default: the run's)")
    about.add_argument("--dataset", metavar="ID", nargs="+", help="ids on the Hub of what it was trained on")
    about.add_argument("--base-model", metavar="ID", help="id on the Hub of what the training began with")
    return ending(parser.prog, lambda: (parser.parse_args(argv),), _write)


def _write(args: argparse.Namespace):
    from hf_localgan.trainers.base.cards import card_of_folder

    path = card_of_folder(
        args.folder, repo_id=args.repo_id, license=args.license, language=args.language, datasets=args.dataset,
        base_model=args.base_model,
    )  # fmt: skip
    print(f"written: {path}")
