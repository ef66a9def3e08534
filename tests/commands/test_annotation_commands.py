"""`annotate` and `metrics-against-people` from evaluation folders to tables."""

import pytest

from hf_localgan.annotation import Study, read_sheet
from hf_localgan.cli import main
from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation
from hf_localgan.metrics import score_references, score_responses

WORDS = "tea milk cup rain sun wind bus train boat red blue green".split()
QUERIES = [f"what about {word} ?" for word in WORDS]
REFERENCES = [[f"{word} is nice", f"i like {word} , really"] for word in WORDS]


@pytest.fixture
def runs(tmp_path):
    """Three evaluations of the same queries, with two decodings each."""
    folders = []
    for name, dull in (("strong", 2), ("middle", 6), ("weak", 12)):
        answers = ["i do not know" if at < dull else some[0] for at, some in enumerate(REFERENCES)]
        every = {"greedy": answers, "temperature_1": [f"{answer} !" for answer in answers]}
        decodings = [Decoding("greedy", {"do_sample": False}), Decoding("temperature_1", {"do_sample": True}, 1.0)]
        reports = {key: score_responses(some, REFERENCES, queries=QUERIES, resamples=0) for key, some in every.items()}
        own = score_references(REFERENCES, resamples=0)
        folders.append(tmp_path / name)
        Evaluation({"model": name}, QUERIES, REFERENCES, reports, own, every, decodings).write(folders[-1], plots=False)
    return folders


def test_from_evaluations_to_scores_and_correlations(runs, tmp_path, capsys):
    study, texts = tmp_path / "study", list(map(str, runs))
    words = ["annotate", "export", str(study), "--runs", f"best={texts[0]}", *texts[1:], "--queries", "8"]
    assert main([*words, "--annotators", "2", "--decodings", "greedy", "temperature_1", "greedy"]) == 0
    assert "4 sheets of" in capsys.readouterr().out
    key = Study.read(study)
    assert key.systems == ["best", "middle", "weak"] and key.about["middle"]["decoding"] == "temperature_1"
    middle = [key.items[at].response for at in key.items_of("middle")]
    assert all(response.endswith(" !") for response in middle)
    for path in (study / "sheets").glob("*.csv"):
        sheet = read_sheet(path)
        for row in sheet.rows:
            row.answers = {"relevance": int("know" not in row.response), "informativeness": int("is" in row.response)}
        sheet.write_csv(path)
    assert main(["annotate", "score", str(study), "--resamples", "20", "--permutations", "99"]) == 0
    out = capsys.readouterr().out
    assert "best less middle" in out and "Krippendorff" in out and (study / "annotation.json").is_file()

    capsys.readouterr()
    command = ["metrics-against-people", str(study / "human_scores.parquet"), str(tmp_path / "worth")]
    assert main([*command, "--resamples", "5", "--no-plots", "--drawn", "reference"]) == 0
    assert "| bleu_2 |" in capsys.readouterr().out
    assert sorted(path.suffix for path in (tmp_path / "worth").iterdir()) == [".json", ".md"]


def test_the_power_table_is_printed(capsys):
    assert main(["annotate", "power", "0.784", "0.768", "--kappa", "0.734", "--queries", "500", "--people", "5"]) == 0
    assert "| 5 | 0.11 | " in capsys.readouterr().out


def test_what_cannot_be_done_ends_with_1_and_says_why(runs, tmp_path, capsys):
    assert main(["annotate", "export", str(tmp_path / "s"), "--runs", str(runs[0])]) == 1
    assert "there are 12 distinct queries" in capsys.readouterr().err
    words = ["annotate", "export", str(tmp_path / "s"), "--queries", "5", "--runs", str(runs[0])]
    assert main([*words, "--decodings", "beam_5"]) == 1
    assert "has no decoding `beam_5`, but greedy, temperature_1" in capsys.readouterr().err
    assert main([*words, str(runs[1]), str(runs[2]), "--decodings", "greedy", "greedy"]) == 1
    assert "got 2 for 3 evaluations" in capsys.readouterr().err
    assert main(["annotate", "score", str(tmp_path)]) == 1
    assert "has no key.json" in capsys.readouterr().err
    assert main(["annotate", "serve", str(tmp_path / "none.csv")]) == 1
    assert "There is no sheet" in capsys.readouterr().err
    assert main(["metrics-against-people", str(tmp_path / "none.parquet"), str(tmp_path / "out")]) == 1
    assert "There is no file" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["annotate"], "STEP"),
        (["annotate", "export", "out"], "--runs"),
        (["annotate", "export", "out", "--runs", "a", "--queries", "0"], "--queries must be at least 1, got 0"),
        (["annotate", "export", "out", "--runs", "a", "--control-share", "2"], "must be from 0 to 1, got 2"),
        (["annotate", "export", "out", "--runs", "a", "--question", "fun"], "NAME=TEXT"),
        (["annotate", "serve", "s.csv", "--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["annotate", "score", "s", "--all-pairs", "--against", "a"], "leave --against out"),
        (["annotate", "power", "1.5", "0.5"], "RATE must lie between 0 and 1, got 1.5"),
        (["annotate", "power", "0.6", "0.5", "--kappa", "2"], "--kappa must be from 0 to 1, got 2"),
        (["annotate", "power", "0.6", "0.5", "--target", "0.01"], "--target must be above --alpha"),
        (["metrics-against-people", "one"], "OUTPUT"),
        (["metrics-against-people", "one", "two", "--resamples", "0"], "--resamples must be at least 1, got 0"),
        (["metrics-against-people", "one", "two", "--tokenization", "none"], "--tokenization must be words"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
