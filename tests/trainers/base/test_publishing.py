"""Trainers on the Hub: what they upload and when, the cards they leave, and going on from there."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, TrainerCallback, pipeline

import hf_localgan  # noqa: F401 - registers the models and the pipeline
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import evaluate_generator
from hf_localgan.hub.scores import RESULTS_FILE
from hf_localgan.hub.upload import UploadError
from hf_localgan.models import DbmModel, PairDiscriminator
from hf_localgan.models.loading import load_generator
from hf_localgan.recipes import checkpoint_to_resume, finish_matching, finish_training
from hf_localgan.recipes.finish import check_publishing
from hf_localgan.recipes.parts import load_discriminator, load_energy
from hf_localgan.trainers import DbmTrainer, DbmTrainingConfig, MatchingConfig, MatchingTrainer
from hf_localgan.trainers.base.cards import card_of_folder
from hf_localgan.trainers.base.settings import shaping_settings

REPO = "somebody/tiny"
SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "hub_always_push": True, "seed": 3}


@pytest.fixture
def published(hub, trainer, family, pairs):
    """`published(**arguments)`: an `MleTrainer` of a tiny model that pushes to the loopback Hub."""

    def build(model=None, **arguments):
        arguments = {**SAVING, "push_to_hub": True, "hub_model_id": REPO, **arguments}
        return trainer(model or family("rnn_seq2seq", dropout=True), pairs(16), pairs(8, 1), **arguments)

    return build


def names(hub, revision: str = "main") -> set[str]:
    return {name.split("/")[0] for name in hub.files(REPO, revision)} - {".gitattributes"}


def run_the_code(text: str, capsys) -> list[str]:
    said = []
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})
        said.append(capsys.readouterr().out)
    return said


MODEL = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
         "tokenizer_config.json", "training_args.json"}  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "messages", "checkpoints"),
    [
        ("end", ["End of training"], set()),
        ("every_save", ["step 2", "step 4", "End of training"], set()),
        ("checkpoint", ["step 2", "step 4", "End of training"], {"last-checkpoint"}),
        ("all_checkpoints", ["step 2", "step 4", "End of training"], {"checkpoint-2", "checkpoint-4"}),
    ],
)
def test_each_save_is_one_commit_of_what_the_strategy_asks_for(published, hub, strategy, messages, checkpoints):
    run = published(hub_strategy=strategy)
    (Path(run.args.output_dir) / "stages" / "mle").mkdir(parents=True)
    (Path(run.args.output_dir) / "stages" / "mle" / "model.safetensors").write_bytes(b"of a stage")
    run.train()
    run.push_to_hub()
    told = [message.split(", ")[-1] for message in hub.messages(REPO)[1:]]
    assert told == messages or told == messages[:-1]  # nothing new at the end makes no commit
    assert names(hub) - {"trainer_state.json"} == MODEL | checkpoints
    files = hub.files(REPO)
    for folder in checkpoints:
        assert f"{folder}/optimizer.pt" in files and f"{folder}/trainer_state.json" in files
    assert files["model.safetensors"] == (Path(run.args.output_dir) / "model.safetensors").read_bytes()
    of_stages = {f"{folder}/stages/mle/model.safetensors" for folder in checkpoints}  # to go on, and nowhere else
    assert {name for name in files if "stages" in name} == of_stages
    assert not [name for name in files if name.endswith("training_args.bin") or "/." in name]
    assert not [*Path(run.args.output_dir).glob(".*")]
    card = ModelCard(files["README.md"].decode())
    assert "By `MleTrainer`" in card.text and f'from_pretrained("{REPO}")' in card.text and "* steps: 4" in card.text


def test_what_was_pushed_is_loaded_by_everything(published, hub, capsys):
    run = published(hub_strategy="end")
    run.train()
    first = run.push_to_hub(revision="trial")
    model = AutoModelForSeq2SeqLM.from_pretrained(REPO, revision="trial")
    for name, value in run.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert len(AutoTokenizer.from_pretrained(REPO, revision=first.oid)) == 20
    run.push_to_hub()
    assert pipeline("text2text-generation", model=REPO)("hello you", max_new_tokens=3)[0]["generated_text"] is not None
    loaded, _ = load_generator(REPO)
    assert torch.equal(loaded.get_input_embeddings().weight, run.model.get_input_embeddings().weight)
    said = run_the_code(hub.files(REPO)["README.md"].decode(), capsys)
    assert len(said) == 2 and "generated_text" in said[0]


def test_going_on_from_the_hub_is_going_on(published, hub, trainer, family, pairs, parameters, tmp_path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "save_total_limit": 1}
    best |= {"metric_for_best_model": "eval_loss", "learning_rate": 3.0, "max_steps": 6}
    whole = trainer(family("rnn_seq2seq", dropout=True), pairs(16), pairs(8, 1), **{**SAVING, **best},
                    output_dir=str(tmp_path / "whole"))  # fmt: skip
    whole.train()
    begun = published(**best, hub_strategy="checkpoint", callbacks=[StopAt(4)])
    begun.train()
    shutil.rmtree(begun.args.output_dir)
    resumed = published(**best, hub_strategy="checkpoint")
    args = resumed.args
    args.resume_from_checkpoint = "last-checkpoint"
    assert checkpoint_to_resume(args) == str(Path(args.output_dir) / "checkpoint-4")
    shutil.rmtree(args.output_dir)
    resumed.train(resume_from_checkpoint="last-checkpoint")
    assert resumed.state.global_step == 6 and resumed.state.best_global_step == whole.state.best_global_step
    wanted = parameters(whole.model)
    for name, value in parameters(resumed.model).items():
        assert torch.equal(value, wanted[name]), name
    assert [row["loss"] for row in resumed.state.log_history if "loss" in row] == [
        row["loss"] for row in whole.state.log_history if "loss" in row
    ]


class StopAt(TrainerCallback):
    """Ends a training early, as an interruption would after a save."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def test_an_upload_that_fails_while_training_is_told_and_training_goes_on(published, hub, caplog):
    run = published()
    hub.fail("POST", "/commit/", 500)
    with caplog.at_level(logging.WARNING):
        run.train()
    assert run.state.global_step == 4 and f'"{REPO}" could not be uploaded' in caplog.text
    assert names(hub) == set() and (Path(run.args.output_dir) / "checkpoint-4" / "optimizer.pt").is_file()
    with pytest.raises(UploadError, match=f'"{REPO}" could not be uploaded .*run".*push_to_hub'):
        run.push_to_hub()
    assert names(hub) == set() and (Path(run.args.output_dir) / "model.safetensors").is_file()
    hub.failures.clear()
    run.push_to_hub()
    assert names(hub) >= MODEL


