"""The tutorial's Python, block after block as it stands, but for the length of the trainings."""

import re
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL)

# What is cut down, by the words of the page; each must be there, or the page has changed and this test with it.
SHORTER = {
    "pairs[split], tokenizer) for split": "pairs[split].select(range(60)), tokenizer) for split",
    'for row in pairs["train"] for text': 'for row in pairs["train"].select(range(1_500)) for text',
    '"logging_steps": 50,': '"logging_steps": 1, "use_cpu": True, "disable_tqdm": True,',
    "logging_steps=50,": "logging_steps=1,",
    "num_train_epochs=12": "max_steps=2",
    "num_train_epochs=15": "max_steps=2, use_cpu=True, disable_tqdm=True, ais_temperatures=10",
    "num_train_epochs=4": "max_steps=2",
    'eval_strategy="epoch"': 'eval_strategy="steps", eval_steps=1',
    'save_strategy="epoch"': 'save_strategy="steps", save_steps=1',
    "max_steps=500": "max_steps=6",
    "discriminator_warmup_steps=200": "discriminator_warmup_steps=2",
    "eval_steps=100": "eval_steps=3",
    "save_steps=100": "save_steps=3",
    "[:200]": "[:6]",
    "evaluate_energy(energy, train, test)": "evaluate_energy(energy, train, test, ais_temperatures=10, "
    "curvature_queries=0)",
    '["Gaussian"]': '["Gaussian, Ledoit-Wolf"]',  # 60 pairs do not fix 200 dimensions
    '["query"][:], asked["responses"][:]': '["query"][:12], asked["responses"][:12]',
}


def shortened(blocks: list[str]) -> list[str]:
    whole = "\n".join(blocks)
    for words in SHORTER:
        assert words in whole, words
    for words, fewer in SHORTER.items():
        blocks = [block.replace(words, fewer) for block in blocks]
    return blocks


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The names that the tutorial leaves, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("tutorial")
    made = {"__name__": "tutorial"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(shortened(BLOCKS)):
            exec(compile(block, f"{TUTORIAL.name}, block {number + 1}", "exec"), made)
    return made, folder / "runs"


def test_every_training_of_the_tutorial_leaves_its_model(followed):
    _, runs = followed
    for name in ("mle", "raml", "dbm", "localgan", "localgan/discriminator", "localgan/energy"):
        assert (runs / f"tutorial-{name}" / "config.json").is_file(), name


def test_the_trainings_logged_what_the_method_pages_name(followed):
    made, _ = followed
    logged = {
        name: {key for line in made[name].state.log_history for key in line}
        for name in ("raml_trainer", "energy_trainer", "gan_trainer")
    }
    assert {"raml/edit_rate", "raml/temperature"} <= logged["raml_trainer"]
    assert {"dbm/reconstruction", "eval_matching"} <= logged["energy_trainer"]
    assert {"loss/radial", "gan/phase2_fraction", "eval_relevance", "eval_quality"} <= logged["gan_trainer"]
    assert made["payoff"].temperature > 0


def test_the_evaluation_has_intervals_and_compares_with_the_start(followed):
    made, runs = followed
    score = made["after"].reports["greedy"]["relevance_mean"].interval
    assert score.low < score.value < score.high
    assert (runs / "tutorial-localgan" / "evaluation.json").is_file()
    assert (runs / "tutorial-localgan" / "diversity_relevance.png").stat().st_size > 10_000
    assert made["before"].queries == made["after"].queries and len(made["queries"]) == 12


def test_the_trained_generator_answers_and_has_a_card(followed):
    made, runs = followed
    (answer,) = made["answer"]("Did you sleep well?", max_new_tokens=5)
    assert set(answer) == {"generated_text"}
    card = (runs / "tutorial-localgan" / "README.md").read_text(encoding="utf-8")
    assert "your-name/smalltalk-localgan" in card and "license: cc0-1.0" in card
