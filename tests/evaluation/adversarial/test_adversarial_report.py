"""The end of adversarial training: the report against the start, its files and pictures."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import DataCollatorForSeq2Seq, TrainerState

from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import (
    AdversarialReport,
    FrontPoint,
    evaluate_generator,
    plot_adversarial_training,
    plot_answer_radii,
    plot_stability,
)
from hf_localgan.evaluation.runs import Run
from hf_localgan.metrics import compare_systems
from hf_localgan.metrics.intervals import no_interval
from hf_localgan.models import PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.recipes import finish_adversarial_training
from hf_localgan.recipes.finish_adversarial import evaluation_of_start
from hf_localgan.trainers import GanAelTrainer, LocalGanConfig, LocalGanTrainer
from hf_localgan.trainers.base.cards import write_card

QUERIES = ["hello", "how are you ?", "what is your name ?", "are you fine ?"]
REFERENCES = [["hello you", "hello my name"], ["i am fine thanks", "fine !"], ["my name is hello"], ["you are fine"]]
DECODINGS = [Decoding.greedy(), Decoding.beam(2), Decoding.sampling(0.5), Decoding.sampling(1.5)]
HISTORY = [
    {"step": 10, "eval_loss": 3.0, "eval_ent_4": 4.0, "eval_relevance": 1.2},
    {"step": 15, "loss": 1.0, "gan/phase2_fraction": 0.8},
    {"step": 20, "eval_loss": 3.0, "eval_ent_4": 5.0, "eval_relevance": 1.3},
    {"step": 25, "loss": 1.0, "gan/phase2_fraction": 0.6},
    {"step": 30, "eval_loss": 3.0, "eval_ent_4": 4.5, "eval_relevance": 1.1},
]


def vectors() -> WordVectors:
    words = "hello how are you i am fine thanks what is your name my ? . !".split()
    return WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 5)), name="random")


@pytest.fixture
def score():
    """An evaluation of the four queries as a recipe hands it on, with a count of its calls."""

    def counted(model, tokenizer, **settings):
        counted.calls.append(settings["about"])
        return evaluate_generator(model, tokenizer, **settings)

    counted.calls = []
    settings = dict(queries=QUERIES, references=REFERENCES, decodings=DECODINGS, vectors=vectors(), resamples=20)
    function = partial(counted, **settings, max_new_tokens=6)
    function.calls = counted.calls
    return function


@pytest.fixture
def fake_trainer(tiny_generator, tiny_tokenizer, tmp_path):
    """`fake_trainer(**attributes)`: what the end of a training looks at, after a training."""

    (tmp_path / "run-localgan").mkdir()  # the generator was saved there

    def build(**attributes) -> SimpleNamespace:
        args = LocalGanConfig(str(tmp_path / "run-localgan"), use_cpu=True, learning_rate=3e-5)
        state = TrainerState(log_history=list(HISTORY), global_step=30)
        card = partial(write_card, args.output_dir, LocalGanTrainer, args, state)
        main = attributes.get("is_world_process_zero", lambda: True)
        return SimpleNamespace(
            **{
                "args": args, "objective": LocalGanTrainer.objective, "parts": {},
                "players": {"generator": None, "discriminator": None},
                "guard": SimpleNamespace(reason=None),
                "create_model_card": lambda **told: card(**told) if main() else None,
                "model": tiny_generator(seed=1), "processing_class": tiny_tokenizer,
                "state": state, "is_fsdp_enabled": False, "track_results": lambda files: None,
                "accelerator": SimpleNamespace(unwrap_model=lambda model: model, wait_for_everyone=lambda: None),
                "remove_callback": lambda callback: None, "is_world_process_zero": lambda: True,
                "evaluate": lambda test, metric_key_prefix: {
                    "test_loss": 3.0, "test_perplexity": 20.0, "test_tokens": 9
                },
                **attributes,
            }
        )  # fmt: skip

    return build


ABOUT = {"model": "run-localgan", "dataset": "smalltalk", "split": "test", "seed": 3}


def finish(trainer, score, start, **settings) -> AdversarialReport | None:
    return finish_adversarial_training(trainer, [], score, ABOUT, start=start, permutations=19, **settings)


# ---- the front ----


def test_a_margin_that_is_rounding_lies_on_the_front():
    def above(*margins: float) -> bool | None:
        points = [FrontPoint("greedy", 0.1, 1.0, no_interval(margin)) for margin in margins]
        return AdversarialReport.on_or_above.fget(SimpleNamespace(front=points))

    assert above(0.0, -4e-16, 0.1) and above(math.nan, 0.0)  # 1.1 - (0.3 * 2 + 0.5) is -2e-16
    assert above(0.1, -1e-9) is False and above(math.nan) is None


# ---- the end of a training ----


def test_all_files_are_written(fake_trainer, score, tiny_generator, text_energy, tmp_path):
    energy = text_energy()
    energy.config.radius_spread = 2.5
    shown = []
    trainer = fake_trainer(parts={"energy": energy}, track_results=shown.extend)
    pairs = [{"query": "hello", "response": "You are fine "}]
    report = finish(trainer, score, tiny_generator(seed=2), train_pairs=pairs)
    folder = tmp_path / "run-localgan"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "adversarial.json", "adversarial.md", "adversarial_training.png", "diversity_relevance.png",
        "evaluation.json", "evaluation.md", "front.png", "generations.parquet", "query_scores.parquet", "radii.png",
        "start", "trainer_state.json", "training.png",
    }  # fmt: skip
    pictures = ["adversarial_training", "diversity_relevance", "front", "radii", "training"]
    assert sorted(path.stem for path in shown if path.suffix == ".png") == pictures
    found = json.loads((folder / "adversarial.json").read_text(), parse_constant=pytest.fail)
    assert found["objective"] == "LocalGAN" and list(found["systems"]) == ["start", "LocalGAN"]
    assert found["stability"] == {"step_deviation": 0.75, "largest_drop": 0.5}
    assert found["phase2_fraction"] == {"first": 0.8, "last": 0.6, "mean": pytest.approx(0.7)}
    assert found["radii"]["spread"] == 2.5 and found["radii"]["references"]["count"] == 6
    assert found["copied"]["references"] == pytest.approx(1 / 6)
    assert list(found["tests"]) == [one.name for one in DECODINGS]
    assert [point["decoding"] for point in found["front"]["points"]] == [one.name for one in DECODINGS]
    greedy = found["systems"]["start"]["decodings"]["greedy"]
    assert greedy["dist_2"]["value"] == Run.read(folder / "start").value("greedy", "dist_2")
    assert report.on_or_above == found["front"]["on_or_above"]


def test_differences_are_the_trained_ones_score_less_the_starts(fake_trainer, score, tiny_generator, tiny_tokenizer):
    trainer, start = fake_trainer(), tiny_generator(seed=2)
    report = finish(trainer, score, start)
    reports = [score(model, tiny_tokenizer, about={}).reports["temperature 1.5"] for model in (trainer.model, start)]
    wanted = compare_systems(*reports, permutations=19)
    for name in ("dist_1", "ent_4", "mean_length", "relevance_mean"):
        row = report.tests["temperature 1.5"][name]
        assert row.test.difference == pytest.approx(wanted[name].test.difference)
        assert row.test.p_value == wanted[name].test.p_value
        assert row.test.difference == pytest.approx(reports[0][name].value - reports[1][name].value)


def test_the_markdown_shows_scores_front_radii_and_samples(fake_trainer, score, tiny_generator, text_energy, tmp_path):
    report = finish(fake_trainer(parts={"energy": text_energy()}), score, tiny_generator(seed=2))
    said = (tmp_path / "run-localgan" / "adversarial.md").read_text()
    assert said.startswith("# LocalGAN against its start\n")
    assert "| metric | start | LocalGAN | difference | p |" in said
    for title in ("Scores: greedy", "Scores: beam 2", "Scores: temperature 1.5", "Front", "Radii", "Sample responses"):
        assert f"## {title}" in said
    samples = said.split("## Sample responses, greedy")[1].split("*")[0].strip().splitlines()
    assert samples[0] == "| query | a reference | start | LocalGAN |" and len(samples) == 2 + len(QUERIES)
    assert samples[3].startswith("| how are you ? | i am fine thanks |")
    # the tables of rows of the same width
    for line in samples:
        assert line.count("|") == 5
    assert report.samples(2)[1]["query"] == QUERIES[2]


def test_the_starts_scores_are_read_again_unless_something_is_another(
    fake_trainer, score, tiny_generator, tiny_tokenizer
):
    trainer, folder = fake_trainer(), Path(fake_trainer().args.output_dir)
    trained = {}
    for rows in (4, 3):
        few = partial(score.func, **{**score.keywords, "queries": QUERIES[:rows], "references": REFERENCES[:rows]})
        few(trainer.model, tiny_tokenizer, about={}).write(folder / f"{rows}", plots=False)
        trained[rows] = Run.read(folder / f"{rows}")
    score.calls.clear()

    def calls(start, scorer=score, rows=4, about=ABOUT) -> int:
        before = len(score.calls)
        run = evaluation_of_start(start, trained[rows], trainer, scorer, about)
        assert run.answers["query"] == QUERIES[:rows] and run.folder == folder / "start"
        return len(score.calls) - before

    assert [calls(tiny_generator(seed=2)) for _ in range(2)] == [1, 0]
    assert score.calls[0]["model"] == "run-localgan, start"
    assert [calls(tiny_generator(seed=4)) for _ in range(2)] == [1, 0]  # another generator
    shorter = partial(score.func, **{**score.keywords, "max_new_tokens": 3})
    assert [calls(tiny_generator(seed=4), shorter) for _ in range(2)] == [1, 0]  # answered in another way
    assert [calls(tiny_generator(seed=4), few, 3) for _ in range(2)] == [1, 0]  # other queries
    (folder / "start" / "evaluation.json").write_text("{")
    assert [calls(tiny_generator(seed=4), few, 3) for _ in range(2)] == [1, 0]  # a damaged file


def test_without_energy_and_vectors_what_needs_them_is_left_out(fake_trainer, score, tiny_generator, tmp_path):
    plain = partial(score.func, **{**score.keywords, "vectors": None})
    trainer = fake_trainer(
        objective=GanAelTrainer.objective, state=TrainerState(log_history=[{"step": 1, "loss": 2.0}])
    )
    report = finish(trainer, plain, tiny_generator(seed=2))
    assert report.objective == "GAN-AEL" and report.front is None and report.radii is None
    assert report.stability is None and report.phase2 is None and report.on_or_above is None
    folder = tmp_path / "run-localgan"
    said = (folder / "adversarial.md").read_text()
    assert "## Front" not in said and "## Radii" not in said and "Rel" not in said
    assert (folder / "front.png").is_file() and not (folder / "radii.png").exists()


def test_other_processes_only_take_part_in_the_likelihood(fake_trainer, tmp_path):
    told = []
    trainer = fake_trainer(
        is_world_process_zero=lambda: False,
        evaluate=lambda test, metric_key_prefix: told.append(metric_key_prefix) or {},
    )
    assert finish(trainer, None, None) is None
    assert told == ["test"] and not [*(tmp_path / "run-localgan").iterdir()]


def test_wrong_parts_are_refused_before_anything_is_scored(fake_trainer, score, tiny_generator):
    trainer = fake_trainer()
    with pytest.raises(ValueError, match="`start` is the model that was trained"):
        finish(trainer, score, trainer.model)
    with pytest.raises(ValueError, match="must have a `response`, found `query`, `labels`"):
        finish(trainer, score, tiny_generator(seed=2), train_pairs=[{"query": "hello", "labels": [1]}])
    assert not score.calls


def test_a_collapse_is_told(fake_trainer, score, tiny_generator, tmp_path):
    trainer = fake_trainer(guard=SimpleNamespace(reason="stopped at step 20: `eval_ent_4` fell from 5 to 1"))
    report = finish(trainer, score, tiny_generator(seed=2))
    assert "fell from 5" in report.about["training"]
    assert "fell from 5" in (tmp_path / "run-localgan" / "README.md").read_text()


def test_a_trained_localgan_is_finished(tiny_generator, tiny_tokenizer, text_energy, score, tmp_path):
    sides = [(query, one) for query, some in zip(QUERIES, REFERENCES, strict=True) for one in some]
    rows = [{**tiny_tokenizer(query), "labels": tiny_tokenizer(text_target=one).input_ids} for query, one in sides]
    model, energy = tiny_generator(seed=1), text_energy()
    for scaler in (energy.query_scaler, energy.response_scaler):
        scaler.count.fill_(len(rows))  # as if it had been trained
    args = LocalGanConfig(
        str(tmp_path / "run"), use_cpu=True, max_steps=4, discriminator_warmup_steps=2, logging_steps=1,
        per_device_train_batch_size=3, save_strategy="no", disable_tqdm=True, sample_rows=0, max_soft_length=4,
        relaxation_top_k=None, learning_rate=1e-2,
    )  # fmt: skip
    discriminator = PairDiscriminator(
        PairDiscriminatorConfig(
            body="cnn", vocab_size=20, embedding_size=4, channels=2, pad_token_id=0, bos_token_id=1, eos_token_id=2
        )
    )
    trainer = LocalGanTrainer(
        model, args, discriminator=discriminator, energy=energy, train_dataset=rows, eval_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer, model=model), processing_class=tiny_tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    report = finish_adversarial_training(
        trainer, rows, score, {**ABOUT, "model": "run"}, start=tiny_generator(seed=1), permutations=9
    )
    assert report.objective == "LocalGAN" and report.phase2 is not None
    assert report.spread == pytest.approx(trainer.energy.config.radius_spread)
    assert set(report.radii) == {"references", "start", "LocalGAN"}
    card = (tmp_path / "run" / "README.md").read_text()
    assert "`LocalGanTrainer`" in card and "`energy/`" in card and "Against the generator it started from" in card


# ---- pictures ----


def drawn_axes(monkeypatch) -> list:
    """The axes of the figures that are saved from here on."""
    from hf_localgan.evaluation.adversarial import plots as adversarial_plots

    axes, save = [], adversarial_plots.save_figure
    monkeypatch.setattr(
        adversarial_plots, "save_figure", lambda figure, path: (axes.append(figure.axes), save(figure, path))
    )
    return axes


def test_the_training_picture_has_three_panels_over_one_axis(monkeypatch, tmp_path):
    axes = drawn_axes(monkeypatch)
    plot_adversarial_training(HISTORY, tmp_path / "training.png")
    (panels,) = axes
    assert [panel.get_ylabel() for panel in panels] == ["Ent-4 (nats)", "Rel", "phase-2 share"]
    assert panels[0].lines[0].get_xydata().tolist() == [[10, 4.0], [20, 5.0], [30, 4.5]]
    assert panels[2].lines[0].get_xydata().tolist() == [[15, 0.8], [25, 0.6]]
    assert len({panel.get_xlim() for panel in panels}) == 1
    plot_adversarial_training([entry for entry in HISTORY if "loss" not in entry], tmp_path / "training.png")
    assert len(axes[1]) == 2
    plot_adversarial_training([], tmp_path / "nothing.png")
    assert len(axes[2]) == 1 and (tmp_path / "nothing.png").is_file()


def test_seeds_of_one_system_have_one_colour_and_one_entry(monkeypatch, tmp_path):
    axes = drawn_axes(monkeypatch)
    runs = {"localgan-seed1": HISTORY, "localgan-seed2": HISTORY, "gan_ael_s1": HISTORY, "mle": [{"step": 1}]}
    plot_stability(runs, tmp_path / "stability.png")
    ((axis,),) = axes
    colors = [line.get_color() for line in axis.lines]
    assert len(colors) == 3 and colors[0] == colors[1] != colors[2]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["localgan", "gan_ael"]
    with pytest.raises(ValueError, match="No run logged `eval_ent_4`"):
        plot_stability({"mle": [{"step": 1}]}, tmp_path / "none.png")


def test_the_front_picture_draws_both_systems(monkeypatch, fake_trainer, score, tiny_generator):
    axes = drawn_axes(monkeypatch)
    finish(fake_trainer(), score, tiny_generator(seed=2))
    panels = next(some for some in axes if len(some) == 2 and some[0].get_xlabel() == "Dist-2")
    entries = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert entries[-6:] == [
        f"{system}, {way}" for system in ("start", "LocalGAN") for way in ("by temperature", "greedy", "beam 2")
    ]
    assert panels[1].get_xlabel() == "Ent-4 (nats)"


def test_histograms_leave_out_what_has_no_radius(tmp_path):
    radii = {"references": np.array([1.0, 2.0, math.nan]), "start": np.array([math.nan])}
    plot_answer_radii(radii, tmp_path / "radii.png")
    assert (tmp_path / "radii.png").is_file()
