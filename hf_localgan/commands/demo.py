"""Serves a local page on which generators answer the same query side by side, until Ctrl-C.

Needs `pip install "hf-localgan[demo]"`. Nobody but this machine reaches the page unless `--host` says otherwise.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("models", metavar="MODEL", nargs="+", help="folders or ids on the Hub of generators")
    answers = parser.add_argument_group("answers and references")
    answers.add_argument(
        "--energy", metavar="MODEL", help="energy that measures radii (default: the one that a model has beside it)"
    )
    answers.add_argument("--dataset", metavar="NAME", help="of the references (default: that of the evaluation)")
    answers.add_argument("--split", metavar="NAME", help="of the data set (default: that of the evaluation, or test)")
    answers.add_argument(
        "--reference-queries", type=int, default=1000, metavar="N",
        help="queries whose references are looked at (default: 1000)",
    )  # fmt: skip
    answers.add_argument(
        "--decodings", nargs="+", default=[], metavar="NAME",
        help='further ways of decoding that the page offers, such as "beam 20"',
    )  # fmt: skip
    page = parser.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    page.add_argument("--port", type=int, default=7860, help="(default: 7860)")
    page.add_argument("--open-browser", action="store_true", help="open the page in a browser")
    loading = parser.add_argument_group("loading")
    loading.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU where there is one)")
    loading.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    return ending(parser.prog, lambda: (_read(parser, argv),), _launch)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.reference_queries < 1:
        parser.error(f"--reference-queries must be at least 1, got {args.reference_queries}")
    if not 0 <= args.port < 2**16:
        parser.error(f"--port must be from 0 to 65535, got {args.port}")
    return args


def _launch(args: argparse.Namespace):
    from hf_localgan.demo import launch

    launch(**vars(args))
