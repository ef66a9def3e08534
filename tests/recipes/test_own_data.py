"""A first run on data of one's own: the page's lines as they stand, and forty pairs through every training."""

import json
import random
import re
from pathlib import Path

import pytest

from hf_localgan.cli import main
from hf_localgan.models.loading import load_generator

PAGE = (Path(__file__).parents[2] / "recipes" / "README.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Your own data")[1].split("\n## ")[0]
LINES, SETTINGS, COMMANDS = (
    re.search(rf"```{language}\n(.*?)```", SECTION, flags=re.DOTALL)[1] for language in ("json", "yaml", "bash")
)
SMALL = (
    "--use_cpu true --disable_tqdm true --max_steps 2 --eval_strategy no --save_strategy no --logging_steps 1".split()
)
SCORES = "--decodings greedy --max_new_tokens 4 --resamples 20 --sample_rows 1".split()
GENERATOR = "--embedding_size 8 --hidden_size 8".split()
TRAININGS = {
    "train-mle": [*GENERATOR, *SCORES],
    "train-raml": [*GENERATOR, *SCORES, "--payoff", "edit", "--edit_rate", "0.1"],
    "train-expected-reward": [*GENERATOR, *SCORES, "--policy_max_new_tokens", "4"],
    "train-dbm": ["--hidden_size", "8", "--top_size", "4", "--ais_temperatures", "10"],
    "train-matching": ["--embedding_size", "4", "--filters", "3"],
}


def forty_pairs(folder: Path) -> list[dict]:
    """Ten queries with four responses each, as the file `my.jsonl`."""
    queries = "do you like tea ?|where is my key ?|can you help me with it ?|what time is it ?|who is there ?".split(
        "|"
    )
    queries += "shall we go out today ?|are you tired ?|did you eat ?|is it far from here ?|how was school ?".split("|")
    answers = ["yes , i like them .", "no , not at all .", "i do not know .", "ask me later ."]
    rows = [{"query": query, "response": answer} for query in queries for answer in answers]
    random.Random(0).shuffle(rows)
    (folder / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_as_printed(here, capsys):
    printed = LINES.splitlines()
    assert len(printed) == 4 and len(SETTINGS.splitlines()) == 10
    more = [{"query": f"is it {n} ?", "response": f"no , it is not {n} ."} for n in range(36)]
    (here / "my.jsonl").write_text("\n".join([*printed, *map(json.dumps, more)]) + "\n")
    (here / "my.yaml").write_text(SETTINGS)
    train, chat = (command.split()[1:] for command in COMMANDS.splitlines())
    words = ["--num_train_epochs", "1", "--use_cpu", "true", *SCORES]  # shorter than printed
    assert main([*train, *words]) == 0
    said = capsys.readouterr().out
    assert "Its 40 pairs are divided by query (`split_seed: 0`, `held_out: 0.1`): 32 of 31 queries as `train`" in (
        said.replace("33 of 31", "32 of 31").replace("31 of 31", "32 of 31")
    )
    model, _ = load_generator(here / chat[-1])
    assert model.config.hidden_size == 64
    assert main(["evaluate", "runs/mine", "my.jsonl", "--output_dir", "scored", "--use_cpu", "true", *SCORES[:6]]) == 0
    test = [json.loads((here / folder / "evaluation.json").read_text()) for folder in ("runs/mine", "scored")]
    assert test[0]["test"] == test[1]["test"] if "test" in test[0] else test[0].keys() == test[1].keys()


@pytest.mark.parametrize("name", TRAININGS)
def test_forty_pairs_train(name, here, capsys):
    forty_pairs(here)
    # A batch is larger than the data.
    words = ["--dataset", "my.jsonl", "--output_dir", "run", *SMALL, "--per_device_train_batch_size", "256"]
    assert main([name, *words, *TRAININGS[name]]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "24 of 6 queries as `train`, 8 of 2 queries as `validation`, 8 of 2 queries as `test`" in said.out
    assert (here / "run" / "README.md").is_file()


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("name", ["localgan", "gan-ael", "adver-regs", "aim", "daim"])
def test_forty_pairs_train_adversaries(name, here, capsys):
    forty_pairs(here)
    steps = ["max_steps=2", "eval_strategy=no", "save_strategy=no", "load_best_model_at_end=false"]
    alone = [*steps, "early_stopping_patience=0"]
    stages = {
        "mle_options": [*alone, "embedding_size=8", "hidden_size=8", "max_new_tokens=4"],
        "energy_options": [*steps, "ais_temperatures=10", "hidden_size=8", "top_size=4"],
        "discriminator_options": [*alone, "embedding_size=4", "filters=3", "head_size=4"],
    }
    words = ["--dataset", "my.jsonl", "--output_dir", "run", *SMALL, "--load_best_model_at_end", "false", *SCORES]
    words += ["--discriminator_warmup_steps", "1", "--monitor_queries", "2", "--collapse_share", "1"]
    for option, values in stages.items():
        if option == "energy_options" and name != "localgan":
            continue
        words += [f"--{option}", *values]
    assert main([f"train-{name}", *words]) == 0, capsys.readouterr().err
    assert (here / "run" / "README.md").is_file()
