"""The recipes of adversarial training on a tiny corpus: stages, what they leave, how they go on, what they refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.trainers.base.publishing import PublishingMixin

ROOT = Path(__file__).parents[2]
LEFT = {
    "README.md", "adversarial.json", "adversarial.md", "adversarial_training.png", "config.json", "discriminator",
    "diversity_relevance.png", "energy", "evaluation.json", "evaluation.md", "front.png", "generation_config.json",
    "generations.parquet", "model.safetensors", "query_scores.parquet", "radii.png", "samples.parquet", "stages",
    "start", "tokenizer.json", "tokenizer_config.json", "trainer_state.json", "training.png", "training_args.json",
}  # fmt: skip
STEPS = """
max_steps: 6
per_device_train_batch_size: 8
eval_strategy: steps
eval_steps: 3
save_strategy: steps
save_steps: 3
logging_steps: 1
output_dir: nowhere
dataset: nowhere
"""
SCORES = """
beams: [2]
temperatures: [1.0]
max_new_tokens: 5
metric_vector_size: 6
resamples: 5
sample_rows: 2
"""
FILES = {
    "mle.yaml": STEPS + SCORES + "embedding_size: 8\nhidden_size: 8\noutput_dropout: 0.2\nlearning_rate: 0.05\n"
    "load_best_model_at_end: true\nmetric_for_best_model: eval_loss\n",
    "dbm.yaml": STEPS + "vector_size: 6\nhidden_size: 8\ntop_size: 5\nbottom_share: 0.33\ntop_share: 0.33\nchains: 8\n"
    "curvature_queries: 3\nclusters: 2\nresamples: 5\nais_chains: 10\nais_temperatures: 20\n",
    "matching.yaml": STEPS + "vector_size: 6\nembedding_size: 4\nfilters: 3\nwidths: [1, 2]\n"
    "load_best_model_at_end: true\n",
    "localgan.yaml": SCORES + """
