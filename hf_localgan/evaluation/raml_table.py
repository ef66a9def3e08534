"""RAML's systems side by side: BLEU on dev and test, and differences from both rivals, paired by seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy import stats

from hf_localgan.decoding.beam_tuning import TUNED_BEAM
from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.seeds import seed_power, seeds_needed
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import bleu_difference

WANTED = 0.4  # BLEU, the paper's gain
EQUAL = 1e-9  # BLEU; a smaller spread is rounding


def tuned_dev_bleu(decodings: Mapping[str, Any]) -> float | None:
    """BLEU of the tuned beam on the validation sentences that chose its numbers; `None` for a run that tuned none.

    Corpus BLEU, 0 to 100, of the model that the run left, searched with the width and the length penalty that won.

    Args:
        decodings: of an evaluation, as `evaluation.json` holds them.
    """
    quality = decodings.get(TUNED_BEAM, {}).get("tuned", {}).get("quality")
    return None if quality is None else float(quality)


def write_raml_table(
    folder: Path,
    systems: Mapping[str, Sequence[Run]],
    rivals: Sequence[str],
    *,
    title: str,
    about: Mapping[str, object],
    chosen_by: str | None = None,
    resamples: int = 1000,
) -> list[Path]:
    """Writes `raml.md` and `raml.json`.

    The criterion is the paired t-test over seeds of BLEU on the test split, by the tuned beam, or by the last decoding
    where not all runs have one. Runs are paired by the seeds that both systems have: the same seed gives the same
    initial weights and the same order of the data.

    Args:
        folder: for the files.
        systems: runs by the name of the system, one for each seed, of the same sentences.
        rivals: names among the systems that all others are compared with.
        title: first line of the Markdown.
        about: what names the whole, for the JSON.
        chosen_by: what chose the rates, for a line under the first table.
        resamples: of the bootstrap.

    Raises:
        ValueError: for evaluations of different sentences.
    """
    check_comparable([run for runs in systems.values() for run in runs])
    first = next(iter(systems.values()))[0]
    decodings = [name for name in first.decodings if all(name in run.decodings for runs in systems.values()
                                                         for run in runs)]  # fmt: skip
    criterion = TUNED_BEAM if TUNED_BEAM in decodings else decodings[-1]
    columns = ["system", "seeds", "edits per token", "dev, greedy, mean of the last", f"dev, {TUNED_BEAM}",
               *(f"test, {n}" for n in decodings)]  # fmt: skip
    rows, content = [], []
    for name, runs in systems.items():
        dev = [run.about.get("validation_bleu_mean") for run in runs]
        tuned = [tuned_dev_bleu(run.decodings) for run in runs]
        test = {decoding: [run.value(decoding, "bleu") for run in runs] for decoding in decodings}
        rate = [run.about.get("edit_rate") for run in runs]
        rows.append((
            name, len(runs), spread(rate, ".3g"), spread(dev, ".2f"), spread(tuned, ".2f"),
            *(spread(test[n], ".2f") for n in decodings),
        ))  # fmt: skip
        content.append({
            "system": name, "seeds": len(runs), "edit_rate": rate, "dev_bleu": dev, "dev_bleu_tuned_beam": tuned,
            "test_bleu": test, "averaged_steps": [run.about.get("averaged_steps") for run in runs],
        })  # fmt: skip
    lines = [f"# {title}", "", *markdown_table(columns, rows, "<>"), ""]
    lines += ["BLEU: mean over the seeds, with the smallest and the largest. The rate is that of the first step."]
    lines += [] if chosen_by is None else [f"Of each system the rate was chosen by {chosen_by}."]
    lines += ["", *_averaged(systems)]
    intervals = [(f"{name}, seed {run.about.get('seed')}", *(
        f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for i in (run.interval(n, "bleu") for n in decodings)
    )) for name, runs in systems.items() for run in runs]  # fmt: skip
    lines += ["## BLEU of each run, with 95 % intervals over sentences", ""]
    lines += [*markdown_table(["run", *decodings], intervals, "<>"), ""]
    tests = []
    lines += [
        f"**Criterion: BLEU on the test split, {criterion}, paired t-test over seeds.** Runs of one seed begin with "
        "the same weights and see the data in the same order.",
        "",
    ]
    for rival in rivals:
        lines += [f"## Less {rival}", ""]
        cells = []
        for name, runs in systems.items():
            if name == rival:
                continue
            for decoding in decodings:
                found = _difference(systems[rival], runs, decoding, resamples)
                tests.append({
                    "system": name, "rival": rival, "decoding": decoding, "criterion": decoding == criterion, **found
                })  # fmt: skip
                gains = f"{found['gains']} of {found['seeds']}" if found["seeds"] else ""
                p_seeds = "" if found["p_seeds"] is None else f"{found['p_seeds']:.3f}"
                cells.append((name, f"{decoding} (criterion)" if decoding == criterion else decoding,
                              f"{found['difference']:+.2f}", gains, p_seeds,
                              f"{found['low']:+.2f} to {found['high']:+.2f}", f"{found['p']:.3f}"))  # fmt: skip
        heads = ["system", "decoding", "BLEU", "seeds with a gain", "p, paired over seeds", "95 % interval",
                 "p, sentences and seeds"]  # fmt: skip
        lines += [*markdown_table(heads, cells, "<<>"), ""]
    lines += [
        "Differences are of the seeds that both have. Over seeds: t-test of the differences, seed by seed, from two "
        f"seeds on. Interval and last p: paired bootstrap over sentences, {resamples} resamples; over seeds, too, "
        "where there are several. Not corrected for the number of tests.",
        "",
    ]
    lines += _power(systems, rivals, criterion)
    return write_report(
        folder, ("raml.json", "raml.md"), {
            **about, "chosen_by": chosen_by, "criterion": f"{criterion}, test, paired t-test over seeds",
            "rows": content, "tests": tests,
        }, "\n".join(lines) + "\n",
    )  # fmt: skip


def _averaged(systems: Mapping[str, Sequence[Run]]) -> list[str]:
    """Which checkpoints the models are means of, where these are not the same for all runs."""
    steps = {f"{name}, seed {run.about.get('seed')}": run.about.get("averaged_steps")
             for name, runs in systems.items() for run in runs}  # fmt: skip
    if len(set(steps.values())) < 2:
        return []
    rows = [(name, "none, the last model" if value is None else value) for name, value in steps.items()]
    return ["## Checkpoints that were averaged", "", *markdown_table(["run", "updates"], rows, "<<"), ""]


def _by_seed(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Runs of two systems with the same seed, in the order of the first."""
    others = {run.about.get("seed"): run for run in second}
    return [(run, others[run.about.get("seed")]) for run in first
            if run.about.get("seed") is not None and run.about.get("seed") in others]  # fmt: skip