def test_a_wrong_token_is_told_at_the_start(hub, published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UploadError, match=f'"{REPO}" cannot be made or written to .*hf auth login'):
        published()


def test_of_two_processes_one_pushes_and_both_go_on(hub, tmp_path):
    script = Path(__file__).parents[1] / "processes" / "publishing_two_processes.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, "2"]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    done = subprocess.run([*command, tmp_path], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == {"steps": 4, "equal": True}
    steps = [message.split()[-1] for message in hub.messages(REPO)[1:]]
    assert steps == ["2", "4", "2", "4"]  # one commit for each save: begun, resumed, and two of the whole training
    assert {"last-checkpoint/rng_state_0.pth", "last-checkpoint/rng_state_1.pth"} <= set(hub.files(REPO))


# ---- other trainers ----


def test_localgan_brings_its_discriminator_and_energy(hub, players, family, pairs, capsys):
    run = players(family("rnn_seq2seq"), pairs(8), pairs(4, 1), push_to_hub=True, hub_model_id=REPO,
                  hub_strategy="checkpoint", save_strategy="steps", save_steps=2)  # fmt: skip
    run.train()
    run.push_to_hub()
    assert names(hub) - {"trainer_state.json"} == MODEL | {"discriminator", "energy", "last-checkpoint"}
    assert {"last-checkpoint/energy/model.safetensors", "last-checkpoint/optimizer.pt"} <= set(hub.files(REPO))
    energy = DbmModel.from_pretrained(REPO, subfolder="energy")
    discriminator = PairDiscriminator.from_pretrained(REPO, subfolder="discriminator")
    for one, own in ((energy, run.energy), (discriminator, run.discriminator)):
        for name, value in own.state_dict().items():
            assert torch.equal(one.state_dict()[name], value), name
    assert torch.equal(load_energy(f"{REPO}/energy")[0].visible_bias, energy.visible_bias)
    assert isinstance(load_discriminator(f"{REPO}/discriminator")[0], PairDiscriminator)
    card = hub.files(REPO)["README.md"].decode()
    assert "By `LocalGanTrainer`" in card and len(run_the_code(card, capsys)) == 3


