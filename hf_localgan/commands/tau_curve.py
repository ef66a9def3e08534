"""Draws BLEU, or the error rate of speech, against the temperature of RAML, from runs that have finished.

RUNS_FOLDER holds the output folders of `train-raml` and of `train-mle`, or those of `train-speech`. Runs by maximum
likelihood are the baseline: a line with a band from its smallest to its largest seed; those with label smoothing are a
rival of their own. Writes the picture and prints the numbers as a Markdown table, which goes beside
the picture, too. Temperatures of different payoffs cannot be compared, but edits per token can: `--against edit_rate`
draws all curves over these.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser

FORM = argparse.RawDescriptionHelpFormatter


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=FORM)
    parser.add_argument("runs", metavar="RUNS_FOLDER", help="folder of the output folders of trainings")
    parser.add_argument(
        "--output", metavar="PNG", default="tau_curve.png", help="file of the picture (default: tau_curve.png)"
    )
    parser.add_argument(
        "--against", choices=("temperature", "edit_rate"), default="temperature",
        help="what the curve is drawn over (default: temperature)",
    )  # fmt: skip
    parser.add_argument("--decoding", metavar="NAME", help='such as greedy (default: the last one, "beam 8")')
    parser.add_argument(
        "--evaluation", metavar="NAME", help="test scores of RUN/evaluation/NAME, as `evaluate` writes them"
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (parser.parse_args(argv),), _draw)


def _draw(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.recipes.temperature_curve import draw_temperature_curve

    require_matplotlib()
    table = draw_temperature_curve(
        args.runs, args.output, against=args.against, decoding=args.decoding, evaluation=args.evaluation
    )
    print(table, end="")
