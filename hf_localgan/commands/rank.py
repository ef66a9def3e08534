"""Ranks responses to a query by an energy or by the discriminator, best first.

MODEL is the folder or Hub id of an energy or a discriminator, or of a generator that has one beside it. RESPONSES are
texts; without any they are lines of standard input. Prints a line for each: its rank, its scores, the text.
"""

import argparse
import sys
from collections.abc import Sequence

from hf_localgan.commands.exits import announce, ending
from hf_localgan.options import CommandParser

FORM = argparse.RawDescriptionHelpFormatter


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=FORM)
    parser.add_argument("model", metavar="MODEL", help="folder or id on the Hub")
    parser.add_argument("query", metavar="QUERY", help="the text that the responses answer")
    parser.add_argument("responses", metavar="RESPONSE", nargs="*", help="responses (default: lines of standard input)")
    parser.add_argument(
        "--by", choices=("difference", "free_energy", "radius", "discriminator"), default="difference",
        help="difference: how much likelier the response is because of the query; free_energy: also low for responses "
        "that are common after any query; radius: distance from the centre of the query's responses; discriminator: "
        "its logit (default: difference)",
    )  # fmt: skip
    parser.add_argument("--device", help="device, such as cpu or cuda:0 (default: a GPU if there is one)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _rank)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if not args.responses:
        args.responses = [line.strip() for line in sys.stdin if line.strip()]
    if not args.responses:
        parser.error("give at least one RESPONSE, or a line on standard input")
    announce(parser.prog, f"loading {args.model}")
    return args


def _rank(args: argparse.Namespace):
    from rich.console import Console

    from hf_localgan.recipes.ranking import rank_table

    Console(soft_wrap=True).print(rank_table(args.model, args.query, args.responses, by=args.by, device=args.device))