def test_two_players_go_on_from_the_hub(hub, players, family, pairs, parameters, tmp_path):
    def run(name: str, **arguments):
        arguments = {**SAVING, "hub_model_id": REPO, "hub_strategy": "checkpoint", **arguments}
        return players(family("rnn_seq2seq"), pairs(16), output_dir=str(tmp_path / name), **arguments)

    whole = run("whole")
    whole.train()
    run("begun", push_to_hub=True, callbacks=[StopAt(2)]).train()
    resumed = run("elsewhere")  # which pushes nothing itself
    resumed.train(resume_from_checkpoint="last-checkpoint")
    assert resumed.state.global_step == 4 and hub.messages(REPO)[1:] == ["Training in progress, step 2"]
    for own, wanted in ((resumed.model, whole.model), (resumed.discriminator, whole.discriminator)):
        found = parameters(own)
        assert all(torch.equal(value, found[name]) for name, value in parameters(wanted).items())


def test_an_energy_goes_on_from_the_hub(hub, energy_trainer, tiny_energy, vectors, parameters, tmp_path):
    def run(name: str, **arguments):
        arguments = {**SAVING, "hub_model_id": REPO, "hub_strategy": "checkpoint", "max_steps": 6, **arguments}
        return energy_trainer(tiny_energy(), vectors(64), output_dir=str(tmp_path / name), **arguments)

    whole = run("whole")
    whole.train()
    run("begun", push_to_hub=True, callbacks=[StopAt(4)]).train()
    resumed = run("elsewhere")
    resumed.train(resume_from_checkpoint="last-checkpoint")
    assert resumed.state.global_step == 6 and (tmp_path / "elsewhere" / "checkpoint-4").is_dir()
    found = parameters(resumed.model)
    assert all(torch.equal(value, found[name]) for name, value in parameters(whole.model).items())


def test_an_energy_of_vectors_is_published_with_code_for_vectors(hub, energy_trainer, tiny_energy, vectors, capsys):
    run = energy_trainer(tiny_energy(), vectors(32), vectors(16, 1), push_to_hub=True, hub_model_id=REPO,
                         hub_strategy="end", max_steps=4)  # fmt: skip
    run.train()
    run.push_to_hub()
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    assert card.data.to_dict().get("pipeline_tag") is None and "deep-boltzmann-machine" in card.data.tags
    (said,) = run_the_code(card.text, capsys)
    assert said.count("tensor(") == 2


@pytest.fixture
def text_energy_trainer(hub, token_energy, tiny_tokenizer, pairs, tmp_path):
    arguments = {"use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "chains": 10, "max_steps": 2}
    args = DbmTrainingConfig(str(tmp_path / "run"), **arguments, final_log_likelihood=False)
    return DbmTrainer(token_energy(), args, train_dataset=pairs(16), processing_class=tiny_tokenizer)


def test_an_energy_of_text_ranks_as_its_card_says(text_energy_trainer, hub, capsys):
    text_energy_trainer.train()
    text_energy_trainer.args.hub_model_id = REPO
    text_energy_trainer.push_to_hub()
    (said,) = run_the_code(hub.files(REPO)["README.md"].decode(), capsys)
    assert "[" in said and len(said.splitlines()) >= 3
    assert load_energy(REPO)[0].config.vocab_size == 20


def test_a_discriminator_is_published_with_its_scores(hub, tiny_discriminator, tiny_tokenizer, pairs, tmp_path, capsys):
    args = MatchingConfig(
        str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=2, push_to_hub=True,
        hub_model_id=REPO, card_license="cc0-1.0", card_language="en", per_device_train_batch_size=8,
    )  # fmt: skip
    run = MatchingTrainer(
        tiny_discriminator(), args, train_dataset=pairs(16), eval_dataset=pairs(8, 1),
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer), processing_class=tiny_tokenizer,
    )  # fmt: skip
    run.train()
    run.save_model()
    report = finish_matching(run, pairs(8, 2), {"model": "run", "dataset": "somebody/pairs", "split": "test"}, 20)
    assert names(hub) >= {"README.md", "matching.json", "matching.md", "trainer_state.json"}
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    first = card.data.eval_results[0]
    assert first.metric_value == pytest.approx(report.matching.value, abs=1e-6) and first.task_type == "text-ranking"
    assert first.metric_args["interval"]["high"] == pytest.approx(report.matching.high, abs=1e-6)
    assert card.data.license == "cc0-1.0" and card.data.language == "en" and card.data.datasets == ["somebody/pairs"]
    assert str(report.matching) in card.text
    capsys.readouterr()
    (said,) = run_the_code(card.text, capsys)
    assert len(said.splitlines()) == 2
    assert load_discriminator(REPO)[0].config.vocab_size == 20
    text = (tmp_path / "run" / "README.md").read_text()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert card_of_folder(tmp_path / "copy").read_text() == text  # from its files alone


