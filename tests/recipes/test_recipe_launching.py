"""The accelerate configurations of the recipes: read all, started where processors are enough."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from hf_localgan.models.loading import load_generator

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "accelerate_configs"
STARTED = ("cpu", "cpu_two", "cpu_two_nodes")
# distributed_type, processes, machines, on processors
FILES = {
    "cpu": ("NO", 1, 1, True),
    "cpu_two": ("MULTI_GPU", 2, 1, True),
    "cpu_two_nodes": ("MULTI_GPU", 2, 2, True),
    "gpu_one": ("NO", 1, 1, False),
    "gpu_several": ("MULTI_GPU", 8, 1, False),
    "gpu_several_nodes": ("MULTI_GPU", 64, 8, False),
    "gpu_fsdp": ("FSDP", 8, 1, False),
}
STEPS = """
dataset: $HF_LOCALGAN_DATA/corpus
disable_tqdm: true
max_steps: 4
per_device_train_batch_size: 4
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
logging_steps: 1
"""
SCORES = """
beams: [2]
temperatures: [1.0]
max_new_tokens: 5
metric_vector_size: 6
resamples: 5
sample_rows: 2
"""
GENERATOR = "embedding_size: 8\nhidden_size: 8\nlearning_rate: 0.05\n"
PLAYERS = """
discriminator_warmup_steps: 2
monitor_queries: 5
monitor_max_new_tokens: 5
collapse_share: 1.0
collapse_length: 100
mle_config: train_mle.yaml
discriminator_config: train_matching.yaml
"""
SOFT = "max_soft_length: 5\n"
RECIPES = {
    "train_mle": STEPS + SCORES + GENERATOR,
    "train_raml": STEPS + SCORES + GENERATOR + "payoff: edit\nedit_rate: 0.1\n",
    "train_dbm": STEPS + "vector_size: 6\nhidden_size: 8\ntop_size: 5\nbottom_share: 0.33\ntop_share: 0.33\n"
    "chains: 8\ncurvature_queries: 3\nclusters: 2\nresamples: 5\nais_chains: 10\nais_temperatures: 20\n",
    "train_matching": STEPS + "vector_size: 6\nembedding_size: 4\nfilters: 3\nwidths: [1, 2]\n",
    "train_localgan": STEPS + SCORES + PLAYERS + SOFT + "energy_config: train_dbm.yaml\n",
    "train_gan_ael": STEPS + SCORES + PLAYERS + SOFT,
    "train_adver_regs": STEPS + SCORES + PLAYERS + "step_reward: rollout\npolicy_max_new_tokens: 4\n",
    "train_aim": STEPS + SCORES + PLAYERS + SOFT + "backward_config: train_mle.yaml\n",
    "train_daim": STEPS.replace("max_steps: 4", "max_steps: 8")
    + SCORES
    + PLAYERS
    + SOFT
    + "backward_config: train_mle.yaml\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    """A folder with a corpus of 40 queries with three responses each, and a file of settings for each recipe."""
    place = tmp_path_factory.mktemp("launched")
    write_dialogue(place / "corpus", adjectives=True)
    for name, text in RECIPES.items():
        (place / f"{name}.yaml").write_text(text + f"output_dir: {place / name}\n")
    return place


@pytest.fixture(scope="module")
def start(place, variables_of):
    """`start(config, *words)`: a process of `accelerate launch` with that configuration, running."""

    def run(config: str, *words) -> subprocess.Popen:
        hidden = ("WORLD_SIZE", "LOCAL_RANK", "RANK", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU")
        environment = {name: value for name, value in variables_of(place).items() if name not in hidden}
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / f"{config}.yaml"]
        return subprocess.Popen(
            [*map(str, command), *map(str, words)], cwd=place, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    return run


def finish(*processes: subprocess.Popen) -> list[str]:
    """What they printed, all together, when all have ended well."""
    said = []
    try:
        said = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-4000:]
    return said


def first_epoch(folder: Path) -> float:
    """How much of the training data, 60 pairs, the first update saw."""
    return json.loads((folder / "trainer_state.json").read_text())["log_history"][0]["epoch"]


# ---- read ----


def test_every_file_is_known_here():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_what_the_file_is_named_for(name):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    kind, processes, machines, on_processors = FILES[name]
    assert config.distributed_type == kind
    assert (config.num_processes, config.num_machines, bool(config.use_cpu)) == (processes, machines, on_processors)
    assert config.mixed_precision == "no" and config.machine_rank == 0
    if machines > 1:
        assert config.main_process_ip and config.main_process_port and config.same_network


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_whether_it_is_started_here_and_what_it_needs(name):
    head = " ".join((CONFIGS / f"{name}.yaml").read_text().split("compute_environment")[0].split())
    row = next(line for line in (CONFIGS / "README.md").read_text().splitlines() if line.startswith(f"| [{name}.yaml]"))
    answer = row.split("|")[-2].strip()
    assert ("Started by a test" in head) is answer.startswith("by a test") is (name in STARTED)
    needs = answer.startswith("no: needs") and "GPU" in answer
    assert ("Not run" in head and "GPU" in head) is needs is (name not in STARTED)


def test_sharding_writes_whole_checkpoints_and_wraps_no_layer_by_itself():
    sharding = load_config_from_file(str(CONFIGS / "gpu_fsdp.yaml")).fsdp_config
    assert sharding["fsdp_version"] == 2 and sharding["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert sharding["fsdp_auto_wrap_policy"] == "NO_WRAP" and not sharding["fsdp_cpu_ram_efficient_loading"]


@pytest.mark.parametrize("name", ["cpu_two", "cpu_two_nodes"])
def test_processes_on_processors_see_no_gpu(name, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", load_config_from_file(str(CONFIGS / f"{name}.yaml")).gpu_ids)
    assert torch.cuda._parse_visible_devices() == []


# ---- started ----


@pytest.mark.slow
def test_one_process_on_the_processor(start, place):
    (said,) = finish(start("cpu", ROOT / "recipes" / "train_mle.py", "train_mle.yaml", "--output_dir", place / "one"))
    assert first_epoch(place / "one") == pytest.approx(1 / 15)  # 4 pairs of 60
    assert "asked for several" not in said


@pytest.mark.slow
def test_two_machines_with_a_process_each(start, place):
    words = ROOT / "recipes" / "train_mle.py", "train_mle.yaml", "--output_dir", place / "nodes"
    second = start("cpu_two_nodes", "--machine_rank", 1, *words)
    first, _ = finish(start("cpu_two_nodes", "--machine_rank", 0, *words), second)
    assert first_epoch(place / "nodes") == pytest.approx(1 / 8)  # 4 pairs each, 8 of 60: the last update has 4
    assert "scores of 10 queries" in first


@pytest.fixture(scope="module")
def launched(start, place):
    """All recipes in two processes: one launch."""
    (said,) = finish(start("cpu_two", Path(__file__).with_name("launched_recipes.py"), place, *RECIPES))
    return said


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_on_two_processes_of_accelerate_launch(recipe, launched, place):
    for rank in range(2):
        told = json.loads((place / f"{recipe}-{rank}.json").read_text())
        assert told == {"processes": 2, "device": "cpu"}
    assert first_epoch(place / recipe) == pytest.approx(1 / 8)
    assert (place / recipe / "model.safetensors").is_file() and not list((place / recipe).rglob(".saving*"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in ("train_dbm", "train_matching")])
def test_what_two_processes_leave_is_a_whole_generator(recipe, launched, place):
    model = load_generator(place / recipe)[0]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
