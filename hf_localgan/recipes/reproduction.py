"""Runs of all systems from the same start per seed: what each needs, in which order, each once."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from hf_localgan.files import replacing
from hf_localgan.recipes.run_record import check_record, is_begun, write_record
from hf_localgan.recipes.settings.data import DataArguments
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.recipes.settings.stages import StageArguments
from hf_localgan.trainers.base.lineage import last_checkpoint

PLAN = "plan.json"
COLLAPSED = 3  # exit code of a training whose answers collapsed: a result, not a failure
DECODINGS = ("--decodings", "greedy", "--beams", "5", "--temperatures", "0.5", "0.7", "1.0")
# The front of maximum likelihood, which every system is compared with at equal diversity, has more points than a row.
FRONT = (
    "--decodings", "greedy", "--beams", "2", "3", "5",
    "--temperatures", "0.25", "0.35", "0.5", "0.7", "0.85", "1.0", "1.2",
)  # fmt: skip
TUNE_QUERIES = 300  # validation queries on which the numbers of MMI are chosen
# Trainings without stages, which do not resume by themselves.
RESUMED = ("train-mle", "train-raml", "train-dbm", "train-matching")
SYSTEMS = {"daim": "DAIM", "aim": "AIM", "localgan": "LocalGAN", "gan_ael": "GAN-AEL", "adver_regs": "Adver-REGS"}
SHUFFLED = "adver_regs_shuffled"  # the control whose rewards say nothing of the response
FILES = ("mle", "matching", "dbm", *SYSTEMS)
# First steps of everything, to see that the whole goes through.
SMOKE = {
    "system": [
        "max_steps=20", "discriminator_warmup_steps=4", "eval_steps=8", "save_steps=8", "logging_steps=4",
        "monitor_queries=20", "per_device_train_batch_size=16",
    ],
    "stage": [
        "max_steps=20", "per_device_train_batch_size=16", "eval_strategy=steps", "eval_steps=20", "save_strategy=steps",
        "save_steps=20",
    ],
    "scores": ["max_test_queries=40", "resamples=10", "metric_vector_size=20", "temperatures=[0.5, 1.0]"],
    "tuning": ["tune_queries=8"],
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        name: of its folder and of its file of printed lines.
        words: of the command `hf-localgan`.
        output: the folder that it writes to.
        finished: the file that is there when it has ended.
    """

    name: str
    words: tuple[str, ...]
    output: Path
    finished: Path


