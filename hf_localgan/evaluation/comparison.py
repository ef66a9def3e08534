"""Trained generators side by side over several seeds: scores, paired tests, fronts, stability."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hf_localgan.evaluation.adversarial.front import EQUAL, front_margin
from hf_localgan.evaluation.adversarial.plots import plot_fronts, plot_stability
from hf_localgan.evaluation.dialogue import SHOWN
from hf_localgan.evaluation.recognition import BEST_OF, DEV_IS_BIASED, SHOWN_SCORES
from hf_localgan.evaluation.runs import Run, check_comparable, compare_runs, group_runs
from hf_localgan.evaluation.tables import spread
from hf_localgan.evaluation.translation import SHOWN_TRANSLATION_SCORES
from hf_localgan.files import replacing
from hf_localgan.markdown import markdown_table
from hf_localgan.metrics import (
    BootstrapTest,
    bleu_difference,
    error_rate_difference,
    error_rate_permutation,
    stability,
)

DIGITS = {"dialogue": ".3g", "translation": ".4g", "recognition": ".4g"}
SCORES = {"dialogue": SHOWN, "translation": SHOWN_TRANSLATION_SCORES, "recognition": SHOWN_SCORES}
TESTS = {
    "dialogue": (
        " p: two-sided paired permutation test over queries, {permutations} swaps, the seeds paired in order; not "
        "corrected for the number of tests. It says whether two runs differ, not whether two ways of training do: for "
        "that the differences must agree over seeds."
    ),
    "translation": (
        " Differences of detokenised BLEU: 95 % interval and two-sided p of a paired bootstrap with {resamples} "
        "resamples; not corrected for the number of tests. Over sentences alone it is about these runs; over sentences "
        "and seeds about the way of training, roughly where there are few seeds."
    ),
    "recognition": (
        " Differences of the error rate, in points and in per cent of the first one's errors: 95 % interval and "
        "two-sided p of a paired bootstrap with {resamples} resamples, and p of a paired permutation test with "
        "{permutations} swaps of utterances, each with its mean edits over the seeds; not corrected for the number of "
        "tests. Over utterances alone they are about these runs; over utterances and seeds about the way of training, "
        "roughly where there are few seeds."
    ),
}


DEV_SCORES = {"validation_bleu": "dev BLEU", "validation_error_rate": "dev error rate %"}


def likelihood_table(groups: dict[str, list[Run]]) -> list[str]:
    every = [run for runs in groups.values() for run in runs]
    watched = {name: title for name, title in DEV_SCORES.items() if any(name in run.about for run in every)}
    means = any("validation_bleu_mean" in run.about for runs in groups.values() for run in runs)
    columns = ["model", "runs", *watched.values(), *(["mean of the last dev BLEU"] if means else [])]
    columns += ["dev nats per token", "test nats per token", "test perplexity"]
    rows = []
    for name, runs in groups.items():
        nats = [run.about.get("nats_per_token") for run in runs]
        perplexity = [run.about.get("perplexity") for run in runs]
        dev = [spread([run.about.get(score) for run in runs], ".2f") for score in watched]
        if means:
            dev.append(spread([run.about.get("validation_bleu_mean") for run in runs], ".2f"))
        dev.append(spread([run.dev_nats for run in runs], ".3f"))
        rows.append((name, len(runs), *dev, spread(nats, ".3f"), spread(perplexity, ".2f")))
    lines = ["## Likelihood", "", *markdown_table(columns, rows, "<>")]
    if len({run.about.get("tokens") for runs in groups.values() for run in runs}) > 1:
        lines += ["", "The test sets differ in tokens: nats per token and perplexities cannot be compared."]
    return [*lines, ""]


def score_table(title: str, first: str, rows: dict[str, list[dict]], metrics: dict[str, str], digits: str) -> list[str]:
    """One line for each entry of `rows`, which holds the scores of the runs that the line is about."""
    values = {
        name: [[one[metric]["value"] if metric in one else None for one in scores] for metric in metrics]
        for name, scores in rows.items()
    }
    cells = [(name, *(spread(some, digits) for some in columns)) for name, columns in values.items()]
    return [f"## {title}", "", *markdown_table((first, *metrics.values()), cells, "<>"), ""]


def permutation_table(names, groups, decoding: str, metrics: dict[str, str], permutations: int) -> list[str]:
    """Differences of all scores of dialogue, run by run."""
    first, second = (groups[name] for name in names)
    if len(first) != len(second):
        raise ValueError(
            f"`{names[0]}` has {len(first)} runs and `{names[1]}` {len(second)}, and they are compared run by run. "
            "Give as many of each."
        )
    pairs = zip(first, second, strict=True)
    tests = [compare_runs(a, b, decoding, metrics, permutations).rows for a, b in pairs]
    rows = []
    for name in tests[0]:
        differences = [-one[name].test.difference for one in tests]
        values = ", ".join(f"{one[name].test.p_value:.3f}" for one in tests)
        rows.append((metrics[name], spread(differences, "+.3g"), values))
    table = markdown_table(("metric", "difference", "p, run by run"), rows, "<>")
    return [f"## {names[1]} less {names[0]}: {decoding}", "", *table, ""]


def front_table(names, groups, decodings: list[str]) -> list[str]:
    """Relevance of each decoding less that of the first model's front at equal Dist-2, over the runs."""

    def points(run: Run) -> list[tuple[float, float]]:
        values = [(run.value(one, "dist_2"), run.value(one, "relevance_mean")) for one in decodings]
        return cast(list[tuple[float, float]], values)  # all have both, see `compare_trained`

    pairs = zip(*(groups[name] for name in names), strict=True)
    margins = [front_margin(points(run), points(rival)) for rival, run in pairs]
    rows = []
    for column, decoding in enumerate(decodings):
        known = [float(one[column]) for one in margins if one[column] == one[column]]
        above = f"{sum(margin >= -EQUAL for margin in known)} of {len(known)}" if known else "outside of its range"
        rows.append((decoding, spread(known, "+.3f"), above))
    table = markdown_table(("decoding", "Rel at equal Dist-2", "runs on or above"), rows, "<>")
    return [f"## {names[1]} against the front of {names[0]}", "", *table, ""]