dataset: $HF_LOCALGAN_DATA/corpus
output_dir: run
use_cpu: true
disable_tqdm: true
discriminator_warmup_steps: 2
max_steps: 8
per_device_train_batch_size: 8
learning_rate: 1.0e-3
teacher_forcing_weight: 10
max_soft_length: 5
monitor_queries: 5
monitor_max_new_tokens: 5
collapse_share: 1.0
collapse_length: 100
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
load_best_model_at_end: true
metric_for_best_model: eval_loss
logging_steps: 1
""",
}  # fmt: skip
OWN_FILES = ("model.safetensors", "discriminator/model.safetensors", "energy/model.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    """A folder with a corpus of 40 queries with three responses each, `corpus`, and the files of a tiny run."""
    place = tmp_path_factory.mktemp("localgan")
    write_dialogue(place / "corpus", adjectives=True)
    (place / "files").mkdir()
    for name, text in FILES.items():
        (place / "files" / name).write_text(text)
    return place


@pytest.fixture(scope="module")
def recipe(place, run_here):
    """`recipe(folder, *words, script=, config=)`: what the recipe prints, run in this process."""

    def run(folder: str, *words, script: str = "train_localgan", config: str = "files/localgan.yaml", **names) -> str:
        return run_here(place, script, config, "--output_dir", place / folder, *words, **names)

    return run


@pytest.fixture(scope="module")
def trained(recipe, place):
    """The output folder of one run, and what it printed."""
    return place / "run", recipe("run")


def stages(said: str) -> dict[str, str]:
    """What the recipe has said of each stage."""
    lines = [line.split('"') for line in said.splitlines() if line.startswith("stage ")]
    return {line[0].split()[1]: line[2].removeprefix(": ") for line in lines}


def scores(folder: Path) -> dict[str, dict]:
    decodings = json.loads((folder / "evaluation.json").read_text())["decodings"]
    return {name: found["scores"] for name, found in decodings.items()}


def weights(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OWN_FILES}


def test_from_pairs_alone_a_run_leaves_generator_discriminator_energy_and_a_report(trained):
    folder, said = trained
    assert stages(said) == dict.fromkeys(("mle", "energy", "discriminator", "adversarial"), "begins")
    assert {path.name for path in folder.iterdir()} == LEFT | {f"checkpoint-{step}" for step in (2, 4, 6, 8)}
    assert not list(folder.rglob(".*"))
    for name in ("mle", "energy", "discriminator", "adversarial"):
        assert {"settings.json", "finished.json"} <= {path.name for path in (folder / "stages" / name).iterdir()}
    for part in ("energy.json", "matching.md", "phase-2 share", str(folder / "README.md")):
        assert part in said


def test_the_trained_generator_differs_from_its_start_and_all_parts_load_with_one_tokenizer(trained):
    folder, _ = trained
    model, start = (AutoModelForSeq2SeqLM.from_pretrained(path) for path in (folder, folder / "stages" / "mle"))
    changed = [not torch.equal(*some) for some in zip(model.parameters(), start.parameters(), strict=True)]
    assert all(changed)
    energy, discriminator = (AutoModel.from_pretrained(folder / name) for name in ("energy", "discriminator"))
    torch.testing.assert_close(
        energy.state_dict(), AutoModel.from_pretrained(folder / "stages" / "energy").state_dict(), rtol=0, atol=0
    )
    assert energy.config.radius_spread > 0 and discriminator.config.body == "cnn"
    own = AutoTokenizer.from_pretrained(folder)
    for name in ("energy", "discriminator", "stages/mle", "stages/energy", "stages/discriminator"):
        assert AutoTokenizer.from_pretrained(folder / name).get_vocab() == own.get_vocab()
    (answer,) = pipeline("text2text-generation", model=str(folder))("do you like the cat today ?")
    assert isinstance(answer["generated_text"], str)


def test_evaluations_are_watched_by_answers_to_validation_queries(trained):
    history = json.loads((trained[0] / "trainer_state.json").read_text())["log_history"]
    found = [entry for entry in history if "eval_loss" in entry]
    assert [entry["step"] for entry in found] == [2, 4, 6, 8]
    assert all(entry["eval_length"] <= 5 and "eval_quality" in entry for entry in found)
    assert {"loss/radial", "gan/phase2_fraction"} <= {name for entry in history for name in entry}


def test_a_finished_run_is_left_as_it_is(recipe, trained):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    said = recipe("run")
    assert set(stages(said).values()) == {"finished before"} and "Reading" not in said and "scores of" not in said
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_given_is_not_trained_and_the_result_is_the_same(recipe, trained, place, shown):
    folder, _ = trained
    names = {"generator": "mle", "energy": "energy", "discriminator": "discriminator"}
    given = [word for field, name in names.items() for word in (f"--{field}", folder / "stages" / name)]
    said = recipe("given", *given, "--report_to", "tensorboard")
    assert stages(said) == {"adversarial": "begins"}
    assert weights(place / "given") == weights(folder)
    pictures = {path.stem for path in (place / "given").glob("*.png")}
    assert len(pictures) == 5 and {f"pictures/{name}" for name in pictures} <= shown(place / "given")
    assert {"samples", "reports/evaluation", "reports/adversarial"} <= shown(place / "given")


def test_the_parts_may_be_made_of_each_other(recipe, trained, place):
    """Vectors of the energy from the generator's embeddings, a discriminator that is a copy of the energy."""
    given = ["--generator", trained[0] / "stages" / "mle", "--max_steps", 3, "--eval_steps", 3, "--save_steps", 3]
    given += ["--energy_options", "generator=ours", "normalize_vectors=true"]
    said = recipe("copies", *given, "--discriminator_options", "energy=ours", "max_steps=3")
    assert stages(said) == dict.fromkeys(("energy", "discriminator", "adversarial"), "begins")
    generator = AutoModelForSeq2SeqLM.from_pretrained(trained[0] / "stages" / "mle")
    embeddings = generator.get_input_embeddings().weight.detach()
    vectors = load_file(place / "copies" / "energy" / "model.safetensors")["word_vectors.vectors"]
    torch.testing.assert_close(vectors[4:], torch.nn.functional.normalize(embeddings[4:], dim=1))
    assert AutoModel.from_pretrained(place / "copies" / "discriminator").config.body == "dbm"
    settings = json.loads((place / "copies" / "stages" / "discriminator" / "settings.json").read_text())
    assert set(settings["made_from"]) == {"energy"}