def seed_tasks(
    files: Path,
    output: Path,
    seed: int,
    *,
    smoke: bool,
    options: Sequence[str] = (),
    mle_options: Sequence[str] = (),
) -> list[Task]:
    """The runs of one seed, in the order in which each finds what it needs.

    DAIM is the first, for its stages make both generators and what compares; every other system starts from its
    generator. LocalGAN makes the energy, and the discriminator that GAN-AEL and Adver-REGS take; where their files name
    another `discriminator_config`, GAN-AEL makes one of its own for both. Then come

    * Adver-REGS with its rewards shuffled over the batch;
    * a language model of the responses, which the generator becomes by an epoch without queries, and MMI, a way of
      decoding with numbers chosen on the validation split;
    * maximum likelihood with 512 units, and for as many more updates, at a rate that falls and at a constant one;
    * the fronts of the generator and of its longer training.

    Args:
        files: folder of the YAML files of a corpus, one for each of `FILES`.
        output: of all seeds.
        seed: of this one.
        smoke: first steps only.
        options: `name=value`, which replace settings of every system's file; those of data and evaluation hold for
            maximum likelihood and MMI, too.
        mle_options: `name=value`, which replace settings of every training by `mle.yaml`.

    Raises:
        ValueError: for a file that is not there.
    """
    missing = [name for name in FILES if not (files / f"{name}.yaml").is_file()]
    if missing:
        raise ValueError(
            f'"{files}" has no {", ".join(f"{name}.yaml" for name in missing)}. Name a folder with a file for each of '
            f"{', '.join(FILES)}."
        )
    place, tasks = output / f"seed{seed}", []
    shared = ["--seed", str(seed), "--disable_tqdm", "true"]
    scores = option_words(*SMOKE["scores"]) if smoke else []
    stages = place / "daim" / "stages"
    given = {
        "daim": (),
        "aim": ("generator", "discriminator", "backward"),
        "localgan": ("generator",),
        "gan_ael": ("generator", "discriminator"),
        "adver_regs": ("generator", "discriminator"),
    }
    folders = {"generator": stages / "mle", "backward": stages / "backward", "discriminator": stages / "discriminator"}
    # Whose discriminator GAN-AEL and Adver-REGS begin with: one of their own where their files say so.
    shares = len({_discriminator_file(files / f"{name}.yaml") for name in ("localgan", "gan_ael")}) == 1
    judge = "localgan" if shares else "gan_ael"
    for name in (*SYSTEMS, SHUFFLED):
        folder, name = place / name, name.removesuffix("_shuffled")
        words = [f"train-{name.replace('_', '-')}", str(files / f"{name}.yaml"), "--output_dir", str(folder)]
        words += shared + list(DECODINGS) + scores
        # A collapse is a row, and the curve goes on: nothing stops it.
        words += ["--collapse_share", "1.0", "--collapse_length", "1000000"]
        words += option_words(*SMOKE["system"]) if smoke else []
        for stage in ("mle", "energy", "discriminator", "backward"):
            by_likelihood = stage in ("mle", "backward")
            stage_options = [*mle_options] if by_likelihood else []
            if smoke:
                stage_options += [*SMOKE["stage"], *(SMOKE["scores"] if by_likelihood else ())]
                if stage == "energy":
                    stage_options += ["ais_temperatures=10", "ais_chains=5", "resamples=5"]
            words += [f"--{stage}_options", *stage_options] if stage_options and _has(name, stage) else []
        words += option_words(*options)
        for part in given[name]:
            found = folders[part]
            if part == "discriminator" and name in ("gan_ael", "adver_regs"):  # no cosines, so not those of DAIM
                if name == judge:
                    words += [f"--{part}_options", *SMOKE["stage"]] if smoke else []
                    continue
                found = place / judge / "stages" / part
            words += [f"--{part}", str(found)]
        words += ["--shuffle_rewards", "true"] if folder.name == SHUFFLED else []
        tasks.append(Task(folder.name, tuple(words), folder, folder / "stages" / "adversarial" / "finished.json"))

    asked, answered = _shared_settings(files / "localgan.yaml", options)
    data = option_words(*asked, *answered)
    smoke_steps = option_words(*SMOKE["stage"]) if smoke else []
    likelihood = ["train-mle", str(files / "mle.yaml"), *option_words(*mle_options)]
    language = [*likelihood, "--output_dir", str(place / "language"), *shared, *scores]
    language += ["--generator", str(stages / "mle"), "--source_dropout", "1", "--num_train_epochs", "1"]
    language += [*option_words(*answered), "--decodings", "greedy", "--temperatures", "none", "--beams", "none"]
    language += smoke_steps
    tasks.append(Task("language", tuple(language), place / "language", place / "language" / "evaluation.json"))
    mmi = ["evaluate", str(stages / "mle"), *data, "--output_dir", str(place / "mmi"), "--seed", str(seed)]
    mmi += ["--tune_queries", str(TUNE_QUERIES), *scores, "--temperatures", "none", "--beams", "none"]
    mmi += ["--decodings", f"antilm 0.5 3 0 5 {place / 'language'}", f"bidi 0.5 {stages / 'backward'}"]
    mmi += option_words(*SMOKE["tuning"]) if smoke else []
    tasks.append(Task("mmi", tuple(mmi), place / "mmi", place / "mmi" / "evaluation.json"))

    for name, settings in (
        ("mle_512", ["--tokenizer", str(stages / "mle"), "--hidden_size", "512"]),
        ("mle_longer", ["--generator", str(stages / "mle"), "--num_train_epochs", "1"]),
        (
            "mle_constant",
            ["--generator", str(stages / "mle"), "--num_train_epochs", "1", "--lr_scheduler_type", "constant",
             "--warmup_steps", "0"],
        ),
    ):  # fmt: skip
        words = [*likelihood, "--output_dir", str(place / name), *shared]
        words += [*option_words(*answered), *DECODINGS, *scores, *smoke_steps, *settings]
        tasks.append(Task(name, tuple(words), place / name, place / name / "evaluation.json"))
    for name, model in (("start_front", stages / "mle"), ("longer_front", place / "mle_longer")):
        words = ["evaluate", str(model), *data, "--output_dir", str(place / name), "--seed", str(seed), *FRONT, *scores]
        tasks.append(Task(name, tuple(words), place / name, place / name / "evaluation.json"))
    return tasks


def _shared_settings(file: Path, options: Sequence[str]) -> tuple[list[str], list[str]]:
    """What all rows must have in common, written `name=value`: settings of the data, and of the evaluation.

    Args:
        file: of a system.
        options: which replace those of the file.
    """
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = dict(option.partition("=")[::2] for option in options)
    written = {name: json.dumps(value) for name, value in settings.items()} | given
    asked, answered = (
        [f"{name}={written[name]}" for name in written if name in {field.name for field in fields(kind)}]
        for kind in (DataArguments, EvaluationArguments)
    )
    return asked, [option for option in answered if option.split("=")[0] not in ("decodings", "beams", "temperatures")]