def entropies(run: Run) -> list[float]:
    """Ent-4 of the answers to validation queries at each evaluation of the training, where there is a record."""
    return [entry["eval_ent_4"] for entry in run.history if entry.get("eval_ent_4") is not None]


def stability_table(groups: dict[str, list[Run]]) -> list[str]:
    """Steadiness of Ent-4 while the runs were trained; no line for a model of which nothing is known."""
    watched = {name: [one for one in map(entropies, runs) if len(one) > 1] for name, runs in groups.items()}
    if not any(watched.values()):
        return []
    rows = []
    for name, curves in watched.items():
        if curves:
            found = [stability(curve) for curve in curves]
            columns = ([one[0] for one in curves], [one[-1] for one in curves], *zip(*found, strict=True))
            rows.append((name, *(spread(list(values), ".3g") for values in columns)))
    table = markdown_table(("model", "first", "last", "deviation of the steps", "largest drop"), rows, "<>")
    return ["## Stability of Ent-4 on validation queries", "", *table, ""]


def bootstrap_table(names, groups, decoding: str, resamples: int) -> list[str]:
    """Differences of BLEU: run by run where there are as many of each, and over all runs."""
    first, second = ([run.bleu_statistics(decoding) for run in groups[name]] for name in names)
    tests = {}
    if len(first) == len(second) > 1:
        for a, b, one, other in zip(groups[names[0]], groups[names[1]], first, second, strict=True):
            seeds = f"seeds {a.about.get('seed')} and {b.about.get('seed')}"
            tests[seeds] = bleu_difference([one], [other], resamples=resamples)
    tests["over sentences"] = bleu_difference(first, second, resamples=resamples)
    if len(first) > 1 and len(second) > 1:
        tests["over sentences and seeds"] = bleu_difference(first, second, resamples=resamples, redraw_runs=True)
    rows = [
        (name, f"{test.difference:+.2f}", f"{test.low:+.2f} to {test.high:+.2f}", f"{test.p_value:.3f}")
        for name, test in tests.items()
    ]
    table = markdown_table(("runs", "BLEU", "95 % interval", "p"), rows, "<>")
    return [f"## {names[1]} less {names[0]}: {decoding}", "", *table, ""]


