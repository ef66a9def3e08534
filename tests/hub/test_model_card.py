"""The model card: what it says for each objective, what it must not say, and that its code runs."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation
from hf_localgan.hub import write_discriminator_card, write_energy_card, write_model_card
from hf_localgan.hub.settings import changed_settings
from hf_localgan.metrics import score_references, score_responses
from hf_localgan.models import DbmConfig, DbmModel
from hf_localgan.trainers import (
    AdverRegsTrainer,
    AimTrainer,
    DaimTrainer,
    DbmTrainer,
    ExpectedRewardTrainer,
    GanAelTrainer,
    LocalGanConfig,
    LocalGanTrainer,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
    RamlTrainer,
)
from hf_localgan.trainers.speech.trainer import SpeechRamlTrainer

QUERIES = ["how are you ?", "what is | your name ?", "are you <b>fine</b> ?"]
REFERENCES = [["i am fine thanks", "fine !"], ["my name is hello", "hello"], ["you are fine", "i am"]]
ANSWERS = ["fine thanks", "my name is *you*", "i am"]
GENERATOR_TRAINERS = (MleTrainer, RamlTrainer, ExpectedRewardTrainer, GanAelTrainer, LocalGanTrainer)
ALL_TRAINERS = (*GENERATOR_TRAINERS, AdverRegsTrainer, AimTrainer, DaimTrainer, DbmTrainer, MatchingTrainer,
                SpeechRamlTrainer)  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Scores of three answers, the same under greedy decoding and by sampling."""
    words = "how are you i am fine thanks what is your name my hello ?".split()
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 4)), name="random")
    report = score_responses(ANSWERS, REFERENCES, queries=QUERIES, vectors=vectors, resamples=20)
    about = {
        "model": "tiny", "dataset": "/home/somebody/corpora/chats.jsonl", "split": "test", "seed": 1, "tokens": 12,
        "best_step": 300, "perplexity": 20.5, "nats_per_token": 3.02, "objective": "RAML",
    }  # fmt: skip
    decodings = [Decoding.greedy(), Decoding.sampling(0.7)]
    return Evaluation(
        about, QUERIES, REFERENCES, {one.name: report for one in decodings},
        score_references(REFERENCES, vectors=vectors, resamples=20), {one.name: ANSWERS for one in decodings},
        decodings,
    )  # fmt: skip


@pytest.fixture
def folder(tiny_generator, tiny_tokenizer, tmp_path):
    """A saved generator."""
    folder = tmp_path / "tiny-model"
    tiny_generator().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def folds(text: str) -> list[str]:
    """Titles of the folded parts of a card, whose Markdown is read only between empty lines."""
    parts = re.findall(r"(?<=\n\n)<details>\n<summary>(.*)</summary>\n\n(?s:.*?)\n\n</details>(?=\n\n|\n?$)", text)
    assert len(parts) == text.count("<details>") == text.count("</details>")
    return parts


def unfolded(text: str) -> str:
    return re.sub(r"(?s)<details>.*?</details>", "", text)


def code_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("trainer", GENERATOR_TRAINERS, ids=lambda trainer: trainer.__name__)
def test_a_card_of_each_objective_can_be_read_back(trainer, evaluation, tmp_path):
    args = trainer.config_class(str(tmp_path), use_cpu=True, learning_rate=0.0123, warmup_steps=7)
    path = write_model_card(
        tmp_path, trainer=trainer, evaluation=evaluation, args=args, license="cc0-1.0", language="zh-words",
        datasets="somebody/chats", repo_id="somebody/tiny",
    )  # fmt: skip
    assert path == tmp_path / "README.md" and [*tmp_path.iterdir()] == [path]
    card, found = ModelCard.load(path), trainer.objective
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text2text-generation"
    assert data["tags"] == ["hf-localgan", found.tag] and data["language"] == "zh" and data["license"] == "cc0-1.0"
    assert data["datasets"] == ["somebody/chats"] and card.data.model_name == "tiny"
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores["Dist-2, greedy"] == pytest.approx(evaluation.reports["greedy"]["dist_2"].value, abs=1e-6)
    assert scores["perplexity per token"] == 20.5
    assert not [name for name in scores if "temperature" in name]  # depends on a seed
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}

    assert f"Objective: **{found.name}**" in card.text and f"`{trainer.__name__}`" in card.text
    assert "| `learning_rate` | 0.0123 |" in card.text and "| `warmup_steps` | 7 |" in card.text
    for citation in found.citations:
        assert citation in card.text
    for score in ("dist_2", "mean_length"):
        own = evaluation.reports["temperature 0.7"][score].interval
        value, low, high = (f"{number:.3f}" for number in (own.value, own.low, own.high))
        # without a range that shows nothing
        assert (value if value == low == high else f"{value} ({low} to {high})") in card.text
    assert "{{" not in card.text.replace("{{LocalGAN}", "") and "{%" not in card.text and "\n\n\n" not in card.text