def _discriminator_file(file: Path) -> str:
    settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return str(settings.get("discriminator_config", StageArguments.discriminator_config))


def _has(system: str, stage: str) -> bool:
    return {"mle": system == "daim", "energy": system == "localgan", "backward": system == "daim"}.get(
        stage, system in ("daim", "localgan")
    )


def option_words(*options: str) -> list[str]:
    """Settings written `name=value` as words of a command line."""
    words = []
    for option in options:
        name, mark, value = option.partition("=")
        if not mark or not name:
            raise ValueError(f"Options are written `name=value`, got {option!r}.")
        found = yaml.safe_load(value)
        words += [f"--{name}", *(map(str, found) if isinstance(found, list) else [value.strip('"')])]
    return words


def generator_updates(run: Path) -> int:
    """How many updates the generator of a finished adversarial training had.

    Raises:
        ValueError: where its record says nothing of them.
    """
    history = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    counts = [row["gan/generator_updates"] for row in history if "gan/generator_updates" in row]
    if not counts:
        raise ValueError(f'"{run}" has no record of the updates of its generator.')
    return int(counts[-1])


def begin(output: Path, plan: dict):
    """Writes down what is to be run, or compares it with what was begun before.

    Raises:
        ValueError: if the folder holds another plan; more seeds than before are no other plan.
    """
    path = output / PLAN
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in plan if name != "seeds" and before.get(name) != plan[name]]
        if different:
            told = "; ".join(f"`{name}` was {before.get(name)!r}, now {plan[name]!r}" for name in different)
            raise ValueError(f'"{output}" was begun with another plan: {told}. Take another `--output`.')
        plan = {**plan, "seeds": sorted({*before["seeds"], *plan["seeds"]})}
    output.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def run_tasks(tasks: Sequence[tuple[int, Task]], tell: Callable[[str], None] = print):
    """Runs what is not finished, each in a process of its own, with a line before and after it.

    A run that was interrupted goes on from its last checkpoint. What it prints stands in `NAME.log` beside its folder,
    what it is made with in `NAME.command.json`. Runs from before there was such a record are taken as they are.

    Args:
        tasks: each with its seed.
        tell: gets the lines.

    Raises:
        ValueError: before any run, for one that has begun with another command or other settings in its YAML files.
        OSError: for a run that fails, with its last line and the name of its log.
    """
    begun = [task for _, task in tasks if is_begun(task.output, task.finished)]
    unknown = [task.name for task in begun if not check_record(task.words, task.output)]
    if unknown:
        tell(f"no record of their settings, taken as they are: {', '.join(unknown)}")
    waiting = sum(not task.finished.is_file() for _, task in tasks)
    spent: list[float] = []
    for number, (seed, task) in enumerate(tasks, 1):
        head = f"[{number} of {len(tasks)}] seed {seed}, {task.name}:"
        if task.finished.is_file():
            tell(f"{head} finished before")
            continue
        left = f", about {_duration(waiting * sum(spent) / len(spent))} left" if spent else ""
        tell(f"{head} {'goes on' if task.output.is_dir() else 'begins'}; {waiting} runs to do{left}")
        started = time.monotonic()
        code = run_task(task)
        spent.append(time.monotonic() - started)
        waiting -= 1
        told = "collapsed; its last model is the row" if code == COLLAPSED else "done"
        tell(f"{head} {told} in {_duration(spent[-1])}")


def words_to_run(task: Task) -> list[str]:
    """The words of a task as it is run now: on from its last checkpoint, and with the updates of another run."""
    words = list(task.words)
    if task.name in ("mle_longer", "mle_constant"):
        updates = generator_updates(task.output.parent / "localgan")
        words += ["--max_steps", str(updates), "--eval_strategy", "no", "--save_strategy", "no"]
        words += ["--load_best_model_at_end", "false", "--early_stopping_patience", "0"]
    if task.words[0] in RESUMED and last_checkpoint(task.output) is not None:
        words += ["--resume_from_checkpoint", "last"]
    return words


def run_task(task: Task) -> int:
    """Runs one command to its end; returns 0, or `COLLAPSED`."""
    words = words_to_run(task)
    if not is_begun(task.output, task.finished):
        write_record(task.words, task.output)
    log = task.output.with_name(f"{task.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ hf-localgan {shlex.join(words)}\n")
        file.flush()
        command = [sys.executable, "-m", "hf_localgan.cli", *words]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code not in (0, COLLAPSED) or not task.finished.is_file():
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise OSError(f"{task.name} ended with code {code}: {lines[-1]} (all of it in {log})")
    return code


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
