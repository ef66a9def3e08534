"""Settings of the recipes of adversarial training: every file of them with the files of its stages, monitor, tokens."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from hf_localgan import load_pairs
from hf_localgan.data import train_tokenizer
from hf_localgan.recipes import (
    DataArguments,
    EarlierStages,
    EvaluationArguments,
    RecipeParser,
    StageArguments,
    TrainingSetup,
    check_same_tokens,
    make_monitor,
)
from hf_localgan.trainers import AdverRegsConfig, AimConfig, DaimConfig, GanAelConfig, LocalGanConfig

RECIPES = Path(__file__).parents[3] / "recipes"
CONFIGS = {
    "train_localgan": LocalGanConfig, "train_gan_ael": GanAelConfig, "train_adver_regs": AdverRegsConfig,
    "train_aim": AimConfig, "train_daim": DaimConfig,
}  # fmt: skip
PARTS = {
    LocalGanConfig: ("discriminator", "energy"), GanAelConfig: ("discriminator",), AdverRegsConfig: ("discriminator",),
    AimConfig: ("discriminator", "backward"), DaimConfig: ("discriminator", "backward", "backward_discriminator"),
}  # fmt: skip
FILES = sorted(
    path for path in RECIPES.glob("**/*.yaml") if re.search(f"recipes/({'|'.join(CONFIGS)}).py", path.read_text())
)


def read(path: Path, tmp_path, monkeypatch, *words: str) -> tuple:
    """Data, stages, evaluation, arguments and the earlier stages of a file."""
    for name in re.findall(r"\$\{?(HF_LOCALGAN_\w+)", path.read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    config = next(kind for name, kind in CONFIGS.items() if f"{name}.py" in path.read_text())
    parser = RecipeParser(DataArguments, StageArguments, EvaluationArguments, config)
    groups = parser.read([str(path), "--use_cpu", *words])
    data, stages, _, args = groups
    return *groups, EarlierStages(data, stages, args, parser.folder, PARTS[config])


def test_there_is_a_file_for_every_corpus_that_the_recipe_is_meant_for():
    found = {f"{path.parent.name}/{path.stem}" for path in FILES}
    corpora = ("smalltalk", "dailydialog_pp", "dailydialog", "subtitles_en", "weibo_lccc")
    assert {f"{corpus}/localgan" for corpus in corpora} <= found
    for corpus in ("smalltalk", "dailydialog_pp", "lccc_base_eval", "chitchat_byu", "opensubtitles", "weibo"):
        assert {f"{corpus}/{system}" for system in ("localgan", "gan_ael", "adver_regs", "aim", "daim")} <= found


@pytest.mark.parametrize("kind", CONFIGS.values(), ids=CONFIGS)
def test_names_of_one_parser_do_not_clash(kind):
    kinds = (DataArguments, StageArguments, EvaluationArguments, kind)
    names = [field.name for one in kinds for field in fields(one) if field.init]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_and_those_of_its_stages_are_read_and_go_together(path, tmp_path, monkeypatch):
    data, stages, evaluation, args, earlier = read(path, tmp_path, monkeypatch)
    assert not Path(args.output_dir).is_absolute() and args.output_dir.startswith("runs/")
    assert args.load_best_model_at_end and args.metric_for_best_model == "eval_quality" and args.monitor_queries
    assert 0 < args.discriminator_warmup_steps < args.max_steps and evaluation.scores == "dialogue"
    assert args.eval_steps == args.save_steps and args.max_steps % args.eval_steps == 0
    given = yaml.safe_load(path.read_text())
    for name in earlier.given:
        found = earlier.read(name)[-1]
        assert Path(found.output_dir) == Path(args.output_dir) / "stages" / name
        assert (found.seed, found.use_cpu) == (args.seed, True)
        # the pairs of a stage by itself are the same, but for the split that it is scored on
        stage = yaml.safe_load((path.parent / stages.file_of(name)).read_text())
        assert stage["dataset"] == given["dataset"]
        assert {"language", "on_shared"} & set(stage) == {"language", "on_shared"} & set(given)
        assert stage.get("language", "en") == data.language


def test_the_papers_files_say_what_the_paper_says(tmp_path, monkeypatch):
    path = RECIPES / "papers" / "opensubtitles" / "localgan.yaml"
    data, _, evaluation, args, earlier = read(path, tmp_path, monkeypatch)
    assert (args.preset, args.radial_scale, args.per_device_train_batch_size) == ("paper", "center", 128)
    assert (data.min_query, data.max_query, data.min_response, data.max_response) == (4, 30, 4, 30)
    assert evaluation.max_test_queries == 2000
    tokens, generator, *_ = earlier.read("mle")
    assert (tokens.vocab_size, generator.embedding_size, generator.hidden_size) == (40_000, 200, 256)
    assert generator.word_vectors == "${HF_LOCALGAN_GLOVE}"
    _, energy, *_ = earlier.read("energy")
    assert (energy.hidden_size, energy.top_size, energy.energy_type) == (128, 128, "dbm") and energy.generator
    assert earlier.read("discriminator")[1].energy


def test_options_win_over_a_stages_file_and_the_whole_wins_over_both(tmp_path, monkeypatch):
    words = ["--seed", "7", "--mle_options", "learning_rate=0.5", "seed=3", "beams=[2, 3]", "output_dir=elsewhere"]
    *_, earlier = read(RECIPES / "smalltalk" / "localgan.yaml", tmp_path, monkeypatch, *words)
    _, _, evaluation, args = earlier.read("mle")
    assert (args.learning_rate, args.seed, evaluation.beams) == (0.5, 7, [2, 3])
    assert args.output_dir == "runs/smalltalk-localgan/stages/mle"
    assert earlier.read("mle", "somewhere/checkpoint-3")[-1].resume_from_checkpoint == "somewhere/checkpoint-3"


def test_a_stages_file_on_a_command_line_may_be_named_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("hidden_size: 9\noutput_dir: out\n")
    monkeypatch.chdir(tmp_path)
    words = ["--mle_config", "mine.yaml", "--discriminator", "$HOME/some"]
    _, stages, *_, earlier = read(RECIPES / "smalltalk" / "localgan.yaml", tmp_path, monkeypatch, *words)
    assert earlier.read("mle")[1].hidden_size == 9
    assert earlier.given["discriminator"] == str(Path.home() / "some")


def test_a_command_line_with_a_config_takes_back_what_the_file_gives(tmp_path, monkeypatch):
    (tmp_path / "some.yaml").write_text("generator: folder\n# recipes/train_localgan.py\n")
    _, stages, *_ = read(tmp_path / "some.yaml", tmp_path, monkeypatch, "--mle_config", "other.yaml")
    assert (stages.generator, stages.mle_config) == (None, "other.yaml")


def test_stages_are_those_of_the_parts_that_are_asked_for(tmp_path, monkeypatch):
    data, stages, _, args, _ = read(RECIPES / "smalltalk" / "localgan.yaml", tmp_path, monkeypatch)

    def asked(*names: str) -> list[str]:
        return list(EarlierStages(data, stages, args, RECIPES / "smalltalk", names).given)

    assert asked("discriminator", "energy") == ["mle", "energy", "discriminator"]  # in the order of the stages
    assert asked("discriminator") == ["mle", "discriminator"] and asked("energy") == ["mle", "energy"]
    assert asked() == ["mle"]
    with pytest.raises(
        ValueError, match="No stage makes the part `radar`. There are stages for energy, discriminator, backward"
    ):
        asked("discriminator", "radar")


def test_the_way_back_has_the_same_pairs_turned_round_and_its_own_options(tmp_path, monkeypatch):
    words = ["--min_query", "2", "--max_response", "9", "--backward_options", "num_train_epochs=3"]
    words += ["--discriminator_options", "head=cosine", "--max_target_length", "20"]
    *_, earlier = read(RECIPES / "smalltalk" / "daim.yaml", tmp_path, monkeypatch, *words)
    assert list(earlier.given) == ["mle", "discriminator", "backward", "backward_discriminator"]
    assert (earlier.read("mle")[-1].num_train_epochs, earlier.read("backward")[-1].num_train_epochs) == (9, 3)
    assert [earlier.read(name)[1].head for name in ("discriminator", "backward_discriminator")] == ["cosine", "cosine"]
    back = earlier.swapped_data()
    assert back.swap_sides and (back.min_response, back.max_query, back.max_source_length) == (2, 9, 20)
    assert back.limits_as_read() == earlier.data.limits_as_read()
    there, turned = earlier.data.load("test")["test"], back.load("test")["test"]
    assert there["query"][:] == turned["response"][:] and there["response"][:] == turned["query"][:]


# ---- the monitor ----


@pytest.mark.parametrize(("number", "expected"), [(4, [0, 2, 5, 7]), (100, list(range(10))), (0, None)])
def test_the_monitor_sees_evenly_spaced_queries_with_all_their_references(tmp_path, tiny_tokenizer, number, expected):
    (tmp_path / "train.jsonl").write_text('{"query": "how are you ?", "response": "i am fine ."}\n' * 3)
    rows = [f'{{"query": "query {i} ?", "responses": ["answer {i}", "no {i} !"]}}\n' for i in range(10)]
    (tmp_path / "validation.jsonl").write_text("".join(rows))
    (tmp_path / "vectors.txt").write_text("answer 1 0\nno 0 1\n")
    data = DataArguments(dataset=str(tmp_path), max_source_length=9)
    evaluation = EvaluationArguments(metric_vectors=str(tmp_path / "vectors.txt"), metric_lowercase=False)
    setup = TrainingSetup(None, tiny_tokenizer, *[None] * 6, {}, load_pairs(str(tmp_path)))
    args = LocalGanConfig(output_dir=str(tmp_path), use_cpu=True, monitor_queries=number, monitor_max_new_tokens=6)
    monitor = make_monitor(data, evaluation, args, setup)
    if expected is None:
        assert monitor is None
        return
    assert monitor.queries == [f"query {i} ?" for i in expected]
    assert monitor.references == [[["answer", str(i)], ["no", str(i), "!"]] for i in expected]
    assert (monitor.answer_settings["max_new_tokens"], monitor.answer_settings["max_source_length"]) == (6, 9)
    assert monitor.scores_relevance and not monitor.lowercase and monitor.tokenization == "words"


# ---- one tokenizer ----


def test_tokenizers_are_compared_token_by_token():
    own = train_tokenizer(["a b c", "a b", "a"])
    check_same_tokens("energy", "x", train_tokenizer(["a b c", "a b", "a"]), "y", own)
    other = train_tokenizer(["a c b", "a c", "a"])
    with pytest.raises(ValueError, match="the token '▁b' has the id 6 in its own and has the id 5 in the generator's"):
        check_same_tokens("energy", "x", other, "y", own)
    with pytest.raises(ValueError, match="the token '▁c' is missing in its own and has the id 6 in the generator's"):
        check_same_tokens("energy", "x", train_tokenizer(["a b", "a"]), "y", own)
    with pytest.raises(ValueError, match="'▁c' has the id 6 in its own and is missing in the generator's.*--tokenizer"):
        check_same_tokens("energy", "x", own, "y", train_tokenizer(["a b", "a"]))