# ---- cards and scores ----


def test_scores_are_shown_and_uploaded_only_beside_their_weights(published, hub, pairs, tiny_tokenizer):
    queries, references = ["hello", "how are you ?"], [["hello you"], ["i am fine", "fine !"]]
    score = partial(evaluate_generator, queries=queries, references=references, decodings=[Decoding.greedy()],
                    resamples=20, max_new_tokens=4)  # fmt: skip
    run = published(hub_strategy="end", save_strategy="no")
    run.train()
    run.save_model()
    about = {"model": "run", "dataset": "somebody/chats", "split": "test", "seed": 3}
    finish_training(run, pairs(8, 2), score, about)
    folder, files = Path(run.args.output_dir), hub.files(REPO)
    text = files["README.md"].decode()
    (entry, *_) = yaml.safe_load(files[RESULTS_FILE])
    day = json.loads(files["evaluation.json"])["about"]["date"]
    assert entry["dataset"] == {"id": "somebody/chats", "task_id": "dist_1_greedy"} and entry["date"] == day
    assert date.fromisoformat(day) and entry["source"]["url"] == f"{hub.url}/{REPO}/blob/main/evaluation.json"
    assert {"evaluation.json", "generations.parquet", "training.png"} <= set(files) and "## Scores" in text
    interval = ModelCard(text).data.eval_results[0].metric_args["interval"]
    assert interval["low"] <= ModelCard(text).data.eval_results[0].metric_value <= interval["high"]
    assert card_of_folder(folder).read_text() == text
    run.create_model_card()
    assert (folder / "README.md").read_text() == text
    with torch.no_grad():
        run.model.get_input_embeddings().weight.add_(1)
    (folder / ".eval_results" / "other.yaml").write_text("[]\n")
    run.push_to_hub(revision="later")
    assert {name for name in hub.files(REPO, "later") if "eval_results" in name} == {".eval_results/other.yaml"}
    later = ModelCard(hub.files(REPO, "later")["README.md"].decode())
    assert "## Scores" not in later.text and later.data.eval_results is None
    run.save_model(_internal_call=True)
    assert "## Scores" not in card_of_folder(folder).read_text()


def test_generations_are_published_with_the_scores_if_they_are_asked_for(published, hub, pairs):
    run = published(push_to_hub=False, save_strategy="no", completions_to="somebody/said")
    with pytest.raises(ValueError, match='The licence of the data set "chats" is not known'):
        check_publishing(run.args, "chats")
    assert not hub.commits
    check_publishing(run.args, "smalltalk")  # at the start, so that a wrong token shows then
    assert hub.settings["datasets/somebody/said"]["visibility"] == "private"
    run.train()
    run.save_model()
    score = partial(evaluate_generator, queries=["hello"], references=[["hello you"]], resamples=20, max_new_tokens=4,
                    decodings=[Decoding.greedy(), Decoding.sampling(0.7)])  # fmt: skip
    result = finish_training(run, pairs(8, 2), score, {"model": "run", "dataset": "smalltalk", "split": "test"})
    files = hub.files("datasets/somebody/said")
    assert hub.messages("datasets/somebody/said") == ["initial commit", "Generations"] and REPO not in hub.commits
    (parquet,) = (data for name, data in files.items() if name.endswith(".parquet"))
    row = {"query": "hello", "references": ["hello you"], **{name: said[0] for name, said in result.answers.items()}}
    assert pyarrow.parquet.read_table(pyarrow.BufferReader(parquet)).to_pylist() == [row]
    assert "completions" not in (Path(run.args.output_dir) / "README.md").read_text()
    assert "completions_to" not in shaping_settings(type(run.args))


def test_adapters_are_pushed_with_our_card(published, hub, family, tmp_path, capsys):
    family("t5").save_pretrained(tmp_path / "base")
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"]))
    run = published(adapted, hub_strategy="every_save")
    run.train()
    run.push_to_hub()
    assert names(hub) >= {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert "model.safetensors" not in names(hub)
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    assert card.data.library_name == "peft" and "By `MleTrainer`" in card.text and "adapters alone" in card.text
    assert len(run_the_code(card.text, capsys)) == 2
