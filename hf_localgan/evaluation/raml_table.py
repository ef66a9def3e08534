"""RAML's systems side by side: BLEU on dev and test, and paired differences from both rivals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from scipy import stats

from hf_localgan.evaluation.runs import Run, check_comparable
from hf_localgan.evaluation.seeds import seed_power, seeds_needed
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.writing import write_report
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import bleu_difference

WANTED = 0.4  # BLEU, the paper's gain
EQUAL = 1e-9  # BLEU; a smaller spread is rounding


def write_raml_table(
    folder: Path,
    systems: Mapping[str, Sequence[Run]],
    rivals: Sequence[str],
    *,
    title: str,
    about: Mapping[str, object],
    resamples: int = 1000,
) -> list[Path]:
    """Writes `raml.md` and `raml.json`.

    Args:
        folder: for the files.
        systems: runs by the name of the system, one for each seed, of the same sentences.
        rivals: names among the systems that all others are compared with.
        title: first line of the Markdown.
        about: what names the whole, for the JSON.
        resamples: of the bootstrap.

    Raises:
        ValueError: for evaluations of different sentences.
    """
    check_comparable([run for runs in systems.values() for run in runs])
    first = next(iter(systems.values()))[0]
    decodings = [name for name in first.decodings if all(name in run.decodings for runs in systems.values()
                                                         for run in runs)]  # fmt: skip
    columns = ["system", "seeds", "edits per token", "dev BLEU, mean of the last", *(f"test, {n}" for n in decodings)]
    rows, content = [], []
    for name, runs in systems.items():
        dev = [run.about.get("validation_bleu_mean") for run in runs]
        test = {decoding: [run.value(decoding, "bleu") for run in runs] for decoding in decodings}
        rate = [run.about.get("edit_rate") for run in runs]
        rows.append((
            name, len(runs), spread(rate, ".3g"), spread(dev, ".2f"), *(spread(test[n], ".2f") for n in decodings)
        ))  # fmt: skip
        content.append({"system": name, "seeds": len(runs), "edit_rate": rate, "dev_bleu": dev, "test_bleu": test})
    lines = [f"# {title}", "", *markdown_table(columns, rows, "<>"), ""]
    lines += ["Mean over the seeds, with the smallest and the largest. The rate is that of the first step.", ""]
    intervals = [(f"{name}, seed {run.about.get('seed')}", *(
        f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for i in (run.interval(n, "bleu") for n in decodings)
    )) for name, runs in systems.items() for run in runs]  # fmt: skip
    lines += ["## BLEU of each run, with 95 % intervals over sentences", ""]
    lines += [*markdown_table(["run", *decodings], intervals, "<>"), ""]
    tests = []
    for rival in rivals:
        lines += [f"## Less {rival}", ""]
        cells = []
        for name, runs in systems.items():
            if name == rival:
                continue
            for decoding in decodings:
                found = _difference(systems[rival], runs, decoding, resamples)
                tests.append({"system": name, "rival": rival, "decoding": decoding, **found})
                cells.append((name, decoding, f"{found['difference']:+.2f}",
                              f"{found['low']:+.2f} to {found['high']:+.2f}", f"{found['p']:.3f}",
                              "" if found["p_seeds"] is None else f"{found['p_seeds']:.3f}"))  # fmt: skip
        heads = ["system", "decoding", "BLEU", "95 % interval", "p, sentences and seeds", "p, seeds alone"]
        lines += [*markdown_table(heads, cells, "<>"), ""]
    lines += [
        f"Intervals and p: paired bootstrap over sentences, {resamples} resamples; over seeds, too, where there are "
        "several of both. Seeds alone: t-test of the seeds' BLEU. Not corrected for the number of tests.",
        "",
    ]
    power = _power({name: runs for name, runs in systems.items() if name in rivals}, decodings[-1])
    lines += power
    return write_report(
        folder, ("raml.json", "raml.md"), {**about, "rows": content, "tests": tests}, "\n".join(lines) + "\n"
    )


def _difference(rival: Sequence[Run], runs: Sequence[Run], decoding: str, resamples: int) -> dict[str, float | None]:
    first, second = ([run.bleu_statistics(decoding) for run in group] for group in (rival, runs))
    redraw = len(first) > 1 and len(second) > 1
    test = bleu_difference(first, second, resamples=resamples, redraw_runs=redraw)
    values = [[float(run.value(decoding, "bleu") or 0.0) for run in group] for group in (rival, runs)]
    differ = redraw and any(stdev(group) > EQUAL for group in values)
    p_seeds = float(stats.ttest_ind(*values).pvalue) if differ else None
    return {
        "difference": test.difference, "low": test.low, "high": test.high, "p": test.p_value, "p_seeds": p_seeds,
    }  # fmt: skip


def _power(systems: Mapping[str, Sequence[Run]], decoding: str) -> list[str]:
    """What so many seeds can show, by the spread of the rivals' seeds."""
    groups = [[float(run.value(decoding, "bleu") or 0.0) for run in runs] for runs in systems.values()]
    spreads = [stdev(values) for values in groups if len(values) > 1]
    deviation = mean(value**2 for value in spreads) ** 0.5 if spreads else 0.0
    if deviation <= EQUAL:
        return []
    seeds = min(len(values) for values in groups if len(values) > 1)
    needed = seeds_needed(WANTED, deviation)
    return [
        f"Over seeds the rivals' BLEU has a standard deviation of {deviation:.2f} ({decoding}). {seeds} seeds of each "
        f"show a difference of {WANTED} with probability {seed_power(WANTED, deviation, seeds):.2f} (t-test, level "
        f"0.05); for 0.8 it takes {'more than a thousand' if needed is None else needed}.",
        "",
    ]
