"""Human judgement of responses: blinded sheets for several people, a page to fill them in, scores and tests.

Needs `pip install "hf-localgan[annotation]"`.
"""

import argparse
from collections.abc import Sequence

from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser

FORM = argparse.RawDescriptionHelpFormatter


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=FORM)
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True, title="steps")
    for add in (_add_export, _add_serve, _add_score, _add_power):
        add(steps)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), lambda args: args.work(args), argv)


def _add_export(steps):
    step = steps.add_parser(
        "export", help="draw queries and write a blinded sheet for every person", formatter_class=FORM,
        description="Draws queries that several evaluations answered, and writes a blinded sheet for every person.",
        allow_abbrev=False,
    )  # fmt: skip
    step.add_argument("output", metavar="OUTPUT", help="folder to write, new or empty")
    step.add_argument(
        "--runs", metavar="RUN", nargs="+", required=True,
        help="folders of evaluations, or NAME=FOLDER; the first is compared with the others",
    )  # fmt: skip
    step.add_argument(
        "--decodings", metavar="NAME", nargs="+", default=["greedy"],
        help="one decoding for all runs or one for each (default: greedy)",
    )  # fmt: skip
    step.add_argument("--queries", type=int, default=500, metavar="N", help="number of queries to draw (default: 500)")
    step.add_argument("--annotators", type=int, default=5, metavar="K", help="number of people (default: 5)")
    step.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    step.add_argument(
        "--question", dest="questions", metavar="NAME=TEXT", action="append", default=[],
        help="a yes-or-no question, given once for each (default: relevance and informativeness)",
    )  # fmt: skip
    added = step.add_argument_group("further responses to judge")
    added.add_argument(
        "--reference-share", type=float, default=1.0, metavar="SHARE",
        help="share of the queries with one of their references (default: 1)",
    )  # fmt: skip
    added.add_argument(
        "--control-share", type=float, default=0.1, metavar="SHARE",
        help="share of the queries with another query's reference (default: 0.1)",
    )  # fmt: skip
    added.add_argument(
        "--repeat-share", type=float, default=0.05, metavar="SHARE",
        help="share of the responses that a person sees twice (default: 0.05)",
    )  # fmt: skip
    step.set_defaults(work=_export, parser=step)


def _add_serve(steps):
    step = steps.add_parser(
        "serve", help="fill in one sheet on a local page", formatter_class=FORM,
        description="Serves a page on which one person fills in one sheet, until Ctrl-C. Keys: 1 for yes, 0 for no, "
        "arrows to\ngo back and on. Every answer is saved in the sheet at once.",
    )  # fmt: skip
    step.add_argument("sheet", metavar="SHEET", help="a sheet as .csv; answers are written into it")
    step.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    step.add_argument("--port", type=int, default=7861, help="port to listen on, 0 for any (default: 7861)")
    step.add_argument("--open-browser", action="store_true", help="open the page in a browser")
    step.set_defaults(work=_serve, parser=step)


def _add_score(steps):
    step = steps.add_parser(
        "score", help="read filled sheets and write scores, tests and agreement", formatter_class=FORM,
        description="Reads filled sheets with their key. Writes annotation.json, annotation.md and "
        "human_scores.parquet.",
        allow_abbrev=False,
    )  # fmt: skip
    step.add_argument("folder", metavar="FOLDER", help="folder that `annotate export` wrote, with key.json")
    step.add_argument(
        "sheets", metavar="SHEET", nargs="*",
        help="filled sheets as .csv or .xlsx (default: those in FOLDER/sheets that hold an answer)",
    )  # fmt: skip
    step.add_argument("--output", metavar="FOLDER", help="folder of the results (default: FOLDER)")
    step.add_argument("--against", metavar="NAME", help="system compared with every other (default: the first)")
    step.add_argument("--all-pairs", action="store_true", help="compare all pairs of systems")
    step.add_argument("--resamples", type=int, default=1000, metavar="N", help="bootstrap samples (default: 1000)")
    step.add_argument(
        "--permutations", type=int, default=9999, metavar="N", help="permutations per test (default: 9999)"
    )
    step.add_argument("--seed", type=int, default=0, help="seed of both (default: 0)")
    step.set_defaults(work=_score, parser=step)