def _bleu(run: Run, decoding: str) -> float:
    return float(run.value(decoding, "bleu") or 0.0)


def _difference(rival: Sequence[Run], runs: Sequence[Run], decoding: str, resamples: int) -> dict[str, Any]:
    pairs = _by_seed(rival, runs)
    groups = ([first for first, _ in pairs], [second for _, second in pairs]) if pairs else (rival, runs)
    first, second = ([run.bleu_statistics(decoding) for run in group] for group in groups)
    redraw = len(first) > 1 and len(second) > 1
    test = bleu_difference(first, second, resamples=resamples, redraw_runs=redraw)
    values = [[_bleu(run, decoding) for run in pair] for pair in pairs]
    gains = [after - before for before, after in values]
    differ = len(gains) > 1 and stdev(gains) > EQUAL
    p_seeds = float(stats.ttest_rel(*zip(*values, strict=True)).pvalue) if differ else None
    return {
        "difference": test.difference, "low": test.low, "high": test.high, "p": test.p_value, "p_seeds": p_seeds,
        "seeds": len(gains), "gains": sum(gain > EQUAL for gain in gains), "gain_of_seeds": gains,
    }  # fmt: skip


def _power(systems: Mapping[str, Sequence[Run]], rivals: Sequence[str], decoding: str) -> list[str]:
    """What so many seeds can show, by the spread of the paired differences from the rivals."""
    paired = [
        [_bleu(second, decoding) - _bleu(first, decoding) for first, second in _by_seed(systems[rival], runs)]
        for rival in rivals
        for name, runs in systems.items()
        if name != rival
    ]
    paired = [gains for gains in paired if len(gains) > 1]
    deviation = mean(stdev(gains) ** 2 for gains in paired) ** 0.5 if paired else 0.0
    if deviation <= EQUAL:
        return []
    seeds = min(map(len, paired))
    needed = seeds_needed(WANTED, deviation, paired=True)
    return [
        f"Over seeds the differences have a standard deviation of {deviation:.2f} BLEU ({decoding}). {seeds} seeds of "
        f"each show a difference of {WANTED} with probability {seed_power(WANTED, deviation, seeds, paired=True):.2f} "
        f"(paired t-test, level 0.05); for 0.8 it takes {'more than a thousand' if needed is None else needed}.",
        "",
    ]
