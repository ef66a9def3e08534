"""Serves a local page on which generators answer the same query side by side, until Ctrl-C.

Needs `pip install "hf-localgan[demo]"`. Only this machine can reach the page unless `--host` names another address.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import announce, ending
from hf_localgan.options import CommandParser


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="+", help="folders or ids on the Hub of generators")
    answers = parser.add_argument_group("answers and references")
    answers.add_argument(
        "--energy", metavar="MODEL", help="energy that measures radii (default: the one beside a model)"
    )
    answers.add_argument("--dataset", metavar="NAME", help="data set of the references (default: the evaluation's)")
    answers.add_argument("--split", metavar="NAME", help="split of the data set (default: the evaluation's, or test)")
    answers.add_argument(
        "--reference-queries", type=int, default=1000, metavar="N",
        help="number of queries whose references are measured (default: 1000)",
    )  # fmt: skip
    answers.add_argument(
        "--decodings", nargs="+", default=[], metavar="NAME",
        help='further decodings on the page, such as "beam 20"',
    )  # fmt: skip
    page = parser.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    page.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    page.add_argument("--open-browser", action="store_true", help="open the page in a browser")
    loading = parser.add_argument_group("loading")
    loading.add_argument("--device", help="device, such as cpu or cuda:0 (default: a GPU if there is one)")
    loading.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _launch, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.reference_queries < 1:
        parser.error(f"--reference-queries must be at least 1, got {args.reference_queries}")
    if not 0 <= args.port < 2**16:
        parser.error(f"--port must be from 0 to 65535, got {args.port}")
    announce(parser.prog, "loading models and the page")
    return args


def _launch(args: argparse.Namespace):
    from hf_localgan.demo import launch

    launch(**vars(args))
