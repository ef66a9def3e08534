"""Reproduces tables: all systems of the LocalGAN paper, its radial term in all its forms, RAML against its rivals.

`reproduce table1` runs DAIM, AIM, LocalGAN, GAN-AEL, Adver-REGS with and without shuffled rewards, maximum likelihood
at both widths and for as many more updates, at a falling and at a constant rate, and MMI, each once: what is finished
is skipped, what was interrupted goes on. Leaves in OUTPUT `table1.md` and
`.json` (Dist-1, Dist-2, Ent-4, Rel with their spread over seeds, Rel above the temperatures of maximum likelihood, the
order of the systems beside the paper's, samples), `front.png`, `entropy.png`, and all of it as one page, `table1.html`.

`reproduce radial` runs LocalGAN without its radial term and with it, by each gradient, vector of utterances and weight;
all are measured by one energy, after equally many updates. Leaves in OUTPUT `radial.md` and `.json`: relevance at equal
diversity, coverage and the distance of radii, against the same training without the term. What other designs left in
OUTPUT stands in the table, too.

`reproduce raml` runs RAML's payoffs against maximum likelihood and label smoothing on a corpus of translations: every
edit rate with the first seed, then of each system the rate with the highest dev BLEU of the tuned beam with the other
seeds. Checkpoints are averaged. Leaves `raml.md` and `raml.json` (BLEU with intervals, paired tests) in OUTPUT.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_localgan.commands.default_files import default_file
from hf_localgan.commands.exits import ending
from hf_localgan.options import CommandParser

FORM = argparse.RawDescriptionHelpFormatter
# Options that one table alone has, with what stands for those that are not given; None where its parts know better.
OWN: dict[str, dict[str, Any]] = {
    "radial": {
        "poolings": ["mean", "distinct_sqrt"], "gradients": ["straight_through", "score"], "weights": [0.3, 1.0],
        "bodies": ["convolution"], "start": None,
    },
    "raml": {"systems": None, "edit_rates": None},
}  # fmt: skip


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description=__doc__, formatter_class=FORM)
    parser.add_argument(
        "table", choices=["table1", "radial", "raml"],
        help="what to reproduce: LocalGAN's Table 1 and Figure 2, an ablation of its radial term, or RAML's gain",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", metavar="DATA",
        help="a folder with the YAML files of a corpus, or the name of one in `recipes/` (default: smalltalk, and "
        "multi30k_en_fr for raml)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="seeds (default: 0)")
    parser.add_argument("--output", metavar="FOLDER", help="folder of all runs (default: runs/TABLE-DATA)")
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="NAME=VALUE",
        help="settings that replace those of every system's file, such as use_cpu=true",
    )  # fmt: skip
    parser.add_argument(
        "--mle_options", nargs="+", default=[], metavar="NAME=VALUE",
        help="settings that replace those of mle.yaml in every training by it, such as learning_rate=2e-3 (raml has "
        "them in its --options)",
    )  # fmt: skip
    parser.add_argument(
        "--smoke", action="store_true", help="take 20 updates of everything, to see that it goes through"
    )
    radial = parser.add_argument_group("radial", "what `reproduce radial` varies")
    radial.add_argument(
        "--poolings", nargs="+", choices=["mean", "sqrt", "distinct_sqrt"],
        help="vectors of utterances; the energy of the last one measures all runs (default: mean distinct_sqrt)",
    )  # fmt: skip
    radial.add_argument(
        "--gradients", nargs="+", choices=["straight_through", "score"],
        help="gradients of the radial term (default: both)",
    )  # fmt: skip
    radial.add_argument(
        "--weights", nargs="+", type=float, metavar="W",
        help="weights of the radial term (default: 0.3 1)",
    )  # fmt: skip
    radial.add_argument(
        "--bodies", nargs="+", choices=["convolution", "boltzmann"],
        help="discriminators: convolutions, or the paper's, a copy of the energy (default: convolution)",
    )  # fmt: skip
    radial.add_argument(
        "--start", metavar="FOLDER", help="output of `reproduce table1`, whose generators are taken over"
    )
    raml = parser.add_argument_group("raml", "what `reproduce raml` varies")
    raml.add_argument(
        "--systems", nargs="+", metavar="NAME", help="files of the corpus, such as raml_hamming (default: all)"
    )
    raml.add_argument(
        "--edit_rates", type=float, nargs="+", metavar="RATE",
        help="edits per token to try with the first seed (default: 0.005 0.01 0.02 0.05)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _work, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
    for table, options in OWN.items():
        for name, value in options.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
            elif args.table != table:
                parser.error(f"--{name} is for {table}, not for {args.table}")
    if args.mle_options and args.table == "raml":
        parser.error("--mle_options is for table1 and radial; for raml --options holds for every system")
    if args.mle_options and args.start is not None:
        parser.error("--mle_options is for a generator that is trained, and --start takes one over; leave one out")
    args.dataset = args.dataset or ("multi30k_en_fr" if args.table == "raml" else "smalltalk")
    for seed in args.seeds:
        if not 0 <= seed < 2**32:
            parser.error(f"--seeds must be from 0 to {2**32 - 1}, got {seed}")
    return args


def corpus_files(dataset: str) -> Path:
    """The folder of a corpus's YAML files.

    Args:
        dataset: a folder, or the name of one beside the shipped corpus's.
    """
    if Path(dataset).is_dir():
        return Path(dataset)
    return default_file("mle").parent.parent / dataset


def _work(args: argparse.Namespace):
    {"table1": _table1, "radial": _radial, "raml": _raml}[args.table](args)


def _radial(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.evaluation.radial_table import Arm, write_radial_table
    from hf_localgan.evaluation.runs import Run
    from hf_localgan.recipes.radial_ablation import Design, finished_runs, radial_tasks
    from hf_localgan.recipes.reproduction import begin, run_tasks

    require_matplotlib()
    files = corpus_files(args.dataset)
    output, seeds = Path(args.output or f"runs/radial-{files.name}"), list(dict.fromkeys(args.seeds))
    varied = (args.poolings, args.gradients, args.weights, args.bodies)
    design = Design(*(tuple(dict.fromkeys(values)) for values in varied))
    start = None if args.start is None else Path(args.start)
    settings = {"start": start, "smoke": args.smoke, "options": args.options, "mle_options": args.mle_options}
    tasks = [(seed, task) for seed in seeds for task in radial_tasks(files, output, seed, design, **settings)]
    plan = {"dataset": files.name, "smoke": args.smoke, "options": list(args.options), "seeds": seeds}
    plan |= {"yardstick": design.yardstick, "start": None if start is None else str(start)}
    plan |= {"mle_options": list(args.mle_options)} if args.mle_options else {}
    begin(output, plan)  # the rest of the design may grow: what is finished stays
    run_tasks(tasks, lambda line: print(line, flush=True))
    arms = []
    for run in finished_runs(output, seeds, design):
        runs = [Run.read(output / f"seed{seed}" / run.folder) for seed in seeds]
        arms.append(Arm(run.discriminator, run.term, runs))
    title = f"The radial term on {files.name}, seeds {', '.join(map(str, seeds))}"
    title += " (first steps only)" if args.smoke else ""
    print("written:", ", ".join(map(str, write_radial_table(output, arms, title=title, about=plan))))


def _raml(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.evaluation.raml_table import write_raml_table
    from hf_localgan.evaluation.runs import Run
    from hf_localgan.recipes.raml_grid import MLE, RATES, SMOOTHING, SYSTEMS, best_cells, cell_task, grid_cells
    from hf_localgan.recipes.reproduction import begin, run_tasks

    require_matplotlib()
    files = corpus_files(args.dataset)
    output, (first, *others) = Path(args.output or f"runs/raml-{files.name}"), list(dict.fromkeys(args.seeds))
    cells = grid_cells(args.systems or list(SYSTEMS), args.edit_rates or RATES)
    tasks = [(first, cell_task(files, output, cell, first, smoke=args.smoke, options=args.options)) for cell in cells]
    # Systems and rates may be added later, and more seeds; the first seed chooses and must stay the first.
    plan = {"dataset": files.name, "smoke": args.smoke, "options": list(args.options), "first_seed": first}
    begin(output, {**plan, "seeds": [first, *others]})

    def tell(line: str):
        print(line, flush=True)

    run_tasks(tasks, tell)
    best, chosen_by = best_cells(output, cells, first)
    more = [
        (seed, cell_task(files, output, cell, seed, smoke=args.smoke, options=args.options))
        for seed in others
        for cell in best
    ]
    if more:
        tell(f"chosen by {chosen_by}: {', '.join(cell.name for cell in best)}")
        run_tasks(more, tell)

    def runs(cell) -> list[Run]:
        seeds = [first, *others] if cell in best else [first]
        return [Run.read(output / f"{cell.name}-seed{seed}") for seed in seeds]

    def named(cell) -> str:
        return SYSTEMS[cell.system] if cell.rate is None else f"{SYSTEMS[cell.system]}, {cell.rate:g}"

    systems = {named(cell): runs(cell) for cell in cells}
    rivals = [named(cell) for cell in best if cell.system in (MLE, SMOOTHING)]
    title = f"RAML on {files.name}, seeds {', '.join(map(str, [first, *others]))}"
    title += " (first steps only)" if args.smoke else ""
    about = {**plan, "chosen": [cell.name for cell in best]}
    written = write_raml_table(output, systems, rivals, title=title, about=about, chosen_by=chosen_by)
    print("written:", ", ".join(map(str, written)))


def _table1(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.evaluation.runs import Run
    from hf_localgan.evaluation.systems import write_systems
    from hf_localgan.recipes.reproduction import SHUFFLED, SYSTEMS, begin, run_tasks, seed_tasks

    require_matplotlib()
    files = corpus_files(args.dataset)
    output, seeds = Path(args.output or f"runs/table1-{files.name}"), list(dict.fromkeys(args.seeds))
    tasks = [
        (seed, task)
        for seed in seeds
        for task in seed_tasks(
            files, output, seed, smoke=args.smoke, options=args.options, mle_options=args.mle_options
        )
    ]
    plan = {"dataset": files.name, "smoke": args.smoke, "options": list(args.options), "seeds": seeds}
    plan |= {"mle_options": list(args.mle_options)} if args.mle_options else {}
    begin(output, plan)
    run_tasks(tasks, lambda line: print(line, flush=True))

    def runs(name: str) -> list[Run]:
        return [Run.read(output / f"seed{seed}" / name) for seed in seeds]

    systems = {
        "Seq2Seq": runs("daim/start"), "Seq2Seq, 512 units": runs("mle_512"), "Seq2Seq, longer": runs("mle_longer"),
        "Seq2Seq, constant rate": runs("mle_constant"), "Seq2Seq-MMI": runs("mmi"),
        "Adver-REGS, shuffled rewards": runs(SHUFFLED), **{SYSTEMS[name]: runs(name) for name in reversed(SYSTEMS)},
    }  # fmt: skip
    fronts = {"Seq2Seq": runs("start_front"), "Seq2Seq, longer": runs("longer_front")}
    title = f"Table 1 on {files.name}, seeds {', '.join(map(str, seeds))}{' (first steps only)' if args.smoke else ''}"
    print("written:", ", ".join(map(str, write_systems(output, systems, title=title, about=plan, fronts=fronts))))
