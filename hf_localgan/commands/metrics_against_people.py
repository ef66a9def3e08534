"""Correlates every metric of responses with people's scores of the same responses.

RESPONSES is a parquet file with a row per response: `system`, `response`, the context as `id` or `query`, people's
scores as numbers and, without --contexts, `references`. `annotate score` writes such a file, human_scores.parquet.
Writes metrics_against_people.json, .md and .png.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("responses", metavar="RESPONSES", help="parquet file of judged responses")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the results")
    data = parser.add_argument_group("data")
    data.add_argument("--contexts", metavar="FILE", help="parquet file with `id` (or `query`) and `references`")
    data.add_argument(
        "--human", metavar="COLUMN", nargs="+", help="people's scores (default: every column of decimal numbers)"
    )
    data.add_argument(
        "--drawn", metavar="SYSTEM", nargs="+",
        help="systems that draw from the references (default: those that repeat one in half of their responses)",
    )  # fmt: skip
    metrics = parser.add_argument_group("metrics")
    metrics.add_argument(
        "--word-vectors", metavar="FILE", help="word vectors for the embedding scores (default: no such scores)"
    )
    metrics.add_argument(
        "--tokenization", default="words", metavar="NAME",
        help="how metrics split text: words, characters, jieba or whitespace (default: words)",
    )  # fmt: skip
    metrics.add_argument("--cased", action="store_true", help="distinguish upper case from lower case")
    metrics.add_argument("--resamples", type=int, default=200, metavar="N", help="bootstrap samples (default: 200)")
    metrics.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    metrics.add_argument("--no-plots", action="store_true", help="leave out the picture, which needs matplotlib")
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _correlate, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.resamples < 1:
        parser.error(f"--resamples must be at least 1, got {args.resamples}")
    if not 0 <= args.seed < 2**32:
        parser.error(f"--seed must be from 0 to {2**32 - 1}, got {args.seed}")
    if args.tokenization not in ("words", "characters", "jieba", "whitespace"):
        parser.error(f"--tokenization must be words, characters, jieba or whitespace, got {args.tokenization}")
    return args


def _correlate(args: argparse.Namespace):
    from hf_localgan.annotation import correlate_metrics, read_judged_responses
    from hf_localgan.data import load_word_vectors
    from hf_localgan.evaluation import require_matplotlib

    if not args.no_plots:
        require_matplotlib()  # before the work
    judged = read_judged_responses(args.responses, args.contexts, args.human)
    vectors = load_word_vectors(args.word_vectors) if args.word_vectors else None
    worth = correlate_metrics(
        judged, vectors=vectors, tokenization=args.tokenization, lowercase=not args.cased, drawn=args.drawn,
        resamples=args.resamples, seed=args.seed,
    )  # fmt: skip
    files = worth.write(args.output, plots=not args.no_plots)
    print(worth.to_markdown())
    print("written:", ", ".join(str(path) for path in files))
