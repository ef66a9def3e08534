"""`rank`, `env` and the comparisons as commands."""

import io
import math
import subprocess
import sys

import pytest
import torch

import hf_localgan
from hf_localgan.cli import main
from hf_localgan.commands.chat import _read, command_parser
from hf_localgan.evaluation import rank_responses
from hf_localgan.models import DbmConfig, DbmModel, PairDiscriminator, PairDiscriminatorConfig
from hf_localgan.recipes import ranking
from hf_localgan.recipes.ranking import rank_table

RESPONSES = ["i am fine", "hello you", "what is your name ?"]


@pytest.fixture
def folder(tmp_path, tiny_generator, tiny_tokenizer):
    """A generator with an energy and a discriminator beside it."""
    folder = tmp_path / "generator"
    tiny_generator().save_pretrained(folder)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        energy = DbmModel(DbmConfig(query_size=4, response_size=4, hidden_size=6, top_size=3, vocab_size=20)).eval()
        for parameter in energy.parameters():
            parameter.normal_(std=0.5)
        energy.word_vectors.load(torch.randn(20, 4), range(4, 20))
        for scaler in (energy.query_scaler, energy.response_scaler):
            scaler.count.fill_(9)
        sizes = {"vocab_size": 20, "embedding_size": 5, "widths": [1, 2], "filters": 4, "head_size": 6}
        discriminator = PairDiscriminator(PairDiscriminatorConfig(**sizes, pad_token_id=0, eos_token_id=2)).eval()
    for name, model in (("energy", energy), ("discriminator", discriminator)):
        model.save_pretrained(folder / name)
    for place in (folder, folder / "energy", folder / "discriminator"):
        tiny_tokenizer.save_pretrained(place)
    return folder, energy, discriminator


def ranked(said: str) -> list[str]:
    """The responses of a table, in its order."""
    lines = [line for line in said.splitlines() if line.strip()][2:]
    return [next(text for text in RESPONSES if line.rstrip().endswith(text)) for line in lines]


@pytest.mark.parametrize("by", ["difference", "free_energy", "radius"])
def test_responses_are_ranked_by_the_energy_beside_the_generator(by, folder, tiny_tokenizer, capsys):
    place, energy, _ = folder
    expected = sorted(
        rank_responses(energy, tiny_tokenizer, "how are you ?", RESPONSES), key=lambda row: getattr(row, by)
    )
    assert main(["rank", str(place), "how are you ?", *RESPONSES, "--by", by, "--device", "cpu"]) == 0
    assert ranked(capsys.readouterr().out) == [row.text for row in expected]


@pytest.mark.parametrize(
    ("value", "shown"), [(-3.456, "-3.46"), (7.371498204219706e17, "7.3715e+17"), (math.nan, "nan")]
)
def test_huge_numbers_of_an_untrained_energy_do_not_fill_the_line(value, shown, monkeypatch):
    monkeypatch.setattr(ranking, "_by_energy", lambda *_: [("hi .", (value, value, value))])
    table = rank_table("here", "hello", ["hi ."], by="difference", device="cpu")
    assert [list(column.cells) for column in table.columns] == [["1"], [shown], [shown], [shown], ["hi ."]]


def test_lines_of_standard_input_are_ranked_by_the_discriminator(folder, tiny_tokenizer, capsys, monkeypatch):
    place, _, discriminator = folder
    logits = []
    for text in RESPONSES:  # one by one, without padding
        ids = tiny_tokenizer(["how are you ?"], return_tensors="pt")
        labels = torch.tensor(tiny_tokenizer(text_target=[text]).input_ids)
        with torch.no_grad():
            query = discriminator.query_features(ids["input_ids"], ids["attention_mask"])
            logits.append(discriminator.score(query, discriminator.response_features(labels)).item())
    expected = [text for _, text in sorted(zip(logits, RESPONSES, strict=True), reverse=True)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(RESPONSES) + "\n\n"))
    words = [str(place / "discriminator"), "how are you ?", "--by", "discriminator", "--device", "cpu"]
    assert main(["rank", *words]) == 0
    assert ranked(capsys.readouterr().out) == expected


def test_what_cannot_rank_is_refused_in_one_line(folder, tmp_path, capsys, monkeypatch):
    place, *_ = folder
    assert main(["rank", str(place / "discriminator"), "hello", "hi"]) == 1
    assert "holds a PairDiscriminator, and no energy model" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["rank", str(place), "hello"]) == 2
    assert "give at least one RESPONSE" in capsys.readouterr().err


def test_env_names_versions_and_devices(capsys):
    assert main(["env"]) == 0
    facts = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["hf_localgan"] == hf_localgan.__version__ and facts["torch"] == torch.__version__
    assert f"{torch.get_num_threads()} threads" in facts["processor"] and facts["accelerators"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare"], 2, "name at least one RUN"),
        (["compare", "nowhere"], 1, "nowhere"),
        (["compare", "nowhere", "--permutations", "0"], 2, "--permutations must be at least 1, got 0"),
        (["tau-curve", "nowhere"], 1, '"nowhere" holds no folder with an evaluation.json'),
    ],
)
def test_comparisons_say_what_is_missing(words, code, message, capsys):
    assert main(words) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chat", "--hlep"], "there is no option --hlep (did you mean --help?)"),  # and not that MODEL is missing
        (["chat", "x", "--temprature=1"], "there is no option --temprature (did you mean --temperature"),
        (["annotate", "export", "--sheats", "3"], "there is no option --sheats"),
        (["rank", "m", "q", "r", "--zzz"], "there is no option --zzz; hf-localgan rank --help lists all"),
    ],
)
def test_misspelled_options_come_before_what_is_missing(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_command_that_loads_says_so_before_torch_where_somebody_waits(monkeypatch, capsys):
    for terminal, rank, said in (
        (True, "0", "hf-localgan chat: loading here ...\n"),
        (True, "1", ""),
        (False, "0", ""),
    ):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("RANK", rank)
        _read(command_parser("hf-localgan chat"), ["here"])
        assert capsys.readouterr().err == said
    code = (
        "import sys; sys.stderr.isatty = lambda: True; from hf_localgan.commands import chat;"
        "chat._read(chat.command_parser('chat'), ['here']); assert 'torch' not in sys.modules"
    )
    assert (
        "loading here"
        in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    )


def test_a_warning_of_the_package_is_one_line_and_others_stay(capsys):
    import warnings

    from hf_localgan.commands import exits

    def work():
        for place in (exits.__file__, "/elsewhere/library.py"):
            warnings.warn_explicit("Mind\nthis.", UserWarning, place, 7)

    before = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *words: sys.stderr.write(warnings.formatwarning(*words[:4]))
        assert exits.protected("hf-localgan rank", work) == 0
    own, other = capsys.readouterr().err.split("\n", 1)
    assert own == "hf-localgan rank: warning: Mind this." and other.startswith("/elsewhere/library.py:7: UserWarning")
    assert warnings.formatwarning is before
