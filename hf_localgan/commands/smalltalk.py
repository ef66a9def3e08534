"""Writes the shipped corpus, small talk, as a data set: parquet files of three splits, and a card.

FOLDER is then read by `datasets.load_dataset`, and may be changed and used as `--dataset`. With `--push-to` the data
set is uploaded, too, by one commit.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder to write; files of the same names are replaced")
    parser.add_argument("--push-to", metavar="OWNER/NAME", help="data set on the Hub to upload it to")
    parser.add_argument("--private", action="store_true", help="make the data set private where it is new")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _write, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.private and args.push_to is None:
        parser.error("--private does nothing without an upload: add --push-to OWNER/NAME")
    return args


def _write(args: argparse.Namespace):
    from hf_localgan.hub.smalltalk import push_smalltalk, write_smalltalk

    print(f"written: {write_smalltalk(args.folder, args.push_to)}")
    if args.push_to is not None:
        push_smalltalk(args.push_to, private=True if args.private else None)
        print(f"uploaded to the data set {args.push_to}")