def test_a_generator_takes_the_tokenizer_of_what_is_given(recipe, trained, place):
    words = ["--energy", trained[0] / "energy", "--discriminator", trained[0] / "discriminator"]
    words += ["--max_steps", 2, "--mle_options", "max_steps=3", "min_frequency=3", "temperatures=[0.5, 1.0]"]
    said = recipe("lent", *words)
    assert stages(said) == {"mle": "begins", "adversarial": "begins"}
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (place / "lent", trained[0])]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    assert list(scores(place / "lent" / "stages" / "mle")) == ["greedy", "beam 2", "temperature 0.5", "temperature 1"]


def test_stages_that_were_killed_after_their_last_checkpoint_take_no_further_step(recipe, trained, place):
    folder = place / "ended"
    shutil.copytree(trained[0], folder)
    made = {path: path.read_bytes() for path in folder.rglob("model.safetensors") if "checkpoint-" not in str(path)}
    assert len(made) == 6
    for path in [*folder.rglob("finished.json"), *made]:
        path.unlink()
    said = recipe("ended")
    ends = {"mle": 6, "energy": 6, "discriminator": 6, "adversarial": 8}
    assert stages(said) == {name: f"resumes from checkpoint-{step}" for name, step in ends.items()}
    assert {path: path.read_bytes() for path in made} == made
    assert scores(folder) == scores(trained[0])
    steps = {int(path.name.split("-")[1]) for path in folder.rglob("checkpoint-*")}
    assert max(steps) == 8


def test_gan_ael_is_trained_by_the_same_stages_without_an_energy(recipe, trained, place):
    words = ["--generator", trained[0] / "stages" / "mle", "--max_steps", 9]
    said = recipe("ael", *words, script="train_gan_ael")
    assert stages(said) == {"discriminator": "begins", "adversarial": "begins"}
    assert not (place / "ael" / "energy").exists() and not (place / "ael" / "radii.png").exists()
    assert LEFT - {"energy", "radii.png"} <= {path.name for path in (place / "ael").iterdir()}
    assert "GAN-AEL" in (place / "ael" / "README.md").read_text()


def test_a_run_that_is_only_on_the_hub_goes_on_from_there(recipe, trained, place, hub, monkeypatch):
    words = ["--push_to_hub", "true", "--hub_model_id", "somebody/run", "--hub_strategy", "checkpoint"]
    words += ["--hub_always_push", "true"]
    push = PublishingMixin._push_from_checkpoint

    def push_and_die(trainer, folder):
        push(trainer, folder)
        trainer._finish_current_push()
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(PublishingMixin, "_push_from_checkpoint", push_and_die)
        recipe("lost", *words)
    assert "interrupted" in end.value.code
    kept = {path.split("/")[2] for path in hub.files("somebody/run") if path.startswith("last-checkpoint/stages/")}
    assert kept == {"mle", "energy", "discriminator", "adversarial"}
    files = [path.partition("/stages/")[2] for path in hub.files("somebody/run")]
    assert not [name for name in files if name.endswith((".png", ".parquet", ".bin", ".md")) or "checkpoint-" in name]
    shutil.rmtree(place / "lost")

    said = recipe("found", *words, "--resume_from_checkpoint", "last-checkpoint")
    finished = dict.fromkeys(("mle", "energy", "discriminator"), "finished before")
    assert stages(said) == {**finished, "adversarial": "resumes from checkpoint-4"}
    assert weights(place / "found") == weights(trained[0])
    assert scores(place / "found") == scores(trained[0])
    assert not (place / "found" / "checkpoint-4" / "stages").exists()
    with pytest.raises(SystemExit) as end:
        recipe("found", *words, "--resume_from_checkpoint", "checkpoint-4")
    assert "resumes from the last checkpoint of `output_dir`" in end.value.code


