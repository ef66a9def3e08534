"""Trains all systems of the LocalGAN paper from the same start per seed, or its radial term in all its forms.

`reproduce table1` runs DAIM, AIM, LocalGAN, GAN-AEL, Adver-REGS, maximum likelihood at both widths and for as many more
updates, and MMI, each once: what is finished is skipped, what was interrupted goes on. Leaves in OUTPUT `table1.md` and
`.json` (Dist-1, Dist-2, Ent-4, Rel with their spread over seeds, Rel above the temperatures of maximum likelihood, the
order of the systems beside the paper's, samples), `front.png`, `entropy.png`, and all of it as one page, `table1.html`.

`reproduce radial` runs LocalGAN without its radial term and with it, by each gradient, vector of utterances and weight;
all are measured by one energy. Leaves in OUTPUT `radial.md` and `.json`: relevance at equal diversity, coverage and the
distance of radii, against the same training without the term.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hf_localgan.commands.default_files import default_file
from hf_localgan.commands.exits import ending

FORM = argparse.RawDescriptionHelpFormatter


def command_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=FORM, allow_abbrev=False)
    parser.add_argument(
        "table", choices=["table1", "radial"],
        help="what to reproduce: Table 1 and Figure 2, or an ablation of LocalGAN's radial term",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", default="smalltalk", metavar="DATA",
        help="a folder with the YAML files of a corpus, or the name of one in `recipes/` (default: smalltalk)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="seeds (default: 0)")
    parser.add_argument("--output", metavar="FOLDER", help="folder of all runs (default: runs/TABLE-DATA)")
    parser.add_argument(
        "--options", nargs="+", default=[], metavar="NAME=VALUE",
        help="settings that replace those of every system's file, such as use_cpu=true",
    )  # fmt: skip
    radial = parser.add_argument_group("radial", "what `reproduce radial` varies")
    radial.add_argument(
        "--poolings", nargs="+", choices=["mean", "sqrt", "distinct_sqrt"], default=["mean", "distinct_sqrt"],
        help="vectors of utterances; the energy of the last one measures all runs (default: mean distinct_sqrt)",
    )  # fmt: skip
    radial.add_argument(
        "--gradients", nargs="+", choices=["straight_through", "score"], default=["straight_through", "score"],
        help="gradients of the radial term (default: both)",
    )  # fmt: skip
    radial.add_argument(
        "--weights", nargs="+", type=float, default=[1.0, 10.0], metavar="W",
        help="weights of the radial term (default: 1 10)",
    )  # fmt: skip
    radial.add_argument(
        "--bodies", nargs="+", choices=["convolution", "boltzmann"], default=["convolution"],
        help="discriminators: convolutions, or the paper's, a copy of the energy (default: convolution)",
    )  # fmt: skip
    radial.add_argument(
        "--start", metavar="FOLDER", help="output of `reproduce table1`, whose generators are taken over"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="take 20 updates of everything, to see that it goes through"
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = command_parser(prog)
    return ending(parser.prog, lambda: (_read(parser, argv),), _work, argv)


def _read(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    args = parser.parse_args(argv)
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
    _radial(args) if args.table == "radial" else _table1(args)


def _radial(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.evaluation.radial_table import NONE, Arm, write_radial_table
    from hf_localgan.evaluation.runs import Run
    from hf_localgan.recipes.radial_ablation import Design, design_facts, radial_tasks
    from hf_localgan.recipes.reproduction import begin, run_tasks

    require_matplotlib()
    files = corpus_files(args.dataset)
    output, seeds = Path(args.output or f"runs/radial-{files.name}"), list(dict.fromkeys(args.seeds))
    varied = (args.poolings, args.gradients, args.weights, args.bodies)
    design = Design(*(tuple(dict.fromkeys(values)) for values in varied))
    start = None if args.start is None else Path(args.start)
    settings = {"start": start, "smoke": args.smoke, "options": args.options}
    tasks = [(seed, task) for seed in seeds for task in radial_tasks(files, output, seed, design, **settings)]
    plan = {"dataset": files.name, "smoke": args.smoke, "options": list(args.options), "seeds": seeds}
    plan["yardstick"] = design.yardstick
    begin(output, plan)  # the rest of the design may grow: what is finished stays
    run_tasks(tasks, lambda line: print(line, flush=True))
    arms = []
    for run in design.runs():
        term = NONE if run.gradient is None else f"{run.gradient}, {run.pooling}, weight {run.weight:g}"
        runs = [Run.read(output / f"seed{seed}" / run.folder) for seed in seeds]
        arms.append(Arm(run.discriminator, term, runs))
    title = f"The radial term on {files.name}, seeds {', '.join(map(str, seeds))}"
    title += " (first steps only)" if args.smoke else ""
    about = {**plan, "design": design_facts(design)}
    print("written:", ", ".join(map(str, write_radial_table(output, arms, title=title, about=about))))


def _table1(args: argparse.Namespace):
    from hf_localgan.evaluation.plots import require_matplotlib
    from hf_localgan.evaluation.runs import Run
    from hf_localgan.evaluation.systems import write_systems
    from hf_localgan.recipes.reproduction import SYSTEMS, begin, run_tasks, seed_tasks

    require_matplotlib()
    files = corpus_files(args.dataset)
    output, seeds = Path(args.output or f"runs/table1-{files.name}"), list(dict.fromkeys(args.seeds))
    tasks = [
        (seed, task)
        for seed in seeds
        for task in seed_tasks(files, output, seed, smoke=args.smoke, options=args.options)
    ]
    plan = {"dataset": files.name, "smoke": args.smoke, "options": list(args.options), "seeds": seeds}
    begin(output, plan)
    run_tasks(tasks, lambda line: print(line, flush=True))

    def runs(name: str) -> list[Run]:
        return [Run.read(output / f"seed{seed}" / name) for seed in seeds]

    systems = {
        "Seq2Seq": runs("daim/start"), "Seq2Seq, 512 units": runs("mle_512"), "Seq2Seq, longer": runs("mle_longer"),
        "Seq2Seq-MMI": runs("mmi"), **{SYSTEMS[name]: runs(name) for name in reversed(SYSTEMS)},
    }  # fmt: skip
    title = f"Table 1 on {files.name}, seeds {', '.join(map(str, seeds))}{' (first steps only)' if args.smoke else ''}"
    print("written:", ", ".join(map(str, write_systems(output, systems, title=title, about=plan))))