def error_rate_table(names, groups, decoding: str, permutations: int, resamples: int) -> list[str]:
    """Differences of the error rate of speech: run by run where there are as many of each, and over all runs."""
    runs = [run for name in names for run in groups[name]]
    metric = runs[0].error_rate([decoding])
    lacking = next((run for run in runs if run.error_rate([decoding]) != metric), None)
    if lacking is not None:
        raise ValueError(
            f'Not all runs have the same error rate: "{runs[0].folder}" has `{metric}`, and "{lacking.folder}" '
            f"`{lacking.error_rate([decoding])}`. Compare runs of one `target`."
        )
    signatures = [run.decodings[decoding]["scores"][metric]["signature"] for run in runs]
    other = next((index for index, signature in enumerate(signatures) if signature != signatures[0]), None)
    if other is not None:
        raise ValueError(
            f'"{runs[0].folder}" and "{runs[other].folder}" were scored differently: {signatures[0]} and '
            f"{signatures[other]}. Score both with one `fold` and one `silence`."
        )
    counts = {name: [run.error_counts(decoding) for run in groups[name]] for name in names}
    tokens = counts[names[0]][0][1]
    first, second = ([edits for edits, _ in counts[name]] for name in names)

    def row(title: str, before: list, after: list, redraw: bool = False) -> tuple[str, ...]:
        settings: Any = {"resamples": resamples, "redraw_runs": redraw}
        points = error_rate_difference(before, after, tokens, **settings)
        share = error_rate_difference(before, after, tokens, relative=True, **settings)
        swapped = "" if redraw else f"{_swap(before, after):.3f}"
        return title, *_ends(points, "+.2f"), *_ends(share, "+.1f"), swapped, f"{points.p_value:.3f}"

    def _swap(before: list, after: list) -> float:
        return error_rate_permutation(before, after, tokens, permutations=permutations).p_value

    rows = []
    if len(first) == len(second) > 1:
        for a, b, before, after in zip(groups[names[0]], groups[names[1]], first, second, strict=True):
            rows.append(row(f"seeds {a.about.get('seed')} and {b.about.get('seed')}", [before], [after]))
    rows.append(row("over utterances", first, second))
    if len(first) > 1 and len(second) > 1:
        rows.append(row("over utterances and seeds", first, second, redraw=True))
    interval = "95 % interval"
    columns = (
        "runs",
        SHOWN_SCORES[metric],
        interval,
        "in per cent of the errors",
        interval,
        "p, swaps",
        "p, bootstrap",
    )
    return [f"## {names[1]} less {names[0]}: {decoding}", "", *markdown_table(columns, rows, "<>"), ""]


def _ends(test: BootstrapTest, form: str) -> tuple[str, str]:
    """A difference and its interval; empty where there is none."""
    value, low, high = ("" if math.isnan(number) else f"{number:{form}}" for number in test[:3])
    return value, f"{low} to {high}" if low and high else ""


def compare_trained(
    folders: Sequence[str],
    *,
    groups: Sequence[str] = (),
    decodings: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    permutations: int = 1000,
    resamples: int = 1000,
    output: str | None = None,
    front: str | None = None,
    stability: str | None = None,
) -> str:
    """Compares generators, or recognisers of speech, by what their evaluations left behind.

    Args:
        folders: each with `evaluation.json`, `generations.parquet` and `query_scores.parquet`. Names that differ in an
            ending such as `-seed1` or `_s2` alone are seeds of one model.
        groups: `NAME=RUN,RUN,...`, the seeds of one model under other names.
        decodings: names; by default all that the runs share.
        metrics: keys of `evaluation.json`; by default the usual ones.
        permutations: swaps of a test of dialogue, or of the error rate of speech.
        resamples: of the bootstrap of BLEU, or of the error rate of speech.
        output: file that the text is written to, too.
        front, stability: files for pictures of the fronts and of Ent-4 over the steps.

    Returns:
        Markdown.

    Raises:
        ValueError: for runs that cannot be compared, and for a decoding or score that not all of them have.
        OSError: for a file that cannot be read or written.
    """
    models = group_runs(folders, groups)
    text = _tables(models, decodings, metrics, permutations, resamples)
    if output:
        with replacing(output) as path:
            path.write_text(text, encoding="utf-8")
    if front:
        plot_fronts({name: runs[0] for name, runs in models.items()}, Path(front))
    if stability:
        plot_stability({run.folder.name: run.history for runs in models.values() for run in runs}, Path(stability))
    return text


