"""The README's Python, run as it stands but for the length of the training."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def replaced(text: str, old: str, new: str) -> str:
    assert old in text  # the README has changed, and this test with it
    return text.replace(old, new)


def test_a_generator_is_trained_and_answers_as_the_readme_says(tmp_path, monkeypatch, capsys):
    use, train, raml, energy, localgan = BLOCKS
    train = replaced(train, "num_train_epochs=3", "max_steps=2, use_cpu=True, disable_tqdm=True")
    train = replaced(train, "encode_pairs(pairs[split],", "encode_pairs(pairs[split].select(range(40)),")
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(compile(train, "README.md", "exec"), made)
    assert (tmp_path / "runs" / "mine" / "model.safetensors").is_file()

    raml = replaced(raml, "num_train_epochs=3", "max_steps=2, logging_steps=1, use_cpu=True, disable_tqdm=True")
    exec(compile(raml, "README.md", "exec"), made)  # goes on with the names of the training before
    logged = made["trainer"].state.log_history[0]
    assert 0 < logged["raml/edit_rate"] < 0.2 and logged["raml/temperature"] == pytest.approx(
        made["payoff"].temperature
    )

    energy = replaced(
        energy, "num_train_epochs=12", "max_steps=2, ais_temperatures=10, use_cpu=True, disable_tqdm=True"
    )
    energy = replaced(energy, 'pairs["train"] for', 'pairs["train"].select(range(2_000)) for')
    energy = replaced(energy, 'pairs["test"],', 'pairs["test"].select(range(100)),')
    energy = replaced(energy, "evaluate_energy(", "evaluate_energy(ais_temperatures=10, curvature_queries=0, model=")
    energy = replaced(energy, "model=energy, train, ", "model=energy, train=train, test=")
    energy = replaced(energy, '["Gaussian"]', '["Gaussian, Ledoit-Wolf"]')  # 40 pairs do not fix 200 dimensions
    exec(compile(energy, "README.md", "exec"), made)
    assert (tmp_path / "runs" / "mine-dbm" / "energy.md").is_file()
    assert len(made["report"].matching) >= 2 and made["one"].text in made["answers"]

    localgan = replaced(localgan, "num_train_epochs=4", "max_steps=2, use_cpu=True, disable_tqdm=True")
    localgan = replaced(
        localgan,
        "max_steps=700",
        "max_steps=4, discriminator_warmup_steps=1, eval_steps=2, logging_steps=1, use_cpu=True, disable_tqdm=True",
    )
    localgan = replaced(localgan, "[:200]", "[:5]")
    exec(compile(localgan, "README.md", "exec"), made)
    assert all(
        (tmp_path / "runs" / "mine-localgan" / name / "config.json").is_file() for name in ("discriminator", "energy")
    )
    logged = {name for line in made["trainer"].state.log_history for name in line}
    assert {"loss/radial", "gan/phase2_fraction", "eval_ent_4"} <= logged

    said = {}
    exec(compile(replaced(use, "runs/smalltalk-localgan", "runs/mine-localgan"), "README.md", "exec"), said)
    one = said["answer"]("Did you sleep well?", max_new_tokens=30)
    assert [set(answer) for answer in one] == [{"generated_text"}]
    assert said["model"].config.model_type == "rnn_seq2seq" and said["tokenizer"].eos_token_id == 2


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_file_that_the_readme_links_to_is_there(path):
    assert (Path(__file__).parents[1] / path).exists()
