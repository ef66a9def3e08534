"""`compare_trained`: seeds of one model put together, two models tested against each other."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation
from hf_localgan.evaluation.comparison import compare_trained
from hf_localgan.metrics import compare_systems, score_references, score_responses

WORDS = "tea milk cup rain sun wind bus train boat red blue green".split()
QUERIES = [f"what about {word} ?" for word in WORDS]
REFERENCES = [[f"{word} is nice", f"i like {word} , really"] for word in WORDS]
SCORING = {"vectors": WordVectors(WORDS, np.random.default_rng(0).normal(size=(12, 4)), name="random"), "resamples": 0}


def write_run(folder: Path, seed: int, *, dull: int, queries=QUERIES, references=REFERENCES, losses=()) -> Evaluation:
    """A run whose first `dull` answers are all "i do not know", and whose others repeat a reference."""
    decodings = [Decoding.greedy(), Decoding.sampling(1.0)]
    answers = [
        "i do not know" if index < dull else one_query[(index + seed) % 2] for index, one_query in enumerate(references)
    ]
    report = score_responses(answers, references, queries=queries, **SCORING)
    result = Evaluation(
        {"model": folder.name, "seed": seed, "nats_per_token": 3.0 + seed / 10, "perplexity": 20.0, "tokens": 99},
        list(queries), references, {one.name: report for one in decodings}, score_references(references, **SCORING),
        {one.name: answers for one in decodings}, decodings,
    )  # fmt: skip
    result.write(folder, plots=False)
    if losses:
        history = [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses, start=1)]
        state = {"log_history": history, "best_global_step": int(np.argmin(losses)) + 1}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        (folder / "training_args.json").write_text(json.dumps({"load_best_model_at_end": seed != 3}))
    return result


@pytest.fixture
def run():
    """`run(*folders, group=..., ...)`: the Markdown."""

    def call(*folders, group=(), **settings) -> str:
        given = {"permutations": 99, "resamples": 99, **settings}
        return compare_trained([str(folder) for folder in folders], groups=group, **given)

    return call


@pytest.fixture
def six_runs(tmp_path):
    """Three seeds each of a model that knows a reference to all queries but one, and of one that knows half of them."""
    for seed in (1, 2, 3):
        write_run(tmp_path / f"sharp-seed{seed}", seed, dull=1, losses=(4.0, 3.0 + seed / 10, 3.5))
        write_run(tmp_path / f"dull_s{seed}", seed, dull=6 + seed)
    return sorted(tmp_path.iterdir(), key=lambda path: path.name, reverse=True)  # sharp first, seeds falling


def test_seeds_are_put_together_by_their_names_with_mean_smallest_and_largest(run, six_runs):
    said = run(*six_runs, decodings=["greedy"], metrics=["distinct_responses", "relevance_mean"])
    # Of 12 answers 1 is "i do not know" for sharp, so all are distinct; 7, 8 or 9 are for dull, which leaves
    # 5 + 1, 4 + 1 or 3 + 1 distinct ones.
    assert "| sharp | 1 |" in said  # no range from a value to itself
    assert np.mean([6 / 12, 5 / 12, 4 / 12]) == pytest.approx(0.41667, abs=1e-5)
    assert "| dull | 0.417 (0.333 to 0.5) |" in said
    assert said.count("| references | ") == 1


def test_the_references_own_scores_are_the_last_line_of_a_table(run, six_runs):
    said = run(*six_runs, decodings=["greedy"])
    table = said.split("## Scores: greedy")[1].split("##")[0].strip().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| sharp", "| dull", "| references"]


def test_likelihood_on_both_sets(run, six_runs):
    said = run(*six_runs, decodings=["greedy"])
    # test 3.1, 3.2, 3.3; dev: the best of seeds 1 and 2 (3.1, 3.2), the last of seed 3, which kept its last model
    assert "| sharp | 3 | 3.267 (3.100 to 3.500) | 3.200 (3.100 to 3.300) | 20.00 |" in said
    assert "| dull | 3 |  | 3.200" in said  # no training record


def test_differences_are_the_paired_tests_of_the_reports(run, tmp_path):
    first = write_run(tmp_path / "a-seed1", 1, dull=1).reports["greedy"]
    second = write_run(tmp_path / "b-seed1", 1, dull=9).reports["greedy"]
    said = run(tmp_path / "a-seed1", tmp_path / "b-seed1", decodings=["greedy"])
    expected = compare_systems(first, second, permutations=99)
    for name, title in (("dist_1", "Dist-1"), ("bleu_2", "BLEU-2"), ("relevance_max", "Rel max")):
        test = expected[name].test
        assert f"| {title} | {-test.difference:+.3g} | {test.p_value:.3f} |" in said
    assert "| coverage | " in said and "## b less a: greedy" in said


def test_differences_over_seeds_have_mean_smallest_largest_and_every_p_value(run, six_runs):
    said = run(*six_runs, decodings=["greedy"], metrics=["distinct_responses"])
    # dull less sharp: 1/2 - 1, 5/12 - 1, 1/3 - 1
    line = next(line for line in said.split("## dull less sharp")[1].splitlines() if line.startswith("| distinct"))
    assert "| -0.583 (-0.667 to -0.5) |" in line
    assert len(line.split("|")[3].split(",")) == 3


def test_groups_can_be_named_and_several_are_compared_with_the_first(run, six_runs):
    sharp, dull = ([str(path) for path in six_runs if name in path.name] for name in ("sharp", "dull"))
    groups = [f"base={','.join(dull[:2])}", f"x={','.join(sharp[:2])}", f"y={sharp[2]},{dull[2]}"]
    said = run(group=groups, decodings=["greedy"])
    assert "## x less base: greedy" in said and "## y less base: greedy" in said and "y less x" not in said


def test_one_group_alone_is_one_table_without_tests(run, six_runs):
    said = run(*six_runs[:3]).splitlines()
    assert [line for line in said if line.startswith("## ")] == ["## Likelihood", "## Scores"]
    table = said[said.index("## Scores") + 2 :]
    assert [line.split(" | ")[0] for line in table[2:] if line.startswith("|")][-2:] == [
        "| temperature 1",
        "| references",
    ]


def test_the_markdown_is_written_too(run, six_runs, tmp_path):
    said = run(*six_runs[:3], output=str(tmp_path / "new" / "compare.md"))
    assert (tmp_path / "new" / "compare.md").read_text() == said


def spoil_json(folder):
    (folder / "evaluation.json").write_text('{"about": 1')


def spoil_parquet(folder):
    (folder / "generations.parquet").write_bytes(b"PAR1")


def mix_evaluations(folder):
    table = parquet.read_table(folder / "generations.parquet").to_pydict()
    parquet.write_table(pyarrow.table({**table, "greedy": ["tea ."] * 12}), folder / "generations.parquet")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), 'b" has no evaluation.json. Score the model by'),
        (lambda folder: (folder / "query_scores.parquet").unlink(), 'b" has no query_scores.parquet'),
        (spoil_json, 'The files in ".*b" are not what an evaluation writes'),
        (spoil_parquet, 'The files in ".*b" are not what an evaluation writes'),
        (mix_evaluations, 'In ".*b" the `dist_2` of greedy is .*: the files belong to different evaluations'),
        (
            lambda folder: write_run(folder, 1, dull=2, queries=QUERIES[:9], references=REFERENCES[:9]),
            'a" answered 12 queries and ".*b" 9',
        ),
        (
            lambda folder: write_run(folder, 1, dull=2, queries=["else", *QUERIES[1:]]),
            "different queries: in row 0 'what about tea .' and 'else'",
        ),
        (
            lambda folder: write_run(folder, 1, dull=2, references=[*REFERENCES[:11], ["one", "two"]]),
            "different references: in row 11",
        ),
    ],
    ids="no-evaluation no-scores cut-json cut-parquet mixed fewer other-queries other-references".split(),
)
def test_runs_that_cannot_be_compared_are_refused_with_the_reason(run, tmp_path, change, told):
    for name in "ab":
        write_run(tmp_path / name, 1, dull=2)
    change(tmp_path / "b")
    with pytest.raises(ValueError, match=told):
        run(tmp_path / "a", tmp_path / "b")


def test_wrong_choices_are_refused_with_what_there_is(run, six_runs, tmp_path):
    with pytest.raises(ValueError, match="decoded by beam 5. All of them have: greedy, temperature 1"):
        run(*six_runs, decodings=["beam 5"])
    with pytest.raises(ValueError, match="have the scores rouge. All of them have: .*dist_1"):
        run(*six_runs, metrics=["rouge"])
    with pytest.raises(ValueError, match="`sharp` has 3 runs and `dull` 2"):
        run(*six_runs[:5])
    with pytest.raises(ValueError, match=r'"sharp-seed3" is given twice'):
        run(six_runs[0], six_runs[0])
    with pytest.raises(ValueError, match="Two groups are named `sharp`"):
        run(six_runs[0], group=[f"sharp={six_runs[1]}"])
    with pytest.raises(ValueError, match="written NAME=RUN,RUN"):
        run(group=["sharp"])
    with pytest.raises(ValueError, match="Name at least one run"):
        run()


def test_an_evaluation_inside_a_model_is_pointed_to(run, tmp_path):
    write_run(tmp_path / "model" / "evaluation" / "smalltalk", 1, dull=1)
    with pytest.raises(ValueError, match="Did you mean .*model/evaluation/smalltalk"):
        run(tmp_path / "model")


def test_a_front_is_held_against_the_first_ones_at_equal_diversity(run, tmp_path):
    """Both decodings of a run say the same here, so that its front is one point."""
    for name, dull in (("plain-s1", 6), ("plain-s2", 6), ("better-s1", 6), ("better-s2", 6)):
        write_run(tmp_path / name, int(name[-1]), dull=dull)
    folders = sorted(tmp_path.glob("plain*")) + sorted(tmp_path.glob("better*"))
    picture = tmp_path / "front.png"
    text = run(*folders, front=str(picture))
    assert "## better against the front of plain" in text
    assert "| greedy | +0.000 | 2 of 2 |" in text and picture.read_bytes()[:4] == b"\x89PNG"
    write_run(tmp_path / "better-s1", 1, dull=3)  # more varied than any of the first one's answers
    assert "| greedy | +0.000 | 1 of 1 |" in run(*folders)


def test_the_stability_of_ent_4_is_told_where_it_was_watched(run, tmp_path):
    for name, curve in (("a-s1", [4.0, 5.0, 3.0]), ("a-s2", [4.0, 4.5, 5.0]), ("b-s1", None), ("b-s2", None)):
        write_run(tmp_path / name, int(name[-1]), dull=2)
        if curve is not None:
            history = [{"step": step, "eval_ent_4": value} for step, value in enumerate(curve)]
            (tmp_path / name / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    folders, picture = sorted(tmp_path.glob("*-s*")), tmp_path / "stability.png"
    text = run(*folders, stability=str(picture))
    # Changes +1, -2: deviation 1.5, drop 2; +0.5, +0.5: none.
    assert "| a | 4 | 4 (3 to 5) | 0.75 (0 to 1.5) | 1 (0 to 2) |" in text and "| b | 4" not in text
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "Stability" not in run(*folders[2:])