def test_the_code_of_a_card_runs(folder, evaluation, monkeypatch, capsys):
    energy = DbmModel(DbmConfig(query_size=3, response_size=3, hidden_size=4, top_size=2, vocab_size=20))
    energy.word_vectors.load(torch.randn(20, 3), range(4, 20))
    energy.save_pretrained(folder / "energy")
    write_model_card(folder, trainer=LocalGanTrainer, evaluation=evaluation)
    text = (folder / "README.md").read_text()
    monkeypatch.chdir(folder.parent)  # where the folder's name leads to it
    blocks = code_blocks(text)
    assert len(blocks) == 3 and all(repr(QUERIES[0]) in block for block in blocks)
    said = []
    for block in blocks:
        names = {}
        exec(compile(block, "README.md", "exec"), names)
        said.append(capsys.readouterr().out)
    assert "generated_text" in said[0] and said[1].startswith("[") and "i am fine thanks" in said[2]


def test_what_is_not_there_is_left_out(folder):
    card = ModelCard.load(write_model_card(folder, trainer=MleTrainer))
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    headings = re.findall(r"^## (.*)", card.text, flags=re.MULTILINE)
    assert headings == ["Use", "Limits and risks", "Details"]
    assert folds(card.text) == ["Without the pipeline", "Training: settings and course", "Citation", "Versions"]
    assert len(code_blocks(card.text)) == 2 and "energy/" not in card.text and "![" not in card.text
    assert "No licence is stated here" in card.text and "Data:" not in card.text


@pytest.mark.parametrize("trainer", ALL_TRAINERS, ids=lambda trainer: trainer.__name__)
def test_a_card_is_read_in_two_minutes(trainer, evaluation, tmp_path):
    for name in ("training.png", "front.png", "evaluation.json", "energy_gap.png"):
        (tmp_path / name).write_bytes(b"")
    args = trainer.config_class(str(tmp_path), use_cpu=True)
    about = {"dataset": "somebody/chats", "split": "test"}
    score = {"value": 0.7654, "low": 0.75, "high": 0.78, "level": 0.95, "method": "bootstrap"}
    if trainer.role == "energy":
        own = {"difference": score, "energy": score, "recall_at_1": score, "candidates": 10}
        report = {"about": about, "matching": {"DBM": own, "Gaussian": own}, "likelihood": {}}
        path = write_energy_card(tmp_path, trainer=trainer, report=report, text="## Matching\n\n| a |\n| --- |\n| 1 |")
        row = "| matching by F(q, r) | 0.7654 ± 0.0150 |"
        said = "A Gaussian over the same vectors: matching by F(q, r) - F(bq, r) 0.7654 ± 0.0150, 0.7654 ± 0.0150 first"
        assert f"{said} of 10." in path.read_text()
    elif trainer.role == "discriminator":
        report = {"about": about, "matching": score, "recall_at_1": score, "candidates": 5, "accuracy": 0.6,
                  "pairs": 10, "queries": 5}  # fmt: skip
        path = write_discriminator_card(tmp_path, trainer=trainer, report=report, text="| a |\n| --- |\n| 1 |")
        row = "| recall@1 of 5 | 0.7654 ± 0.0150 |\n| accuracy at logit 0 | 0.6000 |"
    else:
        path = write_model_card(
            tmp_path,
            trainer=trainer,
            evaluation=evaluation,
            args=args,
            sections={"Against its start": "| a |\n\nThe front lies nowhere comparable with the start's.\n"},
        )
        interval = evaluation.reports["greedy"]["mean_length"].interval
        row = f"| words | {interval.value:.3f} ± {(interval.high - interval.low) / 2:.3f} |"
        assert "in diversity against relevance, the front lies nowhere comparable with the start's.\n" in unfolded(
            path.read_text()
        )
        assert "<summary>All decodings, with their intervals</summary>" in path.read_text()
        assert "temperature" not in unfolded(path.read_text())
    text = ModelCard.load(path).text
    assert row in unfolded(text) and {"Curves", "Training: settings and course", "Citation"} <= {*folds(text)}
    assert len(unfolded(text).split()) < 450  # at 230 words a minute
    assert "![" not in unfolded(text) and "bibtex" not in unfolded(text)


