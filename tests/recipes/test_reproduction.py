"""All systems side by side: which runs there are and what each begins with, and the whole on a tiny corpus."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hf_localgan.commands.reproduce import corpus_files, main
from hf_localgan.recipes.radial_ablation import Design, RadialRun, finished_file, finished_runs, radial_tasks
from hf_localgan.recipes.reproduction import (
    FILES,
    SHUFFLED,
    SYSTEMS,
    Task,
    begin,
    generator_updates,
    run_tasks,
    seed_tasks,
)

RECIPES = Path(__file__).parents[2] / "recipes"
STEPS = """
max_steps: 2
per_device_train_batch_size: 8
eval_strategy: "no"
save_strategy: "no"
logging_steps: 1
use_cpu: true
output_dir: nowhere
dataset: $HF_LOCALGAN_DATA/corpus
"""
SYSTEM = (
    STEPS.replace("max_steps: 2", "max_steps: 4").replace('eval_strategy: "no"', "eval_strategy: steps\neval_steps: 2")
    + "discriminator_warmup_steps: 1\nmonitor_queries: 4\nmonitor_max_new_tokens: 5\nmax_new_tokens: 5\n"
    "metric_vector_size: 6\nresamples: 5\nsample_rows: 0\n"
)
TINY = {
    "mle": STEPS + "embedding_size: 8\nhidden_size: 8\nmax_new_tokens: 5\nmetric_vector_size: 6\nresamples: 5\n",
    "matching": STEPS + "embedding_size: 4\nfilters: 3\nwidths: [1, 2]\n",
    "dbm": STEPS + "vector_size: 6\nhidden_size: 8\ntop_size: 5\nchains: 8\ncurvature_queries: 3\nclusters: 2\n"
    "resamples: 5\nais_chains: 10\nais_temperatures: 20\n",
    "localgan": SYSTEM + "max_soft_length: 4\n",
    "gan_ael": SYSTEM + "max_soft_length: 4\ndiscriminator_steps: 1\n",
    "adver_regs": SYSTEM + "policy_max_new_tokens: 4\n",
    "aim": SYSTEM + "max_soft_length: 4\n",
    "daim": SYSTEM.replace("max_steps: 4", "max_steps: 8") + "max_soft_length: 4\n",
}  # fmt: skip


def option(task: Task, name: str) -> str:
    return task.words[task.words.index(f"--{name}") + 1]


@pytest.mark.parametrize(
    "corpus", ["smalltalk", "dailydialog_pp", "lccc_base_eval", "chitchat_byu", "papers/opensubtitles", "papers/weibo"]
)
def test_every_system_starts_from_one_generator_of_the_seed(corpus, tmp_path):
    tasks = {task.name: task for task in seed_tasks(corpus_files(corpus), tmp_path, 3, smoke=False)}
    mle = str(tmp_path / "seed3" / "daim" / "stages" / "mle")
    assert list(tasks)[0] == "daim" and "--generator" not in tasks["daim"].words
    for name in ("aim", "localgan", "gan_ael", "adver_regs", "mle_longer"):
        assert option(tasks[name], "generator") == mle
    assert option(tasks["aim"], "discriminator").endswith("daim/stages/discriminator")  # it compares
    rivals = ["gan_ael", "adver_regs"]
    judge = "gan_ael" if corpus.startswith("papers/") else "localgan"  # the paper's rivals have convolutions
    for name in rivals[judge == "gan_ael" :]:
        assert option(tasks[name], "discriminator").endswith(f"{judge}/stages/discriminator")
        assert list(tasks).index(judge) < list(tasks).index(name)
    assert ("--discriminator" in tasks["gan_ael"].words) == (judge == "localgan")
    assert all(option(task, "seed") == "3" for task in tasks.values())
    assert option(tasks["mle_512"], "hidden_size") == "512"
    assert option(tasks["language"], "generator") == mle and option(tasks["language"], "source_dropout") == "1"
    words = tasks["mmi"].words
    assert words[1] == mle and f"bidi 0.5 {tmp_path / 'seed3' / 'daim' / 'stages' / 'backward'}" in words
    assert f"antilm 0.5 3 0 5 {tasks['language'].output}" in words and int(option(tasks["mmi"], "tune_queries")) > 100
    assert list(tasks).index("language") < list(tasks).index("mmi")
    control, same = (tasks[name].words for name in ("adver_regs_shuffled", "adver_regs"))
    assert [word.replace("adver_regs_shuffled", "adver_regs") for word in control] == [
        *same,
        "--shuffle_rewards",
        "true",
    ]
    assert option(tasks["mle_constant"], "lr_scheduler_type") == "constant"
    fronts = [tasks[name].words for name in ("start_front", "longer_front")]
    assert [front[1] for front in fronts] == [mle, str(tasks["mle_longer"].output)]
    assert all({"2", "3", "0.25", "1.2"} <= {*front} for front in fronts)


@pytest.mark.parametrize("corpus", ["lccc_base_eval", "chitchat_byu"])
@pytest.mark.parametrize(("options", "wanted"), [((), 1000), (("max_test_queries=50", "use_cpu=true"), 50)])
def test_all_rows_answer_the_same_queries(corpus, options, wanted, tmp_path):
    files = corpus_files(corpus)
    for task in seed_tasks(files, tmp_path, 0, smoke=False, options=options):
        file = files / f"{task.name.removesuffix('_shuffled')}.yaml"
        settings = yaml.safe_load(file.read_text()) if file.is_file() else {}
        given = "--max_test_queries" in task.words
        assert (int(option(task, "max_test_queries")) if given else settings["max_test_queries"]) == wanted, task.name
        assert ("--use_cpu" in task.words) == (bool(options) and task.name in (*SYSTEMS, SHUFFLED))


def test_options_of_maximum_likelihood_reach_every_training_by_its_file_and_no_other(tmp_path):
    files = corpus_files("dailydialog_pp")
    changed, plain = (
        {task.name: task.words for task in seed_tasks(files, tmp_path, 0, smoke=False, mle_options=options)}
        for options in (["learning_rate=2e-3", "weight_decay=0.1"], [])
    )
    given = ("--mle_options", "learning_rate=2e-3", "weight_decay=0.1")
    assert given == changed["daim"][-6:-3] and changed["daim"][-3] == "--backward_options"
    assert changed["daim"][:-6] == plain["daim"]
    likelihood = ("language", "mle_512", "mle_longer", "mle_constant")
    for name in likelihood:
        words = changed[name]
        assert words[2:6] == ("--learning_rate", "2e-3", "--weight_decay", "0.1")
        assert (*words[:2], *words[6:]) == plain[name]
    assert all(changed[name] == plain[name] for name in plain if name not in (*likelihood, "daim"))
    start, *others = radial_tasks(files, tmp_path, 0, Design(), mle_options=["learning_rate=2e-3"])
    assert start.words[2:4] == ("--learning_rate", "2e-3")
    assert others == radial_tasks(files, tmp_path, 0, Design())[1:]
    with pytest.raises(ValueError, match="settings of a generator to train, and `start` has one"):
        radial_tasks(files, tmp_path, 0, Design(), start=tmp_path, mle_options=["learning_rate=2e-3"])


@pytest.mark.parametrize(
    ("words", "told"), [(("raml",), "is for table1 and radial"), (("radial", "--start", "x"), "--start takes one over")]
)
def test_options_of_maximum_likelihood_that_nothing_would_read_are_refused(words, told, capsys):
    assert main([*words, "--mle_options", "learning_rate=2e-3"]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_all_files_is_refused(tmp_path):
    (tmp_path / "mle.yaml").write_text("output_dir: a\n")
    with pytest.raises(ValueError, match=r"has no matching.yaml, dbm.yaml, daim.yaml, .*Name a folder with a file"):
        seed_tasks(tmp_path, tmp_path, 0, smoke=False)
    assert set(FILES) == set(TINY)


def test_another_plan_in_the_same_folder_is_refused_and_more_seeds_are_not(tmp_path):
    plan = {"dataset": "smalltalk", "smoke": False, "options": [], "seeds": [0]}
    begin(tmp_path / "out", plan)
    begin(tmp_path / "out", {**plan, "seeds": [1]})
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="`smoke` was False, now True. Take another `--output`"):
        begin(tmp_path / "out", {**plan, "smoke": True})


def test_the_updates_of_a_generator_are_read_from_its_record(tmp_path):
    rows = [{"loss": 1.0, "gan/generator_updates": 3}, {"eval_loss": 2.0}, {"loss": 1.0, "gan/generator_updates": 7}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    assert generator_updates(tmp_path) == 7
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": []}))
    with pytest.raises(ValueError, match="has no record of the updates"):
        generator_updates(tmp_path)


def test_what_is_finished_is_skipped_and_what_fails_says_where(tmp_path):
    done = tmp_path / "done.json"
    done.touch()
    lines = []
    words = ("chat", "nothing", "--top-p", "2")  # fails before it loads what takes long
    failing = Task("broken", words, tmp_path / "broken", tmp_path / "never")
    with pytest.raises(OSError, match=r"broken ended with code 2: .*top_p.*broken.log"):
        run_tasks([(0, Task("one", (), tmp_path / "one", done)), (0, failing)], lines.append)
    assert lines == ["no record of their settings, taken as they are: one", "[1 of 2] seed 0, one: finished before",
                     "[2 of 2] seed 0, broken: begins; 1 runs to do"]  # fmt: skip
    # It left nothing in its folder, so it may be tried again with other words.
    again = Task("broken", ("chat", "nothing", "--top-p", "3"), failing.output, failing.finished)
    with pytest.raises(OSError, match="top_p"):
        run_tasks([(0, again)], lines.append)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """`made(text, *words)`: the task of a YAML file with this text; a run of it leaves its finished file."""

    def run(command, **_):
        output = Path(command[command.index("--output_dir") + 1])
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("hf_localgan.recipes.reproduction.subprocess.run", run)

    def build(text: str, *words: str, place: Path = tmp_path / "out") -> Task:
        (tmp_path / "raml.yaml").write_text(text)
        output = place / "raml-seed0"
        words = ("train-raml", str(tmp_path / "raml.yaml"), "--output_dir", str(output), "--seed", "0", *words)
        return Task(output.name, words, output, output / "evaluation.json")

    return build


def test_a_finished_run_is_not_taken_for_one_with_other_settings(made, tmp_path, monkeypatch):
    lines, text = [], "payoff: edit\nedit_rate: 0.01\n"
    generator = ("--generator", str(tmp_path / "out" / "mle-seed0"), "--beams", "2", "3")
    run_tasks([(0, made(text, *generator))], lines.append)
    # The same settings: a comment, and an output that is named otherwise, or was moved, change nothing.
    again = "edit_rate: 0.01  # edits per token\npayoff: edit\n"
    run_tasks([(0, made(again, *generator))], lines.append)
    monkeypatch.chdir(tmp_path)
    relative = ("--generator", "out/mle-seed0", "--beams", "2", "3")
    run_tasks([(0, made(text, *relative, place=Path("out")))], lines.append)
    assert lines[1:] == [lines[1]] + ["[1 of 1] seed 0, raml-seed0: finished before"] * 2
    cases = [
        (text + "base_measure: unigram\n", generator, '`base_measure` in raml.yaml was not there, now "unigram"'),
        ("payoff: edit\nedit_rate: 0.02\n", generator, "`edit_rate` in raml.yaml was 0.01, now 0.02"),
        (text, (*generator[:-1], "4"), '`--beams` in the command was ["2", "3"], now ["2", "4"]'),
        (text, (*generator, "--bf16"), "`--bf16` in the command was not there, now []"),
        (
            text,
            ("--generator", "else/mle", *generator[2:]),
            '`--generator` in the command was "./mle-seed0", now ',
        ),
    ]
    for content, words, told in cases:
        message = re.escape(f'raml-seed0" was made with other settings: {told}')
        with pytest.raises(ValueError, match=f"{message}.*Take another `--output`, or remove that folder"):
            run_tasks([(0, made(content, *words))], lines.append)


def test_a_begun_run_is_compared_before_any_other_is_trained(made, tmp_path):
    lines = []
    run_tasks([(0, made("edit_rate: 0.01\n"))], lines.append)
    output = tmp_path / "out" / "raml-seed0"
    (output / "evaluation.json").rename(output / "checkpoint-4")  # interrupted
    task = made("edit_rate: 0.02\n")
    new = Task("new", ("train-mle",), tmp_path / "out" / "new", tmp_path / "out" / "new" / "evaluation.json")
    with pytest.raises(ValueError, match="`edit_rate` in raml.yaml was 0.01, now 0.02"):
        run_tasks([(0, new), (0, task)], lines.append)
    assert not (tmp_path / "out" / "new.log").exists()
    record = tmp_path / "out" / "raml-seed0.command.json"
    record.write_text("{")
    with pytest.raises(ValueError, match="command.json.* cannot be read"):
        run_tasks([(0, task)], lines.append)
    record.unlink()  # as of runs from before there was a record
    run_tasks([(0, task)], lines.append)
    assert lines[-3] == "no record of their settings, taken as they are: raml-seed0" and "goes on" in lines[-2]
    assert not record.exists()  # what it began with is not known
    shutil.rmtree(output)
    run_tasks([(0, made("edit_rate: 0.03\n"))], lines.append)
    assert json.loads(record.read_text())["files"] == {"raml.yaml": {"edit_rate": 0.03}}


def test_the_radial_ablation_varies_the_term_alone(tmp_path):
    files = corpus_files("smalltalk")
    design = Design(bodies=("convolution", "boltzmann"), weights=(1.0,))
    tasks = {task.name: task for task in radial_tasks(files, tmp_path, 2, design)}
    place = tmp_path / "seed2"
    assert [name for name in tasks if "-none" in name or "score" in name] == [
        "convolution-none", "convolution-score-mean-1", "convolution-score-distinct_sqrt-1", "boltzmann-mean-none",
        "boltzmann-mean-score-mean-1", "boltzmann-distinct_sqrt-none", "boltzmann-distinct_sqrt-score-distinct_sqrt-1",
    ]  # fmt: skip
    plain, score = tasks["convolution-none"], tasks["convolution-score-mean-1"]
    assert (option(plain, "radial_weight"), option(score, "radial_weight")) == ("0", "1")
    assert option(score, "radial_gradient") == "score" and "--radial_gradient" not in plain.words
    assert option(score, "energy") == str(place / "energy-mean")
    for task in (plain, score):  # one start, one opponent, one measure
        assert option(task, "generator") == str(place / "mle")
        assert option(task, "discriminator") == str(place / "discriminator-convolution")
        assert option(task, "metric_energy") == str(place / "energy-distinct_sqrt")
        assert option(task, "load_best_model_at_end") == "false"  # the best of a harmful training is its start
    copied = tasks["discriminator-boltzmann-mean"]
    assert option(copied, "energy") == str(place / "energy-mean")
    settings = (place / "matching_boltzmann.yaml").read_text()
    assert "vector_size" not in settings and "num_train_epochs" in settings
    with pytest.raises(ValueError, match="has no finished generator of seed 2"):
        radial_tasks(files, tmp_path, 2, design, start=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="`weights` must be above 0"):
        Design(weights=(0.0,))


def test_the_radial_table_holds_what_every_seed_has_finished(tmp_path):
    earlier = Design(gradients=("straight_through",), poolings=("mean", "distinct_sqrt"), weights=(10.0,))
    now = Design(gradients=("score",), poolings=("distinct_sqrt",), weights=(0.3, 1.0))
    runs = [*earlier.runs(), *now.runs()[1:]]
    for seed in (0, 1):
        for run in [*runs, RadialRun("boltzmann-mean", "score", "mean", 1.0)]:  # this one has no rival
            if (seed, run.weight) != (1, 0.3):  # not finished
                finished_file(tmp_path / f"seed{seed}", run).parent.mkdir(parents=True)
                finished_file(tmp_path / f"seed{seed}", run).touch()
        (tmp_path / f"seed{seed}" / "energy-mean").mkdir()
    for name in ("convolution-none", "convolution-straight_through-mean-10"):  # what stands beside the folder of a run
        for ending in ("log", "command.json"):
            (tmp_path / "seed0" / f"{name}.{ending}").touch()
    assert finished_runs(tmp_path, [0], now) == [
        runs[0], *sorted(runs[1:3], key=lambda run: run.pooling),
        *(RadialRun("convolution", "score", "distinct_sqrt", weight) for weight in (0.3, 1.0)),
    ]  # fmt: skip
    assert [run.weight for run in finished_runs(tmp_path, [0, 1], now)] == [0.0, 10.0, 10.0, 1.0]
    for run in runs:
        assert RadialRun.named(run.folder, "distinct_sqrt") == run
    for other in ("energy-mean", "convolution-score", "convolution-score-mean-1.log", "convolution-none.command.json"):
        assert RadialRun.named(other, "mean") is None


@pytest.mark.slow
def test_the_radial_ablation_on_a_tiny_corpus(tmp_path, write_dialogue, run_here):
    write_dialogue(tmp_path / "corpus", adjectives=True)
    (tmp_path / "tiny").mkdir()
    for name, text in TINY.items():
        (tmp_path / "tiny" / f"{name}.yaml").write_text(text)
    words = ["radial", "--dataset", "tiny", "--output", "out", "--weights", "1", "--bodies", "convolution", "boltzmann"]
    said = run_here(tmp_path, "reproduce", *words, "--gradients", "score")
    assert "[13 of 13] seed 0, boltzmann-distinct_sqrt-score-distinct_sqrt-1: done in" in said
    found = json.loads((tmp_path / "out" / "radial.json").read_text())
    assert [(arm["discriminator"], arm["term"]) for arm in found["arms"][:2]] == [
        ("convolution", "none"), ("convolution", "score, mean, weight 1"),
    ]  # fmt: skip
    scores = found["arms"][1]["decodings"]
    assert list(scores) == ["greedy", "beam 5", "temperature 0.5", "temperature 0.7", "temperature 1"]
    for values in scores.values():
        assert values["radius_distance"][0] is not None and values["gains"]["radius_distance"][0] is not None
    text = (tmp_path / "out" / "radial.md").read_text()
    assert "## beam 5\n" in text and "| convolution | score, distinct_sqrt, weight 1 | 1 |" in text
    assert len(found["arms"]) == 6
    more = run_here(tmp_path, "reproduce", *words, "--gradients", "score", "straight_through")
    assert more.count("finished before") == 13 and more.count(": done in") == 4


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["opensubtitles", "weibo"])
def test_the_table_of_the_papers_corpora_starts_on_a_stand_in(corpus, tmp_path, write_dialogue, run_here, stand_in):
    write_dialogue(tmp_path / "corpus", adjectives=True)
    variables = stand_in(tmp_path, corpus, tmp_path / "corpus")
    few = [
        "use_cpu=true",
        "max_new_tokens=5",
        "monitor_max_new_tokens=5",
        "discriminator_warmup_steps=2",
        "max_steps=8",
    ]
    words = ["table1", "--dataset", f"papers/{corpus}", "--smoke", "--output", "out", "--options", *few]
    said = run_here(tmp_path, "reproduce", *words, **variables)
    assert "[13 of 13] seed 0, longer_front: done in" in said
    rows = json.loads((tmp_path / "out" / "table1.json").read_text())["rows"]
    assert len({row["system"] for row in rows}) == 11


@pytest.mark.slow
def test_the_first_steps_of_the_radial_ablation_on_smalltalk(tmp_path, run_here):
    words = ["radial", "--smoke", "--output", "out", "--poolings", "distinct_sqrt", "--gradients", "score"]
    said = run_here(
        tmp_path, "reproduce", *words, "--weights", "1", "--options", "use_cpu=true", "radial_target=cluster"
    )
    assert "[5 of 5] seed 0, convolution-score-distinct_sqrt-1: done in" in said
    text = (tmp_path / "out" / "radial.md").read_text()
    assert text.startswith("# The radial term on smalltalk, seeds 0 (first steps only)")
    settings = json.loads((tmp_path / "out/seed0/convolution-score-distinct_sqrt-1/training_args.json").read_text())
    assert (settings["radial_gradient"], settings["radial_target"]) == ("score", "cluster")


@pytest.mark.slow
def test_the_whole_table_on_a_tiny_corpus(tmp_path, write_dialogue, run_here):
    write_dialogue(tmp_path / "corpus", adjectives=True)
    (tmp_path / "tiny").mkdir()
    for name, text in TINY.items():
        (tmp_path / "tiny" / f"{name}.yaml").write_text(text)
    words = ["table1", "--dataset", "tiny", "--seeds", "0", "--output", "out"]
    said = run_here(tmp_path, "reproduce", *words)
    assert "[13 of 13] seed 0, longer_front: done in" in said and re.search(r"1 runs to do, about .* left", said)
    found = json.loads((tmp_path / "out" / "table1.json").read_text())
    systems = {row["system"] for row in found["rows"]}
    assert systems == {
        "Seq2Seq", "Seq2Seq, 512 units", "Seq2Seq, longer", "Seq2Seq, constant rate", "Seq2Seq-MMI", "Adver-REGS",
        "Adver-REGS, shuffled rewards", "GAN-AEL", "LocalGAN", "AIM", "DAIM",
    }  # fmt: skip
    assert all(value is not None for row in found["rows"] for value in row["dist_2"])
    text = (tmp_path / "out" / "table1.md").read_text()
    assert (
        "## bidi, tuned\n" in text
        and "| antilm, tuned | 0 | penalty " in text
        and "## greedy\n" in text
        and "## As printed, Weibo" in text
    )
    for picture in ("front.png", "entropy.png"):
        assert (tmp_path / "out" / picture).stat().st_size > 1000
    again = run_here(tmp_path, "reproduce", *words)
    assert again.count("finished before") == 13
