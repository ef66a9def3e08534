"""The first example of each method page, run from an empty folder as printed, but for its length and size."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SHORTER = (  # patterns of what takes time, and what stands there instead; each is on at least one page
    (r"num_train_epochs=\d+(, eval_strategy=\"epoch\")?", "max_steps=2, logging_steps=1"),
    (r"max_steps(=|\": )\d+", r"max_steps\g<1>4"),
    (r"warmup_steps=100", "warmup_steps=2"),
    (r"(query_size\": |response_size\": |query_size=|response_size=|dim=)100", r"\g<1>8"),
    (r"\"ais_temperatures\": 100", '"ais_temperatures": 5'),
    (r"swap_weight=10.0, bottom_share", "swap_weight=10.0, ais_temperatures=5, bottom_share"),
    (r"load_pairs\(\"smalltalk\"\)", "few_pairs"),
    (r"load_tones\(\)", "load_tones(train=8, validation=2, test=3)"),
)
LEFT = {  # beside the model, in the folder that the last training of the page writes
    "mle": "mle", "raml": None, "localgan": "localgan/energy", "gan_ael": "gan-ael/discriminator",
    "adver_regs": "adver-regs/discriminator", "aim": "aim/backward", "dbm": None, "mmi": None, "speech": "tones",
}  # fmt: skip


def first_example(page: str) -> str:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.search(r"^## Example\n.*?```python\n(.*?)```", text, flags=re.MULTILINE | re.DOTALL)[1]


def shortened(code: str) -> str:
    for pattern, instead in SHORTER:
        code = re.sub(pattern, instead, code)
    return code


@pytest.fixture(scope="module")
def few_pairs():
    from hf_localgan import load_pairs
    from hf_localgan.data.pairs import Pairs

    pairs = load_pairs("smalltalk")
    return Pairs({split: rows.select(range(60)) for split, rows in pairs.items()}, pairs.report)


@pytest.fixture
def run(tmp_path, monkeypatch, few_pairs):
    """Runs the example of a page in an empty folder, and returns the names that it leaves."""
    monkeypatch.chdir(tmp_path)

    def of(page: str) -> dict:
        names = {"__name__": "example", "few_pairs": few_pairs}
        exec(compile(shortened(first_example(page)), f"{page}.md", "exec"), names)
        return names

    return of


@pytest.mark.parametrize("page", LEFT)
def test_the_example_runs_from_an_empty_folder(page, run, tmp_path, capsys):
    names = run(page)
    said = capsys.readouterr().out
    if "trainer" in names:
        assert names["trainer"].state.global_step in (2, 4)
    if LEFT[page] is not None:
        assert (tmp_path / "runs" / LEFT[page] / "config.json").is_file()
    if page == "raml":
        assert 0 <= names["trainer"].state.log_history[0]["raml/edit_rate"] < 0.3
        assert 0 < names["payoff"].temperature < 1
    if page == "mmi":
        assert "antilm 0.5 3 0.1 [[" in said and "bidi 0.5 [[" in said
    if page == "dbm":
        assert len(names["cluster"].radii) == 2 and "On the second shelf." in said


def test_what_is_shortened_is_on_a_page():
    whole = "\n".join(map(first_example, LEFT))
    assert all(re.search(pattern, whole) for pattern, _ in SHORTER)