def test_pictures_parts_and_sections_that_are_there_are_shown(folder, evaluation):
    for name in ("training.png", "front.png", "evaluation.json"):
        (folder / name).write_bytes(b"")
    (folder / "discriminator").mkdir()
    path = write_model_card(
        folder, trainer=GanAelTrainer, evaluation=evaluation, sections={"Against its start": "## Scores\n\nbetter"},
        samples=[{"query": "hello", "start": "a", "GAN-AEL": "b"}],
    )  # fmt: skip
    text = path.read_text()
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == ["training.png", "front.png"]
    assert "there is `discriminator/` (its opponent in training). Inference" in text
    assert "<summary>Against its start</summary>\n\n### Scores\n\nbetter\n\n</details>" in text
    assert "| query | start | GAN-AEL |\n| --- | --- | --- |\n| hello | a | b |\n" in text
    assert "are in `evaluation.json`." in text


def test_samples_are_shown_as_they_are(folder, evaluation):
    text = write_model_card(folder, trainer=RamlTrainer, evaluation=evaluation).read_text()
    assert r"| what is \| your name ? | my name is hello | my name is \*you\* |" in text
    assert "| are you &lt;b&gt;fine&lt;/b&gt; ? |" in text


def test_no_folder_and_no_token_of_this_machine_is_told(folder, evaluation):
    args = MleConfig(str(folder), use_cpu=True, hub_token="hf_secret", logging_steps=3, run_name="mine")
    text = write_model_card(folder, trainer=MleTrainer, evaluation=evaluation, args=args).read_text()
    assert "somebody" not in text and "Data: chats." in text
    for name in (str(folder.parent), "hf_secret", "logging_steps", "run_name", "use_cpu"):
        assert name not in text


@pytest.mark.parametrize(
    ("told", "name", "ids"),
    [
        ("somebody/chats", "somebody/chats", ["somebody/chats"]),
        ("smalltalk", "smalltalk", None),
        ("../corpora/chats.tsv", "chats", None),
        ("local/chats", "chats", None),
    ],
)
def test_only_ids_of_the_hub_are_linked_to(folder, evaluation, monkeypatch, told, name, ids):
    (folder / "local" / "chats").mkdir(parents=True)
    monkeypatch.chdir(folder)
    scored = Evaluation(**{**vars(evaluation), "about": {"dataset": told}})
    card = ModelCard.load(write_model_card(folder, trainer=RamlTrainer, evaluation=scored))
    assert card.data.to_dict().get("datasets") == ids and card.data.eval_results[0].dataset_name == name
    assert ("huggingface.co/datasets/" in card.text) == (ids is not None)


def test_settings_are_those_that_differ():
    args = LocalGanConfig("out", use_cpu=True, preset="paper", radial_weight=1.0, noise_scale=0.5, seed=7)
    told = dict(changed_settings(args))
    assert told["preset"] == "paper" and told["radial_scale"] == "center" and told["seed"] == "7"
    assert told["learning_rate"] == "1e-05"  # the class's default, always told
    assert not {"radial_weight", "noise_scale", "output_dir", "use_cpu", "report_to"} & set(told)
    with pytest.raises(ValueError, match="`args` must be a trainer's configuration"):
        changed_settings(SimpleNamespace(learning_rate=1.0))


def test_what_cannot_be_described_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="`trainer` must be the class of a trainer that says .*got <class 'int'>"):
        write_model_card(folder, trainer=int)
    with pytest.raises(ValueError, match="There is no folder .*missing"):
        write_model_card(tmp_path / "missing", trainer=RamlTrainer)
    assert not (folder / "README.md").exists()


def test_an_earlier_card_is_replaced_whole(folder, evaluation, monkeypatch):
    path = write_model_card(folder, trainer=RamlTrainer)
    before = path.read_text()
    monkeypatch.setattr(ModelCard, "__str__", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_model_card(folder, trainer=RamlTrainer, evaluation=evaluation)
    assert path.read_text() == before