@pytest.fixture
def message(place, recipe, trained):
    """`message(*words, folder="new")`: what the recipe ends with; it has left nothing behind."""

    def run(*words, folder: str = "new", **options) -> str:
        def left() -> set[Path]:
            return {path for path in place.rglob("*") if "cache" not in path.parts}

        before = left()
        with pytest.raises(SystemExit) as end:
            recipe(folder, *words, **options)
        assert isinstance(end.value.code, str) and "\n" not in end.value.code
        assert left() == before
        return end.value.code

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--mle_options", "hiden_size=9"], "Stage mle: Unknown option: `hiden_size` (did you mean `hidden_size`"),
        (["--energy_options", "energy_type=printed"], "Stage energy: Eq. 8 as printed cannot be trained"),
        (["--energy_options", "top_size=-1"], "Stage energy: `top_size` must"),
        (
            ["--discriminator_options", "word_vectors=gone.txt"],
            'discriminator: There is no word vector file "gone.txt"',
        ),
        (["--mle_options", "temperatures=[0.5"], "holds no list"),
        (["--discriminator_options", "filters"], "`discriminator_options` are written `name=value`, got 'filters'"),
        (["--discriminator_config", "none.yaml"], "Stage discriminator: There is no configuration file"),
        (["--generator", "./nowhere"], "There is no folder `./nowhere`"),
        (["--energy", "./nowhere"], "nowhere"),
        (["--resume_from_checkpoint", "last"], "resumes by itself when it is started again"),
        (["--monitor_queries", "0", "--metric_for_best_model", "eval_quality"], "`monitor_queries` is 0"),
    ],
    ids=lambda value: "".join(value).strip("-") if isinstance(value, list) else "",
)
def test_wrong_settings_end_the_recipe_before_anything_is_trained(message, words, told):
    assert told in message(*words)


def test_a_changed_setting_is_refused_and_named(message, trained):
    told = message("--mle_options", "learning_rate=0.5", folder="run")
    assert "stage `mle`" in told and "`learning_rate` was 0.05, now 0.5" in told and "take another `output_dir`" in told
    told = message("--radial_weight", 3, "--seed", 42, folder="run")
    assert "stage `adversarial`" in told and "`radial_weight` was 1.0, now 3.0" in told


def test_a_part_of_another_tokenizer_is_refused_by_its_first_other_token(message, trained, place):
    other = place / "other_energy"
    if not other.exists():
        AutoModel.from_pretrained(trained[0] / "energy").save_pretrained(other)
        tokenizer = AutoTokenizer.from_pretrained(trained[0] / "energy")
        swapped = json.loads((trained[0] / "energy" / "tokenizer.json").read_text())
        vocabulary = swapped["model"]["vocab"]
        first, second = (tokenizer.convert_ids_to_tokens(token) for token in (7, 9))
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        tokenizer.save_pretrained(other)
        (other / "tokenizer.json").write_text(json.dumps(swapped))
        config = json.loads((other / "config.json").read_text())  # made with that tokenizer
        config["vocabulary"] = vocabulary_fingerprint(AutoTokenizer.from_pretrained(other))
        (other / "config.json").write_text(json.dumps(config))
        (other / "first").write_text(first)
    told = message("--generator", trained[0], "--energy", other)
    assert f"the token {(other / 'first').read_text()!r} has the id 9 in its own and has the id 7 in the gen" in told
    assert "--tokenizer" in told


def test_gan_ael_has_no_energy_that_its_discriminator_could_be_a_copy_of(message):
    told = message("--discriminator_options", "energy=ours", script="train_gan_ael")
    assert "this objective has no energy" in told


# ---- the paper's own corpora ----


