"""Cards of finished folders: whose scores they show, and what is refused."""

import json

import pytest
from huggingface_hub import ModelCard

from hf_localgan.trainers import GanAelConfig, LocalGanConfig, MatchingConfig, MleConfig, RamlConfig
from hf_localgan.trainers.base.cards import card_of_folder, read_report, training_progress


@pytest.fixture
def folder(tiny_generator, tiny_tokenizer, tmp_path):
    """`folder(config, **arguments)`: what a training with such arguments has saved, without scores."""

    def build(config=MleConfig, **arguments):
        place = tmp_path / "out"
        args = config(str(place), use_cpu=True, **arguments)
        tiny_generator().save_pretrained(place)
        tiny_tokenizer.save_pretrained(place)
        (place / "training_args.json").write_text(json.dumps(args.to_sanitized_dict()))
        return place

    return build


@pytest.mark.parametrize(
    ("config", "trainer"),
    [
        (MleConfig, "MleTrainer"), (RamlConfig, "RamlTrainer"), (GanAelConfig, "GanAelTrainer"),
        (LocalGanConfig, "LocalGanTrainer"),
    ],
)  # fmt: skip
def test_without_scores_the_settings_say_what_was_trained(folder, config, trainer):
    place = folder(config, learning_rate=0.0123, card_license="cc0-1.0", card_language=["en", "fr"], hub_model_id="a/b")
    card = ModelCard.load(card_of_folder(place))
    assert f"By `{trainer}`" in card.text and "| `learning_rate` | 0.0123 |" in card.text
    assert card.data.license == "cc0-1.0" and card.data.language == ["en", "fr"] and "card_" not in card.text
    assert 'from_pretrained("a/b")' in card.text and card.data.eval_results is None
    card = ModelCard.load(card_of_folder(place, license="mit", language="de", datasets="x/y", repo_id="c/d"))
    assert (card.data.license, card.data.language, card.data.datasets) == ("mit", "de", ["x/y"])
    assert 'from_pretrained("c/d")' in card.text


def test_settings_from_the_file_are_those_of_the_trainer(folder):
    from hf_localgan.hub.settings import changed_settings, stored_settings

    settings = {"preset": "paper", "warmup_steps": 7, "metric_for_best_model": "ent_4", "lr_scheduler_type": "constant"}
    args = LocalGanConfig("out", use_cpu=True, **settings)
    assert stored_settings(json.loads(json.dumps(args.to_sanitized_dict())), LocalGanConfig) == changed_settings(args)


def test_the_course_of_a_training_is_told():
    history = [{"step": 2, "eval_loss": 3.14159, "epoch": 1.0}, {"step": 4, "eval_loss": 3.5}, {"step": 4, "loss": 1.0}]
    state = {"global_step": 4, "epoch": 2.0, "log_history": history, "best_global_step": 2}
    told = {"steps": 4, "epochs": 2.0, "best evaluation, at step": 2, "validation loss": 3.1416}
    assert training_progress(state, load_best_model=True) == told
    assert "last evaluation, at step" in training_progress({**state, "best_global_step": None}, load_best_model=True)
    # the weights that are left are those of the last step, whichever evaluation was the best
    history.append({"step": 4, "eval_loss": 4.25})
    last = {"steps": 4, "epochs": 2.0, "last evaluation, at step": 4, "validation loss": 4.25}
    assert training_progress(state, load_best_model=False) == last
    assert training_progress({}, load_best_model=True) == {}


def test_scores_of_other_weights_are_not_shown(folder):
    place = folder()
    (place / "evaluation.json").write_text(json.dumps({"about": {"weights": "0" * 16, "objective": "RAML"}}))
    (place / "training.png").write_bytes(b"")
    assert not read_report(place).is_current
    text = card_of_folder(place).read_text()
    assert "## Scores" not in text and "training.png" not in text


def test_what_cannot_be_described_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match='no folder ".*none"'):
        card_of_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model: it has no config.json"):
        card_of_folder(tmp_path / "empty")
    place = folder(MatchingConfig)  # settings of something else
    with pytest.raises(ValueError, match="does not say how its model was trained"):
        card_of_folder(place)
    (place / "evaluation.json").write_text('{"about": ')
    with pytest.raises(ValueError, match='evaluation.json" cannot be read'):
        card_of_folder(place)
    (place / "evaluation.json").write_text("[]")
    with pytest.raises(ValueError, match="has no `about`"):
        card_of_folder(place)
    assert not (place / "README.md").exists()
