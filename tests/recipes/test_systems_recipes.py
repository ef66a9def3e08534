"""Adver-REGS, AIM and DAIM from text to model card on a tiny corpus, and what their checkpoints are good for."""

import json

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM

from hf_localgan.models.loading import load_generator
from hf_localgan.recipes import load_discriminator

STEPS = """
max_steps: 2
per_device_train_batch_size: 8
eval_strategy: "no"
save_strategy: "no"
logging_steps: 1
use_cpu: true
disable_tqdm: true
"""
SCORES = """
decodings: [greedy]
max_new_tokens: 5
metric_vector_size: 6
resamples: 5
sample_rows: 2
"""
PLAYERS = """
dataset: $HF_LOCALGAN_DATA/corpus
discriminator_warmup_steps: 1
learning_rate: 1.0e-3
monitor_queries: 4
monitor_max_new_tokens: 5
collapse_share: 1.0
collapse_length: 100
"""
LATER = STEPS.replace('save_strategy: "no"', "save_strategy: steps\nsave_steps: 3")
FILES = {
    "mle.yaml": STEPS + SCORES + "embedding_size: 8\nhidden_size: 8\nlearning_rate: 0.05\noutput_dir: nowhere\n",
    "matching.yaml": STEPS + "embedding_size: 4\nfilters: 3\nwidths: [1, 2]\noutput_dir: nowhere\n",
    "daim.yaml": LATER.replace("max_steps: 2", "max_steps: 6")
    + SCORES + PLAYERS + "max_soft_length: 4\noutput_dir: daim\n",
    "aim.yaml": LATER.replace("max_steps: 2", "max_steps: 3")
    + SCORES + PLAYERS + "max_soft_length: 4\noutput_dir: aim\n",
    "adver_regs.yaml": LATER.replace("max_steps: 2", "max_steps: 3")
    + SCORES + PLAYERS + "policy_max_new_tokens: 4\nstep_reward: rollout\nrollout_samples: 2\noutput_dir: regs\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dialogue):
    place = tmp_path_factory.mktemp("systems")
    write_dialogue(place / "corpus", adjectives=True)
    for name, text in FILES.items():
        (place / name).write_text(text)
    return place


@pytest.fixture(scope="module")
def said(place, run_here):
    """What DAIM's training printed."""
    return run_here(place, "train_daim", "daim.yaml")


def test_daim_makes_both_ways_and_does_nothing_twice(said, place, run_here):
    for stage in ("mle", "discriminator", "backward", "backward_discriminator", "adversarial"):
        assert f"stage {stage} in" in said
    backward, tokenizer = load_generator(place / "daim" / "backward")
    assert backward.config.noise_size == 10 == load_generator(place / "daim")[0].config.noise_size
    for name in ("discriminator", "backward_discriminator"):
        judge, own = load_discriminator(str(place / "daim" / name))
        assert judge.config.head == "cosine" and judge.config.head_size == 100
        assert own.get_vocab() == tokenizer.get_vocab()
    settings = {
        name: json.loads((place / "daim" / "stages" / name / "settings.json").read_text())
        for name in ("mle", "discriminator", "backward", "backward_discriminator")
    }
    assert {name: found["swap_sides"] for name, found in settings.items()} == {
        "mle": False, "discriminator": False, "backward": True, "backward_discriminator": True
    }  # fmt: skip
    assert AutoModelForSeq2SeqLM.from_pretrained(place / "daim", subfolder="backward").config.vocab_size
    card = ModelCard.load(place / "daim" / "README.md")
    assert "daim" in card.data.tags and "`backward/` (it reads queries back from responses)" in card.text
    assert run_here(place, "train_daim", "daim.yaml").count("finished before") == 5


def test_aim_and_adver_regs_begin_with_what_is_given(said, place, run_here):
    stages = place / "daim" / "stages"
    given = ["--generator", stages / "mle"]
    told = run_here(
        place, "train_aim", "aim.yaml", *given, "--discriminator", stages / "discriminator", "--backward",
        stages / "backward",
    )  # fmt: skip
    assert told.count("stage ") == 1 and (place / "aim" / "backward" / "model.safetensors").is_file()
    assert not (place / "aim" / "backward_discriminator").exists()
    told = run_here(place, "train_adver_regs", "adver_regs.yaml", *given)  # its discriminator is another one
    assert told.count("stage ") == 2 and "# Adver-REGS against its start" in (place / "regs/adversarial.md").read_text()


def test_a_checkpoint_is_reranked_by_its_own_backward_generator_and_answers_from_noise(said, place, run_here):
    run_here(
        place, "evaluate", "daim", "corpus", "--decodings", "bidi 0.5", "noise 1", "--max_new_tokens", "4",
        "--metric_vector_size", "6", "--resamples", "5", "--output_dir", "scores",
    )  # fmt: skip
    found = json.loads((place / "scores" / "evaluation.json").read_text())["decodings"]
    assert {name.split()[0] for name in found} == {"bidi", "noise"}