@pytest.mark.parametrize(
    ("corpus", "size"), [("opensubtitles", 200), pytest.param("weibo", 300, marks=pytest.mark.slow)]
)
def test_the_papers_run_starts_on_a_stand_in(recipe, place, corpus, size, stand_in):
    variables = stand_in(place, corpus, place / "corpus")
    short = ["max_steps=2", "warmup_steps=0", "eval_steps=2", "save_steps=2", "bf16=true", "logging_steps=1"]
    scores = ["beams=[2]", "temperatures=[1.0]", "metric_vector_size=4", "max_new_tokens=3", "resamples=0"]
    energy = ["max_steps=3", "ais_temperatures=5", "ais_chains=2", "resamples=5", "curvature_queries=1", "bf16=true"]
    said = recipe(
        f"paper_{corpus}", "--use_cpu", "--disable_tqdm", "true",
        "--mle_options", *short, *scores,
        "--energy_options", *energy, "--discriminator_options", *short,
        "--max_steps", 4, "--discriminator_warmup_steps", 2, "--eval_steps", 2, "--save_steps", 2,
        "--logging_steps", 1, "--max_soft_length", 3, "--monitor_max_new_tokens", 3, *_words(scores),
        config=str(ROOT / "recipes" / "papers" / corpus / "localgan.yaml"),
        **variables,
    )  # fmt: skip
    assert stages(said) == dict.fromkeys(("mle", "energy", "discriminator", "adversarial"), "begins")
    folder = place / f"paper_{corpus}"
    arguments = json.loads((folder / "training_args.json").read_text())
    assert (arguments["radial_scale"], arguments["relaxation"], arguments["teacher_forcing_weight"]) == (
        "center", "softmax", 0,
    )  # fmt: skip
    energy, discriminator = (AutoModel.from_pretrained(folder / name) for name in ("energy", "discriminator"))
    assert (energy.config.query_size, energy.config.hidden_size, energy.config.top_size) == (size, 128, 128)
    assert discriminator.config.body == "dbm"


def _words(options: list[str]) -> list[str]:
    """`name=[value]` as words of the command line."""
    pairs = [option.split("=") for option in options]
    return [word for name, value in pairs for word in (f"--{name}", *value.strip("[]").split(", ")) if word]


# ---- killed, and started again ----

MOMENTS = [
    "stages/mle/settings.json",
    "stages/mle/checkpoint-3",
    "stages/mle/evaluation.json",
    "stages/mle/finished.json",
    "stages/energy/checkpoint-3",
    "stages/energy/model.safetensors",
    "stages/discriminator/settings.json",
    "stages/discriminator/checkpoint-6",
    "stages/discriminator/matching.json",
    "stages/adversarial/settings.json",
    "checkpoint-2",
    "checkpoint-6",
    "checkpoint-8",
    "discriminator",
    "evaluation.json",
    "README.md",
]


def start(place: Path, folder: str, *launch: str, **options) -> subprocess.Popen:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "HF_LOCALGAN_DATA": str(place), "OMP_NUM_THREADS": "1",
        "HF_DATASETS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "120",
    }  # fmt: skip
    command = [sys.executable, *launch, str(ROOT / "recipes" / "train_localgan.py"), "files/localgan.yaml"]
    return subprocess.Popen(
        [*command, "--output_dir", folder], cwd=place, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_a_run_leaves_the_same_models(trained, place):
    folder, killed = place / "killed", 0
    for moment in MOMENTS:
        process = start(place, "killed")
        while process.poll() is None and not (folder / moment).exists():
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
    process = start(place, "killed")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert killed >= len(MOMENTS) - 2  # what lasts a moment only may be missed
    assert weights(folder) == weights(trained[0])
    for name in ("mle", "energy", "discriminator"):
        file = f"stages/{name}/model.safetensors"
        assert (folder / file).read_bytes() == (trained[0] / file).read_bytes()
    assert not list(folder.rglob(".*"))
    assert scores(folder) == scores(trained[0])


@pytest.mark.slow
def test_two_processes_go_through_the_stages_together(place):
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    process = start(place, "two", *launch)
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 0, said
    assert stages(said) == dict.fromkeys(("mle", "energy", "discriminator", "adversarial"), "begins")
    assert said.count("stage mle") == 1 and LEFT <= {path.name for path in (place / "two").iterdir()}
    said = start(place, "two", *launch).communicate(timeout=500)[0]
    assert set(stages(said).values()) == {"finished before"}