def _tables(
    groups: dict[str, list[Run]],
    given_decodings: Sequence[str] | None,
    given_metrics: Sequence[str] | None,
    permutations: int,
    resamples: int,
) -> str:
    runs = [run for some in groups.values() for run in some]
    check_comparable(runs)
    decodings = [name for name in runs[0].decodings if all(name in run.decodings for run in runs)]
    unknown = [name for name in given_decodings or decodings if name not in decodings]
    if unknown or not decodings:
        raise ValueError(
            f"Not all runs were decoded by {', '.join(unknown) or 'one and the same way'}. All of them have: "
            f"{', '.join(decodings) or 'nothing'}."
        )
    decodings = list(given_decodings or decodings)
    scored = set.intersection(*(set(run.decodings[name]["scores"]) for run in runs for name in decodings))
    kind = runs[0].kind
    shown = SCORES[kind]
    chosen = given_metrics or [name for name in shown if name in scored]
    if not set(chosen) <= scored:
        raise ValueError(
            f"Not all runs have the scores {', '.join(sorted(set(chosen) - scored))}. All of them have: "
            f"{', '.join(sorted(scored))}."
        )
    metrics = {name: shown.get(name, name) for name in chosen}

    lines = likelihood_table(groups)
    stored = [run.references for run in runs if run.references is not None]
    own = {} if runs[0].references is None else {"references": [scores["scores"] for scores in stored]}
    if len(groups) == 1:
        rows = {name: [run.decodings[name]["scores"] for run in runs] for name in decodings}
        lines += score_table("Scores", "decoding", rows | own, metrics, DIGITS[kind])
    else:
        for decoding in decodings:
            rows = {name: [run.decodings[decoding]["scores"] for run in some] for name, some in groups.items()}
            lines += score_table(f"Scores: {decoding}", "model", rows | own, metrics, DIGITS[kind])
    baseline, *others = groups
    for other in others:
        for decoding in decodings:
            if kind == "dialogue":
                lines += permutation_table((baseline, other), groups, decoding, metrics, permutations)
            elif kind == "recognition":
                lines += error_rate_table((baseline, other), groups, decoding, permutations, resamples)
            else:
                lines += bootstrap_table((baseline, other), groups, decoding, resamples)
        if kind == "dialogue" and {"dist_2", "relevance_mean"} <= scored:
            lines += front_table((baseline, other), groups, decodings)
    lines += stability_table(groups)
    asked = "utterances" if kind == "recognition" else "queries"
    lines.append(
        f"{len(runs[0].answers['query']):,} {asked}. Over several runs: the mean, and in brackets the smallest and the "
        "largest."
    )
    if own:
        lines[-1] += " The references' own scores are of one reference per query against the others."
    if others:
        lines[-1] += TESTS[kind].format(permutations=permutations, resamples=resamples)
    limits = {run.about.get("transcript_limit") for run in runs} if kind == "recognition" else set()
    if len(limits) > 1:
        names = ", ".join(sorted("unknown" if limit is None else str(limit) for limit in limits))
        lines[-1] += (
            f" The runs cut transcripts at different limits ({names} tokens), and runaways do not weigh the same in "
            "all: look at the rates without them."
        )
    if any(BEST_OF in run.about for run in runs):
        lines[-1] += f" {DEV_IS_BIASED}"
    return "\n".join(lines) + "\n"