def _add_power(steps):
    step = steps.add_parser(
        "power", help="print how many queries and people a difference needs", formatter_class=FORM,
        description="Prints how many queries and people the difference of two shares of yes needs.",
        allow_abbrev=False,
    )  # fmt: skip
    step.add_argument("rates", metavar="RATE", nargs=2, type=float, help="shares of yes of two systems, from 0 to 1")
    step.add_argument("--kappa", type=float, default=0.6, help="Fleiss' kappa to expect (default: 0.6)")
    step.add_argument(
        "--correlation", type=float, default=0.0, metavar="R",
        help="correlation over queries of the two systems' shares (default: 0)",
    )  # fmt: skip
    step.add_argument(
        "--queries", type=int, nargs="+", default=[250, 500, 1000, 2000], metavar="N",
        help="numbers of queries to show (default: 250 500 1000 2000)",
    )  # fmt: skip
    step.add_argument(
        "--people", type=int, nargs="+", default=[1, 3, 5, 10], metavar="K",
        help="numbers of people to show (default: 1 3 5 10)",
    )  # fmt: skip
    step.add_argument("--target", type=float, default=0.8, metavar="P", help="wanted power of the test (default: 0.8)")
    step.add_argument("--alpha", type=float, default=0.05, metavar="P", help="level of the test (default: 0.05)")
    step.add_argument(
        "--comparisons", type=int, default=1, metavar="M",
        help="comparisons that Holm's method corrects for; the level is that of its first step (default: 1)",
    )  # fmt: skip
    step.set_defaults(work=_power, parser=step)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    for name in ("queries", "annotators", "people", "comparisons", "resamples", "permutations"):
        values = getattr(args, name, 1)
        for value in values if isinstance(values, list) else [values]:
            if value < 1:
                args.parser.error(f"--{name} must be at least 1, got {value}")
    for name in ("reference_share", "control_share", "repeat_share"):
        if not 0 <= getattr(args, name, 0) <= 1:
            args.parser.error(f"--{name.replace('_', '-')} must be from 0 to 1, got {getattr(args, name)}")
    for name, option in (("rates", "RATE"), ("target", "--target"), ("alpha", "--alpha")):
        values = getattr(args, name, [])
        for value in values if isinstance(values, list) else [values]:
            if not 0 < value < 1:
                args.parser.error(f"{option} must lie between 0 and 1, got {value}")
    if not 0 <= getattr(args, "kappa", 0) <= 1:
        args.parser.error(f"--kappa must be from 0 to 1, got {args.kappa}")
    if not -1 <= getattr(args, "correlation", 0) <= 1:
        args.parser.error(f"--correlation must be from -1 to 1, got {args.correlation}")
    if hasattr(args, "target") and args.target <= args.alpha:
        args.parser.error(f"--target must be above --alpha, got {args.target} and {args.alpha}")
    if not 0 <= getattr(args, "seed", 0) < 2**32:
        args.parser.error(f"--seed must be from 0 to {2**32 - 1}, got {args.seed}")
    if not 0 <= getattr(args, "port", 0) < 2**16:
        args.parser.error(f"--port must be from 0 to 65535, got {args.port}")
    if any("=" not in text for text in getattr(args, "questions", ())):
        args.parser.error("--question is written NAME=TEXT")
    if getattr(args, "all_pairs", False) and args.against is not None:
        args.parser.error("--all-pairs compares all systems: leave --against out")
    return args


def _export(args: argparse.Namespace):
    from hf_localgan.annotation import QUESTIONS, Question, make_study, read_systems

    questions = [text.partition("=") for text in args.questions]
    queries, references, systems = read_systems(args.runs, args.decodings)
    study = make_study(
        queries, references, systems, query_count=args.queries, annotators=args.annotators, seed=args.seed,
        questions=[Question(name, text) for name, _, text in questions] or QUESTIONS,
        reference_share=args.reference_share, control_share=args.control_share, repeat_share=args.repeat_share,
    )  # fmt: skip
    key, *sheets = study.write(args.output)
    rows = len(next(iter(study.sheets.values())))
    print(f"written: {len(sheets)} sheets of {rows} rows in {sheets[0].parent}; keep {key} to yourself")


def _serve(args: argparse.Namespace):
    from hf_localgan.annotation import serve_sheet

    serve_sheet(args.sheet, host=args.host, port=args.port, open_browser=args.open_browser)


def _score(args: argparse.Namespace):
    from hf_localgan.annotation import read_judgements, score_judgements

    report = score_judgements(
        read_judgements(args.folder, args.sheets), against=args.against, all_pairs=args.all_pairs,
        resamples=args.resamples, permutations=args.permutations, seed=args.seed,
    )  # fmt: skip
    files = report.write(args.output or args.folder)
    print(report.to_markdown())
    print("written:", ", ".join(str(path) for path in files))


def _power(args: argparse.Namespace):
    from hf_localgan.annotation import planned_variance, power_table

    first, second = args.rates
    variance = planned_variance(first, second, args.kappa, args.correlation)
    table = power_table(
        first - second, variance, args.queries, args.people, target=args.target,
        alpha=args.alpha / args.comparisons,
    )  # fmt: skip
    print(table)
