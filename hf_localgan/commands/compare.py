"""Compares trained generators by what their evaluations left behind, over several seeds of each.

RUN is a folder with `evaluation.json`, `generations.parquet` and `query_scores.parquet`, as trainings and `evaluate`
write them. Runs whose names differ in an ending such as `-seed1` or `_s2` alone are seeds of one model; `--group` says
so for other names. Prints, as Markdown, each model's scores (mean, smallest and largest over its seeds), and for every
model against the first one the differences: of dialogue with a paired permutation test over queries, seed by seed; of
translations by a paired bootstrap of BLEU, seed by seed and over all seeds together; of speech by both tests of the
error rate, in points and in per cent of the first model's errors. Of dialogue with relevance each decoding is also held
against the first model's whole front (more relevant at equal diversity?), and runs that answered validation queries
while they were trained get the stability of their Ent-4. `--front` and `--stability` draw both.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser

FORM = argparse.RawDescriptionHelpFormatter


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=FORM)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folder of an evaluation")
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME=RUN,...", help="seeds of one model under other names"
    )
    parser.add_argument("--decodings", nargs="+", metavar="NAME", help='such as greedy "beam 5" (default: all)')
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="keys of evaluation.json (default: the usual)")
    parser.add_argument(
        "--permutations", type=int, default=1000, metavar="N", help="swaps of a permutation test (default: 1000)"
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="samples of a bootstrap (default: 1000)"
    )
    parser.add_argument("--output", metavar="FILE", help="write the Markdown there, too")
    parser.add_argument("--front", metavar="FILE", help="picture of the diversity-relevance fronts, of first seeds")
    parser.add_argument("--stability", metavar="FILE", help="picture of Ent-4 over the steps of all runs")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _compare)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if not args.runs and not args.group:
        parser.error("name at least one RUN, or a --group")
    for name in ("permutations", "resamples"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    return args


def _compare(args: argparse.Namespace):
    from hf_localgan.evaluation.comparison import compare_trained

    text = compare_trained(
        args.runs, groups=args.group, decodings=args.decodings, metrics=args.metrics, permutations=args.permutations,
        resamples=args.resamples, output=args.output, front=args.front, stability=args.stability,
    )  # fmt: skip
    print(text, end="")
